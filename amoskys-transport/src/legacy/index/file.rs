//! The files of the index: one for each generation of keys, written chunk by chunk.
//!
//! ```text
//! header  magic 8, version 2, flags 2, reserved 4, epoch random 16, epoch counter 4, CRC 4
//! chunk   mark 4, length of the body 4, covered 8, floors 4, agents 4, keys 4, CRC 4, body
//! body    floors and agents: bytes of the name 1, name, time 8; keys: 16 each
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use amoskys_core::{Epoch, Name, Offset};

use super::{Key, Times};

const MAGIC: [u8; 8] = *b"AMOSIDX\0";
const VERSION: u16 = 1;
const HEADER: usize = 40;
const MARK: [u8; 4] = *b"AMLK";
const CHUNK: usize = 32;
const ENDING: &str = "keys";

/// What is to be written.
#[derive(Default)]
pub(super) struct Chunk {
    /// With the generation they belong to.
    pub(super) keys: Vec<(u64, Key)>,
    pub(super) newest: BTreeMap<u64, Times>,
}

/// A chunk that was read.
pub(super) struct ReadChunk {
    pub(super) covered: u64,
    pub(super) floors: Times,
    pub(super) newest: Times,
    pub(super) keys: Vec<Key>,
}

/// What the files of a directory hold.
pub(super) struct Loaded {
    /// In order, by number.
    pub(super) files: Vec<(u64, Vec<ReadChunk>)>,
    /// The last of them, to go on with.
    pub(super) last: Option<KeyFile>,
}

/// A file that is being written.
pub(super) struct KeyFile {
    pub(super) number: u64,
    file: File,
    /// Everything before is good.
    len: u64,
}

impl KeyFile {
    pub(super) fn create(dir: &Path, number: u64, epoch: Epoch) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 6]);
        header.extend_from_slice(&epoch.random.to_le_bytes());
        header.extend_from_slice(&epoch.counter.to_le_bytes());
        let crc = crc32fast::hash(&header);
        header.extend_from_slice(&crc.to_le_bytes());
        let options = &mut OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path(dir, number))?;
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self {
            number,
            file,
            len: HEADER as u64,
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes a chunk, durably. After an error the next takes its place.
    pub(super) fn append(
        &mut self,
        covered: Offset,
        floors: &Times,
        newest: &Times,
        keys: &[Key],
    ) -> io::Result<()> {
        let mut body = Vec::with_capacity(keys.len() * 16 + (floors.len() + newest.len()) * 40);
        for (name, time) in floors.iter().chain(newest) {
            let name = name.as_str().as_bytes();
            let len = u8::try_from(name.len()).map_err(io::Error::other)?;
            body.push(len);
            body.extend_from_slice(name);
            body.extend_from_slice(&time.to_le_bytes());
        }
        keys.iter()
            .for_each(|key| body.extend_from_slice(&key.to_le_bytes()));
        let count = |len: usize| u32::try_from(len).map(u32::to_le_bytes).map_err(io::Error::other);
        let mut chunk = Vec::with_capacity(CHUNK + body.len());
        chunk.extend_from_slice(&MARK);
        chunk.extend_from_slice(&count(body.len())?);
        chunk.extend_from_slice(&covered.0.to_le_bytes());
        chunk.extend_from_slice(&count(floors.len())?);
        chunk.extend_from_slice(&count(newest.len())?);
        chunk.extend_from_slice(&count(keys.len())?);
        let crc = checksum(&chunk, &body);
        chunk.extend_from_slice(&crc.to_le_bytes());
        chunk.extend_from_slice(&body);
        self.file.write_all_at(&chunk, self.len)?;
        self.file.sync_data()?;
        self.len += chunk.len() as u64;
        Ok(())
    }
}

/// Reads the files of a directory up to the first thing that is not as it was written, and removes what is behind it. Files
/// of another epoch belong to another log, and are removed.
pub(super) fn load(dir: &Path, epoch: Epoch) -> io::Result<Loaded> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(ENDING)) else {
            continue;
        };
        numbers.extend(stem.strip_suffix('.').and_then(|stem| stem.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let mut loaded = Loaded {
        files: Vec::new(),
        last: None,
    };
    let mut is_good = true;
    for number in numbers {
        let follows = loaded.files.last().is_none_or(|(last, _)| last + 1 == number);
        let read = match is_good && follows {
            true => read(dir, number, epoch)?,
            false => None,
        };
        let Some((chunks, file, is_whole)) = read else {
            is_good = false;
            remove(dir, number)?;
            continue;
        };
        is_good = is_whole;
        loaded.files.push((number, chunks));
        loaded.last = Some(file);
    }
    Ok(loaded)
}

pub(super) fn remove(dir: &Path, number: u64) -> io::Result<()> {
    match std::fs::remove_file(path(dir, number)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.{ENDING}"))
}

/// The good chunks of a file, and whether that is all of it. `None` if it is no file of this epoch.
fn read(dir: &Path, number: u64, epoch: Epoch) -> io::Result<Option<(Vec<ReadChunk>, KeyFile, bool)>> {
    let path = path(dir, number);
    // A file holds one generation, some megabytes.
    let bytes = std::fs::read(&path)?;
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    // A version that a flipped bit has made is no newer one.
    let is_whole = header[..8] == MAGIC && crc32fast::hash(&header[..36]).to_le_bytes() == header[36..];
    let version = u16::from_le_bytes([header[8], header[9]]);
    if is_whole && version > VERSION {
        let reason = format!(
            "{} is of a newer version ({version}); use that version, or remove the file",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    let is_ours = is_whole
        && header[16..32] == epoch.random.to_le_bytes()
        && header[32..36] == epoch.counter.to_le_bytes();
    if !is_ours {
        return Ok(None);
    }
    let mut rest = &bytes[HEADER..];
    let mut chunks = Vec::new();
    while let Some(chunk) = take_chunk(&mut rest) {
        chunks.push(chunk);
    }
    if !rest.is_empty() {
        tracing::info!(
            file = %path.display(),
            bytes = rest.len(),
            "the end of a file of idempotency keys cannot be read; they are read from the log"
        );
    }
    let len = (bytes.len() - rest.len()) as u64;
    let file = OpenOptions::new().write(true).open(&path)?;
    if !rest.is_empty() {
        file.set_len(len)?;
        file.sync_all()?;
    }
    Ok(Some((chunks, KeyFile { number, file, len }, rest.is_empty())))
}

fn take_chunk(rest: &mut &[u8]) -> Option<ReadChunk> {
    let (header, after) = rest.split_first_chunk::<CHUNK>()?;
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if header[..4] != MARK {
        return None;
    }
    let (mut body, after) = after.split_at_checked(number(4)?)?;
    if checksum(&header[..CHUNK - 4], body).to_le_bytes() != header[CHUNK - 4..] {
        return None;
    }
    let covered = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let floors = take_times(&mut body, number(16)?)?;
    let newest = take_times(&mut body, number(20)?)?;
    let (keys, others) = body.as_chunks::<16>();
    if keys.len() != number(24)? || !others.is_empty() {
        return None;
    }
    let keys = keys.iter().map(|key| Key::from_le_bytes(*key)).collect();
    *rest = after;
    Some(ReadChunk {
        covered,
        floors,
        newest,
        keys,
    })
}

fn take_times(body: &mut &[u8], count: usize) -> Option<Times> {
    let mut times = Times::new();
    for _ in 0..count {
        let (len, after) = body.split_first()?;
        let (name, after) = after.split_at_checked(usize::from(*len))?;
        let (time, after) = after.split_first_chunk::<8>()?;
        times.insert(
            Name::from(std::str::from_utf8(name).ok()?),
            u64::from_le_bytes(*time),
        );
        *body = after;
    }
    Some(times)
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(header);
    hash.update(body);
    hash.finalize()
}
