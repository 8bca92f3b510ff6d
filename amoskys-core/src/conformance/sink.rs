use crate::event::Event;
use crate::id::Seq;
use crate::sink::Sink;

use super::events::{recorded, sample_events};

/// Checks a sink. `make` opens the same destination each time it is called, at first an empty one; `written`
/// gives the sequence numbers of the events in it, in the order it keeps them, after the sink was dropped.
/// Await it in a test.
///
/// # Panics
///
/// If a promise of [`Sink`] is not kept.
pub async fn sink<S: Sink>(mut make: impl FnMut() -> S, mut written: impl FnMut() -> Vec<Seq>) {
    let events: Vec<Event> = sample_events(11, 100);
    let events = recorded(events);
    let mut sink = make();
    assert!(!sink.name().is_empty(), "a sink has a name");
    sink.flush().await.expect("flush before anything was written");
    sink.write(&[]).await.expect("write nothing");
    sink.write(&events[..40]).await.expect("write");
    sink.write(&events[40..60]).await.expect("write");
    sink.flush().await.expect("flush");
    drop(sink);
    assert_eq!(
        distinct(written()),
        (0..60).map(Seq).collect::<Vec<_>>(),
        "what was flushed is there, in order"
    );

    // As after a crash: the last batch comes again, and more.
    let mut sink = make();
    sink.write(&events[40..60]).await.expect("write a batch again");
    sink.write(&events[60..])
        .await
        .expect("write on after opening again");
    sink.flush().await.expect("flush");
    drop(sink);
    assert_eq!(
        distinct(written()),
        (0..100).map(Seq).collect::<Vec<_>>(),
        "nothing is missing, order is kept"
    );
}

/// The numbers without those that came before: a sink may write twice what it was given twice.
fn distinct(numbers: Vec<Seq>) -> Vec<Seq> {
    let mut seen = std::collections::BTreeSet::new();
    numbers
        .into_iter()
        .filter(|number| seen.insert(*number))
        .collect()
}
