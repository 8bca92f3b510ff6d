//! Reads labelled tables: CSV, compressed with gzip or not, with quotes, ends of lines and blanks as they come.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use amoskys_examples::LineEnds;
use csv::{ErrorKind, Position, StringRecord};
use flate2::bufread::MultiGzDecoder;

/// A larger file is refused; unpacked.
const MOST_BYTES: u64 = 8 << 30;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// What stands where there is no value.
const MISSING: [&str; 7] = ["", "na", "n/a", "null", "none", "?", "-"];

/// A file with a header, read line by line.
pub(crate) struct Lines {
    pub(crate) path: PathBuf,
    pub(crate) header: Vec<String>,
    reader: csv::Reader<Box<dyn Read>>,
    record: StringRecord,
}

impl Lines {
    /// Reads the header.
    pub(crate) fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(unpacked(path)?);
        let header = reader.headers().map_err(|error| explain(path, 1, &error))?;
        let header: Vec<String> = header
            .iter()
            .map(|name| name.trim_start_matches('\u{feff}').to_owned())
            .collect();
        if header.iter().all(String::is_empty) {
            return Err(format!("{}: the file is empty", path.display()).into());
        }
        Ok(Self {
            path: path.to_owned(),
            header,
            reader,
            record: StringRecord::new(),
        })
    }

    /// The next line. Each has as many fields as the header.
    pub(crate) fn next(&mut self) -> Result<Option<&StringRecord>, Box<dyn Error>> {
        let line = self.reader.position().line();
        match self.reader.read_record(&mut self.record) {
            Ok(true) => Ok(Some(&self.record)),
            Ok(false) => Ok(None),
            Err(error) => Err(explain(&self.path, line, &error)),
        }
    }

    /// The place of a column.
    pub(crate) fn column(&self, name: &str) -> Result<usize, Box<dyn Error>> {
        column(&self.path, &self.header, name)
    }

    /// Something wrong with a field of the line read last.
    pub(crate) fn wrong(&self, column: usize, what: &str) -> Box<dyn Error> {
        wrong(&self.path, &self.header, &self.record, column, what)
    }
}

/// The lines of a file with a header.
pub(crate) struct Csv {
    pub(crate) path: PathBuf,
    pub(crate) header: Vec<String>,
    pub(crate) lines: Vec<StringRecord>,
}

impl Csv {
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let mut lines = Lines::open(path)?;
        let mut records = Vec::new();
        while let Some(record) = lines.next()? {
            records.push(record.clone());
        }
        Ok(Self {
            path: lines.path,
            header: lines.header,
            lines: records,
        })
    }

    /// The place of a column.
    pub(crate) fn column(&self, name: &str) -> Result<usize, Box<dyn Error>> {
        column(&self.path, &self.header, name)
    }

    /// Something wrong with a field of a row.
    pub(crate) fn wrong(&self, row: usize, column: usize, what: &str) -> Box<dyn Error> {
        wrong(&self.path, &self.header, &self.lines[row], column, what)
    }

    /// Which lines are labelled as anomalies: 1 in the column `label`.
    pub(crate) fn labels(&self) -> Result<Vec<bool>, Box<dyn Error>> {
        let column = self.column("label")?;
        let label = |(row, line): (usize, &StringRecord)| {
            label(&line[column]).ok_or_else(|| self.wrong(row, column, NO_LABEL))
        };
        self.lines.iter().enumerate().map(label).collect()
    }
}

/// What is said of a label that is none.
pub(crate) const NO_LABEL: &str =
    "the label is neither 0 (false, normal, benign) nor 1 (true, attack, anomaly)";

/// Whether a label says anomaly. `None` if it says neither.
pub(crate) fn label(text: &str) -> Option<bool> {
    match text.parse::<f64>() {
        Ok(0.0) => return Some(false),
        Ok(1.0) => return Some(true),
        _ => {}
    }
    let is_one_of = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["false", "normal", "benign"]) {
        Some(false)
    } else {
        is_one_of(["true", "attack", "anomaly"]).then_some(true)
    }
}

/// The number in a field: not a number where a value is missing, `None` if it is something else.
pub(crate) fn number(text: &str) -> Option<f64> {
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => MISSING
            .iter()
            .any(|missing| text.eq_ignore_ascii_case(missing))
            .then_some(f64::NAN),
    }
}

fn column(path: &Path, header: &[String], name: &str) -> Result<usize, Box<dyn Error>> {
    let exact = header.iter().position(|header| header == name);
    let alike = || header.iter().position(|header| header.eq_ignore_ascii_case(name));
    exact.or_else(alike).ok_or_else(|| {
        let known = header.iter().take(20).map(String::as_str).collect::<Vec<_>>();
        let more = if header.len() > known.len() { ", .." } else { "" };
        let (path, known) = (path.display(), known.join(", "));
        format!("{path}: line 1: there is no column {name}; there are {known}{more}").into()
    })
}

fn wrong(path: &Path, header: &[String], line: &StringRecord, column: usize, what: &str) -> Box<dyn Error> {
    let (path, number) = (path.display(), line.position().map_or(0, Position::line));
    let name = header.get(column).map_or("", String::as_str);
    let found: String = line.get(column).unwrap_or_default().chars().take(40).collect();
    format!(
        "{path}: line {number}, column {} ({name}): {found:?}: {what}",
        column + 1
    )
    .into()
}

/// Where and why a table cannot be read.
fn explain(path: &Path, line: u64, error: &csv::Error) -> Box<dyn Error> {
    let path = path.display();
    let place = |position: &Option<Position>| position.as_ref().map_or(line, Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => format!("{path}: line {}: {len} fields, not {expected_len}", place(pos)),
        ErrorKind::Utf8 { pos, err } => {
            format!(
                "{path}: line {}, column {}: not UTF-8 text",
                place(pos),
                err.field() + 1
            )
        }
        ErrorKind::Io(error) => format!("{path}: line {line}: {error}"),
        _ => format!("{path}: line {line}: {error}"),
    }
    .into()
}

/// The content of a file, unpacked if it begins as gzip does, whatever its name.
fn unpacked(path: &Path) -> Result<Box<dyn Read>, Box<dyn Error>> {
    let fail = |error| format!("{}: {error}", path.display());
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(fail)?);
    let packed = file.fill_buf().map_err(fail)?.starts_with(&GZIP);
    Ok(if packed {
        let unpacked = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file));
        Box::new(Bounded(LineEnds::new(unpacked), MOST_BYTES))
    } else {
        Box::new(Bounded(LineEnds::new(file), MOST_BYTES))
    })
}

/// Reads so many bytes at most, and fails at the next.
struct Bounded<R>(R, u64);

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(into)?;
        self.1 = self
            .1
            .checked_sub(read as u64)
            .ok_or_else(|| std::io::Error::other("the file is larger than 8 GiB"))?;
        Ok(read)
    }
}

/// The folder of a protocol: below `data`, or `data` itself.
pub(crate) fn folder(data: &Path, name: &str) -> PathBuf {
    let below = data.join(name);
    if below.is_dir() { below } else { data.to_owned() }
}

/// The tables of a folder in order of their names, or the one file: CSV, packed or not, and no scores of references.
pub(crate) fn tables(data: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    if data.is_file() {
        return Ok(vec![data.to_owned()]);
    }
    let fail = |error| format!("{}: {error}", data.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(data).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_table = name.ends_with(".csv") || name.ends_with(".csv.gz");
        if is_table && !name.starts_with("reference") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{}: there is no table: no file .csv or .csv.gz", data.display()).into());
    }
    Ok(paths)
}

/// What a table is called: its file without the endings.
pub(crate) fn table_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".gz").trim_end_matches(".csv").to_owned()
}

/// What went wrong with some of several sets: said at once, and by the exit status when the others are done.
#[derive(Default)]
pub(crate) struct Failures {
    sets: usize,
    failed: usize,
}

impl Failures {
    pub(crate) fn note<T>(&mut self, result: Result<T, Box<dyn Error>>) -> Option<T> {
        self.sets += 1;
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed += 1;
                eprintln!("evaluate: {error}");
                None
            }
        }
    }

    pub(crate) fn finish(&self) -> Result<(), Box<dyn Error>> {
        if self.failed == 0 {
            return Ok(());
        }
        Err(format!("{} of {} sets could not be evaluated", self.failed, self.sets).into())
    }
}
