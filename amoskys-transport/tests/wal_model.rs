//! Random operations on the log, against a model that is a plain list.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

use std::collections::BTreeMap;
use std::path::Path;

use amoskys_core::{Offset, Wal, WalError};
use amoskys_transport::{SledWal, WalOptions};
use bytes::Bytes;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Wait,
    Read {
        back: u64,
        max_bytes: usize,
    },
    Trim {
        back: u64,
    },
    Store {
        name: u8,
        len: usize,
    },
    Sync,
    Reopen,
    /// What is in the directory, opened by another process: nothing was closed.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0usize..3000).prop_map(Op::Append),
        1 => (3000usize..20_000).prop_map(Op::Append),
        2 => Just(Op::Wait),
        4 => (0u64..60, 1usize..20_000).prop_map(|(back, max_bytes)| Op::Read { back, max_bytes }),
        2 => (0u64..40).prop_map(|back| Op::Trim { back }),
        1 => (0u8..3, 0usize..9000).prop_map(|(name, len)| Op::Store { name, len }),
        1 => Just(Op::Sync),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
    ]
}

/// Every record differs, and says which one it is.
fn record(offset: u64, len: usize) -> Bytes {
    let bytes = offset
        .to_le_bytes()
        .into_iter()
        .cycle()
        .zip(0u8..=255)
        .map(|(a, b)| a ^ b);
    bytes.cycle().take(len).collect::<Vec<_>>().into()
}

fn open(dir: &Path) -> SledWal {
    let options = WalOptions::new().budget_bytes(256 << 10).segment_bytes(16 << 10);
    SledWal::open(dir, options).unwrap()
}

/// A copy of a directory in which files come and go.
fn copy_of_what_is_there(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map_while(Result::ok) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_of_what_is_there(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), target) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_list(ops in prop::collection::vec(op(), 1..120)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut wal = open(dir.path());
        // The records in the log, the offset of the next one, what was trimmed, and the named values.
        let mut records = BTreeMap::new();
        let (mut next, mut floor) = (0u64, 0u64);
        let mut values = BTreeMap::new();
        for op in ops {
            match op {
                Op::Append(len) => match wal.append(record(next, len)) {
                    Ok(offset) => {
                        prop_assert_eq!(offset, Offset(next));
                        records.insert(next, len);
                        next += 1;
                    }
                    Err(WalError::Full { .. }) => {
                        // Only with much in it, and a trim helps.
                        prop_assert!(wal.used_bytes() > (256 << 10) * 3 / 4);
                        if next > 0 {
                            wal.wait_durable(Offset(next - 1)).unwrap();
                        }
                        wal.trim(Offset(next)).unwrap();
                        floor = next;
                        prop_assert_eq!(wal.append(record(next, len)).unwrap(), Offset(next));
                        records.insert(next, len);
                        next += 1;
                    }
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                },
                Op::Wait => if next > 0 {
                    wal.wait_durable(Offset(next - 1)).unwrap();
                    prop_assert_eq!(wal.durable(), Offset(next));
                },
                Op::Read { back, max_bytes } => {
                    let from = next.saturating_sub(back);
                    let durable = wal.durable().0;
                    let read = wal.read(Offset(from), max_bytes).unwrap();
                    let first = from.max(wal.first().0);
                    prop_assert_eq!(read.is_empty(), first >= wal.durable().0.min(durable.max(first)));
                    let mut total = 0;
                    for (at, (offset, bytes)) in read.iter().enumerate() {
                        prop_assert_eq!(offset.0, first + at as u64);
                        prop_assert_eq!(bytes, &record(offset.0, records[&offset.0]));
                        total += bytes.len();
                    }
                    prop_assert!(read.len() <= 1 || total <= max_bytes);
                }
                Op::Trim { back } => {
                    let to = next.saturating_sub(back);
                    let durable = wal.durable().0;
                    wal.trim(Offset(to)).unwrap();
                    floor = floor.max(to.min(durable));
                    prop_assert!(wal.first().0 >= floor || wal.first() == wal.durable());
                }
                Op::Store { name, len } => {
                    wal.store(&name.to_string(), &record(u64::from(name), len)).unwrap();
                    values.insert(name, len);
                }
                Op::Sync => wal.sync().unwrap(),
                Op::Crash => {
                    // Files are copied one after the other, so nothing may be under way.
                    if next > 0 {
                        wal.wait_durable(Offset(next - 1)).unwrap();
                    }
                    let copy = tempfile::tempdir().unwrap();
                    copy_of_what_is_there(dir.path(), copy.path());
                    drop(wal);
                    wal = open(copy.path());
                    dir = copy;
                    prop_assert_eq!(wal.durable(), Offset(next));
                    // How far it was trimmed may not have been written yet.
                    prop_assert!(wal.first().0 <= floor.max(next));
                    floor = floor.min(wal.first().0);
                    // sled writes when it pleases: which of its values a copy has, nobody knows.
                    values.clear();
                }
                Op::Reopen => {
                    drop(wal);
                    wal = open(dir.path());
                    prop_assert_eq!(wal.durable(), Offset(next));
                    prop_assert!(wal.first().0 >= floor.min(next));
                }
            }
            for (name, len) in &values {
                let value = wal.load(&name.to_string()).unwrap();
                prop_assert_eq!(value, Some(record(u64::from(*name), *len)));
            }
        }
        if next > 0 {
            wal.wait_durable(Offset(next - 1)).unwrap();
        }
        let mut from = wal.first();
        loop {
            let read = wal.read(from, 10_000).unwrap();
            let Some((last, _)) = read.last() else { break };
            from = last.next();
            for (offset, bytes) in &read {
                prop_assert_eq!(bytes, &record(offset.0, records[&offset.0]));
            }
        }
        prop_assert_eq!(from, Offset(next));
    }
}
