//! Fields of newer versions: how they are kept, and written back in their places.

use prost::encoding::WireType;

use super::error::Flaw;
use super::primitive::{put_key, put_varint, skip, take_bytes, take_key, take_varint};

/// Messages in messages are at most this deep. Ours are half as deep.
const MAX_DEPTH: usize = 8;

/// Appends what a nested message could not hold, as a nested message with only these fields.
pub(super) fn keep_nested(number: u32, fields: &[u8], unknown: &mut Vec<u8>) {
    put_key(number, WireType::LengthDelimited, unknown);
    put_varint(fields.len() as u64, unknown);
    unknown.extend_from_slice(fields);
}

/// Writes the fields of a payload together with its unknown ones, in order of field numbers.
///
/// Where both have a number, they are parts of one nested message and are joined; if they are not, the known
/// one stands: it was set after decoding. Unknown bytes that are no fields are left out.
pub(super) fn write_payload(known: &[u8], unknown: &[u8], out: &mut Vec<u8>) {
    merge(
        Records(known).collect(),
        Records(unknown).collect(),
        MAX_DEPTH,
        out,
    );
}

/// Writes the fields of an event together with its unknown ones, in order of field numbers.
///
/// Where both have a number, the known one stands, except in the field `repeated`, which keeps all. Unknown
/// fields that `is_payload` are left out: an event has one payload.
pub(super) fn write_event(
    known: &[u8],
    unknown: &[u8],
    repeated: u32,
    is_payload: impl Fn(u32) -> bool,
    out: &mut Vec<u8>,
) {
    let mut all = Vec::new();
    all.extend(
        Records(unknown)
            .filter(|record| !is_payload(record.number))
            .map(|record| (false, record)),
    );
    all.extend(Records(known).map(|record| (true, record)));
    // The sort is stable: unknown before known, otherwise as they came.
    all.sort_by_key(|(_, record)| record.number);
    for group in all.chunk_by(|(_, a), (_, b)| a.number == b.number) {
        let only_known = group[0].1.number != repeated && group.iter().any(|(known, _)| *known);
        let written = group.iter().filter(|(known, _)| *known || !only_known);
        written.for_each(|(_, record)| out.extend_from_slice(record.field));
    }
}

fn merge(known: Vec<Record<'_>>, unknown: Vec<Record<'_>>, depth: usize, out: &mut Vec<u8>) {
    let mut all: Vec<(bool, Record<'_>)> = Vec::with_capacity(known.len() + unknown.len());
    all.extend(known.into_iter().map(|record| (true, record)));
    all.extend(unknown.into_iter().map(|record| (false, record)));
    all.sort_by_key(|(_, record)| record.number);
    for group in all.chunk_by(|(_, a), (_, b)| a.number == b.number) {
        match group {
            [(true, known), (false, unknown)] if depth > 0 && known.is_message() && unknown.is_message() => {
                let mut joined = Vec::new();
                let fields = Records(known.content).collect();
                merge(fields, Records(unknown.content).collect(), depth - 1, &mut joined);
                keep_nested(known.number, &joined, out);
            }
            _ => {
                let any_known = group.iter().any(|(known, _)| *known);
                let written = group.iter().filter(|(known, _)| *known == any_known);
                written.for_each(|(_, record)| out.extend_from_slice(record.field));
            }
        }
    }
}

/// One encoded field.
#[derive(Clone, Copy)]
struct Record<'a> {
    number: u32,
    wire: WireType,
    /// All of it.
    field: &'a [u8],
    /// What is in it, if it has a length.
    content: &'a [u8],
}

impl Record<'_> {
    /// Whether it can be a message.
    fn is_message(&self) -> bool {
        let mut fields = Records(self.content);
        fields.by_ref().for_each(drop);
        self.wire == WireType::LengthDelimited && fields.0.is_empty()
    }
}

/// The fields of an encoded message, up to the first that is none.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let mut rest = self.0;
        let (number, wire, content) = take_record(&mut rest).ok()?;
        let field = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Record {
            number,
            wire,
            field,
            content,
        })
    }
}

fn take_record<'a>(input: &mut &'a [u8]) -> Result<(u32, WireType, &'a [u8]), Flaw> {
    let (number, wire) = take_key(input)?;
    let mut content = &[][..];
    if wire == WireType::LengthDelimited {
        let len = take_varint(input)?;
        content = take_bytes(input, len)?;
    } else {
        skip(wire, input)?;
    }
    Ok((number, wire, content))
}
