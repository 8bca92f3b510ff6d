use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;

use crate::id::Offset;
use crate::wal::{Wal, WalError};

use super::events::SplitMix;

/// Checks a log. `open` opens the same, at first empty, log each time it is called; the log opened before has
/// been dropped by then. It needs room for 4 MiB.
///
/// # Panics
///
/// If a promise of [`Wal`] is not kept.
pub fn wal<W: Wal>(mut open: impl FnMut() -> W) {
    begins_empty(&open());
    let mut records = appends_in_order(&open());
    survives_reopening(&open(), &records);
    reads_from_the_middle(&open(), &records);
    appends_from_many_threads(&open(), &mut records);
    survives_reopening(&open(), &records);
    calls_back_when_durable(&open(), &mut records);
    keeps_values(&open());
    let value = open().load("kept").expect("load a value after reopening");
    assert_eq!(
        value.as_deref(),
        Some(&b"second"[..]),
        "a stored value must survive reopening"
    );
    trims(&open(), &mut records);
    goes_on_after_trimming_everything(&mut open, &records);
}

/// Checks that a log keeps to its byte budget: it fills it, answers [`WalError::Full`], and takes records again
/// after a trim. `open` opens an empty log with a budget of at most 64 MiB.
///
/// # Panics
///
/// If the log does not keep to its budget.
pub fn wal_budget<W: Wal>(open: impl FnOnce() -> W) {
    let wal = open();
    let budget = wal.budget_bytes();
    assert!(
        budget <= 64 << 20,
        "open the log with a budget of at most 64 MiB for this check"
    );
    let record = Bytes::from(vec![0x5a; 64 << 10]);
    let mut last = None;
    let error = loop {
        match wal.append(record.clone()) {
            Ok(offset) => last = Some(offset),
            Err(error) => break error,
        }
        assert!(
            wal.used_bytes() <= budget,
            "used {} bytes of {budget}",
            wal.used_bytes()
        );
    };
    assert!(
        matches!(error, WalError::Full { .. }),
        "a full log answers Full, not {error:?}"
    );
    let last = last.expect("at least one record must fit into the budget");
    wal.wait_durable(last)
        .expect("records that were taken become durable in a full log");
    assert_eq!(
        read_all(&wal, Offset(0)).len() as u64,
        last.0 + 1,
        "a full log keeps all it took"
    );
    wal.trim(last.next()).expect("trim a full log");
    let offset = wal.append(record).expect("after a trim there is room again");
    assert_eq!(offset, last.next(), "offsets go on after a trim");
}

fn begins_empty(wal: &impl Wal) {
    assert_eq!(wal.first(), Offset(0), "a new log begins at offset 0");
    assert_eq!(wal.durable(), Offset(0), "a new log has nothing durable");
    assert!(read_all(wal, Offset(0)).is_empty(), "a new log is empty");
    assert_eq!(
        wal.load("nothing").expect("load"),
        None,
        "a value that was never stored is not there"
    );
}

fn appends_in_order(wal: &impl Wal) -> Vec<Bytes> {
    let mut random = SplitMix(1);
    let mut records = Vec::new();
    for at in 0..300_u64 {
        let size = match at {
            0 => 0,
            1 => 1,
            2 => 300_000,
            _ => (random.next() % 3000) as usize,
        };
        let record: Bytes = (0..size).map(|_| random.next() as u8).collect::<Vec<_>>().into();
        let offset = wal.append(record.clone()).expect("append");
        assert_eq!(offset, Offset(at), "offsets count records");
        records.push(record);
    }
    wal.wait_durable(Offset(299)).expect("wait until all is durable");
    assert_eq!(wal.durable(), Offset(300), "what was waited for is durable");
    assert_same(wal, &records);
    records
}

fn survives_reopening(wal: &impl Wal, records: &[Bytes]) {
    assert_eq!(
        wal.durable(),
        Offset(records.len() as u64),
        "durable records survive reopening"
    );
    assert_same(wal, records);
}

fn reads_from_the_middle(wal: &impl Wal, records: &[Bytes]) {
    let some = wal.read(Offset(100), 1).expect("read");
    assert_eq!(
        some.len(),
        1,
        "a read gives at least one record, and no more than was asked for"
    );
    assert_eq!(some[0], (Offset(100), records[100].clone()));
    assert!(
        wal.read(Offset(300), 1000).expect("read").is_empty(),
        "there is nothing at the end"
    );
    assert!(
        wal.read(Offset(u64::MAX), 1000).expect("read").is_empty(),
        "nor far behind it"
    );
}

fn appends_from_many_threads(wal: &impl Wal, records: &mut Vec<Bytes>) {
    let first = records.len() as u64;
    let taken: Vec<(Offset, Bytes)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u8)
            .map(|thread| {
                scope.spawn(move || {
                    let append = |at: u8| {
                        let record = Bytes::from(vec![thread; usize::from(at) + 1]);
                        let offset = wal.append(record.clone()).expect("append from a thread");
                        wal.wait_durable(offset).expect("wait");
                        assert!(wal.durable() > offset, "durable passes what was waited for");
                        (offset, record)
                    };
                    (0..25).map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a thread"))
            .collect()
    });
    let mut taken = taken;
    taken.sort_by_key(|(offset, _)| *offset);
    for (at, (offset, _)) in taken.iter().enumerate() {
        assert_eq!(offset.0, first + at as u64, "each offset is given once");
    }
    records.extend(taken.into_iter().map(|(_, record)| record));
    assert_same(wal, records);
}

fn calls_back_when_durable(wal: &impl Wal, records: &mut Vec<Bytes>) {
    let (sender, calls) = mpsc::channel();
    let highest = Arc::new(AtomicU64::new(0));
    let seen = highest.clone();
    wal.on_durable(Box::new(move |durable| {
        seen.fetch_max(durable.0, Ordering::SeqCst);
        let _ = sender.send(durable);
    }));
    let record = Bytes::from_static(b"wake me");
    let offset = wal.append(record.clone()).expect("append");
    records.push(record);
    while highest.load(Ordering::SeqCst) <= offset.0 {
        calls
            .recv_timeout(Duration::from_secs(10))
            .expect("a call when the record is durable");
    }
    assert!(wal.durable() > offset, "the call comes when it is true");
}

fn keeps_values(wal: &impl Wal) {
    wal.store("kept", b"first").expect("store");
    wal.store("kept", b"second").expect("store again");
    wal.store("empty", b"").expect("store nothing");
    assert_eq!(wal.load("kept").expect("load").as_deref(), Some(&b"second"[..]));
    assert_eq!(wal.load("empty").expect("load").as_deref(), Some(&b""[..]));
}

fn trims(wal: &impl Wal, records: &mut [Bytes]) {
    let to = Offset(records.len() as u64 / 2);
    wal.trim(to).expect("trim");
    assert!(wal.first() <= to, "a trim forgets no more than was allowed");
    let kept = read_all(wal, to);
    assert_eq!(
        kept.first().map(|(offset, _)| *offset),
        Some(to),
        "what was not trimmed is there"
    );
    for (offset, record) in kept {
        assert_eq!(record, records[offset.0 as usize], "record {offset} after a trim");
    }
    wal.trim(Offset(u64::MAX)).expect("trim everything");
    assert!(
        wal.first() <= wal.durable(),
        "a trim beyond the end stops at the end"
    );
}

fn goes_on_after_trimming_everything<W: Wal>(open: &mut impl FnMut() -> W, records: &[Bytes]) {
    let wal = open();
    let offset = wal
        .append(Bytes::from_static(b"after"))
        .expect("append after a trim");
    assert_eq!(
        offset,
        Offset(records.len() as u64),
        "offsets go on after a trim and reopening"
    );
    wal.wait_durable(offset).expect("wait");
    drop(wal);
    let last = read_all(&open(), offset);
    assert_eq!(last, [(offset, Bytes::from_static(b"after"))]);
}

fn assert_same(wal: &impl Wal, records: &[Bytes]) {
    let read = read_all(wal, Offset(0));
    assert_eq!(read.len(), records.len(), "all records are there");
    for ((offset, record), (at, expected)) in read.iter().zip(records.iter().enumerate()) {
        assert_eq!(offset.0, at as u64, "records come in order, without holes");
        assert_eq!(record, expected, "record {at} comes back byte for byte");
    }
}

fn read_all(wal: &impl Wal, mut from: Offset) -> Vec<(Offset, Bytes)> {
    let mut all = Vec::new();
    loop {
        let records = wal.read(from, 10_000).expect("read");
        let Some((last, _)) = records.last() else {
            return all;
        };
        assert!(*last >= from, "a read does not go back");
        from = last.next();
        all.extend(records);
    }
}
