//! Messages: what they have in common, and how they are declared.

use prost::encoding::WireType;

use super::error::{Fault, Flaw};
use super::primitive::{put_delimited, put_key, skip, take_delimited, take_key};
use super::scalar::Held;
use super::unknown::keep_nested;

/// A message of the `.proto`. Implemented by [`message!`].
///
/// The masks have a bit for each field number, which are all below 64.
pub(super) trait Message: Sized {
    /// Fields that must be there.
    const REQUIRED: u64;
    /// Fields that may be there more than once.
    const REPEATED: u64;
    /// Fields without which the rest means something else: if one of them has a value of a newer version, the
    /// payload as a whole is of a newer version.
    const STRICT: u64;

    /// What a reader starts from: every field absent.
    fn empty() -> Self;

    /// Writes all fields in order of their numbers.
    fn write_fields(&self, out: &mut Vec<u8>);

    /// Reads one field.
    fn read_field(
        &mut self,
        number: u32,
        wire: WireType,
        input: &mut &[u8],
        unknown: &mut Vec<u8>,
    ) -> Result<Held, Fault>;

    /// The name of a field, as `Message.field`.
    fn field_name(number: u32) -> &'static str;
}

/// Reads all fields of a message. What it cannot hold goes to `unknown`.
pub(super) fn read_fields<M: Message>(
    message: &mut M,
    mut input: &[u8],
    unknown: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut seen = 0u64;
    let mut newer = false;
    while !input.is_empty() {
        let before = input;
        let (number, wire) = take_key(&mut input)?;
        let bit = 1u64.checked_shl(number).unwrap_or(0);
        if seen & bit & !M::REPEATED != 0 {
            return Err(Fault::in_field(Flaw::Twice, M::field_name(number)));
        }
        match message.read_field(number, wire, &mut input, unknown) {
            Ok(Held::Yes) => seen |= bit,
            Ok(Held::InPart) => {
                seen |= bit;
                newer |= bit & M::STRICT != 0;
            }
            Ok(Held::NoSuchField) => {
                skip(wire, &mut input)?;
                unknown.extend_from_slice(&before[..before.len() - input.len()]);
            }
            // The rest is still checked.
            Err(fault) if fault.flaw == Flaw::Newer => {
                seen |= bit;
                newer = true;
            }
            Err(fault) => return Err(fault),
        }
    }
    let missing = M::REQUIRED & !seen;
    if missing != 0 {
        return Err(Fault::in_field(
            Flaw::Missing,
            M::field_name(missing.trailing_zeros()),
        ));
    }
    if newer { Err(Fault::newer()) } else { Ok(()) }
}

/// Writes a nested message. `always`: also if it has no fields, when its presence says something.
#[inline]
pub(super) fn write_nested<M: Message>(message: &M, number: u32, always: bool, out: &mut Vec<u8>) {
    let start = out.len();
    put_key(number, WireType::LengthDelimited, out);
    let body = out.len() + 1;
    put_delimited(out, |out| message.write_fields(out));
    if out.len() == body && !always {
        out.truncate(start);
    }
}

/// Reads a nested message.
#[inline]
pub(super) fn read_nested<M: Message>(
    message: &mut M,
    number: u32,
    wire: WireType,
    input: &mut &[u8],
    unknown: &mut Vec<u8>,
) -> Result<Held, Fault> {
    let body = take_delimited(wire, input)?;
    let mut inner = Vec::new();
    read_fields(message, body, &mut inner)?;
    if inner.is_empty() {
        return Ok(Held::Yes);
    }
    keep_nested(number, &inner, unknown);
    Ok(Held::InPart)
}

/// Declares a message: the type, the name in the `.proto`, what a reader starts from, and the fields as
/// `NUMBER NAME;`, each with ` => PATH` where the Rust field has another name, and with `, required`,
/// `, repeated` or `, strict`.
macro_rules! message {
    (
        $type:ty = $empty:expr, $message:literal;
        $($number:literal $name:ident $(=> $($path:tt).+)? $(, $flag:ident)?;)*
    ) => {
        impl $crate::wire::message::Message for $type {
            const REQUIRED: u64 = 0 $(| message!(@bit required $number $($flag)?))*;
            const REPEATED: u64 = 0 $(| message!(@bit repeated $number $($flag)?))*;
            const STRICT: u64 = 0 $(| message!(@bit strict $number $($flag)?))*;

            fn empty() -> Self {
                $empty
            }

            #[inline]
            fn write_fields(&self, out: &mut Vec<u8>) {
                #[allow(unused_imports, reason = "not every message has both kinds of fields")]
                use $crate::wire::scalar::{Field as _, Present as _};
                $(message!(@write (message!(@path self $name $($($path).+)?)) $number out $($flag)?);)*
            }

            #[inline]
            fn read_field(
                &mut self,
                number: u32,
                wire: prost::encoding::WireType,
                input: &mut &[u8],
                unknown: &mut Vec<u8>,
            ) -> Result<$crate::wire::scalar::Held, $crate::wire::error::Fault> {
                use $crate::wire::scalar::Field as _;
                match number {
                    $($number => {
                        let field = &mut message!(@path self $name $($($path).+)?);
                        field
                            .read(number, wire, input, unknown)
                            .map_err(|fault| fault.at(concat!($message, ".", stringify!($name))))
                    })*
                    _ => Ok($crate::wire::scalar::Held::NoSuchField),
                }
            }

            fn field_name(number: u32) -> &'static str {
                match number {
                    $($number => concat!($message, ".", stringify!($name)),)*
                    _ => $message,
                }
            }
        }

        impl $crate::wire::scalar::Field for $type {
            #[inline]
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                $crate::wire::message::write_nested(self, number, false, out);
            }

            #[inline]
            fn read(
                &mut self,
                number: u32,
                wire: prost::encoding::WireType,
                input: &mut &[u8],
                unknown: &mut Vec<u8>,
            ) -> Result<$crate::wire::scalar::Held, $crate::wire::error::Fault> {
                $crate::wire::message::read_nested(self, number, wire, input, unknown)
            }
        }

        impl $crate::wire::scalar::Present for $type {
            fn empty() -> Self {
                <Self as $crate::wire::message::Message>::empty()
            }

            #[inline]
            fn write_present(&self, number: u32, out: &mut Vec<u8>) {
                $crate::wire::message::write_nested(self, number, true, out);
            }
        }
    };

    (@bit required $number:literal required) => { 1u64 << $number };
    (@bit repeated $number:literal repeated) => { 1u64 << $number };
    (@bit strict $number:literal strict) => { 1u64 << $number };
    (@bit $flag:ident $number:literal $($other:ident)?) => { 0 };

    (@path $self:ident $name:ident) => { $self.$name };
    (@path $self:ident $name:ident $($path:tt).+) => { $self.$($path).+ };

    (@write ($field:expr) $number:literal $out:ident required) => { $field.write_present($number, $out) };
    (@write ($field:expr) $number:literal $out:ident $($other:ident)?) => { $field.write($number, $out) };
}
pub(super) use message;

/// Declares how an enumeration of the `.proto` is numbered. Number 0 is the default of the Rust type.
macro_rules! enumeration {
    ($($type:ty { $($variant:ident = $number:literal),* $(,)? })*) => {$(
        impl $type {
            const fn wire_number(self) -> i32 {
                match self {
                    $(Self::$variant => $number,)*
                }
            }

            const fn of_wire_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl $crate::wire::scalar::Field for $type {
            #[inline]
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                let value = self.wire_number();
                if value != 0 {
                    $crate::wire::primitive::put_key(number, prost::encoding::WireType::Varint, out);
                    $crate::wire::primitive::put_varint(value as u64, out);
                }
            }

            /// A number of a newer version gives the default, and is kept with the unknown fields.
            #[inline]
            fn read(
                &mut self,
                number: u32,
                wire: prost::encoding::WireType,
                input: &mut &[u8],
                unknown: &mut Vec<u8>,
            ) -> Result<$crate::wire::scalar::Held, $crate::wire::error::Fault> {
                let value = $crate::wire::message::take_enumerator(wire, input)?;
                if let Some(known) = Self::of_wire_number(value) {
                    *self = known;
                    return Ok($crate::wire::scalar::Held::Yes);
                }
                *self = Self::default();
                $crate::wire::primitive::put_key(number, wire, unknown);
                $crate::wire::primitive::put_varint(i64::from(value) as u64, unknown);
                Ok($crate::wire::scalar::Held::InPart)
            }
        }
    )*};
}
pub(super) use enumeration;

#[inline]
pub(super) fn take_enumerator(wire: WireType, input: &mut &[u8]) -> Result<i32, Flaw> {
    super::primitive::expect(wire, WireType::Varint)?;
    i32::try_from(super::primitive::take_varint(input)? as i64).map_err(|_| Flaw::Range)
}
