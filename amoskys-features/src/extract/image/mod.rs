//! Damped statistics of traffic, in the manner of Kitsune's AfterImage.

mod extractor;
mod link;

use std::net::IpAddr;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::extractor::{ImageConfig, ImageExtractor};
use self::link::{Link, Stream};
use super::catalog::Kind;
use crate::lru::{Lru, LruState};

/// How often a second weights halve, for each of the damped windows: they look back about 0.3, 0.5, 1.4, 14 and 144 s.
pub const RATES_HZ: [f64; RATES] = [5.0, 3.0, 1.0, 0.1, 0.01];
const RATES: usize = 5;
/// What names call the rates.
const RATE_NAMES: [&str; RATES] = ["l5", "l3", "l1", "l0_1", "l0_01"];

/// A packet, or what counts as one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sighting {
    /// When it was seen.
    pub time: Timestamp,
    /// Who sent it.
    pub source: IpAddr,
    /// Port it was sent from; 0 for protocols without ports.
    pub source_port: u16,
    /// Who was to receive it.
    pub destination: IpAddr,
    /// Port it was sent to; 0 for protocols without ports.
    pub destination_port: u16,
    /// Its length in bytes.
    pub bytes: f64,
}

/// The 115 statistics of AfterImage (Mirsky, Doitshman, Elovici and Shabtai, "Kitsune: an ensemble of autoencoders for
/// online network intrusion detection", NDSS 2018), at the moment of each packet: what its sender, the channel
/// between its two hosts and the socket between its two ports have been doing lately.
///
/// For each of five rates λ, with w = 2^(-λ (now - time)):
///
/// - *host*: packets from the sender: Σ w, mean and deviation of their lengths;
/// - *channel*: the same of packets from the sender to the receiver; and of both directions, i and j: radius
///   √(σᵢ⁴ + σⱼ⁴), magnitude √(μᵢ² + μⱼ²), covariance SR / (wᵢ + wⱼ) and correlation SR / ((wᵢ + wⱼ) σᵢ σⱼ), where SR is the damped
///   sum, over the packets of both directions, of r r′: the packet's distance from its direction's mean and that of
///   the latest packet of the other direction;
/// - *jitter*: the time between packets from the sender to the receiver;
/// - *socket*: as channel, between two ports.
///
/// Means and variances are Σ w v / Σ w and |Σ w v² / Σ w - μ²|, the packet itself included. A packet that comes out of order
/// counts as one at the time of the latest one of its stream.
///
/// Memory is bounded: hosts, channels and sockets each have a limit, and what was not seen for longest is forgotten
/// and counted. A host takes about 250 bytes, a channel about 1 KiB, a socket about 0.6 KiB.
pub struct AfterImage {
    hosts: Lru<IpAddr, Stream>,
    channels: Lru<(IpAddr, IpAddr), Channel>,
    sockets: Lru<SocketKey, Link>,
    evicted: u64,
}

type SocketKey = (IpAddr, u16, IpAddr, u16);

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Channel {
    link: Link,
    /// Time between packets of each direction.
    jitter: [Stream; 2],
    latest: [Option<Timestamp>; 2],
}

/// The state of [`AfterImage`] between two packets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AfterImageState {
    hosts: LruState<IpAddr, Stream>,
    channels: LruState<(IpAddr, IpAddr), Channel>,
    sockets: LruState<SocketKey, Link>,
    evicted: u64,
}

impl AfterImage {
    /// Nothing seen yet; at most so many hosts, channels and sockets are kept.
    #[must_use]
    pub fn new(max_hosts: usize, max_channels: usize, max_sockets: usize) -> Self {
        Self {
            hosts: Lru::new(max_hosts),
            channels: Lru::new(max_channels),
            sockets: Lru::new(max_sockets),
            evicted: 0,
        }
    }

    /// Takes a packet, and appends the statistics at that moment to `values`, in the order of [`image_features`].
    pub fn observe(&mut self, packet: &Sighting, values: &mut Vec<f64>) {
        let Sighting { time, bytes, .. } = *packet;
        let (host, gone) = self.hosts.get_or_insert(&packet.source, Stream::default);
        self.evicted += u64::from(gone.is_some());
        host.add(time, bytes);

        // Both directions are kept under one key, in the order of the addresses.
        let (from, to) = (packet.source, packet.destination);
        let side = usize::from(from > to);
        let (channel, gone) = self
            .channels
            .get_or_insert(&(from.min(to), from.max(to)), Channel::default);
        self.evicted += u64::from(gone.is_some());
        channel.link.add(side, time, bytes);
        if let Some(before) = channel.latest[side] {
            channel.jitter[side].add(time, time.since(before).as_secs_f64());
        }
        channel.latest[side] = channel.latest[side].max(Some(time));

        let mine = (from, packet.source_port);
        let other = (to, packet.destination_port);
        let (low, high) = (mine.min(other), mine.max(other));
        let socket_side = usize::from(mine > other);
        let key = (low.0, low.1, high.0, high.1);
        let (socket, gone) = self.sockets.get_or_insert(&key, Link::default);
        self.evicted += u64::from(gone.is_some());
        socket.add(socket_side, time, bytes);

        values.reserve(RATES * (3 + 7 + 3 + 7));
        for rate in 0..RATES {
            host.write(rate, values);
            channel.link.write(side, rate, values);
            channel.jitter[side].write(rate, values);
            socket.write(socket_side, rate, values);
        }
    }

    /// Hosts, channels and sockets forgotten because there were too many.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many hosts, channels and sockets are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len() + self.channels.len() + self.sockets.len()
    }

    /// Whether nothing was seen yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The state, to be given to [`restore`](Self::restore) of one with the same limits.
    #[must_use]
    pub fn state(&self) -> AfterImageState {
        AfterImageState {
            hosts: self.hosts.state(|_, stream| *stream),
            channels: self.channels.state(|_, channel| *channel),
            sockets: self.sockets.state(|_, link| *link),
            evicted: self.evicted,
        }
    }

    /// Goes on from a state.
    pub fn restore(&mut self, state: AfterImageState) {
        self.hosts.restore(state.hosts);
        self.channels.restore(state.channels);
        self.sockets.restore(state.sockets);
        self.evicted = state.evicted;
    }
}

/// One of the statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFeature {
    /// Its name, for example `channel_l0_1_mean`.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// How it is computed.
    pub description: String,
    /// What kind of number it is.
    pub kind: Kind,
    /// The smallest and the largest value it can have, when it is not NaN.
    pub range: (f64, f64),
}

/// The statistics of [`AfterImage`], in order: by rate, then host, channel, jitter, socket.
#[must_use]
pub fn image_features() -> Vec<ImageFeature> {
    const ONE: [(&str, &str); 3] = [
        ("weight", "Σ w"),
        ("mean", "Σ w v / Σ w; NaN without"),
        ("deviation", "√|Σ w v² / Σ w - mean²|; NaN without"),
    ];
    const TWO: [(&str, &str); 4] = [
        ("radius", "√(σᵢ⁴ + σⱼ⁴)"),
        ("magnitude", "√(μᵢ² + μⱼ²)"),
        ("covariance", "Σ w r r′ / (wᵢ + wⱼ)"),
        (
            "correlation",
            "covariance / (σᵢ σⱼ), 0 if one of them is; cut to ±1",
        ),
    ];
    let mut all = Vec::new();
    for (rate, hz) in RATE_NAMES.into_iter().zip(RATES_HZ) {
        for (part, of, unit, both) in [
            ("host", "lengths of packets from the sender", "By", false),
            (
                "channel",
                "lengths of packets from sender to receiver",
                "By",
                true,
            ),
            (
                "jitter",
                "times between packets from sender to receiver",
                "s",
                false,
            ),
            ("socket", "lengths of packets from port to port", "By", true),
        ] {
            let second = if both { &TWO[..] } else { &[] };
            for &(statistic, formula) in ONE.iter().chain(second) {
                let unit = match (statistic, unit) {
                    ("weight" | "correlation", _) => "",
                    ("radius" | "covariance", _) => "By2",
                    _ => unit,
                };
                let range = match statistic {
                    "covariance" => (f64::NEG_INFINITY, f64::INFINITY),
                    "correlation" => (-1.0, 1.0),
                    _ => (0.0, f64::INFINITY),
                };
                all.push(ImageFeature {
                    name: format!("{part}_{rate}_{statistic}"),
                    unit,
                    description: format!("{of}, λ = {hz} a second: {formula}"),
                    kind: Kind::Measure,
                    range,
                });
            }
        }
    }
    all
}
