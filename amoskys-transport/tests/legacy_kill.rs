//! A bus that serves agents of the predecessor is killed with SIGKILL again and again while they publish. Whatever it
//! acknowledged is in its log, and nothing is there twice, however often it was sent.
#![cfg(all(feature = "legacy", feature = "pki", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

#[path = "common/fleet.rs"]
mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amoskys_core::Shutdown;
use amoskys_core::seal::read_log;
use amoskys_transport::bus::{Bus, BusOptions};
use amoskys_transport::identity::{Credentials, TlsFiles};
use amoskys_transport::legacy::{LegacyAgent, LegacyAnswer, LegacyOptions, LegacyTrust};
use amoskys_transport::{Log, LogOptions, TrustMap, WalOptions};
use bytes::Bytes;
use fleet::{Fleet, text};

const DIR: &str = "AMOSKYS_TEST_GATEWAY_IN";
/// How often, if the environment does not say so.
const KILLS: u32 = 8;
const KILLS_WANTED: &str = "AMOSKYS_TEST_KILLS";
const AGENTS: [&str; 2] = ["flowagent-1", "flowagent-2"];

/// The bus that is killed: it runs only as a child of the test below.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by `killed_at_any_moment_what_was_acknowledged_is_there_once`"]
async fn child() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let files = Credentials::in_dir(dir.join("pki"), "bus");
    let legacy = LegacyOptions::new(LegacyTrust::load(dir.join("pki/trust_map.yaml")).unwrap());
    let options = BusOptions::new(
        dir.join("bus"),
        files.tls.server_config().unwrap(),
        TrustMap::load(&files.trust).unwrap(),
    )
    .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
    .log(LogOptions::new().key_file(files.signing_key))
    .legacy(legacy);
    let bus = Bus::open(options).unwrap();
    println!("listening on {}", bus.local_addr().port());
    std::io::stdout().flush().unwrap();
    bus.serve(Shutdown::new()).await.unwrap();
}

struct Bound(Child);

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(fleet: &Fleet) -> (Bound, String) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, fleet.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut bus = Bound(child);
    let mut output = BufReader::new(bus.0.stdout.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the bus did not start");
        if let Some((_, port)) = line.trim().split_once("listening on ") {
            break format!("localhost:{port}");
        }
    };
    // Whatever else it says must not stop it.
    std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
    (bus, address)
}

/// What one agent has made, by key, and whether it was acknowledged.
type Made = Arc<Mutex<BTreeMap<String, (Bytes, bool)>>>;

/// Sends what was not acknowledged, some of what was, and new envelopes, until the bus is gone.
async fn publish(agent: LegacyAgent, made: Made, life: u32, worker: u32) {
    let waiting: Vec<_> = {
        let made = made.lock().unwrap();
        let mine = made
            .iter()
            .filter(|(key, _)| key.ends_with(&format!("/{worker}")));
        let again = mine
            .enumerate()
            .filter(|(at, (_, (_, done)))| !done || at % 7 == life as usize % 7);
        again
            .map(|(_, (key, (bytes, _)))| (key.clone(), bytes.clone()))
            .collect()
    };
    let fresh = (0..).map(|number: u64| {
        let key = format!("{life:04}-{number:06}/{worker}");
        let bytes = agent.envelope(&key, number);
        (key, bytes)
    });
    for (key, bytes) in waiting.into_iter().chain(fresh) {
        made.lock()
            .unwrap()
            .entry(key.clone())
            .or_insert_with(|| (bytes.clone(), false));
        match agent.publish(bytes).await {
            Ok(LegacyAnswer::Ok) => {
                if let Some((_, done)) = made.lock().unwrap().get_mut(&key) {
                    *done = true;
                }
            }
            Ok(LegacyAnswer::Retry { after, .. }) => tokio::time::sleep(after).await,
            Ok(other) => panic!("{other:?}"),
            Err(_) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_what_was_acknowledged_is_there_once() {
    let fleet = Fleet::new(&AGENTS, &[]);
    let mut seed = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .subsec_nanos();
    println!("seed {seed}");
    let wanted = std::env::var(KILLS_WANTED)
        .ok()
        .and_then(|kills| kills.parse().ok());
    let made: Vec<Made> = AGENTS.iter().map(|_| Made::default()).collect();
    for life in 0..wanted.unwrap_or(KILLS) {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (mut bus, address) = start(&fleet);
        let mut workers = tokio::task::JoinSet::new();
        for (number, name) in (1..).zip(AGENTS) {
            let tls = TlsFiles::in_dir(fleet.path("pki"), name).client_config().unwrap();
            let agent = LegacyAgent::connect(&address, tls, Some(&[number; 32]))
                .await
                .unwrap();
            for worker in 0..4 {
                let made = made[usize::from(number) - 1].clone();
                workers.spawn(publish(agent.clone(), made, life, worker));
            }
        }
        // Now and then long enough that the keys are written to their file.
        let most = if life % 4 == 3 { 1500 } else { 300 };
        tokio::time::sleep(Duration::from_millis(u64::from(seed >> 16) * most / 65_536 + 20)).await;
        bus.0.kill().unwrap();
        bus.0.wait().unwrap();
        while let Some(done) = workers.join_next().await {
            done.unwrap();
        }
    }

    let wal = WalOptions::new();
    let log = Log::open(
        fleet.path("bus"),
        LogOptions::new()
            .agent("bus")
            .wal(wal)
            .key_file(Credentials::in_dir(fleet.path("pki"), "bus").signing_key),
    )
    .unwrap();
    let mut stored: BTreeMap<(String, String), u32> = BTreeMap::new();
    let opener = amoskys_transport::Opener::verifying(fleet.readers_trust());
    for item in read_log(&*log.wal, &opener) {
        let (_, opened) = item.unwrap();
        for event in opened
            .events
            .iter()
            .filter(|event| event.source.as_str() == "legacy")
        {
            let key = text(event, "legacy.idempotency_key").to_owned();
            *stored.entry((event.device.to_string(), key)).or_default() += 1;
        }
    }
    let twice: BTreeSet<_> = stored.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let mut acknowledged = 0;
    for (name, made) in AGENTS.iter().zip(&made) {
        for (key, (_, done)) in made.lock().unwrap().iter() {
            if *done {
                acknowledged += 1;
                assert!(
                    stored.contains_key(&((*name).to_owned(), key.clone())),
                    "{name} {key} is lost"
                );
            }
        }
    }
    println!("{acknowledged} acknowledged, {} stored", stored.len());
    assert!(acknowledged > 100, "{acknowledged}");
    drop(log);
    let report = amoskys_transport::verify::Verifier::new(fleet.path("bus"))
        .trust(fleet.readers_trust())
        .run()
        .unwrap();
    assert!(report.is_clean(), "{report}");
}
