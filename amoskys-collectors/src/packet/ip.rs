use super::{IpPacket, SkipReason, TcpHeader, Transport, be16, be32};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// An IPv6 packet that passes this many extension headers is taken as it stands.
const MAX_EXTENSIONS: usize = 16;

/// Where the transport header is, and of which protocol.
struct Inner<'a> {
    protocol: u8,
    /// IP headers, with extensions.
    header_length: u32,
    /// What was captured after them, without link padding.
    bytes: &'a [u8],
    fragment: bool,
    /// Not the first fragment: what follows is no transport header.
    later_fragment: bool,
    fragment_id: u32,
}

/// Reads the IP header at the start of `bytes`. `expected` is the version the link announced, if it did: a header
/// that says otherwise is refused, as hosts do. `wire_rest` is how many bytes there were on the wire from here.
#[inline]
pub(super) fn decode<'a>(
    bytes: &'a [u8],
    expected: Option<u8>,
    wire_rest: u32,
    out: &mut IpPacket<'a>,
) -> Result<(), SkipReason> {
    let version = bytes.first().ok_or(SkipReason::Truncated)? >> 4;
    match version {
        _ if expected.is_some_and(|expected| expected != version) => Err(SkipReason::BadIpHeader),
        4 => decode_v4(bytes, wire_rest, out),
        6 => decode_v6(bytes, wire_rest, out),
        _ => Err(SkipReason::BadIpHeader),
    }
}

#[inline]
fn decode_v4<'a>(bytes: &'a [u8], wire_rest: u32, out: &mut IpPacket<'a>) -> Result<(), SkipReason> {
    let head: &[u8; 20] = bytes.first_chunk().ok_or(SkipReason::Truncated)?;
    let header_length = usize::from(head[0] & 0x0f) * 4;
    // A length of 0 means a segment larger than the field can say, captured before the network card cut it.
    let length = match u16::from_be_bytes([head[2], head[3]]) {
        0 => wire_rest,
        length => u32::from(length),
    };
    if header_length < 20 || (length as usize) < header_length {
        return Err(SkipReason::BadIpHeader);
    }
    let fragment = u16::from_be_bytes([head[6], head[7]]);
    let end = bytes.len().min(length as usize);
    let inner = Inner {
        protocol: head[9],
        header_length: header_length as u32,
        bytes: bytes.get(header_length..end).unwrap_or_default(),
        fragment: fragment & 0x3fff != 0,
        later_fragment: fragment & 0x1fff != 0,
        fragment_id: if fragment & 0x3fff == 0 {
            0
        } else {
            u32::from(u16::from_be_bytes([head[4], head[5]]))
        },
    };
    let source = u128::from(u32::from_be_bytes([head[12], head[13], head[14], head[15]]));
    let destination = u128::from(u32::from_be_bytes([head[16], head[17], head[18], head[19]]));
    transport(4, [source, destination], head[8], length, &inner, out);
    Ok(())
}

fn decode_v6<'a>(bytes: &'a [u8], wire_rest: u32, out: &mut IpPacket<'a>) -> Result<(), SkipReason> {
    let head: &[u8; 40] = bytes.first_chunk().ok_or(SkipReason::Truncated)?;
    let mut length = 40 + u32::from(u16::from_be_bytes([head[4], head[5]]));
    // As above; but a payload of 0 may also be true, with a few bytes of link padding behind it.
    if length == 40 && wire_rest > 40 + 0xffff {
        length = wire_rest;
    }
    let end = bytes.len().min(length as usize);
    let inner = skip_extensions(head[6], bytes.get(40..end).unwrap_or_default());
    let (source, destination) = head[8..].split_at(16);
    let bits = |half: &[u8]| u128::from_be_bytes(half.try_into().unwrap_or_default());
    transport(6, [bits(source), bits(destination)], head[7], length, &inner, out);
    Ok(())
}

fn skip_extensions(first: u8, bytes: &[u8]) -> Inner<'_> {
    let mut inner = Inner {
        protocol: first,
        header_length: 40,
        bytes,
        fragment: false,
        later_fragment: false,
        fragment_id: 0,
    };
    for _ in 0..MAX_EXTENSIONS {
        // An extension that was cut leaves the protocol at its own number.
        let &[next, length, ..] = inner.bytes else { break };
        let length = match inner.protocol {
            0 | 43 | 60 | 135 | 139 | 140 => (usize::from(length) + 1) * 8,
            44 => 8,
            51 => (usize::from(length) + 2) * 4,
            _ => break,
        };
        if inner.protocol == 44 {
            let Some(offset) = be16(inner.bytes, 2) else { break };
            inner.fragment = true;
            inner.later_fragment = offset & 0xfff8 != 0;
            inner.fragment_id = be32(inner.bytes, 4).unwrap_or_default();
        }
        inner.protocol = next;
        inner.header_length += length as u32;
        let Some(rest) = inner.bytes.get(length..) else {
            inner.bytes = &[];
            break;
        };
        inner.bytes = rest;
        if inner.later_fragment {
            break;
        }
    }
    inner
}

#[inline]
fn transport<'a>(
    version: u8,
    [source, destination]: [u128; 2],
    ttl: u8,
    length: u32,
    inner: &Inner<'a>,
    out: &mut IpPacket<'a>,
) {
    let bytes = inner.bytes;
    let mut ports = [0, 0];
    out.transport = Transport::Other;
    let mut skip = 0;
    if !inner.later_fragment {
        match inner.protocol {
            TCP => {
                ports = read_ports(bytes);
                skip = 20;
                if let Some((header, header_length)) = TcpHeader::decode(bytes) {
                    out.transport = Transport::Tcp(header);
                    skip = header_length;
                }
            }
            UDP => {
                ports = read_ports(bytes);
                out.transport = Transport::Udp;
                skip = 8;
            }
            ICMP | ICMPV6 => {
                out.transport = Transport::Icmp {
                    kind: bytes.first().copied().unwrap_or_default(),
                    code: bytes.get(1).copied().unwrap_or_default(),
                    echo: be32(bytes, 4).unwrap_or_default(),
                };
                skip = 8;
            }
            SCTP | DCCP => {
                ports = read_ports(bytes);
                skip = 12;
            }
            UDP_LITE => {
                ports = read_ports(bytes);
                skip = 8;
            }
            _ => {}
        }
    }
    let header_length = (inner.header_length + skip as u32).min(length);
    out.source = source;
    out.destination = destination;
    out.ports = ports;
    out.version = version;
    out.protocol = inner.protocol;
    out.ttl = ttl;
    out.fragment = inner.fragment;
    out.later_fragment = inner.later_fragment;
    out.fragment_id = inner.fragment_id;
    out.length = length;
    out.header_length = header_length;
    out.payload_length = length - header_length;
    out.payload = bytes.get(skip..).unwrap_or_default();
}

#[inline]
fn read_ports(bytes: &[u8]) -> [u16; 2] {
    bytes.first_chunk().map_or([0, 0], |&[a, b, c, d]: &[u8; 4]| {
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    })
}
