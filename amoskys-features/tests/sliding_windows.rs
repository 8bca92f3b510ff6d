//! Windows that slide hold what adding up their events one by one gives, go on from a stored state bit for bit, and refuse
//! or survive a state that is damaged.

use std::time::Duration;

use amoskys_core::{Seq, Timestamp};
use amoskys_features::aggregate::{
    Aggregate, Damped, Distinct, Frequencies, Moments, Quantiles, Sliding, StartTimes,
};
use amoskys_features::hash::KeyHash;
use amoskys_features::window::{Emit, KeyedWindows, LatePolicy, Limits, WindowSpec, WindowState};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// All of these slide.
type Slides = (u64, f64, Moments, Distinct, Quantiles, Frequencies, Damped<100>);
/// One of these does not, so that windows are sums.
type Sums = (Slides, StartTimes);

/// The same as [`Slides`], but never packed.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Unpacked(Slides);

#[derive(Default)]
struct UnpackedSliding(<Slides as Aggregate>::Sliding);

impl Aggregate for Unpacked {
    type Sliding = UnpackedSliding;

    fn merge(&mut self, later: &Self) {
        self.0.merge(&later.0);
    }
}

impl Sliding<Unpacked> for UnpackedSliding {
    const SLIDES: bool = true;

    fn enter(&mut self, pane: &Unpacked) -> bool {
        self.0.enter(&pane.0)
    }

    fn leave(&mut self, pane: &Unpacked) -> bool {
        self.0.leave(&pane.0)
    }

    fn turn(&mut self) {
        Sliding::<Slides>::turn(&mut self.0);
    }

    fn window(&self, room: &mut Unpacked) {
        self.0.window(&mut room.0);
    }

    fn reset(&mut self) {
        Sliding::<Slides>::reset(&mut self.0);
    }
}

#[derive(Clone, Debug)]
struct Happening {
    key: u8,
    time_ms: i64,
    value: f64,
    member: u64,
}

/// Quiet for a while, then bursts with so many members and values that sketches leave what they can subtract.
fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = (0_u8..3, -1500_i64..100, 0.0..1.0_f64, 0_u64..150, 0_i64..300);
    let quiet = proptest::collection::vec(one.clone(), 1..60);
    let burst = proptest::collection::vec(one, 1..400).prop_map(|mut all| {
        all.iter_mut().for_each(|one| (one.0, one.4) = (0, one.4 / 40));
        all
    });
    let parts = proptest::collection::vec(prop_oneof![2 => quiet, 1 => burst], 1..6);
    parts.prop_map(|parts| {
        let mut now = 0;
        let happening = |(key, disorder, share, member, step): (u8, i64, f64, u64, i64)| {
            now += step;
            Happening {
                key,
                // One in ten comes out of order.
                time_ms: if member % 10 == 0 { now + disorder } else { now },
                // From 10^-6 to 10^6, so that what has gone could weigh more than what is left.
                value: 10_f64.powf(share * 12.0 - 6.0),
                member: member % 20 + if share > 0.8 { member } else { 0 },
            }
        };
        parts.into_iter().flatten().map(happening).collect()
    })
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

fn add((count, sum, moments, distinct, quantiles, frequencies, damped): &mut Slides, event: &Happening) {
    *count += 1;
    *sum += event.value;
    moments.add(event.value);
    distinct.add(KeyHash::of_number(event.member));
    quantiles.add(event.value);
    frequencies.add(KeyHash::of_number(event.member % 70));
    damped.add(at(event.time_ms), event.value);
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-12)
}

#[expect(clippy::unwrap_used, reason = "what is given is a window")]
fn spec(panes: u64) -> WindowSpec {
    let slide = Duration::from_millis(400);
    WindowSpec::sliding(slide * u32::try_from(panes).unwrap(), slide).unwrap()
}

fn limits() -> Limits {
    Limits {
        max_entities: 10,
        late: LatePolicy::Shift,
    }
}

/// Feeds the events, the watermark 1 s behind, and gives each window to `emit`: its end in slides, key, aggregate, events.
fn feed<A: Aggregate>(
    windows: &mut KeyedWindows<u8, A>,
    events: &[(usize, &Happening)],
    add: impl Fn(&mut A, &Happening),
    mut emit: impl FnMut(i64, u8, &A, Seq, Seq),
) {
    for &(number, event) in events {
        windows.update(&event.key, at(event.time_ms), Seq(number as u64), |aggregate| {
            add(aggregate, event);
        });
        windows.advance(at(event.time_ms - 1000), |closed| {
            let end = closed.end.nanos() / 400_000_000;
            emit(end, *closed.key, closed.aggregate, closed.first, closed.last);
        });
    }
}

/// The pane that each event goes into, by the definition of [`LatePolicy::Shift`].
fn panes_of(events: &[Happening]) -> Vec<i64> {
    let mut open = i64::MIN;
    let pane = |event: &Happening| {
        let pane = event.time_ms.div_euclid(400).max(open);
        open = open.max((event.time_ms - 1000).div_euclid(400));
        pane
    };
    events.iter().map(pane).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn windows_hold_what_their_events_add_up_to(events in happenings(), panes in 1_u64..20, changed: bool) {
        let emit = if changed { Emit::Changed } else { Emit::Every };
        let mut windows: KeyedWindows<u8, Slides> = KeyedWindows::new(spec(panes), limits()).emitting(emit);
        let of = panes_of(&events);
        let numbered: Vec<_> = events.iter().enumerate().collect();
        let mut wrong = None;
        feed(&mut windows, &numbered, add, |end, key, window, first, last| {
            let inside = |&n: &usize| {
                events[n].key == key && (end - i64::try_from(panes).unwrap()..end).contains(&of[n])
            };
            let mut expected = Slides::default();
            let members: Vec<usize> = (0..events.len()).filter(inside).collect();
            members.iter().for_each(|&n| add(&mut expected, &events[n]));
            let whole = (window.0, &window.3, &window.4, &window.5)
                == (expected.0, &expected.3, &expected.4, &expected.5);
            let (found, sums) = (window.6.sums(), expected.6.sums());
            let near = close(window.1, expected.1)
                && close(window.2.sum(), expected.2.sum())
                && close(window.2.mean(), expected.2.mean())
                && (window.2.count() < 2 || (window.2.std_dev() - expected.2.std_dev()).abs() <= 1e-9 * expected.2.max())
                && (window.2.min(), window.2.max()) == (expected.2.min(), expected.2.max())
                && close(found.weight(), sums.weight())
                && close(found.sum(), sums.sum());
            let ends = members.first().zip(members.last());
            let span = ends.is_some_and(|(&a, &b)| (a as u64, b as u64) == (first.0, last.0));
            if !(whole && near && span) && wrong.is_none() {
                wrong = Some(format!("{end} {key}: {window:?} for {expected:?}"));
            }
        });
        prop_assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    }

    #[test]
    fn sliding_or_summed_they_go_on_from_a_state_bit_for_bit(
        events in happenings(),
        panes in 1_u64..20,
        cut in 0.0..1.0_f64,
        changed: bool,
    ) {
        go_on::<Slides>(&events, panes, cut, changed, add)?;
        go_on::<Sums>(&events, panes, cut, changed, |sums, event| {
            add(&mut sums.0, event);
            sums.1.add(at(event.time_ms));
        })?;
    }

    /// Packed panes lie elsewhere than those that are not, and entities that go leave theirs behind: nothing of that shows.
    #[test]
    fn packed_or_not_windows_hold_the_same(
        mut events in happenings(),
        keys in proptest::collection::vec(0_u8..12, 300),
        leap in (any::<prop::sample::Index>(), 0_i64..20_000),
        panes in 1_u64..20,
        entities in 1_usize..8,
        cut: prop::sample::Index,
        changed: bool,
    ) {
        for (event, key) in events.iter_mut().zip(keys) {
            event.key = key;
        }
        let from = leap.0.index(events.len());
        events[from..].iter_mut().for_each(|event| event.time_ms += leap.1);
        let numbered: Vec<_> = events.iter().enumerate().collect();
        let (head, tail) = numbered.split_at(cut.index(numbered.len()));
        let emit = if changed { Emit::Changed } else { Emit::Every };
        let limits = Limits { max_entities: entities, ..limits() };
        let mut packed = KeyedWindows::<u8, Slides>::new(spec(panes), limits).emitting(emit);
        let mut unpacked = KeyedWindows::<u8, Unpacked>::new(spec(panes), limits).emitting(emit);
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        let bytes = |slides: &Slides| postcard::to_allocvec(slides).unwrap();

        for part in [head, tail] {
            let state = postcard::to_allocvec(&packed.state()).unwrap();
            prop_assert_eq!(&state, &postcard::to_allocvec(&unpacked.state()).unwrap());
            packed = KeyedWindows::new(spec(panes), limits).emitting(emit);
            packed.restore(postcard::from_bytes(&state).unwrap());
            feed(&mut packed, part, add, |end, key, window, first, last| {
                found.push((end, key, bytes(window), first, last));
            });
            let add = |unpacked: &mut Unpacked, event: &Happening| add(&mut unpacked.0, event);
            feed(&mut unpacked, part, add, |end, key, window, first, last| {
                expected.push((end, key, bytes(&window.0), first, last));
            });
        }
        packed.finish(|closed| {
            found.push((closed.end.nanos() / 400_000_000, *closed.key, bytes(closed.aggregate), closed.first, closed.last));
        });
        unpacked.finish(|closed| {
            expected.push((closed.end.nanos() / 400_000_000, *closed.key, bytes(&closed.aggregate.0), closed.first, closed.last));
        });
        prop_assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(packed.counters(), unpacked.counters());
    }

    #[test]
    fn a_damaged_state_is_refused_or_does_no_harm(
        events in happenings(),
        panes in 1_u64..20,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut: prop::sample::Index,
    ) {
        let mut windows: KeyedWindows<u8, Slides> = KeyedWindows::new(spec(panes), limits());
        let numbered: Vec<_> = events.iter().enumerate().collect();
        feed(&mut windows, &numbered, add, |_, _, _, _, _| ());
        let mut bytes = postcard::to_allocvec(&windows.state()).unwrap();
        let short = &bytes[..cut.index(bytes.len())];
        prop_assert!(postcard::from_bytes::<WindowState<u8, Slides>>(short).is_err());
        for (place, byte) in damage {
            // The format's number alone is refused.
            let place = 5 + place.index(bytes.len() - 5);
            bytes[place] = byte;
        }
        if let Ok(state) = postcard::from_bytes::<WindowState<u8, Slides>>(&bytes) {
            let mut windows: KeyedWindows<u8, Slides> = KeyedWindows::new(spec(panes), limits());
            windows.restore(state);
            feed(&mut windows, &numbered, add, |_, _, window, _, _| {
                let _ = (window.3.count(), window.4.quantile(0.5), window.5.entropy());
            });
            windows.finish(|_| ());
        }
    }
}

#[expect(
    clippy::unwrap_used,
    reason = "a state that cannot be stored or read fails the test"
)]
fn go_on<A: Aggregate>(
    events: &[Happening],
    panes: u64,
    cut: f64,
    changed: bool,
    add: impl Fn(&mut A, &Happening),
) -> Result<(), TestCaseError> {
    let emit = if changed { Emit::Changed } else { Emit::Every };
    let new = || KeyedWindows::<u8, A>::new(spec(panes), limits()).emitting(emit);
    let numbered: Vec<_> = events.iter().enumerate().collect();
    let (head, tail) = numbered.split_at((events.len() as f64 * cut) as usize);
    let stored = |windows: &KeyedWindows<u8, A>| postcard::to_allocvec(&windows.state()).unwrap();
    let mut expected = Vec::new();
    let mut out = Vec::new();
    let note = |all: &mut Vec<_>, end: i64, key: u8, window: &A, first: Seq, last: Seq| {
        all.push((end, key, postcard::to_allocvec(window).unwrap(), first, last));
    };

    let mut whole = new();
    feed(&mut whole, &numbered, &add, |e, k, w, f, l| {
        note(&mut expected, e, k, w, f, l)
    });
    let mut before = new();
    feed(&mut before, head, &add, |e, k, w, f, l| {
        note(&mut out, e, k, w, f, l)
    });
    let mut after = new();
    after.restore(postcard::from_bytes(&stored(&before)).unwrap());
    prop_assert_eq!(stored(&after), stored(&before));
    feed(&mut after, tail, &add, |e, k, w, f, l| {
        note(&mut out, e, k, w, f, l)
    });

    prop_assert_eq!(out, expected);
    prop_assert_eq!(stored(&after), stored(&whole));
    prop_assert_eq!(after.counters(), whole.counters());
    Ok(())
}

#[test]
fn a_state_of_the_version_before_is_refused() {
    // The first version began with the entities: none, no open pane, and six counters.
    let bytes = [0_u8; 8];
    assert!(postcard::from_bytes::<WindowState<u8, u64>>(&bytes).is_err());
}

#[test]
fn an_entity_that_comes_and_goes_is_as_if_it_were_new() {
    let spec = WindowSpec::sliding(Duration::from_secs(6), Duration::from_secs(1)).unwrap();
    let mut windows: KeyedWindows<u8, (u64, Distinct)> = KeyedWindows::new(spec, Limits::default());
    for round in 0..5_i64 {
        // 6 s of events; the last windows close 6 s later, and 4 slides after it is forgotten. In odd rounds it comes
        // back before.
        let start = round * 20 + if round % 2 == 1 { -6 } else { 0 };
        for second in start..start + 6 {
            windows.update(&1, Timestamp::from_secs(second), Seq(0), |(count, distinct)| {
                *count += 1;
                distinct.add(KeyHash::of_number(second.unsigned_abs()));
            });
        }
        let mut seen = Vec::new();
        windows.advance(Timestamp::from_secs(start + 12), |closed| {
            seen.push((closed.aggregate.0, closed.aggregate.1.count()));
        });
        let expected = [1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1].map(|n| (n, n as f64));
        assert_eq!(seen, expected, "round {round}");
        assert_eq!(windows.entities(), 0);
        let empty =
            postcard::to_allocvec(&KeyedWindows::<u8, (u64, Distinct)>::new(spec, Limits::default()).state());
        let state = postcard::to_allocvec(&windows.state()).unwrap();
        assert!(state.len() < empty.unwrap().len() + 24, "no entity is stored");
    }
}
