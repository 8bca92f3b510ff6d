use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use amoskys_core::{Name, Remedy};
use pem_rfc7468::LineEnding;

use super::{PublicKey, TrustMap};
use crate::spelling;

/// Why a trust map cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The file cannot be read or written.
    #[error("the trust map {path} cannot be {action}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The file is too large to be a trust map.
    #[error("the trust map {path} is larger than {most} bytes", path = path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// How large it may be.
        most: u64,
    },
    /// A line is not understood. The whole file is then refused.
    #[error("{path}:{line}: {reason}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl TrustError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Fatal
    }
}

/// Names the kind of key, so that there can be others one day.
const KIND: &str = "ed25519";
/// Follows a key that signs nothing new.
const RETIRED: &str = "retired";
/// Room for a hundred thousand agents.
const MAX_FILE: u64 = 16 << 20;

impl TrustMap {
    /// Reads a trust map.
    ///
    /// ```text
    /// # NAME ed25519 KEY
    /// gateway-3 ed25519 MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
    /// # NAME ed25519 KEY retired
    /// gateway-3 ed25519 MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw= retired
    /// ```
    ///
    /// One line for each key; an agent may have several. `NAME` is percent-encoded but for letters, digits and
    /// `-._~`. `KEY` is what stands between the first and the last line of the public key's PEM file, or the 32
    /// bytes of the key in hexadecimal. A key that is `retired` signs nothing new, but its old records still verify. What
    /// follows a `#` is a comment.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or a line is not understood or says again what another says: half a trust map is
    /// not used.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TrustError> {
        let path = path.as_ref();
        let content = read(path)?;
        Self::parse(&content).map_err(|(line, reason)| TrustError::Line {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    /// Writes the trust map, in place of what is there. The file is replaced as a whole, and durable when this
    /// returns.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TrustError> {
        let path = path.as_ref();
        let mut text = String::from("# Which keys sign for whom: NAME ed25519 KEY [retired]\n");
        for (name, keys) in self.iter() {
            for key in keys {
                text.push_str(&line(name, key, self.is_retired(name, key.id())));
            }
        }
        replace_file(path, text.as_bytes(), 0o644).map_err(|source| TrustError::Io {
            path: path.to_owned(),
            action: "written",
            source,
        })
    }

    /// Adds what is missing in a file, which otherwise stays as it is. Returns the names of those that got a key.
    #[cfg_attr(
        not(feature = "pki"),
        allow(dead_code, reason = "only who makes keys adds them")
    )]
    pub(crate) fn add_to(&self, path: &Path) -> Result<Vec<Name>, TrustError> {
        let present = Self::load(path)?;
        let mut text = read(path)?;
        let mut added = Vec::new();
        for (name, keys) in self.iter() {
            for key in keys {
                if present.key(name, key.id()) != Some(key) {
                    if text.last().is_some_and(|last| *last != b'\n') {
                        text.push(b'\n');
                    }
                    text.extend_from_slice(line(name, key, self.is_retired(name, key.id())).as_bytes());
                    added.push(name.clone());
                }
            }
        }
        if !added.is_empty() {
            replace_file(path, &text, 0o644).map_err(|source| TrustError::Io {
                path: path.to_owned(),
                action: "written",
                source,
            })?;
        }
        Ok(added)
    }

    /// Reads what a file holds; in case of an error the line, from 1, and what is wrong with it.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, (usize, String)> {
        let mut trust = Self::new();
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |reason: String| (index + 1, reason);
            let line = std::str::from_utf8(line).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
            let line = line.split_once('#').map_or(line, |(before, _)| before);
            let mut fields = line.split_ascii_whitespace();
            let Some(name) = fields.next() else { continue };
            let (Some(kind), Some(key), mark, None) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                return Err(wrong(
                    "it is not of the form NAME ed25519 KEY [retired]".to_owned(),
                ));
            };
            if mark.is_some_and(|mark| mark != RETIRED) {
                return Err(wrong("behind the key there may only be: retired".to_owned()));
            }
            let name = spelling::read(name).map_err(wrong)?;
            if kind != KIND {
                return Err(wrong(
                    "keys of other kinds than ed25519 are not supported".to_owned(),
                ));
            }
            let key = parse_key(key).ok_or_else(|| {
                wrong("the key is neither 64 hexadecimal digits nor a line of a PEM public key".to_owned())
            })?;
            if trust.key(&name, key.id()).is_some() {
                return Err(wrong(
                    "an earlier line says the same; remove one of them".to_owned(),
                ));
            }
            match mark {
                Some(_) => trust.insert_retired(name, key),
                None => trust.insert(name, key),
            }
        }
        Ok(trust)
    }
}

fn line(name: &Name, key: &PublicKey, retired: bool) -> String {
    let mut text = spelling::spell(name.as_str());
    let pem = key.to_pem();
    // Of three lines, the key is the second.
    let key = pem.lines().nth(1).unwrap_or_default();
    let _ = match retired {
        true => writeln!(text, " {KIND} {key} {RETIRED}"),
        false => writeln!(text, " {KIND} {key}"),
    };
    text
}

fn parse_key(text: &str) -> Option<PublicKey> {
    if text.len() != 64 {
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
        let key = PublicKey::parse(pem.as_bytes()).ok()?;
        // Only as it is written: text that says the same in another way is not looked for.
        let (_, der) = pem_rfc7468::decode_vec(pem.as_bytes()).ok()?;
        let written = pem_rfc7468::encode_string("PUBLIC KEY", LineEnding::LF, &der).ok()?;
        return (written == pem).then_some(key);
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(PublicKey::from_bytes(bytes))
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    let mut content = Vec::new();
    let result = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content));
    result.map_err(|source| TrustError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    if content.len() as u64 > MAX_FILE {
        return Err(TrustError::Size {
            path: path.to_owned(),
            most: MAX_FILE,
        });
    }
    Ok(content)
}

/// Writes a file in place of what is there: the old content or the new, never something between.
pub(crate) fn replace_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = dir.join(name);
    // Who finds it half written must not have more rights than on the whole.
    let _ = std::fs::remove_file(&temporary);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const HEX: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    #[test]
    fn comes_back_as_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust");
        let trust = TrustMap::new()
            .allow("a", PublicKey::from_bytes([1; 32]))
            .retire("a", PublicKey::from_bytes([2; 32]))
            .allow("ward 3 #é", PublicKey::from_bytes([3; 32]));
        trust.save(&path).unwrap();
        assert_eq!(TrustMap::load(&path).unwrap(), trust);
        TrustMap::new().save(&path).unwrap();
        assert!(TrustMap::load(&path).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn reads_both_forms_of_a_key_and_comments() {
        let text = format!("# all of us\n\n  a ed25519 {KEY} # first\r\nb\ted25519\t{HEX}\nc ed25519 {KEY}");
        let trust = TrustMap::parse(text.as_bytes()).unwrap();
        let keys: Vec<_> = trust.iter().map(|(_, keys)| keys[0]).collect();
        assert_eq!(keys.len(), 3);
        assert!(keys.iter().all(|key| *key == keys[0]));
        // RFC 8032, section 7.1, test 1.
        assert_eq!(keys[0].as_bytes()[..3], [0xd7, 0x5a, 0x98]);
    }

    #[test]
    fn says_which_line_is_wrong() {
        let first = format!("a ed25519 {KEY}\n");
        for second in [
            "b".to_owned(),
            "b ed25519".to_owned(),
            format!("b ed25519 {KEY} more"),
            format!("b ed25519 {KEY} retired again"),
            format!("b rsa {KEY}"),
            format!("b c ed25519 {KEY}"),
            format!("b% ed25519 {KEY}"),
            format!("%62 ed25519 {KEY}"),
            format!("é ed25519 {KEY}"),
            format!("b ed25519 {}", &KEY[1..]),
            format!("b ed25519 {}", KEY.replace("Ro=", "Rp=")),
            format!("b ed25519 {}", &HEX[1..]),
            format!("b ed25519 g{}", &HEX[1..]),
            format!("a ed25519 {HEX}"),
        ] {
            let (line, reason) = TrustMap::parse(format!("{first}{second}\n{first}").as_bytes()).unwrap_err();
            assert_eq!(line, 2, "{second}: {reason}");
        }
        assert_eq!(TrustMap::parse(b"\n\n\xff").unwrap_err().0, 3);
    }

    #[test]
    fn names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust");
        let missing = TrustMap::load(&path).unwrap_err();
        assert!(matches!(&missing, TrustError::Io { .. }) && missing.to_string().contains("trust"));
        std::fs::write(&path, "x\n").unwrap();
        let error = TrustMap::load(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:1: ", path.display())), "{error}");
    }

    #[cfg(feature = "pki")]
    #[test]
    fn adds_what_is_missing_and_leaves_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust");
        std::fs::write(&path, format!("# ours\na ed25519 {HEX} # by hand")).unwrap();
        let a = parse_key(HEX).unwrap();
        let trust = TrustMap::new()
            .allow("a", a)
            .allow("b", PublicKey::from_bytes([7; 32]));
        assert_eq!(trust.add_to(&path).unwrap(), [Name::from("b")]);
        assert!(trust.add_to(&path).unwrap().is_empty());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# ours\n") && text.contains("# by hand\nb ed25519 "),
            "{text}"
        );
        assert_eq!(TrustMap::load(&path).unwrap(), trust);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = TrustMap::parse(&bytes);
        }

        #[test]
        fn any_change_of_a_line_is_read_or_refused(
            at in 0..90_usize, byte in any::<u8>(), insert in any::<bool>(),
        ) {
            let mut text = format!("gateway-3 ed25519 {KEY}\n").into_bytes();
            let at = at % text.len();
            if insert { text.insert(at, byte) } else { text[at] = byte }
            let good = parse_key(KEY).unwrap();
            if let Ok(trust) = TrustMap::parse(&text) {
                let count = trust.iter().count();
                prop_assert!(count <= 1);
                // A changed key is another key, never the same in disguise.
                let same_name = trust.key(&"gateway-3".into(), good.id());
                prop_assert!(same_name.is_none_or(|key| *key == good));
            }
        }

        #[test]
        fn any_map_comes_back(entries in proptest::collection::vec(("\\PC{1,20}", any::<[u8; 32]>()), 0..8)) {
            let mut trust = TrustMap::new();
            for (name, key) in &entries {
                if spelling::check(name).is_ok() {
                    match key[0] % 2 {
                        0 => trust.insert(Name::from(name.as_str()), PublicKey::from_bytes(*key)),
                        _ => trust.insert_retired(Name::from(name.as_str()), PublicKey::from_bytes(*key)),
                    }
                }
            }
            let text: String = trust
                .iter()
                .flat_map(|(name, keys)| keys.iter().map(|key| line(name, key, trust.is_retired(name, key.id()))).collect::<Vec<_>>())
                .collect();
            prop_assert_eq!(TrustMap::parse(text.as_bytes()).unwrap(), trust);
        }
    }
}
