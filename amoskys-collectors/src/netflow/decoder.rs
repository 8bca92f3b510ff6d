use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use amoskys_core::Timestamp;

use super::domain::{Domain, Room, Waiting};
use super::record::{Export, ExportRecord};
use super::sampling::{SamplingFields, SamplingRate};
use super::sequence::{Observed, Units};
use super::template::{Broken, Definition, SetKind, Span, Template, next_definition};
use super::{NetflowConfig, NetflowConfigError, NetflowStats, v5};

/// What a decoder finds. All but [`flow`](Self::flow) have a default that does nothing.
pub trait NetflowHandler {
    /// A record about traffic.
    fn flow(&mut self, record: &ExportRecord<'_>);

    /// A record about the exporter: its samplers, interfaces, applications, or its own losses.
    fn options(&mut self, record: &ExportRecord<'_>) {
        let _ = record;
    }

    /// Sequence numbers show that something never arrived.
    fn loss(&mut self, loss: &ExportLoss) {
        let _ = loss;
    }
}

/// Something that an exporter sent and that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportLoss {
    /// The datagram that showed it.
    pub export: Export,
    /// How many.
    pub count: u32,
    /// Of what: `flows` for v5, `datagrams` for v9, `records` for IPFIX.
    pub unit: &'static str,
}

/// Decodes export datagrams of many exporters: NetFlow v5 and v9, and IPFIX.
///
/// Pure: no socket, no clock. Memory is bounded by the configuration, work by the length of the datagrams.
///
/// ```
/// use amoskys_collectors::netflow::{ExportRecord, NetflowConfig, NetflowDecoder, NetflowHandler};
/// use amoskys_core::Timestamp;
///
/// struct Print;
/// impl NetflowHandler for Print {
///     fn flow(&mut self, record: &ExportRecord<'_>) {
///         println!("{}", record.flow(None).key);
///     }
/// }
///
/// let mut decoder = NetflowDecoder::new(NetflowConfig::default())?;
/// decoder.push([192, 0, 2, 1].into(), Timestamp::now(), b"no export", &mut Print);
/// assert_eq!(decoder.stats().unknown_version, 1);
/// # Ok::<(), amoskys_collectors::netflow::NetflowConfigError>(())
/// ```
#[derive(Debug)]
pub struct NetflowDecoder {
    config: NetflowConfig,
    domains: HashMap<Key, Domain>,
    room: Room,
    stats: NetflowStats,
    spans: Vec<Span>,
    v5: Template,
    /// Sets that waited too long are not looked for before it.
    next_give_up: Timestamp,
    /// No domain is forgotten before it, so there is no use in looking.
    sweep: Timestamp,
}

/// Numbers of templates and sequences mean something within one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    exporter: IpAddr,
    version: u16,
    domain: u32,
}

/// Exporters send their templates every half an hour or more often. What waited for longer is given up first.
const LONGEST_WAIT: Duration = Duration::from_secs(1800);
/// All exporters' sets are looked through no more often than this.
const GIVE_UP_INTERVAL: Duration = Duration::from_secs(10);
/// Length of the header, by version.
const V9_HEADER: usize = 20;
const IPFIX_HEADER: usize = 16;
/// The longest datagram that UDP carries.
pub(crate) const MAX_DATAGRAM_BYTES: usize = 65_535;

impl NetflowDecoder {
    /// A decoder that knows no templates yet.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(config: NetflowConfig) -> Result<Self, NetflowConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            domains: HashMap::new(),
            room: Room::default(),
            stats: NetflowStats::default(),
            spans: Vec::new(),
            v5: v5::template(),
            next_give_up: Timestamp::MIN,
            sweep: Timestamp::MIN,
        })
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> NetflowStats {
        self.stats
    }

    /// Decodes one datagram. `exporter` is who sent it; `received` when it arrived, and must not go back by much:
    /// what has to be forgotten is forgotten by this clock.
    pub fn push(
        &mut self,
        exporter: IpAddr,
        received: Timestamp,
        datagram: &[u8],
        handler: &mut impl NetflowHandler,
    ) {
        self.stats.datagrams += 1;
        // An IPv4 exporter seen through an IPv6 socket is the same exporter.
        let exporter = exporter.to_canonical();
        if !self.config.exporters.is_empty() && !self.config.exporters.contains(&exporter) {
            self.stats.not_allowed += 1;
            return;
        }
        let datagram = &datagram[..datagram.len().min(MAX_DATAGRAM_BYTES)];
        let known = match datagram {
            [0, 5, ..] => self.push_v5(exporter, received, datagram, handler),
            [0, 9, ..] => self.push_v9(exporter, received, datagram, handler),
            [0, 10, ..] => self.push_ipfix(exporter, received, datagram, handler),
            _ => {
                self.stats.unknown_version += 1;
                return;
            }
        };
        if known.is_none() {
            self.stats.malformed += 1;
        }
    }

    /// No more datagrams come: what still waits for a template is given up, and counted.
    pub fn finish(&mut self) {
        for domain in self.domains.values_mut() {
            self.stats.sets_without_template += domain.give_up(&mut self.room);
        }
    }

    /// `None` if the header is cut short.
    fn push_v5(
        &mut self,
        exporter: IpAddr,
        received: Timestamp,
        datagram: &[u8],
        handler: &mut impl NetflowHandler,
    ) -> Option<()> {
        let header = v5::Header::parse(datagram)?;
        let export = header.export(exporter, received);
        let Some(mut domain) = self.enter(&export) else {
            return Some(());
        };
        if domain.uptime.observe(header.uptime_ms, header.secs) {
            domain.restart();
            self.stats.restarts += 1;
        }
        let records = &datagram[v5::HEADER_BYTES..];
        let whole = records.len() / v5::RECORD_BYTES;
        let stated = usize::from(header.count);
        // A false count is not believed, and neither is what follows from it.
        let is_true = (1..=whole).contains(&stated);
        let units = is_true.then_some(Units::of(header.count.into()));
        let observed = domain.sequence.observe(header.sequence, units);
        self.tell(observed, export, "flows", &mut domain, handler);
        if !is_true {
            self.stats.malformed += 1;
        }
        let sampling = SamplingRate::new(1, u32::from(header.sampling_interval));
        let template = std::mem::take(&mut self.v5);
        let mut at = 0;
        for _ in 0..stated.min(whole) {
            let Some(end) = template.locate(records, at, &mut self.spans) else {
                break;
            };
            self.stats.flows += 1;
            handler.flow(&ExportRecord {
                export: &export,
                template: 0,
                fields: &template.fields,
                spans: &self.spans,
                data: records,
                sampling,
            });
            at = end;
        }
        self.v5 = template;
        self.leave(&export, domain);
        Some(())
    }

    fn push_v9(
        &mut self,
        exporter: IpAddr,
        received: Timestamp,
        datagram: &[u8],
        handler: &mut impl NetflowHandler,
    ) -> Option<()> {
        let header = datagram.first_chunk::<V9_HEADER>()?;
        let word = |at: usize| number(header, at);
        let export = Export {
            exporter,
            version: 9,
            domain: word(16),
            received,
            exported: Timestamp::from_secs(word(8).into()),
            uptime_ms: Some(word(4)),
            booted: None,
        };
        let Some(mut domain) = self.enter(&export) else {
            return Some(());
        };
        if domain.uptime.observe(word(4), word(8)) {
            // The numbers of its templates may mean something else now.
            self.stats.sets_without_template += domain.give_up(&mut self.room);
            domain.forget_templates(&mut self.room);
            domain.restart();
            self.stats.restarts += 1;
        }
        let observed = domain.sequence.observe(word(12), Some(Units::of(1)));
        self.tell(observed, export, "datagrams", &mut domain, handler);
        self.sets(&export, &mut domain, &datagram[V9_HEADER..], handler);
        self.leave(&export, domain);
        Some(())
    }

    fn push_ipfix(
        &mut self,
        exporter: IpAddr,
        received: Timestamp,
        datagram: &[u8],
        handler: &mut impl NetflowHandler,
    ) -> Option<()> {
        let header = datagram.first_chunk::<IPFIX_HEADER>()?;
        let word = |at: usize| number(header, at);
        let stated = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let message = datagram.get(..stated).filter(|_| stated >= IPFIX_HEADER);
        let is_true = message.is_some();
        let message = message.unwrap_or(datagram);
        let mut export = Export {
            exporter,
            version: 10,
            domain: word(12),
            received,
            exported: Timestamp::from_secs(word(4).into()),
            uptime_ms: None,
            booted: None,
        };
        let Some(mut domain) = self.enter(&export) else {
            return Some(());
        };
        export.booted = domain.booted;
        if !is_true {
            self.stats.malformed += 1;
        }
        let records = self.sets(&export, &mut domain, &message[IPFIX_HEADER..], handler);
        let observed = domain.sequence.observe(word(8), records.filter(|_| is_true));
        self.tell(observed, export, "records", &mut domain, handler);
        self.leave(&export, domain);
        Some(())
    }

    /// Takes the domain out of the table, to be put back with [`leave`](Self::leave). `None` if there is no room for
    /// a new one.
    fn enter(&mut self, export: &Export) -> Option<Domain> {
        let key = Key {
            exporter: export.exporter,
            version: export.version,
            domain: export.domain,
        };
        if let Some(domain) = self.domains.get_mut(&key) {
            let mut domain = std::mem::take(domain);
            let expired = domain.expire(export.received, self.config.template_lifetime, &mut self.room);
            self.stats.expired_templates += expired;
            return Some(domain);
        }
        if self.domains.len() >= self.config.max_domains && !self.make_room(export.received) {
            self.stats.no_room += 1;
            return None;
        }
        Some(Domain::default())
    }

    fn leave(&mut self, export: &Export, mut domain: Domain) {
        domain.seen = export.received;
        let key = Key {
            exporter: export.exporter,
            version: export.version,
            domain: export.domain,
        };
        self.domains.insert(key, domain);
    }

    /// Forgets domains that have been silent; whether there were any.
    fn make_room(&mut self, now: Timestamp) -> bool {
        if now < self.sweep {
            return false;
        }
        let oldest = now.minus(self.config.domain_lifetime);
        let (room, stats) = (&mut self.room, &mut self.stats);
        let before = self.domains.len();
        let mut next = now;
        self.domains.retain(|_, domain| {
            let stays = domain.seen > oldest;
            if stays {
                next = next.min(domain.seen);
            } else {
                stats.sets_without_template += domain.give_up(room);
                domain.forget_templates(room);
            }
            stays
        });
        self.sweep = next.plus(self.config.domain_lifetime);
        self.domains.len() < before
    }

    fn tell(
        &mut self,
        observed: Observed,
        export: Export,
        unit: &'static str,
        domain: &mut Domain,
        handler: &mut impl NetflowHandler,
    ) {
        match observed {
            Observed::InOrder => {}
            Observed::Gap(count) => {
                self.stats.missing += u64::from(count);
                handler.loss(&ExportLoss { export, count, unit });
            }
            Observed::Late => self.stats.late += 1,
            Observed::Restart => {
                self.stats.restarts += 1;
                domain.booted = None;
            }
        }
    }

    /// Reads the sets of a v9 datagram or of an IPFIX message; says how many data records they hold, if all could
    /// be read.
    fn sets(
        &mut self,
        export: &Export,
        domain: &mut Domain,
        mut sets: &[u8],
        handler: &mut impl NetflowHandler,
    ) -> Option<Units> {
        let mut records = Some(Units::default());
        while !sets.is_empty() {
            match next_set(&mut sets) {
                Ok(Some((id @ 256.., set))) => {
                    let found = self.data_set(export, domain, id, set, handler);
                    records = records.zip(found).map(|(sum, found)| Units {
                        all: sum.all + found.all,
                        flows: sum.flows + found.flows,
                    });
                }
                Ok(Some((id, set))) => self.template_set(export, domain, id, set, handler),
                Ok(None) => break,
                Err(Broken) => {
                    self.stats.malformed += 1;
                    return None;
                }
            }
        }
        records
    }

    fn template_set(
        &mut self,
        export: &Export,
        domain: &mut Domain,
        id: u16,
        set: &[u8],
        handler: &mut impl NetflowHandler,
    ) {
        let kind = match (export.version, id) {
            (9, 0) => SetKind::V9Template,
            (9, 1) => SetKind::V9Options,
            (10, 2) => SetKind::IpfixTemplate,
            (10, 3) => SetKind::IpfixOptions,
            _ => {
                self.stats.malformed += 1;
                return;
            }
        };
        let mut set = set;
        loop {
            match next_definition(&mut set, kind, self.config.max_fields) {
                Ok(None) => return,
                Ok(Some(Definition::Withdrawal)) => self.stats.withdrawals += 1,
                Ok(Some(Definition::Template(id, template))) => {
                    self.learn(export, domain, id, template, handler);
                }
                Err(Broken) => {
                    self.stats.malformed += 1;
                    return;
                }
            }
        }
    }

    /// Keeps a template, and reads what waited for it.
    fn learn(
        &mut self,
        export: &Export,
        domain: &mut Domain,
        id: u16,
        template: Option<Template>,
        handler: &mut impl NetflowHandler,
    ) {
        let kept = template.is_some_and(|template| {
            domain.learn(id, template, export.received, &self.config, &mut self.room)
        });
        if !kept {
            self.stats.refused_templates += 1;
            return;
        }
        self.stats.templates += 1;
        for waiting in domain.take_waiting(id, &mut self.room) {
            self.data_set(&waiting.export, domain, id, &waiting.set, handler);
        }
    }

    /// Where little room is left to wait in, those that waited for long make room: exporters that never send their
    /// templates must not take it from others.
    fn give_up_old(&mut self, now: Timestamp) {
        if !self.room.is_waiting_full(&self.config) || now < self.next_give_up {
            return;
        }
        self.next_give_up = now.plus(GIVE_UP_INTERVAL);
        let oldest = now.minus(LONGEST_WAIT);
        for domain in self.domains.values_mut() {
            self.stats.sets_without_template += domain.give_up_old(oldest, &mut self.room);
        }
    }

    /// Reads the records of a set; says how many, or lets it wait for its template.
    fn data_set(
        &mut self,
        export: &Export,
        domain: &mut Domain,
        id: u16,
        set: &[u8],
        handler: &mut impl NetflowHandler,
    ) -> Option<Units> {
        let Some(template) = domain.templates.get(&id) else {
            self.stats.waited_sets += 1;
            self.give_up_old(export.received);
            let waiting = Waiting {
                export: *export,
                id,
                set: set.into(),
            };
            self.stats.sets_without_template += domain.wait(waiting, &self.config, &mut self.room);
            return None;
        };
        let template = std::sync::Arc::clone(&template.template);
        let mut spans = std::mem::take(&mut self.spans);
        let (mut at, mut count) = (0, 0);
        while let Some(end) = template.locate(set, at, &mut spans) {
            // Some exporters fill a set up with more than the three bytes there may be.
            if set.len() - at >= PADDING_IN_DOUBT && set[at..].iter().all(|byte| *byte == 0) {
                break;
            }
            let mut record = ExportRecord {
                export,
                template: id,
                fields: &template.fields,
                spans: &spans,
                data: set,
                sampling: None,
            };
            at = end;
            count += 1;
            let mut sampling = SamplingFields::default();
            if template.sampling {
                for field in record.fields().filter(|field| field.enterprise == 0) {
                    sampling.take(field.id, field.bytes);
                }
            }
            if template.options {
                self.stats.options += 1;
                domain.samplers.learn(&sampling);
                domain.learn_boot(&record);
                handler.options(&record);
            } else if template.flow {
                self.stats.flows += 1;
                record.sampling = domain.samplers.rate_of(&sampling);
                handler.flow(&record);
            } else {
                self.stats.other_records += 1;
            }
        }
        self.spans = spans;
        let flows = if template.options { 0 } else { count };
        Some(Units { all: count, flows })
    }
}

/// So many zeros to the end of a set, and more, are no record of a flow.
const PADDING_IN_DOUBT: usize = 16;

/// The next set, and moves past it. `None` where only zeros follow.
pub(super) fn next_set<'a>(sets: &mut &'a [u8]) -> Result<Option<(u16, &'a [u8])>, Broken> {
    let Some(header) = sets.first_chunk::<4>() else {
        let padding = sets.iter().all(|byte| *byte == 0);
        return if padding { Ok(None) } else { Err(Broken) };
    };
    let [a, b, c, d] = *header;
    let (id, length) = (
        u16::from_be_bytes([a, b]),
        usize::from(u16::from_be_bytes([c, d])),
    );
    if length == 0 && sets.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let set = sets.get(4..length).ok_or(Broken)?;
    *sets = &sets[length..];
    Ok(Some((id, set)))
}

/// A number of 32 bits in a header.
fn number(header: &[u8], at: usize) -> u32 {
    header
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
