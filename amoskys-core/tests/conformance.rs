//! The parts of this crate keep the promises of their traits.
#![cfg(feature = "conformance")]

mod support;

use amoskys_core::conformance;
use amoskys_core::event::Event;
use amoskys_core::memory::{Collected, MemoryCollector, MemorySink, MemoryWal, PlainOpen, PlainSeal};
use amoskys_core::{DropReason, Outcome};

#[test]
fn memory_wal_is_a_wal() {
    let wal = MemoryWal::new(8 << 20);
    conformance::wal(|| wal.clone());
    conformance::wal_budget(|| MemoryWal::new(1 << 20));
}

#[test]
fn plain_seal_seals() {
    conformance::seal(|| (PlainSeal::new("agent"), PlainOpen));
}

#[tokio::test]
async fn memory_collector_collects() {
    let events = conformance::sample_events(5, 1000);
    conformance::collector(|| MemoryCollector::new("memory", events.clone()).batch_events(17)).await;
}

#[tokio::test]
async fn memory_sink_keeps() {
    let kept = std::cell::RefCell::new(Vec::<Collected>::new());
    let open = || {
        let (sink, collected) = MemorySink::new("memory");
        kept.borrow_mut().push(collected);
        sink
    };
    let written = || {
        let kept = kept.borrow();
        kept.iter()
            .flat_map(Collected::events)
            .map(|event| event.seq)
            .collect()
    };
    conformance::sink(open, written).await;
}

#[test]
fn a_closure_is_a_transform() {
    let events = conformance::sample_events(5, 200);
    let make = || {
        |event: &mut Event| match event.id.ordinal % 3 {
            0 => Outcome::Drop(DropReason::FILTERED),
            _ => Outcome::Keep,
        }
    };
    conformance::transform(make, &events);
}

#[test]
fn an_analyzer_of_this_test_analyzes() {
    let events = conformance::recorded(conformance::sample_events(5, 500));
    conformance::analyzer(|| support::Counting::every(20), &events);
}
