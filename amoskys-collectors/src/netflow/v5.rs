//! NetFlow v5: a fixed header and fixed records, read as if there were a template for them.

use std::net::IpAddr;

use amoskys_core::Timestamp;

use super::record::Export;
use super::template::{FieldSpec, Template};

pub(super) const HEADER_BYTES: usize = 24;
pub(super) const RECORD_BYTES: usize = 48;

/// Elements and lengths of a record's fields.
const FIELDS: [(u16, u16); 20] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 2),
    (14, 2),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (210, 1),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 2),
    (17, 2),
    (9, 1),
    (13, 1),
    (210, 2),
];

/// What stands before the records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) count: u16,
    pub(super) uptime_ms: u32,
    pub(super) secs: u32,
    nanos: u32,
    pub(super) sequence: u32,
    engine: u16,
    /// 0 and 1: every packet was looked at.
    pub(super) sampling_interval: u16,
}

impl Header {
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let header = datagram.first_chunk::<HEADER_BYTES>()?;
        let short = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let long = |at: usize| u32::from(short(at)) << 16 | u32::from(short(at + 2));
        Some(Self {
            count: short(2),
            uptime_ms: long(4),
            secs: long(8),
            nanos: long(12),
            sequence: long(16),
            engine: short(20),
            // The two highest bits say how the sampled packets are chosen.
            sampling_interval: short(22) & 0x3fff,
        })
    }

    pub(super) fn export(&self, exporter: IpAddr, received: Timestamp) -> Export {
        let nanos = i64::from(self.secs) * 1_000_000_000 + i64::from(self.nanos.min(999_999_999));
        Export {
            exporter,
            version: 5,
            domain: self.engine.into(),
            received,
            exported: Timestamp::from_nanos(nanos),
            uptime_ms: Some(self.uptime_ms),
            booted: None,
        }
    }
}

pub(super) fn template() -> Template {
    let fields = FIELDS.map(|(id, length)| FieldSpec {
        id,
        enterprise: 0,
        length,
    });
    Template::new(fields, false).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_fill_a_record() {
        let length: u16 = FIELDS.iter().map(|(_, length)| length).sum();
        assert_eq!(usize::from(length), RECORD_BYTES);
        assert_eq!(template().fields.len(), FIELDS.len());
    }
}
