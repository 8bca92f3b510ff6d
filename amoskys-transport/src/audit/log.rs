use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amoskys_core::Timestamp;
use amoskys_core::config::AuditSettings;

use super::chain::Chain;
use super::entry::Entry;
use super::error::AuditError;
use super::files::{
    Ending, aside_path, failed, head_path, list_aside, read_head, read_lines, sync_dir, write_head,
};
use super::key::{AuditKey, Mac};
use super::line::{self, Body, Kind, MAC, Point, decode_head, encode_head, hex};

/// Settings of an [`AuditLog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    max_bytes: u64,
    files: usize,
    sync: bool,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            max_bytes: 16 << 20,
            files: 8,
            sync: true,
        }
    }
}

impl AuditOptions {
    /// How large a file may become before the next is begun. Default 16 MiB, at least 128 KiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes.max(128 << 10);
        self
    }

    /// How many older files are kept. Default 8. The oldest is deleted when there are more, and a line says so.
    #[must_use]
    pub fn files(mut self, files: usize) -> Self {
        self.files = files;
        self
    }

    /// Whether a line has to be on the disk (fdatasync) before it counts as written. Default: yes.
    #[must_use]
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }
}

/// Writes an audit log.
///
/// A log that is not whole when it is opened is gone on with: a line that a crash left half written is cut off, and the log
/// says so; if lines were altered or are missing, what is there is put aside, and the first line of the next file says what
/// was found.
pub struct AuditLog {
    path: PathBuf,
    key: Arc<dyn Mac>,
    options: AuditOptions,
    state: Mutex<State>,
}

struct State {
    file: File,
    bytes: u64,
    /// Number of the first line in the file.
    first: u64,
    last: Option<Point>,
    /// A write has failed: the end of the file must be looked at before the next.
    is_torn: bool,
}

impl AuditLog {
    /// Opens the log at this path, or begins one. One process at a time may.
    ///
    /// # Errors
    ///
    /// If another process has it open, or its files cannot be read or written. That it was altered is no error.
    pub fn open(
        path: impl Into<PathBuf>,
        key: Arc<dyn Mac>,
        options: AuditOptions,
    ) -> Result<Self, AuditError> {
        let path = path.into();
        let file = open_file(&path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(AuditError::InUse { path }),
            Err(error) => return Err(failed(&path, "locked")(error.into())),
        }
        let state = State {
            file,
            bytes: 0,
            first: 0,
            last: None,
            is_torn: false,
        };
        let log = Self {
            path,
            key,
            options,
            state: Mutex::new(state),
        };
        log.recover()?;
        Ok(log)
    }

    /// The audit log that the settings ask for, `audit.jsonl` in `audit.dir`; `None` if they ask for none. Without a file
    /// for its key, one is drawn beside it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or if the key cannot be used.
    pub fn of_settings(settings: &AuditSettings) -> Result<Option<Self>, AuditError> {
        let Some(dir) = &settings.dir else { return Ok(None) };
        let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        created.map_err(failed(dir, "created"))?;
        let key = match &settings.key {
            Some(path) => AuditKey::open(path)?,
            None => AuditKey::open_or_create(dir.join("audit.key"))?,
        };
        let options = AuditOptions::default()
            .max_bytes(settings.file_bytes)
            .files(settings.files);
        Self::open(dir.join("audit.jsonl"), Arc::new(key), options).map(Some)
    }

    /// Writes an entry. It is on the disk when this returns, unless [`sync`](AuditOptions::sync) is off. Returns the number of
    /// its line. Blocks for as long as the disk needs.
    ///
    /// # Errors
    ///
    /// If the line cannot be written or authenticated. The log is as it was before; what was written of the line is cut
    /// off.
    pub fn append(&self, entry: &Entry) -> Result<u64, AuditError> {
        let mut state = self.lock();
        if state.is_torn {
            // A disk that was full, most likely.
            state
                .file
                .set_len(state.bytes)
                .map_err(failed(&self.path, "written"))?;
            state.is_torn = false;
        }
        self.rotate(&mut state)?;
        self.write(&mut state, Kind::Entry, entry)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out where the log has come to.
    fn recover(&self) -> Result<(), AuditError> {
        let mut state = self.lock();
        let aside = list_aside(&self.path).map_err(failed(&self.path, "read"))?;
        let head = read_head(&self.path).map_err(failed(&head_path(&self.path), "read"))?;
        let had_head = head.is_some();
        let head = head.and_then(|line| decode_head(&line, Some(&*self.key)).ok());
        let mut chain = Chain::new(Some(&*self.key), None);
        let mut why = None;
        // The last line of the file before is where this one goes on from.
        let before = aside.last().map(|(_, path)| path.as_path());
        let mut lines = 0_u64;
        let mut first = None;
        let mut torn = None;
        for path in before.into_iter().chain([self.path.as_path()]) {
            let is_current = path == self.path;
            let file = File::open(path).map_err(failed(path, "read"))?;
            let ending = read_lines(BufReader::new(file), |text| {
                let fault = chain.take(text);
                if is_current {
                    lines += 1;
                    if first.is_none() {
                        first = chain.last.map(|last| last.n);
                    }
                }
                let is_old = matches!(fault, Some(super::chain::AuditFault::Resumed { .. }));
                // What is wrong with the file before was said when this one was begun, or is left to who checks.
                if let Some(fault) = fault.filter(|_| !is_old && is_current) {
                    why.get_or_insert_with(|| fault.to_string());
                }
            });
            match ending.map_err(failed(path, "read"))? {
                Ending::Torn { at, bytes } if is_current => torn = Some((at, bytes)),
                Ending::Torn { .. } | Ending::Whole => {}
            }
        }
        let last = chain.last;
        match (head, last) {
            (Some(head), Some(last)) if head.n > last.n => {
                why.get_or_insert_with(|| {
                    format!("the head knows of line {}, the log ends with {}", head.n, last.n)
                });
            }
            (Some(head), None) => {
                why.get_or_insert_with(|| format!("the head knows of line {}, and there is none", head.n));
            }
            (None, Some(last)) if had_head || last.n > 0 => {
                why.get_or_insert_with(|| "there is no head, or it was altered".to_owned());
            }
            _ => {}
        }
        if let Some((at, _)) = torn {
            state.file.set_len(at).map_err(failed(&self.path, "written"))?;
            state.file.sync_all().map_err(failed(&self.path, "written"))?;
        }
        state.bytes = state.file.metadata().map_err(failed(&self.path, "read"))?.len();
        state.first = first.or(last.map(|last| last.n + 1)).unwrap_or(0);
        state.last = match (head, last) {
            (Some(head), Some(last)) if head.n > last.n => Some(head),
            (Some(head), None) => Some(head),
            (_, last) => last,
        };
        if let Some(why) = why {
            tracing::error!(log = %self.path.display(), why, "the audit log is not whole; it is put aside, and gone on with");
            if lines > 0 || state.bytes > 0 {
                self.put_aside(&mut state)?;
            }
            self.write(&mut state, Kind::Resumed { why }, &Entry::default())?;
        }
        if let Some((_, bytes)) = torn {
            self.write(&mut state, Kind::Torn { bytes }, &Entry::default())?;
        }
        Ok(())
    }

    /// Begins the next file if this one is full, and deletes the oldest if there are too many.
    fn rotate(&self, state: &mut State) -> Result<(), AuditError> {
        // A line more may come, and one that says what was deleted.
        if state.bytes < self.options.max_bytes {
            return Ok(());
        }
        self.put_aside(state)?;
        let aside = list_aside(&self.path).map_err(failed(&self.path, "read"))?;
        let surplus = aside.len().saturating_sub(self.options.files);
        if surplus == 0 {
            return Ok(());
        }
        // Where what stays goes on from stands in its first line; of a file that cannot be read, nowhere.
        let before = aside.get(surplus).map_or(state.first, |(first, _)| *first);
        let last = match aside.get(surplus) {
            Some((_, next)) => first_prev(next),
            None => state.last.map(|last| hex(&last.mac)),
        };
        if let Some(last) = last {
            self.write(state, Kind::Dropped { before, last }, &Entry::default())?;
            for (_, path) in &aside[..surplus] {
                std::fs::remove_file(path).map_err(failed(path, "deleted"))?;
            }
        }
        Ok(())
    }

    fn put_aside(&self, state: &mut State) -> Result<(), AuditError> {
        state.file.sync_all().map_err(failed(&self.path, "written"))?;
        let mut to = aside_path(&self.path, state.first);
        // One that cannot be read may have been put aside under this number.
        let mut number = state.first;
        while to.exists() {
            number += 1;
            to = aside_path(&self.path, number);
        }
        std::fs::rename(&self.path, &to).map_err(failed(&self.path, "renamed"))?;
        let file = open_file(&self.path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed(&self.path, "locked")(error.into()))?;
        sync_dir(&self.path).map_err(failed(&self.path, "written"))?;
        state.file = file;
        state.bytes = 0;
        state.first = state.last.map_or(0, |last| last.n + 1);
        Ok(())
    }

    fn write(&self, state: &mut State, kind: Kind, entry: &Entry) -> Result<u64, AuditError> {
        let n = state.last.map_or(0, |last| last.n.saturating_add(1));
        let prev = state.last.map_or([0; MAC], |last| last.mac);
        let body = Body {
            n,
            prev: hex(&prev),
            kind,
            time: u64::try_from(Timestamp::now().nanos()).unwrap_or(0),
            actor: entry.actor.clone(),
            action: entry.action.clone(),
            object: entry.object.clone(),
            outcome: entry.outcome.clone(),
            reason: entry.reason.clone(),
            attributes: entry.attributes.clone(),
        };
        let (mut line, mac) = match line::encode(&body, &*self.key) {
            Ok(encoded) => encoded,
            // Escaped, texts can become six times as long.
            Err(_) => {
                let attributes = [("left_out".to_owned(), "the texts are too long".to_owned())];
                let short = Body {
                    actor: String::new(),
                    object: String::new(),
                    reason: String::new(),
                    attributes: attributes.into(),
                    ..body
                };
                line::encode(&short, &*self.key).map_err(AuditError::Mac)?
            }
        };
        line.push(b'\n');
        let written = state
            .file
            .write_all(&line)
            .and_then(|()| match self.options.sync {
                true => state.file.sync_data(),
                false => Ok(()),
            });
        if let Err(error) = written {
            state.is_torn = true;
            return Err(failed(&self.path, "written")(error));
        }
        let point = Point { n, mac };
        state.bytes += line.len() as u64;
        state.last = Some(point);
        let head = encode_head(&point, &*self.key).map_err(AuditError::Mac)?;
        write_head(&self.path, &head, self.options.sync)
            .map_err(failed(&head_path(&self.path), "written"))?;
        Ok(n)
    }
}

fn open_file(path: &Path) -> Result<File, AuditError> {
    let opened = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path);
    opened.map_err(failed(path, "opened"))
}

/// The MAC that the first line of a file names as its predecessor's.
fn first_prev(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    let mut prev = None;
    let mut is_first = true;
    read_lines(BufReader::new(file), |text| {
        if std::mem::take(&mut is_first) {
            prev = line::decode(text, None).ok().map(|(body, _)| body.prev);
        }
    })
    .ok()?;
    prev
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
