//! Bytes of every version so far, which every later version must read.
//!
//! The files are never changed. A version that writes other bytes adds files of its own.

use std::fs;
use std::path::PathBuf;

use amoskys_core::wire::{decode_event, decode_events, decode_ledger, encode_events, encode_ledger};

use super::agreement::encode;
use super::{host_samples, samples};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(format!("{name}.bin"))
}

fn read(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{}: {error}", path(name).display()))
}

/// The events of the batch. Later kinds have files of their own.
fn first_events() -> Vec<amoskys_core::Event> {
    let mut events = samples::events();
    events.retain(|event| event.payload.kind() != "protected");
    events
}

#[test]
fn events_of_the_first_version_are_read() {
    for event in samples::events() {
        let bytes = read(&format!("event_{}", event.payload.kind()));
        assert_eq!(decode_event(&bytes).unwrap(), event);
        assert_eq!(
            encode(&event),
            bytes,
            "the encoding of {} has changed",
            event.payload.kind()
        );
    }
}

#[test]
fn batches_and_ledgers_of_the_first_version_are_read() {
    let batch = read("events");
    let events = first_events();
    assert_eq!(decode_events(&batch).unwrap(), events);
    let mut encoded = Vec::new();
    encode_events(&events, &mut encoded);
    assert_eq!(encoded, batch);

    let ledger = read("ledger");
    assert_eq!(decode_ledger(&ledger).unwrap(), samples::ledger());
    assert_eq!(encode_ledger(&samples::ledger()), ledger);
}

/// Fields that were added to flow records later.
#[test]
fn flows_of_the_second_version_are_read() {
    let event = samples::flow_in_a_tunnel();
    let bytes = read("event_flow_2");
    assert_eq!(decode_event(&bytes).unwrap(), event);
    assert_eq!(encode(&event), bytes);
}

/// The bounds of a verdict's score, which were added later.
#[test]
fn verdicts_of_the_second_version_are_read() {
    let event = samples::verdict_with_bounds();
    let bytes = read("event_verdict_2");
    assert_eq!(decode_event(&bytes).unwrap(), event);
    assert_eq!(encode(&event), bytes);
}

/// What is seen on hosts, in detail.
#[test]
fn events_of_hosts_are_read() {
    for (name, event) in host_samples::all() {
        let bytes = read(name);
        assert_eq!(decode_event(&bytes).unwrap(), event);
        assert_eq!(encode(&event), bytes, "the encoding of {name} has changed");
    }
}

/// Run it by name to add the fixtures of a new payload.
#[test]
#[ignore = "writes the fixtures that are missing"]
fn write_missing_fixtures() {
    let mut batch = Vec::new();
    encode_events(&first_events(), &mut batch);
    let mut files = vec![
        ("events".to_owned(), batch),
        ("ledger".to_owned(), encode_ledger(&samples::ledger())),
    ];
    for event in samples::events() {
        files.push((format!("event_{}", event.payload.kind()), encode(&event)));
    }
    files.push(("event_flow_2".to_owned(), encode(&samples::flow_in_a_tunnel())));
    files.push((
        "event_verdict_2".to_owned(),
        encode(&samples::verdict_with_bounds()),
    ));
    let later = host_samples::all().into_iter();
    files.extend(later.map(|(name, event)| (name.to_owned(), encode(&event))));
    fs::create_dir_all(path("").parent().unwrap()).unwrap();
    for (name, bytes) in files {
        if !path(&name).exists() {
            fs::write(path(&name), bytes).unwrap();
        }
    }
}
