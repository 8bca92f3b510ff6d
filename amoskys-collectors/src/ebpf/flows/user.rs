//! What user space does for the meter in the kernel: it meters the packets that are handed over, and reads the payloads
//! of those that are shown.

use amoskys_core::Timestamp;
use amoskys_core::event::{ArpRecord, DnsRecord, FlowPhase, FlowRecord, Payload};

use super::packet::{HandedPacket, Purpose};
use super::worker::Batcher;
use crate::capture::{LinkType, Packet};
use crate::flow::excerpts::{Excerpt, Excerpts};
use crate::flow::{FlowConfig, FlowConfigError, FlowHandler, FlowMeter, MeterStats};
use crate::packet::SkipReason;

/// The meter and the reader, and what has been told of the meter's counts.
pub(super) struct UserSide {
    meter: FlowMeter,
    excerpts: Excerpts,
    link: LinkType,
    sampling_rate: u32,
    told: MeterStats,
}

impl UserSide {
    pub(super) fn new(config: &FlowConfig, link: LinkType) -> Result<Self, FlowConfigError> {
        let mut meter = FlowMeter::new(config.clone())?;
        // Flows that the kernel meters have the even numbers.
        meter.number_flows(1, 2);
        Ok(Self {
            meter,
            excerpts: Excerpts::new(config),
            link,
            sampling_rate: config.sampling_rate,
            told: MeterStats::default(),
        })
    }

    /// Does with a packet what it is handed over for.
    pub(super) fn take(&mut self, handed: &HandedPacket<'_>, time: Timestamp, batcher: &mut Batcher) {
        let packet = Packet {
            time,
            interface: handed.interface,
            link: self.link,
            stripped_vlan: handed.taken_vlan,
            wire_len: handed.frame_bytes,
            data: handed.bytes,
        };
        match handed.purpose {
            Purpose::Meter => self.meter.push(&packet, &mut Events(batcher)),
            Purpose::Read { flow, from, syn_seq } => self.excerpts.look(&Excerpt {
                flow,
                from,
                syn_seq,
                packet,
            }),
        }
    }

    /// Completes a record of a flow that was metered in the kernel.
    pub(super) fn complete(&mut self, record: &mut FlowRecord) {
        let ends = matches!(record.phase, FlowPhase::End(_));
        self.excerpts.join(record, ends);
        record.flow *= 2;
        record.sampling_rate = self.sampling_rate;
    }

    /// Reports what is due: all packets that passed before `time` have been taken.
    pub(super) fn advance(&mut self, time: Timestamp, batcher: &mut Batcher) {
        self.meter.advance(time, &mut Events(batcher));
        self.account(batcher);
    }

    /// Ends all flows.
    pub(super) fn finish(&mut self, batcher: &mut Batcher) {
        self.meter.finish(&mut Events(batcher));
        self.account(batcher);
    }

    /// Enters what the meter did with packets since the last time.
    fn account(&mut self, batcher: &mut Batcher) {
        let stats = self.meter.stats();
        let told = std::mem::replace(&mut self.told, stats);
        batcher.used((stats.metered - told.metered) + (stats.arp - told.arp));
        for reason in SkipReason::ALL {
            let count = stats.skipped(reason) - told.skipped(reason);
            if count > 0 {
                batcher.dropped(reason.as_str(), count);
            }
        }
    }
}

/// Makes events of what the meter finds.
struct Events<'a>(&'a mut Batcher);

impl FlowHandler for Events<'_> {
    fn flow(&mut self, time: Timestamp, record: &FlowRecord) {
        self.0.add(time, Payload::Flow(Box::new(record.clone())));
    }

    fn dns(&mut self, time: Timestamp, record: &DnsRecord) {
        self.0.add(time, Payload::Dns(Box::new(record.clone())));
    }

    fn arp(&mut self, time: Timestamp, record: &ArpRecord) {
        self.0.add(time, Payload::Arp(Box::new(*record)));
    }
}
