//! The tables that detectors are timed on.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use ndarray::{Array1, Array2};

/// Columns that tell the answer or where a row is from; `label` is read for itself.
const NOT_FEATURES: [&str; 6] = ["attack", "attack_cat", "family", "difficulty", "id", "source"];
/// Columns that name the family of an attack; the first that there is counts.
const FAMILIES: [&str; 3] = ["family", "attack_cat", "attack"];
/// Tables of fewer rows say more about start-up than about speed.
const LEAST_ROWS: usize = 2000;
/// Rows and columns of the tables that are made where there are no sets.
const SHAPES: [(usize, usize); 6] = [
    (2_000, 20),
    (4_000, 5),
    (4_000, 57),
    (6_000, 36),
    (20_000, 10),
    (50_000, 9),
];

pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) rows: Array2<f64>,
    /// Which rows are anomalies.
    pub(crate) labels: Array1<bool>,
    /// The family of each row; 0 for those that are no anomalies. Of sets without families there is only one.
    pub(crate) classes: Array1<usize>,
    /// Whether it is for detectors that learn from labels alone.
    pub(crate) is_supervised: bool,
}

/// The tables of up to so many rows, columns brought to 0..1.
pub(crate) fn tables(most_rows: usize) -> Result<Vec<Table>, Box<dyn Error>> {
    let wanted = |rows: usize| (LEAST_ROWS..=most_rows).contains(&rows);
    let Some(data) = std::env::var_os("AMOSKYS_DATA") else {
        let made = SHAPES
            .iter()
            .filter(|shape| wanted(shape.0))
            .map(|&(rows, columns)| random(rows, columns));
        return Ok(made.collect());
    };
    let mut tables = Vec::new();
    for (folder, is_supervised) in [("adbench", false), ("ids", true)] {
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(Path::new(&data).join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "gz") {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let table = read(&path, is_supervised)?;
            if is_supervised || wanted(table.rows.nrows()) {
                tables.push(table);
            }
        }
    }
    Ok(tables)
}

/// A set: a header, then rows whose column `label` is 1 for anomalies.
fn read(path: &Path, is_supervised: bool) -> Result<Table, Box<dyn Error>> {
    let mut text = String::new();
    MultiGzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let known = |name: &str| NOT_FEATURES.contains(&name);
    // Words are numbered as they come.
    let mut words: BTreeMap<&str, f64> = BTreeMap::new();
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let family = FAMILIES.iter().find(|name| header.contains(name));
    let (mut families, mut named) = (BTreeMap::new(), Vec::new());
    for line in lines {
        for (name, field) in header.iter().zip(line.split(',')) {
            if Some(name) == family {
                let next = families.len() + 1;
                named.push(*families.entry(field).or_insert(next));
            }
            if *name == "label" {
                labels.push(field.parse::<f64>()? > 0.5);
            } else if !known(name) {
                let next = f64::from(u32::try_from(words.len())?);
                let number = field
                    .parse::<f64>()
                    .unwrap_or_else(|_| *words.entry(field).or_insert(next));
                values.push(if number.is_finite() { number } else { 0.0 });
            }
        }
    }
    let columns = header.iter().filter(|name| !known(name)).count() - 1;
    let mut rows = Array2::from_shape_vec((labels.len(), columns), values)?;
    if !is_supervised {
        scale(&mut rows);
    }
    named.resize(labels.len(), 1);
    // Numbered without a gap: honest rows have a family of their own name, or several.
    let attack = labels
        .iter()
        .zip(&named)
        .filter(|(label, _)| **label)
        .map(|(_, family)| *family);
    let attacks: Vec<usize> = attack.collect::<BTreeSet<usize>>().into_iter().collect();
    let of_attacks = |family: &usize| attacks.binary_search(family).map_or(0, |at| at + 1);
    let classes = labels
        .iter()
        .zip(&named)
        .map(|(label, family)| if *label { of_attacks(family) } else { 0 })
        .collect();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Table {
        classes,
        name: name.trim_end_matches(".csv.gz").to_owned(),
        rows,
        labels: labels.into(),
        is_supervised,
    })
}

fn scale(rows: &mut Array2<f64>) {
    for mut column in rows.columns_mut() {
        let low = column.iter().copied().fold(f64::INFINITY, f64::min);
        let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let width = if high > low { high - low } else { 1.0 };
        column.mapv_inplace(|value| (value - low) / width);
    }
}

/// Sums of even numbers, half of which are common to neighbouring columns.
fn random(count: usize, columns: usize) -> Table {
    let mut state = 1_u64;
    let mut unit = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 33) as u32) / f64::from(1_u32 << 31)
    };
    let mut last = 0.0;
    let mut rows = Array2::from_shape_simple_fn((count, columns), || {
        last = 0.5 * last + unit() + unit() - 1.0;
        last
    });
    scale(&mut rows);
    // Something to learn: sums that are high, of neighbours that are not.
    let is_anomaly =
        |row: ndarray::ArrayView1<'_, f64>| row.sum() / row.len() as f64 > 0.55 && row[0] < row[1];
    let labels: Array1<bool> = rows.outer_iter().map(is_anomaly).collect();
    Table {
        classes: labels.mapv(usize::from),
        name: "random".to_owned(),
        rows,
        labels,
        is_supervised: false,
    }
}
