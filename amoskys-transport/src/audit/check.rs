use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::chain::{AuditFault, Chain};
use super::error::AuditError;
use super::files::{Ending, failed, head_path, list_aside, read_head, read_lines};
use super::key::Mac;
use super::line::decode_head;

/// Most findings that are listed.
const MAX_FINDINGS: usize = 1000;

/// Checks an audit log offline. It only reads.
#[derive(Clone)]
pub struct AuditVerifier {
    path: PathBuf,
    key: Option<Arc<dyn Mac>>,
}

/// What was found in an audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditReport {
    /// Names the form of the serialized report: `amoskys.verify-audit/1`. Fields may be added to it.
    pub schema: &'static str,
    /// The log.
    pub path: PathBuf,
    /// Whether the MACs were checked. Without the key anyone may have written the lines.
    pub is_keyed: bool,
    /// Files of lines.
    pub files: u64,
    /// Lines that hold an entry.
    pub entries: u64,
    /// Number of the last line.
    pub last: Option<u64>,
    /// How often a torn line was cut off after a crash.
    pub torn: u64,
    /// What is wrong.
    pub findings: Vec<AuditFinding>,
    /// Findings that were counted but are not listed.
    pub more_findings: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditFinding {
    /// Name of the file.
    pub file: String,
    /// Line in it, from 1.
    pub line: u64,
    /// A sentence.
    pub detail: String,
    /// The same for programs.
    #[serde(skip)]
    pub fault: AuditFault,
}

impl AuditVerifier {
    /// A verifier of the log at this path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            key: None,
        }
    }

    /// The key by which the lines are authenticated. Without it only their form and their numbers are checked.
    #[must_use]
    pub fn key(mut self, key: Arc<dyn Mac>) -> Self {
        self.key = Some(key);
        self
    }

    /// Checks the log.
    ///
    /// # Errors
    ///
    /// If there is none, or a file cannot be read.
    pub fn run(&self) -> Result<AuditReport, AuditError> {
        let mut files: Vec<_> = list_aside(&self.path)
            .map_err(failed(&self.path, "read"))?
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        if self.path.exists() {
            files.push(self.path.clone());
        }
        let head = read_head(&self.path).map_err(failed(&head_path(&self.path), "read"))?;
        if files.is_empty() && head.is_none() {
            return Err(AuditError::NoLog {
                path: self.path.clone(),
            });
        }
        let key = self.key.as_deref();
        let mut report = AuditReport {
            schema: "amoskys.verify-audit/1",
            path: self.path.clone(),
            is_keyed: key.is_some(),
            files: files.len() as u64,
            ..AuditReport::default()
        };
        let point = head.map(|line| decode_head(&line, key).ok());
        let mut chain = Chain::new(key, point.flatten());
        let mut line = 0;
        for path in &files {
            line = 0;
            let file = File::open(path).map_err(failed(path, "read"))?;
            let name = name_of(path);
            let ending = read_lines(BufReader::new(file), |text| {
                line += 1;
                if let Some(fault) = chain.take(text) {
                    report.add(&name, line, fault);
                }
            });
            let ending = ending.map_err(failed(path, "read"))?;
            if let Ending::Torn { .. } = ending {
                report.add(&name, line + 1, AuditFault::Torn);
            }
        }
        for fault in chain.finish() {
            let at = match fault {
                AuditFault::Beginning { .. } => files.first().map_or_else(|| self.path.clone(), Clone::clone),
                _ => self.path.clone(),
            };
            let line = if matches!(fault, AuditFault::Beginning { .. }) {
                1
            } else {
                line
            };
            report.add(&name_of(&at), line, fault);
        }
        if matches!(point, Some(None)) && !report.findings.iter().any(|f| f.fault == AuditFault::Head) {
            report.add(&name_of(&head_path(&self.path)), 1, AuditFault::Head);
        }
        report.entries = chain.entries;
        report.torn = chain.torn;
        report.last = chain.last.map(|last| last.n);
        Ok(report)
    }
}

/// Checks the lines of one file in memory, without a head: for tests of the reader. Returns how many entries are in it, and
/// the faults.
#[doc(hidden)]
#[must_use]
pub fn check_audit_lines(lines: &[u8], key: Option<&dyn Mac>) -> (u64, Vec<AuditFault>) {
    let mut chain = Chain::new(key, None);
    let mut faults = Vec::new();
    let ending = read_lines(io::Cursor::new(lines), |text| faults.extend(chain.take(text)));
    if matches!(ending, Ok(Ending::Torn { .. })) {
        faults.push(AuditFault::Torn);
    }
    (chain.entries, faults)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

impl AuditReport {
    /// Whether nothing is wrong. Lines torn by a crash, which the log itself speaks of, are nothing wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, file: &str, line: u64, fault: AuditFault) {
        if self.findings.len() >= MAX_FINDINGS {
            self.more_findings += 1;
            return;
        }
        self.findings.push(AuditFinding {
            file: file.to_owned(),
            line,
            detail: fault.to_string(),
            fault,
        });
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "audit log {}", self.path.display())?;
        let last = self
            .last
            .map_or_else(|| "none".to_owned(), |last| last.to_string());
        writeln!(
            f,
            "  {} files, {} entries, last line {last}",
            self.files, self.entries
        )?;
        if !self.is_keyed {
            writeln!(
                f,
                "  without the key: only form and numbers were checked, anyone may have written it"
            )?;
        }
        if self.torn > 0 {
            writeln!(
                f,
                "  {} times a crash had left half a line, which was cut off",
                self.torn
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "{} line {}: {}", finding.file, finding.line, finding.detail)?;
        }
        match self.findings.len() as u64 + self.more_findings {
            0 => f.write_str("clean"),
            1 => f.write_str("1 finding"),
            n => write!(f, "{n} findings"),
        }
    }
}

impl fmt::Debug for AuditVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditVerifier")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
