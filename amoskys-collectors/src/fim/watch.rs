//! The kernel's queue of changes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Directories that are watched.
#[derive(Debug)]
pub(super) struct Watches {
    queue: OwnedFd,
    by_number: HashMap<i32, PathBuf>,
}

/// What became of a directory that was to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// It is the one that was watched before.
    Already,
    /// It is another, or was not watched.
    Anew,
    /// The kernel refuses: a user may watch only so many (`fs.inotify.max_user_watches`).
    Refused,
}

/// What the kernel said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Something about this path is other than it was.
    Changed(PathBuf),
    /// It is being written, and will be changed once more.
    Writing(PathBuf),
    /// Changes were lost, because the queue was full.
    Overflow,
}

const BUFFER_BYTES: usize = 1 << 16;

impl Watches {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            queue: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            by_number: HashMap::new(),
        })
    }

    /// Watches what is in a directory.
    pub(super) fn add(&mut self, directory: &Path) -> Watched {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(&self.queue, directory, flags) {
            // A directory that was moved keeps its number.
            Ok(number) => match self.by_number.insert(number, directory.to_owned()) {
                Some(before) if before == directory => Watched::Already,
                _ => Watched::Anew,
            },
            // It is gone, which is told by its parent.
            Err(Errno::NOENT | Errno::NOTDIR) => Watched::Anew,
            Err(_) => Watched::Refused,
        }
    }

    /// Stops watching a directory and all below it.
    pub(super) fn remove(&mut self, directory: &Path) {
        let queue = &self.queue;
        self.by_number.retain(|number, path| {
            let is_below = path.starts_with(directory);
            if is_below {
                // Gone with the directory already, or not.
                let _ = inotify::remove_watch(queue, *number);
            }
            !is_below
        });
    }

    /// Waits for changes.
    pub(super) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut queue = [PollFd::new(&self.queue, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        match poll(&mut queue, Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What the queue holds now, up to so many.
    pub(super) fn read(&mut self, most: usize) -> io::Result<Vec<Notice>> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        let mut notices = Vec::new();
        // What has been read must be taken.
        while notices.len() < most || !reader.is_buffer_empty() {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let (events, number) = (event.events(), event.wd());
            if events.contains(ReadFlags::QUEUE_OVERFLOW) {
                notices.push(Notice::Overflow);
                continue;
            }
            if events.contains(ReadFlags::IGNORED) {
                self.by_number.remove(&number);
                continue;
            }
            let Some(directory) = self.by_number.get(&number) else {
                continue;
            };
            let path = match event.file_name() {
                Some(name) => directory.join(OsStr::from_bytes(name.to_bytes())),
                None => directory.clone(),
            };
            notices.push(if events == ReadFlags::MODIFY {
                Notice::Writing(path)
            } else {
                Notice::Changed(path)
            });
        }
        Ok(notices)
    }
}
