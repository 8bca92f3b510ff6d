use std::ffi::OsStr;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use amoskys_core::{Digest, Shutdown};
use ring::digest::{Context, SHA256};
use rustix::fs::OFlags;

/// What is known of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileFacts {
    /// What it is.
    pub kind: FileKind,
    /// Permissions, with set-user-id, set-group-id and sticky: the lower 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes; 0 for directories, whose size says nothing.
    pub size: u64,
    /// When its contents were changed, in nanoseconds since the Unix epoch, by the file system; 0 for directories,
    /// whose files are watched themselves.
    pub modified_ns: i64,
    /// SHA-256 of its contents, or of where it leads if it is a link. `None` if it has none, is too large, or may not
    /// be read.
    pub sha256: Option<Digest>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    #[default]
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Special,
}

impl FileKind {
    /// The name used in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Link => "link",
            Self::Special => "special",
        }
    }
}

/// A file is read in pieces of this size, and a stop is noticed between two.
const PIECE_BYTES: usize = 1 << 17;

impl FileFacts {
    /// Looks at a file, and reads it if it is not larger than this. Blocks.
    ///
    /// # Errors
    ///
    /// If it is not there, or its directory may not be searched. That its contents may not be read is no error.
    pub fn of(path: &Path, max_hash_bytes: u64) -> io::Result<Self> {
        Self::until_stopped(path, max_hash_bytes, &Shutdown::new())
    }

    pub(super) fn until_stopped(path: &Path, max_hash_bytes: u64, stop: &Shutdown) -> io::Result<Self> {
        let metadata = path.symlink_metadata()?;
        let mut facts = Self::of_metadata(&metadata);
        match facts.kind {
            FileKind::File => {
                // Both at once: facts of the file that is hashed, should another be put in its place now.
                if let Some((opened, digest)) = hash(path, max_hash_bytes, stop)? {
                    facts = Self::of_metadata(&opened);
                    facts.sha256 = digest;
                }
            }
            FileKind::Link => {
                let target = path.read_link()?;
                facts.sha256 = Some(Digest::of(target.as_os_str().as_bytes()));
            }
            FileKind::Directory | FileKind::Special => {}
        }
        Ok(facts)
    }

    fn of_metadata(metadata: &Metadata) -> Self {
        let kind = if metadata.is_file() {
            FileKind::File
        } else if metadata.is_dir() {
            FileKind::Directory
        } else if metadata.is_symlink() {
            FileKind::Link
        } else {
            FileKind::Special
        };
        let seconds = metadata.mtime().saturating_mul(1_000_000_000);
        let has_contents = kind == FileKind::File;
        Self {
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: if has_contents { metadata.len() } else { 0 },
            modified_ns: if has_contents {
                seconds.saturating_add(metadata.mtime_nsec())
            } else {
                0
            },
            sha256: None,
        }
    }

    /// Whether the contents are others, or it is another kind of file. Where both are hashed, times do not count.
    #[must_use]
    pub fn differs_in_contents(&self, other: &Self) -> bool {
        let same = match (self.sha256, other.sha256) {
            (Some(one), Some(other)) => one == other,
            _ => self.size == other.size && self.modified_ns == other.modified_ns,
        };
        self.kind != other.kind || !same
    }
}

/// What the file is and the digest of its contents; nothing if it may not be read or is a file no longer.
fn hash(path: &Path, max_bytes: u64, stop: &Shutdown) -> io::Result<Option<(Metadata, Option<Digest>)>> {
    // A pipe put in the place of the file must not hold us, nor a link lead us elsewhere.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
        Err(_) => return Ok(None),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.len() > max_bytes {
        return Ok(Some((metadata, None)));
    }
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; PIECE_BYTES];
    // A file that grows while it is read is not followed without end.
    let mut left = max_bytes;
    while !stop.is_triggered() {
        let bytes = match file.read(&mut piece) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if bytes == 0 {
            let digest = context.finish().as_ref().try_into().map(Digest).ok();
            return Ok(Some((metadata, digest)));
        }
        context.update(&piece[..bytes]);
        match left.checked_sub(bytes as u64) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    Ok(Some((metadata, None)))
}

/// A path as text, as events have it.
pub(super) fn text(path: &OsStr) -> String {
    path.to_string_lossy().into_owned()
}
