//! Damage is survived: what is good stays readable, what is not is replaced by signed gaps.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::fs;
use std::path::Path;

use amoskys_core::event::GapReason;
use amoskys_core::{Class, Open, Wal};
use common::{assert_clean, fill, open, read_all, segments, stored_records, verify};

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x20;
    fs::write(file, bytes).unwrap();
}

/// Opens, reads everything, writes some more; twice, because damage in old segments is noticed by reading.
fn live_on(dir: &Path) -> (u64, usize) {
    let mut seen = (0, 0);
    for _ in 0..2 {
        let mut log = open(dir);
        let (records, damaged) = read_all(&log);
        seen = (records.len() as u64, damaged.len());
        fill(&mut log, 3);
    }
    drop(open(dir));
    seen
}

#[test]
fn damage_in_an_old_segment_becomes_a_gap() {
    for where_in_record in [2, 40, 250, 700] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        fill(&mut log, 150);
        drop(log);
        let segment = &segments(dir.path())[1];
        let (at, len) = stored_records(&fs::read(segment).unwrap())[5];
        assert!(len > 700);
        flip(segment, at + where_in_record);
        assert!(!verify(dir.path()).is_clean());
        let (records, damaged) = live_on(dir.path());
        assert_eq!(damaged, 1);
        assert!(records >= 149, "{records}");
        let report = assert_clean(dir.path());
        assert_eq!(report.gaps.len(), 1, "{report}");
        assert_eq!(report.gaps[0].reason, GapReason::Quarantined.as_str());
        // It is recorded once, and stays explained.
        live_on(dir.path());
        assert_eq!(assert_clean(dir.path()).gaps.len(), 1);
    }
}

#[test]
fn the_last_durable_record_is_not_taken_for_a_torn_one() {
    // Its header, its signed header, its payload.
    for where_in_record in [20, 100, 700] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        fill(&mut log, 8);
        let head = log.sealer.head(Class::Telemetry);
        drop(log);
        let segment = &segments(dir.path())[0];
        let (at, _) = *stored_records(&fs::read(segment).unwrap()).last().unwrap();
        flip(segment, at + where_in_record);
        let log = open(dir.path());
        assert_eq!(
            log.wal.durable().0,
            9,
            "eight records, and the gap in place of the last"
        );
        assert_eq!(
            log.sealer.head(Class::Telemetry),
            head,
            "the stream goes on behind what was lost"
        );
        drop(log);
        let report = assert_clean(dir.path());
        assert_eq!(report.gaps.len(), 1, "{report}");
        live_on(dir.path());
        assert_clean(dir.path());
    }
}

#[test]
fn a_lost_end_becomes_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 120);
    let heads = [Class::Telemetry, Class::Alert].map(|class| log.sealer.head(class));
    let durable = log.wal.durable();
    drop(log);
    fs::remove_file(segments(dir.path()).last().unwrap()).unwrap();
    let log = open(dir.path());
    assert!(log.wal.durable() > durable, "offsets are not used twice");
    assert_eq!(
        [Class::Telemetry, Class::Alert].map(|class| log.sealer.head(class)),
        heads
    );
    drop(log);
    live_on(dir.path());
    let report = assert_clean(dir.path());
    assert!(
        report
            .gaps
            .iter()
            .all(|gap| gap.reason == GapReason::LogLost.as_str()),
        "{report}"
    );
}

#[test]
fn a_missing_or_zeroed_or_cut_segment_becomes_a_gap() {
    let harm: [&dyn Fn(&Path); 4] = [
        &|file| fs::remove_file(file).unwrap(),
        &|file| fs::write(file, vec![0; fs::metadata(file).unwrap().len() as usize]).unwrap(),
        &|file| fs::write(file, &fs::read(file).unwrap()[..2000]).unwrap(),
        &|file| fs::write(file, b"").unwrap(),
    ];
    for (which, harm) in harm.iter().enumerate() {
        for from_end in [2, 1] {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(dir.path());
            fill(&mut log, 120);
            drop(log);
            let files = segments(dir.path());
            harm(&files[files.len() - from_end]);
            let harmed = verify(dir.path());
            assert!(!harmed.is_clean());
            let log = open(dir.path());
            let (records, _) = read_all(&log);
            assert!(records.len() > 60, "harm {which}: {} records", records.len());
            for (_, record) in records {
                log.opener.open(&record).unwrap();
            }
            drop(log);
            live_on(dir.path());
            let report = verify(dir.path());
            assert!(
                !report.gaps.is_empty(),
                "harm {which}, {from_end} from the end: {report}"
            );
            // A segment header that is gone stays gone, and is still told of.
            let left: Vec<_> = report
                .findings
                .iter()
                .filter(|f| !f.detail.contains("header"))
                .collect();
            assert!(left.is_empty(), "harm {which}, {from_end} from the end: {report}");
        }
    }
}

#[test]
fn any_flipped_byte_leaves_the_other_records_readable() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 12);
    drop(log);
    let segment = segments(dir.path())[0].clone();
    let good = fs::read(&segment).unwrap();
    for at in (0..good.len()).step_by(97) {
        let copy = tempfile::tempdir().unwrap();
        common::copy_dir(dir.path(), copy.path());
        flip(&segments(copy.path())[0], at);
        let log = open(copy.path());
        let (records, damaged) = read_all(&log);
        let gaps = records
            .iter()
            .filter(|(_, record)| log.opener.open(record).unwrap().gap.is_some())
            .count();
        assert!(
            records.len() - gaps >= 11 && damaged.len() <= 1,
            "byte {at}: {} records",
            records.len()
        );
    }
}
