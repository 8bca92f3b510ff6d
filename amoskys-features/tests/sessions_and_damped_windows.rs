//! Sessions, damped windows and windows that changed give what going over all events again gives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amoskys_core::{Seq, Timestamp};
use amoskys_features::aggregate::{Damped, Distinct, Quantiles};
use amoskys_features::hash::KeyHash;
use amoskys_features::window::{
    DampedWindows, Emit, KeyedWindows, LatePolicy, Limits, SessionSpec, SessionWindows, WindowSpec,
};
use proptest::prelude::*;

/// Count, sum, distinct members, quantiles.
type Kept = (u64, f64, Distinct, Quantiles);

#[derive(Clone, Debug)]
struct Happening {
    key: u8,
    ms: i64,
    value: f64,
    member: u64,
}

/// Events whose times go forward, up to a second out of order.
fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = (
        0_u8..4,
        0_i64..1000,
        1.0..1e3_f64,
        0_u64..20,
        prop_oneof![4 => 0_i64..300, 1 => 0_i64..9000],
    );
    proptest::collection::vec(one, 1..150).prop_map(|steps| {
        let mut now = 0;
        let happening = |(key, back, value, member, step): (u8, i64, f64, u64, i64)| {
            now += step;
            let ms = if member < 5 { now - back } else { now };
            Happening {
                key,
                ms,
                value,
                member,
            }
        };
        steps.into_iter().map(happening).collect()
    })
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

fn add(kept: &mut Kept, event: &Happening) {
    kept.0 += 1;
    kept.1 += event.value;
    kept.2.add(KeyHash::of_number(event.member));
    kept.3.add(event.value);
}

/// Key, start and end in ms, first and last event, and what was kept.
type Closed = (u8, i64, i64, u64, u64, Kept);

fn closed(out: &mut Vec<Closed>) -> impl FnMut(amoskys_features::window::Closed<'_, u8, Kept>) {
    |window| {
        out.push((
            *window.key,
            window.start.nanos() / 1_000_000,
            window.end.nanos() / 1_000_000,
            window.first.0,
            window.last.0,
            window.aggregate.clone(),
        ));
    }
}

/// What is kept is that of these events.
fn same(kept: &Kept, events: &[&Happening]) -> bool {
    let sum: f64 = events.iter().map(|event| event.value).sum();
    let members: BTreeSet<u64> = events.iter().map(|event| event.member).collect();
    let mut values: Vec<f64> = events.iter().map(|event| event.value).collect();
    values.sort_by(f64::total_cmp);
    let median = values[(values.len() - 1) / 2];
    kept.0 == events.len() as u64
        && (kept.1 - sum).abs() <= 1e-9 * sum.abs()
        && kept.2.count() == members.len() as f64
        && (kept.3.quantile(0.5) - median).abs() <= 0.0100001 * median
}

proptest! {
    #[test]
    fn sessions(events in happenings(), cut in 0.0..1.0_f64) {
        let ms = |ms| Duration::from_millis(ms);
        let spec = SessionSpec::new(ms(1500), ms(1_000_000_000)).unwrap();
        let mut sessions: SessionWindows<u8, Kept> = SessionWindows::new(spec, Limits::default());
        let (mut out, mut now) = (Vec::new(), i64::MIN / 2_000_000);
        let cut = (events.len() as f64 * cut) as usize;
        for (number, event) in events.iter().enumerate() {
            if number == cut {
                let bytes = postcard::to_allocvec(&sessions.state()).unwrap();
                sessions = SessionWindows::new(spec, Limits::default());
                sessions.restore(postcard::from_bytes(&bytes).unwrap());
            }
            prop_assert!(sessions.update(&event.key, at(event.ms), Seq(number as u64), |kept| add(kept, event)));
            now = now.max(event.ms);
            sessions.advance(at(now - 1000), closed(&mut out));
        }
        sessions.finish(closed(&mut out));
        prop_assert_eq!(sessions.entities(), 0);

        // By the definition: sorted by time, cut at each gap.
        let mut expected = Vec::new();
        for key in 0..4 {
            let mut mine: Vec<(usize, &Happening)> = events.iter().enumerate().filter(|(_, e)| e.key == key).collect();
            mine.sort_by_key(|(number, event)| (event.ms, *number));
            for run in mine.chunk_by(|a, b| b.1.ms - a.1.ms < 1500) {
                expected.push((run[run.len() - 1].1.ms + 1500, key, run.to_vec()));
            }
        }
        expected.sort_by_key(|(end, key, _)| (*end, *key));
        let order: Vec<(i64, u8)> = out.iter().map(|window| (window.2, window.0)).collect();
        let expected_order: Vec<(i64, u8)> = expected.iter().map(|(end, key, _)| (*end, *key)).collect();
        prop_assert_eq!(order, expected_order);
        for ((_, start, _, first, last, kept), (_, _, run)) in out.iter().zip(&expected) {
            prop_assert_eq!(*start, run[0].1.ms);
            let numbers = || run.iter().map(|(number, _)| *number as u64);
            prop_assert_eq!((Some(*first), Some(*last)), (numbers().min(), numbers().max()));
            prop_assert!(same(kept, &run.iter().map(|(_, event)| *event).collect::<Vec<_>>()));
        }
    }

    #[test]
    fn windows_that_changed(events in happenings(), panes in 1_i64..80, cut in 0.0..1.0_f64) {
        let (length, slide) = (panes * 200, 200);
        let ms = |ms: i64| Duration::from_millis(ms as u64);
        let spec = WindowSpec::sliding(ms(length), ms(slide)).unwrap();
        let make = || -> KeyedWindows<u8, Kept> { KeyedWindows::new(spec, Limits::default()).emitting(Emit::Changed) };
        let (mut windows, mut whole) = (make(), make());
        let (mut out, mut unbroken, mut now) = (Vec::new(), Vec::new(), i64::MIN / 2_000_000);
        let cut = (events.len() as f64 * cut) as usize;
        for (number, event) in events.iter().enumerate() {
            if number == cut {
                let bytes = postcard::to_allocvec(&windows.state()).unwrap();
                windows = make();
                windows.restore(postcard::from_bytes(&bytes).unwrap());
            }
            now = now.max(event.ms);
            for (windows, out) in [(&mut windows, &mut out), (&mut whole, &mut unbroken)] {
                windows.update(&event.key, at(event.ms), Seq(number as u64), |kept| add(kept, event));
                windows.advance(at(now - 1000), closed(out));
            }
        }
        // The end of time closes all, and lets all go.
        windows.advance(Timestamp::MAX, closed(&mut out));
        whole.advance(Timestamp::MAX, closed(&mut unbroken));
        prop_assert_eq!(postcard::to_allocvec(&out).unwrap(), postcard::to_allocvec(&unbroken).unwrap());
        prop_assert_eq!(windows.entities(), 0);
        prop_assert_eq!(windows.counters().late_dropped, 0);

        let mut expected: BTreeMap<(i64, u8), Vec<usize>> = BTreeMap::new();
        for (number, event) in events.iter().enumerate() {
            let first_end = (event.ms.div_euclid(slide) + 1) * slide;
            for end in (first_end..first_end + length).step_by(slide as usize) {
                expected.entry((end, event.key)).or_default().push(number);
            }
        }
        let changed: Vec<(i64, u8)> = expected
            .iter()
            .filter(|((end, key), members)| expected.get(&(end - slide, *key)) != Some(*members))
            .map(|(window, _)| *window)
            .collect();
        let order: Vec<(i64, u8)> = out.iter().map(|window| (window.2, window.0)).collect();
        prop_assert_eq!(order, changed);
        for (key, start, end, first, last, kept) in &out {
            let members = &expected[&(*end, *key)];
            prop_assert_eq!(*start, end - length);
            prop_assert_eq!((*first, *last), (members[0] as u64, members[members.len() - 1] as u64));
            prop_assert!(same(kept, &members.iter().map(|&n| &events[n]).collect::<Vec<_>>()));
        }
    }

    #[test]
    fn damped_windows(events in happenings(), cut in 0.0..1.0_f64) {
        let second = WindowSpec::tumbling(Duration::from_secs(1)).unwrap();
        let limits = Limits { late: LatePolicy::Shift, ..Limits::default() };
        let make = || -> DampedWindows<u8, Damped<1000>> { DampedWindows::new(second, Duration::from_secs(3600), limits) };
        let mut windows = make();
        let cut = (events.len() as f64 * cut) as usize;
        let (mut out, mut now) = (Vec::new(), i64::MIN / 2_000_000);
        for (number, event) in events.iter().enumerate() {
            if number == cut {
                let bytes = postcard::to_allocvec(&windows.state()).unwrap();
                windows = make();
                windows.restore(postcard::from_bytes(&bytes).unwrap());
            }
            let state = windows.update(&event.key, at(event.ms), Seq(number as u64), |d| d.add(at(event.ms), event.value));
            prop_assert!(state.is_some());
            now = now.max(event.ms);
            windows.advance(at(now), |w| out.push((number, *w.key, w.end, w.aggregate.weight(w.end), w.first.0, w.last.0)));
        }
        let mut given = BTreeMap::new();
        for (number, key, end, weight, first, last) in out {
            let mine = events[..=number].iter().enumerate().filter(|(_, event)| event.key == key);
            let since = given.insert(key, number).map_or(0, |before: usize| before + 1);
            let news: Vec<u64> = mine.clone().map(|(n, _)| n as u64).filter(|&n| n >= since as u64).collect();
            prop_assert_eq!((Some(&first), Some(&last)), (news.first(), news.last()));
            // An event in the period that goes on counts as one at its beginning would: it is not older than that.
            let latest = mine.clone().map(|(_, event)| event.ms).max().unwrap().max(end.nanos() / 1_000_000);
            let expected: f64 = mine.map(|(_, event)| 2_f64.powf((event.ms - latest) as f64 / 1e3)).sum();
            prop_assert!((weight - expected).abs() < 1e-9 * expected, "{weight} {expected}");
        }
    }
}

#[test]
fn an_endless_session_is_cut() {
    let spec = SessionSpec::new(Duration::from_secs(10), Duration::from_secs(60)).unwrap();
    let mut sessions: SessionWindows<u8, u64> = SessionWindows::new(spec, Limits::default());
    let mut lengths = Vec::new();
    for second in 0..200 {
        sessions.update(&1, Timestamp::from_secs(second), Seq(0), |count| *count += 1);
        sessions.advance(Timestamp::from_secs(second), |closed| {
            lengths.push(*closed.aggregate)
        });
    }
    sessions.finish(|closed| lengths.push(*closed.aggregate));
    assert_eq!(lengths, [60, 60, 60, 20]);
    assert!(SessionSpec::new(Duration::from_secs(10), Duration::from_secs(9)).is_err());
}

#[test]
fn late_events_of_sessions_are_dropped_or_moved() {
    let spec = SessionSpec::new(Duration::from_secs(10), Duration::from_secs(3600)).unwrap();
    for (late, expected) in [(LatePolicy::Drop, vec![1, 1]), (LatePolicy::Shift, vec![1, 2])] {
        let limits = Limits {
            late,
            ..Limits::default()
        };
        let mut sessions: SessionWindows<u8, u64> = SessionWindows::new(spec, limits);
        let mut counts = Vec::new();
        for second in [0, 100, 5] {
            sessions.update(&1, Timestamp::from_secs(second), Seq(0), |count| *count += 1);
            sessions.advance(Timestamp::from_secs(second), |closed| {
                counts.push(*closed.aggregate)
            });
        }
        sessions.finish(|closed| counts.push(*closed.aggregate));
        assert_eq!(counts, expected);
        let counters = sessions.counters();
        assert_eq!(counters.late_dropped + counters.late_shifted, 1);
    }
}

#[test]
fn idle_and_surplus_entities_are_let_go() {
    let second = WindowSpec::tumbling(Duration::from_secs(1)).unwrap();
    let limits = Limits {
        max_entities: 50,
        ..Limits::default()
    };
    let mut windows: DampedWindows<u32, Damped<1000>> =
        DampedWindows::new(second, Duration::from_secs(30), limits);
    let mut sessions: SessionWindows<u32, u64> = SessionWindows::new(
        SessionSpec::new(Duration::from_secs(5), Duration::from_secs(60)).unwrap(),
        limits,
    );
    for n in 0..1000_u32 {
        let time = Timestamp::from_nanos(i64::from(n) * 1_000_000);
        windows.update(&n, time, Seq(0), |damped| damped.add(time, 1.0));
        sessions.update(&n, time, Seq(0), |count| *count += 1);
        assert!(windows.entities() <= 50 && sessions.entities() <= 50);
    }
    assert_eq!(
        (windows.counters().evicted, sessions.counters().evicted),
        (950, 950)
    );
    windows.advance(Timestamp::from_secs(60), |_| {});
    sessions.advance(Timestamp::from_secs(60), |_| {});
    assert_eq!((windows.entities(), sessions.entities()), (0, 0));
}
