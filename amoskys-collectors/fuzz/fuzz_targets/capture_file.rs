//! A whole capture file, read and metered: by the packet, by the block, and by two threads.
#![no_main]

use amoskys_collectors::capture::{CaptureReader, PacketBlock};
use amoskys_collectors::flow::{FlowConfig, FlowHandler, FlowMeter, meter_in_parallel};
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
    let Ok(mut meter) = FlowMeter::new(config.clone()) else { return };
    while let Ok(Some(packet)) = capture.next_packet() {
        meter.push(&packet, &mut Check);
    }
    meter.finish(&mut Check);
    let stats = meter.stats();
    assert_eq!(stats.packets, stats.metered + stats.arp + stats.skipped_total());
    assert_eq!(meter.open_flows(), 0);

    let (Ok(mut blocks), Ok(mut by_block)) = (CaptureReader::new(file), FlowMeter::new(config.clone())) else { return };
    let mut block = PacketBlock::default();
    while let Ok(true) = blocks.next_block(&mut block) {
        by_block.push_block(&block, &mut Check);
    }
    by_block.finish(&mut Check);
    assert_eq!(by_block.stats(), stats);
    assert_eq!(blocks.damage(), capture.damage());
    assert_eq!(blocks.offset(), capture.offset());

    let Ok(mut shared) = CaptureReader::new(file) else { return };
    let Ok((_, both)) = meter_in_parallel(&mut shared, &config, vec![Check, Check]) else { return };
    assert_eq!(
        (both.packets, both.metered, both.arp, both.skipped_total()),
        (stats.packets, stats.metered, stats.arp, stats.skipped_total())
    );
});
