//! The capture files of a collector.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::capture::{CaptureError, CaptureReader};

/// A file that is a capture, or was when it was opened first.
#[derive(Debug)]
pub(crate) struct CaptureFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Its first bytes, to tell it from others.
    pub(super) beginning: Vec<u8>,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum FileError {
    Open { path: PathBuf, source: io::Error },
    Capture { path: PathBuf, source: CaptureError },
}

/// Bytes of each file that go into the events' origin.
const BEGINNING_BYTES: u64 = 4096;

impl CaptureFile {
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let path = path.to_owned();
        let read = |path: &Path| -> io::Result<(u64, Vec<u8>)> {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            let mut beginning = Vec::new();
            file.take(BEGINNING_BYTES).read_to_end(&mut beginning)?;
            Ok((bytes, beginning))
        };
        let (bytes, beginning) = match read(&path) {
            Ok(found) => found,
            Err(source) => return Err(FileError::Open { path, source }),
        };
        match CaptureReader::new(beginning.as_slice()) {
            Ok(_) => Ok(Self {
                path,
                bytes,
                beginning,
            }),
            Err(source) => Err(FileError::Capture { path, source }),
        }
    }

    /// Opens it again, to be read from its beginning.
    pub(crate) fn reader(&self) -> Result<CaptureReader<File>, FileError> {
        let file = File::open(&self.path).map_err(|source| {
            let path = self.path.clone();
            FileError::Open { path, source }
        })?;
        CaptureReader::new(file).map_err(|source| self.damaged(source))
    }

    /// It could not be read further.
    pub(crate) fn damaged(&self, source: CaptureError) -> FileError {
        let path = self.path.clone();
        FileError::Capture { path, source }
    }
}
