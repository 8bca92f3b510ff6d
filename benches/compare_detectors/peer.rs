//! The estimators of scikit-learn and PyOD, in a Python process that is asked over a pipe.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::table::Table;

/// Answers `load FILE ROWS COLUMNS` (the last two columns being the label and the class) and `fit DETECTOR` with the seconds it took.
const PROGRAM: &str = "
import sys, time, warnings
warnings.filterwarnings('ignore')
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from pyod.models.knn import KNN
from pyod.models.gmm import GMM
from pyod.models.lof import LOF
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA

class Forest:
    def fit(self, rows):
        forest = IsolationForest(n_estimators=100, max_samples=256, random_state=0, n_jobs=1).fit(rows)
        return forest.score_samples(rows)

class Boosting:
    def fit(self, rows):
        model = HistGradientBoostingClassifier(random_state=0).fit(rows, labels)
        return model.decision_function(rows)

class Classes:
    def fit(self, rows):
        model = HistGradientBoostingClassifier(random_state=0).fit(rows, classes)
        return model.predict_proba(rows)

made = {
    'boosting': Boosting, 'classes': Classes,
    'iforest': Forest, 'hbos': HBOS, 'ecod': ECOD, 'copod': COPOD,
    'knn': lambda: KNN(n_neighbors=5, n_jobs=1), 'lof': lambda: LOF(n_neighbors=20, n_jobs=1), 'pca': PCA,
    'ocsvm': OCSVM, 'gmm': lambda: GMM(n_components=1),
}
small = np.random.default_rng(0).random((300, 4))
labels = small[:, 0] > 0.5
classes = (3 * small[:, 0]).astype(int)
for make in made.values():
    make().fit(small)
print('ready', flush=True)
for line in sys.stdin:
    words = line.rstrip('\\n').split('\\t')
    if words[0] == 'load':
        table = np.fromfile(words[1]).reshape(int(words[2]), int(words[3]))
        rows, labels = np.ascontiguousarray(table[:, :-2]), table[:, -2] == 1.0
        classes = table[:, -1].astype(int)
        seconds = 0.0
    else:
        started = time.perf_counter()
        made[words[1]]().fit(rows)
        seconds = time.perf_counter() - started
    print('seconds', seconds, flush=True)
";

pub(crate) struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// `None` if the packages cannot be imported.
    pub(crate) fn start(program: &str) -> Result<Option<Self>, Box<dyn Error>> {
        let mut command = Command::new(program);
        command
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for threads in [
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "NUMBA_NUM_THREADS",
        ] {
            command.env(threads, "1");
        }
        let Ok(mut child) = command.spawn() else {
            return Ok(None);
        };
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("Python has no pipes".into());
        };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line.trim() != "ready" {
            child.wait()?;
            return Ok(None);
        }
        Ok(Some(Self { child, input, output }))
    }

    /// Hands over rows and their labels, through a file.
    pub(crate) fn load(&mut self, table: &Table, file: &Path) -> Result<(), Box<dyn Error>> {
        let mut bytes: Vec<u8> = Vec::new();
        let known = table.labels.iter().zip(&table.classes);
        for (row, (label, class)) in table.rows.outer_iter().zip(known) {
            bytes.extend(row.iter().flat_map(|value| value.to_ne_bytes()));
            bytes.extend(f64::from(u8::from(*label)).to_ne_bytes());
            bytes.extend(f64::from(u8::try_from(*class)?).to_ne_bytes());
        }
        std::fs::write(file, bytes)?;
        let (path, height, width) = (file.display(), table.rows.nrows(), table.rows.ncols() + 2);
        self.ask(&format!("load\t{path}\t{height}\t{width}")).map(drop)
    }

    /// Fits a detector on the rows, and says how many seconds that took.
    pub(crate) fn fit(&mut self, detector: &str) -> Result<f64, Box<dyn Error>> {
        self.ask(&format!("fit\t{detector}"))
    }

    fn ask(&mut self, question: &str) -> Result<f64, Box<dyn Error>> {
        writeln!(self.input, "{question}")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let seconds = line
            .trim()
            .strip_prefix("seconds ")
            .ok_or("Python gave no answer")?;
        Ok(seconds.parse()?)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends with its input; whether it has ended already does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Binds this process, and those it starts, to one of the cores it may use.
pub(crate) fn stay_on_one_core() -> Result<(), Box<dyn Error>> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU)
        .rev()
        .find(|&cpu| allowed.is_set(cpu))
        .ok_or("there is no core")?;
    let mut one = CpuSet::new();
    one.set(last);
    Ok(sched_setaffinity(None, &one)?)
}
