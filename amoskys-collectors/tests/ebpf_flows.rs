//! The flow meter in the kernel, on a pair of virtual interfaces in network namespaces, beside the one in user space. Needs
//! root and the `ip` command; without, the tests say so and pass, unless `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(all(feature = "ebpf", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod ebpf_common;
#[path = "ebpf_flows/frames.rs"]
mod frames;
#[path = "common/pair.rs"]
mod pair;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use amoskys_collectors::capture::LiveConfig;
use amoskys_collectors::ebpf::EbpfError;
use amoskys_collectors::ebpf::flows::{
    FlowHook, KernelFlowCollector, KernelFlowConfig, KernelFlowStats, KernelSkip,
};
use amoskys_collectors::flow::{FlowCollector, TunnelMode};
use amoskys_core::event::{
    ArpRecord, DnsRecord, FlowDirection, FlowEnd, FlowPhase, FlowRecord, LossReport, Payload, TcpDirection,
    TunnelKind,
};
use amoskys_core::{Collector, Shutdown, Tally};
use ebpf_common::{skip, turn};
use frames::{datagram, frames_of, lab, list, mixed, write_frames};
use pair::Pair;

/// `None`, having said so, where none can be made.
fn pair() -> Option<Pair> {
    let pair = Pair::new();
    if pair.is_none() {
        skip("virtual interfaces cannot be made (needs root and the ip command)");
    }
    pair
}

/// Sends frames from the far end, as they are. Python has the sockets for it.
fn send(pair: &Pair, frames: &Path) {
    let script = "
import socket, struct, sys, time
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(('inside', 0))
bytes = open(sys.argv[1], 'rb').read()
at = count = 0
while at < len(bytes):
    length, = struct.unpack_from('=I', bytes, at)
    link.send(bytes[at + 4:at + 4 + length])
    at += 4 + length
    count += 1
    if count % 100 == 0: time.sleep(0.0005)
";
    let sent = pair.inside("python3").args(["-c", script]).arg(frames).status();
    assert!(sent.unwrap().success());
}

/// What a collector gave until its end.
#[derive(Default)]
struct Gathered {
    flows: Vec<FlowRecord>,
    dns: Vec<DnsRecord>,
    arp: Vec<ArpRecord>,
    losses: Vec<LossReport>,
    tally: Tally,
    ended: bool,
}

/// Takes what a collector gives, on a thread.
fn gather<C>(mut collector: C) -> JoinHandle<Gathered>
where
    C: Collector + 'static,
{
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut gathered = Gathered::default();
        while let Some(batch) = runtime.block_on(collector.next_batch()).unwrap() {
            gathered.tally.add(&batch.tally);
            for event in batch.events {
                match event.payload {
                    Payload::Flow(flow) => gathered.flows.push(*flow),
                    Payload::Dns(message) => gathered.dns.push(*message),
                    Payload::Arp(message) => gathered.arp.push(*message),
                    Payload::Loss(loss) => gathered.losses.push(*loss),
                    Payload::Punctuation(punctuation) => gathered.ended |= punctuation.end,
                    _ => {}
                }
            }
        }
        gathered
    })
}

/// `None`, having said so, where this process may not load programs.
fn open(config: KernelFlowConfig) -> Option<KernelFlowCollector> {
    match KernelFlowCollector::open(config) {
        Ok(collector) => Some(collector),
        Err(error @ (EbpfError::Privileges { .. } | EbpfError::Architecture(_))) => {
            skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Meters what is sent over the pair, in the kernel and in user space at once.
fn both(
    pair: &Pair,
    config: &KernelFlowConfig,
    frames: &Path,
    count: u64,
) -> Option<(Gathered, KernelFlowStats, Gathered)> {
    let stop = Shutdown::new();
    let kernel = open(config.clone())?.with_stop(stop.clone());
    let handle = kernel.handle();
    let kernel = gather(kernel);
    let user = FlowCollector::from_interface(
        &pair.name,
        LiveConfig {
            ring_bytes: 64 << 20,
            snap_bytes: config.snap_bytes,
            ..LiveConfig::default()
        },
    )
    .with_config(config.flow.clone())
    .unwrap()
    .with_stop(stop.clone());
    let progress = user.progress();
    let user = gather(user);
    // The interface is opened with the first batch that is asked for.
    std::thread::sleep(Duration::from_millis(500));
    send(pair, frames);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while (handle.stats().unwrap().total().seen < count || progress.packets() < count)
        && std::time::Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    stop.trigger();
    let kernel = kernel.join().unwrap();
    Some((kernel, handle.stats().unwrap(), user.join().unwrap()))
}

/// All packets that were seen are used, left out or lost.
fn assert_balance(kernel: &Gathered, stats: &KernelFlowStats) {
    let total = stats.total();
    for counts in stats.processors.iter().chain([&total]) {
        let all = counts.metered + counts.handed + counts.skipped_total();
        assert_eq!(counts.seen, all, "{stats}");
    }
    assert_eq!(kernel.tally.seen(), total.seen, "{stats}");
    assert!(kernel.ended);
}

type Key = (amoskys_core::event::FlowKey, u64);

/// The last records of all flows: by key, and which of that key's flows it is.
fn ends(gathered: &Gathered) -> BTreeMap<Key, FlowRecord> {
    let mut ended: Vec<&FlowRecord> = gathered
        .flows
        .iter()
        .filter(|flow| matches!(flow.phase, FlowPhase::End(_)))
        .collect();
    ended.sort_by_key(|flow| (flow.first, flow.flow));
    let mut all = BTreeMap::new();
    let mut seen: BTreeMap<_, u64> = BTreeMap::new();
    for flow in ended {
        // Whoever began: who did is compared.
        let unordered = flow.key.min(flow.key.reversed());
        let number = seen.entry(unordered).or_default();
        all.insert((unordered, *number), flow.clone());
        *number += 1;
    }
    all
}

/// What does not depend on when exactly each meter saw a packet.
fn without_times(flow: &FlowRecord) -> FlowRecord {
    let mut flow = flow.clone();
    let direction = |direction: &mut FlowDirection| {
        (direction.first, direction.last) = (None, None);
        direction.gaps = Default::default();
        direction.bulk.duration_ns = 0;
        // The last digits are the order of their sums.
        for lengths in [&mut direction.lengths, &mut direction.payload] {
            lengths.std_dev = (lengths.std_dev * 1e6).round();
        }
    };
    direction(&mut flow.forward);
    direction(&mut flow.backward);
    flow.flow = 0;
    (flow.first, flow.last) = Default::default();
    (flow.gaps, flow.active, flow.idle) = Default::default();
    if let Some(tcp) = &mut flow.tcp {
        (tcp.syn, tcp.syn_ack, tcp.ack) = (None, None, None);
    }
    for sample in &mut flow.sequence {
        sample.gap_us = 0;
    }
    flow
}

/// What messages say, without the numbers of their flows, in some order.
fn said(gathered: &Gathered) -> (Vec<String>, Vec<String>) {
    let dns = gathered.dns.iter().map(|message| {
        format!(
            "{:?}",
            DnsRecord {
                flow: 0,
                ..message.clone()
            }
        )
    });
    let arp = gathered.arp.iter().map(|message| format!("{message:?}"));
    let (mut dns, mut arp): (Vec<_>, Vec<_>) = (dns.collect(), arp.collect());
    dns.sort();
    arp.sort();
    (dns, arp)
}

fn assert_close(what: &str, ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{what}: {ours} and {theirs}");
}

/// A record of the kernel's is that of the user space's, but for times, which differ by how late each was told.
fn assert_same(ours: &FlowRecord, theirs: &FlowRecord) {
    assert_eq!(without_times(ours), without_times(theirs));
    let late = 50e6;
    let key = ours.key.to_string();
    let nanos = |time: amoskys_core::Timestamp| time.nanos() as f64;
    assert_close(&key, nanos(ours.first), nanos(theirs.first), late);
    assert_close(&key, nanos(ours.last), nanos(theirs.last), late);
    for (ours, theirs) in [
        (&ours.gaps, &theirs.gaps),
        (&ours.forward.gaps, &theirs.forward.gaps),
        (&ours.backward.gaps, &theirs.backward.gaps),
        (&ours.active, &theirs.active),
    ] {
        assert_eq!(ours.count, theirs.count, "{key}");
        assert_close(&key, ours.sum as f64, theirs.sum as f64, 2.0 * late);
        assert_close(&key, ours.max as f64, theirs.max as f64, 2.0 * late);
        assert_close(&key, ours.std_dev, theirs.std_dev, 2.0 * late);
    }
    if let (Some(ours), Some(theirs)) = (&ours.tcp, &theirs.tcp) {
        assert_eq!(ours.syn.is_some(), theirs.syn.is_some(), "{key}");
        assert_eq!(ours.syn_ack.is_some(), theirs.syn_ack.is_some(), "{key}");
        assert_eq!(ours.ack.is_some(), theirs.ack.is_some(), "{key}");
    }
}

/// Replays frames, and compares all records of both meters. What the kernel's gave.
fn compare(frames: &[Vec<u8>], change: impl FnOnce(&mut KernelFlowConfig)) -> Option<Gathered> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames");
    let count = write_frames(&path, frames.iter().map(Vec::as_slice));
    let pair = pair()?;
    let mut config = KernelFlowConfig::new(&pair.name);
    config.snap_bytes = 9100;
    // Replayed at full speed nothing falls silent; whether a connection ends a moment before or after is not compared.
    config.flow.linger = Duration::from_secs(60);
    change(&mut config);
    let (kernel, stats, user) = both(&pair, &config, &path, count)?;
    let total = stats.total();
    assert_balance(&kernel, &stats);
    assert_eq!(total.seen, count, "{stats}");
    assert_eq!((total.lost_records, total.unread), (0, 0));
    assert_eq!(kernel.losses, []);
    assert_eq!(user.losses, []);
    let (ours, theirs) = (ends(&kernel), ends(&user));
    let missing = |from: &BTreeMap<Key, FlowRecord>, all: &BTreeMap<Key, FlowRecord>| {
        let keys = all.keys().filter(|key| !from.contains_key(key));
        keys.map(|(key, number)| format!("{key} {number}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (missing(&ours, &theirs), missing(&theirs, &ours)),
        (vec![], vec![]),
        "{stats}"
    );
    for (key, flow) in &ours {
        assert_same(flow, &theirs[key]);
        assert_eq!(flow.sampling_rate, config.flow.sampling_rate);
    }
    assert_eq!(said(&kernel), said(&user));
    // What is left out is the same too.
    assert_eq!(kernel.tally, user.tally);
    // Each flow was told of when it began, by a record with its first packet alone.
    let starts: Vec<&FlowRecord> = kernel
        .flows
        .iter()
        .filter(|flow| flow.phase == FlowPhase::Start)
        .collect();
    assert_eq!(starts.len(), ours.len());
    assert!(starts.iter().all(|flow| flow.packets() == 1));
    let numbers: std::collections::BTreeSet<u64> = starts.iter().map(|flow| flow.flow).collect();
    assert_eq!(numbers.len(), starts.len());
    Some(kernel)
}

/// How many of the last records are so.
fn count_ends(gathered: &Gathered, is_so: impl Fn(&FlowRecord) -> bool) -> usize {
    let ended = |flow: &&FlowRecord| matches!(flow.phase, FlowPhase::End(_));
    gathered
        .flows
        .iter()
        .filter(ended)
        .filter(|flow| is_so(flow))
        .count()
}

#[test]
fn both_meters_make_the_same_records_of_the_lab() {
    let _turn = turn();
    let Some(kernel) = compare(&frames_of(&lab()), |_| {}) else {
        return;
    };
    assert!(count_ends(&kernel, |_| true) > 50);
    assert!(count_ends(&kernel, |flow| flow.http.is_some()) > 0);
    assert!(count_ends(&kernel, |flow| flow.icmp.is_some()) > 0);
    assert!(count_ends(&kernel, |flow| flow.dns.is_some()) > 0);
    assert!(!kernel.dns.is_empty() && !kernel.arp.is_empty());
}

#[test]
fn at_the_hook_of_the_driver_too() {
    let _turn = turn();
    let Some(kernel) = compare(&frames_of(&lab()), |config| config.hook = FlowHook::Express) else {
        return;
    };
    assert!(count_ends(&kernel, |flow| flow.http.is_some()) > 0 && !kernel.dns.is_empty());
}

#[test]
fn what_the_kernel_cannot_finish_is_metered_and_read_in_user_space() {
    let _turn = turn();
    let frames = mixed();
    let change = |tunnels| {
        move |config: &mut KernelFlowConfig| {
            config.flow.tunnels = tunnels;
            config.flow.follow_fragments = true;
            config.flow.entropy_bytes = 300;
            config.flow.sampling_rate = 10;
        }
    };
    let Some(kernel) = compare(&frames, change(TunnelMode::Both)) else {
        return;
    };
    let in_tunnel =
        |kind| move |flow: &FlowRecord| flow.tunnel.as_ref().is_some_and(|found| found.kind == kind);
    for kind in [TunnelKind::Gre, TunnelKind::Vxlan] {
        assert!(count_ends(&kernel, in_tunnel(kind)) > 10, "{kind:?}");
        let both = |flow: &FlowRecord| in_tunnel(kind)(flow) && (flow.tls.is_some() || flow.dns.is_some());
        assert!(count_ends(&kernel, both) > 0, "{kind:?}");
    }
    let over_ipv6 = |flow: &FlowRecord| flow.key.source.is_ipv6();
    assert!(count_ends(&kernel, |flow| over_ipv6(flow) && flow.tls.is_some()) > 0);
    assert!(count_ends(&kernel, |flow| over_ipv6(flow) && flow.http.is_some()) > 0);
    assert!(count_ends(&kernel, |flow| over_ipv6(flow) && flow.dns.is_some()) > 0);
    let in_pieces = |flow: &FlowRecord| flow.forward.fragments > 1 && flow.key.source_port != 0;
    assert!(count_ends(&kernel, |flow| in_pieces(flow) && flow.key.protocol == 6) > 0);
    assert!(count_ends(&kernel, |flow| in_pieces(flow) && flow.dns.is_some()) > 0);
    assert!(count_ends(&kernel, |flow| flow.forward.entropy.is_some()) > 10);

    // As the interface shows them: tunnels closed, fragments apart.
    let frames = &frames[..frames.len() / 3];
    let Some(kernel) = compare(frames, |_| {}) else {
        return;
    };
    assert!(count_ends(&kernel, |flow| flow.key.protocol == 47) > 0);
    assert_eq!(count_ends(&kernel, |flow| flow.tunnel.is_some()), 0);
    compare(frames, change(TunnelMode::Inner));
}

#[test]
fn and_of_the_reference_captures() {
    let _turn = turn();
    let Some(data) = std::env::var_os("AMOSKYS_DATA") else {
        eprintln!("skipped: AMOSKYS_DATA is not set");
        return;
    };
    let mut captures = Vec::new();
    list(&Path::new(&data).join("pcap"), &mut captures);
    captures.sort();
    // One after the other on one link: what is left open by one is met by the next.
    let frames: Vec<Vec<u8>> = captures
        .iter()
        .flat_map(|capture| frames_of(capture))
        .take(40_000)
        .collect();
    eprintln!("{} frames", frames.len());
    if let Some(kernel) = compare(&frames, |_| {}) {
        let flows = count_ends(&kernel, |_| true);
        eprintln!("{flows} flows, {} messages", kernel.dns.len() + kernel.arp.len());
        assert!(flows > 100, "{flows} flows");
    }
}

/// Sends frames, waits for `patience`, and stops the meter.
fn meter(
    pair: &Pair,
    config: KernelFlowConfig,
    frames: &[Vec<u8>],
    patience: Duration,
) -> Option<(Gathered, KernelFlowStats)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames");
    write_frames(&path, frames.iter().map(Vec::as_slice));
    let stop = Shutdown::new();
    let kernel = open(config)?.with_stop(stop.clone());
    let handle = kernel.handle();
    let kernel = gather(kernel);
    send(pair, &path);
    std::thread::sleep(patience);
    stop.trigger();
    Some((kernel.join().unwrap(), handle.stats().unwrap()))
}

#[test]
fn what_is_in_no_flow_is_counted_by_reason() {
    let _turn = turn();
    let Some(pair) = pair() else { return };
    let mut frames = vec![datagram(1, 10); 5];
    let mut arp = datagram(2, 18);
    arp[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    let mut other = datagram(2, 18);
    other[12..14].copy_from_slice(&[0x88, 0xcc]);
    let mut labelled = datagram(2, 18);
    labelled[12..14].copy_from_slice(&[0x88, 0x47]);
    let mut wrong = datagram(2, 18);
    wrong[14] = 0x42;
    let cut = datagram(2, 18)[..30].to_vec();
    let mut tagged = datagram(3, 18);
    // Twice.
    tagged.splice(12..12, [0x88, 0xa8, 0, 7, 0x81, 0, 0, 9]);
    frames.extend([arp, other, labelled, wrong, cut, tagged]);
    let config = KernelFlowConfig::new(&pair.name);
    let Some((kernel, stats)) = meter(&pair, config, &frames, Duration::from_millis(300)) else {
        return;
    };
    assert_balance(&kernel, &stats);
    let total = stats.total();
    for reason in KernelSkip::ALL {
        assert_eq!(total.skipped(reason), u64::from(!reason.is_loss()), "{reason:?}");
    }
    // ARP, and what is behind the label, which is no whole IP header.
    assert_eq!((total.metered, total.handed, total.flows), (6, 2, 2), "{stats}");
    assert_eq!((kernel.arp.len(), kernel.tally.used), (1, 7));
    let tagged = kernel
        .flows
        .iter()
        .find(|flow| flow.key.source_port == 3)
        .unwrap();
    assert_eq!((tagged.vlan, tagged.inner_vlan), (Some(7), Some(9)));
}

#[test]
fn flows_end_by_themselves_and_are_told_of_while_they_last() {
    let _turn = turn();
    let Some(pair) = pair() else { return };
    let mut config = KernelFlowConfig::new(&pair.name);
    config.flow.idle_timeout = Duration::from_secs(1);
    config.flow.update_interval = Some(Duration::from_millis(200));
    let frames = [datagram(1, 10), datagram(1, 20)];
    let Some((kernel, stats)) = meter(&pair, config, &frames, Duration::from_millis(2000)) else {
        return;
    };
    assert_balance(&kernel, &stats);
    let phases: Vec<(FlowPhase, u64)> = kernel
        .flows
        .iter()
        .map(|flow| (flow.phase, flow.packets()))
        .collect();
    let expected = [
        (FlowPhase::Start, 1),
        (FlowPhase::Update, 2),
        (FlowPhase::End(FlowEnd::Idle), 2),
    ];
    assert_eq!(phases, expected);
    assert!(kernel.flows.iter().all(|flow| flow.flow == 0));
}

#[test]
fn a_table_or_a_ring_that_is_full_loses_with_a_count() {
    let _turn = turn();
    let Some(pair) = pair() else { return };
    let mut config = KernelFlowConfig::new(&pair.name);
    config.flow.max_flows = 256;
    config.ring_bytes = 64 << 10;
    // Each is a flow of its own.
    let frames: Vec<Vec<u8>> = (1..=5000).map(|port| datagram(port, 10)).collect();
    let Some((kernel, stats)) = meter(&pair, config, &frames, Duration::from_millis(500)) else {
        return;
    };
    assert_balance(&kernel, &stats);
    let total = stats.total();
    assert_eq!(total.seen, 5000);
    assert!(total.skipped(KernelSkip::NoRoom) > 0, "{stats}");
    let told: u64 = kernel.losses.iter().map(|loss| loss.count).sum();
    let lost = total.skipped(KernelSkip::NoRoom) + total.skipped(KernelSkip::Busy) + total.lost_packets;
    assert_eq!(told, lost);
}

#[test]
fn packets_that_find_the_ring_full_are_lost_with_a_count() {
    let _turn = turn();
    let Some(pair) = pair() else { return };
    let mut config = KernelFlowConfig::new(&pair.name);
    config.ring_bytes = 64 << 10;
    config.flow.start_records = false;
    // Half are messages to a name server, half begin like requests; nobody reads the ring while they come.
    let frames: Vec<Vec<u8>> = (0..2000)
        .map(|n| {
            let mut frame = datagram(1000 + n, 1200);
            match n % 2 {
                0 => frame[37] = 53,
                _ => {
                    (frame[23], frame[46], frame[47]) = (6, 0x50, 24);
                    frame[54..58].copy_from_slice(b"GET ");
                }
            }
            frame
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames");
    write_frames(&path, frames.iter().map(Vec::as_slice));
    let stop = Shutdown::new();
    let Some(kernel) = open(config) else { return };
    let kernel = kernel.with_stop(stop.clone());
    let handle = kernel.handle();
    send(&pair, &path);
    stop.trigger();
    let kernel = gather(kernel).join().unwrap();
    let stats = handle.stats().unwrap();
    assert_balance(&kernel, &stats);
    let total = stats.total();
    assert_eq!((total.seen, total.metered), (2000, 1000), "{stats}");
    assert_eq!(total.handed + total.skipped(KernelSkip::NoRing), 1000, "{stats}");
    assert!(
        total.handed > 0 && total.skipped(KernelSkip::NoRing) > 0,
        "{stats}"
    );
    assert!(total.unread > 0 && total.unread < 1000, "{stats}");
    let told = |reason: &str| {
        let losses = kernel.losses.iter().filter(|loss| loss.reason == reason);
        losses.map(|loss| loss.count).sum::<u64>()
    };
    assert_eq!(told("kernel_ring_full"), total.skipped(KernelSkip::NoRing));
    assert_eq!(told("payload_unread"), total.unread);
    // All flows are told of, and all their packets counted.
    assert_eq!(count_ends(&kernel, |_| true) as u64, 1000 + total.handed);
}

#[test]
fn a_dropped_meter_is_gone_and_a_taken_hook_is_named() {
    let _turn = turn();
    let Some(pair) = pair() else { return };
    let mut config = KernelFlowConfig::new(&pair.name);
    config.hook = FlowHook::Express;
    let Some(first) = open(config.clone()) else { return };
    let error = KernelFlowCollector::open(config.clone()).unwrap_err();
    assert!(
        matches!(&error, EbpfError::Occupied { hook: "XDP", .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains(&pair.name));
    let attached = || {
        let link = Command::new("ip")
            .args(["-d", "link", "show", &pair.name])
            .output()
            .unwrap();
        String::from_utf8(link.stdout).unwrap().contains("xdp")
    };
    assert!(attached());
    drop(first);
    assert!(!attached());
    // The other hook is for several.
    config.hook = FlowHook::Traffic;
    let one = open(config.clone()).unwrap();
    let two = open(config.clone()).unwrap();
    drop((one, two));
    config.interface = "no such thing".to_owned();
    let error = KernelFlowCollector::open(config).unwrap_err();
    assert!(matches!(error, EbpfError::NoInterface { .. }));
}

#[test]
fn a_fin_and_a_reset_end_a_connection() {
    let _turn = turn();
    let Some(pair) = pair() else { return };
    let segment = |port: u16, backward: bool, flags: u8, seq: u32| {
        let mut frame = datagram(port, 12);
        frame[23] = 6;
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        frame[36..38].copy_from_slice(&443u16.to_be_bytes());
        frame[38..42].copy_from_slice(&seq.to_be_bytes());
        frame[42..].fill(0);
        frame[46] = 0x50;
        frame[47] = flags;
        frame[48..50].copy_from_slice(&1000u16.to_be_bytes());
        if backward {
            let (source, destination) = ([198, 18, 0, 1], [198, 18, 0, 2]);
            frame[26..30].copy_from_slice(&destination);
            frame[30..34].copy_from_slice(&source);
            frame[34..36].copy_from_slice(&443u16.to_be_bytes());
            frame[36..38].copy_from_slice(&port.to_be_bytes());
        }
        frame
    };
    let handshake = |port| {
        [
            segment(port, false, 2, 10),
            segment(port, true, 18, 90),
            segment(port, false, 16, 11),
        ]
    };
    let mut frames = Vec::from(handshake(1000));
    frames.extend([segment(1000, false, 17, 11), segment(1000, true, 17, 91)]);
    frames.extend(handshake(1001));
    frames.push(segment(1001, true, 4, 91));
    let mut config = KernelFlowConfig::new(&pair.name);
    config.flow.linger = Duration::from_millis(300);
    let Some((kernel, stats)) = meter(&pair, config, &frames, Duration::from_millis(1500)) else {
        return;
    };
    assert_balance(&kernel, &stats);
    let ends: BTreeMap<u16, FlowPhase> = kernel
        .flows
        .iter()
        .filter(|flow| matches!(flow.phase, FlowPhase::End(_)))
        .map(|flow| (flow.key.source_port, flow.phase))
        .collect();
    assert_eq!(ends[&1000], FlowPhase::End(FlowEnd::Finished));
    assert_eq!(ends[&1001], FlowPhase::End(FlowEnd::Reset));
    let reset = |flow: &&FlowRecord| flow.key.source_port == 1001 && flow.phase != FlowPhase::Start;
    let tcp = kernel.flows.iter().find(reset).unwrap().tcp.clone().unwrap();
    assert_eq!(tcp.state, amoskys_core::event::TcpState::Reset);
    assert_eq!(
        tcp.forward,
        TcpDirection {
            flags: amoskys_core::event::TcpFlagCounts {
                syn: 1,
                ack: 1,
                ..Default::default()
            },
            initial_window: Some(1000),
            ..TcpDirection::default()
        }
    );
}

/// The test calls itself as a process without capabilities, and as one that has them only in a user namespace of its own.
#[test]
fn without_privileges_the_error_names_what_is_missing() {
    const INNER: &str = "AMOSKYS_TEST_WITHOUT_CAPABILITIES";
    if std::env::var_os(INNER).is_some() {
        println!(
            "{}",
            KernelFlowCollector::open(KernelFlowConfig::new("lo")).unwrap_err()
        );
        return;
    }
    for (program, arguments) in [
        ("setpriv", ["--bounding-set=-all", "--inh-caps=-all"]),
        ("unshare", ["--user", "--map-root-user"]),
    ] {
        let output = Command::new(program)
            .args(arguments)
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "without_privileges_the_error_names_what_is_missing",
                "--nocapture",
            ])
            .env(INNER, "1")
            .output();
        let Ok(output) = output else {
            skip(&format!("{program} is missing"));
            continue;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() && said.is_empty() {
            skip("capabilities cannot be given up here");
            continue;
        }
        assert!(
            said.contains("missing CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN;"),
            "{program}: {said}"
        );
    }
}
