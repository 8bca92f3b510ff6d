use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use x509_cert::der::Decode;

use super::error::IdentityError;

/// From when to when a certificate may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment, to the second.
    pub not_before: SystemTime,
    /// The last moment, to the second.
    pub not_after: SystemTime,
}

impl Validity {
    /// What a certificate says.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Certificate`] if it is no certificate.
    pub fn of_certificate(der: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let certificate = x509_cert::Certificate::from_der(der)
            .map_err(|error| IdentityError::Certificate { source: error.into() })?;
        let validity = certificate.tbs_certificate.validity;
        Ok(Self {
            not_before: validity.not_before.to_system_time(),
            not_after: validity.not_after.to_system_time(),
        })
    }

    /// How much is left at a moment; `None` once it has expired.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        self.not_after.duration_since(now).ok()
    }

    /// Whether it holds at a moment.
    #[must_use]
    pub fn holds(&self, now: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}
