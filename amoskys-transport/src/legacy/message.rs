//! The messages of `proto/messaging.proto`. Written by hand, so that nobody needs a compiler for it.

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FlowEvent {
    #[prost(string, tag = "1")]
    pub(crate) src_ip: String,
    #[prost(string, tag = "2")]
    pub(crate) dst_ip: String,
    #[prost(uint32, tag = "3")]
    pub(crate) src_port: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) dst_port: u32,
    #[prost(string, tag = "5")]
    pub(crate) protocol: String,
    #[prost(uint64, tag = "6")]
    pub(crate) bytes_sent: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) bytes_recv: u64,
    #[prost(uint32, tag = "8")]
    pub(crate) flags: u32,
    #[prost(uint64, tag = "9")]
    pub(crate) start_time: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) end_time: u64,
    #[prost(uint64, tag = "11")]
    pub(crate) bytes_tx: u64,
    #[prost(uint64, tag = "12")]
    pub(crate) bytes_rx: u64,
    #[prost(string, tag = "13")]
    pub(crate) proto: String,
    #[prost(uint32, tag = "14")]
    pub(crate) duration_ms: u32,
}

impl FlowEvent {
    /// Numbers of its fields.
    pub(crate) const FIELDS: std::ops::RangeInclusive<u32> = 1..=14;
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Envelope {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
    #[prost(uint64, tag = "2")]
    pub(crate) ts_ns: u64,
    #[prost(string, tag = "3")]
    pub(crate) idempotency_key: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) flow: Option<FlowEvent>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) sig: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) prev_sig: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) payload: Vec<u8>,
    #[prost(uint32, tag = "8")]
    pub(crate) schema_version: u32,
}

impl Envelope {
    /// Number of the field with the flow.
    pub(crate) const FLOW: u32 = 4;
}

/// What becomes of an envelope, as the sender hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Status {
    Ok = 0,
    Retry = 1,
    Invalid = 2,
    Unauthorized = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PublishAck {
    #[prost(enumeration = "Status", tag = "1")]
    pub(crate) status: i32,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
    #[prost(int32, tag = "3")]
    pub(crate) backoff_hint_ms: i32,
}
