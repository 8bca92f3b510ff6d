//! The file that counts an agent's epochs, beside its key: one line of text, `COUNTER-RANDOM CHECKSUM`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use amoskys_core::{BoxError, Epoch};
use ring::rand::{SecureRandom, SystemRandom};

/// What the file says. `None` if there is none.
///
/// # Errors
///
/// If it cannot be read, or is damaged.
pub(crate) fn read(path: &Path) -> Result<Option<Epoch>, BoxError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text)
            .map(Some)
            .ok_or_else(|| format!("{} is damaged", path.display()).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn write(path: &Path, epoch: Epoch) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let temporary = path.with_extension("epoch.tmp");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(line(epoch).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

/// The next epoch of an agent that had `before`.
pub(crate) fn draw(before: Option<Epoch>) -> Result<Epoch, BoxError> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random)?;
    let counter = before.map_or(0, |epoch| epoch.counter.saturating_add(1));
    Ok(Epoch {
        counter,
        random: u128::from_le_bytes(random),
    })
}

fn line(epoch: Epoch) -> String {
    let text = epoch.to_string();
    format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes()))
}

fn parse(text: &str) -> Option<Epoch> {
    let (counter, rest) = text.split_once('-')?;
    let random = rest.get(..32)?;
    let epoch = Epoch {
        counter: counter.parse().ok()?,
        random: u128::from_str_radix(random, 16).ok()?,
    };
    // Only as it is written, so that any change of the file is noticed.
    (line(epoch) == text).then_some(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_written_and_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.epoch");
        assert_eq!(read(&path).unwrap(), None);
        let first = draw(None).unwrap();
        write(&path, first).unwrap();
        assert_eq!(read(&path).unwrap(), Some(first));
        let second = draw(Some(first)).unwrap();
        assert_eq!((first.counter, second.counter), (0, 1));
        assert_ne!(first.random, second.random);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.epoch");
        let good = line(Epoch {
            counter: 3,
            random: 0xfeed_beef,
        });
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            assert!(read(&path).is_err(), "bit {bit}");
        }
    }
}
