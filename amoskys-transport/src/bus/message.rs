//! The messages in control frames, as `proto/amoskys/v1/bus.proto` describes them. Written by hand, so that nobody
//! needs a compiler for it.

use amoskys_core::{Class, Digest, Epoch, Name, Seq, StreamId};

use crate::seal::Head;
use crate::seal::header::class_code;

/// Version of the protocol, in `Hello` and `Welcome`. It changes when an older side could not go along.
pub(crate) const PROTOCOL: u32 = 1;

/// What a client wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Part {
    Unspecified = 0,
    Publisher = 1,
    Subscriber = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Stream {
    #[prost(uint32, tag = "1")]
    pub(crate) class: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) epoch_counter: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) epoch_random: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(enumeration = "Part", tag = "2")]
    pub(crate) part: i32,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, tag = "4")]
    pub(crate) software: String,
    #[prost(bool, tag = "5")]
    pub(crate) takes_retry: bool,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(crate) hand_overs: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Point {
    #[prost(uint64, tag = "1")]
    pub(crate) next: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) digest: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Mark {
    #[prost(message, optional, tag = "1")]
    pub(crate) stream: Option<Stream>,
    #[prost(message, optional, tag = "2")]
    pub(crate) head: Option<Point>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) recent: Vec<Point>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Welcome {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(string, tag = "2")]
    pub(crate) bus: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) marks: Vec<Mark>,
    #[prost(uint64, tag = "4")]
    pub(crate) credit_bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Refuse {
    #[prost(int32, tag = "1")]
    pub(crate) reason: i32,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) stream: Option<Stream>,
    #[prost(message, optional, tag = "4")]
    pub(crate) head: Option<Point>,
    #[prost(uint32, tag = "5")]
    pub(crate) retry_after_ms: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Acked {
    #[prost(message, optional, tag = "1")]
    pub(crate) stream: Option<Stream>,
    #[prost(uint64, tag = "2")]
    pub(crate) next: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ack {
    #[prost(message, repeated, tag = "1")]
    pub(crate) streams: Vec<Acked>,
    #[prost(uint64, tag = "2")]
    pub(crate) credit_bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Retry {
    #[prost(uint32, tag = "1")]
    pub(crate) after_ms: u32,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Credit {
    #[prost(uint64, tag = "1")]
    pub(crate) credit_bytes: u64,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum StartAt {
    Earliest = 0,
    Latest = 1,
    Offset = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Subscribe {
    #[prost(enumeration = "StartAt", tag = "1")]
    pub(crate) start: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(uint32, repeated, tag = "4")]
    pub(crate) classes: Vec<u32>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) agents: Vec<String>,
    #[prost(uint64, tag = "6")]
    pub(crate) credit_bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct At {
    #[prost(uint64, tag = "1")]
    pub(crate) offset: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Lost {
    #[prost(uint64, tag = "1")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) to: u64,
    #[prost(string, tag = "3")]
    pub(crate) text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Nothing {}

/// A class by its code.
pub(crate) fn class_of(code: u32) -> Option<Class> {
    Class::ALL
        .into_iter()
        .find(|class| u32::from(class_code(*class)) == code)
}

impl From<&StreamId> for Stream {
    fn from(id: &StreamId) -> Self {
        Self {
            class: class_code(id.class).into(),
            epoch_counter: id.epoch.counter,
            epoch_random: id.epoch.random.to_le_bytes().to_vec(),
        }
    }
}

impl Stream {
    /// The stream of an agent; `None` if it is none, or of a class that is not known here.
    pub(crate) fn id(&self, agent: &Name) -> Option<StreamId> {
        let random = <[u8; 16]>::try_from(&self.epoch_random[..]).ok()?;
        Some(StreamId {
            agent: agent.clone(),
            epoch: Epoch {
                counter: self.epoch_counter,
                random: u128::from_le_bytes(random),
            },
            class: class_of(self.class)?,
        })
    }
}

impl From<Head> for Point {
    fn from(head: Head) -> Self {
        Self {
            next: head.next.0,
            digest: head.digest.0.to_vec(),
        }
    }
}

impl Point {
    pub(crate) fn head(&self) -> Option<Head> {
        Some(Head {
            next: Seq(self.next),
            digest: Digest(<[u8; 32]>::try_from(&self.digest[..]).ok()?),
        })
    }
}
