//! Real captures: the laboratory's, which is in the repository, and the reference captures, where they are.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod capture;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use amoskys_analysis::{Detection, DetectionConfig};
use amoskys_core::event::Verdict;
use amoskys_core::{Analyzer, Observation};
use capture::{latest, show_events};

fn alerts(file: &Path) -> Vec<Verdict> {
    let mut detection = Detection::new(DetectionConfig::default(), Vec::new()).unwrap();
    let mut verdicts = Vec::new();
    show_events(file, |event| {
        detection
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap()
    })
    .unwrap();
    let mut alerts = latest(verdicts);
    alerts.retain(Verdict::is_alert);
    alerts
}

/// The folder of reference captures, if there is one.
fn reference() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("AMOSKYS_DATA") else {
        eprintln!("skipped: AMOSKYS_DATA names no folder of reference data");
        return None;
    };
    Some(Path::new(&folder).join("pcap"))
}

fn captures(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_laboratory_s_attacks_are_found_and_nothing_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
    let Ok(labels) = std::fs::read_to_string(folder.join("labels.csv")) else {
        return eprintln!("skipped: the laboratory's capture is not part of the package");
    };
    let alerts = alerts(&folder.join("lab.pcap"));
    let found = |alert: &Verdict| {
        (
            alert.entity.host().unwrap().to_string(),
            alert.technique.as_ref().unwrap().to_string(),
        )
    };
    let mut found: Vec<_> = alerts.iter().map(found).collect();
    let label = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        (fields[2].to_owned(), fields[4].to_owned())
    };
    let mut wanted: Vec<_> = labels.lines().skip(1).map(label).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn attacks_are_accused_rightly() {
    let Some(folder) = reference() else { return };
    // Where the labels do not name the host: the forger's own address, by its hardware address in the capture.
    let unnamed = BTreeMap::from([("attack/packets__arppoison.pcapng", "172.16.0.105")]);
    let labels = std::fs::read_to_string(folder.join("attack_labels.csv")).unwrap();
    let mut missed = Vec::new();
    for line in labels.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let hosts = unnamed.get(fields[0]).copied().unwrap_or(fields[2]);
        let alerts = alerts(&folder.join(fields[0]));
        let right = alerts
            .iter()
            .any(|alert| hosts.split(';').any(|host| alert.entity.to_string() == host));
        if !right {
            missed.push(fields[0].to_owned());
        }
    }
    assert!(missed.len() <= 2, "missed {missed:?}");
}

#[test]
fn honest_traffic_raises_no_alert() {
    let Some(folder) = reference() else { return };
    for file in captures(&folder.join("benign")) {
        let alerts = alerts(&file);
        let titles: Vec<&str> = alerts.iter().map(|alert| alert.title.as_str()).collect();
        assert!(titles.is_empty(), "{}: {titles:?}", file.display());
    }
}
