//! Peers that mean harm, over real sockets: what they cost is bounded, they are named and kept out, and an honest agent
//! beside them keeps its rate.

#![cfg(all(feature = "bus", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/bus.rs"]
mod site;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amoskys_core::{Class, Digest, RecordSink as _, Remedy};
use amoskys_transport::bus::{BusOptions, Limits, Publisher, PublisherOptions, Rate, RefuseReason};
use amoskys_transport::identity::Role;
use amoskys_transport::testing::{Faults, Load, Outcome, SimulatedAgent};
use amoskys_transport::{Log, LogOptions, Opener, SealedHeader, Sealer, Signer};
use bytes::Bytes;
use peer::{BATCH, HELLO, Peer, WELCOME, Witness, tcp_from};
use site::{Agent, PATIENCE, Running, Site, assert_clean, take};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Where harm comes from. Honest agents come from 127.0.0.1.
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

/// A bus, what it says, and the means to be agent `a`, which means harm, or `honest`.
struct Stage {
    site: Site,
    bus: Running,
    witness: Witness,
    _log: Log,
    _guards: (
        metrics::LocalRecorderGuard<'static>,
        tracing::subscriber::DefaultGuard,
    ),
}

impl Stage {
    fn new(limits: Limits, change: impl FnOnce(BusOptions) -> BusOptions) -> Self {
        let witness = Witness::default();
        // A recorder must outlive its guard; a test's may as well live for ever.
        let recorder = Box::leak(Box::new(witness.clone()));
        let guards = (
            metrics::set_default_local_recorder(recorder),
            tracing::subscriber::set_default(witness.clone()),
        );
        let mut site = Site::new();
        site.know("a");
        site.know("honest");
        let bus = Running::new(change(site.bus_options().limits(limits)));
        let log = Agent::open(&site.path("a"), "a").log;
        Self {
            site,
            bus,
            witness,
            _log: log,
            _guards: guards,
        }
    }

    /// Seals for agent `a`, with the key the bus trusts.
    fn sealer(&self) -> Sealer {
        let dir = tempfile::tempdir_in(self.site.dir.path()).unwrap().keep();
        let key = self.site.path("a/keys/agent.key");
        Log::open(dir, LogOptions::new().agent("a").key_file(key))
            .unwrap()
            .sealer
    }

    async fn peer(&self) -> std::io::Result<Peer> {
        let tls = self.site.client_tls(Role::Agent, "a");
        Peer::connect_from(ELSEWHERE, self.bus.address, tls).await
    }

    async fn stranger(&self) -> std::io::Result<TcpStream> {
        tcp_from(ELSEWHERE, self.bus.address).await
    }

    /// A client that has said hello as agent `a`, or was told to go.
    async fn agent(&self) -> (Peer, bool) {
        let mut peer = self.peer().await.unwrap();
        let welcome = peer.hello(1, 1, "a").await.0 == WELCOME;
        (peer, welcome)
    }

    fn simulated(&self, name: &str) -> SimulatedAgent {
        let connect = self.site.connect(&self.bus, Role::Agent, name);
        SimulatedAgent::new(name, Arc::new(self.site.signer(name)), connect, 7).unwrap()
    }

    /// The honest agent's load for a while: what became of it, and the longest that 99 of 100 of its batches took.
    async fn honest(&self) -> (Outcome, Duration) {
        let mut latencies = Vec::new();
        let load = load(10, Duration::from_millis(20), Duration::from_millis(1500));
        let mut agent = self.simulated("honest");
        let outcome = agent
            .run(load, |latency, _| latencies.push(latency))
            .await
            .unwrap();
        latencies.sort_unstable();
        (outcome, latencies[latencies.len() * 99 / 100])
    }

    /// The honest agent beside harm loses nothing, and waits little longer than it does alone.
    async fn undisturbed(&self, harm: impl Future<Output = ()>) {
        let (alone, usual) = self.honest().await;
        let (beside, longest) = tokio::select! {
            () = async { harm.await; std::future::pending().await } => unreachable!(),
            measured = self.honest() => measured,
        };
        assert_eq!(
            (alone.sealed, beside.sealed),
            (alone.acknowledged, beside.acknowledged)
        );
        // The same time for it, so the same number of batches but for the start.
        assert!(beside.sealed * 10 >= alone.sealed * 8, "{alone:?} {beside:?}");
        assert_eq!(beside.reconnects, 0);
        // Both are in this process, on few cores that others use too.
        let limit = usual * 30 + Duration::from_millis(600);
        assert!(longest <= limit, "{usual:?} alone, {longest:?} beside");
    }

    async fn eventually(&self, what: &str, is_so: impl Fn(&Witness) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.witness) {
            assert!(begun.elapsed() < PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn load(batch: u64, interval: Duration, duration: Duration) -> Load {
    Load {
        batch,
        event_bytes: 200,
        interval,
        duration,
        patience: PATIENCE,
        faults: Faults::default(),
    }
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Bytes of memory of this process.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or_default() << 10
}

#[tokio::test]
async fn slow_handshakes_make_room_for_quick_ones() {
    let limits = limits(|limits| {
        limits.strangers_of_address = 16;
        limits.strangers = 24;
    });
    let stage = Stage::new(limits, |options| {
        options.handshake_timeout(Duration::from_secs(60))
    });
    // Nothing at all, a byte now and then, and a good handshake without a word behind it.
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(stage.stranger().await.unwrap());
    }
    let mut mute = Vec::new();
    for _ in 0..8 {
        mute.push(stage.peer().await.unwrap());
    }
    let dripping = async {
        // The beginnings of a TLS handshake and of a first frame.
        let (hello, frame) = ([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], [0x60, 0xea, 0, 0, 1]);
        for n in 0..40 {
            for stranger in &mut silent[1..] {
                let _ = stranger.write_all(&[hello.get(n).copied().unwrap_or(7)]).await;
            }
            for peer in &mut mute[1..] {
                peer.send_raw(&[frame.get(n).copied().unwrap_or(7)]).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    stage.undisturbed(dripping).await;
    // More of them do not keep out others of the same address, which need less time than they have taken.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (_peer, welcome) = stage.agent().await;
    assert!(welcome);
    stage
        .eventually("one had to go", |witness| witness.refused("busy") > 0)
        .await;
    drop((silent, mute));
    assert_eq!(stage.honest().await.0.reconnects, 0);
    stage.bus.stop().await;
}

#[tokio::test]
async fn handshakes_and_silence_end_in_time() {
    let stage = Stage::new(Limits::default(), |options| {
        options
            .handshake_timeout(Duration::from_millis(300))
            .idle_timeout(Duration::from_millis(800))
    });
    // In TLS, behind it, and behind the welcome.
    let mut strangers = vec![stage.stranger().await.unwrap(), stage.stranger().await.unwrap()];
    strangers[1].write_all(&[22, 3, 1]).await.unwrap();
    let mute = stage.peer().await.unwrap();
    let (half_open, welcome) = stage.agent().await;
    assert!(welcome);
    for mut stranger in strangers {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut rest));
        let _ = closed.await.expect("closed in time");
    }
    let idle = RefuseReason::ALL
        .iter()
        .position(|reason| *reason == RefuseReason::Idle);
    for peer in [mute, half_open] {
        assert_eq!(peer.refusal().await.0, idle.unwrap() as u64);
    }
    // One that is said so slowly that it is never there.
    let (mut endless, welcome) = stage.agent().await;
    assert!(welcome);
    endless.send_raw(&1000_u32.to_le_bytes()).await;
    endless.send_raw(&[BATCH]).await;
    let (begun, mut ended) = (Instant::now(), false);
    while begun.elapsed() < PATIENCE && !ended {
        endless.send_raw(&[0]).await;
        ended = stage.witness.refused("protocol") > 0;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(ended, "the frame went on for ever");
    stage.bus.stop().await;
}

#[tokio::test]
async fn large_frames_take_memory_in_turns() {
    let stage = Stage::new(Limits::default(), |options| options);
    let mut peers = Vec::new();
    for _ in 0..12 {
        let (mut peer, welcome) = stage.agent().await;
        assert!(welcome);
        peer.send_raw(&(38_u32 << 20).to_le_bytes()).await;
        peer.send_raw(&[BATCH]).await;
        peers.push(peer);
    }
    let before = memory();
    let mut filling: Vec<_> = peers
        .into_iter()
        .map(|mut peer| {
            tokio::spawn(async move {
                let megabyte = vec![1; 1 << 20];
                for _ in 0..30 {
                    peer.send_raw(&megabyte).await;
                }
                peer
            })
        })
        .collect();
    // One of them is read; the others wait, and so do their senders.
    stage.undisturbed(async {}).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let grown = memory().saturating_sub(before) >> 20;
    assert!(grown < 160, "{grown} MiB for 12 frames of 38 MiB");
    for task in &mut filling {
        task.abort();
    }
    stage.bus.stop().await;
}

#[tokio::test]
async fn ten_thousand_malformed_batches_cost_their_sender_only() {
    let limits = limits(|limits| limits.longest_penalty = Duration::from_millis(500));
    let stage = Stage::new(limits, |options| options);
    let before = memory();
    let mut sealer = stage.sealer();
    let good = common::seal(&mut sealer, Class::Telemetry, 0, 4, 200);
    let broken = |n: usize| {
        let mut record = good.to_vec();
        match n % 5 {
            0 => record.truncate(n % record.len()),
            1 => record[n % good.len()] ^= 0x40,
            2 => record[8..].fill(0xff),
            3 => record = vec![u8::try_from(n % 256).unwrap(); 500],
            _ => record.extend([0; 100]),
        }
        record
    };
    let (mut sent, mut served, mut kept_out) = (0, 0, 0);
    let attack = async {
        while sent < 10_000 {
            // Kept out already before the handshake, perhaps.
            let connecting = tokio::time::timeout(Duration::from_secs(5), stage.peer());
            let Ok(Ok(mut peer)) = connecting.await else {
                continue;
            };
            let mut hello = peer::field(1, 1);
            hello.extend(peer::field(2, 1));
            hello.extend(peer::bytes_field(3, b"a"));
            peer.send(HELLO, &hello).await;
            for _ in 0..200 {
                peer.send(BATCH, &broken(sent)).await;
                sent += 1;
            }
            match peer.receive().await {
                Ok((WELCOME, _)) => served += 1,
                _ => kept_out += 1,
            }
        }
    };
    stage.undisturbed(attack).await;
    // Whatever is left of the attack, at once.
    let rest = async {
        while sent < 10_000 {
            let Ok(mut peer) = stage.peer().await else { break };
            peer.hello(1, 1, "a").await;
            for _ in 0..500 {
                peer.send(BATCH, &broken(sent)).await;
                sent += 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE * 2, rest).await.expect("in time");
    let (witness, grown) = (&stage.witness, memory().saturating_sub(before) >> 20);
    assert!(grown < 64, "{grown} MiB");
    // Of each connection one batch is looked at, and there are not many connections.
    let looked_at = ["malformed", "signature", "payload"].map(|reason| witness.refused(reason));
    let looked_at: u64 = looked_at.iter().sum();
    assert!((4..1000).contains(&looked_at), "{looked_at}");
    assert!(
        witness.count("amoskys_bus_penalties_total agent=a") > 0,
        "{served} {kept_out}"
    );
    assert!(witness.says(&["limited: refused", "agent=\"a\""]));
    let entries = take(&mut stage.site.subscription(&stage.bus), 1).await;
    assert!(!entries.is_empty());
    assert!(audited(&stage, "client.limited").await);
    let Stage { site, bus, .. } = stage;
    let report = bus.stop().await;
    assert!(report.ledger.unbalanced().is_empty());
    assert_clean(&site, "bus");
}

/// Whether the bus has written down something of this kind about agent `a`.
async fn audited(stage: &Stage, action: &str) -> bool {
    use amoskys_core::{Open as _, Payload};
    use amoskys_transport::bus::{SubscribeOptions, Subscription};
    let connect = stage.site.connect(&stage.bus, Role::Analyzer, "analyzer");
    let options = SubscribeOptions::new(connect)
        .classes([Class::Audit])
        .agents(["bus"]);
    let mut subscription = Subscription::new(options);
    for _ in 0..50 {
        for (_, record) in take(&mut subscription, 1).await {
            let opened = Opener::unchecked().open(&record).unwrap();
            let found = opened.events.iter().any(|event| {
                matches!(&event.payload, Payload::Audit(entry) if entry.action == action && entry.actor == "a")
            });
            if found {
                return true;
            }
        }
    }
    false
}

#[tokio::test]
async fn who_is_refused_again_and_again_waits_longer_each_time() {
    let stage = Stage::new(Limits::default(), |options| options);
    // Where somebody else does well, the address is not held against them.
    let tls = stage.site.client_tls(Role::Agent, "honest");
    let mut neighbour = Peer::connect_from(ELSEWHERE, stage.bus.address, tls)
        .await
        .unwrap();
    assert_eq!(neighbour.hello(1, 1, "honest").await.0, WELCOME);
    let (mut waits, mut refused) = (Vec::new(), 0);
    for _ in 0..12 {
        let mut peer = stage.peer().await.unwrap();
        let (kind, body) = peer.hello(1, 1, "a").await;
        if kind == WELCOME {
            peer.send(BATCH, b"this is no record").await;
            peer.refusal().await;
            refused += 1;
            continue;
        }
        let Some(peer::Field::Number(millis)) = peer::fields(&body).remove(&5) else {
            panic!("it is not told how long to wait");
        };
        waits.push(millis);
        tokio::time::sleep(Duration::from_millis(millis + 20)).await;
        if waits.len() == 3 {
            break;
        }
    }
    // Three are free, and one after each wait.
    assert!(refused >= 6, "{refused} {waits:?}");
    assert_eq!(waits.len(), 3);
    assert!(waits[0] <= 250 && waits[1] > 250 && waits[2] > 500, "{waits:?}");
    assert!(stage.witness.count("amoskys_bus_penalties_total agent=a") >= 3);
    // One that has put things right is believed again.
    let mut agent = stage.simulated("a");
    let good = load(5, Duration::from_millis(10), Duration::from_millis(100));
    let outcome = loop {
        match agent.run(good, |_, _| {}).await {
            Ok(outcome) => break outcome,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    assert!(outcome.acknowledged > 0);
    let (_peer, welcome) = stage.agent().await;
    assert!(welcome);
    stage.bus.stop().await;
}

#[tokio::test]
async fn an_address_that_only_offends_waits_before_the_handshake() {
    let stage = Stage::new(Limits::default(), |options| options);
    let mut waited = Vec::new();
    for _ in 0..6 {
        let begun = Instant::now();
        let (mut peer, welcome) = stage.agent().await;
        waited.push(begun.elapsed());
        if welcome {
            peer.send(BATCH, b"this is no record").await;
            peer.refusal().await;
        }
    }
    // Four are served at once; the next waits for a quarter of a second, the one behind it for twice that.
    assert!(waited[4] >= Duration::from_millis(200), "{waited:?}");
    assert!(waited[5] >= Duration::from_millis(400), "{waited:?}");
    // Who comes from elsewhere does not notice.
    let begun = Instant::now();
    let tls = stage.site.client_tls(Role::Agent, "honest");
    let mut honest = Peer::connect(stage.bus.address, tls).await.unwrap();
    assert_eq!(honest.hello(1, 1, "honest").await.0, WELCOME);
    assert!(begun.elapsed() < Duration::from_secs(2));
    stage.bus.stop().await;
}

#[tokio::test]
async fn a_publisher_stays_away_as_long_as_it_is_told() {
    let stage = Stage::new(Limits::default(), |options| options);
    for _ in 0..8 {
        let (mut peer, welcome) = stage.agent().await;
        if welcome {
            peer.send(BATCH, b"this is no record").await;
            peer.refusal().await;
        }
        tokio::time::sleep(Duration::from_millis(if welcome { 0 } else { 600 })).await;
    }
    let agent = Agent::open(&stage.site.path("again"), "a");
    let connect = stage
        .site
        .connect(&stage.bus, Role::Agent, "a")
        .retry(Duration::ZERO, Duration::ZERO);
    let mut publisher = Publisher::for_log(&agent.log, PublisherOptions::new(connect));
    let error = publisher.carry(&agent.feed(0)).await.unwrap_err();
    let Remedy::RetryAfter(pause) = publisher.remedy(&error) else {
        panic!("{error}");
    };
    assert!(pause >= Duration::from_millis(100), "{pause:?}");
    stage.bus.stop().await;
}

#[tokio::test]
async fn a_flood_is_held_to_its_rate_and_named() {
    let limits = limits(|limits| {
        limits.rates.insert(
            "a".into(),
            Rate {
                events: 2000,
                bytes: 0,
            },
        );
    });
    let stage = Stage::new(limits, |options| options);
    let flood = async {
        // Sealing all of that takes time too, which is not the bus's: it has a thread of its own.
        let agents: Vec<_> = (0..8).map(|_| stage.simulated("a")).collect();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let floods = agents.into_iter().map(|mut agent| {
                    tokio::spawn(async move {
                        let mut load = load(100, Duration::from_millis(50), Duration::from_secs(4));
                        load.patience = Duration::ZERO;
                        let _ = agent.run(load, |_, _| {}).await;
                    })
                });
                for flood in floods.collect::<Vec<_>>() {
                    let _ = flood.await;
                }
            });
        });
    };
    let begun = Instant::now();
    stage.undisturbed(flood).await;
    let took = begun.elapsed().as_secs_f64();
    let witness = &stage.witness;
    assert!(witness.count("amoskys_bus_retries_total agent=a reason=rate") > 0);
    assert!(witness.says(&["asked to wait", "agent=a"]));
    assert!(audited(&stage, "agent.limited").await);
    let report = stage.bus.stop().await;
    // What it could save up, and what it may send in that time; and what each connection had begun.
    let delivered = report.ledger.accounts["bus/a"].delivered;
    let allowed = (2000.0 * (took + 1.0)) as u64 + 8 * 100;
    assert!((1000..=allowed).contains(&delivered), "{delivered} of {allowed}");
}

/// A batch whose header says that its payload becomes this large, signed as it should be.
fn lie(record: &Bytes, signer: &dyn Signer, raw_len: u32, compression: u8) -> Bytes {
    let header = SealedHeader::parse(record).unwrap();
    let end = record.len() - header.payload_len as usize - 64;
    let mut signed = record[..end].to_vec();
    signed[16..20].copy_from_slice(&raw_len.to_le_bytes());
    signed[20] = compression;
    let message = [&b"amoskys sealed batch\n"[..], &Digest::of(&signed).0].concat();
    let signature = signer.sign(&message).unwrap();
    Bytes::from([&signed[..], &signature, &record[end + 64..]].concat())
}

#[tokio::test]
async fn a_payload_that_lies_about_its_size_expands_nowhere() {
    let stage = Stage::new(Limits::default(), |options| options);
    let mut sealer = stage.sealer();
    let signer = stage.site.signer("a");
    let before = memory();
    let mut peer = {
        let (peer, welcome) = stage.agent().await;
        assert!(welcome);
        peer
    };
    // The bus stores it as it is: whose payload it is, is signed, and the bus does not look into it.
    let good = common::seal(&mut sealer, Class::Telemetry, 0, 4, 200);
    let bomb = lie(&good, &signer, u32::MAX, 1);
    peer.send(BATCH, &bomb).await;
    assert_eq!(peer.receive().await.unwrap().0, peer::ACK);
    // Who reads it says what is wrong with it, and takes no memory for it.
    let records = site::of_agents(take(&mut stage.site.subscription(&stage.bus), 3).await);
    assert_eq!(records, [bomb]);
    use amoskys_core::Open as _;
    for raw_len in [u32::MAX, 1 << 30, 64 << 20, 1, 0] {
        let bomb = lie(&good, &signer, raw_len, 1);
        let opened = Opener::unchecked().open(&bomb);
        assert!(opened.is_err(), "{raw_len}");
    }
    let grown = memory().saturating_sub(before) >> 20;
    assert!(grown < 96, "{grown} MiB");
    stage.bus.stop().await;
}
