use amoskys_core::Timestamp;
use amoskys_core::event::{ArpRecord, DnsRecord, FlowEnd, FlowPhase, FlowRecord};

use super::clock::{Clock, Observed};
use super::config::{FlowConfig, FlowConfigError, Limits, TunnelMode};
use super::entry::{SUBFLOW_GAP_NS, elapsed};
use super::fragments::Fragments;
use super::held::Held;
use super::payloads::{Payloads, tunnel_text};
use super::prepared::{NotMetered, Sought};
use super::snapshot::Snapshot;
use super::stats::MeterStats;
use super::table::Table;
use super::wheel::Tick;
use crate::capture::Packet;
use crate::packet::dns::DnsDecoder;
use crate::packet::tunnel::{Tunnel, innermost};
use crate::packet::{IpPacket, Transport, decode_into};

/// Receives what a [`FlowMeter`] finds. Records are lent; clone what is to be kept.
///
/// `time` is event time: that of the packet that caused the record, or of the timer that fired.
pub trait FlowHandler {
    /// A flow started, goes on, or ended.
    fn flow(&mut self, time: Timestamp, record: &FlowRecord);

    /// A DNS message came. Called before the flow record the same packet may cause. Default: nothing.
    fn dns(&mut self, time: Timestamp, record: &DnsRecord) {
        let _ = (time, record);
    }

    /// An ARP message came. Default: nothing.
    fn arp(&mut self, time: Timestamp, record: &ArpRecord) {
        let _ = (time, record);
    }
}

/// Turns packets into flow records: the flow table, without any input or output.
///
/// Packets go in one by one; records come out through a [`FlowHandler`]. All times are event time, taken from the
/// packets: a capture is metered the same at any speed, and the same input gives the same records in the same
/// order. Nothing is allocated per packet once the table has grown to the traffic. Memory is bounded by
/// [`FlowConfig::max_flows`].
///
/// ```
/// use amoskys_collectors::capture::CaptureReader;
/// use amoskys_collectors::flow::{FlowConfig, FlowHandler, FlowMeter};
/// use amoskys_core::{Timestamp, event::FlowRecord};
///
/// struct Print;
/// impl FlowHandler for Print {
///     fn flow(&mut self, time: Timestamp, record: &FlowRecord) {
///         println!("{time} {:?} {} {} packets", record.phase, record.key, record.packets());
///     }
/// }
///
/// # let file: &[u8] = &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
/// let mut capture = CaptureReader::new(file)?;
/// let mut meter = FlowMeter::new(FlowConfig::default())?;
/// while let Some(packet) = capture.next_packet()? {
///     meter.push(&packet, &mut Print);
/// }
/// meter.finish(&mut Print);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FlowMeter {
    limits: Limits,
    pub(super) clock: Clock,
    tick: Tick,
    pub(super) table: Table,
    pub(super) held: Held,
    fragments: Fragments,
    dns: DnsDecoder,
    payloads: Payloads,
    snapshot: Snapshot,
    pub(super) stats: MeterStats,
    /// Flows whose timers fire now; kept for its memory.
    due: Vec<u32>,
}

impl FlowMeter {
    /// A meter without flows.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(config: FlowConfig) -> Result<Self, FlowConfigError> {
        config.validate()?;
        Ok(Self {
            limits: Limits::of(&config),
            clock: Clock::default(),
            tick: Tick::default(),
            table: Table::new(),
            held: Held::default(),
            fragments: Fragments::default(),
            dns: DnsDecoder::new(),
            payloads: Payloads::new(),
            snapshot: Snapshot::default(),
            stats: MeterStats::default(),
            due: Vec::new(),
        })
    }

    /// Meters one packet.
    #[inline]
    pub fn push(&mut self, packet: &Packet<'_>, handler: &mut impl FlowHandler) {
        self.stats.packets += 1;
        if self.held.is_some() {
            self.settle_held(packet.time.nanos(), handler);
        }
        match self.clock.observe(packet.time.nanos()) {
            Observed::At(time) => self.meter(packet, time, handler),
            Observed::FarAhead => self.held.put(packet),
        }
    }

    /// Follows a clock that observes the packets elsewhere.
    #[inline]
    pub(super) fn follow(&mut self, now: i64, handler: &mut impl FlowHandler) {
        self.clock.follow(now);
        self.follow_clock(handler);
    }

    /// Numbers the flows from `first`, in steps.
    pub(crate) fn number_flows(&mut self, first: u64, step: u64) {
        self.table.number_from(first, step);
    }

    /// Says that it is `time` now, though no packet came: flows that are due are reported. For live sources, whose
    /// packets carry the same clock.
    pub fn advance(&mut self, time: Timestamp, handler: &mut impl FlowHandler) {
        self.settle_held(i64::MAX, handler);
        self.clock.advance(time.nanos());
        self.run_timers(handler);
    }

    /// Ends all flows, in the order in which they began. The meter can be used again.
    pub fn finish(&mut self, handler: &mut impl FlowHandler) {
        self.settle_held(i64::MAX, handler);
        let time = self.clock.now();
        for index in self.table.in_order() {
            let flow = &self.table.flows[index];
            if flow.dormant {
                self.table.remove(index);
            } else {
                self.end(index, flow.ending.unwrap_or(FlowEnd::SourceEnd), time, handler);
                // A connection may have been kept for its direction.
                self.table.remove(index);
            }
        }
    }

    /// The meter's clock: the latest event time; `None` before the first packet.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        (now != i64::MIN).then_some(Timestamp::from_nanos(now))
    }

    /// What happened to the packets so far.
    #[must_use]
    pub fn stats(&self) -> MeterStats {
        MeterStats {
            times_corrected: self.clock.corrected,
            clock_set_back: self.clock.set_back,
            ..self.stats
        }
    }

    /// How many flows are in the table. This includes connections that fell silent, whose flows have ended, but
    /// whose direction is remembered.
    #[must_use]
    pub fn open_flows(&self) -> usize {
        self.table.flows.len()
    }

    /// Decides about a packet whose time was far ahead, now that the time of the next one is known.
    #[cold]
    pub(super) fn settle_held(&mut self, next: i64, handler: &mut impl FlowHandler) {
        let Some(mut held) = self.held.take() else { return };
        let packet = held.packet();
        let own = packet.time.nanos();
        let time = if Clock::confirms(own, next) {
            self.clock.jump(own)
        } else {
            self.clock.correct()
        };
        self.meter(&packet, time, handler);
        self.held.give_back(&mut held);
    }

    #[inline]
    pub(super) fn meter(&mut self, packet: &Packet<'_>, time: i64, handler: &mut impl FlowHandler) {
        self.follow_clock(handler);
        let mut ip = IpPacket::NONE;
        let decoded = decode_into(packet, &mut ip);
        if decoded == Ok(None) {
            let mut sought = Sought::of(&ip, &self.table);
            self.take(packet, &mut ip, &mut sought, time, handler);
        } else {
            self.take_other(decoded, time, handler);
        }
    }

    /// Counts an IP packet that came at `time`.
    #[inline]
    pub(super) fn take(
        &mut self,
        packet: &Packet<'_>,
        ip: &mut IpPacket<'_>,
        sought: &mut Sought,
        time: i64,
        handler: &mut impl FlowHandler,
    ) {
        self.stats.metered += 1;
        if ip.fragment && self.limits.follow_fragments {
            self.fragments.follow(ip, time);
            *sought = Sought::of(ip, &self.table);
        }
        if self.limits.tunnels == TunnelMode::Outer {
            self.count(packet, ip, sought, None, time, handler);
        } else {
            self.count_inside(packet, ip, sought, time, handler);
        }
    }

    /// Counts a packet that belongs to no flow.
    #[cold]
    pub(super) fn take_other(&mut self, decoded: NotMetered, time: i64, handler: &mut impl FlowHandler) {
        match decoded {
            Ok(Some(record)) => {
                self.stats.arp += 1;
                handler.arp(Timestamp::from_nanos(time), &record);
            }
            Ok(None) => {}
            Err(reason) => self.stats.skip(reason),
        }
    }

    /// Fires timers, if the clock has come to where one may be due.
    #[inline]
    pub(super) fn follow_clock(&mut self, handler: &mut impl FlowHandler) {
        if Tick::of(self.clock.now()) != self.tick {
            self.run_timers(handler);
        }
    }

    /// Counts a packet, or what it carries, or both.
    fn count_inside(
        &mut self,
        packet: &Packet<'_>,
        ip: &IpPacket<'_>,
        sought: &Sought,
        time: i64,
        handler: &mut impl FlowHandler,
    ) {
        let inner = innermost(ip);
        if inner.is_none() || self.limits.tunnels == TunnelMode::Both {
            self.count(packet, ip, sought, None, time, handler);
        }
        if let Some((mut inner, tunnel)) = inner {
            if inner.fragment && self.limits.follow_fragments {
                self.fragments.follow(&mut inner, time);
            }
            let sought = Sought::of(&inner, &self.table);
            self.count(packet, &inner, &sought, Some(&tunnel), time, handler);
        }
    }

    /// Counts an IP packet in its flow.
    #[inline]
    pub(super) fn count(
        &mut self,
        packet: &Packet<'_>,
        ip: &IpPacket<'_>,
        sought: &Sought,
        tunnel: Option<&Tunnel>,
        time: i64,
        handler: &mut impl FlowHandler,
    ) {
        let descending = sought.descending;
        let (index, is_new) = self.flow_of(packet, ip, sought, time, handler);
        self.update(index, packet, ip, descending, is_new, time);
        if !ip.payload.is_empty() {
            self.look_inside(index, ip, descending);
        }
        if let (Some(tunnel), true) = (tunnel, is_new) {
            self.table.flows[index].tunnel = self.table.texts.keep(&tunnel_text(tunnel));
        }
        if ip.payload_length > 0
            && self.table.flows[index].dns
            && matches!(ip.transport, Transport::Udp | Transport::Tcp(_))
        {
            self.read_dns(index, ip, descending, time, handler);
        }
        if is_new && self.limits.start_records {
            self.report(index, FlowPhase::Start, time, handler);
        }
    }

    /// The flow of a packet, and whether it begins with it.
    #[inline]
    fn flow_of(
        &mut self,
        packet: &Packet<'_>,
        ip: &IpPacket<'_>,
        sought: &Sought,
        time: i64,
        handler: &mut impl FlowHandler,
    ) -> (u32, bool) {
        let Sought {
            key,
            descending,
            hash,
        } = sought;
        let (descending, hash) = (*descending, *hash);
        let mut kept = None;
        if let Some(index) = self.table.find(hash, key) {
            if !self.table.flows[index].dormant {
                match self.cut(index, ip, time) {
                    None => return (index, false),
                    Some(end) => self.end(index, end, self.clock.now(), handler),
                }
            }
            if self.table.flows[index].dormant {
                if ip.opens_connection() {
                    self.table.remove(index);
                } else {
                    kept = Some(index);
                }
            }
        }
        let index = match kept {
            Some(index) => self.table.wake(index, time),
            None => {
                self.make_room(handler);
                self.table.insert(hash, *key, descending, time)
            }
        };
        self.stats.flows += 1;
        let flow = &mut self.table.flows[index];
        flow.interface = packet.interface;
        flow.dns = ip.ports.iter().any(|port| DNS_PORTS.contains(port));
        flow.set_link(&ip.link, descending != flow.descending);
        flow.reported = self.clock.now();
        if !self.limits.never_expire {
            self.table
                .set_timer(index, self.clock.now().saturating_add(self.limits.idle));
        }
        (index, true)
    }

    /// Whether the flow is over, so that the packet belongs to a new one.
    #[inline]
    fn cut(&self, index: u32, ip: &IpPacket<'_>, time: i64) -> Option<FlowEnd> {
        let flow = &self.table.flows[index];
        // So that no counter overflows, even where nothing else ends a flow.
        if flow.packets() >= u32::MAX - 1 {
            return Some(FlowEnd::Active);
        }
        if self.limits.never_expire {
            return None;
        }
        // Timers fire a little late; what decides is the time of the packet.
        if elapsed(flow.last, time) > self.limits.idle.unsigned_abs() {
            return Some(flow.ending.unwrap_or(FlowEnd::Idle));
        }
        if elapsed(flow.first, time) > self.limits.active.unsigned_abs() {
            return Some(flow.ending.unwrap_or(FlowEnd::Active));
        }
        match &ip.transport {
            Transport::Tcp(header) if flow.tcp.is_replaced_by(header, flow.ending.is_some()) => {
                Some(flow.ending.unwrap_or(FlowEnd::Replaced))
            }
            _ => None,
        }
    }

    /// Ends the flow unused for longest, if the table is full.
    #[inline]
    fn make_room(&mut self, handler: &mut impl FlowHandler) {
        if self.table.flows.len() < self.limits.max_flows as usize {
            return;
        }
        let victim = self.table.least_used();
        if !self.table.flows[victim].dormant {
            self.stats.evicted += 1;
            self.end(victim, FlowEnd::Evicted, self.clock.now(), handler);
        }
        self.table.remove(victim);
    }

    /// Adds a packet to the counters of its flow.
    #[inline]
    fn update(
        &mut self,
        index: u32,
        packet: &Packet<'_>,
        ip: &IpPacket<'_>,
        descending: bool,
        first: bool,
        time: i64,
    ) {
        let Table {
            flows,
            extras,
            wheel,
            recency,
            ..
        } = &mut self.table;
        let now = self.clock.now();
        let flow = &mut flows[index];
        let from = usize::from(descending != flow.descending);
        let gap = elapsed(flow.last, time);
        if !first {
            recency.touch(index);
            flow.gaps.add(gap);
            flow.breaks += u32::from(gap > SUBFLOW_GAP_NS);
            if gap > self.limits.activity {
                let active = elapsed(flow.active_since, flow.last);
                extras.of(&mut flow.extra).pauses.add(active, gap);
                flow.active_since = time;
            }
            flow.last = flow.last.max(time);
        }
        flow.touched = now;
        if flow.sampled < self.limits.sequence_length {
            flow.sample(from, ip.length, gap);
        }
        let side = &mut flow.sides[from];
        side.count(ip, packet.wire_len, time);
        if ip.payload_length > 0 {
            flow.bulk.add(&mut side.bulk, from as u8, ip.payload_length, time);
        }
        match &ip.transport {
            Transport::Tcp(header) => {
                let side = &mut flow.sides[from].tcp;
                let end = flow.tcp.count(side, from as u8, header, ip.payload_length, time);
                if end.is_some() && flow.ending.is_none() && !self.limits.never_expire {
                    flow.ending = end;
                    wheel.set(index, now.saturating_add(self.limits.linger));
                }
            }
            Transport::Icmp { kind, code, echo } => {
                extras.of(&mut flow.extra).icmp.count(ip, *kind, *code, *echo);
            }
            Transport::Udp | Transport::Other => {}
        }
        if !flow.dirty && !first && flow.ending.is_none() {
            flow.dirty = true;
            if let Some(interval) = self.limits.update {
                // Due an interval after the last record; after a quiet time, an interval from now, so that a
                // burst is reported as a whole.
                let due = flow.reported.saturating_add(interval);
                let due = if due <= now {
                    now.saturating_add(interval)
                } else {
                    due
                };
                wheel.hasten(index, due);
            }
        }
    }

    #[cold]
    fn read_dns(
        &mut self,
        index: u32,
        ip: &IpPacket<'_>,
        descending: bool,
        time: i64,
        handler: &mut impl FlowHandler,
    ) {
        let flow = &mut self.table.flows[index];
        let mut rest = ip.payload;
        let mut left = ip.payload_length;
        let over_tcp = matches!(ip.transport, Transport::Tcp(_));
        while left > 0 && !rest.is_empty() {
            let (message, length) = if over_tcp {
                // Only messages that begin with a segment; what was cut in two is left alone.
                let Some(found) = dns_over_tcp(rest, left) else {
                    return;
                };
                found
            } else {
                (rest, left)
            };
            let record = self.dns.decode(message, length);
            record.flow = flow.number;
            record.key = flow.key.public(descending);
            self.table.extras.of(&mut flow.extra).dns.count(record);
            self.stats.dns += 1;
            handler.dns(Timestamp::from_nanos(time), record);
            let used = if over_tcp { length + 2 } else { left };
            left -= used;
            rest = rest.get(used as usize..).unwrap_or_default();
        }
    }

    /// Reads and counts the payload of a packet, as far as that is wanted.
    #[inline]
    fn look_inside(&mut self, index: u32, ip: &IpPacket<'_>, descending: bool) {
        let flow = &self.table.flows[index];
        let from = usize::from(descending != flow.descending);
        let wants_bytes = self.limits.entropy_bytes > 0 && flow.counted & 1 << from == 0;
        if self.limits.read_payloads && Payloads::wants(flow, from) {
            self.payloads.look(&mut self.table, index, ip, from as u8);
        }
        if wants_bytes {
            let Table {
                flows, histograms, ..
            } = &mut self.table;
            let flow = &mut flows[index];
            if !histograms.add(&mut flow.histogram, from, ip.payload, self.limits.entropy_bytes) {
                flow.counted |= 1 << from;
            }
        }
    }

    /// Fires the timers that are due.
    fn run_timers(&mut self, handler: &mut impl FlowHandler) {
        self.tick = Tick::of(self.clock.now());
        let mut due = std::mem::take(&mut self.due);
        // Room for all flows, so that it grows with the table and not later.
        due.clear();
        due.reserve(self.table.flows.places() as usize);
        while let Some(now) = self.table.take_due(self.tick, &mut due) {
            for (n, &index) in due.iter().enumerate() {
                if let Some(next) = due.get(n + 2) {
                    self.table.fetch_whole(*next);
                }
                if let Some(next) = self.fire(index, now, handler) {
                    self.table.set_timer(index, next);
                }
            }
        }
        self.due = due;
    }

    /// Does what is due with a flow by `now`; when its timer is to fire next, if it is not set already.
    fn fire(&mut self, index: u32, now: i64, handler: &mut impl FlowHandler) -> Option<i64> {
        let flow = &self.table.flows[index];
        if flow.dormant {
            let forget_at = flow.touched.saturating_add(DORMANT_NS);
            if forget_at <= now {
                self.table.remove(index);
                return None;
            }
            return Some(forget_at);
        }
        let mut next = i64::MAX;
        if !self.limits.never_expire {
            let idle_at = flow.touched.saturating_add(self.limits.idle);
            let active_until = flow.first.saturating_add(self.limits.active);
            let timeout = match () {
                () if idle_at <= now => Some(FlowEnd::Idle),
                () if active_until <= now => Some(FlowEnd::Active),
                () => None,
            };
            if let Some(end) = flow.ending.or(timeout) {
                self.end(index, end, now, handler);
                return None;
            }
            next = idle_at.min(active_until);
        }
        if let (Some(interval), true) = (self.limits.update, flow.dirty) {
            let due = flow.reported.saturating_add(interval);
            if due <= now {
                self.report(index, FlowPhase::Update, now, handler);
            } else {
                next = next.min(due);
            }
        }
        (next != i64::MAX).then_some(next)
    }

    /// Reports a flow for the last time. It is forgotten, except that an open TCP connection that was only silent,
    /// or lasted long, keeps its place, to tell later who opened it.
    #[cold]
    fn end(&mut self, index: u32, end: FlowEnd, time: i64, handler: &mut impl FlowHandler) {
        self.report(index, FlowPhase::End(end), time, handler);
        let open = matches!(end, FlowEnd::Idle | FlowEnd::Active) && self.table.flows[index].tcp.is_open();
        if open && !self.limits.never_expire {
            self.table.suspend(index);
            let forget_at = self.table.flows[index].touched.saturating_add(DORMANT_NS);
            self.table.set_timer(index, forget_at.max(time.saturating_add(1)));
        } else {
            self.table.remove(index);
        }
    }

    fn report(&mut self, index: u32, phase: FlowPhase, time: i64, handler: &mut impl FlowHandler) {
        let flow = &mut self.table.flows[index];
        flow.dirty = false;
        // Timers fire in the past when the clock leaps.
        flow.reported = if phase == FlowPhase::Update {
            time
        } else {
            self.clock.now()
        };
        let record = self.snapshot.take(&self.table, index, phase);
        record.sampling_rate = self.limits.sampling_rate;
        handler.flow(Timestamp::from_nanos(time), record);
    }
}

/// How long the direction of a silent TCP connection is remembered: an hour.
const DORMANT_NS: i64 = 3600 * 1_000_000_000;

/// Ports whose packets are read as DNS: DNS, multicast DNS, link-local name resolution.
const DNS_PORTS: [u16; 3] = [53, 5353, 5355];

/// A DNS message that begins here with its length (RFC 1035 section 4.2.2), as far as it was captured, and its
/// length. `None` if `left` bytes do not hold it, or cannot be the beginning of one.
fn dns_over_tcp(bytes: &[u8], left: u32) -> Option<(&[u8], u32)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from(u16::from_be_bytes(*length));
    let opcode = rest.get(2)? >> 3 & 0xf;
    if length < 12 || length + 2 > left || opcode > 6 {
        return None;
    }
    Some((rest.get(..length as usize).unwrap_or(rest), length))
}
