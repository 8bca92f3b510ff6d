//! Traffic written by hand: flow, DNS and ARP events as a sensor would record them.
#![allow(dead_code, reason = "each test uses a part")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use amoskys_analysis::{Detection, DetectionConfig};
use amoskys_core::event::{
    ArpOperation, ArpRecord, DnsQuestion, DnsRecord, FlowDirection, FlowEnd, FlowKey, FlowPhase, FlowRecord,
    IcmpStats, MacAddr, PacketSample, Punctuation, Summary, TcpDirection, TcpFlagCounts, TcpState, TcpStats,
    Verdict,
};
use amoskys_core::{
    Analyzer, Class, Epoch, Event, EventId, Observation, Payload, Recorded, Seq, StreamId, Timestamp,
};

/// When the traffic begins.
pub(crate) const BEGIN: i64 = 1_700_000_000;

/// An address in 10.0.0.0/8, of the site.
pub(crate) fn inside(host: u16) -> IpAddr {
    let [high, low] = host.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

/// An address of the documentation block 198.51.100.0/24, outside.
pub(crate) fn outside(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, host))
}

/// How a TCP connection goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// Payload bytes sent and received, and seconds it lasts.
    Data(u64, u64, f64),
    /// The server answers with RST.
    Refused,
    /// Nothing comes back.
    Silent,
    /// SYN+ACK, then RST by the client.
    HalfOpen,
    /// Opened and closed without data.
    Empty,
}

/// Events in the making. Times are seconds from the beginning.
#[derive(Default)]
pub(crate) struct Traffic {
    events: Vec<(i64, Payload)>,
    flows: u64,
}

impl Traffic {
    pub(crate) fn tcp(&mut self, at: f64, client: IpAddr, server: IpAddr, port: u16, ending: Ending) {
        let flow = self.number();
        let source_port = 1024 + u16::try_from(flow % 60_000).unwrap();
        let key = FlowKey {
            source: client,
            source_port,
            destination: server,
            destination_port: port,
            protocol: 6,
        };
        let first = time(at);
        let mut record = FlowRecord {
            flow,
            key,
            first,
            last: first,
            ..FlowRecord::default()
        };
        record.forward = packets(1, 0);
        let mut tcp = TcpStats {
            state: TcpState::SynSent,
            syn: Some(first),
            ..TcpStats::default()
        };
        tcp.forward = flags(TcpFlagCounts {
            syn: 1,
            ..TcpFlagCounts::default()
        });
        record.tcp = Some(tcp.clone());
        self.flow(at, record.clone());

        let (state, lasts, end, wait) = match ending {
            Ending::Data(_, _, lasts) => (TcpState::Closed, lasts, FlowEnd::Finished, 1.0),
            Ending::Refused => (TcpState::Refused, 0.001, FlowEnd::Reset, 1.0),
            Ending::Silent => (TcpState::SynSent, 0.0, FlowEnd::Idle, 60.0),
            Ending::HalfOpen => (TcpState::Reset, 0.001, FlowEnd::Reset, 1.0),
            Ending::Empty => (TcpState::Closed, 0.01, FlowEnd::Finished, 1.0),
        };
        tcp.state = state;
        if !matches!(ending, Ending::Silent) {
            record.backward = packets(1, 0);
        }
        if matches!(ending, Ending::Data(..) | Ending::HalfOpen | Ending::Empty) {
            tcp.syn_ack = Some(time(at + 0.0005));
        }
        if matches!(ending, Ending::Data(..) | Ending::Empty) {
            tcp.ack = Some(time(at + 0.001));
            tcp.forward.flags.ack = 3;
        }
        if let Ending::Data(sent, received, lasts) = ending {
            record.forward = packets(3 + sent / 1400, sent);
            record.backward = packets(3 + received / 1400, received);
            // The meter tells of a long connection while it lasts.
            let mut update = record.clone();
            update.phase = FlowPhase::Update;
            update.tcp = Some(TcpStats {
                state: TcpState::Established,
                ..tcp.clone()
            });
            for step in 1..=(lasts / 5.0) as u32 {
                update.last = time(at + 5.0 * f64::from(step));
                self.flow(at + 5.0 * f64::from(step), update.clone());
            }
        }
        record.tcp = Some(tcp);
        record.last = time(at + lasts);
        record.phase = FlowPhase::End(end);
        self.flow(at + lasts + wait, record);
    }

    /// A connection by what is said in it, as payload lengths: of the server if negative. `greeting` are the server's first
    /// bytes. The sequence shows twenty packets, of which each second message of a side is acknowledged by an empty one.
    pub(crate) fn talk(
        &mut self,
        at: f64,
        lasts: f64,
        (client, server, port): (IpAddr, IpAddr, u16),
        greeting: &[u8],
        said: &[i32],
    ) {
        let total = |sign: i32| {
            said.iter()
                .filter(|length| **length * sign > 0)
                .map(|length| u64::from(length.unsigned_abs()))
                .sum()
        };
        self.tcp(at, client, server, port, Ending::Data(total(1), total(-1), lasts));
        let Some((_, Payload::Flow(flow))) = self.events.last_mut() else {
            unreachable!()
        };
        flow.backward.first_bytes = greeting.to_vec();
        let sample = |backward, payload: u16| PacketSample {
            backward,
            length: 52 + payload,
            gap_us: 10_000,
        };
        let mut packets = vec![sample(false, 8), sample(true, 8), sample(false, 0)];
        for (at, length) in said.iter().enumerate() {
            packets.push(sample(*length < 0, u16::try_from(length.unsigned_abs()).unwrap()));
            if at % 4 == 3 {
                packets.push(sample(*length > 0, 0));
            }
        }
        for (backward, direction) in [(false, &mut flow.forward), (true, &mut flow.backward)] {
            let of: Vec<u64> = packets
                .iter()
                .skip(3)
                .filter(|p| p.backward == backward)
                .map(|p| u64::from(p.length - 52))
                .collect();
            let all = 2 - u64::from(backward) + of.len() as u64;
            let mean = of.iter().sum::<u64>() as f64 / all as f64;
            let squares: f64 = of.iter().map(|length| (*length as f64).powi(2)).sum();
            direction.packets = all;
            direction.data_packets = of.iter().filter(|length| **length > 0).count() as u64;
            direction.lengths.min = 52;
            direction.payload = Summary {
                count: all,
                sum: of.iter().sum(),
                min: 0,
                max: of.iter().copied().max().unwrap_or(0),
                std_dev: ((squares - all as f64 * mean * mean) / (all as f64 - 1.0)).sqrt(),
            };
        }
        packets.truncate(20);
        flow.sequence = packets;
    }

    /// An open connection in which messages follow each other after so many seconds: payload lengths, of the server if negative. `begins` are the
    /// first bytes of client and server. The meter tells of each message.
    pub(crate) fn messages(
        &mut self,
        at: f64,
        (client, server, port): (IpAddr, IpAddr, u16),
        begins: [&[u8]; 2],
        said: &[(f64, i32)],
    ) {
        let before = self.events.len();
        self.tcp(at, client, server, port, Ending::Data(0, 0, 0.001));
        self.events.truncate(before + 1);
        let Some((_, Payload::Flow(start))) = self.events.last() else {
            unreachable!()
        };
        let mut record = start.clone();
        let first = record.first;
        record.phase = FlowPhase::Update;
        record.tcp = record.tcp.map(|tcp| TcpStats {
            state: TcpState::Established,
            syn_ack: Some(first),
            ack: Some(first),
            ..tcp
        });
        (record.forward, record.backward) = (packets(2, 0), packets(1, 0));
        for direction in [&mut record.forward, &mut record.backward] {
            direction.lengths.min = 52;
        }
        let sample = |backward, payload: u16, gap: f64| PacketSample {
            backward,
            length: 52 + payload,
            gap_us: (gap * 1e6) as u32,
        };
        record.sequence = vec![
            sample(false, 8, 0.0),
            sample(true, 8, 0.01),
            sample(false, 0, 0.01),
        ];
        (record.forward.first_bytes, record.backward.first_bytes) = Default::default();
        record.subflows = 1;
        let mut now = at;
        for (pause, length) in said {
            now += pause;
            let payload = u16::try_from(length.unsigned_abs()).unwrap();
            let backward = *length < 0;
            let (direction, begin) = match backward {
                false => (&mut record.forward, begins[0]),
                true => (&mut record.backward, begins[1]),
            };
            direction.first_bytes = begin.to_vec();
            direction.packets += 1;
            direction.data_packets += 1;
            direction.payload.count = direction.packets;
            direction.payload.sum += u64::from(payload);
            record.subflows += u64::from(*pause > 1.0);
            if record.sequence.len() < 20 {
                record.sequence.push(sample(backward, payload, *pause));
            }
            record.last = time(now);
            self.flow(now, *record.clone());
        }
    }

    /// Requests to an agent from one port, at these times and of these lengths, answered or not.
    pub(crate) fn requests(
        &mut self,
        client: IpAddr,
        server: IpAddr,
        port: u16,
        said: &[(f64, u64)],
        answered: bool,
    ) {
        let Some((begin, _)) = said.first() else { return };
        self.udp(*begin, client, server, port, false, 64);
        self.events.pop();
        let Some((_, Payload::Flow(start))) = self.events.pop() else {
            unreachable!()
        };
        let mut record = start;
        for (count, (at, _)) in said.iter().enumerate() {
            let sent: Vec<u64> = said[..=count].iter().map(|(_, length)| *length).collect();
            let (sum, number) = (sent.iter().sum::<u64>(), sent.len() as u64);
            record.forward = packets(number, sum);
            let mean = sum as f64 / number as f64;
            let squares: f64 = sent.iter().map(|length| (*length as f64 - mean).powi(2)).sum();
            record.forward.payload.std_dev = (squares / (number as f64 - 1.0).max(1.0)).sqrt();
            if answered {
                record.backward = packets(number, 60 * number);
            }
            record.last = time(*at);
            self.flow(*at, *record.clone());
            record.phase = FlowPhase::Update;
        }
    }

    /// Sets the first bytes that client and server of the latest flow sent.
    pub(crate) fn begins(&mut self, client: &[u8], server: &[u8]) {
        let Some((_, Payload::Flow(flow))) = self.events.last_mut() else {
            unreachable!()
        };
        flow.forward.first_bytes = client.to_vec();
        flow.backward.first_bytes = server.to_vec();
    }

    /// A TCP flow that begins in the middle: packets with these flags, and as many answers with those.
    pub(crate) fn stray(
        &mut self,
        at: f64,
        (client, source_port): (IpAddr, u16),
        (server, port): (IpAddr, u16),
        sent: TcpFlagCounts,
        back: Option<TcpFlagCounts>,
    ) {
        let first = time(at);
        let answer = sent.syn > 0 && sent.ack > 0;
        let mut tcp = TcpStats {
            state: if answer {
                TcpState::SynReceived
            } else {
                TcpState::Midstream
            },
            syn_ack: answer.then_some(first),
            ..TcpStats::default()
        };
        tcp.forward = flags(sent);
        let mut record = FlowRecord {
            flow: self.number(),
            key: FlowKey {
                source: client,
                source_port,
                destination: server,
                destination_port: port,
                protocol: 6,
            },
            first,
            last: first,
            forward: packets(1, 0),
            ..FlowRecord::default()
        };
        record.tcp = Some(tcp.clone());
        self.flow(at, record.clone());
        let lasts = if back.is_some() { 0.001 } else { 30.0 };
        if let Some(back) = back {
            record.backward = packets(1, 0);
            tcp.backward = flags(back);
            tcp.state = TcpState::Reset;
        }
        record.tcp = Some(tcp);
        record.phase = FlowPhase::End(if lasts < 1.0 {
            FlowEnd::Reset
        } else {
            FlowEnd::Idle
        });
        self.flow(at + lasts, record);
    }

    pub(crate) fn udp(
        &mut self,
        at: f64,
        client: IpAddr,
        server: IpAddr,
        port: u16,
        answered: bool,
        ttl: u8,
    ) {
        let flow = self.number();
        let key = FlowKey {
            source: client,
            source_port: 30_000 + u16::try_from(flow % 30_000).unwrap(),
            destination: server,
            destination_port: port,
            protocol: 17,
        };
        let mut record = FlowRecord {
            flow,
            key,
            first: time(at),
            last: time(at),
            ..FlowRecord::default()
        };
        record.forward = packets(1, 48);
        (record.forward.ttl_min, record.forward.ttl_max) = (ttl, ttl);
        self.flow(at, record.clone());
        if answered {
            record.backward = packets(1, 48);
        }
        record.phase = FlowPhase::End(FlowEnd::Idle);
        self.flow(at + 60.0, record);
    }

    /// One echo request, answered or not.
    pub(crate) fn ping(&mut self, at: f64, client: IpAddr, server: IpAddr, answered: bool) {
        self.echoes(at, client, server, 1, 0, 0.0);
        let Some((_, Payload::Flow(mut last))) = self.events.pop() else {
            unreachable!()
        };
        if answered {
            // The meter tells of the answer five seconds after the flow began.
            let mut update = last.clone();
            update.phase = FlowPhase::Update;
            self.flow(at + 5.0, *update);
        } else {
            last.backward = FlowDirection::default();
            last.icmp.as_mut().unwrap().echo_replies = 0;
        }
        self.flow(at + 60.0, *last);
    }

    /// Echo requests and replies of one flow; `altered` replies carry other data, in sizes that differ by `spread`.
    pub(crate) fn echoes(
        &mut self,
        at: f64,
        client: IpAddr,
        server: IpAddr,
        count: u64,
        altered: u64,
        spread: f64,
    ) {
        let flow = self.number();
        let key = FlowKey {
            source: client,
            destination: server,
            protocol: 1,
            ..FlowKey::default()
        };
        let mut record = FlowRecord {
            flow,
            key,
            first: time(at),
            last: time(at),
            ..FlowRecord::default()
        };
        let icmp = IcmpStats {
            first_type: 8,
            echo_requests: 1,
            ..IcmpStats::default()
        };
        record.icmp = Some(icmp.clone());
        record.forward = packets(1, 56);
        self.flow(at, record.clone());
        record.icmp = Some(IcmpStats {
            echo_requests: count,
            echo_replies: count,
            altered_replies: altered,
            ..icmp
        });
        for direction in [&mut record.forward, &mut record.backward] {
            *direction = packets(count, 56 * count);
            direction.payload.std_dev = spread;
        }
        record.phase = FlowPhase::End(FlowEnd::Idle);
        self.flow(at + 60.0, record);
    }

    /// Echo requests over so many seconds, all answered with their data.
    pub(crate) fn pings(&mut self, at: f64, client: IpAddr, server: IpAddr, count: u64, seconds: f64) {
        self.echoes(at, client, server, count, 0, 0.0);
        // The meter tells of a flow that goes on every five seconds.
        let Some((_, Payload::Flow(last))) = self.events.pop() else {
            unreachable!()
        };
        let steps = (seconds / 5.0).ceil().max(1.0) as u64;
        for step in 1..=steps {
            let mut update = last.clone();
            let icmp = update.icmp.as_mut().unwrap();
            (icmp.echo_requests, icmp.echo_replies) = (count * step / steps, count * step / steps);
            update.phase = FlowPhase::Update;
            self.flow(at + 5.0 * step as f64, *update);
        }
        self.flow(at + seconds + 60.0, *last);
    }

    /// A question, and its answer a moment later.
    pub(crate) fn dns(
        &mut self,
        at: f64,
        client: IpAddr,
        server: IpAddr,
        name: &str,
        qtype: u16,
        answer: DnsRecord,
    ) {
        let key = FlowKey {
            source: client,
            source_port: 40_000,
            destination: server,
            destination_port: 53,
            protocol: 17,
        };
        let questions = vec![DnsQuestion {
            name: name.to_owned(),
            qtype,
            qclass: 1,
        }];
        let query = DnsRecord {
            key,
            questions,
            ..DnsRecord::default()
        };
        self.push(at, Payload::Dns(Box::new(query.clone())));
        let response = DnsRecord {
            key: key.reversed(),
            response: true,
            questions: query.questions,
            ..answer
        };
        self.push(at + 0.01, Payload::Dns(Box::new(response)));
    }

    pub(crate) fn arp(&mut self, at: f64, operation: ArpOperation, mac: u8, ip: u8, target: u8) {
        let record = ArpRecord {
            operation,
            sender_mac: station(mac),
            sender_ip: Ipv4Addr::new(10, 0, 0, ip),
            target_ip: Ipv4Addr::new(10, 0, 0, target),
            frame_source: station(mac),
            ..ArpRecord::default()
        };
        self.push(at, Payload::Arp(Box::new(record)));
    }

    /// A TLS connection by the payload sizes of its first flights, client first.
    pub(crate) fn tls(
        &mut self,
        at: f64,
        client: IpAddr,
        server: IpAddr,
        hello: u16,
        flights: &[u64],
        reset: bool,
    ) {
        let total = |which: usize| flights.iter().skip(which).step_by(2).sum::<u64>();
        self.tcp(at, client, server, 443, Ending::Data(total(0), total(1), 0.5));
        let Some((_, Payload::Flow(flow))) = self.events.last_mut() else {
            unreachable!()
        };
        for direction in [&mut flow.forward, &mut flow.backward] {
            direction.lengths.min = 52;
        }
        flow.forward.first_bytes = vec![22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];
        flow.backward.first_bytes = [&[22, 3, 3, 0, 100, 2, 0][..], &hello.to_be_bytes(), &[3, 3]].concat();
        let sample = |backward, payload: u64| PacketSample {
            backward,
            length: 52 + u16::try_from(payload).unwrap(),
            gap_us: 10,
        };
        // Handshake of TCP, then each flight in packets of at most 1448 bytes.
        flow.sequence = vec![sample(false, 8), sample(true, 8), sample(false, 0)];
        for (at, flight) in flights.iter().enumerate() {
            let mut left = *flight;
            while left > 0 && flow.sequence.len() < 20 {
                flow.sequence.push(sample(at % 2 == 1, left.min(1448)));
                left -= left.min(1448);
            }
        }
        if reset {
            flow.phase = FlowPhase::End(FlowEnd::Reset);
            flow.tcp.as_mut().unwrap().forward.flags.rst = 1;
        }
    }

    /// Sets the hardware address that the latest flow's first packet was sent to.
    pub(crate) fn via(&mut self, mac: u8) {
        let latest = self.flows - 1;
        for (_, payload) in &mut self.events {
            if let Payload::Flow(flow) = payload
                && flow.flow == latest
            {
                flow.destination_mac = Some(station(mac));
            }
        }
    }

    pub(crate) fn flow(&mut self, at: f64, record: FlowRecord) {
        self.push(at, Payload::Flow(Box::new(record)));
    }

    fn push(&mut self, at: f64, payload: Payload) {
        self.events.push((time(at).nanos(), payload));
    }

    fn number(&mut self) -> u64 {
        self.flows += 1;
        self.flows - 1
    }

    /// The events in order of time, with the sensor's clock once a second and at the end.
    pub(crate) fn record(mut self) -> Vec<Recorded> {
        let last = self
            .events
            .iter()
            .map(|(at, _)| *at)
            .max()
            .unwrap_or(BEGIN * 1_000_000_000);
        for second in BEGIN..=last / 1_000_000_000 {
            self.events.push((
                second * 1_000_000_000,
                Payload::Punctuation(Punctuation::default()),
            ));
        }
        self.events.sort_by_key(|(at, _)| *at);
        self.events.push((
            last,
            Payload::Punctuation(Punctuation {
                end: true,
                ..Punctuation::default()
            }),
        ));
        let stream = StreamId {
            agent: "sensor".into(),
            epoch: Epoch::default(),
            class: Class::Telemetry,
        };
        let stream = Arc::new(stream);
        let numbered = (0_u64..).zip(self.events);
        let record = |(ordinal, (at, payload))| Recorded {
            timeline: 0,
            stream: stream.clone(),
            seq: Seq(ordinal),
            event: Event {
                id: EventId { origin: 1, ordinal },
                time: Timestamp::from_nanos(at),
                payload,
                ..Event::default()
            },
        };
        numbered.map(record).collect()
    }
}

/// The latest revision of each alert, in order of time.
pub(crate) fn alerts(traffic: Traffic) -> Vec<Verdict> {
    let mut detection = Detection::new(DetectionConfig::default(), Vec::new()).unwrap();
    alerts_of(&mut detection, &traffic.record())
}

/// The latest revision of each alert of this detection.
pub(crate) fn alerts_of(detection: &mut Detection, events: &[Recorded]) -> Vec<Verdict> {
    let mut latest: Vec<Verdict> = Vec::new();
    for verdict in verdicts(detection, events) {
        match latest.iter_mut().find(|known| known.id == verdict.id) {
            Some(known) => *known = verdict,
            None => latest.push(verdict),
        }
    }
    latest.retain(Verdict::is_alert);
    latest
}

/// All verdicts, each revision.
pub(crate) fn verdicts(detection: &mut Detection, events: &[Recorded]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for event in events {
        detection
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    }
    verdicts
}

/// Technique and accused address of each, for comparisons.
pub(crate) fn summary(verdicts: &[Verdict]) -> Vec<(String, IpAddr)> {
    let short = |v: &Verdict| {
        (
            v.technique.as_ref().unwrap().to_string(),
            v.entity.host().unwrap(),
        )
    };
    verdicts.iter().map(short).collect()
}

pub(crate) fn time(at: f64) -> Timestamp {
    Timestamp::from_secs(BEGIN).plus(Duration::from_secs_f64(at))
}

fn station(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

fn packets(count: u64, payload: u64) -> FlowDirection {
    let summary = |sum| Summary {
        count,
        sum,
        min: 0,
        max: sum,
        std_dev: 0.0,
    };
    FlowDirection {
        packets: count,
        data_packets: u64::from(payload > 0),
        lengths: Summary {
            min: 40,
            ..summary(payload + 40 * count)
        },
        payload: summary(payload),
        ..FlowDirection::default()
    }
}

fn flags(flags: TcpFlagCounts) -> TcpDirection {
    TcpDirection {
        flags,
        ..TcpDirection::default()
    }
}
