//! What a bus does with agents of the predecessor that it cannot serve now, or must not serve any more.
#![cfg(all(feature = "health", feature = "legacy", feature = "pki", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

#[path = "common/fleet.rs"]
mod fleet;

use std::sync::Arc;
use std::time::{Duration, Instant};

use amoskys_core::event::AuditEntry;
use amoskys_core::{Class, Open as _, Payload, RecordSource as _, Shutdown};
use amoskys_transport::bus::{
    Bus, BusOptions, BusReport, ConnectOptions, Limits, Rate, SubscribeOptions, Subscription,
};
use amoskys_transport::health::Health;
use amoskys_transport::identity::{Credentials, Identity, Reloader, Role, TlsFiles, pki};
use amoskys_transport::legacy::{LegacyAgent, LegacyAnswer, LegacyOptions};
use amoskys_transport::verify::Verifier;
use amoskys_transport::{FileSigner, LogOptions, Opener, WalOptions};
use fleet::Fleet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::task::JoinHandle;

struct Running {
    address: String,
    bus: Arc<Bus>,
    stop: Shutdown,
    task: JoinHandle<BusReport>,
}

impl Running {
    fn start(options: BusOptions) -> Self {
        let (bus, stop) = (Arc::new(Bus::open(options).unwrap()), Shutdown::new());
        let (served, trigger) = (bus.clone(), stop.clone());
        Self {
            address: format!("localhost:{}", bus.local_addr().port()),
            stop,
            bus,
            task: tokio::spawn(async move { served.serve(trigger).await.unwrap() }),
        }
    }

    async fn stop(self) -> BusReport {
        self.stop.trigger();
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .unwrap()
            .unwrap()
    }
}

async fn connect(fleet: &Fleet, bus: &Running, name: &str, number: u8) -> LegacyAgent {
    let tls = TlsFiles::in_dir(fleet.path("pki"), name).client_config().unwrap();
    LegacyAgent::connect(&bus.address, tls, Some(&[number; 32]))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_full_log_they_are_told_to_come_again_and_nothing_is_lost_or_doubled() {
    let fleet = Fleet::new(&["flowagent-1"], &[]);
    let files = Credentials::in_dir(fleet.path("pki"), "bus");
    let health = Health::new();
    health.ready(true);
    let small = |bytes| {
        let wal = WalOptions::new().budget_bytes(bytes);
        fleet
            .bus_options(fleet.legacy())
            .keep_unread(true)
            .watch(health.reporter("log"))
            .log(LogOptions::new().wal(wal).key_file(&files.signing_key))
    };
    let bus = Running::start(small(256 << 10));
    // A reader that has not read: what it was promised stays.
    let port = bus.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let here = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut reader = fleet.named_subscription(here, "slow");
    let agent = connect(&fleet, &bus, "flowagent-1", 1).await;
    let mut stored = Vec::new();
    let full = loop {
        let number = stored.len() as u64;
        let envelope = agent.envelope(&format!("e-{number}"), number);
        match agent.publish(envelope.clone()).await.unwrap() {
            LegacyAnswer::Ok => stored.push(envelope),
            LegacyAnswer::Retry { after, reason } => {
                assert!(
                    reason.contains("full") && after >= Duration::from_millis(500),
                    "{reason}"
                );
                break envelope;
            }
            other => panic!("{other:?}"),
        }
        if number == 0 {
            let first = reader.next_records().await.unwrap().unwrap();
            assert!(!first.is_empty());
        }
        assert!(number < 5000, "the log is never full");
    };
    // As long as they come again in vain, the bus says that it is not ready.
    let began = Instant::now();
    while health.is_ready() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = agent.publish(full.clone()).await.unwrap();
        assert!(matches!(answer, LegacyAnswer::Retry { .. }), "{answer:?}");
    }
    assert!(
        health.failing().values().any(|why| why.contains("full")),
        "{:?}",
        health.failing()
    );
    // What is there is still known.
    assert_eq!(agent.publish(stored[3].clone()).await.unwrap(), LegacyAnswer::Ok);
    drop(reader);
    bus.stop().await;

    let bus = Running::start(small(4 << 20));
    let agent = connect(&fleet, &bus, "flowagent-1", 1).await;
    for envelope in stored.iter().rev().chain([&full]) {
        assert_eq!(agent.publish(envelope.clone()).await.unwrap(), LegacyAnswer::Ok);
    }
    let began = Instant::now();
    while !health.is_ready() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            health.failing()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let port = bus.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let events = fleet
        .events(
            std::net::SocketAddr::from(([127, 0, 0, 1], port)),
            stored.len() + 1,
        )
        .await;
    assert!(
        events
            .iter()
            .all(|event| matches!(event.payload, Payload::Flow(_)))
    );
    let report = bus.stop().await;
    assert!(report.ledger.unbalanced().is_empty(), "{}", report.ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sends_too_much_at_a_time_is_told_to_wait_and_others_are_not() {
    let fleet = Fleet::new(&["flowagent-1", "flowagent-2"], &[]);
    let legacy = fleet.legacy().max_in_flight(16);
    let bus = Running::start(fleet.bus_options(legacy));
    let (greedy, modest) = (
        connect(&fleet, &bus, "flowagent-1", 1).await,
        connect(&fleet, &bus, "flowagent-2", 2).await,
    );
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (agent, envelope) = (greedy.clone(), greedy.envelope(&format!("g-{number}"), number));
        calls.spawn(async move { agent.publish(envelope).await.unwrap() });
    }
    for number in 0..5 {
        let envelope = modest.envelope(&format!("m-{number}"), number);
        assert_eq!(modest.publish(envelope).await.unwrap(), LegacyAnswer::Ok);
    }
    let mut waited = 0;
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            LegacyAnswer::Ok => {}
            LegacyAnswer::Retry { after, .. } if !after.is_zero() => waited += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(waited > 0, "100 at a time are more than a quarter of 16");
    let report = bus.stop().await;
    let account = &report.ledger.accounts["bus/bus-gateway"];
    assert_eq!(account.delivered, 105 - waited);
}

/// Sends so many envelopes of so many bytes at a time on one connection; how many were told to come again. All others are stored.
async fn asked_to_wait(legacy: impl Fn(LegacyOptions) -> LegacyOptions, envelopes: u64, bytes: usize) -> u64 {
    let fleet = Fleet::new(&["flowagent-1"], &[]);
    let bus = Running::start(fleet.bus_options(legacy(fleet.legacy())));
    let agent = connect(&fleet, &bus, "flowagent-1", 1).await;
    // With the first answer the client knows how many calls at a time it may make.
    let first = agent.publish(agent.envelope("first", 0)).await.unwrap();
    assert_eq!(first, LegacyAnswer::Ok);
    let mut calls = tokio::task::JoinSet::new();
    for number in 1..=envelopes {
        let (agent, envelope) = (
            agent.clone(),
            agent.envelope(&format!("{number:0>bytes$}"), number),
        );
        calls.spawn(async move { agent.publish(envelope).await.unwrap() });
    }
    let mut waited = 0;
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            LegacyAnswer::Ok => {}
            LegacyAnswer::Retry { after, .. } if !after.is_zero() => waited += 1,
            other => panic!("{other:?}"),
        }
    }
    let report = bus.stop().await;
    let account = &report.ledger.accounts["bus/bus-gateway"];
    assert_eq!(account.delivered, 1 + envelopes - waited);
    waited
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_a_time_on_a_connection_are_bounded() {
    // A quarter of 64 may wait to become durable: with 8 calls at a time none is one too many.
    let few = asked_to_wait(|legacy| legacy.max_in_flight(64).max_streams(8), 300, 10).await;
    let many = asked_to_wait(|legacy| legacy.max_in_flight(64).max_streams(128), 300, 10).await;
    assert_eq!(few, 0);
    assert!(many > 0, "128 at a time are more than a quarter of 64");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_wait_to_become_durable_are_bounded() {
    // 128 KiB is the least that can be set: room for two of these.
    let tight = asked_to_wait(|legacy| legacy.max_in_flight_bytes(128 << 10), 40, 60_000).await;
    let wide = asked_to_wait(|legacy| legacy, 40, 60_000).await;
    assert!(tight > 0);
    assert_eq!(wide, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_ends_its_connection_and_no_other() {
    const DAY: Duration = Duration::from_secs(86_400);
    let fleet = Fleet::new(&["flowagent-1", "flowagent-2"], &[]);
    // With an authority that is at hand, to revoke with.
    let authority = pki::Authority::create(DAY).unwrap();
    let write =
        |file: &str, content: &str| std::fs::write(fleet.path(&format!("pki/{file}")), content).unwrap();
    write("ca.pem", &authority.certificate_pem());
    for (role, name) in [
        (Role::Bus, "bus"),
        (Role::Agent, "flowagent-1"),
        (Role::Agent, "flowagent-2"),
    ] {
        let identity = Identity {
            role,
            name: name.into(),
        };
        let issued = authority
            .issue(&pki::Request::new(identity, DAY).host("localhost"))
            .unwrap();
        write(&format!("{name}.pem"), &issued.certificate_pem);
        write(&format!("{name}.key"), &issued.key_pem);
    }
    let files = Credentials::in_dir(fleet.path("pki"), "bus");
    let reloader = Reloader::open(&files).unwrap();
    let options = BusOptions::new(fleet.path("bus"), reloader.tls(), reloader.trust().clone())
        .listen(([127, 0, 0, 1], 0).into())
        .log(LogOptions::new().key_file(&files.signing_key))
        .legacy(fleet.legacy());
    let bus = Running::start(options);
    let (revoked, other) = (
        connect(&fleet, &bus, "flowagent-1", 1).await,
        connect(&fleet, &bus, "flowagent-2", 2).await,
    );
    for (agent, key) in [(&revoked, "a"), (&other, "b")] {
        assert_eq!(
            agent.publish(agent.envelope(key, 1)).await.unwrap(),
            LegacyAnswer::Ok
        );
    }

    let certificate = CertificateDer::from_pem_file(fleet.path("pki/flowagent-1.pem")).unwrap();
    write("crl.pem", &authority.revoke(&[certificate], DAY).unwrap());
    assert!(reloader.reload().unwrap().tls);
    let began = Instant::now();
    while revoked.publish(revoked.envelope("c", 2)).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(1), "it is still served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        other.publish(other.envelope("d", 2)).await.unwrap(),
        LegacyAnswer::Ok
    );
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_bus_takes_a_new_signing_key_so_does_what_it_seals_for_them() {
    let fleet = Fleet::new(&["flowagent-1"], &[]);
    let key_file = Credentials::in_dir(fleet.path("pki"), "bus").signing_key;
    let next = FileSigner::next_path(&key_file);
    for key in ["a", "b"] {
        let bus = Running::start(fleet.bus_options(fleet.legacy()));
        let agent = connect(&fleet, &bus, "flowagent-1", 1).await;
        let before = agent.envelope(&format!("{key}-before"), 1);
        assert_eq!(agent.publish(before.clone()).await.unwrap(), LegacyAnswer::Ok);
        FileSigner::create(&next).unwrap();
        let rotation = bus.bus.key_rotation();
        rotation.begin(Arc::new(FileSigner::open(&next).unwrap()));
        // The bus writes down what time it is, and hands over with that.
        let began = Instant::now();
        loop {
            match rotation.finish() {
                Some(finished) => break finished.unwrap(),
                None => assert!(began.elapsed() < Duration::from_secs(20), "it does not hand over"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(agent.publish(before).await.unwrap(), LegacyAnswer::Ok);
        let after = agent.envelope(&format!("{key}-after"), 2);
        assert_eq!(agent.publish(after).await.unwrap(), LegacyAnswer::Ok);
        bus.stop().await;
    }
    // Whoever trusts the first key follows both streams to the last.
    let report = Verifier::new(fleet.path("bus"))
        .trust(fleet.readers_trust())
        .run()
        .unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.hand_overs.len(), 4, "{report}");
}

/// The audit entries of the bus itself, as long as there are more within a moment.
async fn audit_entries(fleet: &Fleet, bus: &Running) -> Vec<AuditEntry> {
    let tls = TlsFiles::in_dir(fleet.path("pki"), "analyzer")
        .client_config()
        .unwrap();
    let connect = ConnectOptions::new(&bus.address, tls);
    let mut reader = Subscription::new(
        SubscribeOptions::new(connect)
            .agents(["bus"])
            .classes([Class::Audit]),
    );
    let opener = Opener::verifying(fleet.readers_trust());
    let mut entries = Vec::new();
    while let Ok(records) = tokio::time::timeout(Duration::from_secs(1), reader.next_records()).await {
        for (_, record) in records.unwrap().unwrap() {
            let events = opener.open(&record).unwrap().events;
            entries.extend(events.into_iter().filter_map(|event| match event.payload {
                Payload::Audit(entry) => Some(*entry),
                _ => None,
            }));
        }
    }
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn they_may_send_no_more_in_a_second_than_other_agents_and_a_flood_is_written_down_once() {
    let fleet = Fleet::new(&["flowagent-1", "flowagent-2"], &[]);
    let mut limits = Limits::default();
    limits
        .rates
        .insert("flowagent-1".into(), Rate { events: 20, bytes: 0 });
    let bus = Running::start(fleet.bus_options(fleet.legacy()).limits(limits));
    let (flood, other) = (
        connect(&fleet, &bus, "flowagent-1", 1).await,
        connect(&fleet, &bus, "flowagent-2", 2).await,
    );
    let began = Instant::now();
    let (mut stored, mut told, mut number) = (0, 0, 0);
    while began.elapsed() < Duration::from_secs(2) {
        let envelope = flood.envelope(&format!("f-{number}"), number);
        number += 1;
        match flood.publish(envelope).await.unwrap() {
            LegacyAnswer::Ok => stored += 1,
            LegacyAnswer::Retry { after, .. } => {
                assert!(
                    !after.is_zero() && after <= Duration::from_millis(100),
                    "{after:?}"
                );
                told += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let allowed = (20.0 * (began.elapsed().as_secs_f64() + 1.0)) as u64 + 1;
    assert!((20..=allowed).contains(&stored), "{stored} of {allowed}");
    assert!(told > 20, "{told}");
    // Who does as he is told gets everything through.
    for number in 0..5 {
        let envelope = flood.envelope(&format!("p-{number}"), number);
        while let LegacyAnswer::Retry { after, .. } = flood.publish(envelope.clone()).await.unwrap() {
            tokio::time::sleep(after).await;
        }
    }
    // Nobody else notices.
    for number in 0..100 {
        let envelope = other.envelope(&format!("o-{number}"), number);
        assert_eq!(other.publish(envelope).await.unwrap(), LegacyAnswer::Ok);
    }
    let entries = audit_entries(&fleet, &bus).await;
    let limited: Vec<_> = entries
        .iter()
        .filter(|entry| entry.action == "agent.limited")
        .collect();
    assert_eq!(limited.len(), 1, "{limited:?}");
    assert_eq!(limited[0].actor, "flowagent-1");
    assert!(limited[0].reason.contains("rate"), "{}", limited[0].reason);
    let report = bus.stop().await;
    let account = &report.ledger.accounts["bus/bus-gateway"];
    assert_eq!(account.delivered, stored + 5 + 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sends_nothing_but_rubbish_is_kept_out_and_others_are_not() {
    let fleet = Fleet::new(&["flowagent-1", "flowagent-2"], &[]);
    let bus = Running::start(fleet.bus_options(fleet.legacy()));
    let (offender, other) = (
        // With the signing key of another.
        connect(&fleet, &bus, "flowagent-1", 9).await,
        connect(&fleet, &bus, "flowagent-2", 2).await,
    );
    let mut refused = 0;
    let (after, reason) = loop {
        let envelope = offender.envelope(&format!("x-{refused}"), refused);
        match offender.publish(envelope).await.unwrap() {
            LegacyAnswer::Unauthorized { .. } => refused += 1,
            LegacyAnswer::Retry { after, reason } => break (after, reason),
            other => panic!("{other:?}"),
        }
        assert!(refused < 100, "nobody keeps it out");
    };
    // One wrong setting for a moment is not held against it.
    assert!(refused >= 16, "{refused}");
    assert!(
        !after.is_zero() && reason.contains("refused"),
        "{after:?} {reason}"
    );
    let envelope = other.envelope("good", 1);
    assert_eq!(other.publish(envelope).await.unwrap(), LegacyAnswer::Ok);
    // Once it has its key again, it comes in by itself.
    let mended = connect(&fleet, &bus, "flowagent-1", 1).await;
    let began = Instant::now();
    while let LegacyAnswer::Retry { after, .. } = mended.publish(mended.envelope("m", 1)).await.unwrap() {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(after).await;
    }
    let entries = audit_entries(&fleet, &bus).await;
    let of = |action: &str| {
        let of_action = entries.iter().filter(|entry| entry.action == action);
        of_action.filter(|entry| entry.actor == "flowagent-1").count()
    };
    assert_eq!(
        (of("envelope.refused"), of("client.limited"), of("agent.limited")),
        (1, 1, 1)
    );
    bus.stop().await;
}
