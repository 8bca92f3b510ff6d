//! Real exporters, over UDP: softflowd meters the laboratory's capture and exports it, nfreplay replays what nfcapd
//! received, and nfcapd reads what we export. All must come to what our own meter counts. A peer that is not installed is skipped, unless
//! `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(feature = "netflow")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use amoskys_collectors::flow::{FlowCollector, FlowConfig};
use amoskys_collectors::netflow::{IpfixConfig, IpfixSink, NetflowCollector, NetflowConfig};
use amoskys_core::event::{FlowDirection, FlowPhase, FlowRecord, Payload, TcpDirection};
use amoskys_core::{
    Batch, Class, Collector, DropReason, Epoch, Recorded, Seq, Shutdown, Sink, StreamId, Tally,
};

/// The capture; `None` outside the repository, because a packaged crate does not contain it.
fn lab() -> Option<PathBuf> {
    let lab = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data/lab.pcap");
    if lab.exists() {
        return Some(lab);
    }
    eprintln!("skipped: there is no examples/data/lab.pcap beside this crate");
    None
}

/// The program, found on the path or where the system keeps daemons.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders
        .map(|folder: PathBuf| folder.join(name))
        .find(|path| path.exists());
    if found.is_none() {
        assert_ne!(
            std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref(),
            Ok("1"),
            "{name} is missing"
        );
        eprintln!("skipped: {name} is missing");
    }
    found
}

/// One direction between two endpoints: protocol, source, destination.
type Key = (u8, IpAddr, u16, IpAddr, u16);

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    packets: u64,
    bytes: u64,
    /// TCP flags seen.
    flags: u8,
    /// In milliseconds.
    first: i64,
    last: i64,
}

type Sums = BTreeMap<Key, Sum>;

fn flags(tcp: Option<&TcpDirection>) -> u8 {
    let Some(flags) = tcp.map(|tcp| tcp.flags) else {
        return 0;
    };
    let counts = [flags.fin, flags.syn, flags.rst, flags.psh, flags.ack, flags.urg];
    counts
        .iter()
        .enumerate()
        .map(|(bit, count)| u8::from(*count > 0) << bit)
        .sum()
}

fn add(sums: &mut Sums, flow: &FlowRecord) {
    let key = flow.key;
    let tcp = flow.tcp.as_ref();
    let directions: [(_, &FlowDirection, _); 2] = [
        (key, &flow.forward, tcp.map(|tcp| &tcp.forward)),
        (key.reversed(), &flow.backward, tcp.map(|tcp| &tcp.backward)),
    ];
    for (key, direction, tcp) in directions {
        if direction.packets == 0 {
            continue;
        }
        let key = (
            key.protocol,
            key.source,
            key.source_port,
            key.destination,
            key.destination_port,
        );
        let (first, last) = (flow.first.nanos() / 1_000_000, flow.last.nanos() / 1_000_000);
        let sum = sums.entry(key).or_insert(Sum {
            first,
            last,
            ..Sum::default()
        });
        sum.packets += direction.packets;
        sum.bytes += direction.bytes();
        sum.flags |= flags(tcp);
        sum.first = sum.first.min(first);
        sum.last = sum.last.max(last);
    }
}

/// What our own meter makes of the capture. An exporter ignores what its version cannot say.
async fn metered(lab: &Path, with_v6: bool) -> Sums {
    let config = FlowConfig {
        never_expire: true,
        start_records: false,
        update_interval: None,
        ..FlowConfig::default()
    };
    let mut collector = FlowCollector::from_files([lab])
        .unwrap()
        .with_config(config)
        .unwrap();
    let mut sums = Sums::new();
    while let Some(batch) = collector.next_batch().await.unwrap() {
        for event in batch.events {
            if let Payload::Flow(flow) = event.payload
                && (with_v6 || flow.key.source.is_ipv4())
            {
                add(&mut sums, &flow);
            }
        }
    }
    sums
}

/// Receives what `send` exports to the port it is given, until nothing comes for a while.
async fn received(address: &str, send: impl FnOnce(u16) -> Child) -> (Vec<Batch>, Tally) {
    let stop = Shutdown::new();
    let config = NetflowConfig::default();
    let mut collector = NetflowCollector::bind(address, config)
        .unwrap()
        .with_stop(stop.clone());
    let port = collector.local_addr().unwrap().port();
    let progress = collector.progress();
    let reader = tokio::spawn(async move {
        let mut batches = Vec::new();
        while let Some(batch) = collector.next_batch().await.unwrap() {
            batches.push(batch);
        }
        batches
    });
    let mut child = send(port);
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the exporter does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if progress.packets() == before && before > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "nothing came");
        before = progress.packets();
    }
    stop.trigger();
    let batches = reader.await.unwrap();
    let mut tally = Tally::default();
    for batch in &batches {
        tally.add(&batch.tally);
    }
    (batches, tally)
}

fn sums(batches: &[Batch]) -> Sums {
    let mut sums = Sums::new();
    for event in batches.iter().flat_map(|batch| &batch.events) {
        if let Payload::Flow(flow) = &event.payload {
            assert!(
                event.device.as_str() == "127.0.0.1" || event.device.as_str() == "::1",
                "{}",
                event.device
            );
            add(&mut sums, flow);
        }
    }
    sums
}

fn softflowd(program: &Path, lab: &Path, to: &str, more: &[&str]) -> Child {
    let mut command = Command::new(program);
    // In the foreground, with IPv6, nobody controlling it.
    command
        .arg("-r")
        .arg(lab)
        .args(["-n", to, "-d", "-c", "none"])
        .args(more);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Times may be off by this much, in milliseconds. Those of ICMP are not compared: to softflowd each type of message is
/// a flow of its own.
fn compare(theirs: &Sums, ours: &Sums, tolerance_ms: i64, what: &str) {
    assert!(!ours.is_empty());
    let counts = |sums: &Sums| -> BTreeMap<Key, (u64, u64, u8)> {
        sums.iter()
            .map(|(key, sum)| (*key, (sum.packets, sum.bytes, sum.flags)))
            .collect()
    };
    let (theirs_counts, ours_counts) = (counts(theirs), counts(ours));
    for (key, count) in &ours_counts {
        assert_eq!(theirs_counts.get(key), Some(count), "{what}: {key:?}");
    }
    assert_eq!(theirs_counts.len(), ours_counts.len(), "{what}");
    let far = ours.iter().filter(|(key, sum)| {
        if !matches!(key.0, 6 | 17) {
            return false;
        }
        let theirs = &theirs[*key];
        (theirs.first - sum.first).abs() > tolerance_ms || (theirs.last - sum.last).abs() > tolerance_ms
    });
    let far: Vec<_> = far.map(|(key, sum)| (key, sum, theirs[key])).collect();
    assert!(
        far.is_empty(),
        "{what}: {} of {} times are off, first {:?}",
        far.len(),
        ours.len(),
        far[0]
    );
}

/// One direction's times are not known to softflowd either: both of a flow have the flow's.
#[tokio::test]
async fn softflowd_counts_what_our_meter_counts() {
    let (Some(lab), Some(softflowd_path)) = (lab(), program("softflowd")) else {
        return;
    };
    // v9 states its clock in whole seconds.
    let cases: [(&str, &[&str], bool, i64); 4] = [
        ("v5", &["-v", "5"], false, 1),
        ("v9", &["-v", "9", "-6"], true, 1000),
        ("IPFIX", &["-v", "10", "-6", "-A", "milli"], true, 1),
        (
            "IPFIX in both directions",
            &["-v", "10", "-6", "-b", "-A", "milli"],
            true,
            1,
        ),
    ];
    for (what, arguments, with_v6, tolerance_ms) in cases {
        let send = |port| softflowd(&softflowd_path, &lab, &format!("127.0.0.1:{port}"), arguments);
        let (batches, tally) = received("127.0.0.1:0", send).await;
        let theirs = sums(&batches);
        let ours = metered(&lab, with_v6).await;
        compare(&theirs, &ours, tolerance_ms, what);
        assert!(tally.dropped.is_empty(), "{what}: {tally:?}");
    }
}

#[tokio::test]
async fn an_exporter_may_send_over_ipv6() {
    let (Some(lab), Some(softflowd_path)) = (lab(), program("softflowd")) else {
        return;
    };
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("skipped: there is no IPv6 here");
        return;
    }
    let send = |port| {
        softflowd(
            &softflowd_path,
            &lab,
            &format!("[::1]:{port}"),
            &["-v", "9", "-6"],
        )
    };
    let (batches, _) = received("[::]:0", send).await;
    compare(&sums(&batches), &metered(&lab, true).await, 1000, "over IPv6");
}

#[tokio::test]
async fn a_sampled_export_is_scaled_beside_what_was_counted() {
    let (Some(lab), Some(softflowd_path)) = (lab(), program("softflowd")) else {
        return;
    };
    for version in ["5", "9", "10"] {
        let send = |port| {
            softflowd(
                &softflowd_path,
                &lab,
                &format!("127.0.0.1:{port}"),
                &["-v", version, "-s", "10"],
            )
        };
        let (batches, _) = received("127.0.0.1:0", send).await;
        let mut flows = 0;
        for event in batches.iter().flat_map(|batch| &batch.events) {
            let Payload::Flow(flow) = &event.payload else {
                continue;
            };
            flows += 1;
            let scaled = event.attributes.get("scaled_packets");
            let expected = amoskys_core::event::Value::Uint(flow.forward.packets * 10);
            assert_eq!(scaled, Some(&expected), "v{version}: {:?}", event.attributes);
            assert_eq!(flow.sampling_rate, 10, "v{version}");
        }
        assert!(flows > 100, "v{version}: {flows} flows");
    }
}

/// A running nfcapd.
struct Nfcapd {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Nfcapd {
    fn start(program: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = Command::new(program);
        command.args([
            "-b",
            "127.0.0.1",
            "-t",
            "3600",
            "-B",
            "2000000",
            "-p",
            &port.to_string(),
        ]);
        command
            .arg("-w")
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        // There is no telling from outside when it listens, but by the port being taken.
        let deadline = Instant::now() + Duration::from_secs(10);
        while UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            assert!(Instant::now() < deadline, "nfcapd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, dir }
    }

    /// Ends it, and gives the file it wrote.
    fn file(&mut self) -> PathBuf {
        // What was sent is in its socket; it writes what it has when it is told to end.
        std::thread::sleep(Duration::from_millis(500));
        let told = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(told.success());
        self.child.wait().unwrap();
        let files = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let is_data = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("nfcapd.");
        files.filter(is_data).max().unwrap()
    }
}

impl Drop for Nfcapd {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nfcapd receives what softflowd exports, nfreplay sends it to us.
#[tokio::test]
async fn nfreplay_sends_what_nfcapd_received() {
    let (Some(lab), Some(softflowd_path)) = (lab(), program("softflowd")) else {
        return;
    };
    let (Some(nfcapd), Some(nfreplay)) = (program("nfcapd"), program("nfreplay")) else {
        return;
    };
    let mut nfcapd = Nfcapd::start(&nfcapd);
    let sent = softflowd(
        &softflowd_path,
        &lab,
        &format!("127.0.0.1:{}", nfcapd.port),
        &["-v", "5"],
    )
    .wait();
    assert!(sent.unwrap().success());
    let file = nfcapd.file();
    for version in ["5", "9"] {
        let send = |port: u16| {
            let mut replay = Command::new(&nfreplay);
            replay
                .args(["-H", "127.0.0.1", "-p", &port.to_string(), "-v", version, "-r"])
                .arg(&file);
            replay
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let (batches, tally) = received("127.0.0.1:0", send).await;
        compare(
            &sums(&batches),
            &metered(&lab, false).await,
            1000,
            &format!("nfreplay v{version}"),
        );
        assert_eq!(
            tally.dropped.get(&DropReason::MISSING),
            None,
            "v{version}: {tally:?}"
        );
    }
}

/// What nfdump prints of one direction: packets, bytes, flags, first and last second.
type Printed = BTreeMap<Key, Vec<(u64, u64, String, String, String)>>;

/// nfcapd receives what we export, nfdump prints it.
#[tokio::test]
async fn nfdump_prints_what_we_export() {
    let (Some(lab), Some(nfcapd), Some(nfdump)) = (lab(), program("nfcapd"), program("nfdump")) else {
        return;
    };
    let mut nfcapd = Nfcapd::start(&nfcapd);
    let mut sink = IpfixSink::connect(("127.0.0.1", nfcapd.port), IpfixConfig::default()).unwrap();
    let mut collector = FlowCollector::from_files([&lab]).unwrap();
    let stream = Arc::new(StreamId {
        agent: "sensor".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    });
    let mut ours = Printed::new();
    while let Some(batch) = collector.next_batch().await.unwrap() {
        let events = batch.events.into_iter().map(|event| Recorded {
            stream: Arc::clone(&stream),
            seq: Seq(0),
            timeline: 0,
            event,
        });
        let events: Vec<Recorded> = events.collect();
        for recorded in &events {
            if let Payload::Flow(flow) = &recorded.event.payload
                && let FlowPhase::End(_) = flow.phase
            {
                print(&mut ours, flow);
            }
        }
        sink.write(&events).await.unwrap();
        // nfcapd is given time to keep up.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sink.flush().await.unwrap();
    let mut command = Command::new(nfdump);
    let output = command
        .arg("-r")
        .arg(nfcapd.file())
        .args(["-N", "-o", "csv"])
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let mut theirs = Printed::new();
    let text = String::from_utf8(output.stdout).unwrap();
    // The summary follows after an empty line or its heading.
    for line in text.lines().skip(1).take_while(|line| line.starts_with("20")) {
        let cells: Vec<&str> = line.split(',').collect();
        let protocol = match cells[7] {
            "TCP" => 6,
            "UDP" => 17,
            "ICMP" => 1,
            "ICMP6" => 58,
            other => panic!("protocol {other}"),
        };
        // It prints type and code of ICMP as a port.
        let port = |text: &str| {
            if matches!(protocol, 6 | 17) {
                text.parse().unwrap()
            } else {
                0
            }
        };
        let key = (
            protocol,
            cells[3].parse().unwrap(),
            port(cells[5]),
            cells[4].parse().unwrap(),
            port(cells[6]),
        );
        let printed = (
            cells[11].parse().unwrap(),
            cells[12].parse().unwrap(),
            cells[8].to_owned(),
            cells[0].to_owned(),
            cells[2].to_owned(),
        );
        theirs.entry(key).or_default().push(printed);
    }
    for printed in ours.values_mut().chain(theirs.values_mut()) {
        printed.sort();
    }
    assert!(ours.len() > 1000);
    for (key, printed) in &ours {
        assert_eq!(theirs.get(key), Some(printed), "{key:?}");
    }
    assert_eq!(theirs.len(), ours.len());
}

/// Both directions of a flow, as nfdump prints them.
fn print(printed: &mut Printed, flow: &FlowRecord) {
    let mut both = Sums::new();
    add(&mut both, flow);
    for (key, sum) in both {
        let letters = "CEUAPRSF".char_indices().map(|(at, letter)| {
            if sum.flags >> (7 - at) & 1 == 1 {
                letter
            } else {
                '.'
            }
        });
        let lasted = sum.last - sum.first;
        printed.entry(key).or_default().push((
            sum.packets,
            sum.bytes,
            letters.collect(),
            second(sum.first / 1000),
            format!("{}.{:03}", lasted / 1000, lasted % 1000),
        ));
    }
}

/// A second since 1970, of the years around the capture, as nfdump prints it.
fn second(secs: i64) -> String {
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    // From days to a date of the proleptic Gregorian calendar, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + shifted.div_euclid(146_097) * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}
