//! Both implementations say the same, of good bytes and of bad ones.

use std::collections::BTreeSet;

use amoskys_core::event::Event;
use amoskys_core::wire::{
    decode_event, decode_events, decode_ledger, encode_event, encode_events, encode_ledger,
};
use proptest::prelude::*;
use proptest::sample::Index;
use protobuf::reflect::RuntimeFieldType;

use super::peer::{self, Fields, Node};
use super::{generate, host_samples, mirror, samples};

pub(crate) fn encode(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    encode_event(event, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1500), ..ProptestConfig::default() })]

    #[test]
    fn the_peer_reads_every_field_and_writes_the_same_bytes(event in generate::event()) {
        let bytes = encode(&event);
        let read = peer::read("Event", &bytes).expect("the peer reads what we write");
        let expected = mirror::event(&event);
        prop_assert_eq!(&peer::fields(&*read, false), &expected);

        let rewritten = peer::write(&*read);
        // The peer has no order of map entries.
        if event.attributes.len() < 2 {
            prop_assert_eq!(&rewritten, &bytes);
        }
        let decoded = decode_event(&rewritten).unwrap();
        prop_assert!(decoded.unknown.is_empty());
        // By what it says, not by `==`, for which NaN is no number.
        prop_assert_eq!(mirror::event(&decoded), expected);
        prop_assert_eq!(encode(&decoded), bytes);
    }

    #[test]
    fn a_batch_is_its_events_one_after_another(events in prop::collection::vec(generate::event(), 0..5)) {
        let mut bytes = Vec::new();
        encode_events(&events, &mut bytes);
        let decoded = decode_events(&bytes).unwrap();
        prop_assert_eq!(decoded.len(), events.len());
        for (decoded, event) in decoded.iter().zip(&events) {
            prop_assert_eq!(mirror::event(decoded), mirror::event(event));
        }
        if !bytes.is_empty() {
            bytes.pop();
            prop_assert!(decode_events(&bytes).is_err());
        }
    }

    #[test]
    fn a_ledger_says_the_same_to_both(ledger in generate::ledger()) {
        let bytes = encode_ledger(&ledger);
        let read = peer::read("Ledger", &bytes).unwrap();
        // An entry of a map always has its value, also if it is the default.
        prop_assert_eq!(peer::fields(&*read, true), mirror::ledger(&ledger));
        prop_assert_eq!(decode_ledger(&peer::write(&*read)).unwrap(), ledger);
    }

    #[test]
    fn altered_bytes_are_refused_or_mean_the_same_to_both(
        event in generate::event(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let mut bytes = encode(&event);
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        agree(&bytes)?;
    }

    #[test]
    fn arbitrary_fields_are_refused_or_mean_the_same_to_both(
        fields in prop::collection::vec((1..32u64, 0..6u64, prop::collection::vec(any::<u8>(), 0..12)), 0..6),
    ) {
        // An event that is complete, and fields of any number and type behind it.
        let mut bytes = vec![9, 1, 2, 3, 4, 5, 6, 7, 8, 16, 0];
        for (number, wire, content) in fields {
            bytes.push((number << 3 | wire) as u8 & 0x7f);
            if wire == 2 {
                bytes.push(content.len() as u8);
            }
            bytes.extend(content);
        }
        agree(&bytes)?;
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agree(&bytes)?;
        let _ = decode_events(&bytes);
        let _ = decode_ledger(&bytes);
    }
}

/// If we accept bytes, then so does the peer, and it sees no difference between them and what we make of them.
pub(crate) fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(event) = decode_event(bytes) else {
        return Ok(());
    };
    let Some(before) = peer::read("Event", bytes) else {
        return Err(TestCaseError::fail(format!(
            "only we accept {bytes:02x?} as {event:?}"
        )));
    };
    let rewritten = encode(&event);
    let after = peer::read("Event", &rewritten).expect("the peer reads what we write");
    prop_assert_eq!(peer::fields(&*before, true), peer::fields(&*after, true));
    // What was written once is written the same again.
    prop_assert_eq!(encode(&decode_event(&rewritten).unwrap()), rewritten);
    Ok(())
}

#[test]
fn the_published_file_is_proto3_of_our_package() {
    let file = peer::parse();
    assert_eq!((file.syntax(), file.package()), ("proto3", "amoskys.v1"));
}

#[test]
fn the_samples_use_every_field_of_the_published_file() {
    let mut used = BTreeSet::new();
    let later = host_samples::all().into_iter().map(|(_, event)| event);
    let all = samples::events()
        .into_iter()
        .chain([samples::flow_in_a_tunnel(), samples::verdict_with_bounds()]);
    for event in all.chain(later) {
        let read = peer::read("Event", &encode(&event)).unwrap();
        assert_eq!(peer::fields(&*read, false), mirror::event(&event));
        note_used("Event", &peer::fields(&*read, false), &mut used);
    }
    let ledger = peer::read("Ledger", &encode_ledger(&samples::ledger())).unwrap();
    note_used("Ledger", &peer::fields(&*ledger, false), &mut used);

    let mut published = BTreeSet::new();
    for message in peer::all_messages() {
        published.extend(
            message
                .fields()
                .map(|field| format!("{}.{}", message.name(), field.name())),
        );
    }
    let unused: Vec<_> = published.difference(&used).collect();
    assert!(unused.is_empty(), "no sample uses {unused:?}");
}

fn note_used(message: &str, fields: &Fields, used: &mut BTreeSet<String>) {
    let descriptor = peer::descriptor(message);
    for (name, node) in fields {
        used.insert(format!("{message}.{name}"));
        let field = descriptor.field_by_name(name).unwrap();
        let value = match field.runtime_field_type() {
            RuntimeFieldType::Singular(value)
            | RuntimeFieldType::Repeated(value)
            | RuntimeFieldType::Map(_, value) => value,
        };
        let protobuf::reflect::RuntimeType::Message(inner) = value else {
            continue;
        };
        let nodes: Vec<&Node> = match node {
            Node::List(nodes) => nodes.iter().collect(),
            Node::Map(nodes) => nodes.values().collect(),
            node => vec![node],
        };
        for node in nodes {
            let Node::Message(fields) = node else {
                panic!("{name} is a message")
            };
            note_used(inner.name(), fields, used);
        }
    }
}
