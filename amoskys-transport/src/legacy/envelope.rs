//! An envelope as it came, and the bytes its sender signed.

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_varint, skip_field};

use super::message::{Envelope, FlowEvent};
use crate::key::PublicKey;

/// Bytes an envelope may have.
pub(crate) const MAX_ENVELOPE: usize = 131_072;

/// An envelope that could be decoded.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) message: Envelope,
    /// All of it, as it came.
    pub(crate) bytes: Bytes,
    /// The flow as it came, each time it was there. Usually once, or not at all.
    flow: Vec<Bytes>,
}

/// Why bytes are no envelope.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error("the envelope has {0} bytes, over the limit of {MAX_ENVELOPE}")]
    TooLarge(usize),
    #[error("it is no Envelope: {0}")]
    Malformed(#[from] prost::DecodeError),
}

impl Received {
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        let message = Envelope::decode(&bytes[..])?;
        let mut flow = Vec::new();
        if message.flow.is_some() {
            walk(&bytes, |field| {
                if let (Envelope::FLOW, Some(value)) = (field.number, field.delimited) {
                    flow.push(bytes.slice_ref(value));
                }
            })?;
        }
        Ok(Self { message, bytes, flow })
    }

    /// Whether the signature is that of this key over what is signed of an envelope.
    ///
    /// The flow is part of it, in the bytes its sender's library writes. Those are the ones that came, unless something
    /// in between decoded and encoded it; so if they do not fit, those are tried that protobuf libraries write: known
    /// fields in the order of their numbers, then those that are not known here.
    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        let Ok(signature) = <&[u8; 64]>::try_from(&self.message.sig[..]) else {
            return false;
        };
        if let [] | [_] = &self.flow[..] {
            let signed = self.signed_bytes(self.flow.first().map(|flow| &flow[..]));
            if key.verify(&signed, signature) {
                return true;
            }
        }
        match self.rewritten_flow() {
            Some(flow) if self.flow.len() != 1 || flow != self.flow[0] => {
                key.verify(&self.signed_bytes(Some(&flow)), signature)
            }
            _ => false,
        }
    }

    /// Fields of the flow that are not known here, as they came.
    pub(crate) fn unknown_in_flow(&self) -> Vec<u8> {
        let mut unknown = Vec::new();
        for flow in &self.flow {
            collect_unknown(flow, &mut unknown);
        }
        unknown
    }

    /// The flow as protobuf libraries write it.
    fn rewritten_flow(&self) -> Option<Vec<u8>> {
        let mut bytes = self.message.flow.as_ref()?.encode_to_vec();
        bytes.extend(self.unknown_in_flow());
        Some(bytes)
    }

    fn signed_bytes(&self, flow: Option<&[u8]>) -> Vec<u8> {
        let message = &self.message;
        signed_bytes(&message.version, message.ts_ns, &message.idempotency_key, flow)
    }
}

/// The serialization of an envelope with these fields alone: in the order of their numbers, and without those that have
/// their default, but for a flow that is there.
pub(crate) fn signed_bytes(version: &str, ts_ns: u64, idempotency_key: &str, flow: Option<&[u8]>) -> Vec<u8> {
    let flow_len = flow.map_or(0, <[u8]>::len);
    let mut bytes = Vec::with_capacity(40 + version.len() + idempotency_key.len() + flow_len);
    let delimited = |bytes: &mut Vec<u8>, number: u8, value: &[u8]| {
        bytes.push(number << 3 | WireType::LengthDelimited as u8);
        encode_varint(value.len() as u64, bytes);
        bytes.extend_from_slice(value);
    };
    if !version.is_empty() {
        delimited(&mut bytes, 1, version.as_bytes());
    }
    if ts_ns != 0 {
        bytes.push(2 << 3 | WireType::Varint as u8);
        encode_varint(ts_ns, &mut bytes);
    }
    if !idempotency_key.is_empty() {
        delimited(&mut bytes, 3, idempotency_key.as_bytes());
    }
    if let Some(flow) = flow {
        delimited(&mut bytes, 4, flow);
    }
    bytes
}

/// Appends the fields of a flow that are not known here, as they came. The flow has been decoded before.
pub(crate) fn collect_unknown(flow: &[u8], unknown: &mut Vec<u8>) {
    let walked = walk(flow, |field| {
        if !FlowEvent::FIELDS.contains(&field.number) {
            unknown.extend_from_slice(field.bytes);
        }
    });
    debug_assert!(walked.is_ok(), "it was decoded before");
}

struct Field<'a> {
    number: u32,
    /// Key and value.
    bytes: &'a [u8],
    /// The value, if it is one with a length.
    delimited: Option<&'a [u8]>,
}

/// Shows the fields of a message one after the other.
fn walk<'a>(message: &'a [u8], mut show: impl FnMut(Field<'a>)) -> Result<(), prost::DecodeError> {
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let (number, wire) = decode_key(&mut rest)?;
        let at_value = rest;
        skip_field(wire, number, &mut rest, DecodeContext::default())?;
        let bytes = &start[..start.len() - rest.len()];
        let delimited = (wire == WireType::LengthDelimited).then(|| {
            let mut value = at_value;
            // It was passed over, so its length can be read.
            let _ = decode_varint(&mut value);
            &value[..value.len() - rest.len()]
        });
        show(Field {
            number,
            bytes,
            delimited,
        });
    }
    Ok(())
}

/// Decodes any bytes, and checks what must hold of what was decoded. Whether it was an envelope.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let Ok(received) = Received::decode(Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let (message, flow) = (&received.message, received.rewritten_flow());
    let signed = received.signed_bytes(flow.as_deref());
    // What is signed says the same as what came, and nothing else.
    let again = Received::decode(Bytes::from(signed.clone()));
    assert!(
        again.is_ok() || signed.len() > MAX_ENVELOPE,
        "what is signed is an envelope"
    );
    if let Ok(again) = again {
        assert_eq!(again.message.version, message.version);
        assert_eq!(again.message.ts_ns, message.ts_ns);
        assert_eq!(again.message.idempotency_key, message.idempotency_key);
        assert_eq!(again.message.flow, message.flow);
        assert_eq!(again.unknown_in_flow(), received.unknown_in_flow());
        let flow = again.rewritten_flow();
        assert_eq!(again.signed_bytes(flow.as_deref()), signed, "and in one way only");
    }
    received.is_signed_by(&PublicKey::from_bytes([9; 32]));
    let _ = super::convert::event(
        &"agent".into(),
        &received,
        amoskys_core::Timestamp::default(),
        false,
    );
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    fn key() -> (Ed25519KeyPair, PublicKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
        let public = PublicKey::from_bytes(pair.public_key().as_ref().try_into().unwrap());
        (pair, public)
    }

    fn field(number: u32, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_varint(u64::from(number << 3 | 2), &mut bytes);
        encode_varint(value.len() as u64, &mut bytes);
        bytes.extend_from_slice(value);
        bytes
    }

    fn number(number: u32, value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_varint(u64::from(number << 3), &mut bytes);
        encode_varint(value, &mut bytes);
        bytes
    }

    /// Fields of a flow in any order, some of them unknown, some more than once.
    fn flow_fields() -> impl Strategy<Value = Vec<u8>> {
        let text = (
            prop::sample::select(vec![1_u32, 2, 5, 13]),
            "[a-zA-Z0-9.:é]{0,12}",
        );
        let text = text.prop_map(|(at, text)| field(at, text.as_bytes()));
        let whole = (
            prop::sample::select(vec![3_u32, 4, 6, 7, 8, 9, 10, 11, 12, 14]),
            any::<u64>(),
        );
        let whole = whole.prop_map(|(at, value)| number(at, value));
        let unknown = (15_u32..5000, prop::collection::vec(any::<u8>(), 0..9));
        let unknown = unknown.prop_map(|(at, value)| field(at, &value));
        prop::collection::vec(prop_oneof![4 => text, 6 => whole, 1 => unknown], 0..12)
            .prop_map(|fields| fields.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            check(&bytes);
        }

        #[test]
        fn what_looks_like_an_envelope_does_none_either(
            fields in prop::collection::vec(flow_fields(), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = fields.iter().flat_map(|flow| field(4, flow)).collect::<Vec<_>>();
            bytes.extend(number(2, 77));
            prop_assert!(check(&bytes));
            bytes.truncate(cut.index(bytes.len() + 1));
            check(&bytes);
        }

        #[test]
        fn signed_as_it_came_or_as_libraries_write_it_but_not_otherwise(
            flow in flow_fields(),
            version in "[0-9.]{0,4}",
            key_text in "[a-z0-9-]{0,20}",
            time in any::<u64>(),
            other in any::<u64>(),
        ) {
            let (pair, public) = key();
            let parts = [field(1, version.as_bytes()), number(2, time), field(3, key_text.as_bytes()), field(4, &flow)];
            let unsigned = parts.concat();
            let received = Received::decode(Bytes::from(unsigned.clone())).unwrap();
            let rewritten = received.rewritten_flow().unwrap();
            for signed_flow in [&flow[..], &rewritten] {
                let signed = signed_bytes(&version, time, &key_text, Some(signed_flow));
                let signature = pair.sign(&signed);
                let envelope = [&unsigned[..], &field(5, signature.as_ref())].concat();
                prop_assert!(Received::decode(Bytes::from(envelope)).unwrap().is_signed_by(&public));
                // The same signature over another time, and over another flow.
                prop_assume!(other != time);
                for altered in [
                    [&unsigned[..], &number(2, other), &field(5, signature.as_ref())].concat(),
                    [&unsigned[..], &field(4, &field(1, b"elsewhere!!!!!")), &field(5, signature.as_ref())].concat(),
                ] {
                    prop_assert!(!Received::decode(Bytes::from(altered)).unwrap().is_signed_by(&public));
                }
            }
        }
    }

    #[test]
    fn defaults_are_not_written_and_a_flow_without_fields_is() {
        assert_eq!(signed_bytes("", 0, "", None), b"");
        assert_eq!(signed_bytes("", 0, "", Some(b"")), [0x22, 0]);
        assert_eq!(
            signed_bytes("1", 300, "k", None),
            [0x0a, 1, b'1', 0x10, 0xac, 0x02, 0x1a, 1, b'k']
        );
    }

    #[test]
    fn the_limit_is_that_of_the_predecessor() {
        let bytes = |len: usize| Bytes::from(field(7, &vec![0; len - 4]));
        assert_eq!(bytes(MAX_ENVELOPE).len(), MAX_ENVELOPE);
        assert!(Received::decode(bytes(MAX_ENVELOPE)).is_ok());
        let error = Received::decode(bytes(MAX_ENVELOPE + 1)).unwrap_err();
        assert!(matches!(error, EnvelopeError::TooLarge(131_073)), "{error}");
    }
}
