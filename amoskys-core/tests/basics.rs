//! Names, times, ledgers and schemas behave at their edges.

use std::time::Duration;

use amoskys_core::event::{Entity, Severity, Technique, VerdictId};
use amoskys_core::ledger::{Account, LedgerSnapshot};
use amoskys_core::{
    Class, Digest, DropReason, Epoch, FeatureDef, FeatureSchema, Ledger, Seq, Shutdown, StreamId, Timestamp,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn time_arithmetic_never_panics(a: i64, b: i64, d: u64) {
        let (a, b) = (Timestamp::from_nanos(a), Timestamp::from_nanos(b));
        let by = Duration::from_nanos(d);
        prop_assert!(a.plus(by) >= a);
        prop_assert!(a.minus(by) <= a);
        prop_assert_eq!(a.since(b) == Duration::ZERO, a <= b);
        if a >= b {
            prop_assert_eq!(b.plus(a.since(b)), a);
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_written(bytes: [u8; 32]) {
        let digest = Digest(bytes);
        prop_assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn anything_else_is_no_digest(text in "\\PC{0,70}") {
        let parsed: Result<Digest, _> = text.parse();
        let valid = text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
        prop_assert_eq!(parsed.is_ok(), valid);
    }

    #[test]
    fn severity_follows_the_score(score in 0.0..1.0_f64) {
        let expected = if score < 0.3 {
            Severity::Low
        } else if score < 0.6 {
            Severity::Medium
        } else if score < 0.85 {
            Severity::High
        } else {
            Severity::Critical
        };
        prop_assert_eq!(Severity::of_score(score), expected);
    }
}

#[test]
fn a_score_that_is_no_number_is_of_low_severity() {
    assert_eq!(Severity::of_score(f64::NAN), Severity::Low);
}

#[test]
fn moving_a_byte_between_parts_changes_the_digest() {
    assert_ne!(
        Digest::of_parts([&b"ab"[..], b"c"]),
        Digest::of_parts([&b"a"[..], b"bc"])
    );
    // FIPS 180-4, the example of one block.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Digest::of(b"abc").to_string(), abc);
}

#[test]
fn a_verdict_has_the_same_id_in_every_epoch_but_not_for_other_events() {
    let stream = |random| StreamId {
        agent: "a".into(),
        epoch: Epoch { counter: 0, random },
        class: Class::Telemetry,
    };
    let (model, technique) = (Digest::of(b"model"), Technique::new("T1046"));
    let entity = Entity::Host("10.0.0.1".parse().expect("an address"));
    let time = Timestamp::from_secs(1);
    let id = |random, first| {
        VerdictId::derive(
            &model,
            &entity,
            Some(&technique),
            &stream(random),
            Seq(first),
            time,
        )
    };
    assert_eq!(id(1, 5), id(2, 5));
    assert_ne!(id(1, 5), id(1, 6));
}

#[test]
fn a_ledger_shows_what_was_lost_without_a_word() {
    let ledger = Ledger::new();
    ledger.received("stage", 10);
    ledger.delivered("stage", 6);
    ledger.dropped("stage", DropReason::KERNEL, 3);
    let account = ledger.snapshot().accounts["stage"].clone();
    assert_eq!(account.pending, 1);
    assert!(account.is_balanced());
    ledger.delivered("stage", 2);
    let snapshot = ledger.snapshot();
    assert_eq!(snapshot.unbalanced(), ["stage"], "more came out than went in");
}

#[test]
fn an_account_of_the_largest_numbers_does_not_overflow() {
    let dropped = [(DropReason::KERNEL, u64::MAX), (DropReason::FULL, u64::MAX)].into();
    let account = Account {
        received: u64::MAX,
        delivered: u64::MAX,
        pending: u64::MAX,
        dropped,
    };
    let ledger = LedgerSnapshot {
        accounts: [("stage".to_owned(), account)].into(),
        ..LedgerSnapshot::default()
    };
    assert_eq!(ledger.unbalanced(), ["stage"]);
}

#[test]
fn a_schema_is_its_names_and_units() {
    let schema = |name: &str, unit: &str, text: &str| {
        FeatureSchema::new(
            "host",
            vec![FeatureDef::new(name, unit, text), FeatureDef::new("b", "", "")],
        )
    };
    let original = schema("a", "By", "bytes");
    assert_eq!(
        original.digest(),
        schema("a", "By", "the same in other words").digest()
    );
    assert_ne!(original.digest(), schema("a", "s", "bytes").digest());
    assert_ne!(original.digest(), schema("c", "By", "bytes").digest());
    assert_eq!(original.index_of("b"), Some(1));
    let text = serde_json::to_string(&original).expect("write");
    let read: FeatureSchema = serde_json::from_str(&text).expect("read");
    assert_eq!(read, original);
}

#[tokio::test]
async fn a_shutdown_wakes_all_who_wait_and_stays() {
    let shutdown = Shutdown::new();
    let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(shutdown.triggered())).collect();
    tokio::task::yield_now().await;
    assert!(!shutdown.is_triggered());
    shutdown.clone().trigger();
    for waiting in waiting {
        waiting.await.expect("woken");
    }
    shutdown.triggered().await;
}
