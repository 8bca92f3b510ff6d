//! The event model: what a sensor saw, in plain Rust types.
//!
//! [`wire`](crate::wire) maps these types to protobuf and validates what comes back.

mod activity;
mod alarm;
mod arp;
mod audit;
mod device;
mod dns;
mod finding;
mod flow;
mod log;
mod loss;
mod metric;
mod process;
mod protected;
mod punctuation;
mod syscall;
mod verdict;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::activity::{ActivityAction, ActivityEvent, ActivityVia};
pub use self::alarm::{Alarm, AlarmState};
pub use self::arp::*;
pub use self::audit::{AuditEntry, AuditOutcome};
pub use self::device::{DeviceState, DeviceStatus};
pub use self::dns::*;
pub use self::finding::Finding;
pub use self::flow::*;
pub use self::log::{LogLevel, LogRecord};
pub use self::loss::{Gap, GapReason, LossReport};
pub use self::metric::{Metric, MetricKind};
pub use self::process::{Ancestor, Credentials, Namespaces, ProcessAction, ProcessEvent, ResourceUsage};
pub use self::protected::{Protected, ProtectionScheme};
pub use self::punctuation::Punctuation;
pub use self::syscall::{CallCount, SyscallEvent, SyscallHistogram};
pub use self::verdict::{
    Entity, EventRange, Evidence, Layer, ModelRef, ScoreInterval, Severity, Technique, Verdict, VerdictId,
};

use crate::id::{EventId, Name};
use crate::time::Timestamp;

/// One thing that happened, as one sensor saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Names this event for all time.
    pub id: EventId,
    /// When it happened, by the sensor's clock.
    pub time: Timestamp,
    /// The machine or appliance it is about, by its inventory name.
    pub device: Name,
    /// Which source reported it, for example `flow`, `syslog` or `snmp`.
    pub source: Name,
    /// How it is to be carried: its own stream, and what may be shed first.
    pub class: Class,
    /// What happened.
    pub payload: Payload,
    /// Further facts that have no field of their own, by name. Empty for most events.
    pub attributes: BTreeMap<String, Value>,
    /// Fields a newer version of the format put there. They are written back unchanged.
    pub unknown: UnknownFields,
}

/// How an event is carried. Each class of an agent is a stream of its own.
///
/// The order is the order of shedding: when a log is full and policy allows, `Bulk` goes first, then
/// `Telemetry`. `Alert` and `Audit` are never shed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Class {
    /// High volume, individually worthless: sequences of system calls, packet samples.
    Bulk,
    /// What sensors see: flows, processes, metrics, logs. The default.
    #[default]
    Telemetry,
    /// Verdicts, alarms and findings. Never shed.
    Alert,
    /// Decisions of operators and of the security machinery. Never shed.
    Audit,
}

impl Class {
    /// All classes, in order of shedding.
    pub const ALL: [Self; 4] = [Self::Bulk, Self::Telemetry, Self::Alert, Self::Audit];

    /// The name used in configuration, metrics and file formats.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Telemetry => "telemetry",
            Self::Alert => "alert",
            Self::Audit => "audit",
        }
    }

    /// Whether an overfull log may shed events of this class, leaving a [`Gap`].
    #[must_use]
    pub const fn may_be_shed(self) -> bool {
        matches!(self, Self::Bulk | Self::Telemetry)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened. Large payloads are boxed, so that an [`Event`] stays small in queues.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Payload {
    /// A conversation between two endpoints, at its start, while it lasts, or at its end.
    Flow(Box<FlowRecord>),
    /// One DNS message.
    Dns(Box<DnsRecord>),
    /// One ARP message.
    Arp(Box<ArpRecord>),
    /// A process started, ended or changed.
    Process(Box<ProcessEvent>),
    /// One or several system calls of one process.
    Syscall(Box<SyscallEvent>),
    /// A measured number.
    Metric(Box<Metric>),
    /// A line of a log.
    Log(Box<LogRecord>),
    /// A condition raised or cleared by a device.
    Alarm(Box<Alarm>),
    /// Whether a device is reachable and healthy.
    DeviceStatus(Box<DeviceStatus>),
    /// Something another security tool found.
    Finding(Box<Finding>),
    /// A decision that must be accountable.
    Audit(Box<AuditEntry>),
    /// Events known to be lost before they could be carried.
    Loss(Box<LossReport>),
    /// A range of a stream that is missing for a stated reason.
    Gap(Box<Gap>),
    /// The sensor's clock: nothing earlier than this will follow in its stream, up to its lateness.
    Punctuation(Punctuation),
    /// What an analyzer concluded.
    Verdict(Box<Verdict>),
    /// An event of any of these kinds that only those can read who have its key.
    Protected(Box<Protected>),
    /// Something a process did that matters to security.
    Activity(Box<ActivityEvent>),
    /// How often a process made which system calls in a period.
    SyscallHistogram(Box<SyscallHistogram>),
    /// A payload of a newer version: kept as it came, so that it survives a hop.
    Unknown {
        /// The protobuf field number of the payload.
        tag: u32,
        /// Its encoded message.
        bytes: Bytes,
    },
}

impl Default for Payload {
    fn default() -> Self {
        Self::Punctuation(Punctuation::default())
    }
}

impl Payload {
    /// The kind of payload, for metrics and messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Flow(_) => "flow",
            Self::Dns(_) => "dns",
            Self::Arp(_) => "arp",
            Self::Process(_) => "process",
            Self::Syscall(_) => "syscall",
            Self::Metric(_) => "metric",
            Self::Log(_) => "log",
            Self::Alarm(_) => "alarm",
            Self::DeviceStatus(_) => "device_status",
            Self::Finding(_) => "finding",
            Self::Audit(_) => "audit",
            Self::Loss(_) => "loss",
            Self::Gap(_) => "gap",
            Self::Punctuation(_) => "punctuation",
            Self::Verdict(_) => "verdict",
            Self::Protected(_) => "protected",
            Self::Activity(_) => "activity",
            Self::SyscallHistogram(_) => "syscall_histogram",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes that are not text.
    Bytes(Vec<u8>),
}

/// Encoded protobuf fields this version does not know, of the event and of its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownFields {
    /// Unknown fields of the event message itself.
    pub event: Bytes,
    /// Unknown fields of the payload message.
    pub payload: Bytes,
}

impl UnknownFields {
    /// Whether there are none, as is usual.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.event.is_empty() && self.payload.is_empty()
    }
}
