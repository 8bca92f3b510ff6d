//! Packets from capture files and live interfaces, before anyone looks inside them.

mod block;
mod damage;
mod file;
mod input;
mod link_type;
mod live;
mod pcap;
mod pcapng;
#[cfg_attr(target_os = "linux", path = "afpacket.rs")]
#[cfg_attr(not(target_os = "linux"), path = "no_ring.rs")]
mod ring;

use amoskys_core::Timestamp;

pub use self::block::PacketBlock;
pub(crate) use self::block::{Head, TakeHead};
pub use self::damage::{Damage, DamageKind};
pub use self::file::{CaptureError, CaptureReader, Format};
pub use self::link_type::LinkType;
pub use self::live::{LiveCapture, LiveConfig, LiveError, LivePackets};
pub(crate) use self::pcap::FileHeader;

/// The largest packet a reader accepts, in bytes. Records that claim more are damage: no link carries such
/// packets, and believing them would let a file choose how much memory we use.
pub const MAX_PACKET_BYTES: usize = 256 * 1024;

/// One captured packet, borrowed from its source until the next one is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it was captured.
    pub time: Timestamp,
    /// Where: number of the interface in a pcapng section, 0 in a pcap file, the kernel's index when live.
    pub interface: u32,
    /// What its first header is.
    pub link: LinkType,
    /// Outermost VLAN id, if the network card took the tag out of the packet.
    pub stripped_vlan: Option<u16>,
    /// Its length on the wire, in bytes.
    pub wire_len: u32,
    /// Its bytes, as far as they were captured.
    pub data: &'a [u8],
}

impl Packet<'_> {
    /// A place for a packet.
    pub(crate) const NONE: Self = Self {
        time: Timestamp::from_nanos(0),
        interface: 0,
        link: LinkType::ETHERNET,
        stripped_vlan: None,
        wire_len: 0,
        data: &[],
    };
}
