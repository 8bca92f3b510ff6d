//! Certificates, signing keys and the trust map of a site, for a start: a certificate authority of one's own.
//!
//! [`Site`] makes in one directory all the files that a bus, its agents and its analyzers need. An [`Authority`] issues
//! single certificates, for programs that keep them elsewhere. A site that has a certificate authority already only
//! needs certificates with the URI of [`Identity::to_uri`](super::Identity::to_uri), which any authority can issue.

mod authority;
mod error;
mod revoke;
mod site;

pub use self::authority::{Authority, Issued, Request};
pub use self::error::PkiError;
pub use self::site::{Done, Site};
