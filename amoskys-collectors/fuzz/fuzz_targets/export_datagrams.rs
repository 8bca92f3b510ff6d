//! Export datagrams of a few exporters, one after another: two bytes of length, one of exporter, then the datagram.
#![no_main]

use std::collections::BTreeMap;

use amoskys_collectors::netflow::{ExportRecord, NetflowConfig, NetflowDecoder, NetflowHandler};
use amoskys_core::Timestamp;
use libfuzzer_sys::fuzz_target;

struct Read;

impl NetflowHandler for Read {
    fn flow(&mut self, record: &ExportRecord<'_>) {
        let flow = record.flow(Some(&mut BTreeMap::new()));
        assert!(flow.forward.lengths.min <= flow.forward.lengths.max);
    }

    fn options(&mut self, record: &ExportRecord<'_>) {
        record.fields().for_each(|field| drop((field.name(), field.value())));
    }
}

fuzz_target!(|input: &[u8]| {
    let config = NetflowConfig { max_domains: 4, max_templates: 8, max_waiting_bytes: 4096, ..NetflowConfig::default() };
    let Ok(mut decoder) = NetflowDecoder::new(config) else { return };
    let mut rest = input;
    let mut now = Timestamp::from_secs(1_700_000_000);
    while let Some(([high, low, exporter], tail)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (datagram, after) = tail.split_at(length);
        decoder.push([10, 0, 0, exporter % 8].into(), now, datagram, &mut Read);
        now = now.plus(std::time::Duration::from_secs(60));
        rest = after;
    }
    decoder.finish();
});
