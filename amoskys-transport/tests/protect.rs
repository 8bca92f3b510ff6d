//! What is known of somebody can be erased, and the chain holds.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amoskys_core::event::{LogRecord, ProcessEvent, Protected, ProtectionScheme, UnknownFields, Value};
use amoskys_core::{
    Class, Event, EventId, Name, Open, Payload, Seal, Timestamp, Transform, Unsealed, Wal, conformance, wire,
};
use amoskys_transport::protect::{
    FileSubjectKeys, Protect, ProtectError, Reveal, RevealingOpener, Subject, SubjectKeys, any_of,
    by_attribute, by_device, by_uid,
};
use common::{assert_clean, open, read_all};
use proptest::prelude::*;
use ring::{aead, hmac};

fn about(patient: &str, ordinal: u64) -> Event {
    let log = LogRecord {
        message: format!("infusion {ordinal} of {patient}"),
        ..LogRecord::default()
    };
    let attributes = [("patient", patient), ("ward", "3b")];
    Event {
        id: EventId { origin: 5, ordinal },
        time: Timestamp::from_secs(1_700_000_000),
        device: "pump-7".into(),
        source: "hl7".into(),
        payload: Payload::Log(Box::new(log)),
        attributes: attributes
            .map(|(name, value)| (name.to_owned(), Value::Text(value.to_owned())))
            .into(),
        ..Event::default()
    }
}

fn key_file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("subjects.keys")
}

fn keys(dir: &tempfile::TempDir) -> Arc<FileSubjectKeys> {
    Arc::new(FileSubjectKeys::open_or_create(key_file(dir)).unwrap())
}

/// All bytes of a directory's files.
fn bytes_below(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_below(&path));
        } else {
            all.extend(fs::read(path).unwrap());
        }
    }
    all
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn a_patient_is_erased_from_a_log_whose_chain_holds() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(&dir);
    let data = dir.path().join("data");
    let mut log = open(&data);
    let mut protect = Protect::new(keys.clone(), by_attribute("patient")).keep_clear("ward");
    let original: Vec<_> = (0..60)
        .map(|n| match n % 3 {
            0 => about("Miller", n),
            1 => about("Smith", n),
            _ => common::event(n, Class::Telemetry, 40),
        })
        .collect();
    for events in original.chunks(6) {
        let mut events = events.to_vec();
        for event in &mut events {
            protect.transform(event).unwrap();
        }
        let source = Name::from("hl7");
        let batch = Unsealed {
            class: Class::Telemetry,
            source: &source,
            events: &events,
            position: None,
            ledger: None,
        };
        let offset = log.wal.append(log.sealer.seal(batch).unwrap().record).unwrap();
        log.wal.wait_durable(offset).unwrap();
    }
    let records: Vec<_> = read_all(&log).0.into_iter().map(|(_, record)| record).collect();
    let reveal = Reveal::new(keys.clone());
    let opener = RevealingOpener::new(log.opener.clone(), reveal.clone());
    let read = || -> Vec<Event> {
        let opened = records.iter().map(|record| opener.open(record).unwrap());
        opened.flat_map(|opened| opened.events).collect()
    };
    assert_eq!(read(), original);
    assert_eq!(reveal.counts().revealed(), 40);

    let erased = keys.forget(&Subject::new("Miller")).unwrap();
    assert_eq!(erased.keys.len(), 1);
    let events = read();
    for (event, original) in events.iter().zip(&original) {
        if let Payload::Protected(protected) = &event.payload {
            assert_eq!(protected.key, erased.keys[0]);
            assert_eq!((event.id, event.time), (original.id, original.time));
            assert_eq!(
                (&event.device, &event.source),
                (&original.device, &original.source)
            );
            assert_eq!(
                event.attributes,
                BTreeMap::from([("ward".to_owned(), Value::Text("3b".to_owned()))])
            );
        } else {
            assert_eq!(event, original);
        }
    }
    let protected = events
        .iter()
        .filter(|event| matches!(event.payload, Payload::Protected(_)));
    assert_eq!(protected.count(), 20);
    assert_eq!(reveal.counts().forgotten(), 20);
    drop(log);
    // No name is in the log, before and after; and nothing of it has changed.
    assert!(assert_clean(&data).gaps.is_empty());
    let stored = bytes_below(&data);
    assert!(!contains(&stored, b"Miller") && !contains(&stored, b"Smith"));
    assert!(contains(&stored, b"pump-7"));
    // Whoever comes again is somebody new.
    let mut again = about("Miller", 100);
    protect.transform(&mut again).unwrap();
    let Payload::Protected(again) = again.payload else {
        panic!("it is protected")
    };
    assert_ne!(again.key, erased.keys[0]);
}

#[test]
fn forgetting_leaves_nothing_of_the_key_and_its_place_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(&dir);
    for n in 0..100 {
        keys.key_of(&Subject::new(format!("subject {n}"))).unwrap();
    }
    let before = fs::read(key_file(&dir)).unwrap();
    assert!(!contains(&before, b"subject"), "there are no names in it");
    let id = keys.forget(&Subject::new("subject 40")).unwrap().keys[0];
    assert!(keys.key(id).unwrap().is_none());
    let after = fs::read(key_file(&dir)).unwrap();
    let slot = 41 * 128..42 * 128;
    assert!(before[slot.clone()].iter().any(|byte| *byte != 0));
    assert!(after[slot].iter().all(|byte| *byte == 0));
    assert!(keys.forget(&Subject::new("subject 40")).unwrap().keys.is_empty());
    assert!(keys.forget(&Subject::new("nobody")).unwrap().keys.is_empty());
    keys.key_of(&Subject::new("another")).unwrap();
    assert_eq!(fs::read(key_file(&dir)).unwrap().len(), before.len());
    assert_eq!(keys.subjects(), 100);

    let known: Vec<_> = (0..100)
        .filter(|n| *n != 40)
        .map(|n| keys.key_of(&Subject::new(format!("subject {n}"))).unwrap().id())
        .collect();
    drop(keys);
    let keys = FileSubjectKeys::open(key_file(&dir)).unwrap();
    let again: Vec<_> = (0..100)
        .filter(|n| *n != 40)
        .map(|n| keys.key_of(&Subject::new(format!("subject {n}"))).unwrap().id())
        .collect();
    assert_eq!(known, again);
    assert!(keys.key(id).unwrap().is_none());
}

#[test]
fn a_file_that_cannot_be_trusted_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = key_file(&dir);
    assert!(matches!(
        FileSubjectKeys::open(&path),
        Err(ProtectError::Io { .. })
    ));
    let keys = FileSubjectKeys::open_or_create(&path).unwrap();
    keys.key_of(&Subject::new("a")).unwrap();
    keys.key_of(&Subject::new("b")).unwrap();
    assert!(matches!(
        FileSubjectKeys::open(&path),
        Err(ProtectError::InUse { .. })
    ));
    drop(keys);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        FileSubjectKeys::open(&path),
        Err(ProtectError::LooseMode { mode: 0o640, .. })
    ));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let good = fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        let error = FileSubjectKeys::open(&path).unwrap_err();
        assert!(
            matches!(error, ProtectError::Damaged { .. }),
            "bit {bit}: {error}"
        );
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    // A crash may cut off the slot that was being added. Nothing was sealed under its key.
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        match FileSubjectKeys::open(&path) {
            Ok(keys) => assert_eq!(keys.subjects(), len / 128 - 1),
            Err(error) => assert!(len < 128, "cut to {len}: {error}"),
        }
    }
    let mut newer = good;
    newer[8] = 2;
    let crc = crc32fast::hash(&newer[..124]);
    newer[124..128].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &newer).unwrap();
    assert!(matches!(
        FileSubjectKeys::open(&path),
        Err(ProtectError::Version { found: 2, .. })
    ));
}

#[test]
fn an_event_that_cannot_be_protected_does_not_pass() {
    let dir = tempfile::tempdir().unwrap();
    let keys = FileSubjectKeys::open_or_create(key_file(&dir))
        .unwrap()
        .max_subjects(2);
    let mut protect = Protect::new(Arc::new(keys), by_attribute("patient"));
    for patient in ["a", "b", "a"] {
        protect.transform(&mut about(patient, 1)).unwrap();
    }
    let error = protect.transform(&mut about("c", 1)).unwrap_err();
    let source = error.source.unwrap();
    assert!(
        matches!(source.downcast_ref(), Some(ProtectError::Full { limit: 2 })),
        "{source}"
    );
}

#[test]
fn rules_say_whose_it_is() {
    let process = |uid| Event {
        device: "ws-1".into(),
        payload: Payload::Process(Box::new(ProcessEvent {
            uid,
            ..ProcessEvent::default()
        })),
        ..Event::default()
    };
    let name = |subject: Option<Subject>| subject.map(|subject| subject.as_str().to_owned());
    assert_eq!(
        name(by_uid(1000)(&process(1000))).as_deref(),
        Some("uid:1000@ws-1")
    );
    assert_eq!(name(by_uid(1000)(&process(0))), None);
    assert_eq!(name(by_uid(0)(&about("a", 1))), None);
    assert_eq!(name(by_device()(&process(0))).as_deref(), Some("device:ws-1"));
    assert_eq!(name(by_device()(&Event::default())), None);
    let any = any_of([Box::new(by_attribute("patient")), Box::new(by_uid(1000))]);
    assert_eq!(name(any(&about("Miller", 1))).as_deref(), Some("Miller"));
    assert_eq!(name(any(&process(1001))).as_deref(), Some("uid:1001@ws-1"));
    assert_eq!(name(any(&process(1))), None);
    assert!(!format!("{:?}", Subject::new("Miller")).contains("Miller"));
}

/// As `docs/formats.md` has it, with nothing but the primitives.
#[test]
fn the_bytes_are_as_they_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let mut protect = Protect::new(keys(&dir), by_attribute("patient"));
    let mut event = about("Miller", 9);
    protect.transform(&mut event).unwrap();
    let Payload::Protected(protected) = event.payload else {
        panic!("it is protected")
    };
    let file = fs::read(key_file(&dir)).unwrap();
    let slot = &file[128..256];
    assert_eq!(slot[8..24], protected.key.to_le_bytes());
    let salt = hmac::Key::new(hmac::HMAC_SHA256, &file[16..48]);
    assert_eq!(&slot[56..88], hmac::sign(&salt, b"Miller").as_ref());

    let (salt, rest) = protected.sealed.split_at(16);
    let (nonce, text) = rest.split_at(12);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &slot[24..56]);
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, hmac::sign(&secret, salt).as_ref()).unwrap();
    let mut additional = b"amoskys protected event\n".to_vec();
    additional.extend(protected.key.to_le_bytes());
    additional.extend(5_u64.to_le_bytes());
    additional.extend(9_u64.to_le_bytes());
    let mut text = text.to_vec();
    let text = aead::LessSafeKey::new(key)
        .open_in_place(
            aead::Nonce::try_assume_unique_for_key(nonce).unwrap(),
            aead::Aad::from(additional),
            &mut text,
        )
        .unwrap();
    let inner = wire::decode_event(text).unwrap();
    assert_eq!(
        (inner.payload, inner.attributes),
        (about("Miller", 9).payload, about("Miller", 9).attributes)
    );
}

fn any_event() -> impl Strategy<Value = Event> {
    let attributes = prop::collection::btree_map("[a-d]{1,3}", "[a-z]{0,20}", 0..5);
    (
        "[ -~]{0,300}",
        attributes,
        any::<(u64, u64)>(),
        prop::collection::vec(any::<u8>(), 0..4),
    )
        .prop_map(|(message, attributes, (origin, ordinal), newer)| {
            let log = LogRecord {
                message,
                ..LogRecord::default()
            };
            // A field of a newer version: number 9, bytes.
            let event = [&[9 << 3 | 2, newer.len() as u8], &newer[..]].concat();
            Event {
                id: EventId { origin, ordinal },
                payload: Payload::Log(Box::new(log)),
                attributes: attributes
                    .into_iter()
                    .map(|(name, value)| (name, Value::Text(value)))
                    .collect(),
                unknown: UnknownFields {
                    event: event.into(),
                    ..UnknownFields::default()
                },
                ..Event::default()
            }
        })
}

/// Keys that a whole property shares.
struct Keys(tempfile::TempDir, Arc<FileSubjectKeys>);

impl Keys {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(&dir);
        Self(dir, keys)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_event_comes_back_and_no_other_passes_for_it(
        event in any_event(),
        flip in any::<prop::sample::Index>(),
        bit in 0..8u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let Keys(_dir, keys) = Keys::new();
        let mut protect = Protect::new(keys.clone(), |_: &Event| Some(Subject::new("s")));
        let mut protected = event.clone();
        protect.transform(&mut protected).unwrap();
        // Through the wire.
        let mut bytes = Vec::new();
        wire::encode_event(&protected, &mut bytes);
        let protected = wire::decode_event(&bytes).unwrap();
        // Twice is once.
        let mut twice = protected.clone();
        protect.transform(&mut twice).unwrap();
        prop_assert_eq!(&twice, &protected);

        let reveal = Reveal::new(keys.clone());
        let mut revealed = protected.clone();
        prop_assert!(reveal.reveal(&mut revealed));
        prop_assert_eq!(&revealed, &event);
        conformance::transform(|| Reveal::new(keys.clone()), std::slice::from_ref(&protected));

        let Payload::Protected(good) = &protected.payload else { panic!("it is protected") };
        let altered = |change: &dyn Fn(&mut Protected)| {
            let mut inner = good.clone();
            change(&mut inner);
            Event { payload: Payload::Protected(inner), ..protected.clone() }
        };
        let at = flip.index(good.sealed.len());
        let others = [
            altered(&|inner| inner.sealed[at] ^= 1 << bit),
            altered(&|inner| inner.sealed.truncate(cut.index(inner.sealed.len()))),
            altered(&|inner| inner.key ^= 1 << bit),
            altered(&|inner| inner.scheme = ProtectionScheme::Unknown),
            Event { id: EventId { ordinal: event.id.ordinal ^ 1, ..event.id }, ..protected.clone() },
        ];
        for mut other in others {
            let before = other.clone();
            prop_assert!(!reveal.reveal(&mut other));
            prop_assert_eq!(other, before);
        }
        let counts = reveal.counts();
        prop_assert_eq!((counts.revealed(), counts.forgotten(), counts.unreadable()), (1, 1, 4));
    }
}
