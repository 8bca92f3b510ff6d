//! The files of an audit log.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::AuditError;
use super::line::MAX_LINE;

/// Digits of the number in a file's name.
const DIGITS: usize = 20;

pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

pub(super) fn head_path(path: &Path) -> PathBuf {
    with_ending(path, ".head")
}

/// Where the lines from `first` on are put aside.
pub(super) fn aside_path(path: &Path, first: u64) -> PathBuf {
    with_ending(path, &format!(".{first:0DIGITS$}"))
}

fn dir_of(path: &Path) -> &Path {
    path.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(dir_of(path))?.sync_all()
}

/// The files that were put aside, by the number of their first line.
pub(super) fn list_aside(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir_of(path))? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let number = file
            .strip_prefix(&name)
            .and_then(|rest| rest.strip_prefix('.'))
            .filter(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(first) = number.and_then(|digits| digits.parse().ok()) {
            found.push((first, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn read_head(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    match File::open(head_path(path)) {
        Ok(file) => file.take(MAX_LINE as u64).read_to_end(&mut content)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if content.last() == Some(&b'\n') {
        content.pop();
    }
    Ok(Some(content))
}

pub(super) fn write_head(path: &Path, line: &[u8], sync: bool) -> io::Result<()> {
    let temporary = with_ending(path, ".head.tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(line)?;
    file.write_all(b"\n")?;
    if sync {
        file.sync_data()?;
    }
    std::fs::rename(&temporary, head_path(path))
}

/// What ends the reading of a file's lines.
pub(super) enum Ending {
    /// The end of the file, behind a line feed.
    Whole,
    /// Bytes without a line feed, from this byte on.
    Torn { at: u64, bytes: u64 },
}

/// Visits the lines of a file, without their line feeds. One that is longer than a line may be is given cut off.
pub(super) fn read_lines(mut file: impl io::BufRead, mut visit: impl FnMut(&[u8])) -> io::Result<Ending> {
    let mut at = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        let limit = MAX_LINE as u64 + 1;
        io::BufRead::read_until(&mut (&mut file).take(limit), b'\n', &mut text)?;
        match text.last() {
            None => return Ok(Ending::Whole),
            Some(b'\n') => {
                visit(&text[..text.len() - 1]);
                at += text.len() as u64;
            }
            Some(_) if text.len() as u64 == limit => {
                visit(&text);
                at += text.len() as u64;
                // The rest of it, wherever it ends.
                loop {
                    let buffer = file.fill_buf()?;
                    if buffer.is_empty() {
                        break;
                    }
                    let end = buffer.iter().position(|byte| *byte == b'\n');
                    let used = end.map_or(buffer.len(), |end| end + 1);
                    file.consume(used);
                    at += used as u64;
                    if end.is_some() {
                        break;
                    }
                }
            }
            Some(_) => {
                let bytes = text.len() as u64;
                return Ok(Ending::Torn { at, bytes });
            }
        }
    }
}

pub(super) fn failed(path: &Path, action: &'static str) -> impl Fn(io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError::Io {
        path: path.clone(),
        action,
        source,
    }
}
