//! Usual answers to the question whose data an event is.

use std::net::IpAddr;

use amoskys_core::Event;
use amoskys_core::event::{Payload, Value};

use super::Subject;

/// Says whose data an event is; `None` if nobody's.
pub type Rule = Box<dyn Fn(&Event) -> Option<Subject> + Send + Sync>;

/// The subject is the value of this attribute: text, or a whole number. Events without it are nobody's.
pub fn by_attribute(name: impl Into<String>) -> impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static {
    let name = name.into();
    move |event| match event.attributes.get(&name)? {
        Value::Text(text) if !text.is_empty() => Some(Subject::new(text)),
        Value::Uint(number) => Some(Subject::new(number.to_string())),
        Value::Int(number) => Some(Subject::new(number.to_string())),
        _ => None,
    }
}

/// The subject is the user whose process it is, as `uid:NUMBER@DEVICE`, because numbers of users mean something on one
/// machine only. For users from `least` on: below are those of the system. Events about anything but processes are
/// nobody's.
pub fn by_uid(least: u32) -> impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static {
    move |event| match &event.payload {
        Payload::Process(process) if process.uid >= least => {
            Some(Subject::new(format!("uid:{}@{}", process.uid, event.device)))
        }
        _ => None,
    }
}

/// The subject is the device, as `device:NAME`: for machines that belong to one person.
pub fn by_device() -> impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static {
    |event| {
        let name = event.device.as_str();
        (!name.is_empty()).then(|| Subject::new(format!("device:{name}")))
    }
}

/// The subject is who has an address of this network, as `address:ADDRESS`: the sender of a flow, of a DNS message or in an
/// ARP packet, or else the receiver. `prefix` is the number of leading bits of `network` that count, at most 32 or 128.
pub fn by_address(network: IpAddr, prefix: u8) -> impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static {
    move |event| {
        let ends: [IpAddr; 2] = match &event.payload {
            Payload::Flow(flow) => [flow.key.source, flow.key.destination],
            Payload::Dns(dns) => [dns.key.source, dns.key.destination],
            Payload::Arp(arp) => [arp.sender_ip.into(), arp.target_ip.into()],
            _ => return None,
        };
        let inside = ends.into_iter().find(|end| is_inside(*end, network, prefix))?;
        Some(Subject::new(format!("address:{inside}")))
    }
}

fn is_inside(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let same = |width: u32, differing: u128| {
        differing
            .checked_shr(width.saturating_sub(prefix.into()))
            .unwrap_or(0)
            == 0
    };
    match (address.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            same(32, (address.to_bits() ^ network.to_bits()).into())
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => same(128, address.to_bits() ^ network.to_bits()),
        _ => false,
    }
}

/// The first of these rules that knows whose it is.
pub fn any_of<const N: usize>(
    rules: [Rule; N],
) -> impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static {
    move |event| rules.iter().find_map(|rule| rule(event))
}
