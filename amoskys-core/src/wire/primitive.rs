//! Keys, integers and lengths: the lowest layer, on top of prost's.

use prost::encoding::{WireType, decode_varint, encode_varint, encoded_len_varint};

use super::error::Flaw;

/// The largest field number of protobuf.
const MAX_NUMBER: u64 = (1 << 29) - 1;

#[inline]
pub(super) fn put_varint(value: u64, out: &mut Vec<u8>) {
    // Most values are small.
    if value < 0x80 {
        out.push(value as u8);
    } else {
        encode_varint(value, out);
    }
}

#[inline]
pub(super) fn put_key(number: u32, wire: WireType, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | wire as u64, out);
}

/// Writes what `body` writes, preceded by its length.
#[inline]
pub(super) fn put_delimited(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    // Room for the length of most messages; the rare longer ones are moved. That is cheaper than to compute
    // every length beforehand.
    let start = out.len();
    out.push(0);
    body(out);
    let len = out.len() - start - 1;
    if len < 0x80 {
        out[start] = len as u8;
    } else {
        widen(out, start, len);
    }
}

fn widen(out: &mut Vec<u8>, start: usize, len: usize) {
    let mut prefix = [0u8; 10];
    let mut rest = &mut prefix[..];
    encode_varint(len as u64, &mut rest);
    let width = 10 - rest.len();
    let end = out.len();
    out.resize(end + width - 1, 0);
    out.copy_within(start + 1..end, start + width);
    out[start..start + width].copy_from_slice(&prefix[..width]);
}

/// An integer, in its shortest form. Longer ones are refused: readers differ about how long they may be.
#[inline(always)]
pub(super) fn take_varint(input: &mut &[u8]) -> Result<u64, Flaw> {
    match input {
        [byte @ 0..0x80, rest @ ..] => {
            *input = rest;
            Ok(u64::from(*byte))
        }
        _ => take_long_varint(input),
    }
}

fn take_long_varint(input: &mut &[u8]) -> Result<u64, Flaw> {
    match *input {
        [a, b @ 1..0x80, rest @ ..] => {
            *input = rest;
            Ok(u64::from(*a & 0x7f) | u64::from(*b) << 7)
        }
        [a, b, c @ 1..0x80, rest @ ..] if *b >= 0x80 => {
            *input = rest;
            Ok(u64::from(*a & 0x7f) | u64::from(*b & 0x7f) << 7 | u64::from(*c) << 14)
        }
        [] => Err(Flaw::EndsEarly),
        before => {
            let value = decode_varint(input).map_err(|_| Flaw::Varint)?;
            if before.len() - input.len() == encoded_len_varint(value) {
                Ok(value)
            } else {
                Err(Flaw::Varint)
            }
        }
    }
}

/// The next field's number and wire type. Groups, which protobuf has abandoned, are refused.
#[inline]
pub(super) fn take_key(input: &mut &[u8]) -> Result<(u32, WireType), Flaw> {
    let key = take_varint(input)?;
    let wire = match key & 7 {
        0 => WireType::Varint,
        1 => WireType::SixtyFourBit,
        2 => WireType::LengthDelimited,
        5 => WireType::ThirtyTwoBit,
        _ => return Err(Flaw::Key),
    };
    match key >> 3 {
        number @ 1..=MAX_NUMBER => Ok((number as u32, wire)),
        _ => Err(Flaw::Key),
    }
}

#[inline]
pub(super) fn take_bytes<'a>(input: &mut &'a [u8], len: u64) -> Result<&'a [u8], Flaw> {
    let len = usize::try_from(len).map_err(|_| Flaw::EndsEarly)?;
    let (taken, rest) = input.split_at_checked(len).ok_or(Flaw::EndsEarly)?;
    *input = rest;
    Ok(taken)
}

#[inline]
pub(super) fn take_delimited<'a>(wire: WireType, input: &mut &'a [u8]) -> Result<&'a [u8], Flaw> {
    expect(wire, WireType::LengthDelimited)?;
    let len = take_varint(input)?;
    take_bytes(input, len)
}

#[inline]
pub(super) fn take_fixed64(input: &mut &[u8]) -> Result<u64, Flaw> {
    let (taken, rest) = input.split_first_chunk::<8>().ok_or(Flaw::EndsEarly)?;
    *input = rest;
    Ok(u64::from_le_bytes(*taken))
}

/// Passes over a value.
pub(super) fn skip(wire: WireType, input: &mut &[u8]) -> Result<(), Flaw> {
    match wire {
        WireType::Varint => take_varint(input).map(drop),
        WireType::SixtyFourBit => take_bytes(input, 8).map(drop),
        WireType::ThirtyTwoBit => take_bytes(input, 4).map(drop),
        WireType::LengthDelimited => take_delimited(wire, input).map(drop),
        WireType::StartGroup | WireType::EndGroup => Err(Flaw::Key),
    }
}

#[inline]
pub(super) fn expect(found: WireType, expected: WireType) -> Result<(), Flaw> {
    if found == expected {
        Ok(())
    } else {
        Err(Flaw::WireType)
    }
}
