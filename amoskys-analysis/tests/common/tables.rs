//! Reads labelled tables from the folder that `AMOSKYS_DATA` names.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The folder of the tabular sets; `None`, with a message, if there is no data.
pub(crate) fn adbench() -> Option<PathBuf> {
    let Some(data) = std::env::var_os("AMOSKYS_DATA") else {
        println!("skipped: AMOSKYS_DATA is not set");
        return None;
    };
    Some(Path::new(&data).join("adbench"))
}

/// A table of numbers with a label for each row.
pub(crate) struct Table {
    pub(crate) columns: usize,
    pub(crate) values: Vec<f64>,
    pub(crate) labels: Vec<bool>,
}

impl Table {
    /// From a compressed file whose last column is the label.
    pub(crate) fn read(path: &Path) -> Self {
        let mut text = String::new();
        let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .expect("a gzip file");
        let mut lines = text.lines();
        let columns = lines.next().expect("a header").split(',').count() - 1;
        let mut table = Self {
            columns,
            values: Vec::new(),
            labels: Vec::new(),
        };
        for line in lines {
            let mut fields = line.split(',');
            let values = fields
                .by_ref()
                .take(columns)
                .map(|field| field.parse::<f64>().expect("a number"));
            table.values.extend(values);
            table
                .labels
                .push(fields.next().expect("a label").parse::<f64>().expect("a number") != 0.0);
        }
        table
    }

    /// With every column brought to the range 0 to 1.
    pub(crate) fn min_max_scaled(mut self) -> Self {
        for column in 0..self.columns {
            let of_column = || self.values.iter().skip(column).step_by(self.columns);
            let min = of_column().copied().fold(f64::INFINITY, f64::min);
            let max = of_column().copied().fold(f64::NEG_INFINITY, f64::max);
            let width = if max > min { max - min } else { 1.0 };
            for value in self.values.iter_mut().skip(column).step_by(self.columns) {
                *value = (*value - min) / width;
            }
        }
        self
    }
}

/// The lines of a file with a header, by column name.
pub(crate) fn read_csv(path: &Path) -> Vec<HashMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let entry = |line: &str| {
        header
            .iter()
            .zip(line.split(','))
            .map(|(k, v)| ((*k).to_owned(), v.to_owned()))
            .collect()
    };
    lines.map(entry).collect()
}
