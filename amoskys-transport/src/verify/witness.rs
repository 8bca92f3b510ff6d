//! What a bus has seen of the streams of a log: the heads that it signs again and again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amoskys_core::event::AuditEntry;
use amoskys_core::{Class, Digest, Name, Open as _, Payload, Timestamp};
use bytes::Bytes;

use super::files::public_key;
use super::inspector::Keys;
use super::run::{Given, VerifyError};
use crate::key::{PublicKey, TrustMap};
use crate::log::anchor::StoredAnchor;
use crate::log::trail::{Item, walk_log};
use crate::log::{KEYS_DIR, LOG_DIR};
use crate::seal::header::{RawHeader, RecordKind, sha256};
use crate::seal::opener::{Signed, check_key};
use crate::seal::{Keyring, Opener};
use crate::wal::LogKeys;
use crate::wal::walk::Depth;

/// The source of the batches of heads in a bus's audit stream.
pub(crate) const HEADS_SOURCE: &str = "bus/heads";
/// The action of each entry in them.
pub(crate) const HEAD_ACTION: &str = "stream.head";
/// Begins an exported file.
const TITLE: &[u8] = b"amoskys heads 1\n";
/// No record of heads is larger.
const MAX_RECORD: u32 = 4 << 20;
/// Most heads that are kept in memory; of more, the newest are.
const MAX_POINTS: usize = 1 << 20;

/// The reason of an entry about a head.
#[cfg(feature = "bus")]
pub(crate) fn head_text(next: u64, digest: &Digest) -> String {
    format!("next {next} digest {digest}")
}

fn parse_head(text: &str) -> Option<(u64, Digest)> {
    let rest = text.strip_prefix("next ")?;
    let (next, digest) = rest.split_once(" digest ")?;
    Some((next.parse().ok()?, digest.parse().ok()?))
}

/// Where the heads are that a bus has signed: its data directory, a copy of its log, or a file that was
/// [exported](Self::export) from one.
#[derive(Clone, Debug)]
pub struct Anchors {
    path: PathBuf,
    trust: TrustMap,
    keys: Vec<PublicKey>,
    log_keys: Option<Given>,
}

/// What a bus has seen: input of [`Verifier::anchors`](super::Verifier::anchors).
#[derive(Clone, Debug, Default)]
pub struct SeenHeads {
    pub(super) path: PathBuf,
    pub(super) bus: String,
    pub(super) key: String,
    pub(super) is_key_from_beside: bool,
    pub(super) records: u64,
    pub(super) not_believed: u64,
    pub(super) dropped: u64,
    pub(super) unreadable: u64,
    /// By stream, as `AGENT/CLASS@EPOCH`, and the number of the next event.
    pub(super) streams: BTreeMap<String, BTreeMap<u64, Seen>>,
}

/// What a stream was like when the bus looked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) digest: Digest,
    /// By the bus's clock.
    pub(super) at: Timestamp,
}

impl Anchors {
    /// Heads in the data directory of a bus, in its log directory, or in an exported file. Without further keys, the
    /// public key beside the log is believed.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            trust: TrustMap::new(),
            keys: Vec::new(),
            log_keys: None,
        }
    }

    /// Believes this key of the bus.
    #[must_use]
    pub fn key(mut self, key: PublicKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Believes the keys that this map has for the bus's name.
    #[must_use]
    pub fn trust(mut self, trust: TrustMap) -> Self {
        self.trust = trust;
        self
    }

    /// Opens the log of the bus with these keys, if it is encrypted.
    #[must_use]
    pub fn log_keys(mut self, keys: Arc<dyn LogKeys>) -> Self {
        self.log_keys = Some(Given(keys));
        self
    }

    /// Reads them. Those whose signature is not believed are counted, and so are records that cannot be read.
    ///
    /// # Errors
    ///
    /// If the files cannot be read, there is no key to believe, or all there is of heads is encrypted with a key that is not
    /// known.
    pub fn read(&self) -> Result<SeenHeads, VerifyError> {
        let mut reading = self.begin()?;
        let unreadable = self.walk(&mut |record| {
            reading.take(record);
            Ok(())
        })?;
        self.finish(reading, unreadable)
    }

    /// Writes all records of heads to a file that must not exist, to be kept where the bus's log cannot be altered. Returns
    /// how many. The file is not encrypted: it says how the streams are called and how many events they have.
    ///
    /// # Errors
    ///
    /// As with [`read`](Self::read), or if the file cannot be written.
    pub fn export(&self, to: impl AsRef<Path>) -> Result<u64, VerifyError> {
        let to = to.as_ref();
        let mut reading = self.begin()?;
        let file = OpenOptions::new().write(true).create_new(true).open(to);
        let mut out = BufWriter::new(file.map_err(failed(to))?);
        out.write_all(TITLE).map_err(failed(to))?;
        let unreadable = self.walk(&mut |record| {
            if reading.take(record) {
                let len = u32::try_from(record.len()).unwrap_or(u32::MAX);
                out.write_all(&len.to_le_bytes())
                    .and_then(|()| out.write_all(record))
                    .map_err(failed(to))?;
            }
            Ok(())
        })?;
        let written = out.into_inner().map_err(|error| error.into_error());
        written.and_then(|file| file.sync_all()).map_err(failed(to))?;
        Ok(self.finish(reading, unreadable)?.records)
    }

    fn finish(&self, reading: Reading<'_>, unreadable: u64) -> Result<SeenHeads, VerifyError> {
        let mut seen = reading.seen;
        if seen.records + seen.not_believed == 0 && unreadable > 0 {
            return Err(VerifyError::Locked {
                dir: self.path.clone(),
                records: unreadable,
            });
        }
        seen.unreadable = unreadable;
        Ok(seen)
    }

    fn log_dir(&self) -> PathBuf {
        let below = self.path.join(LOG_DIR);
        if below.is_dir() { below } else { self.path.clone() }
    }

    fn begin(&self) -> Result<Reading<'_>, VerifyError> {
        let mut any = self.keys.clone();
        let keyring = Keyring::default();
        let (mut is_key_from_beside, mut bus) = (false, None);
        if self.path.is_dir() {
            let log = self.log_dir();
            let stored = StoredAnchor::read(&log).ok();
            if let Some(stored) = &stored {
                let known = stored.anchor.hand_overs.iter();
                known.for_each(|proof| keyring.observe(proof));
            }
            bus = stored.as_ref().map(|stored| stored.anchor.agent.to_string());
            let is_known = stored.is_some_and(|stored| self.trust.knows(&stored.anchor.agent));
            if any.is_empty() && !is_known {
                let keys = log.parent().unwrap_or(Path::new(".")).join(KEYS_DIR);
                any.extend(public_key(&keys));
                is_key_from_beside = true;
            }
        }
        if any.is_empty() && self.trust.is_empty() {
            return Err(VerifyError::NoKey {
                dir: self.path.clone(),
            });
        }
        Ok(Reading {
            trust: &self.trust,
            any,
            keyring,
            seen: SeenHeads {
                path: self.path.clone(),
                is_key_from_beside,
                bus: bus.unwrap_or_default(),
                ..SeenHeads::default()
            },
            points: 0,
        })
    }

    /// Visits every record; how many cannot be read.
    fn walk(&self, visit: &mut dyn FnMut(&[u8]) -> Result<(), VerifyError>) -> Result<u64, VerifyError> {
        if !self.path.is_dir() {
            return self.walk_file(visit).map(|()| 0);
        }
        let log = self.log_dir();
        let log_keys = self.log_keys.as_ref().map(|given| &*given.0);
        let (mut result, mut unreadable) = (Ok(()), 0);
        walk_log(
            &log,
            Depth::Records,
            u64::MAX,
            log_keys,
            &mut |_, item| match item {
                Item::Record { found, record } if found.intact && result.is_ok() => result = visit(record),
                Item::Record { found, .. } if found.intact => {}
                Item::Record { .. } | Item::Locked(_) => unreadable += 1,
                _ => {}
            },
        )
        .map_err(failed(&log))?;
        result.map(|()| unreadable)
    }

    fn walk_file(&self, visit: &mut dyn FnMut(&[u8]) -> Result<(), VerifyError>) -> Result<(), VerifyError> {
        let failed = |error| failed(&self.path)(error);
        let mut file = BufReader::new(File::open(&self.path).map_err(failed)?);
        let mut title = [0; TITLE.len()];
        let invalid = |reason: &str| failed(io::Error::new(io::ErrorKind::InvalidData, reason));
        file.read_exact(&mut title).map_err(failed)?;
        if title != *TITLE {
            return Err(invalid("it is no file of heads"));
        }
        loop {
            let mut len = [0; 4];
            match file.read_exact(&mut len) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                result => result.map_err(failed)?,
            }
            let len = u32::from_le_bytes(len);
            if len > MAX_RECORD {
                return Err(invalid("a record in it is too long"));
            }
            let mut record = Vec::new();
            (&mut file)
                .take(len.into())
                .read_to_end(&mut record)
                .map_err(failed)?;
            visit(&record)?;
        }
    }
}

struct Reading<'a> {
    trust: &'a TrustMap,
    any: Vec<PublicKey>,
    keyring: Keyring,
    seen: SeenHeads,
    points: usize,
}

impl Reading<'_> {
    /// Takes a record. Whether it is one of heads, or one that is needed to believe them.
    fn take(&mut self, record: &[u8]) -> bool {
        let Ok(header) = RawHeader::parse(record) else {
            return false;
        };
        let is_hand_over = header.kind() == RecordKind::HandOver;
        let is_heads = header.kind() == RecordKind::Batch
            && header.source == HEADS_SOURCE
            && matches!(header.class(), Ok(Class::Audit));
        if !is_heads && !is_hand_over {
            return false;
        }
        let keys = Keys {
            trust: self.trust,
            any: &self.any,
            keyring: &self.keyring,
        };
        let agent = Name::from(header.agent);
        let key = keys.key(&agent, header.key());
        let payload = header.payload_range(record.len()).map(|range| &record[range]);
        let is_good = check_key(&header, key.as_ref()) == Signed::Good
            && payload.is_ok_and(|payload| sha256(payload) == header.payload_digest());
        if is_hand_over {
            if is_good {
                self.keyring.observe(record);
            }
            // Of agents, too, whose keys are of no matter here.
            return is_good && self.seen.bus == header.agent;
        }
        let opened = Opener::unchecked().open(&Bytes::copy_from_slice(record));
        let Ok(opened) = opened
            .map_err(|_| ())
            .and_then(|opened| is_good.then_some(opened).ok_or(()))
        else {
            self.seen.not_believed += 1;
            return false;
        };
        self.seen.records += 1;
        self.seen.bus = header.agent.to_owned();
        self.seen.key = header.key().to_string();
        for event in opened.events {
            if let Payload::Audit(entry) = &event.payload {
                self.note(entry, event.time);
            }
        }
        true
    }

    fn note(&mut self, entry: &AuditEntry, at: Timestamp) {
        if entry.action != HEAD_ACTION {
            return;
        }
        let Some((next, digest)) = parse_head(&entry.reason) else {
            return;
        };
        let stream = self.seen.streams.entry(entry.object.clone()).or_default();
        if stream.insert(next, Seen { digest, at }).is_none() {
            self.points += 1;
        }
        if self.points > MAX_POINTS && stream.len() > 1 {
            stream.pop_first();
            self.points -= 1;
            self.seen.dropped += 1;
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> VerifyError {
    let path = path.to_owned();
    move |source| VerifyError::Io {
        path: path.clone(),
        source,
    }
}
