//! The anchor: a small signed file that says where a log begins and how far it has come, so that a log whose
//! end was cut off, or whose beginning is missing though nobody trimmed it, can be told from a whole one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use amoskys_core::{BoxError, Class, Digest, Epoch, Name, Seq, StreamId, Timestamp};

use bytes::Bytes;

use super::heads::Heads;
use crate::key::{KeyId, Signer, TrustMap};
use crate::seal::Head;
use crate::seal::hand_over::MAX_HAND_OVER;
use crate::seal::header::{class_code, sha256};
use crate::wal::format::MAX_OFFSET;
use crate::wal::segment::sync_dir;

/// Name of the anchor in the log's directory.
pub(crate) const ANCHOR_FILE: &str = "anchor";
const TEMPORARY: &str = "anchor.tmp";

const MAGIC: [u8; 4] = *b"AMSA";
const LAYOUT: u8 = 1;
const VERSION: u8 = 1;
const FIXED: usize = 72;
const STREAM: usize = 104;
const SIGNATURE: usize = 64;
const CRC: usize = 4;
/// Room for half a million streams.
const MAX_FILE: u64 = 64 << 20;
const SIGNED_AS: &[u8] = b"amoskys log anchor\n";

/// What a log was like at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// The agent whose log it is.
    pub(crate) agent: Name,
    pub(crate) epoch: Epoch,
    /// Counts the anchors of a log.
    pub(crate) generation: u64,
    /// By the wall clock; for people.
    pub(crate) written: Timestamp,
    /// The log begins here: everything below was deleted on purpose.
    pub(crate) floor: u64,
    /// First offset that was not durable yet.
    pub(crate) end: u64,
    /// Where the streams were at `floor`.
    pub(crate) base: Heads,
    /// Where the streams were at `end`.
    pub(crate) heads: Heads,
    /// Headers and signatures of the hand-overs of signing keys in the log, also of those that were deleted since.
    pub(crate) hand_overs: Vec<Bytes>,
}

/// An anchor as it was read.
#[derive(Clone, Debug)]
pub(crate) struct StoredAnchor {
    pub(crate) anchor: Anchor,
    pub(crate) key: KeyId,
    digest: Digest,
    signature: [u8; SIGNATURE],
}

/// Why there is no anchor to be used.
#[derive(Debug)]
pub(crate) enum AnchorFault {
    Missing,
    Io(io::Error),
    Damaged(&'static str),
    Version(u8),
}

impl Anchor {
    /// Writes it in the place of the one before. It is durable when this returns.
    pub(crate) fn write(&self, dir: &Path, signer: &dyn Signer) -> Result<(), BoxError> {
        let bytes = self.encode(signer)?;
        let temporary = dir.join(TEMPORARY);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&temporary, dir.join(ANCHOR_FILE))?;
        Ok(sync_dir(dir)?)
    }

    fn encode(&self, signer: &dyn Signer) -> Result<Vec<u8>, BoxError> {
        // A stream of the base is in the heads too, because streams only grow.
        let streams = &self.heads.0;
        let mut out = Vec::with_capacity(FIXED + streams.len() * (STREAM + 32) + SIGNATURE + CRC + 64);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[LAYOUT, VERSION, name_len(&self.agent)?, 0]);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.written.nanos().to_le_bytes());
        out.extend_from_slice(&self.floor.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&self.epoch.random.to_le_bytes());
        out.extend_from_slice(&self.epoch.counter.to_le_bytes());
        out.extend_from_slice(&u32::try_from(streams.len())?.to_le_bytes());
        out.extend_from_slice(&signer.public_key().id().0);
        out.extend_from_slice(self.agent.as_str().as_bytes());
        for (stream, head) in streams {
            let base = self.base.0.get(stream).copied().unwrap_or_default();
            out.extend_from_slice(&[name_len(&stream.agent)?, class_code(stream.class), 0, 0]);
            out.extend_from_slice(&stream.epoch.counter.to_le_bytes());
            out.extend_from_slice(&stream.epoch.random.to_le_bytes());
            for end in [base, *head] {
                out.extend_from_slice(&end.next.0.to_le_bytes());
                out.extend_from_slice(&end.digest.0);
            }
            out.extend_from_slice(stream.agent.as_str().as_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.hand_overs.len())?.to_le_bytes());
        for proof in &self.hand_overs {
            out.extend_from_slice(&u32::try_from(proof.len())?.to_le_bytes());
            out.extend_from_slice(proof);
        }
        let signature = signer.sign(&signed_message(&sha256(&out)))?;
        out.extend_from_slice(&signature);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(out)
    }
}

impl StoredAnchor {
    pub(crate) fn read(dir: &Path) -> Result<Self, AnchorFault> {
        let mut bytes = Vec::new();
        let read =
            File::open(dir.join(ANCHOR_FILE)).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
        match read {
            Ok(_) => Self::decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(AnchorFault::Missing),
            Err(error) => Err(AnchorFault::Io(error)),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, AnchorFault> {
        const CUT: AnchorFault = AnchorFault::Damaged("it is cut off");
        let (rest, crc) = bytes.split_last_chunk::<CRC>().ok_or(CUT)?;
        if rest.get(..4) != Some(&MAGIC[..]) {
            return Err(AnchorFault::Damaged("it does not begin as an anchor"));
        }
        if crc32fast::hash(rest) != u32::from_le_bytes(*crc) {
            return Err(AnchorFault::Damaged("its checksum does not match"));
        }
        if rest.get(4) != Some(&LAYOUT) {
            return Err(AnchorFault::Version(rest.get(4).copied().unwrap_or(0)));
        }
        let (signed, signature) = rest.split_last_chunk::<SIGNATURE>().ok_or(CUT)?;
        let mut fields = Fields(signed);
        fields.take(4 + 2)?;
        let agent_len = fields.byte()?;
        fields.byte()?;
        let (generation, written) = (fields.u64()?, fields.u64()?);
        let (floor, end) = (fields.u64()?, fields.u64()?);
        if floor > end || end > MAX_OFFSET {
            return Err(AnchorFault::Damaged("its offsets are out of range"));
        }
        let epoch = fields.epoch()?;
        let streams = fields.u32()?;
        let key = KeyId(fields.array()?);
        let agent = fields.name(agent_len)?;
        let (mut base, mut heads) = (Heads::default(), Heads::default());
        for _ in 0..streams {
            let [agent_len, class, _, _] = fields.array()?;
            let counter = fields.u32()?;
            let epoch = Epoch {
                counter,
                random: u128::from_le_bytes(fields.array()?),
            };
            let at_floor = fields.head()?;
            let at_end = fields.head()?;
            let agent = fields.name(agent_len)?;
            let class = *Class::ALL
                .iter()
                .find(|known| class_code(**known) == class)
                .ok_or(AnchorFault::Version(LAYOUT))?;
            let stream = StreamId { agent, epoch, class };
            if at_floor != Head::default() {
                base.0.insert(stream.clone(), at_floor);
            }
            heads.0.insert(stream, at_end);
        }
        let mut hand_overs = Vec::new();
        // Those that were written first end here.
        let count = if fields.0.is_empty() { 0 } else { fields.u32()? };
        for _ in 0..count {
            let len = fields.u32()? as usize;
            if len > MAX_HAND_OVER + SIGNATURE {
                return Err(AnchorFault::Damaged("a hand-over in it is too long"));
            }
            hand_overs.push(Bytes::copy_from_slice(fields.take(len)?));
        }
        // A newer version may say more behind; it is signed, and of no meaning here.
        #[expect(clippy::cast_possible_wrap, reason = "the bits of a signed number")]
        let written = Timestamp::from_nanos(written as i64);
        let anchor = Anchor {
            agent,
            epoch,
            generation,
            written,
            floor,
            end,
            base,
            heads,
            hand_overs,
        };
        Ok(Self {
            anchor,
            key,
            digest: sha256(signed),
            signature: *signature,
        })
    }

    /// Whether a trusted key of the agent signed it.
    pub(crate) fn is_signed(&self, trust: &TrustMap) -> bool {
        let key = trust.key(&self.anchor.agent, self.key);
        key.is_some_and(|key| key.verify(&signed_message(&self.digest), &self.signature))
    }
}

/// Reads fields one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], AnchorFault> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(AnchorFault::Damaged("it is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AnchorFault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn byte(&mut self) -> Result<u8, AnchorFault> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, AnchorFault> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, AnchorFault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn epoch(&mut self) -> Result<Epoch, AnchorFault> {
        let random = u128::from_le_bytes(self.array()?);
        Ok(Epoch {
            random,
            counter: self.u32()?,
        })
    }

    fn head(&mut self) -> Result<Head, AnchorFault> {
        Ok(Head {
            next: Seq(self.u64()?),
            digest: Digest(self.array()?),
        })
    }

    fn name(&mut self, len: u8) -> Result<Name, AnchorFault> {
        let text = std::str::from_utf8(self.take(len.into())?);
        text.map(Name::from)
            .map_err(|_| AnchorFault::Damaged("a name in it is no text"))
    }
}

fn name_len(name: &Name) -> Result<u8, BoxError> {
    u8::try_from(name.as_str().len()).map_err(|_| "the agent's name is over 255 bytes".into())
}

fn signed_message(digest: &Digest) -> [u8; SIGNED_AS.len() + 32] {
    let mut message = [0; SIGNED_AS.len() + 32];
    message[..SIGNED_AS.len()].copy_from_slice(SIGNED_AS);
    message[SIGNED_AS.len()..].copy_from_slice(&digest.0);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::FileSigner;

    fn stream(agent: &str, class: Class) -> StreamId {
        StreamId {
            agent: agent.into(),
            epoch: Epoch {
                counter: 1,
                random: 5,
            },
            class,
        }
    }

    fn sample() -> Anchor {
        let head = |next: u64, byte: u8| Head {
            next: Seq(next),
            digest: Digest([byte; 32]),
        };
        let base = [(stream("a", Class::Telemetry), head(10, 1))];
        let heads = [
            (stream("a", Class::Telemetry), head(30, 2)),
            (stream("a", Class::Audit), head(4, 3)),
            (stream("another", Class::Bulk), head(9, 4)),
        ];
        Anchor {
            agent: "a".into(),
            epoch: Epoch {
                counter: 1,
                random: 5,
            },
            generation: 7,
            written: Timestamp::from_secs(1_700_000_000),
            floor: 100,
            end: 250,
            base: Heads(base.into()),
            heads: Heads(heads.into()),
            hand_overs: vec![Bytes::from_static(b"proof"), Bytes::from_static(b"another")],
        }
    }

    fn signer(dir: &tempfile::TempDir) -> FileSigner {
        FileSigner::open_or_create(dir.path().join("key")).unwrap()
    }

    #[test]
    fn comes_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let signer = signer(&dir);
        let anchor = sample();
        anchor.write(dir.path(), &signer).unwrap();
        let stored = StoredAnchor::read(dir.path()).unwrap();
        assert_eq!(stored.anchor, anchor);
        assert!(stored.is_signed(&TrustMap::new().allow("a", signer.public_key())));
        assert!(!stored.is_signed(&TrustMap::new().allow("b", signer.public_key())));
    }

    #[test]
    fn what_a_newer_version_adds_is_passed_over_and_signed() {
        let dir = tempfile::tempdir().unwrap();
        let signer = signer(&dir);
        let old = sample().encode(&signer).unwrap();
        let mut bytes = old[..old.len() - SIGNATURE - CRC].to_vec();
        bytes[5] = 2;
        bytes.extend_from_slice(b"something new");
        let signature = signer.sign(&signed_message(&sha256(&bytes))).unwrap();
        bytes.extend_from_slice(&signature);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let stored = StoredAnchor::decode(&bytes).unwrap();
        assert_eq!(stored.anchor, sample());
        assert!(stored.is_signed(&TrustMap::new().allow("a", signer.public_key())));
    }

    #[test]
    fn cut_off_anywhere_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = sample().encode(&signer(&dir)).unwrap();
        for cut in 0..bytes.len() {
            assert!(StoredAnchor::decode(&bytes[..cut]).is_err());
            // Also with a checksum that is right; without only its own, it is whole.
            let cut = cut.min(bytes.len() - CRC - 1);
            let mut short = bytes[..cut].to_vec();
            short.extend_from_slice(&crc32fast::hash(&short).to_le_bytes());
            let believed = StoredAnchor::decode(&short)
                .is_ok_and(|stored| stored.is_signed(&TrustMap::new().allow("a", signer(&dir).public_key())));
            assert!(!believed, "cut to {cut}");
        }
    }
}
