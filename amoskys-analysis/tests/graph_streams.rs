//! Streams in which it is not enough to ask who seldom acts: an open server, an attacker's host that also does honest work, and
//! an attack that takes its time.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use amoskys_analysis::eval::auroc;
use amoskys_analysis::graph::{
    Communities, Contact, ContactParams, ContactScore, ContactScorer, DegreeParams, Degrees, EdgeParams,
    EdgeScorer, Role,
};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

const WEB: u64 = 443;
const SHARE: u64 = 445;

/// Contacts with their minute, and whether they are attacks.
type Stream = Vec<(u64, Contact, bool)>;

fn contact(source: u64, destination: u64, service: u64, answered: bool) -> Contact {
    Contact {
        source,
        destination,
        service,
        answered: Some(answered),
        bytes: None,
    }
}

/// How well the scores tell attacks from the rest, and the scores of the attacks.
fn judge(stream: &Stream, from: u64) -> (f64, Vec<ContactScore>) {
    let mut scorer = ContactScorer::new(&ContactParams::default()).unwrap();
    let (mut values, mut labels, mut attacks) = (Vec::new(), Vec::new(), Vec::new());
    for (minute, contact, attack) in stream {
        let score = scorer.score(contact, *minute);
        if *minute < from {
            continue;
        }
        values.push(f64::from(score.value));
        labels.push(*attack);
        attacks.extend(attack.then_some(score));
    }
    (auroc(&values, &labels).unwrap(), attacks)
}

fn source_rarity_alone(stream: &Stream, from: u64) -> f64 {
    let mut scorer = EdgeScorer::new(&EdgeParams::default()).unwrap();
    let scored = stream.iter().map(|(minute, contact, attack)| {
        let score = scorer.score(contact.source, contact.destination, *minute);
        (*minute, f64::from(score.value), *attack)
    });
    let late: Vec<_> = scored.filter(|scored| scored.0 >= from).collect();
    let (values, labels): (Vec<f64>, Vec<bool>) = late.iter().map(|scored| (scored.1, scored.2)).unzip();
    auroc(&values, &labels).unwrap()
}

#[test]
fn on_an_open_server_strangers_are_normal_and_probes_are_not() {
    let mut random = Random(1);
    let mut stream = Stream::new();
    for minute in 0..3_000 {
        for _ in 0..6 {
            // Nobody comes twice, and one in fifty gets no answer.
            let stranger = 1_000_000 + random.below(1 << 40);
            let answered = random.below(50) != 0;
            stream.push((minute, contact(stranger, 1, WEB, answered), false));
        }
        if minute >= 2_000 && minute % 20 == 0 {
            stream.push((minute, contact(77, 1, 1 + minute / 20, false), true));
        }
    }
    let (quality, attacks) = judge(&stream, 2_000);
    assert!(quality > 0.999, "{quality}");
    assert!(attacks.iter().skip(10).all(|score| score.scan > 20.0));
    let alone = source_rarity_alone(&stream, 2_000);
    assert!(alone < 0.7, "source rarity alone says {alone}");
}

#[test]
fn honest_work_of_the_same_host_does_not_hide_a_sweep() {
    let mut random = Random(2);
    let mut stream = Stream::new();
    for minute in 0..3_000 {
        for host in 0..20 {
            // New sites all the time, nearly all of which answer; among these hosts is the attacker's.
            let site = 10_000 + random.below(1 << 40);
            let answered = random.below(20) != 0;
            stream.push((minute, contact(host, site, WEB, answered), false));
            stream.push((minute, contact(host, 900, SHARE, true), false));
        }
        if minute >= 2_000 && minute % 10 == 0 {
            stream.push((minute, contact(5, 100 + minute / 10, SHARE, false), true));
        }
    }
    let (quality, attacks) = judge(&stream, 2_000);
    assert!(quality > 0.99, "{quality}");
    assert!(attacks.last().unwrap().sweep > 30.0);
    let alone = source_rarity_alone(&stream, 2_000);
    assert!(alone < 0.9, "source rarity alone says {alone}");
}

#[test]
fn a_probe_an_hour_adds_up() {
    let mut random = Random(3);
    let mut stream = Stream::new();
    for minute in 0..5_000 {
        for host in 0..10 {
            let answered = random.below(20) != 0;
            stream.push((
                minute,
                contact(host, 500 + random.below(40), WEB, answered),
                false,
            ));
        }
        if minute >= 2_000 && minute % 60 == 0 {
            stream.push((minute, contact(3, 1_000 + minute, 22, false), true));
        }
    }
    let (quality, attacks) = judge(&stream, 2_000);
    assert!(quality > 0.99, "{quality}");
    let enough = attacks.iter().position(|score| score.sweep > 18.0).unwrap();
    assert!(enough <= 10, "it took {enough} probes");

    let mut degrees = Degrees::new(&DegreeParams::default()).unwrap();
    let (mut before, mut after) = (0.0, 0.0);
    for (minute, contact, attack) in &stream {
        let score = degrees.score(contact.source, contact.destination, *minute);
        match attack {
            true => after = score.fan_out,
            false if contact.source == 3 && *minute < 2_000 => before = score.fan_out,
            false => {}
        }
    }
    // 24 hosts a day, where the same host uses 40.
    assert!(
        (40.0 - before).abs() < 4.0 && (64.0 - after).abs() < 6.0,
        "{before} {after}"
    );
}

#[test]
fn many_destinations_and_many_sources_are_both_bursts() {
    let mut degrees = Degrees::new(&DegreeParams {
        window: 10,
        capacity: 1_000,
    })
    .unwrap();
    for minute in 0..100 {
        for host in 0..20 {
            assert!(degrees.score(host, 100 + host % 3, minute).value < 1.0);
        }
    }
    let out = (0..200).map(|n| degrees.score(7, 5_000 + n, 100)).last().unwrap();
    assert!(out.value > 2.0 && (out.fan_out - 201.0).abs() < 25.0, "{out:?}");
    let into = (0..200)
        .map(|n| degrees.score(9_000 + n, 101, 100))
        .last()
        .unwrap();
    assert!(into.value > 1.5 && into.fan_in > 150.0, "{into:?}");
}

#[test]
fn bytes_far_above_what_was_sent_before_are_strange() {
    let mut scorer = ContactScorer::new(&ContactParams::default()).unwrap();
    let mut random = Random(4);
    let mut of = |bytes: u64, minute: u64| {
        let mut contact = contact(1, 2, WEB, true);
        contact.bytes = Some(bytes);
        scorer.score(&contact, minute).strange_volume
    };
    for minute in 0..200 {
        assert_eq!(of(500 + random.below(3_000), minute), 0.0);
    }
    assert!(of(500_000_000, 201) > 10.0);
    assert_eq!(of(10, 202), 0.0);
}

#[test]
fn who_changes_sides_is_seen() {
    let mut communities = Communities::new(1_000).unwrap();
    let mut random = Random(5);
    for _ in 0..4_000 {
        let side = random.below(2);
        communities.score(side * 100 + random.below(10), side * 100 + random.below(10));
    }
    let usual = communities.score(103, 107);
    let across = communities.score(4, 107);
    assert!(across.value > usual.value + 1.0, "{across:?} {usual:?}");
    assert!(across.crosses && !usual.crosses);
}

#[test]
fn a_restored_scorer_goes_on_bit_for_bit() {
    let mut random = Random(6);
    let mut edges: Vec<(u64, u64, u64)> = Vec::new();
    for n in 0..20_000 {
        edges.push((random.below(300), random.below(3_000), n / 40));
    }
    for role in [Role::Source, Role::Destination, Role::Either] {
        let params = EdgeParams {
            cells: 256,
            role,
            seed: 9,
            ..EdgeParams::default()
        };
        let mut whole = EdgeScorer::new(&params).unwrap();
        let expected: Vec<_> = edges
            .iter()
            .map(|e| whole.score(e.0, e.1, e.2).value.to_bits())
            .collect();
        let mut first = EdgeScorer::new(&params).unwrap();
        let (before, after) = edges.split_at(7_777);
        let mut found: Vec<_> = before
            .iter()
            .map(|e| first.score(e.0, e.1, e.2).value.to_bits())
            .collect();
        let bytes = postcard::to_allocvec(&first).unwrap();
        let mut second = EdgeScorer::new(&params).unwrap();
        second.adopt(postcard::from_bytes(&bytes).unwrap()).unwrap();
        found.extend(after.iter().map(|e| second.score(e.0, e.1, e.2).value.to_bits()));
        assert_eq!(found, expected);
        assert!(whole.evicted() > 0);
        let mut other = EdgeScorer::new(&EdgeParams { seed: 10, ..params }).unwrap();
        assert!(other.adopt(first).is_err());
    }
}

#[test]
fn absurd_input_does_no_harm() {
    for params in [
        EdgeParams {
            cells: 100,
            ..EdgeParams::default()
        },
        EdgeParams {
            cells: 0,
            ..EdgeParams::default()
        },
        EdgeParams {
            half_life: Some(f32::NAN),
            ..EdgeParams::default()
        },
        EdgeParams {
            long_ticks: 0,
            ..EdgeParams::default()
        },
    ] {
        assert!(EdgeScorer::new(&params).is_err(), "{params:?}");
    }
    let mut scorer = EdgeScorer::new(&EdgeParams {
        cells: 4,
        ..EdgeParams::default()
    })
    .unwrap();
    for tick in [5, 0, u64::MAX, 3, u64::MAX - 1, 1 << 40] {
        for _ in 0..5_000 {
            let score = scorer.score(tick, u64::MAX, tick);
            assert!(score.value.is_finite(), "{tick}: {score:?}");
        }
    }
}

#[test]
fn the_key_decides_which_nodes_share_a_place() {
    let places = |seed| {
        let params = EdgeParams {
            cells: 16,
            seed,
            ..EdgeParams::default()
        };
        let mut scorer = EdgeScorer::new(&params).unwrap();
        let score = |n: u64| scorer.score(n % 64, n % 7, n / 100).value.to_bits();
        (0..2_000).map(score).collect::<Vec<_>>()
    };
    assert_eq!(places(1), places(1));
    assert_ne!(places(1), places(2));
}
