//! Events of newer versions, made by the peer, which can put fields and enumerators into any message.

use amoskys_core::event::{Class, Event, Payload, Severity, Value};
use amoskys_core::wire::{WireError, decode_event, decode_events, decode_ledger, encode_ledger};
use proptest::prelude::*;
use protobuf::MessageDyn;
use protobuf::reflect::{FieldDescriptor, ReflectFieldRef, ReflectValueBox, RuntimeFieldType, RuntimeType};

use super::agreement::{agree, encode};
use super::{generate, peer, samples};

/// A field number no message has, above those it has. In an event it is above the payloads.
const NEW_FIELD: u32 = 200;
/// An enumerator no enumeration has.
const NEW_ENUMERATOR: i32 = 77;

fn read(event: &Event) -> Box<dyn MessageDyn> {
    peer::read("Event", &encode(event)).unwrap()
}

/// The samples, each with one attribute, because the peer has no order of several.
fn samples() -> Vec<Event> {
    let mut events = samples::events();
    events
        .iter_mut()
        .for_each(|event| event.attributes.retain(|name, _| name == "int"));
    events
}

/// Adds a new field to a message and to the messages in it: to each that `wanted` says. One each, because the
/// peer has no order of several; but of all types in turn.
fn add_fields(message: &mut dyn MessageDyn, wanted: &mut impl FnMut(&str) -> bool) {
    let mut added = 0;
    add_fields_in_turn(message, wanted, &mut added);
}

fn add_fields_in_turn(message: &mut dyn MessageDyn, wanted: &mut impl FnMut(&str) -> bool, added: &mut u32) {
    let descriptor = message.descriptor_dyn();
    if wanted(descriptor.name()) {
        *added += 1;
        let unknown = message.mut_special_fields_dyn().mut_unknown_fields();
        match *added % 4 {
            0 => unknown.add_varint(NEW_FIELD, 300),
            1 => unknown.add_length_delimited(NEW_FIELD, b"new".to_vec()),
            2 => unknown.add_fixed64(NEW_FIELD, 1),
            _ => unknown.add_fixed32(NEW_FIELD, 2),
        }
    }
    for field in descriptor.fields() {
        change_messages(message, &field, |inner| add_fields_in_turn(inner, wanted, added));
    }
}

/// Changes the messages in a singular or repeated field.
fn change_messages(
    message: &mut dyn MessageDyn,
    field: &FieldDescriptor,
    mut change: impl FnMut(&mut dyn MessageDyn),
) {
    match field.runtime_field_type() {
        RuntimeFieldType::Singular(RuntimeType::Message(_)) if field.has_field(message) => {
            change(field.mut_message(message));
        }
        RuntimeFieldType::Repeated(RuntimeType::Message(_)) => {
            let ReflectFieldRef::Repeated(elements) = field.get_reflect(message) else {
                unreachable!()
            };
            let mut changed: Vec<Box<dyn MessageDyn>> = Vec::new();
            for element in &elements {
                let mut element = element.to_message().unwrap().clone_box();
                change(&mut *element);
                changed.push(element);
            }
            let mut elements = field.mut_repeated(message);
            elements.clear();
            changed
                .into_iter()
                .for_each(|element| elements.push(ReflectValueBox::Message(element)));
        }
        _ => {}
    }
}

/// Fields of messages that are not elements of lists: this version reads around what is new there.
fn is_no_element(message: &str) -> bool {
    !["Label", "DnsQuestion", "Evidence", "Entity", "Value"].contains(&message)
}

#[test]
fn new_fields_in_every_message_of_every_payload_come_out_as_they_came_in() {
    for event in samples() {
        let mut message = read(&event);
        add_fields(&mut *message, &mut |_| true);
        let bytes = peer::write(&*message);
        let decoded = decode_event(&bytes).unwrap();
        assert_eq!(
            (decoded.id, decoded.time, &decoded.device),
            (event.id, event.time, &event.device)
        );
        assert_eq!(encode(&decoded), bytes, "{}", event.payload.kind());
    }
}

#[test]
fn this_version_reads_around_new_fields_that_are_not_in_lists() {
    for event in samples() {
        let mut message = read(&event);
        add_fields(&mut *message, &mut |name| is_no_element(name));
        let bytes = peer::write(&*message);
        let mut decoded = decode_event(&bytes).unwrap();
        assert_eq!(encode(&decoded), bytes, "{}", event.payload.kind());
        assert!(
            !decoded.unknown.event.is_empty() && !decoded.unknown.payload.is_empty(),
            "{decoded:?}"
        );
        decoded.unknown = event.unknown.clone();
        assert_eq!(decoded, event);
    }
}

#[test]
fn a_payload_with_a_new_field_in_a_list_is_kept_whole() {
    let mut samples = samples().into_iter();
    let verdict = samples.find(|event| event.payload.kind() == "verdict").unwrap();
    let mut message = read(&verdict);
    add_fields(&mut *message, &mut |name| name == "Evidence");
    let bytes = peer::write(&*message);
    let decoded = decode_event(&bytes).unwrap();
    assert!(matches!(decoded.payload, Payload::Unknown { tag: 30, .. }));
    assert_eq!(encode(&decoded), bytes);
}

#[test]
fn a_new_payload_is_kept_whole() {
    for tag in [34, 64, 127] {
        let event = Event {
            payload: Payload::Unknown {
                tag,
                bytes: b"anything".to_vec().into(),
            },
            ..samples().remove(0)
        };
        let bytes = encode(&event);
        assert_eq!(decode_event(&bytes).unwrap(), event);
    }
}

#[test]
fn an_event_without_a_payload_stays_without() {
    let none = Payload::Unknown {
        tag: 0,
        bytes: Vec::new().into(),
    };
    let event = Event {
        payload: none,
        ..samples().remove(0)
    };
    assert_eq!(decode_event(&encode(&event)).unwrap(), event);
}

#[test]
fn new_enumerators_are_defaults_that_come_out_as_they_came_in() {
    let mut changed = 0;
    for event in samples() {
        let mut message = read(&event);
        changed += set_enumerators(&mut *message);
        let bytes = peer::write(&*message);
        let decoded = decode_event(&bytes).unwrap();
        assert_eq!(decoded.class, Class::Telemetry);
        assert_eq!(encode(&decoded), bytes, "{}", event.payload.kind());
        if let Payload::Alarm(alarm) = &decoded.payload {
            assert_eq!(alarm.severity, Severity::Low);
        }
    }
    assert!(changed > 25, "only {changed} enumerators were changed");
}

/// Sets every field that holds an enumerator, and says how many there were.
fn set_enumerators(message: &mut dyn MessageDyn) -> usize {
    let mut changed = 0;
    for field in message.descriptor_dyn().fields() {
        if let RuntimeFieldType::Singular(RuntimeType::Enum(descriptor)) = field.runtime_field_type()
            && field.has_field(message)
        {
            field.set_singular_field(message, ReflectValueBox::Enum(descriptor, NEW_ENUMERATOR));
            changed += 1;
        }
        change_messages(message, &field, |inner| changed += set_enumerators(inner));
    }
    changed
}

#[test]
fn a_value_set_after_decoding_replaces_the_unknown_one() {
    let alarm = samples().remove(7);
    let mut message = read(&alarm);
    set_enumerators(&mut *message);
    let mut decoded = decode_event(&peer::write(&*message)).unwrap();
    let Payload::Alarm(alarm) = &mut decoded.payload else {
        panic!("not an alarm")
    };
    alarm.severity = Severity::Critical;
    decoded.class = Class::Audit;
    let again = decode_event(&encode(&decoded)).unwrap();
    assert_eq!(again.class, Class::Audit);
    assert!(matches!(again.payload, Payload::Alarm(alarm) if alarm.severity == Severity::Critical));
}

#[test]
fn a_new_phase_of_a_flow_is_not_taken_for_an_old_one() {
    let flow = samples().remove(0);
    let mut message = read(&flow);
    let payload = message.descriptor_dyn().field_by_name("flow").unwrap();
    let flow = payload.mut_message(&mut *message);
    let phase = flow.descriptor_dyn().field_by_name("phase").unwrap();
    assert_eq!(set_enumerators(phase.mut_message(flow)), 2);
    let bytes = peer::write(&*message);
    let decoded = decode_event(&bytes).unwrap();
    assert!(matches!(decoded.payload, Payload::Unknown { tag: 16, .. }));
    assert_eq!(encode(&decoded), bytes);
}

#[test]
fn an_attribute_of_a_new_kind_survives_beside_the_others() {
    let mut event = samples().remove(13);
    event.attributes = [("a".to_owned(), Value::Bool(false))].into();
    let mut bytes = encode(&event);
    // Field 7: name "b", value with the new field 9.
    let entry = [0x3a, 0x07, 0x0a, 0x01, b'b', 0x12, 0x02, 0x48, 0x01];
    bytes.extend(entry);
    let mut decoded = decode_event(&bytes).unwrap();
    assert_eq!(decoded.attributes, event.attributes);
    assert_eq!(decoded.unknown.event[..], entry);
    agree(&bytes).unwrap();
    // Setting it replaces it, for a reader of either version.
    decoded.attributes.insert("b".to_owned(), Value::Int(1));
    let again = decode_event(&encode(&decoded)).unwrap();
    assert_eq!(again.attributes, decoded.attributes);
}

#[test]
fn new_fields_of_a_ledger_are_passed_over() {
    let mut bytes = encode_ledger(&samples::ledger());
    bytes.extend([0xf8, 0x01, 0x05]);
    assert_eq!(decode_ledger(&bytes).unwrap(), samples::ledger());
}

proptest! {
    #[test]
    fn any_event_with_new_fields_anywhere_comes_out_as_it_came_in(
        event in generate::event(),
        wanted in prop::collection::vec(any::<bool>(), 32),
    ) {
        let mut message = peer::read("Event", &encode(&event)).unwrap();
        let mut wanted = wanted.into_iter().cycle();
        add_fields(&mut *message, &mut |_| wanted.next().unwrap());
        let bytes = peer::write(&*message);
        agree(&bytes)?;
        if event.attributes.len() < 2 {
            prop_assert_eq!(encode(&decode_event(&bytes).unwrap()), bytes);
        }
    }
}

#[test]
fn errors_name_the_field() {
    let event = samples().remove(0);
    let good = encode(&event);
    let field = |bytes: &[u8]| match decode_event(bytes).unwrap_err() {
        WireError::Malformed { field, .. }
        | WireError::Invalid { field, .. }
        | WireError::Missing { field } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(&good[9..]), "Event.origin");
    assert_eq!(field(&good[..9]), "Event.ordinal");
    assert_eq!(field(&good[..good.len() - 1]), "Event.payload");
    let start = [9, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0];
    let with = |rest: &[u8]| [&start[..], rest].concat();
    // An address of three bytes in the key of a flow.
    assert_eq!(
        field(&with(&[0x82, 1, 7, 0x1a, 5, 0x0a, 3, 1, 2, 3])),
        "FlowKey.source"
    );
    assert_eq!(field(&with(&[0x82, 1, 0])), "FlowRecord.key");
    assert_eq!(field(&with(&[0x22, 1, 0xff])), "Event.device");
    assert_eq!(field(&with(&[16, 0])), "Event.ordinal");
    // A batch says which event.
    let mut batch = vec![start.len() as u8];
    batch.extend(start);
    batch.extend([2, 9, 9]);
    let error = decode_events(&batch).unwrap_err();
    assert!(matches!(error, WireError::Event { index: 1, .. }), "{error:?}");
}
