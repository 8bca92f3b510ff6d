//! Events of every kind, at random.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amoskys_core::Position;
use amoskys_core::event::*;
use amoskys_core::id::{Digest, Epoch, EventId, Name, Seq, StreamId};
use amoskys_core::ledger::{Account, DropReason, LedgerSnapshot};
use amoskys_core::time::Timestamp;
use proptest::array::{uniform4, uniform6, uniform16, uniform32};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// Numbers of all lengths as varints, often none.
fn n64() -> BoxedStrategy<u64> {
    prop_oneof![
        2 => Just(0),
        2 => 0..300u64,
        2 => (0..64u32, any::<u64>()).prop_map(|(shift, value)| value >> shift),
        1 => Just(u64::MAX),
    ]
    .boxed()
}

fn n32() -> BoxedStrategy<u32> {
    prop_oneof![1 => Just(0), 2 => 0..300u32, 2 => any::<u32>()].boxed()
}

fn n16() -> BoxedStrategy<u16> {
    prop_oneof![1 => Just(0), 3 => any::<u16>()].boxed()
}

fn n8() -> BoxedStrategy<u8> {
    prop_oneof![1 => Just(0), 3 => any::<u8>()].boxed()
}

/// Every bit pattern, also those of signalling NaNs and of negative zero.
fn float() -> BoxedStrategy<f64> {
    prop_oneof![
        2 => Just(0.0),
        1 => Just(-0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        4 => any::<u64>().prop_map(f64::from_bits),
        4 => -1e9..1e9,
    ]
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        2 => Just(String::new()),
        4 => "[a-z/._-]{1,20}",
        2 => any::<String>(),
        // Lengths around the point where a length takes a second byte.
        1 => (100..300usize).prop_map(|len| "x".repeat(len)),
    ]
    .boxed()
}

fn name() -> impl Strategy<Value = Name> {
    text().prop_map(Name::from)
}

fn time() -> BoxedStrategy<Timestamp> {
    prop_oneof![
        Just(0),
        any::<i64>(),
        1_600_000_000_000_000_000..1_900_000_000_000_000_000i64
    ]
    .prop_map(Timestamp::from_nanos)
    .boxed()
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![1 => Just(Ipv4Addr::UNSPECIFIED), 4 => uniform4(any::<u8>()).prop_map(Ipv4Addr::from)]
}

fn ip() -> BoxedStrategy<IpAddr> {
    prop_oneof![
        3 => v4().prop_map(IpAddr::V4),
        1 => Just(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        2 => uniform16(any::<u8>()).prop_map(IpAddr::from),
        // An IPv4-mapped address stays one of version 6.
        1 => v4().prop_map(|address| IpAddr::V6(address.to_ipv6_mapped())),
    ]
    .boxed()
}

fn mac() -> BoxedStrategy<MacAddr> {
    prop_oneof![1 => Just(MacAddr::default()), 3 => uniform6(any::<u8>()).prop_map(MacAddr)].boxed()
}

fn digest() -> BoxedStrategy<Digest> {
    prop_oneof![1 => Just(Digest::default()), 2 => uniform32(any::<u8>()).prop_map(Digest)].boxed()
}

fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(Class::ALL.to_vec())
}

fn stream() -> BoxedStrategy<StreamId> {
    (name(), n32(), prop_oneof![Just(0), any::<u128>()], class())
        .prop_map(|(agent, counter, random, class)| StreamId {
            agent,
            epoch: Epoch { counter, random },
            class,
        })
        .boxed()
}

fn technique() -> impl Strategy<Value = Option<Technique>> {
    option::of(text().prop_map(|id| Technique::new(&id)))
}

fn severity() -> impl Strategy<Value = Severity> {
    prop::sample::select(vec![
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ])
}

prop_compose! {
    fn key()(
        source in ip(), source_port in n16(), destination in ip(), destination_port in n16(), protocol in n8(),
    ) -> FlowKey {
        FlowKey { source, source_port, destination, destination_port, protocol }
    }
}

prop_compose! {
    fn summary()(count in n64(), sum in n64(), min in n64(), max in n64(), std_dev in float()) -> Summary {
        Summary { count, sum, min, max, std_dev }
    }
}

prop_compose! {
    fn direction()(
        (packets, data_packets, fragments, frame_bytes, header_bytes) in (n64(), n64(), n64(), n64(), n64()),
        (lengths, payload, gaps) in (summary().boxed(), summary().boxed(), summary().boxed()),
        (ttl_min, ttl_max, first_bytes) in (n8(), n8(), vec(any::<u8>(), 0..17)),
        (first, last, header_min) in (option::of(time()), option::of(time()), n32()),
        (bulk, entropy) in (bulk(), option::of(float())),
    ) -> FlowDirection {
        FlowDirection {
            packets, data_packets, fragments, frame_bytes, header_bytes, lengths, payload, gaps, ttl_min,
            ttl_max, first_bytes, first, last, header_min, bulk, entropy,
        }
    }
}

prop_compose! {
    fn bulk()((count, packets, bytes, duration_ns) in (n64(), n64(), n64(), n64())) -> BulkStats {
        BulkStats { count, packets, bytes, duration_ns }
    }
}

prop_compose! {
    fn tunnel()(
        kind in prop::sample::select(TunnelKind::ALL.to_vec()), id in option::of(n32()), source in ip(),
        destination in ip(),
    ) -> FlowTunnel {
        FlowTunnel { kind, id, source, destination }
    }
}

prop_compose! {
    fn tls()(
        (quic, version) in (any::<bool>(), n16()),
        (server_name, alpn, ja4) in (text(), text(), text()),
    ) -> TlsHello {
        TlsHello { quic, version, server_name, alpn, ja4 }
    }
}

prop_compose! {
    fn http()((method, host, user_agent) in (text(), text(), text())) -> HttpRequest {
        HttpRequest { method, host, user_agent }
    }
}

fn end() -> impl Strategy<Value = FlowEnd> {
    use FlowEnd::*;
    prop::sample::select(vec![Idle, Active, Finished, Reset, Evicted, SourceEnd, Replaced])
}

fn phase() -> impl Strategy<Value = FlowPhase> {
    prop_oneof![
        Just(FlowPhase::Start),
        Just(FlowPhase::Update),
        end().prop_map(FlowPhase::End)
    ]
}

fn tcp_state() -> impl Strategy<Value = TcpState> {
    use TcpState::*;
    let all = vec![
        Midstream,
        SynSent,
        SynReceived,
        Established,
        Closing,
        Closed,
        Reset,
        Refused,
    ];
    prop::sample::select(all)
}

prop_compose! {
    fn flags()(
        (fin, syn, rst, psh) in (n64(), n64(), n64(), n64()),
        (ack, urg, ece, cwr) in (n64(), n64(), n64(), n64()),
    ) -> TcpFlagCounts {
        TcpFlagCounts { fin, syn, rst, psh, ack, urg, ece, cwr }
    }
}

prop_compose! {
    fn tcp_direction()(
        flags in flags().boxed(),
        (initial_window, mss, window_scale) in (option::of(n16()), option::of(n16()), option::of(n8())),
        (retransmitted, out_of_order, zero_windows) in (n64(), n64(), n64()),
    ) -> TcpDirection {
        TcpDirection {
            flags, initial_window, mss, window_scale, retransmitted, out_of_order, zero_windows,
        }
    }
}

prop_compose! {
    fn tcp()(
        state in tcp_state(),
        (syn, syn_ack, ack) in (option::of(time()), option::of(time()), option::of(time())),
        (forward, backward) in (tcp_direction().boxed(), tcp_direction().boxed()),
    ) -> TcpStats {
        TcpStats { state, syn, syn_ack, ack, forward, backward }
    }
}

prop_compose! {
    fn icmp()(
        (first_type, first_code, echo_requests, echo_replies) in (n8(), n8(), n64(), n64()),
        (altered_replies, unsolicited_replies, unreachable) in (n64(), n64(), n64()),
        (time_exceeded, redirects, other) in (n64(), n64(), n64()),
    ) -> IcmpStats {
        IcmpStats {
            first_type, first_code, echo_requests, echo_replies, altered_replies, unsolicited_replies,
            unreachable, time_exceeded, redirects, other,
        }
    }
}

prop_compose! {
    fn dns_stats()(
        (queries, responses, nx_domain, errors, answers) in (n64(), n64(), n64(), n64(), n64()),
        (first_name, first_type) in (text(), n16()),
    ) -> DnsStats {
        DnsStats { queries, responses, nx_domain, errors, answers, first_name, first_type }
    }
}

prop_compose! {
    fn flow()(
        (flow, phase, key, first, last, interface) in (n64(), phase(), key().boxed(), time(), time(), n32()),
        (vlan, inner_vlan) in (option::of(n16()), option::of(n16())),
        (source_mac, destination_mac) in (option::of(mac()), option::of(mac())),
        (forward, backward) in (direction().boxed(), direction().boxed()),
        (gaps, active, idle) in (summary().boxed(), summary().boxed(), summary().boxed()),
        (tcp, icmp, dns) in (option::of(tcp().boxed()), option::of(icmp().boxed()), option::of(dns_stats().boxed())),
        samples in vec((any::<bool>(), n16(), n32()), 0..21),
        (subflows, sampling_rate, tunnel) in (n64(), n32(), option::of(tunnel().boxed())),
        (tls, http) in (option::of(tls().boxed()), option::of(http().boxed())),
    ) -> FlowRecord {
        let sequence = samples.into_iter();
        let sequence = sequence.map(|(backward, length, gap_us)| PacketSample { backward, length, gap_us });
        FlowRecord {
            flow, phase, key, first, last, interface, vlan, inner_vlan, source_mac, destination_mac, forward,
            backward, gaps, active, idle, tcp, icmp, dns, sequence: sequence.collect(), subflows,
            sampling_rate, tunnel, tls, http,
        }
    }
}

fn question() -> impl Strategy<Value = DnsQuestion> {
    (text(), n16(), n16()).prop_map(|(name, qtype, qclass)| DnsQuestion { name, qtype, qclass })
}

prop_compose! {
    fn dns()(
        (flow, key, id, response, opcode, rcode) in (n64(), key().boxed(), n16(), any::<bool>(), n8(), n8()),
        (authoritative, truncated, malformed) in (any::<bool>(), any::<bool>(), any::<bool>()),
        (answers, authorities, additionals) in (n16(), n16(), n16()),
        (answer_bytes, min_ttl, bytes) in (n32(), option::of(n32()), n32()),
        (questions, addresses) in (vec(question(), 0..4), vec(ip(), 0..4)),
    ) -> DnsRecord {
        DnsRecord {
            flow, key, id, response, opcode, rcode, authoritative, truncated, questions, answers, authorities,
            additionals, addresses, answer_bytes, min_ttl, bytes, malformed,
        }
    }
}

prop_compose! {
    fn arp()(
        operation in n16(),
        (sender_mac, sender_ip, target_mac, target_ip) in (mac(), v4(), mac(), v4()),
        (frame_source, frame_destination, vlan) in (mac(), mac(), option::of(n16())),
    ) -> ArpRecord {
        ArpRecord {
            operation: operation.into(), sender_mac, sender_ip, target_mac, target_ip, frame_source,
            frame_destination, vlan,
        }
    }
}

fn action() -> impl Strategy<Value = ProcessAction> {
    use ProcessAction::*;
    prop::sample::select(vec![Seen, Fork, Exec, Exit, Credentials])
}

prop_compose! {
    fn process()(
        (action, pid, start, parent_pid, parent_start) in (action(), n32(), time(), n32(), time()),
        (uid, gid, executable, arguments) in (n32(), n32(), text(), vec(text(), 0..5)),
        (working_directory, container) in (text(), text()),
        (exit_code, exit_signal) in (option::of(any::<i32>()), option::of(n32())),
        (command, interpreter, called_as, from_memory) in (text(), text(), text(), any::<bool>()),
        (credentials, previous) in (option::of(credentials()), option::of(credentials())),
        (namespaces, inner_pid, cgroup) in (option::of(namespaces()), n32(), n64()),
        (ancestors, usage, result) in (vec(ancestor(), 0..4), option::of(usage()), option::of(any::<i64>())),
    ) -> ProcessEvent {
        ProcessEvent {
            action, pid, start, parent_pid, parent_start, uid, gid, executable, arguments, working_directory,
            container, exit_code, exit_signal, command, interpreter, called_as, from_memory, credentials, previous,
            namespaces, inner_pid, cgroup, ancestors, usage, result,
        }
    }
}

prop_compose! {
    fn credentials()(users in any::<[u8; 6]>(), capabilities in [n64(), n64(), n64(), n64(), n64()]) -> Credentials {
        let [uid, effective_uid, saved_uid, gid, effective_gid, saved_gid] = users.map(u32::from);
        let [effective, permitted, inheritable, bounding, ambient] = capabilities;
        Credentials {
            uid, effective_uid, saved_uid, gid, effective_gid, saved_gid, effective, permitted, inheritable, bounding,
            ambient,
        }
    }
}

prop_compose! {
    fn namespaces()(numbers in [n32(), n32(), n32(), n32(), n32(), n32(), n32()]) -> Namespaces {
        let [mount, pid, network, uts, ipc, cgroup, user] = numbers;
        Namespaces { mount, pid, network, uts, ipc, cgroup, user }
    }
}

prop_compose! {
    fn usage()(numbers in [n64(), n64(), n64(), n64(), n64()]) -> ResourceUsage {
        let [user_ns, system_ns, minor_faults, major_faults, max_resident_bytes] = numbers;
        ResourceUsage { user_ns, system_ns, minor_faults, major_faults, max_resident_bytes }
    }
}

prop_compose! {
    fn ancestor()(pid in n32(), start in time(), executable in name()) -> Ancestor {
        Ancestor { pid, start, executable }
    }
}

prop_compose! {
    fn activity()(
        action in prop::sample::select(ActivityAction::ALL.to_vec()),
        via in prop::sample::select(vec![
            ActivityVia::Syscall,
            ActivityVia::IoUring,
            ActivityVia::Kernel,
            ActivityVia::Comparison,
        ]),
        (pid, start, tid, uid, gid) in (n32(), time(), n32(), n32(), n32()),
        (command, executable, container, ancestors) in (text(), text(), text(), vec(ancestor(), 0..4)),
        (result, path, other_path, name) in (option::of(any::<i64>()), text(), text(), text()),
        (flags, number, amount, protocol) in (n64(), n64(), n64(), n8()),
        (remote_address, remote_port) in (option::of(ip()), n16()),
        (local_address, local_port) in (option::of(ip()), n16()),
        (target_pid, target_start, target_uid) in (n32(), time(), option::of(n32())),
    ) -> ActivityEvent {
        ActivityEvent {
            action, via, pid, start, tid, uid, gid, command, executable, container, ancestors, result, path,
            other_path, name, flags, number, amount, remote_address, remote_port, local_address, local_port,
            protocol, target_pid, target_start, target_uid,
        }
    }
}

prop_compose! {
    fn histogram()(
        (pid, start, command, architecture, period_ns) in (n32(), time(), text(), text(), n64()),
        (counts, others) in (vec((n32(), n64()), 0..5), n64()),
    ) -> SyscallHistogram {
        let counts = counts.into_iter().map(|(number, count)| CallCount { number, count }).collect();
        SyscallHistogram { pid, start, command, architecture, period_ns, counts, others }
    }
}

prop_compose! {
    fn syscall()(
        (pid, start, tid, command, architecture) in (n32(), time(), n32(), text(), text()),
        (numbers, return_value) in (vec(n32(), 0..40), option::of(any::<i64>())),
        (first, first_time) in (n64(), time()),
    ) -> SyscallEvent {
        SyscallEvent { pid, start, tid, command, architecture, numbers, return_value, first, first_time }
    }
}

prop_compose! {
    fn metric()(
        (name, value, unit) in (text(), float(), text()),
        kind in prop::sample::select(vec![MetricKind::Gauge, MetricKind::Counter]),
        labels in vec((text(), text()), 0..4),
    ) -> Metric {
        Metric { name, kind, value, unit, labels }
    }
}

fn level() -> impl Strategy<Value = LogLevel> {
    use LogLevel::*;
    prop::sample::select(vec![
        Emergency, Alert, Critical, Error, Warning, Notice, Info, Debug,
    ])
}

prop_compose! {
    fn log()(
        (level, facility, program, pid, message) in (level(), text(), text(), n32(), text()),
    ) -> LogRecord {
        LogRecord { level, facility, program, pid, message }
    }
}

prop_compose! {
    fn alarm()(
        state in prop::sample::select(vec![AlarmState::Raised, AlarmState::Cleared]),
        (code, severity, message) in (text(), severity(), text()),
    ) -> Alarm {
        Alarm { code, state, severity, message }
    }
}

fn device_state() -> impl Strategy<Value = DeviceState> {
    use DeviceState::*;
    prop::sample::select(vec![Unknown, Up, Degraded, Down])
}

prop_compose! {
    fn device_status()(
        (state, address, model, firmware) in (device_state(), text(), text(), text()),
        (uptime_seconds, detail) in (option::of(n64()), text()),
    ) -> DeviceStatus {
        DeviceStatus { state, address, model, firmware, uptime_seconds, detail }
    }
}

prop_compose! {
    fn finding()(
        (tool, rule, title, severity) in (text(), text(), text(), severity()),
        (technique, subject, detail) in (technique(), text(), text()),
    ) -> Finding {
        Finding { tool, rule, title, severity, technique, subject, detail }
    }
}

fn outcome() -> impl Strategy<Value = AuditOutcome> {
    prop::sample::select(vec![
        AuditOutcome::Success,
        AuditOutcome::Denied,
        AuditOutcome::Failure,
    ])
}

prop_compose! {
    fn audit()(
        (actor, action, object, outcome, reason) in (text(), text(), text(), outcome(), text()),
    ) -> AuditEntry {
        AuditEntry { actor, action, object, outcome, reason }
    }
}

prop_compose! {
    fn loss()((count, unit, reason, stage) in (n64(), text(), text(), text())) -> LossReport {
        LossReport { count, unit, reason, stage }
    }
}

fn gap_reason() -> impl Strategy<Value = GapReason> {
    use GapReason::*;
    prop::sample::select(vec![Shed, Quarantined, Expired, Erased, LogLost])
}

prop_compose! {
    fn gap()(
        (stream, first, last) in (stream(), n64(), n64()),
        (before, end, reason) in (digest(), digest(), gap_reason()),
    ) -> Gap {
        Gap { stream, first: Seq(first), last: Seq(last), before, end, reason }
    }
}

fn entity() -> BoxedStrategy<Entity> {
    prop_oneof![
        ip().prop_map(Entity::Host),
        (ip(), ip()).prop_map(|(a, b)| Entity::Pair(a, b)),
        (ip(), n8(), n16()).prop_map(|(host, protocol, port)| Entity::Service(host, protocol, port)),
        (ip(), n8(), n16()).prop_map(|(host, protocol, port)| Entity::Client(host, protocol, port)),
        name().prop_map(Entity::Named),
    ]
    .boxed()
}

fn layer() -> impl Strategy<Value = Layer> {
    use Layer::*;
    prop::sample::select(vec![Geometric, Temporal, Behavioral, Fused, Rule])
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let parts = (name(), float(), float());
    parts.prop_map(|(feature, value, contribution)| Evidence {
        feature,
        value,
        contribution,
    })
}

prop_compose! {
    fn verdict()(
        (id, revision, time, updated, layer) in (uniform16(any::<u8>()), n32(), time(), time(), layer()),
        (entity, peers, technique, title) in (entity(), vec(entity(), 0..4), technique(), text()),
        (score, evidence) in (float(), vec(evidence(), 0..4)),
        interval in option::of((float(), float())),
        (name, version, digest, schema) in (name(), name(), digest(), digest()),
        (stream, first, last) in (stream(), n64(), n64()),
    ) -> Verdict {
        Verdict {
            id: VerdictId(id), revision, time, updated, layer, entity, peers, technique, title, score,
            interval: interval.map(|(low, high)| ScoreInterval { low, high }), evidence, model: ModelRef { name, version, digest }, schema,
            events: EventRange { stream, first: Seq(first), last: Seq(last) },
        }
    }
}

prop_compose! {
    fn protected()(key in any::<u128>(), known in any::<bool>(), sealed in vec(any::<u8>(), 0..80)) -> Protected {
        let scheme = if known { ProtectionScheme::HmacSha256Aes256Gcm } else { ProtectionScheme::Unknown };
        Protected { key, scheme, sealed }
    }
}

fn payload() -> impl Strategy<Value = Payload> {
    let punctuation = (n64(), any::<bool>())
        .prop_map(|(lateness_ns, end)| Payload::Punctuation(Punctuation { lateness_ns, end }));
    prop_oneof![
        flow().prop_map(|flow| Payload::Flow(Box::new(flow))).boxed(),
        dns().prop_map(|dns| Payload::Dns(Box::new(dns))).boxed(),
        arp().prop_map(|arp| Payload::Arp(Box::new(arp))).boxed(),
        process()
            .prop_map(|process| Payload::Process(Box::new(process)))
            .boxed(),
        syscall()
            .prop_map(|call| Payload::Syscall(Box::new(call)))
            .boxed(),
        activity()
            .prop_map(|activity| Payload::Activity(Box::new(activity)))
            .boxed(),
        histogram()
            .prop_map(|histogram| Payload::SyscallHistogram(Box::new(histogram)))
            .boxed(),
        metric()
            .prop_map(|metric| Payload::Metric(Box::new(metric)))
            .boxed(),
        log().prop_map(|log| Payload::Log(Box::new(log))).boxed(),
        alarm().prop_map(|alarm| Payload::Alarm(Box::new(alarm))).boxed(),
        device_status()
            .prop_map(|status| Payload::DeviceStatus(Box::new(status)))
            .boxed(),
        finding()
            .prop_map(|finding| Payload::Finding(Box::new(finding)))
            .boxed(),
        audit().prop_map(|entry| Payload::Audit(Box::new(entry))).boxed(),
        loss().prop_map(|loss| Payload::Loss(Box::new(loss))).boxed(),
        gap().prop_map(|gap| Payload::Gap(Box::new(gap))).boxed(),
        punctuation,
        verdict()
            .prop_map(|verdict| Payload::Verdict(Box::new(verdict)))
            .boxed(),
        protected()
            .prop_map(|protected| Payload::Protected(Box::new(protected)))
            .boxed(),
    ]
}

fn value() -> BoxedStrategy<Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        prop_oneof![Just(0), any::<i64>()].prop_map(Value::Int),
        n64().prop_map(Value::Uint),
        float().prop_map(Value::Float),
        text().prop_map(Value::Text),
        vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
    ]
    .boxed()
}

fn attributes() -> BoxedStrategy<BTreeMap<String, Value>> {
    prop_oneof![
        1 => Just(BTreeMap::new()),
        2 => btree_map(text(), value(), 0..4),
    ]
    .boxed()
}

prop_compose! {
    /// An event of any kind.
    pub(crate) fn event()(
        (origin, ordinal, time) in (prop_oneof![Just(0), any::<u64>()], n64(), time()),
        (device, source, class) in (name(), name(), class()),
        (payload, attributes) in (payload(), attributes()),
    ) -> Event {
        let id = EventId { origin, ordinal };
        let unknown = UnknownFields::default();
        Event { id, time, device, source, class, payload, attributes, unknown }
    }
}

prop_compose! {
    fn account()(
        (received, delivered, pending) in (n64(), n64(), n64()),
        dropped in btree_map(text().prop_map(DropReason::new), n64(), 0..3),
    ) -> Account {
        Account { received, delivered, pending, dropped }
    }
}

/// A ledger.
pub(crate) fn ledger() -> impl Strategy<Value = LedgerSnapshot> {
    let position = prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Position(bytes.into()));
    (
        btree_map(text(), account(), 0..4),
        btree_map(text(), position, 0..3),
    )
        .prop_map(|(accounts, positions)| LedgerSnapshot { accounts, positions })
}
