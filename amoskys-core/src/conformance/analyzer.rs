use std::fmt::Debug;

use crate::analyzer::{Analyzer, AnalyzerError, Extractor, Observation};
use crate::batch::Recorded;
use crate::event::Verdict;
use crate::schema::FeatureVector;

/// Checks an analyzer on `events`. `make` gives a fresh analyzer of the same model each time. Choose events
/// that lead to verdicts, or the suite proves little.
///
/// # Panics
///
/// If a promise of [`Analyzer`] is not kept.
pub fn analyzer<A: Analyzer>(mut make: impl FnMut() -> A, events: &[Recorded]) {
    assert_eq!(
        make().model(),
        make().model(),
        "the model does not change by itself"
    );
    let verdicts = machine(
        || Machine {
            inner: make(),
            take: |analyzer: &mut A, event: &Recorded, out: &mut Vec<Verdict>| match analyzer
                .observe(Observation::Event(event), out)
            {
                Ok(()) | Err(AnalyzerError::Observation { .. }) => {}
                Err(error) => panic!("observe failed: {error}"),
            },
            snapshot: A::snapshot,
            restore: A::restore,
        },
        events,
    );
    for verdict in &verdicts {
        let id = verdict.id;
        assert!(
            (0.0..=1.0).contains(&verdict.score),
            "verdict {id}: score {} is no probability",
            verdict.score
        );
        assert!(
            verdict.time <= verdict.updated,
            "verdict {id} was updated before it was drawn"
        );
        assert!(
            verdict.events.first <= verdict.events.last,
            "verdict {id}: its events run backwards"
        );
        assert!(!verdict.title.is_empty(), "verdict {id} has no title");
        assert_eq!(
            verdict.model.digest,
            make().model().digest,
            "verdict {id} names another model"
        );
        for evidence in &verdict.evidence {
            assert!(
                evidence.contribution.is_finite(),
                "verdict {id}: {evidence:?} does not say how much"
            );
        }
    }
    for later in verdicts.iter().filter(|verdict| verdict.revision > 0) {
        let before = verdicts
            .iter()
            .find(|v| v.id == later.id && v.revision + 1 == later.revision);
        let before =
            before.unwrap_or_else(|| panic!("verdict {} skips revision {}", later.id, later.revision - 1));
        assert_eq!(
            before.time, later.time,
            "verdict {} changes the time it was drawn",
            later.id
        );
    }
}

/// Checks an extractor on `events`, like [`analyzer`].
///
/// # Panics
///
/// If a promise of [`Extractor`] is not kept.
pub fn extractor<E: Extractor>(mut make: impl FnMut() -> E, events: &[Recorded]) {
    let vectors = machine(
        || Machine {
            inner: make(),
            take: |extractor: &mut E, event: &Recorded, out: &mut Vec<FeatureVector>| {
                extractor.observe(event, out);
            },
            snapshot: E::snapshot,
            restore: E::restore,
        },
        events,
    );
    for vector in &vectors {
        assert_eq!(
            vector.values.len(),
            vector.schema.len(),
            "a vector has as many values as its schema"
        );
        assert!(vector.start < vector.end, "a window ends after it starts");
    }
}

struct Machine<M, O> {
    inner: M,
    take: fn(&mut M, &Recorded, &mut Vec<O>),
    snapshot: fn(&M) -> Result<Vec<u8>, AnalyzerError>,
    restore: fn(&mut M, &[u8]) -> Result<(), AnalyzerError>,
}

impl<M, O> Machine<M, O> {
    fn feed(&mut self, events: &[Recorded]) -> Vec<O> {
        let mut out = Vec::new();
        for event in events {
            (self.take)(&mut self.inner, event, &mut out);
        }
        out
    }

    fn snapshot(&self) -> Vec<u8> {
        (self.snapshot)(&self.inner).expect("take a snapshot")
    }
}

/// Two runs agree; a run that goes on from a snapshot agrees with one that never stopped; garbage is refused
/// and changes nothing. Gives the output of an undisturbed run.
fn machine<M, O: Debug>(mut make: impl FnMut() -> Machine<M, O>, events: &[Recorded]) -> Vec<O> {
    // Debug output shows every bit of a float that matters and lets NaN equal NaN.
    let text = |out: &[O]| out.iter().map(|o| format!("{o:?}")).collect::<Vec<_>>();
    let all = make().feed(events);
    assert_eq!(
        text(&all),
        text(&make().feed(events)),
        "two runs over the same events differ"
    );

    for cut in [0, 1, events.len() / 3, events.len() / 2, events.len()] {
        let cut = cut.min(events.len());
        let mut first = make();
        let before = first.feed(&events[..cut]);
        let snapshot = first.snapshot();
        let mut second = make();
        (second.restore)(&mut second.inner, &snapshot).expect("restore a snapshot");
        assert_eq!(
            second.snapshot(),
            snapshot,
            "a restored state is the state that was kept"
        );
        let after = second.feed(&events[cut..]);
        assert_eq!(
            text(&all),
            [text(&before), text(&after)].concat(),
            "a restart after {cut} events changes the outcome"
        );
    }

    let mut disturbed = make();
    disturbed.feed(&events[..events.len() / 2]);
    let before = disturbed.snapshot();
    let garbage: [&[u8]; 3] = [b"", b"not a snapshot", &before[..before.len() / 2]];
    for garbage in garbage {
        let restored = (disturbed.restore)(&mut disturbed.inner, garbage);
        assert!(
            restored.is_err(),
            "a damaged snapshot of {} bytes is taken for a state",
            garbage.len()
        );
        assert_eq!(
            disturbed.snapshot(),
            before,
            "a refused snapshot changes the state"
        );
    }
    all
}
