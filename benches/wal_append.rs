//! What a sealed, durable event costs: sealing, appending, reading, opening, verifying.
//!
//! Events carry 300 incompressible bytes. The figure to look at is elements (events) a second, by events a batch.
//! `one_core` binds everything, the log's own thread included, to one core.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amoskys_core::{
    Class, Epoch, Event, EventId, Name, Offset, Open, Payload, Seal, Timestamp, Unsealed, Wal, WalError,
};
use amoskys_transport::verify::Verifier;
use amoskys_transport::{FileSigner, Log, LogOptions, Opener, Sealer, Signer, TrustMap, WalOptions};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BATCHES: [usize; 3] = [64, 512, 1024];

fn events(count: usize) -> Vec<Event> {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut noise = |len: usize| -> Bytes {
        let mut byte = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 32) as u8
        };
        (0..len).map(|_| byte()).collect()
    };
    let event = |ordinal: usize| Event {
        id: EventId {
            origin: 1,
            ordinal: ordinal as u64,
        },
        time: Timestamp::from_secs(1_700_000_000),
        payload: Payload::Unknown {
            tag: 99,
            bytes: noise(300),
        },
        ..Event::default()
    };
    (0..count).map(event).collect()
}

fn unsealed<'a>(source: &'a Name, events: &'a [Event]) -> Unsealed<'a> {
    Unsealed {
        class: Class::Telemetry,
        source,
        events,
        position: None,
        ledger: None,
    }
}

fn options() -> LogOptions {
    LogOptions::new().wal(WalOptions::new().budget_bytes(1 << 40))
}

fn seal_and_open(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let signer = Arc::new(FileSigner::create(dir.path().join("key")).expect("a key"));
    let trust = TrustMap::new().allow("bench", signer.public_key());
    let mut sealer = Sealer::new("bench", Epoch::default(), signer);
    let source = Name::from("bench");
    let (checked, unchecked) = (Opener::verifying(trust), Opener::unchecked());
    let mut group = criterion.benchmark_group("seal");
    for count in BATCHES {
        let events = events(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("seal", count), |bencher| {
            bencher.iter(|| sealer.seal(unsealed(&source, &events)).expect("seal"));
        });
        let record = sealer.seal(unsealed(&source, &events)).expect("seal").record;
        group.bench_function(BenchmarkId::new("open", count), |bencher| {
            bencher.iter(|| unchecked.open(black_box(&record)).expect("open"));
        });
        group.bench_function(BenchmarkId::new("open_verified", count), |bencher| {
            bencher.iter(|| checked.open(black_box(&record)).expect("open"));
        });
    }
    group.finish();
}

/// Seals and appends batches until all of them are durable; the log groups what comes in while it syncs.
fn append_all(log: &mut Log, source: &Name, events: &[Event], batches: u64) {
    let mut last = Offset(0);
    for _ in 0..batches {
        let record = log.sealer.seal(unsealed(source, events)).expect("seal").record;
        last = loop {
            match log.wal.append(record.clone()) {
                Ok(offset) => break offset,
                Err(WalError::Full { .. }) => log.wal.wait_durable(last).expect("durable"),
                Err(error) => panic!("{error}"),
            }
        };
    }
    log.wal.wait_durable(last).expect("durable");
    // The disk is not to be filled by a long run.
    log.wal.trim(last).expect("trim");
}

fn durable_append(criterion: &mut Criterion) {
    let source = Name::from("bench");
    let mut group = criterion.benchmark_group("durable_append");
    group.sample_size(10).measurement_time(Duration::from_secs(8));
    for count in BATCHES {
        let events = events(count);
        group.throughput(Throughput::Elements(count as u64));
        for one_core in [false, true] {
            let name = if one_core { "sealed_one_core" } else { "sealed" };
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                let dir = scratch();
                // Threads begun while this holds stay on the core.
                let _bound = one_core.then(OneCore::bind);
                let mut log = Log::open(dir.path(), options()).expect("a log");
                bencher.iter_custom(|batches| {
                    let start = Instant::now();
                    append_all(&mut log, &source, &events, batches);
                    start.elapsed()
                });
            });
        }
    }
    group.finish();
}

fn read_and_verify(criterion: &mut Criterion) {
    let source = Name::from("bench");
    let dir = scratch();
    let mut log = Log::open(dir.path(), options()).expect("a log");
    let (events, batches) = (events(512), 400_u64);
    for _ in 0..batches {
        let record = log.sealer.seal(unsealed(&source, &events)).expect("seal").record;
        let offset = log.wal.append(record).expect("append");
        log.wal.wait_durable(offset).expect("durable");
    }
    let mut group = criterion.benchmark_group("read_back");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(batches * 512));
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let mut from = Offset(0);
            while let Some((last, _)) = log.wal.read(from, 1 << 20).expect("read").last() {
                from = last.next();
            }
        });
    });
    drop(log);
    group.bench_function("verify", |bencher| {
        bencher.iter(|| assert!(Verifier::new(dir.path()).run().expect("a report").is_clean()));
    });
    group.bench_function("reopen", |bencher| {
        bencher.iter(|| Log::open(dir.path(), options()).expect("a log"));
    });
    group.finish();
}

/// A directory on a disk: the default for temporary files may be in memory.
fn scratch() -> tempfile::TempDir {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    tempfile::tempdir_in(target)
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// Binds this thread, and those it begins, to the core it is on, until dropped.
struct OneCore(rustix::thread::CpuSet);

impl OneCore {
    fn bind() -> Self {
        let before = rustix::thread::sched_getaffinity(None).expect("the cores of this thread");
        let mut one = rustix::thread::CpuSet::new();
        one.set(rustix::thread::sched_getcpu());
        rustix::thread::sched_setaffinity(None, &one).expect("bind to a core");
        Self(before)
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        let _ = rustix::thread::sched_setaffinity(None, &self.0);
    }
}

criterion_group!(benches, seal_and_open, durable_append, read_and_verify);
criterion_main!(benches);
