use super::{Link, SkipReason, Vlans, be16, be32};
use crate::capture::LinkType;

/// What a link carries.
pub(super) enum Network<'a> {
    /// From the IP header on, and the IP version if the link says it.
    Ip(&'a [u8], Option<u8>),
    /// From the ARP header on.
    Arp(&'a [u8]),
}

/// Headers within headers: no link nests deeper than a few.
const MAX_LAYERS: usize = 24;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// What the next bytes are.
#[derive(Clone, Copy)]
enum Next {
    /// What an EtherType says.
    EtherType(u16),
    /// IP; the version is in the header.
    Ip,
    Ethernet,
    /// IEEE 802.2 logical link control.
    Llc,
    Ppp,
    Mpls,
    Wlan,
    Link(LinkType),
}

/// Finds what the link carries, and writes what it says itself to `link`.
#[inline]
pub(super) fn decode<'a>(
    link_type: LinkType,
    bytes: &'a [u8],
    link: &mut Link<'a>,
) -> Result<Network<'a>, SkipReason> {
    // Nearly all packets there are.
    if link_type == LinkType::ETHERNET
        && let Some(head) = bytes.first_chunk::<14>()
        && let Some(version) = ip_version(u16::from_be_bytes([head[12], head[13]]))
    {
        (link.destination, link.source) = (head.first_chunk(), head[6..].first_chunk());
        link.vlans = Vlans::UNTAGGED;
        return Ok(Network::Ip(&bytes[14..], Some(version)));
    }
    *link = Link::default();
    walk(Next::Link(link_type), bytes, link)
}

#[inline]
fn ip_version(ether_type: u16) -> Option<u8> {
    match ether_type {
        IPV4 => Some(4),
        IPV6 => Some(6),
        _ => None,
    }
}

/// The address at a place, if it is there.
fn address(bytes: &[u8], at: usize) -> Option<&[u8; 6]> {
    bytes.get(at..)?.first_chunk()
}

/// What a tunnel carries as Ethernet frames. `None` if it is neither IP nor ARP.
pub(super) fn carried_ethernet(bytes: &[u8]) -> Option<Network<'_>> {
    walk(Next::Ethernet, bytes, &mut Link::default()).ok()
}

/// What a tunnel carries, by its EtherType.
pub(super) fn carried(kind: u16, bytes: &[u8]) -> Option<Network<'_>> {
    walk(Next::EtherType(kind), bytes, &mut Link::default()).ok()
}

fn walk<'a>(mut next: Next, mut bytes: &'a [u8], link: &mut Link<'a>) -> Result<Network<'a>, SkipReason> {
    for _ in 0..MAX_LAYERS {
        match next {
            Next::Ip => return Ok(Network::Ip(bytes, None)),
            Next::EtherType(kind @ (IPV4 | IPV6)) => return Ok(Network::Ip(bytes, ip_version(kind))),
            Next::EtherType(ARP) => return Ok(Network::Arp(bytes)),
            _ => (next, bytes) = step(next, bytes, link)?,
        }
    }
    Err(SkipReason::NonIp)
}

/// Passes one header.
fn step<'a>(next: Next, bytes: &'a [u8], link: &mut Link<'a>) -> Result<(Next, &'a [u8]), SkipReason> {
    match next {
        Next::EtherType(kind) => ether_type(kind, bytes, link),
        Next::Ethernet => ethernet(bytes, link),
        Next::Llc => llc(bytes),
        Next::Ppp => ppp(bytes),
        Next::Mpls => mpls(bytes),
        Next::Wlan => wlan(bytes, link),
        Next::Link(link_type) => first(link_type, bytes, link),
        Next::Ip => Ok((next, bytes)),
    }
}

fn after(bytes: &[u8], length: usize) -> Result<&[u8], SkipReason> {
    bytes.get(length..).ok_or(SkipReason::Truncated)
}

fn be16_or_cut(bytes: &[u8], at: usize) -> Result<u16, SkipReason> {
    be16(bytes, at).ok_or(SkipReason::Truncated)
}

fn ethernet<'a>(bytes: &'a [u8], link: &mut Link<'a>) -> Result<(Next, &'a [u8]), SkipReason> {
    let head = bytes.first_chunk::<14>().ok_or(SkipReason::Truncated)?;
    (link.destination, link.source) = (head.first_chunk(), head[6..].first_chunk());
    Ok((
        ether_type_or_length(u16::from_be_bytes([head[12], head[13]])),
        &bytes[14..],
    ))
}

/// Values up to 1500 are the length of an IEEE 802.3 frame.
fn ether_type_or_length(value: u16) -> Next {
    if value <= 1500 {
        Next::Llc
    } else {
        Next::EtherType(value)
    }
}

fn ether_type<'a>(kind: u16, bytes: &'a [u8], link: &mut Link<'a>) -> Result<(Next, &'a [u8]), SkipReason> {
    match kind {
        // 802.1Q, 802.1ad, and what was used before it was standard.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => {
            link.vlans.push(be16_or_cut(bytes, 0)?);
            Ok((ether_type_or_length(be16_or_cut(bytes, 2)?), &bytes[4..]))
        }
        0x8847 | 0x8848 => Ok((Next::Mpls, bytes)),
        // PPPoE session: version, code, session, length.
        0x8864 => Ok((Next::Ppp, after(bytes, 6)?)),
        0x880b => Ok((Next::Ppp, bytes)),
        // Cisco VN-Tag.
        0x8926 => Ok((ether_type_or_length(be16_or_cut(bytes, 4)?), &bytes[6..])),
        // 802.1BR E-Tag.
        0x893f => Ok((ether_type_or_length(be16_or_cut(bytes, 6)?), &bytes[8..])),
        // 802.1ah: an instance tag, then a whole Ethernet frame.
        0x88e7 => Ok((Next::Ethernet, after(bytes, 4)?)),
        // Cisco metadata: version, length, one option of four bytes.
        0x8909 => Ok((ether_type_or_length(be16_or_cut(bytes, 6)?), &bytes[8..])),
        _ => Err(SkipReason::NonIp),
    }
}

fn llc(bytes: &[u8]) -> Result<(Next, &[u8]), SkipReason> {
    match *bytes {
        // SNAP with an organisation code of zeros, or 802.1H's: an EtherType follows.
        [0xaa, 0xaa, 0x03, 0, 0, 0 | 0xf8, high, low, ref rest @ ..] => {
            Ok((Next::EtherType(u16::from_be_bytes([high, low])), rest))
        }
        // IP has a service access point of its own.
        [0x06, 0x06, 0x03, ref rest @ ..] => Ok((Next::Ip, rest)),
        // OSI network layer protocols: RFC 2684 routed IPv4.
        [0xfe, 0xfe, 0x03, 0xcc, ref rest @ ..] => Ok((Next::Ip, rest)),
        [_, _, _, ..] => Err(SkipReason::NonIp),
        _ => Err(SkipReason::Truncated),
    }
}

fn ppp(bytes: &[u8]) -> Result<(Next, &[u8]), SkipReason> {
    let bytes = match *bytes {
        // Address and control of HDLC-like framing may be compressed away.
        [0xff, 0x03, ref rest @ ..] => rest,
        // Cisco HDLC, unicast or broadcast: what follows is an EtherType.
        [0x0f | 0x8f, 0x00, high, low, ref rest @ ..] => {
            return Ok((Next::EtherType(u16::from_be_bytes([high, low])), rest));
        }
        _ => bytes,
    };
    // A protocol number may be compressed to one byte, which is then odd.
    let (protocol, rest) = match *bytes {
        [low, ref rest @ ..] if low & 1 == 1 => (u16::from(low), rest),
        [high, low, ref rest @ ..] => (u16::from_be_bytes([high, low]), rest),
        _ => return Err(SkipReason::Truncated),
    };
    match protocol {
        0x0021 => Ok((Next::EtherType(IPV4), rest)),
        0x0057 => Ok((Next::EtherType(IPV6), rest)),
        0x0281 | 0x0283 => Ok((Next::Mpls, rest)),
        // Bridged Ethernet: flags and type 1, then a frame.
        0x0031 if rest.get(1) == Some(&1) => Ok((Next::Ethernet, after(rest, 2)?)),
        _ => Err(SkipReason::NonIp),
    }
}

fn mpls(bytes: &[u8]) -> Result<(Next, &[u8]), SkipReason> {
    let label = be32(bytes, 0).ok_or(SkipReason::Truncated)?;
    let rest = &bytes[4..];
    if label & 0x100 == 0 {
        return Ok((Next::Mpls, rest));
    }
    // The stack does not say what it carries; the first nibble does, more or less (RFC 4928).
    match rest.first().ok_or(SkipReason::Truncated)? >> 4 {
        4 | 6 => Ok((Next::Ip, rest)),
        // A pseudo-wire's control word and an Ethernet frame, or the frame alone (RFC 4448).
        0 if rest.get(4..).is_some_and(is_ethernet) => Ok((Next::Ethernet, &rest[4..])),
        _ if is_ethernet(rest) => Ok((Next::Ethernet, rest)),
        _ => Err(SkipReason::NonIp),
    }
}

/// Whether bytes look like an Ethernet frame that carries something known here.
fn is_ethernet(bytes: &[u8]) -> bool {
    matches!(
        be16(bytes, 12),
        Some(IPV4 | IPV6 | ARP | 0x8100 | 0x88a8 | 0x8847 | 0x8848 | 0x8864)
    )
}

fn wlan<'a>(bytes: &'a [u8], link: &mut Link<'a>) -> Result<(Next, &'a [u8]), SkipReason> {
    let &[control, flags, ..] = bytes else {
        return Err(SkipReason::Truncated);
    };
    // Data frames that carry data, in the clear.
    let is_data = control & 0x0c == 0x08 && control & 0x40 == 0;
    if !is_data || flags & 0x40 != 0 {
        return Err(SkipReason::NonIp);
    }
    let (to_ds, from_ds) = (flags & 1 != 0, flags & 2 != 0);
    let (destination, source) = match (to_ds, from_ds) {
        (false, false) => (4, 10),
        (true, false) => (16, 10),
        (false, true) => (4, 16),
        (true, true) => (16, 24),
    };
    (link.destination, link.source) = (address(bytes, destination), address(bytes, source));
    let mut length = if to_ds && from_ds { 30 } else { 24 };
    if control & 0x80 != 0 {
        // Quality of service; several frames in one are left alone.
        if bytes.get(length).ok_or(SkipReason::Truncated)? & 0x80 != 0 {
            return Err(SkipReason::NonIp);
        }
        length += if flags & 0x80 != 0 { 6 } else { 2 };
    }
    Ok((Next::Llc, after(bytes, length)?))
}

/// The first header of a packet.
fn first<'a>(
    link_type: LinkType,
    bytes: &'a [u8],
    link: &mut Link<'a>,
) -> Result<(Next, &'a [u8]), SkipReason> {
    match link_type {
        LinkType::ETHERNET => Ok((Next::Ethernet, bytes)),
        LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OPENBSD | LinkType::IPV4 | LinkType::IPV6 => {
            Ok((Next::Ip, bytes))
        }
        LinkType::NULL | LinkType::LOOP => family(bytes, 4),
        LinkType::ENC => family(bytes, 12),
        LinkType::PPP | LinkType::PPP_HDLC => Ok((Next::Ppp, bytes)),
        LinkType::PPP_ETHER => Ok((Next::Ppp, after(bytes, 6)?)),
        LinkType::C_HDLC => Ok((Next::EtherType(be16_or_cut(bytes, 2)?), &bytes[4..])),
        LinkType::FRAME_RELAY => frame_relay(bytes),
        LinkType::ATM_RFC1483 => Ok((Next::Llc, bytes)),
        LinkType::TOKEN_RING => token_ring(bytes, link),
        LinkType::FDDI => Ok((Next::Llc, after(bytes, 13)?)),
        LinkType::IEEE1394 => Ok((Next::EtherType(be16_or_cut(bytes, 16)?), &bytes[18..])),
        LinkType::LINUX_SLL => {
            let kind = be16_or_cut(bytes, 14)?;
            link.source = cooked_sender(bytes, be16_or_cut(bytes, 4)?, 6);
            cooked(be16_or_cut(bytes, 2)?, kind, &bytes[16..])
        }
        LinkType::LINUX_SLL2 => {
            let rest = after(bytes, 20)?;
            link.source = cooked_sender(bytes, u16::from(bytes[11]), 12);
            cooked(be16_or_cut(bytes, 8)?, be16_or_cut(bytes, 0)?, rest)
        }
        LinkType::IEEE802_11 => Ok((Next::Wlan, bytes)),
        LinkType::IEEE802_11_RADIOTAP => {
            let length = *bytes
                .get(2..4)
                .and_then(<[u8]>::first_chunk)
                .ok_or(SkipReason::Truncated)?;
            Ok((Next::Wlan, after(bytes, usize::from(u16::from_le_bytes(length)))?))
        }
        LinkType::IEEE802_11_PRISM | LinkType::IEEE802_11_AVS => {
            // AVS begins with a version and gives its length; Prism's is fixed.
            let avs = be32(bytes, 0).ok_or(SkipReason::Truncated)? >> 12 == 0x80211;
            let length = if avs {
                be32(bytes, 4).ok_or(SkipReason::Truncated)? as usize
            } else {
                144
            };
            Ok((Next::Wlan, after(bytes, length)?))
        }
        LinkType::PPI => {
            let &[_, _, l0, l1, d0, d1, d2, d3, ..] = bytes else {
                return Err(SkipReason::Truncated);
            };
            let inner =
                u16::try_from(u32::from_le_bytes([d0, d1, d2, d3])).map_err(|_| SkipReason::UnknownLink)?;
            // At least the header itself, so that nested headers end.
            let length = usize::from(u16::from_le_bytes([l0, l1])).max(8);
            Ok((Next::Link(LinkType(inner)), after(bytes, length)?))
        }
        LinkType::PKTAP => {
            let &[l0, l1, l2, l3, _, _, _, _, d0, d1, d2, d3, ..] = bytes else {
                return Err(SkipReason::Truncated);
            };
            let inner =
                u16::try_from(u32::from_le_bytes([d0, d1, d2, d3])).map_err(|_| SkipReason::UnknownLink)?;
            let length = (u32::from_le_bytes([l0, l1, l2, l3]) as usize).max(12);
            Ok((Next::Link(LinkType(inner)), after(bytes, length)?))
        }
        LinkType::NFLOG => nflog(bytes),
        _ => Err(SkipReason::UnknownLink),
    }
}

/// A header of `length` bytes that begins with an address family, in whichever byte order.
fn family(bytes: &[u8], length: usize) -> Result<(Next, &[u8]), SkipReason> {
    let family = be32(bytes, 0).ok_or(SkipReason::Truncated)?;
    let family = if family > 0xffff {
        family.swap_bytes()
    } else {
        family
    };
    match family {
        2 => Ok((Next::EtherType(IPV4), after(bytes, length)?)),
        // As Linux, NetBSD, FreeBSD and macOS number it.
        10 | 24 | 28 | 30 => Ok((Next::EtherType(IPV6), after(bytes, length)?)),
        _ => Err(SkipReason::NonIp),
    }
}

fn frame_relay(bytes: &[u8]) -> Result<(Next, &[u8]), SkipReason> {
    match *bytes {
        // An address of two bytes, unnumbered information, then the network protocol (RFC 2427).
        [_, _, 0x03, 0xcc | 0x8e, ref rest @ ..] => Ok((Next::Ip, rest)),
        [_, _, 0x03, 0x00, 0x80, 0, 0, 0, high, low, ref rest @ ..] => {
            Ok((Next::EtherType(u16::from_be_bytes([high, low])), rest))
        }
        // Cisco's way.
        [_, _, high, low, ref rest @ ..] => Ok((Next::EtherType(u16::from_be_bytes([high, low])), rest)),
        _ => Err(SkipReason::Truncated),
    }
}

fn token_ring<'a>(bytes: &'a [u8], link: &mut Link<'a>) -> Result<(Next, &'a [u8]), SkipReason> {
    let head: &[u8; 14] = bytes.first_chunk().ok_or(SkipReason::Truncated)?;
    (link.destination, link.source) = (address(head, 2), address(head, 8));
    // The top bit of the sender's address says that a route follows, which begins with its length.
    let routed = head[8] & 0x80 != 0;
    let route = if routed {
        usize::from(bytes.get(14).ok_or(SkipReason::Truncated)? & 0x1f)
    } else {
        0
    };
    Ok((Next::Llc, after(bytes, 14 + route)?))
}

fn cooked_sender(bytes: &[u8], length: u16, at: usize) -> Option<&[u8; 6]> {
    if length == 6 { address(bytes, at) } else { None }
}

/// What a Linux cooked header says: kind of device, and protocol.
fn cooked(device: u16, protocol: u16, rest: &[u8]) -> Result<(Next, &[u8]), SkipReason> {
    match (device, protocol) {
        // Netlink and generic routing number their protocols otherwise.
        (778, 0x0800) => Ok((Next::Ip, rest)),
        (824, _) => Err(SkipReason::NonIp),
        (_, 0x0004) => Ok((Next::Llc, rest)),
        (_, 0x0001) => Err(SkipReason::NonIp),
        _ => Ok((Next::EtherType(protocol), rest)),
    }
}

/// Netfilter log: a family, then attributes, of which one is the packet.
fn nflog(bytes: &[u8]) -> Result<(Next, &[u8]), SkipReason> {
    const PAYLOAD: u16 = 9;
    let mut rest = after(bytes, 4)?;
    loop {
        // Attributes are in the capturing host's byte order, which is nearly always this one.
        let &[l0, l1, t0, t1, ..] = rest else {
            return Err(SkipReason::NonIp);
        };
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        if length < 4 {
            return Err(SkipReason::Truncated);
        }
        if u16::from_le_bytes([t0, t1]) & 0x7fff == PAYLOAD {
            return Ok((Next::Ip, rest.get(4..length).unwrap_or(&rest[4..])));
        }
        rest = after(rest, length.next_multiple_of(4))?;
    }
}
