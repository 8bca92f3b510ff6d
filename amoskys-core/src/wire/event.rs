//! The event message: what all events have, attributes, and one payload.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::encoding::WireType;

use super::error::{Fault, Flaw};
use super::message::{Message, read_fields};
use super::primitive::expect;
use super::primitive::{put_delimited, put_key, skip, take_delimited, take_fixed64, take_key};
use super::scalar::{Field, Held, Present, Scalar, put_bytes, take_str};
use super::unknown;
use crate::event::{Class, Event, Payload, UnknownFields, Value};
use crate::id::{EventId, Name};
use crate::time::Timestamp;

const ORIGIN: u32 = 1;
const ORDINAL: u32 = 2;
const TIME: u32 = 3;
const DEVICE: u32 = 4;
const SOURCE: u32 = 5;
const CLASS: u32 = 6;
const ATTRIBUTES: u32 = 7;

/// Field numbers of payloads, also of those of newer versions.
const FIRST_PAYLOAD: u32 = 16;
const LAST_PAYLOAD: u32 = 127;

fn is_payload(number: u32) -> bool {
    (FIRST_PAYLOAD..=LAST_PAYLOAD).contains(&number)
}

/// The payloads this version knows.
macro_rules! payloads {
    ($($number:literal $variant:ident $name:literal;)*) => {
        /// Writes the payload as the one field of the event that it is.
        #[inline]
        fn write_payload(payload: &Payload, unknown: &[u8], out: &mut Vec<u8>) {
            match payload {
                $(Payload::$variant(message) => {
                    put_key($number, WireType::LengthDelimited, out);
                    put_delimited(out, |out| {
                        if unknown.is_empty() {
                            message.write_fields(out);
                        } else {
                            let mut known = Vec::new();
                            message.write_fields(&mut known);
                            unknown::write_payload(&known, unknown, out);
                        }
                    });
                })*
                Payload::Unknown { tag, bytes } if is_payload(*tag) => {
                    put_key(*tag, WireType::LengthDelimited, out);
                    put_bytes(bytes, out);
                }
                Payload::Unknown { .. } => {}
            }
        }

        /// Reads a payload. One that this version cannot hold is [`Payload::Unknown`].
        fn read_payload(number: u32, body: &[u8], unknown: &mut Vec<u8>) -> Result<Payload, Fault> {
            let payload = match number {
                $($number => read_message(body, unknown)
                    .map(Payload::$variant)
                    .map_err(|fault| fault.at(concat!("Event.", $name))),)*
                _ => Err(Fault::newer()),
            };
            match payload {
                Err(fault) if fault.flaw == Flaw::Newer => {
                    unknown.clear();
                    Ok(Payload::Unknown { tag: number, bytes: Bytes::copy_from_slice(body) })
                }
                payload => payload,
            }
        }
    };
}

payloads! {
    16 Flow "flow";
    17 Dns "dns";
    18 Arp "arp";
    19 Process "process";
    20 Syscall "syscall";
    21 Metric "metric";
    22 Log "log";
    23 Alarm "alarm";
    24 DeviceStatus "device_status";
    25 Finding "finding";
    26 Audit "audit";
    27 Loss "loss";
    28 Gap "gap";
    29 Punctuation "punctuation";
    30 Verdict "verdict";
    31 Protected "protected";
    32 Activity "activity";
    33 SyscallHistogram "syscall_histogram";
}

/// A payload's message: boxed, except for the smallest.
trait PayloadMessage {
    type Message: Message;
    fn new() -> Self;
    fn message(&mut self) -> &mut Self::Message;
}

impl<M: Message> PayloadMessage for Box<M> {
    type Message = M;

    fn new() -> Self {
        Self::new(M::empty())
    }

    fn message(&mut self) -> &mut M {
        self
    }
}

impl PayloadMessage for crate::event::Punctuation {
    type Message = Self;

    fn new() -> Self {
        Self::default()
    }

    fn message(&mut self) -> &mut Self {
        self
    }
}

fn read_message<P: PayloadMessage>(body: &[u8], unknown: &mut Vec<u8>) -> Result<P, Fault> {
    let mut payload = P::new();
    read_fields(payload.message(), body, unknown)?;
    Ok(payload)
}

/// Writes an event's fields.
pub(super) fn write_event(event: &Event, out: &mut Vec<u8>) {
    if event.unknown.event.is_empty() {
        write_known(event, out);
        return;
    }
    let mut known = Vec::new();
    write_known(event, &mut known);
    unknown::write_event(&known, &event.unknown.event, ATTRIBUTES, is_payload, out);
}

fn write_known(event: &Event, out: &mut Vec<u8>) {
    put_key(ORIGIN, WireType::SixtyFourBit, out);
    out.extend_from_slice(&event.id.origin.to_le_bytes());
    event.id.ordinal.write_present(ORDINAL, out);
    event.time.write(TIME, out);
    event.device.write(DEVICE, out);
    event.source.write(SOURCE, out);
    event.class.write(CLASS, out);
    for (name, value) in &event.attributes {
        put_key(ATTRIBUTES, WireType::LengthDelimited, out);
        put_delimited(out, |out| {
            name.write_present(1, out);
            put_key(2, WireType::LengthDelimited, out);
            put_delimited(out, |out| write_value(value, out));
        });
    }
    write_payload(&event.payload, &event.unknown.payload, out);
}

/// Reads an event. Its names are shared with `previous` where they are equal, as they are in most batches.
pub(super) fn read_event(mut input: &[u8], previous: Option<&Event>) -> Result<Event, Fault> {
    let mut seen = 0u32;
    let mut id = EventId::default();
    let mut time = Timestamp::default();
    let (mut device, mut source) = (None, None);
    let mut class = Class::default();
    let mut payload = None;
    let mut attributes = BTreeMap::new();
    let (mut unknown_event, mut unknown_payload) = (Vec::new(), Vec::new());

    while !input.is_empty() {
        let before = input;
        let (number, wire) = take_key(&mut input)?;
        if number < ATTRIBUTES {
            if seen & 1 << number != 0 {
                return Err(Fault::in_field(Flaw::Twice, field_name(number)));
            }
            seen |= 1 << number;
        }
        let unknown = &mut unknown_event;
        let read = match number {
            ORIGIN => expect(wire, WireType::SixtyFourBit)
                .and_then(|()| take_fixed64(&mut input))
                .map(|origin| id.origin = origin)
                .map_err(Fault::from),
            ORDINAL => id.ordinal.read(number, wire, &mut input, unknown).map(drop),
            TIME => time.read(number, wire, &mut input, unknown).map(drop),
            DEVICE => read_name(wire, &mut input, previous.map(|event| &event.device))
                .map(|name| device = Some(name)),
            SOURCE => read_name(wire, &mut input, previous.map(|event| &event.source))
                .map(|name| source = Some(name)),
            CLASS => class.read(number, wire, &mut input, unknown).map(drop),
            ATTRIBUTES => read_attribute(wire, &mut input, &mut attributes).map(|held| {
                if held != Held::Yes {
                    unknown.extend_from_slice(&before[..before.len() - input.len()]);
                }
            }),
            number if is_payload(number) => {
                if payload.is_some() {
                    return Err(Fault::in_field(Flaw::Twice, "Event.payload"));
                }
                take_delimited(wire, &mut input)
                    .map_err(Fault::from)
                    .and_then(|body| read_payload(number, body, &mut unknown_payload))
                    .map(|read| payload = Some(read))
            }
            _ => skip(wire, &mut input)
                .map(|()| unknown.extend_from_slice(&before[..before.len() - input.len()]))
                .map_err(Fault::from),
        };
        read.map_err(|fault| fault.at(field_name(number)))?;
    }
    for required in [ORIGIN, ORDINAL] {
        if seen & 1 << required == 0 {
            return Err(Fault::in_field(Flaw::Missing, field_name(required)));
        }
    }
    Ok(Event {
        id,
        time,
        device: device.unwrap_or_default(),
        source: source.unwrap_or_default(),
        class,
        payload: payload.unwrap_or(Payload::Unknown {
            tag: 0,
            bytes: Bytes::new(),
        }),
        attributes,
        unknown: UnknownFields {
            event: unknown_event.into(),
            payload: unknown_payload.into(),
        },
    })
}

fn field_name(number: u32) -> &'static str {
    match number {
        ORIGIN => "Event.origin",
        ORDINAL => "Event.ordinal",
        TIME => "Event.time_ns",
        DEVICE => "Event.device",
        SOURCE => "Event.source",
        CLASS => "Event.class",
        ATTRIBUTES => "Event.attributes",
        number if is_payload(number) => "Event.payload",
        _ => "Event",
    }
}

fn read_name(wire: WireType, input: &mut &[u8], previous: Option<&Name>) -> Result<Name, Fault> {
    expect(wire, WireType::LengthDelimited)?;
    let text = take_str(input)?;
    Ok(match previous {
        Some(name) if name.as_str() == text => name.clone(),
        _ => Name::from(text),
    })
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(value) => value.write_present(1, out),
        Value::Int(value) => value.write_present(2, out),
        Value::Uint(value) => value.write_present(3, out),
        Value::Float(value) => value.write_present(4, out),
        Value::Text(value) => value.write_present(5, out),
        Value::Bytes(value) => {
            put_key(6, WireType::LengthDelimited, out);
            put_bytes(value, out);
        }
    }
}

/// Reads one entry of the attributes. An entry that cannot be held replaces one of the same name that could.
fn read_attribute(
    wire: WireType,
    input: &mut &[u8],
    attributes: &mut BTreeMap<String, Value>,
) -> Result<Held, Fault> {
    let mut entry = take_delimited(wire, input)?;
    let (mut name, mut value, mut held) = (String::new(), None, Held::Yes);
    while !entry.is_empty() {
        match take_key(&mut entry)? {
            (1, wire) => {
                expect(wire, WireType::LengthDelimited)?;
                name = String::take(&mut entry)?;
            }
            (2, wire) => match read_value(take_delimited(wire, &mut entry)?)? {
                Some(read) => value = Some(read),
                None => held = Held::InPart,
            },
            (_, wire) => {
                skip(wire, &mut entry)?;
                held = Held::InPart;
            }
        }
    }
    match value {
        Some(value) if held == Held::Yes => {
            attributes.insert(name, value);
            Ok(Held::Yes)
        }
        _ => {
            attributes.remove(&name);
            Ok(Held::InPart)
        }
    }
}

/// Reads a value; `None` if it is of a kind this version does not know.
fn read_value(mut input: &[u8]) -> Result<Option<Value>, Fault> {
    fn scalar<T: Scalar>(wire: WireType, input: &mut &[u8]) -> Result<T, Flaw> {
        expect(wire, T::WIRE)?;
        T::take(input)
    }
    let (mut value, mut newer) = (None, false);
    while !input.is_empty() {
        let (number, wire) = take_key(&mut input)?;
        value = Some(match number {
            1 => Value::Bool(scalar(wire, &mut input)?),
            2 => Value::Int(scalar(wire, &mut input)?),
            3 => Value::Uint(scalar(wire, &mut input)?),
            4 => Value::Float(scalar(wire, &mut input)?),
            5 => Value::Text(scalar(wire, &mut input)?),
            6 => Value::Bytes(take_delimited(wire, &mut input)?.to_vec()),
            _ => {
                skip(wire, &mut input)?;
                newer = true;
                continue;
            }
        });
    }
    Ok(value.filter(|_| !newer))
}
