//! A row of Ethernet frames, each after a byte of length and one of time, metered with all there is to read: tunnels,
//! payloads, entropy. Rows are written, so that every record is worked out.
#![no_main]

use amoskys_collectors::capture::{LinkType, Packet};
use amoskys_collectors::flow::{
    Columns, FlowConfig, FlowHandler, FlowMeter, RowFormat, RowWriter, TunnelMode,
};
use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use libfuzzer_sys::fuzz_target;

struct Rows(RowWriter<std::io::Sink>);

impl FlowHandler for Rows {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        assert!(record.packets() > 0);
        self.0.write(record).expect("a sink");
    }
}

fuzz_target!(|input: &[u8]| {
    let config = FlowConfig {
        max_flows: 16,
        follow_fragments: true,
        tunnels: TunnelMode::Both,
        entropy_bytes: 64,
        ..FlowConfig::default()
    };
    let mut meter = FlowMeter::new(config).expect("valid settings");
    let mut rows =
        Rows(RowWriter::with_columns(std::io::sink(), RowFormat::Json, Columns::All).expect("a sink"));
    let (mut rest, mut nanos) = (input, 0);
    while let [length, gap, after @ ..] = rest {
        let (data, after) = after.split_at(after.len().min(usize::from(*length) * 4));
        nanos += i64::from(*gap) << 24;
        meter.push(
            &Packet {
                time: Timestamp::from_nanos(nanos),
                link: LinkType::ETHERNET,
                wire_len: data.len() as u32,
                data,
                ..Packet::default()
            },
            &mut rows,
        );
        rest = after;
    }
    meter.finish(&mut rows);
    let stats = meter.stats();
    assert_eq!(stats.packets, stats.metered + stats.arp + stats.skipped_total());
});
