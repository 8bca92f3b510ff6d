//! Any events, in any order, at any times: the extractor stays within its limits, and a restart changes nothing.

mod common;

use amoskys_core::event::{FlowEnd, FlowPhase, Punctuation, TcpState};
use amoskys_core::{Extractor, Payload, Recorded, Timestamp};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
use common::{Sensor, bits, ended, run, tcp};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Step {
    kind: u8,
    flow: u64,
    a: u8,
    b: u8,
    packets: u64,
    advance_ms: i64,
    disorder: Option<i64>,
}

fn steps(absurd: bool) -> impl Strategy<Value = Vec<Step>> {
    let odd = if absurd {
        any::<i64>().boxed()
    } else {
        (-30_000_i64..3000).boxed()
    };
    let disorder = proptest::option::weighted(0.15, odd);
    let step = (
        0_u8..12,
        0_u64..30,
        0_u8..6,
        0_u8..6,
        0_u64..50,
        0_i64..1500,
        disorder,
    );
    proptest::collection::vec(step, 1..250).prop_map(|steps| {
        let to_step = |(kind, flow, a, b, packets, advance_ms, disorder)| Step {
            kind,
            flow,
            a,
            b,
            packets,
            advance_ms,
            disorder,
        };
        steps.into_iter().map(to_step).collect()
    })
}

fn events(steps: &[Step]) -> Vec<Recorded> {
    let mut sensors = [Sensor::new("a"), Sensor::new("b")];
    let mut now = 1_700_000_000_000_i64;
    let to_event = |step: &Step| {
        now += step.advance_ms;
        let sensor = &mut sensors[usize::from(step.a % 2)];
        let at = match step.disorder {
            Some(odd) if odd.unsigned_abs() > 1_000_000 => odd / 1_000_000,
            Some(odd) => now + odd,
            None => now,
        };
        let record = tcp(
            step.flow,
            step.a,
            step.b,
            80 + step.packets as u16,
            at - 10 * step.packets as i64,
            step.packets,
            step.packets / 2,
        );
        match step.kind {
            0..4 => sensor.flow(at, record),
            4..7 => {
                let mut record = record;
                record.phase = FlowPhase::Update;
                sensor.flow(at, record)
            }
            7..9 => sensor.flow(at, ended(record, FlowEnd::Idle, TcpState::SynReceived, at)),
            9 => sensor.query(at, step.a, &format!("n{}.example.com", step.packets), 1),
            10 => sensor.clock(at),
            _ => {
                let end = step.flow == 0;
                let payload = Payload::Punctuation(Punctuation {
                    lateness_ns: step.packets * 100_000_000,
                    end,
                });
                sensor.event(Timestamp::from_nanos(at.saturating_mul(1_000_000)), payload)
            }
        }
    };
    steps.iter().map(to_event).collect()
}

fn small() -> NetworkExtractor {
    let mut config = ExtractConfig::default();
    config.limits.max_entities = 4;
    config.tracker.max_flows = 10;
    config.tracker.novelty_capacity = 8;
    NetworkExtractor::standard(config)
}

proptest! {
    #[test]
    fn a_restart_changes_nothing(steps in steps(false), cut in 0.0..1.0_f64) {
        let events = events(&steps);
        let mut whole = small();
        let expected = run(&mut whole, &events);

        let cut = (events.len() as f64 * cut) as usize;
        let mut before = small();
        let mut features = run(&mut before, &events[..cut]);
        let snapshot = before.snapshot().unwrap();
        let mut after = small();
        after.restore(&snapshot).unwrap();
        prop_assert_eq!(after.snapshot().unwrap(), snapshot);
        features.extend(run(&mut after, &events[cut..]));
        prop_assert_eq!(bits(&features), bits(&expected));
        prop_assert_eq!(after.snapshot().unwrap(), whole.snapshot().unwrap());
        prop_assert_eq!(after.counters(), whole.counters());
    }

    /// What is not looked at need not be made, and makes no difference to the rest.
    #[test]
    fn a_restricted_extractor_gives_the_same_vectors_of_its_schemas(steps in steps(true), kept in 0_usize..8) {
        let events = events(&steps);
        let mut whole = small();
        let wanted: Vec<_> = whole.schemas().skip(kept).step_by(3).map(|schema| schema.digest()).collect();
        let mut expected = run(&mut whole, &events);
        expected.retain(|vector| wanted.contains(&vector.schema.digest()));
        let mut restricted = small();
        restricted.restrict(&wanted);
        prop_assert_eq!(restricted.schemas().count(), wanted.len());
        prop_assert_eq!(bits(&run(&mut restricted, &events)), bits(&expected));
        // In the middle of a stream it is too late.
        restricted.restrict(&[]);
        prop_assert_eq!(restricted.schemas().count(), wanted.len());
    }

    #[test]
    fn absurd_times_are_harmless(steps in steps(true)) {
        let events = events(&steps);
        let mut extractor = small();
        let features = run(&mut extractor, &events);
        prop_assert!(extractor.entities() <= 2 * 8 * 4);
        // Each event goes into at most ten panes of a window, and tells at most five things.
        prop_assert!(features.len() <= events.len() * 8 * 10 * 5);
        let per_call = |vectors: &[amoskys_core::FeatureVector]| vectors.iter().all(|v| v.start <= v.end);
        prop_assert!(per_call(&features));
    }
}

#[test]
fn keeps_the_promises_of_an_extractor() {
    use amoskys_core::conformance::extractor;

    let scan = |n: u64| Step {
        kind: (n % 12) as u8,
        flow: n / 2,
        a: (n % 5) as u8,
        b: (n % 3) as u8,
        packets: n % 40,
        advance_ms: 150,
        disorder: None,
    };
    extractor(small, &events(&(0..600).map(scan).collect::<Vec<_>>()));
}

#[test]
fn a_foreign_or_damaged_snapshot_is_refused_and_changes_nothing() {
    let step = |n: u64| Step {
        kind: 0,
        flow: n,
        a: 0,
        b: 2,
        packets: n,
        advance_ms: 700,
        disorder: None,
    };
    let events = events(&(0..60).map(step).collect::<Vec<_>>());
    let mut extractor = small();
    run(&mut extractor, &events[..30]);
    let snapshot = extractor.snapshot().unwrap();
    let mut other = NetworkExtractor::standard(ExtractConfig::default());
    assert!(other.restore(&snapshot).is_err(), "other limits");
    for at in (0..snapshot.len()).step_by(97) {
        let mut damaged = snapshot.clone();
        damaged[at] ^= 0x40;
        assert!(extractor.restore(&damaged).is_err());
        assert!(extractor.restore(&snapshot[..at]).is_err());
    }
    assert_eq!(extractor.snapshot().unwrap(), snapshot);
    let mut undisturbed = small();
    undisturbed.restore(&snapshot).unwrap();
    assert_eq!(
        bits(&run(&mut extractor, &events[30..])),
        bits(&run(&mut undisturbed, &events[30..]))
    );
}
