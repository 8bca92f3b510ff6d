//! Tables as people have them: CSV with a header, numbers and words, values that are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amoskys_core::event::{Entity, EventRange};
use amoskys_core::{
    Class, Digest, Epoch, FeatureDef, FeatureSchema, FeatureVector, Seq, StreamId, Timestamp,
};
use amoskys_examples::LineEnds;
use amoskys_features::encode::category;
use csv::{ErrorKind, Position, StringRecord};
use flate2::read::MultiGzDecoder;

/// A larger table is refused; unpacked.
const MOST_BYTES: u64 = 2 << 30;
/// The unit of features that are categories.
pub(crate) const CATEGORY: &str = "category";
/// So much of a column must be numbers for a word in it to be a mistake.
const NUMBERS: f64 = 0.95;
/// A column of words that has more of them than this, and more than half as many as rows, names the rows.
const NAMES: usize = 1000;
const MISSING: [&str; 6] = ["", "na", "n/a", "nan", "null", "?"];
const HONEST: [&str; 7] = ["0", "0.0", "false", "no", "normal", "benign", "honest"];
const ATTACK: [&str; 6] = ["1", "1.0", "true", "yes", "attack", "anomaly"];

/// A table as it was read.
pub(crate) struct Table {
    path: PathBuf,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<StringRecord>,
    /// Digest of its bytes, unpacked.
    pub(crate) digest: Digest,
}

impl Table {
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let bytes = read(path)?;
        let fail = |what: String| -> Box<dyn Error> { format!("{}: {what}", path.display()).into() };
        let content = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(LineEnds::new(content));
        let header = reader.headers().map_err(|error| fail(explain(&error)))?;
        let header: Vec<String> = header.iter().map(str::to_owned).collect();
        if header.iter().all(String::is_empty) {
            return Err(fail("there is no header".to_owned()));
        }
        for (at, name) in header.iter().enumerate() {
            let before = header[..at].iter().position(|other| other == name);
            if name.is_empty() {
                return Err(fail(format!("line 1, column {}: the column has no name", at + 1)));
            }
            if let Some(before) = before {
                let what = format!(
                    "line 1: columns {} and {} are both called {name}",
                    before + 1,
                    at + 1
                );
                return Err(fail(what));
            }
        }
        let rows: Result<Vec<StringRecord>, csv::Error> = reader.records().collect();
        let rows = rows.map_err(|error| fail(explain(&error)))?;
        if rows.is_empty() {
            return Err(fail("there are no rows".to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            header,
            rows,
            digest: Digest::of(&bytes),
        })
    }

    pub(crate) fn column(&self, name: &str) -> Result<usize, Box<dyn Error>> {
        let place = self.header.iter().position(|header| header == name);
        place.ok_or_else(|| {
            let known = self.header.join(", ");
            format!(
                "{}: there is no column {name}; there are {known}",
                self.path.display()
            )
            .into()
        })
    }

    /// The line a row stands in.
    pub(crate) fn line(&self, row: usize) -> u64 {
        let position = self.rows.get(row).and_then(StringRecord::position);
        position.map_or(row as u64 + 2, Position::line)
    }

    /// Something wrong with a field.
    fn wrong(&self, row: usize, column: usize, what: &str) -> Box<dyn Error> {
        let (path, line, name) = (self.path.display(), self.line(row), &self.header[column]);
        format!("{path}: line {line}, column {} ({name}): {what}", column + 1).into()
    }

    /// Which rows are attacks.
    pub(crate) fn labels(&self, column: usize) -> Result<Vec<bool>, Box<dyn Error>> {
        let label = |(at, row): (usize, &StringRecord)| {
            let text = row[column].to_ascii_lowercase();
            if HONEST.contains(&text.as_str()) || text == "-" {
                Ok(false)
            } else if ATTACK.contains(&text.as_str()) {
                Ok(true)
            } else if is_missing(&text) {
                Err(self.wrong(at, column, "the label is missing"))
            } else if text.parse::<f64>().is_ok() {
                Err(self.wrong(at, column, &format!("the label {text} is neither 0 nor 1")))
            } else {
                // The name of an attack.
                Ok(true)
            }
        };
        self.rows.iter().enumerate().map(label).collect()
    }

    /// What the columns are, without those that are excluded.
    pub(crate) fn columns(
        &self,
        excluded: &BTreeSet<usize>,
        categorical: &BTreeSet<usize>,
    ) -> Result<Columns, Box<dyn Error>> {
        let mut columns = Columns::default();
        for column in (0..self.header.len()).filter(|column| !excluded.contains(column)) {
            let (mut there, mut numbers, mut word) = (0_usize, 0_usize, None);
            for (at, row) in self.rows.iter().enumerate() {
                if is_missing(&row[column]) {
                    continue;
                }
                there += 1;
                if row[column].parse::<f64>().is_ok() {
                    numbers += 1;
                } else {
                    word.get_or_insert(at);
                }
            }
            if there == 0 {
                columns.left_out.push((column, "has no values"));
                continue;
            }
            let is_category = categorical.contains(&column);
            if let Some(at) = word.filter(|_| !is_category)
                && numbers as f64 >= NUMBERS * there as f64
            {
                let what = format!(
                    "{:?} is no number, as {numbers} of the {there} values are; --categorical {} if that is right",
                    &self.rows[at][column], self.header[column]
                );
                return Err(self.wrong(at, column, &what));
            }
            if word.is_none() && !is_category {
                columns.numbers.push(column);
                continue;
            }
            let names: BTreeSet<&str> = self.rows.iter().map(|row| &row[column]).collect();
            if !is_category && names.len() > NAMES && names.len() * 2 > self.rows.len() {
                columns.left_out.push((column, "names the rows"));
            } else {
                columns.categories.push(column);
            }
        }
        if columns.numbers.is_empty() && columns.categories.is_empty() {
            return Err(format!("{}: there is no column to learn from", self.path.display()).into());
        }
        Ok(columns)
    }

    /// The schema of the columns, in the order of the table.
    pub(crate) fn schema(&self, name: &str, columns: &Columns) -> FeatureSchema {
        let feature = |&column: &usize| {
            let is_category = columns.categories.contains(&column);
            let unit = if is_category { CATEGORY } else { "" };
            FeatureDef::new(&self.header[column], unit, &format!("column {}", column + 1))
        };
        FeatureSchema::new(name, columns.all().iter().map(feature).collect())
    }

    /// The rows as vectors of a schema, whose features are found by their names.
    pub(crate) fn vectors(&self, schema: &Arc<FeatureSchema>) -> Result<Vec<FeatureVector>, Box<dyn Error>> {
        let mut places = Vec::with_capacity(schema.len());
        let mut absent = Vec::new();
        for feature in schema.features() {
            match self.header.iter().position(|name| name == feature.name.as_str()) {
                Some(place) => places.push((place, feature.unit == CATEGORY)),
                None => absent.push(feature.name.as_str()),
            }
        }
        if !absent.is_empty() {
            let (path, absent) = (self.path.display(), absent.join(", "));
            return Err(format!(
                "{path}: the model {} reads columns that are not there: {absent}",
                schema.name()
            )
            .into());
        }
        let events = EventRange {
            stream: StreamId {
                agent: "table".into(),
                epoch: Epoch::default(),
                class: Class::default(),
            },
            first: Seq(0),
            last: Seq(0),
        };
        let mut vectors = Vec::with_capacity(self.rows.len());
        for (at, row) in self.rows.iter().enumerate() {
            let mut values = Vec::with_capacity(places.len());
            for &(column, is_category) in &places {
                let text = &row[column];
                values.push(match text.parse::<f64>() {
                    _ if is_missing(text) => f64::NAN,
                    _ if is_category => category(text),
                    Ok(number) => number,
                    Err(_) => return Err(self.wrong(at, column, &format!("{text:?} is no number"))),
                });
            }
            vectors.push(FeatureVector {
                schema: Arc::clone(schema),
                entity: Entity::Named("row".into()),
                start: Timestamp::default(),
                end: Timestamp::default(),
                values,
                events: events.clone(),
            });
        }
        Ok(vectors)
    }

    /// How often each category occurs in a column.
    pub(crate) fn categories(&self, column: usize) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for row in self.rows.iter().filter(|row| !is_missing(&row[column])) {
            *counts.entry(&row[column]).or_default() += 1;
        }
        counts
    }
}

/// What the columns of a table are.
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) numbers: Vec<usize>,
    pub(crate) categories: Vec<usize>,
    /// Columns that nothing can be learned from, and why.
    pub(crate) left_out: Vec<(usize, &'static str)>,
}

impl Columns {
    fn all(&self) -> Vec<usize> {
        let mut all = [self.numbers.as_slice(), &self.categories].concat();
        all.sort_unstable();
        all
    }
}

fn is_missing(text: &str) -> bool {
    MISSING.iter().any(|missing| text.eq_ignore_ascii_case(missing))
}

/// The bytes of a file, unpacked if its name ends in `.gz`.
fn read(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| fail(&error))?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if packed {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut bytes = Vec::new();
    reader
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(&error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(fail(&"the table is larger than 2 GiB").into());
    }
    Ok(bytes)
}

/// Where and why the table cannot be read.
fn explain(error: &csv::Error) -> String {
    let line = |position: &Option<Position>| position.as_ref().map_or(1, Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => {
            format!(
                "line {}: {len} fields, but the header has {expected_len}",
                line(pos)
            )
        }
        ErrorKind::Utf8 { pos, err } => {
            format!("line {}, column {}: not UTF-8 text", line(pos), err.field() + 1)
        }
        _ => error.to_string(),
    }
}
