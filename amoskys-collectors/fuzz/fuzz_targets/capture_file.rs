//! A whole capture file, read and metered.
#![no_main]

use amoskys_collectors::capture::CaptureReader;
use amoskys_collectors::flow::{FlowConfig, FlowHandler, FlowMeter};
use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use libfuzzer_sys::fuzz_target;

struct Check;

impl FlowHandler for Check {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        assert!(record.packets() > 0 && record.first <= record.last);
        assert!(record.forward.lengths.std_dev.is_finite() && record.gaps.std_dev.is_finite());
    }
}

fuzz_target!(|file: &[u8]| {
    let Ok(mut capture) = CaptureReader::new(file) else { return };
    let config = FlowConfig { max_flows: 16, follow_fragments: true, ..FlowConfig::default() };
    let Ok(mut meter) = FlowMeter::new(config) else { return };
    while let Ok(Some(packet)) = capture.next_packet() {
        meter.push(&packet, &mut Check);
    }
    meter.finish(&mut Check);
    let stats = meter.stats();
    assert_eq!(stats.packets, stats.metered + stats.arp + stats.skipped_total());
    assert_eq!(meter.open_flows(), 0);
});
