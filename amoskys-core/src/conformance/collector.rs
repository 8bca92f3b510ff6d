use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crate::batch::{Batch, Position};
use crate::collector::Collector;
use crate::event::Event;
use crate::id::EventId;

/// Checks a collector over a source that can be read again, and that ends. `make` gives a fresh collector over
/// the same source each time. Await it in a test; it needs no particular runtime.
///
/// # Panics
///
/// If a promise of [`Collector`] is not kept.
pub async fn collector<C: Collector>(mut make: impl FnMut() -> C) {
    let batches = read(make()).await;
    let events: Vec<&Event> = batches.iter().flat_map(|batch| &batch.events).collect();
    assert!(!events.is_empty(), "give the suite a source with events");
    assert!(
        make().is_replayable(),
        "this suite is for sources that can be read again"
    );
    let name = make().source().to_owned();
    assert!(!name.is_empty(), "a collector has a name");
    let mut ids = HashSet::new();
    for event in &events {
        assert_eq!(event.source.as_str(), name, "events carry their collector's name");
        assert!(ids.insert(event.id), "event id {} is given twice", event.id);
    }
    assert_eq!(
        batches,
        read(make()).await,
        "the same source read again gives the same batches and ids"
    );
    drops_lose_nothing(make(), &batches).await;
    resumes(&mut make, &batches).await;
}

/// A collector whose calls are dropped at their first pause gives the same events.
async fn drops_lose_nothing<C: Collector>(mut collector: C, batches: &[Batch]) {
    let mut again = Vec::new();
    loop {
        let dropped = {
            let mut next = pin!(collector.next_batch());
            poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await
        };
        let next = match dropped {
            Poll::Ready(next) => next,
            Poll::Pending => collector.next_batch().await,
        };
        match next.expect("next_batch") {
            Some(batch) => again.push(batch),
            None => break,
        }
    }
    assert_eq!(
        ids(&again),
        ids(batches),
        "dropping a call loses or doubles events"
    );
}

async fn resumes<C: Collector>(make: &mut impl FnMut() -> C, batches: &[Batch]) {
    let with_position = (0..batches.len()).filter(|at| batches[*at].position.is_some());
    let places: Vec<usize> = with_position.collect();
    // All places of a short source, a sample of a long one.
    for at in places.iter().step_by(places.len().div_ceil(16).max(1)) {
        let Some(position) = &batches[*at].position else {
            continue;
        };
        let mut collector = make();
        collector
            .resume(position)
            .await
            .expect("resume at a position the collector gave");
        let rest = read(collector).await;
        assert_eq!(
            ids(&rest),
            ids(&batches[at + 1..]),
            "resuming after batch {at} gives what follows it"
        );
    }
    let mut collector = make();
    let garbage = Position(bytes::Bytes::from_static(b"not a position of yours"));
    if collector.resume(&garbage).await.is_ok() {
        // Allowed, as for a live source; but it must then still work.
        read(collector).await;
    }
}

async fn read<C: Collector>(mut collector: C) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some(batch) = collector.next_batch().await.expect("next_batch") {
        batches.push(batch);
        assert!(batches.len() < 1_000_000, "give the suite a source that ends");
    }
    let again = collector.next_batch().await.expect("next_batch after the end");
    assert_eq!(again, None, "a source that has ended stays ended");
    batches
}

fn ids(batches: &[Batch]) -> Vec<EventId> {
    batches
        .iter()
        .flat_map(|batch| &batch.events)
        .map(|event| event.id)
        .collect()
}
