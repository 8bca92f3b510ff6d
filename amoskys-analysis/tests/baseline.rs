//! A baseline lowers the score of what was normal, raises that of what was not, and survives a file.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use std::time::Duration;

use amoskys_analysis::model::ModelFile;
use amoskys_analysis::{Baseline, BaselineBuilder, Detection, DetectionConfig};
use amoskys_core::{Analyzer, BoxExtractor};
use amoskys_features::extract::{ExtractConfig, Hosts, NetworkExtractor};
use amoskys_features::window::WindowSpec;
use traffic::{Ending, Traffic, alerts_of, inside, outside, summary};

fn extractors() -> Vec<BoxExtractor> {
    let minute = WindowSpec::sliding(Duration::from_secs(60), Duration::from_secs(10)).unwrap();
    vec![Box::new(
        NetworkExtractor::new(ExtractConfig::default()).with::<Hosts>(minute),
    )]
}

/// An office whose update program calls home every ten seconds, as a beacon would; `more` adds to it.
fn office(more: impl FnOnce(&mut Traffic)) -> Traffic {
    let mut traffic = Traffic::default();
    for n in 0..120_u32 {
        traffic.tcp(
            f64::from(n) * 10.0,
            inside(5),
            outside(50),
            443,
            Ending::Data(400, 900, 0.2),
        );
        let host = 10 + u16::try_from(n % 7).unwrap();
        traffic.tcp(
            f64::from(n * n % 1200),
            inside(host),
            outside(60),
            443,
            Ending::Data(500, u64::from(n) * 97, 0.4),
        );
    }
    more(&mut traffic);
    traffic
}

fn fit() -> Baseline {
    let mut builder = BaselineBuilder::new(&DetectionConfig::default(), extractors()).unwrap();
    office(|_| ())
        .record()
        .iter()
        .for_each(|event| builder.observe(event));
    builder.finish()
}

fn run(baseline: Option<&Baseline>, traffic: Traffic) -> Vec<(String, std::net::IpAddr, f64)> {
    let mut detection = Detection::new(DetectionConfig::default(), extractors()).unwrap();
    if let Some(baseline) = baseline {
        detection = detection.with_baseline(baseline);
    }
    let alerts = alerts_of(&mut detection, &traffic.record());
    let scores = alerts.iter().map(|alert| alert.score);
    summary(&alerts)
        .into_iter()
        .zip(scores)
        .map(|((technique, host), score)| (technique, host, score))
        .collect()
}

#[test]
fn what_was_normal_is_no_alert_any_more() {
    assert_eq!(
        run(None, office(|_| ())).len(),
        1,
        "cold, the update program looks like a beacon"
    );
    assert_eq!(run(Some(&fit()), office(|_| ())), []);
}

#[test]
fn what_is_new_stands_out_more() {
    let guesses = |traffic: &mut Traffic| {
        for n in 0..12_u32 {
            traffic.tcp(
                300.0 + f64::from(n * 4 + n * n % 3),
                inside(12),
                outside(70),
                22,
                Ending::Data(1500, 2200, 2.0),
            );
        }
    };
    let cold: Vec<_> = run(None, office(guesses))
        .into_iter()
        .filter(|(technique, ..)| technique == "T1110.001")
        .collect();
    let warm = run(Some(&fit()), office(guesses));
    assert_eq!(warm.len(), 1);
    assert_eq!((warm[0].0.as_str(), warm[0].1), ("T1110.001", inside(12)));
    assert!(warm[0].2 > cold[0].2, "{} > {}", warm[0].2, cold[0].2);
}

#[test]
fn a_file_gives_back_the_same_baseline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baseline");
    let baseline = fit();
    assert!(baseline.seconds() > 1_000.0 && baseline.events() > 400);
    baseline.save(&path).unwrap();
    let back = Baseline::load(&path).unwrap();
    assert_eq!(back, baseline);
    assert_eq!(back.digest(), baseline.digest());
    let model = |baseline: &Baseline| {
        Detection::new(DetectionConfig::default(), Vec::new())
            .unwrap()
            .with_baseline(baseline)
            .model()
    };
    assert_eq!(model(&back), model(&baseline));
    let cold = Detection::new(DetectionConfig::default(), Vec::new())
        .unwrap()
        .model();
    assert_ne!(model(&back).digest, cold.digest);
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baseline");
    let mut model = fit().to_model().unwrap();
    let refused = |model: &ModelFile| Baseline::from_model(model).unwrap_err().to_string();
    model.version = "9".to_owned();
    assert_eq!(
        refused(&model),
        "the baseline has layout 9, this version reads layout 1"
    );
    model.name = "forest".to_owned();
    assert_eq!(refused(&model), "the model \"forest\" is no baseline");
    let mut bytes = fit().to_model().unwrap().to_bytes().unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(
        Baseline::load(&path).unwrap_err().to_string(),
        "the baseline cannot be read or written"
    );
}
