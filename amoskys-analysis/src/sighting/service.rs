//! What a server port, or the first bytes of a conversation, say about the service.

use amoskys_core::event::FlowRecord;

use super::Contact;
use super::login::is_unauthorized;

/// IP protocol numbers.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// What kind of service it is, as far as repeated connections to it mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceKind {
    /// A person or program logs in at the start of each connection; programs keep the connection afterwards.
    Login,
    /// Remote procedure calls and file shares of an operating system: it reaches deep, and honest clients
    /// connect a few times at most.
    Remote,
    /// Anything else.
    Other,
}

impl ServiceKind {
    /// By the port (IANA's registry), or by the greeting of a server that has moved to another port.
    ///
    /// Directory services, databases and mail relays (389, 3306, 25 and the like) are `Other`: they ask
    /// for a login, but honest programs connect to them anew for each request.
    pub(crate) fn of(contact: &Contact, flow: &FlowRecord) -> Self {
        if contact.protocol != TCP {
            return Self::Other;
        }
        match contact.port {
            // ftp, ssh, telnet, pop3, imap, rlogin, mail submission and the same over TLS, rdp, vnc, winrm.
            21
            | 22
            | 23
            | 110
            | 143
            | 465
            | 513
            | 587
            | 990
            | 992
            | 993
            | 995
            | 2222
            | 3389
            | 5900..=5903 => Self::Login,
            // msrpc endpoint mapper, netbios, smb, http-rpc, winrm.
            135 | 139 | 445 | 593 | 5985 | 5986 => Self::Remote,
            _ => {
                let greeting = contact.server_bytes(flow);
                if greeting.starts_with(b"SSH-")
                    || greeting.starts_with(b"RFB 0")
                    || is_unauthorized(greeting)
                {
                    Self::Login
                } else {
                    Self::Other
                }
            }
        }
    }
}

/// Whether a port belongs to a service in common use: below 1024, or one of those above that IANA lists and
/// honest servers use.
pub(crate) const fn is_common(port: u16) -> bool {
    port < 1024
        || matches!(
            port,
            1080 | 1194
                | 1433
                | 1521
                | 1701
                | 1720
                | 1723
                | 1812
                | 1813
                | 1883
                | 1900
                | 2049
                | 2055
                | 2222
                | 2575
                | 3000
                | 3128
                | 3268
                | 3269
                | 3306
                | 3389
                | 3478
                | 3702
                | 4500
                | 4739
                | 4789
                | 5000
                | 5004
                | 5060
                | 5061
                | 5222
                | 5269
                | 5353
                | 5355
                | 5432
                | 5671
                | 5672
                | 5900
                | 5985
                | 5986
                | 6343
                | 6379
                | 6443
                | 6514
                | 8000
                | 8008
                | 8080
                | 8081
                | 8086
                | 8125
                | 8443
                | 8883
                | 8888
                | 9000
                | 9090
                | 9092
                | 9100
                | 9200
                | 10050
                | 10051
                | 11211
                | 20000
                | 27017
                | 44818
                | 47808
                | 51820
        )
}

/// Whether honest hosts ask such a service at regular intervals by design: time, names, leases, status. Their
/// regularity says nothing.
pub(crate) const fn is_periodic_by_design(protocol: u8, port: u16) -> bool {
    protocol == UDP
        && matches!(
            port,
            53 | 67
                | 68
                | 69
                | 123
                | 137
                | 138
                | 161
                | 162
                | 500
                | 514
                | 520
                | 546
                | 547
                | 623
                | 1812
                | 1813
                | 1900
                | 2055
                | 3702
                | 4500
                | 4739
                | 5351
                | 5353
                | 5355
                | 6343
                | 8125
                | 47808
        )
}

/// Whether honest hosts send to such a service on many hosts and often hear nothing back: look-ups, time from a pool, exports to
/// collectors, discovery.
pub(crate) const fn is_often_unanswered(protocol: u8, port: u16) -> bool {
    protocol == UDP
        && matches!(
            port,
            53 | 67
                | 68
                | 123
                | 137
                | 138
                | 162
                | 514
                | 520
                | 546
                | 547
                | 1900
                | 2055
                | 3702
                | 4739
                | 5351
                | 5353
                | 5355
                | 6343
                | 8125
                | 47808
        )
}

/// Whether a UDP port is one that `traceroute` counts up through (33434 and the 255 above).
pub(crate) const fn is_traceroute(port: u16) -> bool {
    port >= 33_434 && port < 33_690
}
