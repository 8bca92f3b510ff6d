//! The damped statistics of traffic are those of the definitions, computed from all packets each time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use amoskys_collectors::capture::CaptureReader;
use amoskys_collectors::packet::{Decoded, decode};
use amoskys_core::Timestamp;
use amoskys_features::extract::{AfterImage, RATES_HZ, Sighting, image_features};
use proptest::prelude::*;

/// A number of a stream, and when it counts as having come.
type Numbers = Vec<(f64, f64)>;

#[derive(Default)]
struct Naive {
    hosts: BTreeMap<IpAddr, Numbers>,
    channels: BTreeMap<(IpAddr, IpAddr), Numbers>,
    jitters: BTreeMap<(IpAddr, IpAddr), Numbers>,
    sockets: BTreeMap<(IpAddr, u16, IpAddr, u16), Numbers>,
    /// The order in which numbers of two opposite streams came: which of them, and its number.
    turns: BTreeMap<String, Vec<(bool, f64, f64)>>,
    latest: BTreeMap<(IpAddr, IpAddr), f64>,
    /// Seconds are counted from the first packet, that none are lost to rounding.
    begin: Option<Timestamp>,
}

/// Weight, mean, variance of a stream at a time.
fn moments(numbers: Option<&Numbers>, rate: f64, now: f64) -> [f64; 3] {
    let none = Vec::new();
    let mut sums = [0.0; 3];
    for (time, value) in numbers.unwrap_or(&none) {
        let weight = 2_f64.powf(-rate * (now - time));
        sums[0] += weight;
        sums[1] += weight * value;
        sums[2] += weight * value * value;
    }
    let mean = sums[1] / sums[0];
    [sums[0], mean, (sums[2] / sums[0] - mean * mean).abs()]
}

/// Σ w r r′ over both streams, by going over all their numbers again for each.
fn products(turns: &[(bool, f64, f64)], rate: f64, now: f64) -> f64 {
    let (mut residuals, mut sum) = ([0.0; 2], 0.0);
    for (number, &(side, time, value)) in turns.iter().enumerate() {
        let mine: Numbers = turns[..=number]
            .iter()
            .filter(|turn| turn.0 == side)
            .map(|turn| (turn.1, turn.2))
            .collect();
        let residual = value - moments(Some(&mine), rate, time)[1];
        residuals[usize::from(side)] = residual;
        sum += 2_f64.powf(-rate * (now - time)) * residual * residuals[usize::from(!side)];
    }
    sum
}

impl Naive {
    fn observe(&mut self, packet: &Sighting) -> Vec<f64> {
        let begin = *self.begin.get_or_insert(packet.time);
        let now = packet.time.since(begin).as_secs_f64();
        let (from, to) = (packet.source, packet.destination);
        let (mine, other) = ((from, packet.source_port), (to, packet.destination_port));
        let (there, back) = (
            (mine.0, mine.1, other.0, other.1),
            (other.0, other.1, mine.0, mine.1),
        );
        self.hosts.entry(from).or_default().push((now, packet.bytes));
        self.channels
            .entry((from, to))
            .or_default()
            .push((now, packet.bytes));
        self.sockets.entry(there).or_default().push((now, packet.bytes));
        if let Some(before) = self.latest.insert((from, to), now) {
            self.jitters
                .entry((from, to))
                .or_default()
                .push((now, now - before));
        }
        let (channel, socket) = (
            format!("{} {}", from.min(to), from.max(to)),
            format!("{:?} {:?}", mine.min(other), mine.max(other)),
        );
        for (name, side) in [(&channel, from > to), (&socket, mine > other)] {
            self.turns
                .entry(name.clone())
                .or_default()
                .push((side, now, packet.bytes));
        }
        let mut values = Vec::new();
        for rate in RATES_HZ {
            let moves = |[_, mean, variance]: [f64; 3]| variance > 1e-12 * mean * mean;
            let one = |numbers: Option<&Numbers>, values: &mut Vec<f64>| {
                let [weight, mean, variance] = moments(numbers, rate, now);
                values.extend([weight, mean, variance.sqrt()]);
            };
            let both = |a: Option<&Numbers>, b: Option<&Numbers>, name: &String, values: &mut Vec<f64>| {
                let (i, j) = (moments(a, rate, now), moments(b, rate, now));
                let known = |value: f64| if b.is_some() { value } else { 0.0 };
                let covariance = products(&self.turns[name], rate, now) / (i[0] + j[0]);
                let deviations = (i[2] * known(j[2])).sqrt();
                values.extend([
                    i[2].hypot(known(j[2])),
                    i[1].hypot(known(j[1])),
                    covariance,
                    if moves(i) && moves([0.0, known(j[1]), known(j[2])]) {
                        (covariance / deviations).clamp(-1.0, 1.0)
                    } else {
                        0.0
                    },
                ]);
            };
            one(self.hosts.get(&from), &mut values);
            one(self.channels.get(&(from, to)), &mut values);
            let opposite = self.channels.get(&(to, from)).filter(|_| from != to);
            both(self.channels.get(&(from, to)), opposite, &channel, &mut values);
            one(self.jitters.get(&(from, to)), &mut values);
            one(self.sockets.get(&there), &mut values);
            let opposite = self.sockets.get(&back).filter(|_| there != back);
            both(self.sockets.get(&there), opposite, &socket, &mut values);
        }
        values
    }
}

/// Compares, but where a statistic is a difference of numbers far larger than itself.
fn check(found: &[f64], expected: &[f64]) -> Result<(), String> {
    let features = image_features();
    if found.len() != features.len() || expected.len() != features.len() {
        return Err(format!("{} and {} values", found.len(), expected.len()));
    }
    let at = |name: &str| {
        features
            .iter()
            .position(|feature| feature.name == name)
            .expect("a statistic")
    };
    for (number, feature) in features.iter().enumerate() {
        let (a, b) = (found[number], expected[number]);
        let (part, statistic) = feature.name.rsplit_once('_').expect("part and statistic");
        // Numbers are up to a thousand or two: their squares, and so variances, are exact to 1e-9 of a few millions.
        let scale = match statistic {
            "weight" => 1.0 + b.abs(),
            "mean" | "magnitude" => 1.0 + b.abs(),
            "deviation" => {
                let mean = expected[at(&format!("{part}_mean"))];
                // √ε of the size of what was subtracted.
                if b < 1e-3 * (1.0 + mean.abs()) {
                    1e6 * (1.0 + mean.abs())
                } else {
                    1e3 * (1.0 + mean.abs())
                }
            }
            "radius" | "covariance" => 1e7,
            _ => {
                // Covariance by both deviations, the other of which is known from the radius.
                let deviation = expected[at(&format!("{part}_deviation"))];
                let radius = expected[at(&format!("{part}_radius"))];
                let other = (radius * radius - deviation.powi(4)).max(0.0).sqrt().sqrt();
                if deviation < 1.0 || other < 1.0 {
                    f64::INFINITY
                } else {
                    1e4
                }
            }
        };
        let same = a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * scale;
        if !same {
            return Err(format!("{}: {a} for {b}", feature.name));
        }
    }
    Ok(())
}

fn sighting(time: Timestamp, from: u8, to: u8, port: u16, bytes: f64) -> Sighting {
    let host = |n: u8| IpAddr::from([10, 0, 0, n]);
    Sighting {
        time,
        source: host(from),
        source_port: if from < to { 4000 } else { port },
        destination: host(to),
        destination_port: if from < to { port } else { 4000 },
        bytes,
    }
}

proptest! {
    #[test]
    fn as_the_definitions_say(
        packets in proptest::collection::vec((0_u8..3, 0_u8..3, 0_u16..2, 40..1500_u16, 0_u64..2_000_000_000), 1..60),
    ) {
        let (mut image, mut naive, mut now) = (AfterImage::new(100, 100, 100), Naive::default(), 0);
        for (from, to, port, bytes, step) in packets {
            now += step;
            let time = Timestamp::from_nanos(now as i64);
            let packet = sighting(time, from, to, port, f64::from(bytes));
            let mut values = Vec::new();
            image.observe(&packet, &mut values);
            let checked = check(&values, &naive.observe(&packet));
            prop_assert!(checked.is_ok(), "{checked:?} at {packet:?}");
            let bytes = postcard::to_allocvec(&image.state()).unwrap();
            image = AfterImage::new(100, 100, 100);
            image.restore(postcard::from_bytes(&bytes).unwrap());
        }
    }
}

#[test]
fn limits_hold_and_are_counted() {
    let mut image = AfterImage::new(10, 10, 10);
    for n in 0..1000_u16 {
        let mut packet = sighting(Timestamp::from_secs(i64::from(n)), 1, 2, n, 100.0);
        packet.source = IpAddr::from([10, 1, (n >> 8) as u8, n as u8]);
        image.observe(&packet, &mut Vec::new());
    }
    assert_eq!((image.len(), image.evicted()), (30, 3 * 990));
}

/// The packets of the laboratory's capture, one by one.
#[test]
fn packets_of_the_capture() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/lab.pcap");
    let file = std::fs::File::open(path).expect("the capture");
    let mut capture = CaptureReader::new(file).expect("a capture");
    let (mut image, mut naive) = (AfterImage::new(1000, 10_000, 100_000), Naive::default());
    let mut seen = 0;
    let mut moved = vec![false; image_features().len()];
    while let Some(packet) = capture.next_packet().expect("a whole capture") {
        let Decoded::Ip(ip) = decode(&packet) else {
            continue;
        };
        let time = packet.time;
        let sighting = Sighting {
            time,
            source: ip.source(),
            source_port: ip.ports().0,
            destination: ip.destination(),
            destination_port: ip.ports().1,
            bytes: f64::from(ip.length()),
        };
        let mut values = Vec::new();
        image.observe(&sighting, &mut values);
        for (moved, value) in moved.iter_mut().zip(&values) {
            *moved |= value.is_finite() && *value != 0.0;
        }
        seen += 1;
        // Going over everything again takes long for many packets.
        if seen <= 300 {
            check(&values, &naive.observe(&sighting)).unwrap();
        }
    }
    assert!(seen > 10_000, "{seen}");
    for (feature, moved) in image_features().iter().zip(moved) {
        assert!(moved, "{} says nothing about any packet", feature.name);
    }
}
