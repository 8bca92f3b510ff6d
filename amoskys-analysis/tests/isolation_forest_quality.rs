//! The forest finds on labelled sets what the reference implementation finds.
//!
//! The sets are not part of the repository: `AMOSKYS_DATA` names the folder that holds `adbench/`. Without it the
//! tests say so and pass.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "common/tables.rs"]
mod tables;

use amoskys_analysis::eval::{auroc, average_precision};
use amoskys_analysis::iforest::{IsolationForest, Rows};
use tables::{Table, adbench, read_csv};

const SEEDS: u64 = 5;

#[test]
fn as_good_as_the_reference_on_sets_of_moderate_size() {
    compare(10_000, 0.01);
}

#[test]
#[ignore = "all 25 sets take minutes without optimisation: run with --release -- --ignored --nocapture"]
fn as_good_as_the_reference_on_all_sets() {
    compare(usize::MAX, 0.01);
}

/// Mean AUROC over the sets of at most so many rows, five seeds each, against the reference on the same sets.
fn compare(most_rows: usize, tolerance: f64) {
    let Some(folder) = adbench() else { return };
    let reference = read_csv(&folder.join("reference_scores.csv"));
    let (mut ours, mut theirs, mut precisions, mut sets) = (0.0, 0.0, 0.0, 0.0);
    for line in reference.iter().filter(|line| line["detector"] == "IForest") {
        let rows: usize = line["n"].parse().expect("a number of rows");
        if rows > most_rows {
            continue;
        }
        let name = &line["dataset"];
        let table = Table::read(&folder.join(format!("{name}.csv.gz"))).min_max_scaled();
        assert_eq!(table.labels.len(), rows, "{name}");
        let expected: f64 = line["auroc"].parse().expect("an AUROC");
        let (mut area, mut precision) = (0.0, 0.0);
        let start = std::time::Instant::now();
        for seed in 0..SEEDS {
            let scores = scores(&table, seed);
            area += auroc(&scores, &table.labels).expect("both labels occur") / SEEDS as f64;
            precision += average_precision(&scores, &table.labels).expect("anomalies occur") / SEEDS as f64;
        }
        let seconds = start.elapsed().as_secs_f64() / SEEDS as f64;
        println!("{name:22} {rows:7} {area:.4} (reference {expected:.4}) AP {precision:.4} {seconds:.4} s");
        ours += area;
        theirs += expected;
        precisions += precision;
        sets += 1.0;
    }
    println!(
        "mean over {sets} sets: {:.4} (reference {:.4}) AP {:.4}",
        ours / sets,
        theirs / sets,
        precisions / sets
    );
    assert!(sets > 5.0);
    assert!(
        (ours - theirs).abs() / sets < tolerance,
        "{:.4} and {:.4}",
        ours / sets,
        theirs / sets
    );
}

fn scores(table: &Table, seed: u64) -> Vec<f64> {
    let rows = Rows::new(&table.values, table.columns).expect("a table");
    let params = IsolationForest::params().seed(seed);
    let forest = params
        .validate()
        .and_then(|params| params.fit_rows(rows))
        .expect("enough rows");
    forest.score(rows).expect("the same columns")
}
