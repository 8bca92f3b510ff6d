use amoskys_core::Timestamp;

use super::{LinkType, Packet};

/// Packets of a capture file with their bytes, as they were read: filled by
/// [`CaptureReader::next_block`](super::CaptureReader::next_block), which never copies a packet.
///
/// ```
/// use amoskys_collectors::capture::{CaptureReader, PacketBlock};
///
/// # let file: &[u8] = &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
/// let mut reader = CaptureReader::new(file)?;
/// let mut block = PacketBlock::default();
/// while reader.next_block(&mut block)? {
///     for packet in block.iter() {
///         println!("{} {} bytes", packet.time, packet.wire_len);
///     }
/// }
/// # Ok::<(), amoskys_collectors::capture::CaptureError>(())
/// ```
#[derive(Debug, Default)]
pub struct PacketBlock {
    pub(super) heads: Vec<Head>,
    pub(super) bytes: Vec<u8>,
}

/// What is known of a packet, and where its bytes are in a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) time: Timestamp,
    pub(crate) interface: u32,
    pub(crate) wire_len: u32,
    pub(super) start: u32,
    pub(super) length: u32,
    pub(crate) link: LinkType,
}

/// Gets the packets of a block as they are found.
pub(crate) trait TakeHead {
    /// One packet, and its bytes. To be inlined always: a head is put together from small fields, and what looks at it
    /// in memory a moment later, in larger parts, has to wait for them.
    fn take(&mut self, head: Head, packet: &[u8]);
}

impl TakeHead for Vec<Head> {
    #[inline]
    fn take(&mut self, head: Head, _: &[u8]) {
        self.push(head);
    }
}

impl PacketBlock {
    /// How many packets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The packets, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = Packet<'_>> {
        self.heads.iter().map(|head| head.of(&self.bytes, 0))
    }
}

impl Head {
    /// Of a packet whose bytes begin at `start` of a buffer.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "buffers are much shorter than 4 GiB"
    )]
    pub(super) fn new(packet: &Packet<'_>, start: usize) -> Self {
        Self {
            time: packet.time,
            interface: packet.interface,
            wire_len: packet.wire_len,
            start: start as u32,
            length: packet.data.len() as u32,
            link: packet.link,
        }
    }

    /// The same at another time.
    pub(crate) fn at(self, time: Timestamp) -> Self {
        Self { time, ..self }
    }

    /// The packet's bytes, when `bytes` are those of the buffer.
    #[inline]
    pub(crate) fn data<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.length as usize).unwrap_or_default()
    }

    /// Where the packet's bytes begin in the buffer.
    pub(crate) fn start(&self) -> u32 {
        self.start
    }

    /// The packet, when `bytes` are those of the buffer from `from` on.
    #[inline]
    pub(crate) fn of<'a>(&self, bytes: &'a [u8], from: usize) -> Packet<'a> {
        let start = (self.start as usize).saturating_sub(from);
        self.packet(bytes.get(start..start + self.length as usize).unwrap_or_default())
    }

    /// The packet with these bytes.
    #[inline]
    pub(crate) fn packet<'a>(&self, data: &'a [u8]) -> Packet<'a> {
        Packet {
            time: self.time,
            interface: self.interface,
            link: self.link,
            stripped_vlan: None,
            wire_len: self.wire_len,
            data,
        }
    }
}
