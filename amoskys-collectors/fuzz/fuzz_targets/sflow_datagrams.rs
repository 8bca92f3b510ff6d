//! sFlow datagrams of a few agents, one after another: two bytes of length, one of sender, then the datagram.
#![no_main]

use amoskys_collectors::sflow::{SampledFlow, SflowConfig, SflowDecoder, SflowExport, SflowHandler};
use amoskys_core::Timestamp;
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Read {
    packets: u64,
}

impl SflowHandler for Read {
    fn flow(&mut self, _: &SflowExport, flow: SampledFlow) {
        let lengths = flow.record.forward.lengths;
        assert!(lengths.min <= lengths.max);
        self.packets += flow.record.packets();
    }
}

fuzz_target!(|input: &[u8]| {
    let config = SflowConfig { max_agents: 4, ..SflowConfig::default() };
    let Ok(mut decoder) = SflowDecoder::new(config) else { return };
    let mut read = Read::default();
    let mut rest = input;
    let mut now = Timestamp::from_secs(1_700_000_000);
    while let Some(([high, low, sender], tail)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (datagram, after) = tail.split_at(length);
        decoder.push([10, 0, 0, sender % 8].into(), now, datagram, &mut read);
        now = now.plus(std::time::Duration::from_secs(60));
        rest = after;
    }
    assert_eq!(decoder.stats().packets, read.packets);
});
