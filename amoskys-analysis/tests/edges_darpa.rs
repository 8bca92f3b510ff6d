//! Each edge of a long labelled stream, scored from what came before it. Needs the folder `graph/` of the reference data in
//! `AMOSKYS_DATA`; skipped without.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use amoskys_analysis::eval::auroc;
use amoskys_analysis::graph::{EdgeParams, EdgeScorer};

/// Types with fewer edges have no figure of their own.
const FEWEST: usize = 10;

#[test]
fn attacks_of_every_type_rank_above_honest_edges() {
    let folder = std::env::var_os("AMOSKYS_DATA").map(|data| Path::new(&data).join("graph"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        eprintln!("skipped: AMOSKYS_DATA names no folder with graph/");
        return;
    };
    let file = std::fs::File::open(folder.join("darpa98_june.csv.gz")).unwrap();
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let mut scorer = EdgeScorer::new(&EdgeParams::default()).unwrap();
    let (mut honest, mut attacks): (Vec<f64>, BTreeMap<&str, Vec<f64>>) = Default::default();
    for line in text.lines().skip(1) {
        let mut fields = line.split(',');
        let mut number = || fields.next().unwrap().parse::<u64>().unwrap();
        let (source, destination, minute) = (number(), number(), number());
        let score = f64::from(scorer.score(source, destination, minute).value);
        match fields.next().unwrap() {
            "-" => honest.push(score),
            attack => attacks.entry(attack).or_default().push(score),
        }
    }
    assert!(honest.len() + attacks.values().map(Vec::len).sum::<usize>() > 1_600_000);
    let against_honest = |attacks: &[f64]| {
        let scores = [&honest, attacks].concat();
        let labels: Vec<bool> = (0..scores.len()).map(|at| at >= honest.len()).collect();
        auroc(&scores, &labels).unwrap()
    };
    let all = against_honest(&attacks.values().flatten().copied().collect::<Vec<f64>>());
    let types: Vec<f64> = attacks
        .values()
        .filter(|scores| scores.len() >= FEWEST)
        .map(|scores| against_honest(scores))
        .collect();
    assert_eq!(types.len(), 14);
    let mean = types.iter().sum::<f64>() / 14.0;
    println!("AUROC {all:.4}, mean over types {mean:.4}");
    assert!(all >= 0.995, "{all}");
    assert!(mean >= 0.95, "{mean}");
}
