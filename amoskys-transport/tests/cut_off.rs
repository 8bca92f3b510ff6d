//! Who is not believed any more is cut off within a second of the file's change: with real files, which a bus watches as the
//! programs do.

#![cfg(all(feature = "bus", feature = "pki"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/bus.rs"]
mod site;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use amoskys_core::Shutdown;
use amoskys_transport::bus::{BusOptions, RefuseReason};
use amoskys_transport::identity::pki::Site as PkiSite;
use amoskys_transport::identity::{Credentials, Reloader, TlsFiles};
use amoskys_transport::{FileSigner, PublicKey, Sealer, TrustMap};
use peer::{ACK, BATCH, Peer, WELCOME};
use site::Running;

/// As the programs have it.
const LOOK_AT_FILES: Duration = Duration::from_millis(250);

fn make(dir: &Path) {
    let site = PkiSite::new(dir)
        .bus("bus")
        .host("localhost")
        .agent("a")
        .agent("b");
    site.make().unwrap();
}

/// A connection of agent `a`, over which a record was taken.
async fn connected(dir: &Path, bus: &Running, from: u64) -> Peer {
    let tls = TlsFiles::in_dir(dir, "a").client_config().unwrap();
    let mut peer = Peer::connect(bus.address, tls).await.unwrap();
    assert_eq!(peer.hello(1, 1, "a").await.0, WELCOME);
    let signer = FileSigner::open(dir.join("a.sign")).unwrap();
    let epoch = amoskys_core::Epoch {
        counter: 0,
        random: from.into(),
    };
    let mut sealer = Sealer::new("a", epoch, std::sync::Arc::new(signer));
    let record = common::seal(&mut sealer, amoskys_core::Class::Telemetry, from, 1, 50);
    peer.send(BATCH, &record).await;
    assert_eq!(peer.receive().await.unwrap().0, ACK);
    peer
}

/// How long it takes until the connection is refused for this reason.
async fn cut_off(peer: Peer, reason: RefuseReason, change: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    change();
    let code = RefuseReason::ALL
        .iter()
        .position(|known| *known == reason)
        .unwrap() as u64;
    assert_eq!(peer.refusal().await.0, code, "{reason}");
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_removed_or_retired_is_cut_off_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    make(&pki);
    let reloader = Reloader::open(&Credentials::in_dir(&pki, "bus")).unwrap();
    let options = BusOptions::new(dir.path().join("bus"), reloader.tls(), reloader.trust().clone())
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)));
    let bus = Running::new(options);
    let stop = Shutdown::new();
    let (watched, stopped) = (reloader.clone(), stop.clone());
    let watching = tokio::spawn(async move { watched.watch(LOOK_AT_FILES, stopped).await });

    let trust_file = pki.join("trust");
    let all = TrustMap::load(&trust_file).unwrap();
    let key =
        |name: &str| PublicKey::parse(&std::fs::read(pki.join(format!("{name}.pub"))).unwrap()).unwrap();
    let others = TrustMap::new().allow("b", key("b")).allow("bus", key("bus"));
    let retired = others.clone().retire("a", key("a"));
    let mut fastest = [Duration::MAX; 3];
    // A machine that is busy may be slow once or twice.
    for round in 0..4 {
        for (case, (reason, map)) in [
            (RefuseReason::UnknownAgent, &others),
            (RefuseReason::KeyRetired, &retired),
        ]
        .into_iter()
        .enumerate()
        {
            let peer = connected(&pki, &bus, round * 10 + case as u64).await;
            let took = cut_off(peer, reason, || map.save(&trust_file).unwrap()).await;
            fastest[case] = fastest[case].min(took);
            all.save(&trust_file).unwrap();
            let is_back = || reloader.trust().snapshot().as_ref() == &all;
            while !is_back() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let peer = connected(&pki, &bus, round * 10 + 5).await;
        let revoke = || drop(PkiSite::new(&pki).revoke(&["a"]).unwrap());
        let took = cut_off(peer, RefuseReason::CertificateRevoked, revoke).await;
        fastest[2] = fastest[2].min(took);
        assert!(!pki.join("a.pem").exists() && !pki.join("a.key").exists());
        // A new certificate for a new key lets it in again; those before stay revoked.
        make(&pki);
        if fastest.iter().all(|took| *took < Duration::from_secs(1)) {
            break;
        }
    }
    eprintln!("cut off after {fastest:?}: removed, retired, revoked");
    assert!(
        fastest.iter().all(|took| *took < Duration::from_secs(1)),
        "{fastest:?}"
    );
    connected(&pki, &bus, 99).await;
    stop.trigger();
    watching.await.unwrap();
    bus.stop().await;
}
