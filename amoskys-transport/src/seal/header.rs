//! The signed part of a sealed batch, byte by byte. `docs/formats.md` draws it.

use amoskys_core::event::GapReason;
use amoskys_core::{Class, Digest, Epoch, Name, SealError, Seq, StreamId, Timestamp};
use ring::digest::{SHA256, digest};

use crate::key::KeyId;

/// Layout this code writes and reads. Another layout may be altogether different.
const LAYOUT: u8 = 1;
/// Format version this code writes, and the newest whose every feature it knows.
pub(crate) const VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"AMSB";
/// Bytes before the agent's name.
pub(crate) const FIXED: usize = 160;
/// Bytes of the signature behind the header.
pub(crate) const SIGNATURE: usize = 64;
/// Most bytes of a header: its position and ledger are the sealer's own, but not every sealer is ours.
pub(crate) const MAX_HEADER: usize = 1 << 20;
/// Put before the digest that is signed, so that the signature is good for nothing else.
const SIGNED_AS: &[u8] = b"amoskys sealed batch\n";

/// Features of an extension that every reader must know carry this bit.
pub(crate) const CRITICAL: u16 = 0x8000;
pub(crate) const EXT_SOURCE: u16 = 1;
pub(crate) const EXT_POSITION: u16 = 2;
pub(crate) const EXT_LEDGER: u16 = 3;
pub(crate) const EXT_GAP: u16 = CRITICAL | 4;
pub(crate) const EXT_HAND_OVER: u16 = CRITICAL | 5;
/// The hand-overs from older keys to the one that signed, for readers that have not met them yet.
pub(crate) const EXT_LINEAGE: u16 = 6;
/// Old key, new key, and the signature of the new one.
pub(crate) const HAND_OVER_LEN: usize = 128;

/// What a sealed record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordKind {
    /// Events.
    Batch,
    /// The statement that events are missing, in their place.
    Gap,
    /// The hand-over to a new signing key, with one event that says so.
    HandOver,
    /// Something of a newer version.
    Unknown(u8),
}

/// The header of a sealed record: what is known of it without opening it.
///
/// The bus and the verifier work with headers alone. A header of a newer version is readable here as long as its
/// layout is the same, so that its record can be stored, chained and passed on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SealedHeader {
    /// Format version of who sealed it.
    pub version: u8,
    /// Whether it holds events or a gap.
    pub kind: RecordKind,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Number of its first event, or of the first missing one.
    pub first: Seq,
    /// How many events it holds, or how many are missing.
    pub count: u64,
    /// Time of the earliest event.
    pub earliest: Timestamp,
    /// Time of the latest event.
    pub latest: Timestamp,
    /// When it was sealed, by the sealer's wall clock. For retention and for people; decides nothing about
    /// events.
    pub sealed: Timestamp,
    /// Digest of the record before it in the stream; zeros at the start.
    pub previous: Digest,
    /// Of a gap: digest of the last missing record, which the next one names as its predecessor.
    pub gap_end: Option<Digest>,
    /// Of a gap: why the events are missing.
    pub gap_reason: Option<GapReason>,
    /// The key that signed it.
    pub key: KeyId,
    /// This record's own digest: SHA-256 of the signed bytes.
    pub digest: Digest,
    /// SHA-256 of the payload as stored.
    pub payload_digest: Digest,
    /// Bytes of the payload as stored.
    pub payload_len: u32,
}

impl SealedHeader {
    /// Reads the header of a sealed record, of which the first bytes are enough. Checks its form, not its
    /// signature.
    ///
    /// # Errors
    ///
    /// [`SealError::Damaged`] if it is malformed or cut off; [`SealError::Version`] if its layout is newer.
    pub fn parse(record: &[u8]) -> Result<Self, SealError> {
        let raw = RawHeader::parse(record)?;
        raw.to_header()
    }

    /// The number behind its last event.
    #[must_use]
    pub fn next(&self) -> Seq {
        Seq(self.first.0.saturating_add(self.count))
    }

    /// Number of its last event, or of the last missing one.
    #[must_use]
    pub fn last(&self) -> Seq {
        Seq(self.next().0.saturating_sub(1).max(self.first.0))
    }
}

/// A header with what only the opener needs, borrowed from the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawHeader<'a> {
    pub(crate) fixed: &'a [u8; FIXED],
    /// All signed bytes.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: &'a [u8; SIGNATURE],
    pub(crate) agent: &'a str,
    pub(crate) source: &'a str,
    pub(crate) position: Option<&'a [u8]>,
    pub(crate) ledger: Option<&'a [u8]>,
    gap: Option<(Digest, GapReason)>,
    hand_over: Option<&'a [u8; HAND_OVER_LEN]>,
    /// Proofs of hand-overs, each behind its length.
    pub(crate) lineage: &'a [u8],
    /// Whether it has a feature this version does not know and may not ignore.
    unknown_feature: bool,
}

impl<'a> RawHeader<'a> {
    pub(crate) fn parse(record: &'a [u8]) -> Result<Self, SealError> {
        if record.get(..4) != Some(&MAGIC[..]) {
            return Err(damaged("it does not begin as a sealed record"));
        }
        match record.get(4) {
            Some(&LAYOUT) => {}
            Some(&layout) => {
                return Err(SealError::Version {
                    found: layout.into(),
                    supported: LAYOUT.into(),
                });
            }
            None => return Err(damaged("it is cut off")),
        }
        let fixed = record
            .first_chunk::<FIXED>()
            .ok_or_else(|| damaged("its header is cut off"))?;
        let len = u32_at(fixed, 8) as usize;
        if !(FIXED..=MAX_HEADER).contains(&len) {
            return Err(damaged("the length of its header is out of range"));
        }
        let signed = record
            .get(..len)
            .ok_or_else(|| damaged("its header is cut off"))?;
        let signature = record.get(len..).and_then(|rest| rest.first_chunk());
        let signature = signature.ok_or_else(|| damaged("its signature is cut off"))?;
        let names = &signed[FIXED..];
        let agent_len = usize::from(fixed[21]);
        let agent = names
            .get(..agent_len)
            .and_then(|name| std::str::from_utf8(name).ok());
        let agent = agent.ok_or_else(|| damaged("the agent's name is no text"))?;
        let unknown_feature = u16_at(fixed, 22) != 0;
        let mut header = Self {
            fixed,
            signed,
            signature,
            agent,
            source: "",
            position: None,
            ledger: None,
            gap: None,
            hand_over: None,
            lineage: &[],
            unknown_feature,
        };
        header.read_extensions(&names[agent_len..])?;
        Ok(header)
    }

    fn read_extensions(&mut self, mut rest: &'a [u8]) -> Result<(), SealError> {
        let mut seen = [false; 7];
        while !rest.is_empty() {
            let (head, tail) = rest
                .split_first_chunk::<6>()
                .ok_or_else(|| damaged("an extension is cut off"))?;
            let kind = u16::from_le_bytes([head[0], head[1]]);
            let len = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
            let (value, tail) = tail
                .split_at_checked(len)
                .ok_or_else(|| damaged("an extension is cut off"))?;
            rest = tail;
            match kind {
                EXT_SOURCE => {
                    self.source =
                        std::str::from_utf8(value).map_err(|_| damaged("the source's name is no text"))?;
                }
                EXT_POSITION => self.position = Some(value),
                EXT_LEDGER => self.ledger = Some(value),
                EXT_GAP => self.gap = Some(read_gap(value)?),
                EXT_HAND_OVER => {
                    let value = value
                        .try_into()
                        .map_err(|_| damaged("its hand-over is not of the right length"))?;
                    self.hand_over = Some(value);
                }
                EXT_LINEAGE => self.lineage = value,
                _ => {
                    self.unknown_feature |= kind & CRITICAL != 0;
                    continue;
                }
            }
            let seen = &mut seen[usize::from(kind & !CRITICAL)];
            if std::mem::replace(seen, true) {
                return Err(damaged("an extension is there twice"));
            }
        }
        Ok(())
    }

    pub(crate) fn version(&self) -> u8 {
        self.fixed[5]
    }

    pub(crate) fn kind(&self) -> RecordKind {
        match self.fixed[6] {
            0 => RecordKind::Batch,
            1 => RecordKind::Gap,
            2 => RecordKind::HandOver,
            other => RecordKind::Unknown(other),
        }
    }

    pub(crate) fn class(&self) -> Result<Class, SealError> {
        match self.fixed[7] {
            0 => Ok(Class::Bulk),
            1 => Ok(Class::Telemetry),
            2 => Ok(Class::Alert),
            3 => Ok(Class::Audit),
            _ => Err(self.not_known("its class")),
        }
    }

    pub(crate) fn payload_len(&self) -> u32 {
        u32_at(self.fixed, 12)
    }

    pub(crate) fn raw_len(&self) -> u32 {
        u32_at(self.fixed, 16)
    }

    pub(crate) fn compression(&self) -> u8 {
        self.fixed[20]
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch {
            counter: u32_at(self.fixed, 40),
            random: u128::from_le_bytes(array_at(self.fixed, 24)),
        }
    }

    pub(crate) fn first(&self) -> Seq {
        Seq(u64_at(self.fixed, 48))
    }

    pub(crate) fn count(&self) -> u64 {
        u64_at(self.fixed, 56)
    }

    pub(crate) fn previous(&self) -> Digest {
        Digest(array_at(self.fixed, 96))
    }

    pub(crate) fn payload_digest(&self) -> Digest {
        Digest(array_at(self.fixed, 128))
    }

    pub(crate) fn key(&self) -> KeyId {
        KeyId(array_at(self.fixed, 88))
    }

    pub(crate) fn digest(&self) -> Digest {
        sha256(self.signed)
    }

    pub(crate) fn gap(&self) -> Option<(Digest, GapReason)> {
        self.gap
    }

    pub(crate) fn hand_over(&self) -> Option<&'a [u8; HAND_OVER_LEN]> {
        self.hand_over
    }

    /// The payload, if the record is as long as its header says.
    pub(crate) fn payload_range(&self, record_len: usize) -> Result<std::ops::Range<usize>, SealError> {
        let start = self.signed.len() + SIGNATURE;
        let end = start + self.payload_len() as usize;
        if end != record_len {
            return Err(damaged("its length is not what its header says"));
        }
        Ok(start..end)
    }

    /// Whether this version knows every feature of the record that may not be ignored.
    pub(crate) fn check_features(&self) -> Result<(), SealError> {
        if self.unknown_feature {
            return Err(self.not_known("a feature"));
        }
        if matches!(self.kind(), RecordKind::Unknown(_)) {
            return Err(self.not_known("its kind"));
        }
        if self.first().0.checked_add(self.count()).is_none() {
            return Err(damaged("its numbers are out of range"));
        }
        Ok(())
    }

    /// The error for something this version does not know: of a newer version, or nonsense.
    pub(crate) fn not_known(&self, what: &str) -> SealError {
        if self.version() > VERSION {
            return SealError::Version {
                found: self.version().into(),
                supported: VERSION.into(),
            };
        }
        damaged(&format!("{what} is unknown, though its version is not"))
    }

    fn to_header(self) -> Result<SealedHeader, SealError> {
        let gap = self.gap;
        if gap.is_some() != (self.kind() == RecordKind::Gap) {
            return Err(damaged("it is half a gap"));
        }
        if self.hand_over.is_some() != (self.kind() == RecordKind::HandOver) {
            return Err(damaged("it is half a hand-over"));
        }
        Ok(SealedHeader {
            version: self.version(),
            kind: self.kind(),
            stream: StreamId {
                agent: Name::from(self.agent),
                epoch: self.epoch(),
                class: self.class()?,
            },
            first: self.first(),
            count: self.count(),
            earliest: time_at(self.fixed, 64),
            latest: time_at(self.fixed, 72),
            sealed: time_at(self.fixed, 80),
            previous: self.previous(),
            gap_end: gap.map(|(end, _)| end),
            gap_reason: gap.map(|(_, reason)| reason),
            key: self.key(),
            digest: self.digest(),
            payload_digest: self.payload_digest(),
            payload_len: self.payload_len(),
        })
    }
}

/// When a record was sealed, by the clock of who sealed it.
#[cfg(feature = "sled")]
pub(crate) fn time_of(header: &RawHeader<'_>) -> Timestamp {
    time_at(header.fixed, 80)
}

/// What goes into a header. Lengths and digests are filled in when they are known.
pub(crate) struct HeaderFields<'a> {
    pub(crate) kind: u8,
    pub(crate) stream: &'a StreamId,
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) earliest: Timestamp,
    pub(crate) latest: Timestamp,
    pub(crate) previous: Digest,
    pub(crate) key: KeyId,
    pub(crate) source: &'a str,
    pub(crate) position: Option<&'a [u8]>,
    pub(crate) ledger: Option<&'a [u8]>,
    pub(crate) gap: Option<(Digest, GapReason)>,
    pub(crate) hand_over: Option<&'a [u8; HAND_OVER_LEN]>,
    /// As [`Keyring::lineage`](super::Keyring::lineage) makes it; empty if there is none.
    pub(crate) lineage: &'a [u8],
}

impl HeaderFields<'_> {
    /// Bytes of the header.
    pub(crate) fn len(&self) -> usize {
        let extension = |len: usize| 6 + len;
        FIXED
            + self.stream.agent.as_str().len()
            + extension(self.source.len())
            + self.position.map_or(0, |position| extension(position.len()))
            + self.ledger.map_or(0, |ledger| extension(ledger.len()))
            + self.gap.map_or(0, |_| extension(GAP_LEN))
            + self.hand_over.map_or(0, |_| extension(HAND_OVER_LEN))
            + match self.lineage.len() {
                0 => 0,
                len => extension(len),
            }
    }

    /// Writes the header, with room for what [`finish`] fills in.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), SealError> {
        let too_long = |reason: &str| SealError::Batch {
            reason: reason.to_owned(),
        };
        let agent = self.stream.agent.as_str();
        let agent_len =
            u8::try_from(agent.len()).map_err(|_| too_long("the agent's name is over 255 bytes"))?;
        if self.len() > MAX_HEADER {
            return Err(too_long("source, position and ledger together are over 1 MiB"));
        }
        let mut fixed = [0; FIXED];
        fixed[0..4].copy_from_slice(&MAGIC);
        fixed[4] = LAYOUT;
        fixed[5] = VERSION;
        fixed[6] = self.kind;
        fixed[7] = class_code(self.stream.class);
        fixed[8..12].copy_from_slice(&u32_of(self.len())?.to_le_bytes());
        fixed[21] = agent_len;
        fixed[24..40].copy_from_slice(&self.stream.epoch.random.to_le_bytes());
        fixed[40..44].copy_from_slice(&self.stream.epoch.counter.to_le_bytes());
        fixed[48..56].copy_from_slice(&self.first.to_le_bytes());
        fixed[56..64].copy_from_slice(&self.count.to_le_bytes());
        fixed[64..72].copy_from_slice(&self.earliest.nanos().to_le_bytes());
        fixed[72..80].copy_from_slice(&self.latest.nanos().to_le_bytes());
        fixed[80..88].copy_from_slice(&Timestamp::now().nanos().to_le_bytes());
        fixed[88..96].copy_from_slice(&self.key.0);
        fixed[96..128].copy_from_slice(&self.previous.0);
        out.extend_from_slice(&fixed);
        out.extend_from_slice(agent.as_bytes());
        put_extension(out, EXT_SOURCE, self.source.as_bytes())?;
        if let Some(position) = self.position {
            put_extension(out, EXT_POSITION, position)?;
        }
        if let Some(ledger) = self.ledger {
            put_extension(out, EXT_LEDGER, ledger)?;
        }
        if let Some((end, reason)) = self.gap {
            let mut value = [0; GAP_LEN];
            value[..32].copy_from_slice(&end.0);
            value[32] = gap_code(reason);
            put_extension(out, EXT_GAP, &value)?;
        }
        if let Some(value) = self.hand_over {
            put_extension(out, EXT_HAND_OVER, value)?;
        }
        if !self.lineage.is_empty() {
            put_extension(out, EXT_LINEAGE, self.lineage)?;
        }
        Ok(())
    }
}

/// Fills in what depends on the payload. `header` begins the record.
pub(crate) fn finish(
    header: &mut [u8],
    payload: &[u8],
    raw_len: usize,
    compression: u8,
) -> Result<(), SealError> {
    let digest = sha256(payload);
    header[12..16].copy_from_slice(&u32_of(payload.len())?.to_le_bytes());
    header[16..20].copy_from_slice(&u32_of(raw_len)?.to_le_bytes());
    header[20] = compression;
    header[128..160].copy_from_slice(&digest.0);
    Ok(())
}

/// What is signed for a record with this digest.
pub(crate) fn signed_message(digest: &Digest) -> [u8; SIGNED_AS.len() + 32] {
    let mut message = [0; SIGNED_AS.len() + 32];
    message[..SIGNED_AS.len()].copy_from_slice(SIGNED_AS);
    message[SIGNED_AS.len()..].copy_from_slice(&digest.0);
    message
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = Digest::default();
    out.0.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

pub(crate) fn damaged(reason: &str) -> SealError {
    SealError::Damaged {
        reason: reason.to_owned(),
    }
}

pub(crate) fn class_code(class: Class) -> u8 {
    match class {
        Class::Bulk => 0,
        Class::Alert => 2,
        Class::Audit => 3,
        // The enum may grow; what is new and unknown here is carried like telemetry.
        _ => 1,
    }
}

/// Digest and reason.
const GAP_LEN: usize = 33;

fn gap_code(reason: GapReason) -> u8 {
    match reason {
        GapReason::Shed => 0,
        GapReason::Quarantined => 1,
        GapReason::Expired => 2,
        GapReason::Erased => 3,
        _ => 4,
    }
}

fn read_gap(value: &[u8]) -> Result<(Digest, GapReason), SealError> {
    // Longer values are of a newer version, which says more about the gap.
    let value = value
        .first_chunk::<GAP_LEN>()
        .ok_or_else(|| damaged("its gap is cut off"))?;
    let reason = match value[32] {
        0 => GapReason::Shed,
        1 => GapReason::Quarantined,
        2 => GapReason::Expired,
        3 => GapReason::Erased,
        // A reason of a newer version is still a reason.
        _ => GapReason::LogLost,
    };
    Ok((Digest(array_at(value, 0)), reason))
}

fn put_extension(out: &mut Vec<u8>, kind: u16, value: &[u8]) -> Result<(), SealError> {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&u32_of(value.len())?.to_le_bytes());
    out.extend_from_slice(value);
    Ok(())
}

fn u32_of(len: usize) -> Result<u32, SealError> {
    u32::try_from(len).map_err(|_| SealError::Batch {
        reason: "it is over 4 GiB".to_owned(),
    })
}

fn time_at(bytes: &[u8], at: usize) -> Timestamp {
    Timestamp::from_nanos(i64::from_le_bytes(array_at(bytes, at)))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
