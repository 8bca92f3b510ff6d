//! How fast do our detectors fit and score a table, beside scikit-learn and PyOD?
//!
//! All fit and score the same rows on the same core, with the same parameters, in turns. Python runs as one process that is asked
//! over a pipe; its start, its imports and its compilation by numba are done before, and only `fit` is timed, which leaves the
//! scores of the training rows in all of these estimators. The figure of a table is the shortest of the rounds of each, for
//! whatever else the machine does only adds to it; the ratio of a detector is the geometric mean over the tables.
//!
//! ```text
//! cargo bench -p amoskys-benches --bench compare_detectors -- [--quick] [--python PROGRAM] [--rounds N] [--only DETECTOR,..]
//! ```
//!
//! The tables are the sets of 2,000 rows or more below `$AMOSKYS_DATA/adbench`, and for boosting, with labels, those below
//! `$AMOSKYS_DATA/ids` too; without it, random ones of such shapes. `PROGRAM` is
//! `python3` unless said: that of a virtual environment with `scikit-learn` and `pyod` will do.

#[path = "compare_detectors/peer.rs"]
mod peer;
#[path = "compare_detectors/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use amoskys_analysis::boost::BoostedTrees;
use amoskys_analysis::detectors::{
    Copod, Detector as _, Ecod, FitScore, GaussianMixture, Hbos, Knn, Lof, OneClassSvm, Pca,
};
use amoskys_analysis::iforest::{IsolationForest, Rows};
use amoskys_benches::rounds::{is_quick, option, print_ratio, print_skip};
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use ndarray::Array2;

use self::peer::Python;
use self::table::Table;

type Fit = fn(&Table) -> Result<f64, Box<dyn Error>>;

/// A detector, what the peer is called, and the peer's name in the ratio.
struct Pair {
    ours: &'static str,
    peer: &'static str,
    fit: Fit,
}

const PAIRS: [Pair; 11] = [
    Pair {
        ours: "iforest",
        peer: "sklearn",
        fit: |table| {
            let rows = &table.rows;
            let values = Rows::new(rows.as_slice().unwrap_or_default(), rows.ncols())?;
            let forest = IsolationForest::params().validate()?.fit_rows(values)?;
            Ok(forest.score(values)?.iter().sum())
        },
    },
    Pair {
        ours: "hbos",
        peer: "pyod",
        fit: |table| sum(&Hbos::params(), &table.rows),
    },
    Pair {
        ours: "ecod",
        peer: "pyod",
        fit: |table| sum(&Ecod::params(), &table.rows),
    },
    Pair {
        ours: "copod",
        peer: "pyod",
        fit: |table| sum(&Copod::params(), &table.rows),
    },
    Pair {
        ours: "knn",
        peer: "pyod",
        fit: |table| sum(&Knn::params(), &table.rows),
    },
    Pair {
        ours: "lof",
        peer: "pyod",
        fit: |table| sum(&Lof::params(), &table.rows),
    },
    Pair {
        ours: "pca",
        peer: "pyod",
        fit: |table| sum(&Pca::params(), &table.rows),
    },
    Pair {
        ours: OCSVM,
        peer: "pyod",
        fit: |table| sum(&OneClassSvm::params(), &table.rows),
    },
    Pair {
        ours: "gmm",
        peer: "pyod",
        fit: |table| sum(&GaussianMixture::params(), &table.rows),
    },
    Pair {
        ours: CLASSES,
        peer: "sklearn",
        fit: |table| {
            let dataset = DatasetBase::new(table.rows.view(), table.classes.view());
            let model = BoostedTrees::params().classes().fit(&dataset)?;
            Ok(model.probabilities(table.rows.view())?.sum())
        },
    },
    Pair {
        ours: BOOSTING,
        peer: "sklearn",
        fit: |table| {
            let dataset = DatasetBase::new(table.rows.view(), table.labels.view());
            let model = BoostedTrees::params().fit(&dataset)?;
            Ok(model.score(table.rows.view())?.sum())
        },
    },
];

/// The one that learns from labels.
const BOOSTING: &str = "boosting";
/// The one that learns families.
const CLASSES: &str = "classes";
/// The one that holds all pairs of rows, and so takes no more than these.
const OCSVM: &str = "ocsvm";
const MOST_PAIRED: usize = 10_000;

/// Fits and scores; the sum keeps the scores from being left out.
fn sum(params: &impl FitScore, rows: &Array2<f64>) -> Result<f64, Box<dyn Error>> {
    Ok(params.fit_score(rows.view())?.1.sum())
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = if is_quick() { 2 } else { 5 };
    let rounds = option("--rounds").map_or(Ok(rounds), |number| number.parse())?;
    let only = option("--only").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    peer::stay_on_one_core()?;
    let python = option("--python").unwrap_or_else(|| "python3".to_owned());
    let Some(mut python) = Python::start(&python)? else {
        print_skip("sklearn");
        print_skip("pyod");
        return Ok(());
    };
    // In a quick run, what takes no more than a second or so.
    let most_rows = if is_quick() { 7_000 } else { usize::MAX };
    let scratch = tempfile::tempdir()?;
    let mut logs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    println!(
        "{:<22} {:>8} {:>5}  {:<8} {:>12} {:>12} {:>8}",
        "table", "rows", "cols", "detector", "ours s", "peer s", "ratio"
    );
    for table in table::tables(most_rows)? {
        let name = &table.name;
        let file = scratch.path().join("rows.f64");
        python.load(&table, &file)?;
        let only = |ours: &str| only.is_empty() || only.contains(&ours);
        for pair in &PAIRS {
            let has_labels = [BOOSTING, CLASSES].contains(&pair.ours);
            let has_families = table.is_supervised;
            let fits = match pair.ours {
                OCSVM => table.rows.nrows() <= MOST_PAIRED,
                CLASSES => has_families,
                _ => true,
            };
            if (table.is_supervised && !has_labels) || !fits || !only(pair.ours) {
                continue;
            }
            let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..rounds {
                let start = Instant::now();
                std::hint::black_box((pair.fit)(&table)?);
                ours = ours.min(start.elapsed().as_secs_f64());
                theirs = theirs.min(python.fit(pair.ours)?);
            }
            let ratio = theirs / ours;
            println!(
                "{name:<22} {:>8} {:>5}  {:<8} {ours:>12.5} {theirs:>12.5} {ratio:>8.2}",
                table.rows.nrows(),
                table.rows.ncols(),
                pair.ours
            );
            logs.entry(pair.ours).or_default().push(ratio.ln());
        }
    }
    println!();
    for Pair { ours, peer, .. } in &PAIRS {
        if let Some(logs) = logs.get(ours) {
            #[expect(clippy::cast_precision_loss, reason = "there are a few tables")]
            let mean = logs.iter().sum::<f64>() / logs.len() as f64;
            print_ratio(ours, peer, mean.exp());
        }
    }
    Ok(())
}
