//! Whether lines follow each other, across files.

use std::fmt;

use super::key::Mac;
use super::line::{self, Kind, LineFault, MAC, Point, hex};

/// What is wrong with an audit log at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditFault {
    /// It is no line of an audit log.
    Form,
    /// The line was altered, or is of another key.
    Altered,
    /// The last line has no end: a crash left it, or it was cut.
    Torn,
    /// Lines before this one are not there.
    Missing {
        /// The number that should come next.
        expected: u64,
        /// The number that comes.
        found: u64,
    },
    /// The number was there already: the line was inserted, repeated or moved.
    Repeated {
        /// The number that should come next.
        expected: u64,
        /// The number that comes.
        found: u64,
    },
    /// The number is right, but the line before is another than it says.
    Unchained,
    /// Lines at the beginning are not there, and no line says that they were deleted to make room.
    Beginning {
        /// The first that is there.
        first: u64,
    },
    /// The end is not there: the head knows of a later line, or of another one.
    CutOff {
        /// The line the head knows of.
        head: u64,
    },
    /// There is no head, or it was altered: whether the end was cut off cannot be told.
    Head,
    /// The log was not whole when it was opened to go on writing.
    Resumed {
        /// What was found then.
        why: String,
    },
}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("it is no line of an audit log"),
            Self::Altered => f.write_str("the line was altered, or is of another key"),
            Self::Torn => f.write_str("the line has no end"),
            Self::Missing { expected, found } => {
                write!(f, "lines {expected} to {} are missing", found.saturating_sub(1))
            }
            Self::Repeated { expected, found } => write!(f, "line {found} comes where {expected} should"),
            Self::Unchained => f.write_str("the line before is another than it says"),
            Self::Beginning { first } => write!(
                f,
                "the lines before {first} are missing, and none says that they were deleted to make room"
            ),
            Self::CutOff { head } => {
                write!(
                    f,
                    "the end is cut off, or was written anew: the head knows of a line {head} that is not here"
                )
            }
            Self::Head => {
                f.write_str("there is no head, or it was altered: whether the end is cut off cannot be told")
            }
            Self::Resumed { why } => write!(f, "the log was not whole when it was opened: {why}"),
        }
    }
}

/// Checks lines in the order of the files.
pub(super) struct Chain<'a> {
    key: Option<&'a dyn Mac>,
    begin: Option<(u64, String)>,
    dropped: Option<(u64, String)>,
    pub(super) last: Option<Point>,
    /// After a line that cannot be read, the next is taken as it comes.
    is_broken: bool,
    /// The first line cannot be read, which was told.
    is_begin_lost: bool,
    head: Option<Point>,
    is_head_met: bool,
    pub(super) entries: u64,
    pub(super) torn: u64,
}

impl<'a> Chain<'a> {
    pub(super) fn new(key: Option<&'a dyn Mac>, head: Option<Point>) -> Self {
        Self {
            key,
            begin: None,
            dropped: None,
            last: None,
            is_broken: false,
            is_begin_lost: false,
            head,
            is_head_met: false,
            entries: 0,
            torn: 0,
        }
    }

    /// Takes the next line, without its line feed.
    pub(super) fn take(&mut self, text: &[u8]) -> Option<AuditFault> {
        let (body, point) = match line::decode(text, self.key) {
            Ok(read) => read,
            Err(fault) => {
                self.is_broken = true;
                self.is_begin_lost |= self.begin.is_none();
                return Some(match fault {
                    LineFault::Form => AuditFault::Form,
                    LineFault::Mac => AuditFault::Altered,
                });
            }
        };
        let was_broken = std::mem::take(&mut self.is_broken);
        let fault = match (&body.kind, self.last) {
            (Kind::Resumed { why }, _) => Some(AuditFault::Resumed { why: why.clone() }),
            (_, Some(last)) => {
                let (expected, found) = (last.n.saturating_add(1), body.n);
                match found {
                    _ if found < expected => Some(AuditFault::Repeated { expected, found }),
                    // The one that could not be read was told already.
                    _ if was_broken => None,
                    _ if found > expected => Some(AuditFault::Missing { expected, found }),
                    _ => (body.prev != hex(&last.mac)).then_some(AuditFault::Unchained),
                }
            }
            (_, None) => None,
        };
        if self.begin.is_none() {
            self.begin = Some((body.n, body.prev));
        }
        if matches!(fault, Some(AuditFault::Repeated { .. })) {
            return fault;
        }
        match body.kind {
            Kind::Dropped { before, last } => self.dropped = Some((before, last)),
            Kind::Torn { .. } => self.torn += 1,
            Kind::Entry => self.entries += 1,
            Kind::Resumed { .. } => {}
        }
        self.is_head_met |= self.head == Some(point);
        self.last = Some(point);
        fault
    }

    /// After the last file: both ends.
    pub(super) fn finish(&self) -> Vec<AuditFault> {
        let mut faults = Vec::new();
        if let Some((n, prev)) = &self.begin {
            // A statement is written before the file goes: lines it names may still be there after a crash.
            let is_whole = *n == 0 && *prev == hex(&[0; MAC]);
            let is_stated = self
                .dropped
                .as_ref()
                .is_some_and(|(before, last)| before > n || (before == n && last == prev));
            if !is_whole && !is_stated && !self.is_begin_lost {
                faults.push(AuditFault::Beginning { first: *n });
            }
        }
        match self.head {
            Some(head) if !self.is_head_met => faults.push(AuditFault::CutOff { head: head.n }),
            // The first line may be there before the head.
            None if self.last.is_some_and(|last| last.n > 0) => faults.push(AuditFault::Head),
            _ => {}
        }
        faults
    }
}
