//! Core's own suites, run on what this crate implements.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

use std::sync::Arc;

use amoskys_core::{Epoch, conformance};
use amoskys_transport::{FileSigner, Opener, Sealer, Signer, SledWal, TrustMap, WalOptions};

#[test]
fn sled_wal_is_a_wal() {
    let dir = tempfile::tempdir().unwrap();
    conformance::wal(|| SledWal::open(dir.path(), WalOptions::new()).unwrap());
}

#[test]
fn sled_wal_with_small_segments_is_a_wal() {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions::new().segment_bytes(64 << 10);
    conformance::wal(|| SledWal::open(dir.path(), options.clone()).unwrap());
}

#[test]
fn sled_wal_keeps_to_its_budget() {
    for budget in [1 << 20, 16 << 20, 64 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions::new().budget_bytes(budget);
        conformance::wal_budget(|| SledWal::open(dir.path(), options).unwrap());
    }
}

fn pair(trusted: bool) -> (Sealer, Opener) {
    let dir = tempfile::tempdir().unwrap();
    let signer = FileSigner::create(dir.path().join("key")).unwrap();
    let opener = match trusted {
        true => Opener::verifying(TrustMap::new().allow("agent", signer.public_key())),
        false => Opener::unchecked(),
    };
    (Sealer::new("agent", Epoch::default(), Arc::new(signer)), opener)
}

#[test]
fn sealer_and_verifying_opener_are_a_pair() {
    conformance::seal(|| pair(true));
}

#[test]
fn sealer_and_unchecked_opener_are_a_pair() {
    conformance::seal(|| pair(false));
}

#[cfg(feature = "zstd")]
#[test]
fn compressing_sealer_and_opener_are_a_pair() {
    conformance::seal(|| {
        let (sealer, opener) = pair(true);
        (
            sealer.compression(amoskys_transport::Compression::Zstd(3)),
            opener,
        )
    });
}
