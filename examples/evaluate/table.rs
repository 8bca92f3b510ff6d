//! Reads labelled tables: CSV, compressed with gzip or not.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// The lines of a file with a header.
pub(crate) struct Csv {
    pub(crate) path: PathBuf,
    pub(crate) header: Vec<String>,
    pub(crate) lines: Vec<Vec<String>>,
}

impl Csv {
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut lines = open(path)?.lines();
        let split = |line: &str| -> Vec<String> { line.split(',').map(str::to_owned).collect() };
        let first = lines
            .next()
            .ok_or_else(|| fail(&"the file is empty"))?
            .map_err(|error| fail(&error))?;
        let header = split(first.trim_start_matches('\u{feff}').trim_end());
        let mut csv = Self {
            path: path.to_owned(),
            header,
            lines: Vec::new(),
        };
        for (number, line) in lines.enumerate() {
            let line = split(line.map_err(|error| fail(&error))?.trim_end());
            if line.len() != csv.header.len() {
                let what = format!(
                    "line {}: {} fields, not {}",
                    number + 2,
                    line.len(),
                    csv.header.len()
                );
                return Err(fail(&what).into());
            }
            csv.lines.push(line);
        }
        Ok(csv)
    }

    /// The place of a column.
    pub(crate) fn column(&self, name: &str) -> Result<usize, Box<dyn Error>> {
        let place = self.header.iter().position(|header| header == name);
        place.ok_or_else(|| format!("{}: there is no column {name}", self.path.display()).into())
    }

    /// Which lines are labelled as anomalies: 1 in the column `label`.
    pub(crate) fn labels(&self) -> Result<Vec<bool>, Box<dyn Error>> {
        let column = self.column("label")?;
        let label = |(number, line): (usize, &Vec<String>)| match line[column].parse::<f64>() {
            Ok(0.0) => Ok(false),
            Ok(1.0) => Ok(true),
            _ => {
                let (path, found) = (self.path.display(), &line[column]);
                Err(format!("{path}: line {}: label {found} is neither 0 nor 1", number + 2).into())
            }
        };
        self.lines.iter().enumerate().map(label).collect()
    }
}

/// The content of a file, unpacked if its name ends in `.gz`.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>, Box<dyn Error>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    })
}

/// The folder of a protocol: below `data`, or `data` itself.
pub(crate) fn folder(data: &Path, name: &str) -> PathBuf {
    let below = data.join(name);
    if below.is_dir() { below } else { data.to_owned() }
}
