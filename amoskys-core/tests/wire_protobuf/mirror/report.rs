//! What the messages of devices, tools and the pipeline itself should say.

use amoskys_core::event::*;

use super::{Says, stream_id};
use crate::peer::{Fields, Node};

pub(super) fn measured(metric: &Metric) -> Fields {
    let kind = match metric.kind {
        MetricKind::Gauge => 0,
        MetricKind::Counter => 1,
        _ => unreachable!(),
    };
    let labels = metric.labels.iter();
    let labels =
        labels.map(|(name, value)| Node::Message(Says::default().text("name", name).text("value", value).0));
    Says::default()
        .text("name", &metric.name)
        .number("kind", kind)
        .double("value", metric.value)
        .text("unit", &metric.unit)
        .list("labels", labels)
        .0
}

pub(super) fn log_record(log: &LogRecord) -> Fields {
    let level = match log.level {
        LogLevel::Emergency => 1,
        LogLevel::Alert => 2,
        LogLevel::Critical => 3,
        LogLevel::Error => 4,
        LogLevel::Warning => 5,
        LogLevel::Notice => 6,
        LogLevel::Info => 0,
        LogLevel::Debug => 8,
        _ => unreachable!(),
    };
    Says::default()
        .number("level", level)
        .text("facility", &log.facility)
        .text("program", &log.program)
        .uint("pid", log.pid)
        .text("message", &log.message)
        .0
}

fn severity(severity: Severity) -> i32 {
    match severity {
        Severity::Low => 0,
        Severity::Medium => 1,
        Severity::High => 2,
        Severity::Critical => 3,
        _ => unreachable!(),
    }
}

pub(super) fn device_alarm(alarm: &Alarm) -> Fields {
    Says::default()
        .text("code", &alarm.code)
        .number("state", i32::from(alarm.state == AlarmState::Cleared))
        .number("severity", severity(alarm.severity))
        .text("message", &alarm.message)
        .0
}

pub(super) fn device_status(status: &DeviceStatus) -> Fields {
    let state = match status.state {
        DeviceState::Unknown => 0,
        DeviceState::Up => 1,
        DeviceState::Degraded => 2,
        DeviceState::Down => 3,
        _ => unreachable!(),
    };
    Says::default()
        .number("state", state)
        .text("address", &status.address)
        .text("model", &status.model)
        .text("firmware", &status.firmware)
        .uint_if("uptime_seconds", status.uptime_seconds)
        .text("detail", &status.detail)
        .0
}

pub(super) fn tool_finding(finding: &Finding) -> Fields {
    let mut says = Says::default()
        .text("tool", &finding.tool)
        .text("rule", &finding.rule)
        .text("title", &finding.title)
        .number("severity", severity(finding.severity))
        .text("subject", &finding.subject)
        .text("detail", &finding.detail);
    if let Some(technique) = &finding.technique {
        says = says.put("technique", Node::Text(technique.to_string()));
    }
    says.0
}

pub(super) fn protected_event(protected: &Protected) -> Fields {
    let scheme = match protected.scheme {
        ProtectionScheme::Unknown => 0,
        ProtectionScheme::HmacSha256Aes256Gcm => 1,
        _ => unreachable!(),
    };
    Says::default()
        .put("key", Node::Bytes(protected.key.to_be_bytes().to_vec()))
        .number("scheme", scheme)
        .put_if(
            !protected.sealed.is_empty(),
            "sealed",
            Node::Bytes(protected.sealed.clone()),
        )
        .0
}

pub(super) fn audit_entry(entry: &AuditEntry) -> Fields {
    let outcome = match entry.outcome {
        AuditOutcome::Success => 0,
        AuditOutcome::Denied => 1,
        AuditOutcome::Failure => 2,
        _ => unreachable!(),
    };
    Says::default()
        .text("actor", &entry.actor)
        .text("action", &entry.action)
        .text("object", &entry.object)
        .number("outcome", outcome)
        .text("reason", &entry.reason)
        .0
}

pub(super) fn loss_report(loss: &LossReport) -> Fields {
    Says::default()
        .uint("count", loss.count)
        .text("unit", &loss.unit)
        .text("reason", &loss.reason)
        .text("stage", &loss.stage)
        .0
}

pub(super) fn stream_gap(gap: &Gap) -> Fields {
    let reason = match gap.reason {
        GapReason::Shed => 0,
        GapReason::Quarantined => 1,
        GapReason::Expired => 2,
        GapReason::Erased => 3,
        GapReason::LogLost => 4,
        _ => unreachable!(),
    };
    Says::default()
        .put("stream", Node::Message(stream_id(&gap.stream)))
        .uint("first", gap.first.0)
        .uint("last", gap.last.0)
        .bytes("before", &gap.before.0)
        .bytes("end", &gap.end.0)
        .number("reason", reason)
        .0
}
