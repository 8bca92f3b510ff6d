use std::fmt;
use std::net::Ipv4Addr;

/// A 48-bit hardware address (EUI-48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group of stations; broadcast is one.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddr {
    /// As `00:11:22:aa:bb:cc`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// One ARP message for IPv4 over a link with 48-bit addresses (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArpRecord {
    /// What it asks or says.
    pub operation: ArpOperation,
    /// Hardware address the sender claims.
    pub sender_mac: MacAddr,
    /// IPv4 address the sender claims.
    pub sender_ip: Ipv4Addr,
    /// Hardware address of the target; zeros in most requests.
    pub target_mac: MacAddr,
    /// IPv4 address asked for, or answered to.
    pub target_ip: Ipv4Addr,
    /// Who sent the frame. An honest sender's equals `sender_mac`.
    pub frame_source: MacAddr,
    /// To whom the frame was sent.
    pub frame_destination: MacAddr,
    /// Outermost VLAN id, if tagged.
    pub vlan: Option<u16>,
}

impl ArpRecord {
    /// Whether it announces the sender's own address (RFC 5227): unasked, sender and target address equal.
    #[must_use]
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip && !self.sender_ip.is_unspecified()
    }
}

impl Default for ArpRecord {
    /// All zeros.
    fn default() -> Self {
        Self {
            operation: ArpOperation::default(),
            sender_mac: MacAddr::default(),
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: MacAddr::default(),
            target_ip: Ipv4Addr::UNSPECIFIED,
            frame_source: MacAddr::default(),
            frame_destination: MacAddr::default(),
            vlan: None,
        }
    }
}

/// What an ARP message asks or says. The numbers are those of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ArpOperation {
    /// Who has the target address? (1)
    #[default]
    Request,
    /// The sender address is at the sender's hardware address. (2)
    Reply,
    /// Any other operation, by its number.
    Other(u16),
}

impl From<u16> for ArpOperation {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Reply,
            other => Self::Other(other),
        }
    }
}

impl From<ArpOperation> for u16 {
    fn from(operation: ArpOperation) -> Self {
        match operation {
            ArpOperation::Request => 1,
            ArpOperation::Reply => 2,
            ArpOperation::Other(number) => number,
        }
    }
}
