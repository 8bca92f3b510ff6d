//! Pane-based windows give what going over all events again for each window gives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amoskys_core::{Seq, Timestamp};
use amoskys_features::aggregate::{Aggregate, Distinct, Frequencies, Merged, Moments};
use amoskys_features::hash::KeyHash;
use amoskys_features::window::{KeyedWindows, LatePolicy, Limits, WindowSpec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    count: u64,
    sum: f64,
    moments: Moments,
    distinct: Distinct,
    frequencies: Frequencies,
}

impl Aggregate for Sums {
    type Sliding = Merged;

    fn merge(&mut self, later: &Self) {
        self.count.merge(&later.count);
        self.sum.merge(&later.sum);
        self.moments.merge(&later.moments);
        self.distinct.merge(&later.distinct);
        self.frequencies.merge(&later.frequencies);
    }
}

#[derive(Clone, Debug)]
struct Happening {
    key: u8,
    time_ms: i64,
    value: f64,
    member: u64,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = (0_u8..5, -3000_i64..6000, -1e3..1e3_f64, 0_u64..40);
    let steps = proptest::collection::vec((one, 0_i64..400), 1..200);
    steps.prop_map(|steps| {
        let mut now = 0;
        let mut all = Vec::new();
        for ((key, disorder, value, member), step) in steps {
            now += step;
            // One in eight comes out of order.
            let time_ms = if member % 8 == 0 { now + disorder } else { now };
            all.push(Happening {
                key,
                time_ms,
                value,
                member,
            });
        }
        all
    })
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

type Emitted = Vec<(i64, u8, Sums, u64, u64)>;

/// Feeds the events, moving the watermark with the latest time less two seconds.
fn run(windows: &mut KeyedWindows<u8, Sums>, events: &[Happening], first: usize, now: &mut i64) -> Emitted {
    let mut out = Emitted::new();
    for (number, event) in events.iter().enumerate() {
        let seq = Seq((first + number) as u64);
        windows.update(&event.key, at(event.time_ms), seq, |sums| {
            sums.count += 1;
            sums.sum += event.value;
            sums.moments.add(event.value);
            sums.distinct.add(KeyHash::of_number(event.member));
            sums.frequencies.add(KeyHash::of_number(event.member));
        });
        *now = (*now).max(event.time_ms);
        windows.advance(at(*now - 2000), |closed| {
            let end_ms = closed.end.nanos() / 1_000_000;
            out.push((
                end_ms,
                *closed.key,
                closed.aggregate.clone(),
                closed.first.0,
                closed.last.0,
            ));
        });
    }
    out
}

/// What windows of `length` ms ending every `slide` ms must hold, by the definition.
fn naive(events: &[Happening], length: i64, slide: i64) -> (BTreeMap<(i64, u8), Vec<usize>>, u64) {
    let (mut now, mut closed, mut late) = (i64::MIN / 2, None, 0);
    let mut taken: Vec<(usize, i64)> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let pane = event.time_ms.div_euclid(slide);
        if closed.is_some_and(|closed| pane < closed) {
            late += 1;
        } else {
            taken.push((number, event.time_ms));
        }
        now = now.max(event.time_ms);
        closed = Some(closed.unwrap_or(i64::MIN).max((now - 2000).div_euclid(slide)));
    }
    let mut windows: BTreeMap<(i64, u8), Vec<usize>> = BTreeMap::new();
    for (number, time) in taken {
        let first_end = (time.div_euclid(slide) + 1) * slide;
        for end in (first_end..first_end + length).step_by(slide as usize) {
            if end <= closed.unwrap_or(i64::MIN) * slide {
                windows.entry((end, events[number].key)).or_default().push(number);
            }
        }
    }
    (windows, late)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    #[test]
    fn sliding_windows(events in happenings(), panes in 1_i64..8) {
        let (length, slide) = (panes * 500, 500);
        let ms = |ms: i64| Duration::from_millis(ms as u64);
        let spec = WindowSpec::sliding(ms(length), ms(slide)).unwrap();
        let mut windows = KeyedWindows::new(spec, Limits::default());
        let out = run(&mut windows, &events, 0, &mut (i64::MIN / 2));
        let (expected, late) = naive(&events, length, slide);

        prop_assert_eq!(windows.counters().late_dropped, late);
        let order: Vec<(i64, u8)> = out.iter().map(|window| (window.0, window.1)).collect();
        let expected_order: Vec<(i64, u8)> = expected.keys().copied().collect();
        prop_assert_eq!(order, expected_order, "windows by end, then key");
        for (end, key, sums, first, last) in out {
            let members = &expected[&(end, key)];
            let values: Vec<f64> = members.iter().map(|&n| events[n].value).collect();
            let distinct: BTreeSet<u64> = members.iter().map(|&n| events[n].member).collect();
            prop_assert_eq!(sums.count, members.len() as u64);
            prop_assert!(close(sums.sum, values.iter().sum()));
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!(close(sums.moments.mean(), mean));
            prop_assert_eq!(sums.distinct.count(), distinct.len() as f64);
            let entropy: f64 = distinct.iter().map(|&member| {
                let share = members.iter().filter(|&&n| events[n].member == member).count() as f64
                    / members.len() as f64;
                -share * share.log2()
            }).sum();
            prop_assert!(close(sums.frequencies.entropy(), entropy));
            prop_assert_eq!(first, *members.iter().min().unwrap() as u64);
            prop_assert_eq!(last, *members.iter().max().unwrap() as u64);
        }
    }

    #[test]
    fn a_restored_state_goes_on_bit_for_bit(events in happenings(), cut in 0.0..1.0_f64, entities in 2_usize..6) {
        let spec = WindowSpec::sliding(Duration::from_secs(3), Duration::from_secs(1)).unwrap();
        let limits = Limits { max_entities: entities, late: LatePolicy::Shift };
        let mut whole = KeyedWindows::new(spec, limits);
        let expected = run(&mut whole, &events, 0, &mut (i64::MIN / 2));

        let cut = (events.len() as f64 * cut) as usize;
        let mut now = i64::MIN / 2;
        let mut before = KeyedWindows::new(spec, limits);
        let mut out = run(&mut before, &events[..cut], 0, &mut now);
        let bytes = postcard::to_allocvec(&before.state()).unwrap();
        let mut after = KeyedWindows::new(spec, limits);
        after.restore(postcard::from_bytes(&bytes).unwrap());
        out.extend(run(&mut after, &events[cut..], cut, &mut now));

        prop_assert_eq!(postcard::to_allocvec(&out).unwrap(), postcard::to_allocvec(&expected).unwrap());
        prop_assert_eq!(
            postcard::to_allocvec(&after.state()).unwrap(),
            postcard::to_allocvec(&whole.state()).unwrap()
        );
    }

    #[test]
    fn absurd_times_cost_neither_loops_nor_memory(
        times in proptest::collection::vec(prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), 0..10_i64], 1..300),
        watermarks in proptest::collection::vec(any::<i64>(), 1..20),
    ) {
        let spec = WindowSpec::sliding(Duration::from_millis(1024), Duration::from_millis(1)).unwrap();
        let mut windows: KeyedWindows<u8, u64> = KeyedWindows::new(spec, Limits::default());
        let mut watermarks = watermarks.into_iter().cycle();
        let (mut out, mut accepted) = (0_u64, 0_u64);
        for (number, time) in times.iter().enumerate() {
            accepted += u64::from(windows.update(&0, Timestamp::from_nanos(*time), Seq(0), |count| *count += 1));
            if number % 10 == 0 {
                let watermark = watermarks.next().unwrap_or(0);
                windows.advance(Timestamp::from_nanos(watermark), |_| out += 1);
            }
        }
        windows.finish(|_| out += 1);
        prop_assert_eq!(windows.entities(), 0);
        let counters = windows.counters();
        prop_assert_eq!(counters.accepted, accepted);
        prop_assert_eq!(accepted + counters.late_dropped + counters.ahead_dropped, times.len() as u64);
        // Each accepted event is in at most as many windows as a window has panes.
        prop_assert!(out <= accepted * 1024);
    }
}

#[test]
fn one_entity_too_many_forgets_the_least_recent() {
    let spec = WindowSpec::tumbling(Duration::from_secs(10)).unwrap();
    let limits = Limits {
        max_entities: 100,
        ..Limits::default()
    };
    let mut windows: KeyedWindows<u32, u64> = KeyedWindows::new(spec, limits);
    for n in 0..100_000_u32 {
        windows.update(&n, Timestamp::from_secs(1), Seq(0), |count| *count += 1);
        windows.update(&7, Timestamp::from_secs(1), Seq(0), |count| *count += 1);
        assert!(windows.entities() <= 100);
    }
    assert_eq!(windows.counters().evicted, 100_000 - 100);
    let mut busiest = 0;
    windows.advance(Timestamp::from_secs(10), |closed| {
        busiest = busiest.max(*closed.aggregate)
    });
    assert_eq!(busiest, 100_001, "who is active is not forgotten");
    assert_eq!(windows.entities(), 0, "who is idle holds no memory");
}

#[test]
fn several_at_once_come_to_the_same_as_one_by_one() {
    let spec = WindowSpec::sliding(Duration::from_secs(3), Duration::from_secs(1)).unwrap();
    let limits = Limits {
        max_entities: 50,
        ..Limits::default()
    };
    let events: Vec<(u32, Timestamp)> = (0..5000_u32)
        .map(|n| (n * 7919 % 83, at(i64::from(n) * 10 - i64::from(n * 37 % 900))))
        .collect();
    let (mut single, mut several) = (KeyedWindows::new(spec, limits), KeyedWindows::new(spec, limits));
    let (mut a, mut b): (Vec<(u32, i64, u64)>, Vec<_>) = (Vec::new(), Vec::new());
    for part in events.chunks(70) {
        for (key, time) in part {
            single.update(key, *time, Seq(0), |count: &mut u64| *count += 1);
        }
        several.update_all(
            part,
            |event| (&event.0, event.1, Seq(0)),
            |count: &mut u64, _| *count += 1,
        );
        let watermark = part[part.len() - 1].1;
        single.advance(watermark, |w| a.push((*w.key, w.end.nanos(), *w.aggregate)));
        several.advance(watermark, |w| b.push((*w.key, w.end.nanos(), *w.aggregate)));
    }
    assert_eq!((a, single.counters()), (b, several.counters()));
    assert!(single.counters().evicted > 0 && single.counters().late_dropped > 0);
}
