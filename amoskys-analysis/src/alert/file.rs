use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use amoskys_core::event::{Payload, Verdict, VerdictId};
use amoskys_core::{Recorded, Sink, Timestamp};

use super::Alert;
use crate::feedback::called_normal;
use crate::story::{Stories, Story};

/// Bytes a line of the file may have; longer ones are damaged.
const LONGEST_LINE: u64 = 1 << 20;

/// A file of alerts, one JSON object a line: the latest state of each alert.
///
/// While it is open, an alert that is raised or updated is appended as a line at once; a reader keeps the last line of each `id`.
/// When the sink is flushed, the file is put in order: one line for each alert, by time and then by id. The
/// new file takes the place of the old one in one step, so a reader sees the one or the other.
///
/// Verdicts that are no alerts are passed over, except where an alert is called [normal](crate::feedback) after it was raised: its line
/// says so. Each line names the [story](crate::story) that its alert is part of.
///
/// # Guarantees
///
/// Delivery may repeat verdicts after a crash; the file holds each alert once all the same. Opened again, it goes on from what the
/// file holds; a last line that was cut by a crash is dropped, because the verdict behind it will come again.
///
/// # Blocking
///
/// It writes with ordinary system calls. Alerts are rare; a slow disk delays the pipeline behind it.
#[derive(Debug)]
pub struct AlertFile {
    path: PathBuf,
    file: File,
    alerts: BTreeMap<(Timestamp, VerdictId), Line>,
    stories: Stories,
    /// Whether the file has lines that are out of order or overtaken.
    untidy: bool,
}

/// An alert's latest line, and how far the events behind it go.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    last: u64,
    text: String,
}

impl AlertFile {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written, or holds something else than alerts.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, AlertFileError> {
        let path = path.into();
        let fail = |doing| {
            move |path: &Path, source| AlertFileError::Io {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|source| fail("open")(&path, source))?;
        let mut opened = Self {
            path,
            file,
            alerts: BTreeMap::new(),
            stories: Stories::new(),
            untidy: false,
        };
        opened.read()?;
        if opened.untidy {
            opened.tidy()?;
        }
        Ok(opened)
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many alerts it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    /// Takes a verdict: appends a line if it is an alert and news.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn take(&mut self, verdict: &Verdict) -> Result<(), AlertFileError> {
        let was = self.alerts.contains_key(&(verdict.time, verdict.id));
        let normal = was && called_normal(verdict).is_some();
        if !verdict.is_alert() && !normal {
            return Ok(());
        }
        let story = self.stories.of(&verdict.id).map(Story::id);
        let alert = Alert {
            story: self.stories.take(verdict).or(story),
            normal,
            ..Alert::from(verdict)
        };
        let text = alert
            .to_line()
            .map_err(|source| AlertFileError::Encode { source })?;
        let line = Line {
            last: alert.events.last,
            text,
        };
        let key = (alert.time_ns, alert.id);
        // After a crash older revisions come again; what is already known to go further stays.
        if self
            .alerts
            .get(&key)
            .is_some_and(|known| known.last > line.last || *known == line)
        {
            return Ok(());
        }
        let ordered = self.alerts.last_key_value().is_none_or(|(last, _)| *last < key);
        self.file
            .write_all(format!("{}\n", line.text).as_bytes())
            .map_err(|source| self.failed("append to", source))?;
        self.untidy |= !ordered;
        self.alerts.insert(key, line);
        Ok(())
    }

    /// Puts the file in order and makes it safe.
    ///
    /// # Errors
    ///
    /// If it cannot be written. The file is then as it was.
    pub fn tidy(&mut self) -> Result<(), AlertFileError> {
        if !self.untidy {
            return self
                .file
                .sync_data()
                .map_err(|source| self.failed("sync", source));
        }
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = self.path.with_file_name(name);
        let mut content = String::new();
        for line in self.alerts.values() {
            content.push_str(&line.text);
            content.push('\n');
        }
        let write = || -> io::Result<File> {
            let mut file = File::create(&new)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            // The new name is safe once its directory is.
            if let Some(folder) = self.path.parent() {
                let folder = if folder.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    folder
                };
                File::open(folder)?.sync_all()?;
            }
            OpenOptions::new().read(true).append(true).open(&self.path)
        };
        self.file = write().map_err(|source| self.failed("rewrite", source))?;
        self.untidy = false;
        Ok(())
    }

    fn read(&mut self) -> Result<(), AlertFileError> {
        let file = self
            .file
            .try_clone()
            .map_err(|source| self.failed("read", source))?;
        let mut lines = BufReader::new(file);
        for number in 1_u64.. {
            let mut text = Vec::new();
            let length = io::Read::take(&mut lines, LONGEST_LINE)
                .read_until(b'\n', &mut text)
                .map_err(|source| self.failed("read", source))?;
            if length == 0 {
                break;
            }
            if text.last() != Some(&b'\n') && (length as u64) < LONGEST_LINE {
                self.untidy = true; // Cut by a crash: the last line.
                break;
            }
            let text = text.trim_ascii_end();
            let alert: Alert = serde_json::from_slice(text).map_err(|source| AlertFileError::Line {
                path: self.path.clone(),
                number,
                source,
            })?;
            let key = (alert.time_ns, alert.id);
            let ordered = self.alerts.last_key_value().is_none_or(|(last, _)| *last < key);
            self.untidy |= !ordered;
            let line = Line {
                last: alert.events.last,
                text: String::from_utf8_lossy(text).into_owned(),
            };
            if self.alerts.get(&key).is_none_or(|known| known.last <= line.last) {
                if !alert.normal {
                    self.stories.learn(&alert);
                }
                self.alerts.insert(key, line);
            }
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> AlertFileError {
        AlertFileError::Io {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

impl Sink for AlertFile {
    type Error = AlertFileError;

    fn name(&self) -> &str {
        "alerts"
    }

    /// Appends the alerts among the events.
    ///
    /// # Cancel safety
    ///
    /// It does not wait, so it cannot be cut short.
    async fn write(&mut self, events: &[Recorded]) -> Result<(), AlertFileError> {
        for recorded in events {
            if let Payload::Verdict(verdict) = &recorded.event.payload {
                self.take(verdict)?;
            }
        }
        Ok(())
    }

    /// Puts the file in order and makes it safe.
    ///
    /// # Cancel safety
    ///
    /// It does not wait, so it cannot be cut short.
    async fn flush(&mut self) -> Result<(), AlertFileError> {
        self.tidy()
    }
}

/// Why an alert file failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlertFileError {
    /// The file system refused.
    #[error("cannot {doing} the alert file {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file holds something else than alerts. Name another file, or move it away.
    #[error("line {number} of {} is no alert", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        number: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An alert cannot be written as JSON.
    #[error("an alert cannot be encoded")]
    Encode {
        /// The cause.
        source: serde_json::Error,
    },
}
