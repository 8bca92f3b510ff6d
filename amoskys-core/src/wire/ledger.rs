//! The ledger message, and maps.

use std::collections::BTreeMap;

use prost::encoding::WireType;

use super::error::Fault;
use super::message::message;
use super::primitive::{put_delimited, put_key, skip, take_delimited, take_key};
use super::scalar::{Field, Held, Present};
use crate::batch::Position;
use crate::ledger::{Account, DropReason, LedgerSnapshot};

message! {
    LedgerSnapshot = Self::default(), "Ledger";
    1 accounts, repeated;
    2 positions, repeated;
}

message! {
    Account = Self::default(), "Account";
    1 received;
    2 delivered;
    3 pending;
    4 dropped, repeated;
}

/// Opaque bytes.
impl Field for Position {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            self.write_present(number, out);
        }
    }

    fn read(&mut self, _: u32, wire: WireType, input: &mut &[u8], _: &mut Vec<u8>) -> Result<Held, Fault> {
        self.0 = bytes::Bytes::copy_from_slice(take_delimited(wire, input)?);
        Ok(Held::Yes)
    }
}

impl Present for Position {
    fn empty() -> Self {
        Self::default()
    }

    fn write_present(&self, number: u32, out: &mut Vec<u8>) {
        put_key(number, WireType::LengthDelimited, out);
        super::scalar::put_bytes(&self.0, out);
    }
}

/// The key of a map: text on the wire.
trait MapKey: Ord + Sized {
    fn text(&self) -> &str;
    fn of_text(text: String) -> Self;
}

impl MapKey for String {
    fn text(&self) -> &str {
        self
    }

    fn of_text(text: String) -> Self {
        text
    }
}

impl MapKey for DropReason {
    fn text(&self) -> &str {
        self.as_str()
    }

    fn of_text(text: String) -> Self {
        Self::new(text)
    }
}

/// A map, in order of its keys. Of several entries of one key the last counts.
impl<K: MapKey, V: Present> Field for BTreeMap<K, V> {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        for (key, value) in self {
            put_key(number, WireType::LengthDelimited, out);
            put_delimited(out, |out| {
                put_text(key.text(), out);
                value.write_present(2, out);
            });
        }
    }

    fn read(
        &mut self,
        _: u32,
        wire: WireType,
        input: &mut &[u8],
        unknown: &mut Vec<u8>,
    ) -> Result<Held, Fault> {
        let mut entry = take_delimited(wire, input)?;
        let (mut key, mut value) = (String::new(), V::empty());
        while !entry.is_empty() {
            match take_key(&mut entry)? {
                (1, wire) => drop(key.read(1, wire, &mut entry, unknown)?),
                (2, wire) => {
                    value = V::empty();
                    value.read(2, wire, &mut entry, unknown)?;
                }
                (_, wire) => skip(wire, &mut entry)?,
            }
        }
        self.insert(K::of_text(key), value);
        Ok(Held::Yes)
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_key(1, WireType::LengthDelimited, out);
    super::scalar::put_bytes(text.as_bytes(), out);
}
