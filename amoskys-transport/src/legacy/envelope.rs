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
