//! Takes certificates back before their time.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;

use super::authority::Authority;
use super::error::PkiError;
use super::site::{AUTHORITY_LIFETIME, CA, Site, io_error, read_key};
use crate::identity::files::{parse_certificates, read};
use crate::identity::{TlsError, TlsFiles};
use crate::key::replace_file;
use crate::spelling;

/// Where the certificates that were revoked are kept.
const REVOKED: &str = "revoked";
const CRL: &str = "crl.pem";

impl Site {
    /// Revokes the certificates of these names: writes `DIR/crl.pem`, a list of the authority that names them and all that
    /// were revoked before, to be copied to everybody. The certificates are kept in `DIR/revoked`; certificate and key are
    /// removed from `DIR`, so that [`make`](Self::make) draws new ones. Returns the list's file.
    ///
    /// A bus that [watches](crate::identity::Reloader::watch) its files cuts who shows such a certificate off within a
    /// second of the list's coming. Take the agent's line out of the trust map, too, if its signing key may be known.
    ///
    /// # Errors
    ///
    /// If one of them has no certificate here, the authority's key is not here, or files cannot be written. What is to be
    /// revoked is noted first, so that it may be repeated after it was interrupted.
    pub fn revoke(&self, names: &[&str]) -> Result<PathBuf, PkiError> {
        let ca = TlsFiles::in_dir(&self.dir, CA);
        let mismatch = || PkiError::Present {
            source: TlsError::Mismatch {
                certificate: ca.ca_file().to_owned(),
                key: ca.key_file().to_owned(),
            },
        };
        if !ca.key_file().exists() {
            return Err(PkiError::NoAuthorityKey {
                key: ca.key_file().to_owned(),
            });
        }
        let authority = Authority::of(&ca.authorities()?, read_key(ca.key_file())?)?.ok_or_else(mismatch)?;
        let aside = self.dir.join(REVOKED);
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&aside);
        created.map_err(|source| io_error(&aside, "created", source))?;
        let mut removed = Vec::new();
        for name in names {
            let files = TlsFiles::in_dir(&self.dir, name);
            let content = read(files.certificate_file(), false)?;
            let hash = digest(&SHA256, &content);
            let number: String = hash.as_ref()[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let to = aside.join(format!("{}-{number}.pem", spelling::spell(name)));
            replace_file(&to, &content, 0o644).map_err(|source| io_error(&to, "written", source))?;
            removed.extend([files.certificate_file().to_owned(), files.key_file().to_owned()]);
        }
        let list = authority.revoke(&all(&aside)?, AUTHORITY_LIFETIME)?;
        let path = self.dir.join(CRL);
        replace_file(&path, list.as_bytes(), 0o644).map_err(|source| io_error(&path, "written", source))?;
        for file in removed {
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error(&file, "removed", error));
                }
                _ => {}
            }
        }
        Ok(path)
    }
}

/// The certificates in a directory: of each file the first, which is the holder's own.
fn all(dir: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let failed = |source| io_error(dir, "read", source);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "pem") {
            files.push(path);
        }
    }
    files.sort();
    let mut certificates = Vec::new();
    for path in files {
        let chain = parse_certificates(&path, &read(&path, false)?)?;
        certificates.extend(chain.into_iter().next());
    }
    Ok(certificates)
}
