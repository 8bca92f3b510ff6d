//! Who a certificate of the predecessor names.

use amoskys_core::Name;
use rustls_pki_types::CertificateDer;
use x509_cert::attr::AttributeValue;
use x509_cert::der::asn1::{
    Ia5StringRef, ObjectIdentifier, PrintableStringRef, TeletexStringRef, Utf8StringRef,
};
use x509_cert::der::{Decode as _, Tag, Tagged as _};

use crate::identity::{Identity, IdentityError};
use crate::spelling;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The common name in a certificate's subject: exactly one. If the certificate names an identity of Amoskys too, that must
/// be the same agent.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Result<Name, String> {
    let parsed = x509_cert::Certificate::from_der(certificate)
        .map_err(|error| format!("the certificate is not understood: {error}"))?;
    let subject = &parsed.tbs_certificate.subject;
    let attributes = subject.0.iter().flat_map(|names| names.0.iter());
    let mut names = attributes.filter(|attribute| attribute.oid == COMMON_NAME);
    let name = names
        .next()
        .ok_or("the certificate has no common name; make one that has")?;
    if names.next().is_some() {
        return Err("the certificate has several common names; make one that has a single one".to_owned());
    }
    let name = text(&name.value).ok_or("the certificate's common name is no text")?;
    spelling::check(name).map_err(|reason| format!("the certificate's common name: {reason}"))?;
    match Identity::of_certificate(certificate) {
        Ok(identity) if identity.name.as_str() != name => Err(format!(
            "the certificate names {identity}, and {} as common name; make one that names one",
            name.escape_debug()
        )),
        Ok(_) | Err(IdentityError::Missing) => Ok(Name::from(name)),
        Err(error) => Err(error.to_string()),
    }
}

fn text(value: &AttributeValue) -> Option<&str> {
    match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::PrintableString => PrintableStringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::TeletexString => TeletexStringRef::try_from(value).ok().map(|text| text.as_str()),
        _ => None,
    }
}
