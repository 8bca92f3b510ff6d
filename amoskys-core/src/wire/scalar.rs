//! How each Rust type of the event model is written as the value of one field.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prost::encoding::WireType;

use super::error::{Fault, Flaw};
use super::primitive::{
    expect, put_delimited, put_key, put_varint, take_delimited, take_fixed64, take_varint,
};
use crate::event::{MacAddr, PacketSample, Technique, VerdictId};
use crate::id::{Digest, Name, Seq};
use crate::time::Timestamp;

/// A field of a message.
pub(super) trait Field {
    /// Writes the field, unless it is the default, which is what a reader takes an absent field for.
    fn write(&self, number: u32, out: &mut Vec<u8>);

    /// Reads one occurrence of the field. What this version cannot hold is appended to `unknown` as a field
    /// with this number.
    fn read(
        &mut self,
        number: u32,
        wire: WireType,
        input: &mut &[u8],
        unknown: &mut Vec<u8>,
    ) -> Result<Held, Fault>;
}

/// Whether a field could be held as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// All of it.
    Yes,
    /// Some of it is in the unknown fields now.
    InPart,
    /// The message has no such field.
    NoSuchField,
}

/// A field that can be told from an absent one: it may be optional or required.
pub(super) trait Present: Field {
    /// What a reader starts from.
    fn empty() -> Self;

    /// Writes the field, also if it is the default.
    fn write_present(&self, number: u32, out: &mut Vec<u8>);
}

/// A value that may be an element of a repeated field.
pub(super) trait Element: Present {}

/// A value without parts.
pub(super) trait Scalar: Sized {
    const WIRE: WireType;
    fn zero() -> Self;
    fn is_zero(&self) -> bool;
    fn put(&self, out: &mut Vec<u8>);
    fn take(input: &mut &[u8]) -> Result<Self, Flaw>;
}

/// Fields and optional fields of scalar types.
macro_rules! scalar_fields {
    ($($type:ty),* $(,)?) => {$(
        impl Field for $type {
            #[inline]
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                if !self.is_zero() {
                    self.write_present(number, out);
                }
            }

            #[inline]
            fn read(
                &mut self,
                _: u32,
                wire: WireType,
                input: &mut &[u8],
                _: &mut Vec<u8>,
            ) -> Result<Held, Fault> {
                expect(wire, <Self as Scalar>::WIRE)?;
                *self = Self::take(input)?;
                Ok(Held::Yes)
            }
        }

        impl Present for $type {
            #[inline]
            fn empty() -> Self {
                Self::zero()
            }

            #[inline]
            fn write_present(&self, number: u32, out: &mut Vec<u8>) {
                put_key(number, <Self as Scalar>::WIRE, out);
                self.put(out);
            }
        }
    )*};
}

scalar_fields!(u8, u16, u32, u64, i32, i64, bool, f64, u128);
scalar_fields!(String, Name, Technique, Timestamp, Seq);
scalar_fields!(IpAddr, Ipv4Addr, MacAddr, Digest, VerdictId);

impl Element for String {}
impl Element for IpAddr {}

impl<T: Present> Field for Option<T> {
    #[inline]
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.write_present(number, out);
        }
    }

    #[inline]
    fn read(
        &mut self,
        number: u32,
        wire: WireType,
        input: &mut &[u8],
        unknown: &mut Vec<u8>,
    ) -> Result<Held, Fault> {
        self.get_or_insert_with(T::empty)
            .read(number, wire, input, unknown)
    }
}

impl<T: Element> Field for Vec<T> {
    #[inline]
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        for element in self {
            element.write_present(number, out);
        }
    }

    fn read(
        &mut self,
        number: u32,
        wire: WireType,
        input: &mut &[u8],
        unknown: &mut Vec<u8>,
    ) -> Result<Held, Fault> {
        let mut element = T::empty();
        // An unknown part of an element cannot be put back into the same element later.
        match element.read(number, wire, input, unknown)? {
            Held::Yes => self.push(element),
            Held::InPart | Held::NoSuchField => return Err(Fault::newer()),
        }
        Ok(Held::Yes)
    }
}

macro_rules! unsigned {
    ($($type:ty),*) => {$(
        impl Scalar for $type {
            const WIRE: WireType = WireType::Varint;

            #[inline]
            fn zero() -> Self {
                0
            }

            #[inline]
            fn is_zero(&self) -> bool {
                *self == 0
            }

            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                put_varint(u64::from(*self), out);
            }

            #[inline]
            fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
                Self::try_from(take_varint(input)?).map_err(|_| Flaw::Range)
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64);

impl Scalar for i64 {
    const WIRE: WireType = WireType::Varint;

    fn zero() -> Self {
        0
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }

    /// In zigzag form (`sint64`), in which small negative numbers are short.
    fn put(&self, out: &mut Vec<u8>) {
        put_varint((self << 1 ^ self >> 63) as u64, out);
    }

    fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
        let value = take_varint(input)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

impl Scalar for i32 {
    const WIRE: WireType = WireType::Varint;

    fn zero() -> Self {
        0
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }

    fn put(&self, out: &mut Vec<u8>) {
        i64::from(*self).put(out);
    }

    fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
        Self::try_from(i64::take(input)?).map_err(|_| Flaw::Range)
    }
}

impl Scalar for bool {
    const WIRE: WireType = WireType::Varint;

    fn zero() -> Self {
        false
    }

    fn is_zero(&self) -> bool {
        !self
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
        match take_varint(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Flaw::Range),
        }
    }
}

impl Scalar for f64 {
    const WIRE: WireType = WireType::SixtyFourBit;

    fn zero() -> Self {
        0.0
    }

    /// Only positive zero is the default, by protobuf's definition.
    fn is_zero(&self) -> bool {
        self.to_bits() == 0
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bits().to_le_bytes());
    }

    fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
        take_fixed64(input).map(Self::from_bits)
    }
}

impl Scalar for Timestamp {
    const WIRE: WireType = WireType::SixtyFourBit;

    #[inline]
    fn zero() -> Self {
        Self::default()
    }

    #[inline]
    fn is_zero(&self) -> bool {
        self.nanos() == 0
    }

    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.nanos().to_le_bytes());
    }

    #[inline]
    fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
        take_fixed64(input).map(|bits| Self::from_nanos(bits as i64))
    }
}

impl Scalar for Seq {
    const WIRE: WireType = WireType::Varint;

    fn zero() -> Self {
        Self(0)
    }

    fn is_zero(&self) -> bool {
        self.0 == 0
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(self.0, out);
    }

    fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
        take_varint(input).map(Self)
    }
}

pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(super) fn take_str<'a>(input: &mut &'a [u8]) -> Result<&'a str, Flaw> {
    let bytes = take_delimited(WireType::LengthDelimited, input)?;
    std::str::from_utf8(bytes).map_err(|_| Flaw::Utf8)
}

macro_rules! text {
    ($($type:ty: $zero:expr, $from:expr);* $(;)?) => {$(
        impl Scalar for $type {
            const WIRE: WireType = WireType::LengthDelimited;

            #[inline]
            fn zero() -> Self {
                $zero
            }

            #[inline]
            fn is_zero(&self) -> bool {
                self.as_str().is_empty()
            }

            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                put_bytes(self.as_str().as_bytes(), out);
            }

            #[inline]
            fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
                take_str(input).map($from)
            }
        }
    )*};
}

text! {
    String: Self::new(), Self::from;
    Name: Self::default(), Self::from;
    Technique: Self::new(""), Self::new;
}

/// Values that are bytes of a fixed length; absent if all are zero.
macro_rules! fixed_bytes {
    ($($type:ty: $len:literal, $bytes:expr, $from:expr);* $(;)?) => {$(
        impl Scalar for $type {
            const WIRE: WireType = WireType::LengthDelimited;

            #[inline]
            fn zero() -> Self {
                $from([0; $len])
            }

            #[inline]
            fn is_zero(&self) -> bool {
                $bytes(self) == [0; $len]
            }

            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                put_bytes(&$bytes(self), out);
            }

            #[inline]
            fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
                let bytes = take_delimited(WireType::LengthDelimited, input)?;
                <[u8; $len]>::try_from(bytes).map($from).map_err(|_| Flaw::Length)
            }
        }
    )*};
}

fixed_bytes! {
    Digest: 32, |value: &Self| value.0, Self;
    VerdictId: 16, |value: &Self| value.0, Self;
    MacAddr: 6, |value: &Self| value.0, Self;
    Ipv4Addr: 4, Self::octets, Self::from;
    u128: 16, |value: &Self| value.to_be_bytes(), Self::from_be_bytes;
}

impl Scalar for IpAddr {
    const WIRE: WireType = WireType::LengthDelimited;

    #[inline]
    fn zero() -> Self {
        Self::V4(Ipv4Addr::UNSPECIFIED)
    }

    #[inline]
    fn is_zero(&self) -> bool {
        *self == Self::zero()
    }

    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::V4(address) => put_bytes(&address.octets(), out),
            Self::V6(address) => put_bytes(&address.octets(), out),
        }
    }

    #[inline]
    fn take(input: &mut &[u8]) -> Result<Self, Flaw> {
        let bytes = take_delimited(WireType::LengthDelimited, input)?;
        if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            Ok(Self::V4(Ipv4Addr::from(octets)))
        } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
            Ok(Self::V6(Ipv6Addr::from(octets)))
        } else {
            Err(Flaw::Length)
        }
    }
}

impl Field for Vec<u8> {
    #[inline]
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_key(number, WireType::LengthDelimited, out);
            put_bytes(self, out);
        }
    }

    #[inline]
    fn read(&mut self, _: u32, wire: WireType, input: &mut &[u8], _: &mut Vec<u8>) -> Result<Held, Fault> {
        let bytes = take_delimited(wire, input)?;
        self.clear();
        self.extend_from_slice(bytes);
        Ok(Held::Yes)
    }
}

/// Repeated numbers: written packed, read in either form.
macro_rules! packed {
    ($($type:ty: $to:expr, $from:expr);* $(;)?) => {$(
        impl Field for Vec<$type> {
            #[inline]
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                if !self.is_empty() {
                    put_key(number, WireType::LengthDelimited, out);
                    put_delimited(out, |out| self.iter().for_each(|value| put_varint($to(value), out)));
                }
            }

            #[inline]
            fn read(
                &mut self,
                _: u32,
                wire: WireType,
                input: &mut &[u8],
                _: &mut Vec<u8>,
            ) -> Result<Held, Fault> {
                if wire == WireType::Varint {
                    self.push($from(take_varint(input)?)?);
                    return Ok(Held::Yes);
                }
                let mut packed = take_delimited(wire, input)?;
                // The last byte of each integer, and no other, has its top bit clear.
                self.reserve(packed.iter().filter(|byte| **byte < 0x80).count());
                while !packed.is_empty() {
                    self.push($from(take_varint(&mut packed)?)?);
                }
                Ok(Held::Yes)
            }
        }
    )*};
}

packed! {
    u32: |value: &u32| u64::from(*value), |value| u32::try_from(value).map_err(|_| Flaw::Range);
    PacketSample: pack_sample, unpack_sample;
}

/// The packets of a flow's beginning are many: one integer each is half the size and time of a message each.
fn pack_sample(sample: &PacketSample) -> u64 {
    u64::from(sample.gap_us) << 17 | u64::from(sample.length) << 1 | u64::from(sample.backward)
}

fn unpack_sample(packed: u64) -> Result<PacketSample, Flaw> {
    Ok(PacketSample {
        backward: packed & 1 == 1,
        length: (packed >> 1 & 0xffff) as u16,
        gap_us: u32::try_from(packed >> 17).map_err(|_| Flaw::Range)?,
    })
}
