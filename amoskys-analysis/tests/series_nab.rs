//! The scorer against published scores, and the released detector on labelled series. Needs the folder `nab/` of the reference data in
//! `AMOSKYS_DATA`; skipped without.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use amoskys_analysis::eval::nab::{Labels, Profile, best_threshold, normalized, probation};
use amoskys_analysis::series::{AlarmRule, Cause, SeriesConfig, SeriesDetector, alarms_at};
use amoskys_core::Timestamp;

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("AMOSKYS_DATA").map(|data| Path::new(&data).join("nab"));
    let found = folder.filter(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("skipped: AMOSKYS_DATA names no folder with nab/");
    }
    found
}

fn lines(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let split = |line: &str| line.split(',').map(str::to_owned).collect();
    text.lines().skip(1).map(split).collect()
}

/// Windows by series, as the time stamps of their first and last rows.
fn windows(folder: &Path) -> BTreeMap<String, Vec<[String; 2]>> {
    serde_json::from_str(&std::fs::read_to_string(folder.join("windows.json")).unwrap()).unwrap()
}

fn labels(rows: &[Vec<String>], windows: &[[String; 2]]) -> Labels {
    // A window's stamps have a fraction that those of the rows have not.
    let place = |stamp: &str| rows.iter().position(|row| row[0] == stamp[..19]).unwrap();
    let windows = windows.iter().map(|[first, last]| (place(first), place(last)));
    Labels::new(rows.len(), windows.collect()).unwrap()
}

#[test]
fn published_scores_are_reproduced() {
    let Some(folder) = folder() else { return };
    let windows = windows(&folder);
    let mut compared = 0;
    for line in lines(&folder.join("reference_per_series_standard.csv")) {
        let [detector, series, threshold, published, _] = &line[..] else {
            panic!("{line:?}")
        };
        let name = series.rsplit('/').next().unwrap();
        let path = folder.join("scorer_check").join(format!("{detector}__{name}"));
        if !path.exists() {
            continue;
        }
        let rows = lines(&path);
        let labels = labels(&rows, &windows[series]);
        let threshold: f64 = threshold.parse().unwrap();
        let detections: Vec<usize> = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row[2].parse::<f64>().unwrap() >= threshold)
            .map(|(at, _)| at)
            .collect();
        let found = labels.score(&detections, Profile::STANDARD);
        let published: f64 = published.parse().unwrap();
        assert!(
            (found - published).abs() < 1e-9,
            "{detector} {series}: {found} instead of {published}"
        );
        // No threshold is better than the best for this series alone.
        let scores: Vec<f64> = rows.iter().map(|row| row[2].parse().unwrap()).collect();
        let best = best_threshold(&[(&labels, &scores)], Profile::STANDARD).1;
        assert!(best >= found - 1e-9);
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn the_released_detector_keeps_its_scores() {
    let Some(folder) = folder() else { return };
    let (mut totals, mut count, mut rows_seen) = ([0.0; 3], 0, 0);
    for (name, windows) in windows(&folder) {
        let rows = lines(&folder.join("data").join(&name));
        let labels = labels(&rows, &windows);
        let mut config = SeriesConfig::default();
        config.horizon = NonZeroU32::new(u32::try_from(probation(rows.len())).unwrap()).unwrap();
        let mut detector = SeriesDetector::new(config).unwrap();
        let (mut alarms, mut surprises) = (Vec::new(), Vec::new());
        for (at, row) in rows.iter().enumerate() {
            let time = Timestamp::from_secs(i64::try_from(at).unwrap() * 300);
            let reading = detector.push(time, row[1].parse().unwrap());
            surprises.push(reading.surprise);
            if reading.alarm.is_some_and(|cause| cause != Cause::Silence) {
                alarms.push(at);
            }
        }
        assert_eq!(config.alarm, AlarmRule::Threshold(1.0));
        assert_eq!(alarms, alarms_at(&surprises, config.horizon.get(), 1.0), "{name}");
        for (total, profile) in totals.iter_mut().zip(Profile::ALL) {
            *total += labels.score(&alarms, profile);
        }
        count += windows.len();
        rows_seen += rows.len();
    }
    let scores: Vec<f64> = totals
        .into_iter()
        .zip(Profile::ALL)
        .map(|(total, profile)| normalized(total, count, profile).unwrap())
        .collect();
    eprintln!("{scores:?} on {rows_seen} rows with {count} windows, at the fixed threshold");
    assert!(scores[0] >= 74.0 && scores[1] >= 67.0, "{scores:?}");
}
