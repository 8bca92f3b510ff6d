use bytes::Bytes;

use crate::batch::Position;
use crate::event::Class;
use crate::id::Seq;
use crate::ledger::{DropReason, Ledger};
use crate::seal::{Open, Seal, SealError, Unsealed};

use super::events::sample_events;

/// Checks a sealer and the opener of its records. `make` gives a fresh pair, at the beginning of its streams.
///
/// # Panics
///
/// If a promise of [`Seal`] or [`Open`] is not kept.
pub fn seal<S: Seal, O: Open>(make: impl FnOnce() -> (S, O)) {
    let (mut sealer, opener) = make();
    let source = "sample".into();
    let ledger = Ledger::new();
    ledger.received("log/sample", 100);
    ledger.delivered("log/sample", 60);
    ledger.dropped("log/sample", DropReason::FILTERED, 30);
    let ledger = ledger.snapshot();
    let position = Position(Bytes::from_static(b"here"));

    let mut next = std::collections::BTreeMap::new();
    let mut streams = std::collections::BTreeSet::new();
    for round in 0..20 {
        for class in [Class::Telemetry, Class::Alert] {
            let mut events = sample_events(round, 7 + round as usize);
            events.retain(|event| event.class == class);
            if events.is_empty() {
                continue;
            }
            let with_position = round % 2 == 0;
            let sealed = sealer
                .seal(Unsealed {
                    class,
                    source: &source,
                    events: &events,
                    position: Some(&position).filter(|_| with_position),
                    ledger: Some(&ledger),
                })
                .expect("seal");
            let first = *next.get(&class).unwrap_or(&0);
            assert_eq!(
                sealed.first,
                Seq(first),
                "events of a stream are numbered without holes"
            );
            assert_eq!(sealed.last, Seq(first + events.len() as u64 - 1));
            assert_eq!(sealed.stream.class, class);
            streams.insert(sealed.stream.clone());
            next.insert(class, sealed.last.0 + 1);
            let class_told = opener.class(&sealed.record);
            assert!(
                class_told.is_none_or(|told| told == class),
                "the class is told wrongly"
            );
            let opened = opener.open(&sealed.record).expect("open");
            assert_eq!(*opened.stream, sealed.stream);
            assert_eq!((opened.first, opened.last), (sealed.first, sealed.last));
            assert_eq!(opened.events, events, "events come back as they were");
            assert_eq!(opened.source, source);
            assert_eq!(
                opened.position.is_some(),
                with_position,
                "the position comes back"
            );
            assert!(opened.position.is_none_or(|p| p == position));
            assert_eq!(opened.ledger.as_ref(), Some(&ledger), "the ledger comes back");
        }
    }
    assert_eq!(streams.len(), next.len(), "each class has one stream");

    let events = sample_events(3, 50);
    let mixed = Unsealed {
        class: Class::Telemetry,
        source: &source,
        events: &events,
        position: None,
        ledger: None,
    };
    let refused = sealer.seal(mixed);
    assert!(
        matches!(refused, Err(SealError::Batch { .. })),
        "a batch of several classes is refused"
    );
    let none = Unsealed { events: &[], ..mixed };
    assert!(
        matches!(sealer.seal(none), Err(SealError::Batch { .. })),
        "an empty batch is refused"
    );
    let single = Unsealed {
        class: events[0].class,
        events: &events[..1],
        ..mixed
    };
    let sealed = sealer.seal(single).expect("seal after a refusal");
    let expected = *next.get(&events[0].class).unwrap_or(&0);
    assert_eq!(sealed.first, Seq(expected), "a refused batch leaves no hole");

    for cut in 0..sealed.record.len() {
        let opened = opener.open(&sealed.record.slice(..cut));
        assert!(opened.is_err(), "a record cut to {cut} bytes opens");
    }
    assert!(
        opener
            .open(&Bytes::from_static(b"this is no record at all"))
            .is_err()
    );
}
