use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::{ArpRecord, Metric};
use flowparser_sflow::{CounterRecord, SflowParser, SflowSample};

use super::agents::Agents;
use super::flows::Flows;
use super::sample::{Sample, Sampled};
use super::{SampledFlow, SflowConfig, SflowConfigError, SflowStats, counters};
use crate::netflow::decoder::MAX_DATAGRAM_BYTES;
use crate::netflow::sequence::Observed;

/// What a decoder finds. All but [`flow`](Self::flow) have a default that does nothing.
pub trait SflowHandler {
    /// Sampled packets of one flow.
    fn flow(&mut self, export: &SflowExport, flow: SampledFlow);

    /// A sampled ARP message.
    fn arp(&mut self, export: &SflowExport, message: ArpRecord) {
        let _ = (export, message);
    }

    /// A counter of an interface.
    fn metric(&mut self, export: &SflowExport, metric: Metric) {
        let _ = (export, metric);
    }

    /// So many datagrams before this one never arrived.
    fn loss(&mut self, export: &SflowExport, datagrams: u32) {
        let _ = (export, datagrams);
    }
}

/// The datagram that something came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SflowExport {
    /// Who sent it.
    pub sender: IpAddr,
    /// Address of the agent, as it says itself: the same whichever way its datagrams take.
    pub agent: IpAddr,
    /// Which part of the agent.
    pub sub_agent: u32,
    /// Number of the datagram.
    pub sequence: u32,
    /// Milliseconds since the agent booted; wraps.
    pub uptime_ms: u32,
    /// When it arrived, by our clock.
    pub received: Timestamp,
}

/// Decodes sFlow datagrams of many agents.
///
/// Pure: no socket, no clock. Memory is bounded by the configuration and the length of one datagram, work by the
/// length of the datagrams.
///
/// ```
/// use amoskys_collectors::sflow::{SampledFlow, SflowConfig, SflowDecoder, SflowExport, SflowHandler};
/// use amoskys_core::Timestamp;
///
/// struct Print;
/// impl SflowHandler for Print {
///     fn flow(&mut self, export: &SflowExport, flow: SampledFlow) {
///         println!("{}: {}", export.agent, flow.record.key);
///     }
/// }
///
/// let mut decoder = SflowDecoder::new(SflowConfig::default())?;
/// decoder.push([192, 0, 2, 1].into(), Timestamp::now(), b"no sflow", &mut Print);
/// assert_eq!(decoder.stats().unknown_version, 1);
/// # Ok::<(), amoskys_collectors::sflow::SflowConfigError>(())
/// ```
#[derive(Debug)]
pub struct SflowDecoder {
    senders: Vec<IpAddr>,
    attributes: bool,
    parser: SflowParser,
    agents: Agents,
    stats: SflowStats,
}

impl SflowDecoder {
    /// A decoder that knows no agents yet.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(config: SflowConfig) -> Result<Self, SflowConfigError> {
        config.validate()?;
        Ok(Self {
            agents: Agents::new(config.max_agents, config.agent_lifetime),
            senders: config.senders,
            attributes: config.attributes,
            parser: SflowParser::default(),
            stats: SflowStats::default(),
        })
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> SflowStats {
        self.stats
    }

    /// Decodes one datagram. `sender` is who sent it; `received` when it arrived, and must not go back by much.
    pub fn push(
        &mut self,
        sender: IpAddr,
        received: Timestamp,
        datagram: &[u8],
        handler: &mut impl SflowHandler,
    ) {
        self.stats.datagrams += 1;
        // An IPv4 agent seen through an IPv6 socket is the same agent.
        let sender = sender.to_canonical();
        if !self.senders.is_empty() && !self.senders.contains(&sender) {
            self.stats.not_allowed += 1;
            return;
        }
        let datagram = &datagram[..datagram.len().min(MAX_DATAGRAM_BYTES)];
        if datagram
            .first_chunk()
            .is_some_and(|version| *version != [0, 0, 0, 5])
        {
            self.stats.unknown_version += 1;
            return;
        }
        let Some(export) = header(datagram, sender, received) else {
            self.stats.malformed += 1;
            return;
        };
        let Some(order) = self.agents.observe(&export) else {
            self.stats.no_room += 1;
            return;
        };
        self.stats.restarts += u64::from(order.booted || order.observed == Observed::Restart);
        self.stats.late += u64::from(order.observed == Observed::Late);
        if let Observed::Gap(count) = order.observed {
            self.stats.missing += u64::from(count);
            handler.loss(&export, count);
        }
        let mut parsed = self.parser.parse_bytes(datagram);
        // The parser goes on behind the datagram; there must be nothing.
        if parsed.error.is_some() || parsed.datagrams.len() != 1 {
            self.stats.malformed += 1;
        }
        if !parsed.datagrams.is_empty() {
            let samples = parsed.datagrams.swap_remove(0).samples;
            self.samples(&export, &samples, handler);
        }
    }

    fn samples(&mut self, export: &SflowExport, samples: &[SflowSample], handler: &mut impl SflowHandler) {
        let mut flows = Flows::new(export, self.attributes);
        for sample in samples {
            match sample {
                SflowSample::Flow(sample) => self.flow_sample(&sample.into(), &mut flows, handler),
                SflowSample::ExpandedFlow(sample) => self.flow_sample(&sample.into(), &mut flows, handler),
                SflowSample::Counter(sample) => self.counter_sample(export, &sample.records, handler),
                SflowSample::ExpandedCounter(sample) => {
                    self.counter_sample(export, &sample.records, handler);
                }
                SflowSample::DiscardedPacket(_) => self.stats.discarded_packets += 1,
                SflowSample::Unknown { .. } => self.stats.unknown_samples += 1,
            }
        }
        for mut flow in flows.finish() {
            flow.record.flow = self.stats.flows;
            self.stats.flows += 1;
            handler.flow(export, flow);
        }
    }

    fn flow_sample(&mut self, sample: &Sample<'_>, flows: &mut Flows<'_>, handler: &mut impl SflowHandler) {
        match sample.packet() {
            Sampled::Packet(packet) => {
                self.stats.packets += 1;
                flows.add(sample, &packet);
            }
            Sampled::Arp(message) => {
                self.stats.arp += 1;
                handler.arp(flows.export(), message);
            }
            Sampled::Skipped(reason) => self.stats.skip(reason),
            Sampled::Nothing => self.stats.not_a_flow += 1,
        }
    }

    fn counter_sample(
        &mut self,
        export: &SflowExport,
        records: &[CounterRecord],
        handler: &mut impl SflowHandler,
    ) {
        let mut found = false;
        for record in records {
            if let CounterRecord::GenericInterface(interface) = record {
                found = true;
                for metric in counters::metrics(interface) {
                    handler.metric(export, metric);
                }
            }
        }
        if found {
            self.stats.counter_samples += 1;
        } else {
            self.stats.other_counters += 1;
        }
    }
}

/// What stands before the samples; `None` if it is cut short, or the agent's address is of no known kind. Read here,
/// because the sequence counts datagrams that cannot be parsed, too.
fn header(datagram: &[u8], sender: IpAddr, received: Timestamp) -> Option<SflowExport> {
    let word = |at: usize| {
        let bytes = datagram.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let (agent, after): (IpAddr, usize) = match word(4)? {
        1 => (word(8)?.to_be_bytes().into(), 12),
        2 => (<[u8; 16]>::try_from(datagram.get(8..24)?).ok()?.into(), 24),
        _ => return None,
    };
    Some(SflowExport {
        sender,
        agent: agent.to_canonical(),
        sub_agent: word(after)?,
        sequence: word(after + 4)?,
        uptime_ms: word(after + 8)?,
        received,
    })
}
