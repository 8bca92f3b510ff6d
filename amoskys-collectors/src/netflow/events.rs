//! Events of what the decoder of NetFlow and IPFIX finds.

use std::collections::HashMap;
use std::net::IpAddr;

use amoskys_core::event::Payload;
use amoskys_core::{Name, Timestamp};

use super::record::ExportRecord;
use super::worker::{Batcher, Decode};
use super::{ExportLoss, NetflowConfig, NetflowConfigError, NetflowDecoder, NetflowHandler, NetflowStats};

/// The decoder, and what its events need.
#[derive(Debug)]
pub(crate) struct NetflowEvents {
    decoder: NetflowDecoder,
    names: Names,
    attributes: bool,
    ports: Vec<u16>,
    flows: u64,
}

impl NetflowEvents {
    pub(super) fn new(config: &NetflowConfig) -> Result<Self, NetflowConfigError> {
        Ok(Self {
            decoder: NetflowDecoder::new(config.clone())?,
            names: Names::new(config.names.clone()),
            attributes: config.attributes,
            ports: config.capture_ports.clone(),
            flows: 0,
        })
    }
}

impl Decode for NetflowEvents {
    type Stats = NetflowStats;

    fn push(
        &mut self,
        from: IpAddr,
        received: Timestamp,
        datagram: &[u8],
        batcher: &mut Batcher<NetflowStats>,
    ) {
        let mut add = Add {
            batcher,
            names: &mut self.names,
            attributes: self.attributes,
            flows: &mut self.flows,
        };
        self.decoder.push(from, received, datagram, &mut add);
    }

    fn finish(&mut self) {
        self.decoder.finish();
    }

    fn stats(&self) -> NetflowStats {
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
    batcher: &'a mut Batcher<NetflowStats>,
    names: &'a mut Names,
    attributes: bool,
    flows: &'a mut u64,
}

impl NetflowHandler for Add<'_> {
    fn flow(&mut self, record: &ExportRecord<'_>) {
        let export = record.export();
        let device = self.names.of(export.exporter);
        let number = *self.flows;
        *self.flows += 1;
        let wanted = self.attributes;
        self.batcher
            .add_with(export.received, Some(&device), |attributes| {
                let mut flow = record.flow(wanted.then_some(attributes));
                flow.flow = number;
                Payload::Flow(Box::new(flow))
            });
    }

    fn loss(&mut self, loss: &ExportLoss) {
        let device = self.names.of(loss.export.exporter);
        tracing::debug!(exporter = %loss.export.exporter, count = loss.count, unit = loss.unit, "exports are missing");
        self.batcher.report(
            loss.export.received,
            Some(&device),
            "missing",
            loss.count.into(),
            loss.unit,
        );
    }
}

/// Names of exporters kept at hand. They can be made again at any time.
const MAX_NAMES: usize = 4096;

/// What events call exporters: by the inventory, else by their addresses.
#[derive(Debug)]
pub(crate) struct Names {
    inventory: HashMap<IpAddr, Name>,
    known: HashMap<IpAddr, Name>,
}

impl Names {
    pub(crate) fn new(inventory: HashMap<IpAddr, Name>) -> Self {
        Self {
            inventory,
            known: HashMap::new(),
        }
    }

    pub(crate) fn of(&mut self, exporter: IpAddr) -> Name {
        if let Some(name) = self.known.get(&exporter) {
            return name.clone();
        }
        if self.known.len() >= MAX_NAMES {
            self.known.clear();
        }
        let named = self.inventory.get(&exporter).cloned();
        let name = named.unwrap_or_else(|| Name::from(exporter.to_string()));
        self.known.insert(exporter, name.clone());
        name
    }
}
