//! Events of what the decoder finds.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::{ArpRecord, Metric, Payload};

use super::{
    SampledFlow, SflowConfig, SflowConfigError, SflowDecoder, SflowExport, SflowHandler, SflowStats,
};
use crate::netflow::events::Names;
use crate::netflow::worker::{Batcher, Decode};

/// The decoder, and what its events need.
#[derive(Debug)]
pub(crate) struct SflowEvents {
    decoder: SflowDecoder,
    names: Names,
    ports: Vec<u16>,
}

impl SflowEvents {
    pub(super) fn new(config: &SflowConfig) -> Result<Self, SflowConfigError> {
        Ok(Self {
            decoder: SflowDecoder::new(config.clone())?,
            names: Names::new(config.names.clone()),
            ports: config.capture_ports.clone(),
        })
    }
}

impl Decode for SflowEvents {
    type Stats = SflowStats;

    fn push(
        &mut self,
        from: IpAddr,
        received: Timestamp,
        datagram: &[u8],
        batcher: &mut Batcher<SflowStats>,
    ) {
        let names = &mut self.names;
        self.decoder
            .push(from, received, datagram, &mut Add { batcher, names });
    }

    fn finish(&mut self) {}

    fn stats(&self) -> SflowStats {
        self.decoder.stats()
    }

    fn datagrams(&self) -> u64 {
        self.decoder.stats().datagrams
    }

    fn is_for(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }
}

/// Adds to a batch.
struct Add<'a> {
    batcher: &'a mut Batcher<SflowStats>,
    names: &'a mut Names,
}

impl Add<'_> {
    fn add(&mut self, export: &SflowExport, payload: Payload) {
        let device = self.names.of(export.agent);
        self.batcher.add_with(export.received, Some(&device), |_| payload);
    }
}

impl SflowHandler for Add<'_> {
    fn flow(&mut self, export: &SflowExport, flow: SampledFlow) {
        let device = self.names.of(export.agent);
        self.batcher
            .add_with(export.received, Some(&device), |attributes| {
                *attributes = flow.attributes;
                Payload::Flow(Box::new(flow.record))
            });
    }

    fn arp(&mut self, export: &SflowExport, message: ArpRecord) {
        self.add(export, Payload::Arp(Box::new(message)));
    }

    fn metric(&mut self, export: &SflowExport, metric: Metric) {
        self.add(export, Payload::Metric(Box::new(metric)));
    }

    fn loss(&mut self, export: &SflowExport, datagrams: u32) {
        let device = self.names.of(export.agent);
        tracing::debug!(agent = %export.agent, count = datagrams, "sFlow datagrams are missing");
        self.batcher.report(
            export.received,
            Some(&device),
            "missing",
            datagrams.into(),
            "datagrams",
        );
    }
}
