//! Normal traces alone are learned, and traces of attacks found. Needs the folder `adfa-ld/` of the reference data in `AMOSKYS_DATA`;
//! skipped without.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use amoskys_analysis::eval::auroc;
use amoskys_analysis::sequence::{Threshold, TraceParams};

/// Traces by split: training, validation, attacks.
fn traces() -> Option<[Vec<Vec<u32>>; 3]> {
    let folder = std::env::var_os("AMOSKYS_DATA").map(|data| Path::new(&data).join("adfa-ld"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        eprintln!("skipped: AMOSKYS_DATA names no folder with adfa-ld/");
        return None;
    };
    let file = std::fs::File::open(folder.join("traces.csv.gz")).unwrap();
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let mut traces = [(); 3].map(|()| Vec::new());
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let split = match fields[2] {
            "train" => 0,
            "validation" => 1,
            "attack" => 2,
            other => panic!("{other} is no split"),
        };
        let calls = fields[4].split_ascii_whitespace();
        traces[split].push(calls.map(|call| call.parse().unwrap()).collect());
    }
    Some(traces)
}

#[test]
fn attacks_rank_above_normal_traces_and_thresholds_keep_their_promise() {
    let Some([training, normal, attacks]) = traces() else {
        return;
    };
    assert_eq!((training.len(), normal.len(), attacks.len()), (833, 2623, 504));
    let model = TraceParams::default().fit(&training).unwrap();
    let mut scorer = model.scorer();
    let mut score =
        |traces: &[Vec<u32>]| -> Vec<f64> { traces.iter().map(|trace| scorer.score(trace).value).collect() };
    let (of_normal, of_attacks) = (score(&normal), score(&attacks));
    let scores = [of_normal.clone(), of_attacks.clone()].concat();
    let labels: Vec<bool> = (0..scores.len()).map(|at| at >= of_normal.len()).collect();
    let area = auroc(&scores, &labels).unwrap();
    let threshold = Threshold::of_share(&of_normal, 0.1).unwrap();
    let found = of_attacks
        .iter()
        .filter(|score| threshold.is_alarm(**score))
        .count();
    let found = found as f64 / of_attacks.len() as f64;
    println!("AUROC {area:.4}, {found:.3} found at 10 % false alarms");
    assert!(area >= 0.885, "{area}");
    assert!(found >= 0.72, "{found}");

    // Distinct traces, with their copies; every other one, by content, sets the threshold.
    let mut copies: BTreeMap<&[u32], (f64, usize)> = BTreeMap::new();
    for (trace, score) in normal.iter().zip(&of_normal) {
        copies.entry(trace).or_insert((*score, 0)).1 += 1;
    }
    let groups: Vec<(f64, usize)> = copies.into_values().collect();
    let largest = groups.iter().map(|group| group.1).max().unwrap();
    for first in [0, 1] {
        let part = |which: usize| -> Vec<(f64, usize)> {
            let part = groups.iter().skip(which).step_by(2).copied();
            // One trace is a fifth of all; which half it lies in would decide.
            part.map(|(score, copies)| (score, if copies == largest { 1 } else { copies }))
                .collect()
        };
        let (set, tried) = (part(first), part(1 - first));
        for promised in [0.05, 0.1, 0.15] {
            let threshold = Threshold::conformal_of_copies(&set, promised, 0.01).unwrap();
            let alarms = tried.iter().filter(|(score, _)| threshold.is_alarm(*score));
            let alarms: usize = alarms.map(|(_, copies)| copies).sum();
            let all: usize = tried.iter().map(|(_, copies)| copies).sum();
            let rate = alarms as f64 / all as f64;
            println!("promised {promised}: {rate:.3}");
            assert!((rate - promised).abs() <= 0.03, "{promised}: {rate}");
        }
    }
    let known: BTreeSet<&Vec<u32>> = training.iter().collect();
    let again = normal.iter().filter(|trace| known.contains(trace)).count();
    println!("{again} normal traces equal one of training");
}
