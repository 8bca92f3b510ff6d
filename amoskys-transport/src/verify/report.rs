use std::fmt;
use std::path::PathBuf;

use amoskys_core::{Digest, Timestamp};
use serde::Serialize;

/// What the verifier found. [`Display`](fmt::Display) writes it for people; it serializes for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Names the form of the serialized report: `amoskys.verify/1`. Fields may be added to it.
    pub schema: &'static str,
    /// The directory.
    pub dir: PathBuf,
    /// Whose log it is, as its anchor says.
    pub agent: Option<String>,
    /// Names of the public keys whose signatures were believed.
    pub keys: Vec<String>,
    /// Whether a process had the log open meanwhile. Then only what its anchor says is durable was looked at.
    pub in_use: bool,
    /// Segment files.
    pub segments: u64,
    /// Bytes of the segment files.
    pub bytes: u64,
    /// Good records.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// Records that are encrypted with a key that was not given: only their checksums and places were checked, and of the
    /// streams nothing is known.
    pub locked_records: u64,
    /// Offset of the first record there is.
    pub first_offset: u64,
    /// Offset behind the last.
    pub next_offset: u64,
    /// The anchor, if it is genuine.
    pub anchor: Option<AnchorReport>,
    /// The streams, in order of their names.
    pub streams: Vec<StreamReport>,
    /// Signing keys that were handed over to others.
    pub hand_overs: Vec<HandOverReport>,
    /// What a bus has seen of the streams, if that was compared.
    pub seen: Option<SeenReport>,
    /// What is missing for a reason that was signed.
    pub gaps: Vec<ExplainedGap>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Findings that were counted but are not listed, because there are too many.
    pub more_findings: u64,
}

/// A genuine anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AnchorReport {
    /// When it was written, by the agent's wall clock, in nanoseconds since the Unix epoch.
    pub written: Timestamp,
    /// Everything below this offset was deleted on purpose.
    pub floor: u64,
    /// The log had come at least to this offset.
    pub end: u64,
}

/// One stream of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StreamReport {
    /// As `AGENT/CLASS@EPOCH`.
    pub stream: String,
    /// Number of the first event there is.
    pub first: u64,
    /// Number behind the last event.
    pub next: u64,
    /// Good records.
    pub records: u64,
    /// Digest of the last record: what a third party compares.
    pub digest: Digest,
}

/// A log in comparison with what a bus has seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SeenReport {
    /// Name of the bus.
    pub bus: String,
    /// Where its heads were read.
    pub path: PathBuf,
    /// Name of the key that signed the last of them.
    pub key: String,
    /// Whether that key was only known from beside the bus's log: then it is worth as much as that directory.
    pub is_key_from_beside: bool,
    /// Records of heads that were believed.
    pub records: u64,
    /// Records of heads whose signature was not believed.
    pub not_believed: u64,
    /// Older heads that were left out, because there are too many.
    pub dropped: u64,
    /// Records of the bus's log that are damaged, or encrypted with a key that is not known: there may be heads in them.
    pub unreadable: u64,
    /// The streams of this log, or of its agent.
    pub streams: Vec<SeenStream>,
}

/// A stream that a bus has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SeenStream {
    /// As `AGENT/CLASS@EPOCH`.
    pub stream: String,
    /// Number behind the last event that the bus has signed for.
    pub next: u64,
    /// Digest of the last record then.
    pub digest: Digest,
    /// When, by the bus's clock, in nanoseconds since the Unix epoch.
    pub at: Timestamp,
    /// How many heads of it there are.
    pub heads: u64,
    /// How many of them are the same in this log.
    pub agree: u64,
    /// Number behind the last event in this log; none if it does not know the stream.
    pub ends_at: Option<u64>,
    /// What follows.
    pub verdict: SeenVerdict,
}

/// What follows from a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SeenVerdict {
    /// The log has what the bus has seen.
    Agrees,
    /// All that the bus has seen was deleted here since, on purpose.
    NotComparable,
    /// The log ends before what the bus has seen.
    CutOff,
    /// The log has something else than the bus has seen.
    Rewritten,
    /// The log does not know the stream.
    Absent,
}

impl SeenVerdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::NotComparable => "cannot be compared, deleted here since",
            Self::CutOff => "CUT OFF",
            Self::Rewritten => "REWRITTEN",
            Self::Absent => "ABSENT",
        }
    }
}

/// The hand-over from one signing key to the next, which both have signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HandOverReport {
    /// Whose key it is.
    pub agent: String,
    /// Name of the old key.
    pub old: String,
    /// Name of the new one.
    pub new: String,
    /// Where the record is.
    pub place: Place,
}

/// Events that are missing for a reason that was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExplainedGap {
    /// As `AGENT/CLASS@EPOCH`.
    pub stream: String,
    /// First missing event.
    pub first: u64,
    /// Last missing event.
    pub last: u64,
    /// Why.
    pub reason: String,
    /// Where the gap record is.
    pub place: Place,
}

/// A position in the log's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Place {
    /// The file, relative to the directory.
    pub file: String,
    /// Byte in it.
    pub byte: u64,
    /// Offset of the record, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// Where.
    pub place: Place,
    /// Which stream, as `AGENT/CLASS@EPOCH`, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// First and last event number it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<(u64, u64)>,
    /// A sentence.
    pub detail: String,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// A signature is wrong, or by a key that is not trusted.
    Forged,
    /// Bytes are not what they were when they were written.
    Altered,
    /// A record stands behind one that it belongs before.
    Reordered,
    /// Numbers of a stream are there twice.
    Repeated,
    /// Records are not there, and no gap says why.
    Missing,
    /// The end of the log is cut off.
    Truncated,
    /// Something else stands where a bus has seen a record.
    Rewritten,
    /// Something belongs to another log.
    Foreign,
    /// Something is of a version this verifier does not know.
    Unsupported,
    /// A key file is not as it should be.
    Key,
}

impl FindingKind {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Altered => "altered",
            Self::Reordered => "reordered",
            Self::Repeated => "repeated",
            Self::Missing => "missing",
            Self::Truncated => "truncated",
            Self::Rewritten => "rewritten",
            Self::Foreign => "foreign",
            Self::Unsupported => "unsupported",
            Self::Key => "key",
        }
    }
}

impl Report {
    /// Whether nothing is wrong. Explained gaps are nothing wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.more_findings == 0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte {}", self.file, self.byte)?;
        self.offset
            .map_or(Ok(()), |offset| write!(f, " (record {offset})"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<11} {}: {}", self.kind.as_str(), self.place, self.detail)?;
        if let Some(stream) = &self.stream {
            write!(f, "; stream {stream}")?;
        }
        self.events
            .map_or(Ok(()), |(first, last)| write!(f, ", events {first} to {last}"))
    }
}

impl fmt::Display for SeenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bus, path, key) = (&self.bus, self.path.display(), &self.key);
        writeln!(
            f,
            "  compared with {} records of heads that bus {bus} signed with key {key}, in {path}",
            self.records
        )?;
        if self.is_key_from_beside {
            writeln!(
                f,
                "    that key was found beside them: it is worth as much as that directory"
            )?;
        }
        if self.not_believed > 0 {
            writeln!(
                f,
                "    {} more are not signed by a key that is believed",
                self.not_believed
            )?;
        }
        if self.unreadable > 0 {
            writeln!(
                f,
                "    {} records there could not be read: damaged, or encrypted with another key",
                self.unreadable
            )?;
        }
        for stream in &self.streams {
            let SeenStream {
                stream: name,
                next,
                digest,
                at,
                heads,
                agree,
                ends_at,
                verdict,
            } = stream;
            let here = ends_at.map_or("nothing of it".to_owned(), |end| {
                format!("events to before {end}")
            });
            writeln!(
                f,
                "  seen {name}: to before event {next} at {at}, digest {digest}"
            )?;
            writeln!(
                f,
                "    here: {here}; {agree} of {heads} heads are the same: {}",
                verdict.as_str()
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agent = self.agent.as_deref().unwrap_or("unknown agent");
        writeln!(f, "log of {agent} in {}", self.dir.display())?;
        let counts = (self.segments, self.bytes, self.records, self.events);
        writeln!(
            f,
            "  {} segments, {} bytes, {} good records, {} events",
            counts.0, counts.1, counts.2, counts.3
        )?;
        writeln!(
            f,
            "  offsets {} to {}, keys {}",
            self.first_offset,
            self.next_offset,
            self.keys.join(" ")
        )?;
        if let Some(anchor) = &self.anchor {
            writeln!(
                f,
                "  anchor of {}: begins at {}, reaches {}",
                anchor.written, anchor.floor, anchor.end
            )?;
        }
        if self.in_use {
            writeln!(f, "  in use by another process")?;
        }
        if self.locked_records > 0 {
            writeln!(
                f,
                "  {} records are encrypted and were not opened: signatures and chains were not checked; give the log's key",
                self.locked_records
            )?;
        }
        for stream in &self.streams {
            let (name, first, next) = (&stream.stream, stream.first, stream.next);
            writeln!(
                f,
                "  stream {name}: {} records, events {first} to before {next}",
                stream.records
            )?;
            writeln!(f, "    {}", stream.digest)?;
        }
        if let Some(seen) = &self.seen {
            seen.fmt(f)?;
        }
        for hand_over in &self.hand_overs {
            let HandOverReport {
                agent,
                old,
                new,
                place,
            } = hand_over;
            writeln!(f, "handed over {place}: key {old} of {agent} to {new}")?;
        }
        for gap in &self.gaps {
            let (stream, first, last, reason) = (&gap.stream, gap.first, gap.last, &gap.reason);
            writeln!(
                f,
                "explained   {}: events {first} to {last} of {stream} are missing, reason {reason}",
                gap.place
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.more_findings > 0 {
            writeln!(f, "and {} more", self.more_findings)?;
        }
        match self.findings.len() as u64 + self.more_findings {
            0 => write!(f, "clean"),
            1 => write!(f, "1 finding"),
            n => write!(f, "{n} findings"),
        }
    }
}
