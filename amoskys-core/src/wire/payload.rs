//! The messages of the `.proto` and the Rust types they stand for. This table and the `.proto` say the same.

use super::message::{enumeration, message};
use super::scalar::Element;
use crate::event::{
    Alarm, AlarmState, AuditEntry, AuditOutcome, Class, DeviceState, DeviceStatus, EventRange, Evidence,
    Finding, Gap, GapReason, Layer, LogLevel, LogRecord, LossReport, Metric, MetricKind, ModelRef,
    ProcessAction, ProcessEvent, Protected, ProtectionScheme, Punctuation, ScoreInterval, Severity,
    SyscallEvent, Verdict, VerdictId,
};
use crate::event::{ArpRecord, Entity};
use crate::id::{Digest, Epoch, Name, Seq, StreamId};
use crate::time::Timestamp;

enumeration! {
    Class { Telemetry = 0, Bulk = 1, Alert = 2, Audit = 3 }
    ProcessAction { Seen = 0, Fork = 1, Exec = 2, Exit = 3, Credentials = 4 }
    MetricKind { Gauge = 0, Counter = 1 }
    // The numbers of RFC 5424 plus one, but the default is 0.
    LogLevel { Info = 0, Emergency = 1, Alert = 2, Critical = 3, Error = 4, Warning = 5, Notice = 6, Debug = 8 }
    AlarmState { Raised = 0, Cleared = 1 }
    Severity { Low = 0, Medium = 1, High = 2, Critical = 3 }
    DeviceState { Unknown = 0, Up = 1, Degraded = 2, Down = 3 }
    AuditOutcome { Success = 0, Denied = 1, Failure = 2 }
    GapReason { Shed = 0, Quarantined = 1, Expired = 2, Erased = 3, LogLost = 4 }
    ProtectionScheme { Unknown = 0, HmacSha256Aes256Gcm = 1 }
    Layer { Fused = 0, Geometric = 1, Temporal = 2, Behavioral = 3, Rule = 4 }
}

message! {
    ProcessEvent = Self::default(), "ProcessEvent";
    1 action;
    2 pid;
    3 start_ns => start;
    4 parent_pid;
    5 parent_start_ns => parent_start;
    6 uid;
    7 gid;
    8 executable;
    9 arguments, repeated;
    10 working_directory;
    11 container;
    12 exit_code;
    13 exit_signal;
    14 command;
    15 interpreter;
    16 called_as;
    17 from_memory;
    18 credentials;
    19 previous;
    20 namespaces;
    21 inner_pid;
    22 cgroup;
    23 ancestors, repeated;
    24 usage;
    25 result;
}

message! {
    SyscallEvent = Self::default(), "SyscallEvent";
    1 pid;
    2 start_ns => start;
    3 tid;
    4 command;
    5 architecture;
    6 numbers, repeated;
    7 return_value;
    8 first;
    9 first_time_ns => first_time;
}

message! {
    Metric = Self::default(), "Metric";
    1 name;
    2 kind;
    3 value;
    4 unit;
    5 labels, repeated;
}

message! {
    (String, String) = Self::default(), "Label";
    1 name => 0;
    2 value => 1;
}

impl Element for (String, String) {}

message! {
    LogRecord = Self::default(), "LogRecord";
    1 level;
    2 facility;
    3 program;
    4 pid;
    5 message;
}

message! {
    Alarm = Self::default(), "Alarm";
    1 code;
    2 state;
    3 severity;
    4 message;
}

message! {
    DeviceStatus = Self::default(), "DeviceStatus";
    1 state;
    2 address;
    3 model;
    4 firmware;
    5 uptime_seconds;
    6 detail;
}

message! {
    Finding = Self::default(), "Finding";
    1 tool;
    2 rule;
    3 title;
    4 severity;
    5 technique;
    6 subject;
    7 detail;
}

message! {
    AuditEntry = Self::default(), "AuditEntry";
    1 actor;
    2 action;
    3 object;
    4 outcome;
    5 reason;
}

message! {
    LossReport = Self::default(), "LossReport";
    1 count;
    2 unit;
    3 reason;
    4 stage;
}

message! {
    Gap = empty_gap(), "Gap";
    1 stream, required;
    2 first;
    3 last;
    4 before;
    5 end;
    6 reason;
}

fn empty_gap() -> Gap {
    Gap {
        stream: empty_stream(),
        first: Seq(0),
        last: Seq(0),
        before: Digest::default(),
        end: Digest::default(),
        reason: GapReason::default(),
    }
}

message! {
    StreamId = empty_stream(), "StreamId";
    1 agent, required;
    2 epoch_counter => epoch.counter;
    3 epoch_random => epoch.random, required;
    4 class, strict;
}

fn empty_stream() -> StreamId {
    StreamId {
        agent: Name::default(),
        epoch: Epoch::default(),
        class: Class::default(),
    }
}

message! {
    Punctuation = Self::default(), "Punctuation";
    1 lateness_ns;
    2 end;
}

message! {
    Verdict = empty_verdict(), "Verdict";
    1 id, required;
    2 revision;
    3 time_ns => time;
    4 updated_ns => updated;
    5 layer;
    6 entity, required;
    7 peers, repeated;
    8 technique;
    9 title;
    10 score;
    11 evidence, repeated;
    12 model;
    13 schema;
    14 events, required;
    15 interval;
}

message! {
    ScoreInterval = Self::default(), "ScoreInterval";
    1 low;
    2 high;
}

fn empty_verdict() -> Verdict {
    Verdict {
        id: VerdictId::default(),
        revision: 0,
        time: Timestamp::default(),
        updated: Timestamp::default(),
        layer: Layer::default(),
        entity: Entity::Named(Name::default()),
        peers: Vec::new(),
        technique: None,
        title: String::new(),
        score: 0.0,
        interval: None,
        evidence: Vec::new(),
        model: ModelRef::default(),
        schema: Digest::default(),
        events: empty_range(),
    }
}

message! {
    Evidence = Self { feature: Name::default(), value: 0.0, contribution: 0.0 }, "Evidence";
    1 feature, required;
    2 value;
    3 contribution;
}

impl Element for Evidence {}

message! {
    ModelRef = Self::default(), "ModelRef";
    1 name;
    2 version;
    3 digest;
}

message! {
    EventRange = empty_range(), "EventRange";
    1 stream, required;
    2 first;
    3 last;
}

fn empty_range() -> EventRange {
    EventRange {
        stream: empty_stream(),
        first: Seq(0),
        last: Seq(0),
    }
}

message! {
    Protected = Self::default(), "Protected";
    1 key, required;
    2 scheme, strict;
    3 sealed;
}

message! {
    ArpRecord = Self::default(), "ArpRecord";
    1 operation, required;
    2 sender_mac;
    3 sender_ip;
    4 target_mac;
    5 target_ip;
    6 frame_source;
    7 frame_destination;
    8 vlan;
}
