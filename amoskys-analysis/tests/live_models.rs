//! A model is replaced while events flow, and none of them is missed or seen twice; a shadow changes nothing and tells of
//! differences.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use amoskys_analysis::live::{ModelSlot, Shadow, Taken};
use amoskys_analysis::{BaselineBuilder, Detection, DetectionConfig};
use amoskys_core::event::{ModelRef, Verdict};
use amoskys_core::{
    Analyzer, AnalyzerError, Class, Digest, Epoch, Event, Observation, Recorded, Seq, StreamId, Timestamp,
};
use traffic::{Ending, Traffic, inside, outside};

/// Writes down what it sees, and under which model.
struct Witness {
    version: u64,
    seen: u64,
    journal: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Analyzer for Witness {
    fn model(&self) -> ModelRef {
        ModelRef {
            name: "witness".into(),
            version: "1".into(),
            digest: Digest::of(&self.version.to_le_bytes()),
        }
    }

    fn observe(&mut self, observation: Observation<'_>, _: &mut Vec<Verdict>) -> Result<(), AnalyzerError> {
        if let Observation::Event(event) = observation {
            self.journal.lock().unwrap().push((self.version, event.seq.0));
        }
        self.seen += 1;
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        Ok(self.seen.to_le_bytes().to_vec())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AnalyzerError> {
        let bytes = snapshot.try_into().map_err(|_| AnalyzerError::Snapshot {
            reason: "not eight bytes".to_owned(),
            source: None,
        })?;
        self.seen = u64::from_le_bytes(bytes);
        Ok(())
    }
}

fn events(count: u64) -> impl Iterator<Item = Recorded> {
    let stream = Arc::new(StreamId {
        agent: "sensor".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    });
    (0..count).map(move |seq| Recorded {
        timeline: 0,
        stream: stream.clone(),
        seq: Seq(seq),
        event: Event {
            time: Timestamp::from_nanos(1_700_000_000_000_000_000 + seq as i64 * 1_000),
            ..Event::default()
        },
    })
}

#[test]
fn under_load_every_event_is_judged_once_by_one_model() {
    const EVENTS: u64 = 300_000;
    let journal = Arc::new(Mutex::new(Vec::new()));
    let witness = |version| Witness {
        version,
        seen: 0,
        journal: journal.clone(),
    };
    let (mut slot, handle) = ModelSlot::new(witness(0));
    let done = AtomicBool::new(false);
    let (mut verdicts, mut offers) = (Vec::new(), 0);
    std::thread::scope(|threads| {
        let changing = threads.spawn(|| {
            let mut version = 0;
            while !done.load(Ordering::Relaxed) {
                version += 1;
                handle.offer(witness(version));
                std::thread::yield_now();
            }
            version
        });
        for event in events(EVENTS) {
            slot.observe(Observation::Event(&event), &mut verdicts).unwrap();
            if event.seq.0.is_multiple_of(1_000) {
                // The other thread is to have its turn, however few cores there are.
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
        offers = changing.join().unwrap();
    });
    let journal = journal.lock().unwrap();
    let seqs: Vec<u64> = journal.iter().map(|(_, seq)| *seq).collect();
    assert_eq!(seqs, (0..EVENTS).collect::<Vec<_>>(), "each event once, in order");
    assert!(
        journal.is_sorted_by_key(|(version, _)| *version),
        "no model comes back"
    );
    assert!(
        handle.count() >= 20,
        "{} swaps of {offers} offers",
        handle.count()
    );
    assert_eq!(slot.current().seen, EVENTS, "the state went from model to model");

    // The boundaries that were written down are where the models changed.
    let changes: Vec<u64> = journal
        .windows(2)
        .filter(|pair| pair[0].0 != pair[1].0)
        .map(|pair| pair[1].1)
        .collect();
    let (swaps, count) = handle.swaps_from(0);
    // The latest are kept.
    assert_eq!((swaps.len() as u64, count), (count.min(64), handle.count()));
    let told: Vec<u64> = swaps.iter().map(|swap| swap.events.first.0).collect();
    // An offer may be taken before the very first event.
    let told: Vec<u64> = told.into_iter().filter(|seq| *seq > 0).collect();
    assert!(changes.ends_with(&told), "{told:?}");
    assert!(verdicts.is_empty(), "a swap says nothing about a host");
    assert!(handle.swaps_from(count).0.is_empty(), "each is told once");
    assert_eq!(handle.swaps_from(count - 1).0[0], swaps[63]);
    let entry = swaps[63].audit_entry("alice");
    assert_eq!(
        (entry.actor.as_str(), entry.action.as_str()),
        ("alice", "model.replace")
    );
    assert!(entry.object.contains(&swaps[63].to.digest.to_string()) && entry.reason.contains("replaces"));
    let last = handle.swaps().pop().unwrap();
    assert_eq!(
        (last.to, last.state),
        (slot.model(), Taken::Over),
        "the last swap names the model at work"
    );
}

/// A scan beside honest work, which alone is far from an alert in its first half.
fn scan() -> Vec<Recorded> {
    let mut traffic = Traffic::default();
    for n in 0..60_u16 {
        let at = f64::from(n);
        // At times that follow no rule, as people do.
        let some_time = f64::from(u32::from(n) * 7_919 % 600) / 10.0;
        let size = 500 + u64::from(n) * 977 % 4_000;
        traffic.tcp(
            some_time,
            inside(n % 5),
            outside(9),
            443,
            Ending::Data(500, size, 0.5),
        );
        if n.is_multiple_of(6) {
            traffic.tcp(at, inside(9), inside(20), 100 + n, Ending::Refused);
        }
    }
    traffic.record()
}

fn cold() -> Detection {
    Detection::new(DetectionConfig::default(), Vec::new()).unwrap()
}

/// Another model of the same kind.
fn learned() -> Detection {
    let mut builder = BaselineBuilder::new(&DetectionConfig::default(), Vec::new()).unwrap();
    let mut traffic = Traffic::default();
    for n in 0..200_u16 {
        traffic.tcp(
            f64::from(n),
            inside(n % 5),
            outside(9),
            443,
            Ending::Data(500, 5_000, 0.5),
        );
    }
    traffic.record().iter().for_each(|event| builder.observe(event));
    cold().with_baseline(&builder.finish())
}

fn alerts(analyzer: &mut impl Analyzer, events: &[Recorded]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for event in events {
        analyzer
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    }
    verdicts.retain(Verdict::is_alert);
    verdicts
}

#[test]
fn a_scan_under_way_is_still_found_after_a_swap_and_named_by_the_new_model() {
    let events = scan();
    let (first, second) = events.split_at(events.len() / 2);
    let (mut slot, handle) = ModelSlot::new(cold());
    assert_eq!(alerts(&mut slot, first), [], "half a scan is no alert");
    handle.offer(learned());
    let found = alerts(&mut slot, second);
    assert_eq!(handle.swaps()[0].state, Taken::Over);
    assert!(!found.is_empty(), "what was seen before the swap counts");
    assert!(found.iter().all(|alert| alert.model == learned().model()));
    assert_ne!(learned().model(), cold().model());
    // Without its state the new model has seen half a scan only.
    assert_eq!(alerts(&mut learned(), second), []);
}

#[test]
fn the_last_of_two_offers_counts_and_a_slot_keeps_the_promises_of_an_analyzer() {
    let (mut slot, handle) = ModelSlot::new(cold());
    assert!(handle.offer(cold()).is_none() && handle.is_waiting());
    assert!(
        handle.offer(learned()).is_some(),
        "the offer not taken comes back"
    );
    let events = scan();
    alerts(&mut slot, &events);
    assert!(!handle.is_waiting());
    assert_eq!((slot.model(), handle.count()), (learned().model(), 1));
    amoskys_core::conformance::analyzer(|| ModelSlot::new(cold()).0, &events);
}

#[test]
fn a_shadow_changes_nothing_and_agrees_with_its_like() {
    let events = scan();
    let (mut both, handle) = Shadow::new(cold(), cold());
    assert_eq!(alerts(&mut both, &events), alerts(&mut cold(), &events));
    let told = handle.disagreement();
    assert_eq!(told.observations, events.len() as u64);
    assert_eq!(
        (told.both, told.only_active, told.only_shadow),
        (1, 0, 0),
        "{told}"
    );
    assert!(told.compared > 0 && told.largest_difference == 0.0 && told.examples.is_empty());
    amoskys_core::conformance::analyzer(|| Shadow::new(cold(), learned()).0, &events);
}

#[test]
fn a_shadow_that_sees_less_or_more_is_told_of() {
    let events = scan();
    let mut deaf = DetectionConfig::default();
    deaf.weights.geometric = 0.01;
    let deaf = || Detection::new(deaf.clone(), Vec::new()).unwrap();
    let (mut both, handle) = Shadow::new(cold(), deaf());
    assert!(!alerts(&mut both, &events).is_empty());
    let told = handle.disagreement();
    assert_eq!(
        (told.both, told.only_active, told.only_shadow),
        (0, 1, 0),
        "{told}"
    );
    assert!(told.examples[0].active.unwrap() > 0.7);
    assert!(
        told.to_string().contains("1 of the model at work alone"),
        "{told}"
    );

    let (mut both, handle) = Shadow::new(deaf(), cold());
    assert_eq!(alerts(&mut both, &events), [], "the shadow raises nothing");
    let told = handle.disagreement();
    assert_eq!((told.only_active, told.only_shadow), (0, 1), "{told}");

    // Another shadow in its place is compared for itself.
    let (slot, replace) = ModelSlot::new(cold());
    let (mut three, compared) = Shadow::new(deaf(), slot);
    alerts(&mut three, &events);
    assert_eq!(compared.disagreement().only_shadow, 1);
    replace.offer(deaf());
    compared.begin_again();
    alerts(&mut three, &events);
    let since = compared.disagreement();
    assert_eq!(
        (since.observations, since.only_shadow),
        (events.len() as u64, 0),
        "{since}"
    );

    // The comparison goes on after a restart with the same two, and begins anew with another shadow.
    let state = both.snapshot().unwrap();
    let (mut again, handle) = Shadow::new(deaf(), cold());
    again.restore(&state).unwrap();
    assert_eq!(handle.disagreement(), told);
    let (mut other, handle) = Shadow::new(deaf(), learned());
    other.restore(&state).unwrap();
    assert_eq!(handle.disagreement().observations, 0);
}

/// Fails in its way from the tenth event on.
struct Failing {
    seen: u32,
    panics: bool,
}

impl Analyzer for Failing {
    fn model(&self) -> ModelRef {
        ModelRef::default()
    }

    fn observe(&mut self, _: Observation<'_>, _: &mut Vec<Verdict>) -> Result<(), AnalyzerError> {
        self.seen += 1;
        assert!(self.seen <= 10 || !self.panics, "a defect of the shadow");
        if self.seen > 10 {
            return Err(AnalyzerError::Observation {
                reason: "enough".to_owned(),
            });
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), AnalyzerError> {
        Ok(())
    }
}

#[test]
fn a_shadow_that_fails_harms_nobody() {
    let events = scan();
    for panics in [false, true] {
        let (mut both, handle) = Shadow::new(cold(), Failing { seen: 0, panics });
        assert_eq!(alerts(&mut both, &events), alerts(&mut cold(), &events));
        let told = handle.disagreement();
        assert_eq!(told.failed, panics);
        let refused = if panics { 0 } else { events.len() as u64 - 10 };
        assert_eq!(told.refused, refused);
    }
}
