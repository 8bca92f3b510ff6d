use std::net::{IpAddr, Ipv4Addr};

/// Whether an address names a group or everyone, so that no single host is meant.
///
/// A last octet of 255 counts as the broadcast address of some network: netmasks are not in the packets.
fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast() || v4.octets()[3] == 255,
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Whether an address can name one host at all.
pub(crate) fn is_host(address: IpAddr) -> bool {
    !address.is_unspecified() && !is_group(address)
}

/// Whether an address is of a local network by its form: private (RFC 1918), carrier-grade NAT (RFC 6598),
/// link-local, unique local (RFC 4193) or loopback. A site that uses public addresses inside is not
/// recognised, and its traffic is then judged as if it stayed outside.
pub(crate) fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback() || is_shared(v4),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

const fn is_shared(v4: Ipv4Addr) -> bool {
    let octets = v4.octets();
    octets[0] == 100 && octets[1] & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_kinds_of_address() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for local in [
            "10.1.2.3",
            "192.168.0.9",
            "172.31.0.1",
            "100.100.0.1",
            "fe80::1",
            "fd00::1",
            "127.0.0.1",
        ] {
            assert!(is_local(ip(local)), "{local}");
        }
        for outside in [
            "8.8.8.8",
            "198.51.100.7",
            "172.32.0.1",
            "100.128.0.1",
            "2001:db8::1",
        ] {
            assert!(!is_local(ip(outside)), "{outside}");
        }
        for group in ["224.0.0.251", "255.255.255.255", "192.168.1.255", "ff02::fb"] {
            assert!(is_group(ip(group)) && !is_host(ip(group)), "{group}");
        }
        assert!(!is_host(ip("0.0.0.0")) && is_host(ip("10.0.0.1")));
    }
}
