use std::fmt;

use amoskys_core::Name;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::error::IdentityError;
use crate::spelling;

/// What a process may do at a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Publishes what it collected, as itself.
    Agent,
    /// Reads what all agents published, and publishes as itself.
    Analyzer,
    /// Takes records and gives them out.
    Bus,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Analyzer, Self::Bus];

    /// As it stands in a certificate: `agent`, `analyzer` or `bus`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Analyzer => "analyzer",
            Self::Bus => "bus",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a certificate says its holder is.
///
/// ```
/// use amoskys_transport::identity::{Identity, Role};
///
/// let identity = Identity { role: Role::Agent, name: "ward 3".into() };
/// assert_eq!(identity.to_uri(), "amoskys://agent/ward%203");
/// assert_eq!(Identity::of_uri("amoskys://agent/ward%203")?, identity);
/// # Ok::<(), amoskys_transport::identity::IdentityError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What it may do.
    pub role: Role,
    /// Its name: of an agent, the one its streams carry.
    pub name: Name,
}

const SCHEME: &str = "amoskys://";

impl Identity {
    /// Who this certificate names: its only subject alternative name that is an Amoskys URI. URIs of other schemes
    /// are left aside.
    ///
    /// The certificate is believed as it is. Whether it is genuine is for the TLS handshake to say.
    ///
    /// # Errors
    ///
    /// If it is no certificate, or names nobody, several, or one in a form that is not understood.
    pub fn of_certificate(der: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let certificate = EndEntityCert::try_from(der)
            .map_err(|error| IdentityError::Certificate { source: error.into() })?;
        let mut ours = certificate.valid_uri_names().filter(|uri| is_ours(uri));
        let Some(uri) = ours.next() else {
            return Err(IdentityError::Missing);
        };
        match ours.count() {
            0 => Self::of_uri(uri),
            others => Err(IdentityError::Several { count: others + 1 }),
        }
    }

    /// Whom a URI names.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Form`] if it is not exactly as [`to_uri`](Self::to_uri) writes it.
    pub fn of_uri(uri: &str) -> Result<Self, IdentityError> {
        let wrong = |reason: String| IdentityError::Form {
            uri: shortened(uri),
            reason,
        };
        let form = || wrong("it is not of the form amoskys://ROLE/NAME".to_owned());
        let rest = uri.strip_prefix(SCHEME).ok_or_else(form)?;
        let (role, encoded) = rest.split_once('/').ok_or_else(form)?;
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role);
        let role = role.ok_or_else(|| wrong("the role is not agent, analyzer or bus".to_owned()))?;
        match spelling::read(encoded) {
            Ok(name) => Ok(Self { role, name }),
            Err(reason) => Err(wrong(reason)),
        }
    }

    /// As it stands in a certificate: `amoskys://ROLE/NAME`, the name percent-encoded but for letters, digits and
    /// `-._~`.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("{SCHEME}{}/{}", self.role, spelling::spell(self.name.as_str()))
    }
}

impl fmt::Display for Identity {
    /// As `ROLE NAME`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

fn is_ours(uri: &str) -> bool {
    let scheme = SCHEME.trim_end_matches("//");
    uri.as_bytes()
        .get(..scheme.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
}

/// What others chose is not repeated at any length.
fn shortened(uri: &str) -> String {
    const MOST: usize = 100;
    match uri.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &uri[..end]),
        None => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_every_other_form() {
        for uri in [
            "",
            "amoskys:",
            "amoskys://",
            "amoskys://agent",
            "amoskys://agent/",
            "amoskys://root/a",
            "amoskys://Agent/a",
            "AMOSKYS://agent/a",
            "amoskys://agent/a/b",
            "amoskys://agent/a%2fb",
            "amoskys://agent/%61",
            "amoskys://agent/a%",
            "amoskys://agent/a%zz",
            "amoskys://agent/a%0Ab",
            "amoskys://agent/%FF",
            "amoskys://agent/a b",
            "amoskys://agent@host/a",
        ] {
            assert!(
                matches!(Identity::of_uri(uri), Err(IdentityError::Form { .. })),
                "{uri:?}"
            );
        }
        let long = format!("amoskys://agent/{}", "a".repeat(256));
        let error = Identity::of_uri(&long).unwrap_err().to_string();
        assert!(error.len() < 300, "{error}");
    }

    #[test]
    fn says_how_to_spell_it() {
        let error = Identity::of_uri("amoskys://agent/ward 3").unwrap_err();
        assert!(error.to_string().contains("ward%203"), "{error}");
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name in "\\PC{1,60}") {
            prop_assume!(!name.chars().any(char::is_control));
            for role in Role::ALL {
                let identity = Identity { role, name: Name::from(name.as_str()) };
                prop_assert_eq!(Identity::of_uri(&identity.to_uri()).unwrap(), identity);
            }
        }

        #[test]
        fn no_text_is_read_in_two_ways(uri in "amoskys://(agent|bus|x)/.{0,40}") {
            if let Ok(identity) = Identity::of_uri(&uri) {
                prop_assert_eq!(identity.to_uri(), uri);
            }
        }
    }
}
