//! Certificates that were revoked: whether a list says what its authority said.

use std::path::Path;

use amoskys_core::BoxError;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::error::TlsError;

/// Sees that each list can be read, and is signed by the authority it names, if that is one of these. One that is not
/// would make each handshake fail.
pub(super) fn check(
    path: &Path,
    lists: &[CertificateRevocationListDer<'_>],
    authorities: &[CertificateDer<'_>],
    provider: &CryptoProvider,
) -> Result<(), TlsError> {
    let authorities: Vec<Certificate> = authorities
        .iter()
        .filter_map(|authority| Certificate::from_der(authority).ok())
        .collect();
    for (index, list) in lists.iter().enumerate() {
        check_one(list, &authorities, provider).map_err(|source| TlsError::Crl {
            path: path.to_owned(),
            number: index + 1,
            source,
        })?;
    }
    Ok(())
}

fn check_one(der: &[u8], authorities: &[Certificate], provider: &CryptoProvider) -> Result<(), BoxError> {
    webpki::BorrowedCertRevocationList::from_der(der)?;
    let list = CertificateList::from_der(der)?;
    let mut reader = SliceReader::new(der)?;
    // What is signed is what is written, not what one would write.
    let signed = reader.sequence(|list| {
        let signed = list.tlv_bytes()?;
        list.tlv_bytes()?;
        list.tlv_bytes()?;
        Ok(signed)
    })?;
    let mut named = authorities
        .iter()
        .filter(|authority| authority.tbs_certificate.subject == list.tbs_cert_list.issuer)
        .peekable();
    if named.peek().is_none() {
        // That of an intermediate authority may be; who shows a certificate of it shows that of the authority, too.
        return Ok(());
    }
    for authority in named {
        if is_signed(&list, signed, authority, provider)? {
            return Ok(());
        }
    }
    Err("its authority did not sign it".into())
}

fn is_signed(
    list: &CertificateList,
    signed: &[u8],
    authority: &Certificate,
    provider: &CryptoProvider,
) -> Result<bool, BoxError> {
    let key = &authority.tbs_certificate.subject_public_key_info;
    let key_kind = contents(&key.algorithm)?;
    let signature_kind = contents(&list.signature_algorithm)?;
    let (Some(point), Some(signature)) = (key.subject_public_key.as_bytes(), list.signature.as_bytes())
    else {
        return Ok(false);
    };
    let algorithms = provider.signature_verification_algorithms.all.iter();
    Ok(algorithms
        .filter(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key_kind
                && algorithm.signature_alg_id().as_ref() == signature_kind
        })
        .any(|algorithm| algorithm.verify_signature(point, signed, signature).is_ok()))
}

/// Without the tag and length in front.
fn contents(algorithm: &AlgorithmIdentifierOwned) -> Result<Vec<u8>, BoxError> {
    let mut contents = algorithm.oid.to_der()?;
    if let Some(parameters) = &algorithm.parameters {
        contents.extend(parameters.to_der()?);
    }
    Ok(contents)
}
