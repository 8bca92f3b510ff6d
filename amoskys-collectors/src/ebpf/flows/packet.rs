//! Packets in the meter's ring, as bytes: `struct flow_packet` in Rust.

use crate::ebpf::record::{BadRecord, Reader};

const NO_VLAN: u16 = 0xffff;

/// What user space is to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To meter it.
    Meter,
    /// To read its payload; it was metered in the kernel.
    Read {
        /// Number of its flow, and which side of it sent the packet.
        flow: u64,
        from: u8,
        /// Sequence number of the SYN with which this side opened the connection.
        syn_seq: Option<u32>,
    },
}

/// A packet, as far as it was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandedPacket<'a> {
    pub(super) purpose: Purpose,
    /// When it passed, nanoseconds since boot.
    pub(super) time: u64,
    pub(super) frame_bytes: u32,
    pub(super) interface: u32,
    /// The VLAN id that was taken off.
    pub(super) taken_vlan: Option<u16>,
    pub(super) bytes: &'a [u8],
}

/// Reads a record that is a packet; `None` if it is one of a flow.
pub(super) fn read_packet(bytes: &[u8]) -> Result<Option<HandedPacket<'_>>, BadRecord> {
    let mut reader = Reader(bytes);
    let phase = reader.u32()?;
    if !matches!(phase, 3 | 4) {
        return Ok(None);
    }
    let captured = reader.u32()?;
    let (time, flow) = (reader.u64()?, reader.u64()?);
    let (frame_bytes, interface, syn_seq) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let taken_vlan = reader.u16()?;
    let [from, opened] = reader.array()?;
    let bytes = reader.0;
    if bytes.len() != captured as usize || captured > frame_bytes {
        return Err(BadRecord);
    }
    let purpose = match phase {
        3 => Purpose::Meter,
        _ if from > 1 => return Err(BadRecord),
        _ => Purpose::Read {
            flow,
            from,
            syn_seq: (opened != 0).then_some(syn_seq),
        },
    };
    Ok(Some(HandedPacket {
        purpose,
        time,
        frame_bytes,
        interface,
        taken_vlan: (taken_vlan != NO_VLAN).then_some(taken_vlan),
        bytes,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(phase: u32, captured: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(phase.to_ne_bytes());
        bytes.extend(captured.to_ne_bytes());
        bytes.extend(7u64.to_ne_bytes());
        bytes.extend(9u64.to_ne_bytes());
        bytes.extend([1500u32, 3, 99].map(u32::to_ne_bytes).concat());
        bytes.extend(5u16.to_ne_bytes());
        bytes.extend([1, 1]);
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn a_packet_is_read_field_by_field() {
        let bytes = record(4, 3, b"abc");
        let packet = read_packet(&bytes).expect("a record").expect("a packet");
        assert_eq!(
            packet.purpose,
            Purpose::Read {
                flow: 9,
                from: 1,
                syn_seq: Some(99)
            }
        );
        assert_eq!((packet.time, packet.frame_bytes, packet.interface), (7, 1500, 3));
        assert_eq!((packet.taken_vlan, packet.bytes), (Some(5), &b"abc"[..]));
        assert_eq!(
            read_packet(&record(3, 0, b"")).map(|packet| packet.map(|packet| packet.purpose)),
            Ok(Some(Purpose::Meter))
        );
        assert_eq!(read_packet(&record(2, 0, b"")), Ok(None));
        assert_eq!(read_packet(&record(3, 4, b"abc")), Err(BadRecord));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_not(bytes in prop::collection::vec(any::<u8>(), 0..80), phase in 0u32..6) {
            let mut bytes = bytes;
            if let Some(place) = bytes.first_chunk_mut() {
                *place = phase.to_ne_bytes();
            }
            if let Ok(Some(packet)) = read_packet(&bytes) {
                prop_assert!(packet.bytes.len() + 40 == bytes.len());
            }
        }
    }
}
