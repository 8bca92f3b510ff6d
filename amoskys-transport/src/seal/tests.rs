use std::sync::Arc;

use amoskys_core::event::{Gap, GapReason};
use amoskys_core::{Class, Digest, Epoch, Event, Open, Payload, Seal, SealError, Seq, StreamId, Unsealed};
use bytes::Bytes;
use proptest::prelude::*;

use super::header::{CRITICAL, SIGNATURE, sha256, signed_message};
use super::*;
use crate::key::{FileSigner, SharedTrust, Signer, TrustMap};

fn signer() -> Arc<FileSigner> {
    let dir = tempfile::tempdir().unwrap();
    Arc::new(FileSigner::create(dir.path().join("key")).unwrap())
}

fn sealer(signer: &Arc<FileSigner>) -> Sealer {
    Sealer::new(
        "agent",
        Epoch {
            counter: 3,
            random: 9,
        },
        signer.clone(),
    )
}

fn opener(signer: &FileSigner) -> Opener {
    Opener::verifying(TrustMap::new().allow("agent", signer.public_key()))
}

fn seal(sealer: &mut Sealer, count: usize) -> Bytes {
    let events = vec![Event::default(); count];
    let (source, class) = ("source".into(), Class::Telemetry);
    let batch = Unsealed {
        class,
        source: &source,
        events: &events,
        position: None,
        ledger: None,
    };
    sealer.seal(batch).unwrap().record
}

/// Changes the signed header and signs it again, as a newer version might have written it.
fn rewrite(record: &Bytes, signer: &FileSigner, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let len = u32::from_le_bytes(record[8..12].try_into().unwrap()) as usize;
    let mut header = record[..len].to_vec();
    change(&mut header);
    let len_now = u32::try_from(header.len()).unwrap();
    header[8..12].copy_from_slice(&len_now.to_le_bytes());
    let signature = signer.sign(&signed_message(&sha256(&header))).unwrap();
    header.extend_from_slice(&signature);
    header.extend_from_slice(&record[len + SIGNATURE..]);
    header.into()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u32::try_from(value.len()).unwrap();
    [&kind.to_le_bytes()[..], &len.to_le_bytes(), value].concat()
}

#[test]
fn the_chain_links_records_by_their_digests() {
    let signer = signer();
    let mut sealer = sealer(&signer);
    let headers = [2, 3, 1].map(|count| SealedHeader::parse(&seal(&mut sealer, count)).unwrap());
    assert_eq!(
        headers.iter().map(|header| header.first.0).collect::<Vec<_>>(),
        [0, 2, 5]
    );
    assert_eq!(headers[0].previous, Digest::default());
    assert_eq!(headers[1].previous, headers[0].digest);
    assert_eq!(headers[2].previous, headers[1].digest);
    assert_eq!(
        sealer.head(Class::Telemetry),
        Head {
            next: Seq(6),
            digest: headers[2].digest
        }
    );
    assert_eq!(
        (headers[2].key, headers[2].kind),
        (signer.public_key().id(), RecordKind::Batch)
    );
}

#[test]
fn any_flipped_byte_is_refused() {
    let signer = signer();
    let record = seal(&mut sealer(&signer), 2);
    let opener = opener(&signer);
    opener.open(&record).unwrap();
    for at in 0..record.len() {
        for flip in [1, 0x80] {
            let mut bad = record.to_vec();
            bad[at] ^= flip;
            assert!(opener.open(&bad.into()).is_err(), "byte {at}");
        }
    }
    assert!(opener.open(&[&record[..], b"x"].concat().into()).is_err());
}

#[test]
fn only_trusted_keys_are_believed() {
    let (signer, other) = (signer(), signer());
    let record = seal(&mut sealer(&other), 1);
    let error = opener(&signer).open(&record).unwrap_err().to_string();
    assert!(error.contains("not trusted"), "{error}");
    Opener::unchecked().open(&record).unwrap();
    // Trusted, but for another agent.
    let elsewhere = Opener::verifying(TrustMap::new().allow("other", other.public_key()));
    assert!(elsewhere.open(&record).is_err());
    // Named like a trusted key, and not signed by it.
    let forged = rewrite(&record, &other, |header| {
        header[88..96].copy_from_slice(&signer.public_key().id().0)
    });
    let error = opener(&signer).open(&forged).unwrap_err().to_string();
    assert!(error.contains("signature is wrong"), "{error}");
}

#[test]
fn what_a_newer_version_added_is_passed_over() {
    let signer = signer();
    let mut sealer = sealer(&signer);
    let record = seal(&mut sealer, 2);
    let newer = rewrite(&record, &signer, |header| {
        header[5] = 2;
        header.extend(extension(77, b"something new"));
    });
    let opened = opener(&signer).open(&newer).unwrap();
    assert_eq!(opened.events.len(), 2);
    assert_eq!(SealedHeader::parse(&newer).unwrap().version, 2);
}

#[test]
fn what_a_newer_version_must_have_known_is_refused_but_can_be_chained() {
    let signer = signer();
    let record = seal(&mut sealer(&signer), 2);
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 4] = [
        |header| header.extend(extension(CRITICAL | 77, b"something new")),
        |header| header[6] = 9,
        |header| header[20] = 9,
        |header| header[22] = 1,
    ];
    for (which, change) in changes.iter().enumerate() {
        for version in [1, 2] {
            let newer = rewrite(&record, &signer, |header| {
                header[5] = version;
                change(header);
            });
            let error = opener(&signer).open(&newer).unwrap_err();
            match (version, &error) {
                (
                    2,
                    SealError::Version {
                        found: 2,
                        supported: 1,
                    },
                )
                | (1, SealError::Damaged { .. }) => {}
                _ => panic!("change {which}, version {version}: {error}"),
            }
            let header = SealedHeader::parse(&newer).unwrap();
            assert_eq!((header.first, header.count), (Seq(0), 2));
        }
    }
    let layout = rewrite(&record, &signer, |header| header[4] = 2);
    let error = SealedHeader::parse(&layout).unwrap_err();
    assert!(
        matches!(
            error,
            SealError::Version {
                found: 2,
                supported: 1
            }
        ),
        "{error}"
    );
}

#[test]
fn a_gap_comes_back() {
    let signer = signer();
    let stream = StreamId {
        agent: "agent".into(),
        epoch: Epoch::default(),
        class: Class::Bulk,
    };
    let (before, end) = (Digest([1; 32]), Digest([2; 32]));
    for reason in [
        GapReason::Shed,
        GapReason::Quarantined,
        GapReason::Expired,
        GapReason::Erased,
        GapReason::LogLost,
    ] {
        let gap = Gap {
            stream: stream.clone(),
            first: Seq(5),
            last: Seq(9),
            before,
            end,
            reason,
        };
        let sealed = seal_gap(&gap, &*signer, &Keyring::default()).unwrap();
        let opened = opener(&signer).open(&sealed.record).unwrap();
        assert_eq!(
            (opened.first, opened.last, opened.events.len()),
            (Seq(5), Seq(9), 0)
        );
        assert_eq!(opened.gap, Some(gap));
    }
}

#[test]
fn refused_batches_change_nothing() {
    let signer = signer();
    let mut sealer = sealer(&signer);
    let events = vec![Event::default(); amoskys_core::wire::MAX_EVENTS + 1];
    let source = "source".into();
    let batch = Unsealed {
        class: Class::Telemetry,
        source: &source,
        events: &events,
        position: None,
        ledger: None,
    };
    assert!(matches!(sealer.seal(batch), Err(SealError::Batch { .. })));
    let huge = Payload::Unknown {
        tag: 99,
        bytes: vec![0; 18 << 20].into(),
    };
    let events = [Event {
        payload: huge,
        ..Event::default()
    }];
    assert!(matches!(
        sealer.seal(Unsealed {
            events: &events,
            ..batch
        }),
        Err(SealError::Batch { .. })
    ));
    assert_eq!(sealer.head(Class::Telemetry), Head::default());
}

#[cfg(feature = "zstd")]
#[test]
fn a_payload_cannot_expand_beyond_the_limit() {
    let signer = signer();
    let mut sealer = sealer(&signer).compression(Compression::Zstd(3));
    let bytes = Bytes::from(vec![0; 1 << 20]);
    let events = [Event {
        payload: Payload::Unknown { tag: 99, bytes },
        ..Event::default()
    }];
    let source = "source".into();
    let batch = Unsealed {
        class: Class::Telemetry,
        source: &source,
        events: &events,
        position: None,
        ledger: None,
    };
    let record = sealer.seal(batch).unwrap().record;
    assert!(record.len() < 2000, "{} bytes", record.len());
    assert_eq!(opener(&signer).open(&record).unwrap().events, events);
    assert!(opener(&signer).max_payload_bytes(1 << 19).open(&record).is_err());
    // Says it is small, and is not.
    let lying = rewrite(&record, &signer, |header| {
        header[16..20].copy_from_slice(&1000_u32.to_le_bytes())
    });
    assert!(opener(&signer).open(&lying).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_opener_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Opener::unchecked().open(&Bytes::from(bytes));
    }

    #[test]
    fn no_change_of_a_record_makes_the_opener_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        count in 1_usize..4,
    ) {
        let signer = signer();
        let mut bad = seal(&mut sealer(&signer), count).to_vec();
        for (at, byte) in changes {
            let at = at.index(bad.len());
            bad[at] = byte;
        }
        let _ = Opener::unchecked().open(&Bytes::from(bad.clone()));
        let _ = SealedHeader::parse(&bad[..cut.index(bad.len())]);
    }
}

#[test]
fn a_trust_map_that_is_replaced_counts_from_then_on() {
    let (first, other) = (signer(), signer());
    let (by_first, by_other) = (seal(&mut sealer(&first), 1), seal(&mut sealer(&other), 1));
    let trust = SharedTrust::new(TrustMap::new().allow("agent", first.public_key()));
    let opener = Opener::verifying(trust.clone());
    opener.open(&by_first).unwrap();
    opener.open(&by_other).unwrap_err();
    trust.replace(TrustMap::new().allow("agent", other.public_key()));
    opener.open(&by_first).unwrap_err();
    opener.open(&by_other).unwrap();
}
