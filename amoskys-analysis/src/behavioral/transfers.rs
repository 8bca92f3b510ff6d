//! Connections that a login is followed by: who transfers files by FTP was let in.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::measure::BoundedMap;
use crate::sighting::Contact;
use crate::sighting::service::is_common;

/// The latest connection that may carry a file, of each client and server of FTP.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Transfers {
    latest: BoundedMap<(IpAddr, IpAddr), Timestamp>,
}

/// FTP, also over TLS.
const CONTROL: [u16; 2] = [21, 990];
/// Where a server calls back from, in active mode (RFC 959).
const BACK: u16 = 20;

impl Transfers {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            latest: BoundedMap::new(limit),
        }
    }

    pub(super) fn opened(&mut self, contact: &Contact) {
        let Contact { client, server, .. } = *contact;
        if CONTROL.contains(&contact.port) {
            self.latest.entry(&(client, server), || Timestamp::MIN);
        } else if let Some(latest) = self.latest.peek_mut(&(client, server))
            && !is_common(contact.port)
        {
            *latest = contact.start;
        } else if contact.client_port == BACK
            && let Some(latest) = self.latest.peek_mut(&(server, client))
        {
            *latest = contact.start;
        }
    }

    /// Whether something was transferred since this connection began.
    pub(super) fn during(&self, contact: &Contact) -> bool {
        CONTROL.contains(&contact.port)
            && self
                .latest
                .peek(&(contact.client, contact.server))
                .is_some_and(|latest| *latest >= contact.start)
    }
}
