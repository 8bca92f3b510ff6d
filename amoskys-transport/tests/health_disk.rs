//! A bus whose disk is full says that it is not ready, and is ready again by itself once there is room. Needs root for a file
//! system of its own; skipped without.
#![cfg(all(feature = "bus", feature = "health", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use amoskys_core::{RecordSource as _, Shutdown, Wal as _};
use amoskys_transport::bus::{SubscribeOptions, Subscription};
use amoskys_transport::health::{Health, HealthServer};
use amoskys_transport::identity::Role;
use amoskys_transport::{LogOptions, WalOptions};
use site::{Agent, Running, Site, assert_clean, carry, take};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A small file system in memory, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` without the privilege to mount.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(at)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        assert!(
            std::env::var_os("AMOSKYS_REQUIRE_PEERS").is_none(),
            "cannot mount a tmpfs"
        );
        println!("skipped: cannot mount a tmpfs, which needs root");
        None
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves about this much room.
    fn fill_up(&self, room: usize) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        let mut written = 0;
        while file.write_all(&[1; 4096]).is_ok() {
            written += 4096;
        }
        file.set_len(written - room as u64).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Status and body of the answer to the question whether it is ready.
async fn readiness(address: SocketAddr) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    let _ = tokio::time::timeout(Duration::from_secs(9), stream.read_to_string(&mut answer)).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

/// Waits for this status; the answer.
async fn settle(address: SocketAddr, wanted: u16) -> String {
    let began = Instant::now();
    loop {
        let (status, answer) = readiness(address).await;
        if status == wanted {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_makes_a_bus_unready_until_there_is_room() {
    let mut site = Site::new();
    site.know("a");
    let Some(disk) = Disk::mount(&site.path("bus")) else {
        return;
    };
    let (health, stop) = (Health::new(), Shutdown::new());
    let server = HealthServer::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr();
    let serving = tokio::spawn(server.serve(health.clone(), stop.clone()));
    let wal = WalOptions::new().budget_bytes(64 << 20).segment_bytes(256 << 10);
    let options = site.bus_options().log(LogOptions::new().wal(wal));
    let bus = Running::new(options.keep_unread(true).watch(health.reporter("log")));
    health.ready(true);
    settle(address, 200).await;

    // A reader that has not read: what it was promised stays.
    let connect = site.connect(&bus, Role::Analyzer, "analyzer");
    let mut reader = Subscription::new(SubscribeOptions::new(connect).position("slow"));
    reader.next_records().await.unwrap();
    disk.fill_up(2 << 20);
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(4000);
    let (feed, mut publisher) = (agent.feed(0), agent.publisher(&site, &bus));
    let sending = tokio::spawn(async move {
        let began = Instant::now();
        while let Err(error) = carry(&mut publisher, &feed).await {
            assert!(began.elapsed() < Duration::from_secs(60), "{error}");
        }
        feed.acknowledged()
    });
    let answer = settle(address, 503).await;
    assert!(answer.contains("\"log\"") && answer.contains("full"), "{answer}");
    // It does not come and go.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(readiness(address).await.0, 503);
    }
    std::fs::remove_file(disk.ballast()).unwrap();
    settle(address, 200).await;
    assert_eq!(sending.await.unwrap(), agent.log.wal.durable());
    assert_eq!(readiness(address).await.0, 200);
    let records = take(&mut site.subscription(&bus), 4000).await;
    assert!(site::of_agents(records).len() <= agent.sealed.len());
    drop(reader);
    let report = bus.stop().await;
    assert_eq!(report.ledger.accounts["bus/a"].delivered, 4 * 4000);
    assert_clean(&site, "bus");
    stop.trigger();
    serving.await.unwrap();
    drop(disk);
}
