//! Reading below `/proc` into memory that is there already.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::ProcError;
use super::parse::number;

/// A mounted `proc`.
#[derive(Debug)]
pub(super) struct Procfs {
    path: PathBuf,
    root: OwnedFd,
}

/// Entries of directories are read in pieces of this size: about 300 processes.
const LISTING_BYTES: usize = 8192;
/// The kernel makes no larger number of processes than 4194304.
const NAME_BYTES: usize = 64;

impl Procfs {
    pub(super) fn open(path: &Path) -> Result<Self, ProcError> {
        match open_directory(CWD, path) {
            Ok(root) => Ok(Self {
                path: path.to_owned(),
                root,
            }),
            Err(source) => Err(ProcError::Root {
                path: path.to_owned(),
                source: source.into(),
            }),
        }
    }

    /// Calls with the number of each process, in no particular order.
    pub(super) fn each_pid(&self, mut with: impl FnMut(u32)) -> Result<(), ProcError> {
        // A descriptor of its own, because its place is that of the listing.
        let listing = open_directory(&self.root, c".").map_err(|source| self.error(source))?;
        each_number(&listing, &mut with).map_err(|source| self.error(source))
    }

    /// Reads a file of a process as far as the buffer goes.
    pub(super) fn read_of(&self, pid: u32, file: &str, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut name = [0; NAME_BYTES];
        let file = rustix::fs::openat(
            &self.root,
            name_of(&mut name, pid, file)?,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::read(&file, &mut buffer[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            // A file of one line is given as a whole.
            if file_is_whole(&buffer[..filled], buffer.len()) {
                break;
            }
        }
        Ok(filled)
    }

    /// Where a link of a process leads.
    pub(super) fn link_of(&self, pid: u32, link: &str) -> Result<String, Errno> {
        let mut name = [0; NAME_BYTES];
        let target = rustix::fs::readlinkat(&self.root, name_of(&mut name, pid, link)?, Vec::new())?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// Calls with the number of each file that a process has open, and where it leads.
    pub(super) fn each_open_file(&self, pid: u32, mut with: impl FnMut(&[u8])) -> Result<(), Errno> {
        let mut name = [0; NAME_BYTES];
        let listing = open_directory(&self.root, name_of(&mut name, pid, "fd")?)?;
        let mut target = [MaybeUninit::uninit(); 64];
        each_entry(&listing, |name| {
            // What was closed meanwhile is not open.
            if name.to_bytes().first() != Some(&b'.')
                && let Ok((target, _)) = rustix::fs::readlinkat_raw(&listing, name, &mut target[..])
            {
                with(target);
            }
        })
    }

    /// How many files a process has open.
    pub(super) fn open_files(&self, pid: u32) -> Result<u64, Errno> {
        let mut name = [0; NAME_BYTES];
        let listing = open_directory(&self.root, name_of(&mut name, pid, "fd")?)?;
        let mut count = 0;
        each_entry(&listing, |name| {
            count += u64::from(name.to_bytes().first() != Some(&b'.'));
        })?;
        Ok(count)
    }

    /// A file about the whole host, as far as so many bytes.
    pub(super) fn read(&self, file: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path.join(file))?
            .take(limit)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn error(&self, source: Errno) -> ProcError {
        ProcError::Root {
            path: self.path.clone(),
            source: source.into(),
        }
    }
}

/// Saves a second call for the files that are read most: they are one line, much shorter than the buffer.
fn file_is_whole(filled: &[u8], capacity: usize) -> bool {
    filled.len() < capacity / 2 && filled.ends_with(b"\n")
}

fn open_directory(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

fn each_number(listing: &OwnedFd, with: &mut impl FnMut(u32)) -> Result<(), Errno> {
    each_entry(listing, |name| {
        if let Some(pid) = number(name.to_bytes()) {
            with(pid);
        }
    })
}

fn each_entry(listing: &OwnedFd, mut with: impl FnMut(&CStr)) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); LISTING_BYTES];
    let mut entries = RawDir::new(listing, &mut buffer);
    while let Some(entry) = entries.next() {
        with(entry?.file_name());
    }
    Ok(())
}

/// `PID/file`, ended by a zero.
fn name_of<'a>(name: &'a mut [u8; NAME_BYTES], pid: u32, file: &str) -> Result<&'a CStr, Errno> {
    use std::io::Write;
    let mut rest = &mut name[..];
    write!(rest, "{pid}/{file}\0").map_err(|_| Errno::NAMETOOLONG)?;
    CStr::from_bytes_until_nul(name).map_err(|_| Errno::INVAL)
}
