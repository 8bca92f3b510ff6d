//! A small capture's events, as if many such networks were watched at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use amoskys_core::event::FlowKey;
use amoskys_core::{Payload, Recorded, Seq, StreamId};

pub(crate) struct Load {
    pub(crate) events: Vec<Recorded>,
    pub(crate) flows: usize,
    pub(crate) copies: usize,
    /// From the first event to the last.
    pub(crate) seconds: f64,
}

impl Load {
    /// So many copies side by side, each with addresses and flows of its own, in so many streams. An end of the source is left out.
    pub(crate) fn new(base: &[Recorded], copies: usize, streams: usize) -> Self {
        let mut ids: Vec<Arc<StreamId>> = Vec::new();
        let mut events = Vec::with_capacity(base.len() * copies);
        let (mut flows, mut numbers) = (0, vec![0_u64; streams.max(1)]);
        for recorded in base {
            for copy in 0..copies {
                let stream = copy % streams.max(1);
                if ids.len() <= stream {
                    let agent = format!("bench-{stream}").as_str().into();
                    ids.push(Arc::new(StreamId {
                        agent,
                        ..(*recorded.stream).clone()
                    }));
                }
                let mut event = recorded.event.clone();
                event.id.origin ^= (copy as u64) << 32;
                match &mut event.payload {
                    Payload::Flow(flow) => {
                        move_key(&mut flow.key, copy);
                        flows += 1;
                    }
                    Payload::Dns(dns) => move_key(&mut dns.key, copy),
                    Payload::Arp(arp) => {
                        (arp.sender_ip, arp.target_ip) =
                            (moved(arp.sender_ip, copy), moved(arp.target_ip, copy));
                    }
                    // One clock for each stream.
                    Payload::Punctuation(punctuation) if punctuation.end || copy >= streams => continue,
                    _ => {}
                }
                events.push(Recorded {
                    stream: ids[stream].clone(),
                    seq: Seq(numbers[stream]),
                    timeline: 0,
                    event,
                });
                numbers[stream] += 1;
            }
        }
        let time = |event: Option<&Recorded>| event.map_or(0, |event| event.event.time.nanos());
        Self {
            seconds: (time(events.last()) - time(events.first())) as f64 / 1e9,
            events,
            flows,
            copies,
        }
    }
}

fn move_key(key: &mut FlowKey, copy: usize) {
    for address in [&mut key.source, &mut key.destination] {
        *address = match *address {
            IpAddr::V4(v4) => IpAddr::V4(moved(v4, copy)),
            IpAddr::V6(v6) if v6.is_multicast() || v6.is_unicast_link_local() || v6.is_loopback() => {
                IpAddr::V6(v6)
            }
            IpAddr::V6(v6) => {
                let mut segments = v6.segments();
                segments[3] ^= copy as u16;
                IpAddr::V6(Ipv6Addr::from(segments))
            }
        };
    }
}

/// The address in another copy: what is private, outside, of a group or of everyone stays so.
fn moved(address: Ipv4Addr, copy: usize) -> Ipv4Addr {
    let [first, second, third, last] = address.octets();
    let is_fixed = address.is_multicast()
        || address.is_broadcast()
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_link_local();
    if is_fixed || copy == 0 {
        return address;
    }
    let [low, high, ..] = copy.to_le_bytes();
    // Networks some of which are private would mix them with others.
    let first = match first {
        172 | 192 if !address.is_private() => first + 1,
        192 | 172 => 10,
        other => other,
    };
    Ipv4Addr::new(first, second ^ high, third ^ low, last)
}
