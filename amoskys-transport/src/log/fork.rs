//! Two notes in a log's directory: that the log and the bus went different ways, and which streams were given up for
//! that reason. Lines of text, the last of which is the checksum of the others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use amoskys_core::{BoxError, Class, Digest, Epoch, Seq};

use crate::seal::Head;
use crate::wal::segment::sync_dir;

/// The note of a publisher that the bus has other records; acted upon when the log is opened.
pub(crate) const FORK_FILE: &str = "fork";
/// The streams that were given up.
pub(crate) const RETIRED_FILE: &str = "retired";

const FORK_TITLE: &str = "amoskys fork 1";
const RETIRED_TITLE: &str = "amoskys retired 1";
/// Notes are short.
const MAX_FILE: u64 = 1 << 20;

/// Ends of streams.
pub(crate) type Ends = BTreeMap<(Epoch, Class), Head>;

/// What is to be done about a fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForkRequest {
    /// The epoch that went different ways.
    pub(crate) old: Epoch,
    /// The one that takes its place, once it was drawn.
    pub(crate) new: Option<Epoch>,
    /// Up to where the bus has the same, for each class; what is behind is to be sealed again.
    pub(crate) shared: BTreeMap<Class, Head>,
    /// How far the bus has the streams.
    pub(crate) bus: BTreeMap<Class, Head>,
}

impl ForkRequest {
    /// Puts the note into a log's directory. It is durable when this returns.
    pub(crate) fn write(&self, log_dir: &Path) -> io::Result<()> {
        let mut lines = format!("{FORK_TITLE}\nold {}\n", self.old);
        if let Some(new) = self.new {
            let _ = writeln!(lines, "new {new}");
        }
        for (word, heads) in [("shared", &self.shared), ("bus", &self.bus)] {
            for (class, head) in heads {
                let _ = writeln!(lines, "{word} {class} {} {}", head.next, head.digest);
            }
        }
        write_note(log_dir, FORK_FILE, lines)
    }

    /// The note in a log's directory, if there is one.
    pub(crate) fn read(log_dir: &Path) -> Result<Option<Self>, BoxError> {
        let Some(lines) = read_note(log_dir, FORK_FILE, FORK_TITLE)? else {
            return Ok(None);
        };
        let (mut old, mut new) = (None, None);
        let (mut shared, mut bus) = (BTreeMap::new(), BTreeMap::new());
        for line in lines.lines() {
            match line.split_once(' ') {
                Some(("old", epoch)) => old = Some(parse_epoch(epoch).ok_or("an epoch in it is damaged")?),
                Some(("new", epoch)) => new = Some(parse_epoch(epoch).ok_or("an epoch in it is damaged")?),
                Some(("shared", rest)) => {
                    shared.extend([parse_head(rest).ok_or("a stream in it is damaged")?])
                }
                Some(("bus", rest)) => bus.extend([parse_head(rest).ok_or("a stream in it is damaged")?]),
                _ => return Err("it holds a line that is not known".into()),
            }
        }
        let old = old.ok_or("it names no epoch")?;
        Ok(Some(Self {
            old,
            new,
            shared,
            bus,
        }))
    }

    /// Takes the note away.
    pub(crate) fn remove(log_dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(log_dir.join(FORK_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_dir(log_dir),
        }
    }
}

/// Where streams were given up.
pub(crate) fn read_retired(log_dir: &Path) -> Result<Ends, BoxError> {
    let lines = read_note(log_dir, RETIRED_FILE, RETIRED_TITLE)?.unwrap_or_default();
    let ends = lines.lines().map(|line| {
        let (epoch, rest) = line.split_once(' ')?;
        let (class, head) = parse_head(rest)?;
        Some(((parse_epoch(epoch)?, class), head))
    });
    let ends: Option<_> = ends.collect();
    ends.ok_or_else(|| "a stream in it is damaged".into())
}

/// Writes down where streams were given up. It is durable when this returns.
pub(crate) fn write_retired(log_dir: &Path, ends: &Ends) -> io::Result<()> {
    let mut lines = format!("{RETIRED_TITLE}\n");
    for ((epoch, class), head) in ends {
        let _ = writeln!(lines, "{epoch} {class} {} {}", head.next, head.digest);
    }
    write_note(log_dir, RETIRED_FILE, lines)
}

fn write_note(log_dir: &Path, name: &str, mut lines: String) -> io::Result<()> {
    let crc = crc32fast::hash(lines.as_bytes());
    let _ = writeln!(lines, "{crc:08x}");
    let temporary = log_dir.join(format!("{name}.tmp"));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(lines.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, log_dir.join(name))?;
    sync_dir(log_dir)
}

/// What stands between the title and the checksum.
fn read_note(log_dir: &Path, name: &str, title: &str) -> Result<Option<String>, BoxError> {
    let mut text = String::new();
    let read = File::open(log_dir.join(name))
        .and_then(|file| io::Read::read_to_string(&mut io::Read::take(file, MAX_FILE), &mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let body = text.strip_suffix('\n').unwrap_or(&text);
    let (body, crc) = body.rsplit_once('\n').ok_or("it is cut off")?;
    // With the line break, as it was written.
    let body = &text[..body.len() + 1];
    if format!("{:08x}", crc32fast::hash(body.as_bytes())) != crc {
        return Err("its checksum does not match".into());
    }
    let lines = body
        .strip_prefix(title)
        .and_then(|lines| lines.strip_prefix('\n'));
    let lines = lines.ok_or("it is of another version")?;
    Ok(Some(lines.to_owned()))
}

fn parse_epoch(text: &str) -> Option<Epoch> {
    let (counter, random) = text.split_once('-')?;
    let random = u128::from_str_radix(random, 16)
        .ok()
        .filter(|_| random.len() == 32)?;
    Some(Epoch {
        counter: counter.parse().ok()?,
        random,
    })
}

/// `CLASS NEXT DIGEST`.
fn parse_head(text: &str) -> Option<(Class, Head)> {
    let mut words = text.split(' ');
    let name = words.next()?;
    let class = Class::ALL.into_iter().find(|class| class.as_str() == name)?;
    let next = Seq(words.next()?.parse().ok()?);
    let digest: Digest = words.next()?.parse().ok()?;
    words.next().is_none().then_some((class, Head { next, digest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ForkRequest {
        let head = |next: u64| Head {
            next: Seq(next),
            digest: Digest([7; 32]),
        };
        ForkRequest {
            old: Epoch {
                counter: 3,
                random: 9,
            },
            new: None,
            shared: BTreeMap::from([(Class::Telemetry, head(5)), (Class::Audit, head(0))]),
            bus: BTreeMap::from([(Class::Telemetry, head(8))]),
        }
    }

    #[test]
    fn notes_come_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ForkRequest::read(dir.path()).unwrap(), None);
        assert!(read_retired(dir.path()).unwrap().is_empty());
        let mut request = sample();
        request.write(dir.path()).unwrap();
        assert_eq!(ForkRequest::read(dir.path()).unwrap(), Some(request.clone()));
        request.new = Some(Epoch {
            counter: 4,
            random: u128::MAX,
        });
        request.write(dir.path()).unwrap();
        assert_eq!(ForkRequest::read(dir.path()).unwrap(), Some(request.clone()));
        ForkRequest::remove(dir.path()).unwrap();
        ForkRequest::remove(dir.path()).unwrap();
        assert_eq!(ForkRequest::read(dir.path()).unwrap(), None);
        let ends: Ends = request
            .shared
            .iter()
            .map(|(class, head)| ((request.old, *class), *head))
            .collect();
        write_retired(dir.path(), &ends).unwrap();
        assert_eq!(read_retired(dir.path()).unwrap(), ends);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        sample().write(dir.path()).unwrap();
        let good = std::fs::read(dir.path().join(FORK_FILE)).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(dir.path().join(FORK_FILE), bytes).unwrap();
            // Without its last line break it says the same.
            let read = ForkRequest::read(dir.path());
            assert!(read.is_err(), "bit {bit}: {read:?}");
        }
        for len in 0..good.len() - 1 {
            std::fs::write(dir.path().join(FORK_FILE), &good[..len]).unwrap();
            assert!(ForkRequest::read(dir.path()).is_err(), "cut to {len}");
        }
    }
}
