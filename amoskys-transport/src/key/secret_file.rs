//! Files with secrets, which must belong to their owner alone.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::KeyError;

/// The mode of a file that gives group or others a permission.
pub(crate) fn loose_mode(file: &File) -> io::Result<Option<u32>> {
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

/// The first bytes of a file with a secret, at most so many.
pub(crate) fn read_secret(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |source| KeyError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if let Some(mode) = loose_mode(&file).map_err(failed)? {
        return Err(KeyError::LooseMode {
            path: path.to_owned(),
            mode,
        });
    }
    // As large at once as it may become, so that no copy of a part is left behind.
    let size = file.metadata().map_err(failed)?.len().min(most);
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    file.take(most).read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn only_a_file_of_its_owner_alone_is_read_and_not_beyond_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(matches!(
            read_secret(&path, 8),
            Err(KeyError::Io { action: "read", .. })
        ));
        std::fs::write(&path, "0123456789").unwrap();
        for loose in [0o604, 0o640, 0o610, 0o4602] {
            std::fs::set_permissions(&path, Permissions::from_mode(loose)).unwrap();
            let refused = read_secret(&path, 8);
            assert!(matches!(refused, Err(KeyError::LooseMode { mode, .. }) if mode == loose));
        }
        for strict in [0o600, 0o400] {
            std::fs::set_permissions(&path, Permissions::from_mode(strict)).unwrap();
            assert_eq!(**read_secret(&path, 8).unwrap(), *b"01234567");
            assert_eq!(read_secret(&path, 80).unwrap().len(), 10);
        }
    }
}
