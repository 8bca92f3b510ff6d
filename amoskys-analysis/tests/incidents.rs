//! One attack is one alert, however many layers see it; two attacks by one host are two.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use amoskys_analysis::{Detection, DetectionConfig, DetectionLayer, evidence_schema};
use amoskys_core::Analyzer;
use amoskys_core::event::Layer;
use traffic::{Ending, Traffic, alerts, alerts_of, inside, outside, summary, verdicts};

fn scan_then_guess() -> Traffic {
    let mut traffic = Traffic::default();
    for port in 1..=300 {
        traffic.tcp(
            f64::from(port) / 50.0,
            outside(7),
            inside(20),
            port,
            Ending::Refused,
        );
    }
    for n in 0..20_u32 {
        traffic.tcp(
            30.0 + f64::from(n * 3 + n % 2),
            outside(7),
            inside(20),
            22,
            Ending::Data(1500, 2200, 2.0),
        );
    }
    traffic
}

#[test]
fn a_scan_and_then_guesses_are_two() {
    let alerts = alerts(scan_then_guess());
    assert_eq!(
        summary(&alerts),
        [
            ("T1046".to_owned(), outside(7)),
            ("T1110.001".to_owned(), outside(7))
        ]
    );
}

#[test]
fn a_scan_of_several_hosts_is_one() {
    let mut traffic = Traffic::default();
    for host in 0..20_u16 {
        for port in 1..=50 {
            let at = f64::from(host) * 3.0 + f64::from(port) * 0.05;
            traffic.tcp(at, outside(7), inside(20 + host), port, Ending::Refused);
        }
    }
    let alerts = alerts(traffic);
    assert_eq!(summary(&alerts), [("T1046".to_owned(), outside(7))]);
    assert_eq!(alerts[0].peers.len(), 16, "the most a verdict names");
}

#[test]
fn regular_guesses_are_one_though_two_layers_see_them() {
    let mut traffic = Traffic::default();
    for n in 0..60 {
        traffic.tcp(
            f64::from(n) * 4.0,
            inside(7),
            outside(20),
            22,
            Ending::Data(1500, 2200, 1.0),
        );
    }
    let alerts = alerts(traffic);
    assert_eq!(alerts.len(), 1);
    let named = |name: &str| alerts[0].evidence.iter().any(|e| e.feature.as_str() == name);
    assert!(
        named("attempts") && named("regular_intervals"),
        "{:?}",
        alerts[0].evidence
    );
}

#[test]
fn a_verdict_is_complete() {
    let mut detection = Detection::new(DetectionConfig::default(), Vec::new()).unwrap();
    let events = scan_then_guess().record();
    let all = verdicts(&mut detection, &events);
    assert!(
        all.len() < 40,
        "a verdict is not revised for each event: {}",
        all.len()
    );
    for verdict in &all {
        assert_eq!(verdict.layer, Layer::Fused);
        assert_eq!(verdict.schema, evidence_schema().digest());
        assert_eq!(verdict.model, detection.model());
        for evidence in &verdict.evidence {
            assert!(
                evidence_schema().index_of(evidence.feature.as_str()).is_some(),
                "{}",
                evidence.feature
            );
        }
        let sum: f64 = verdict.evidence.iter().map(|e| e.contribution).sum();
        let log_odds = (verdict.score / (1.0 - verdict.score)).ln();
        assert!((sum - log_odds).abs() < 1e-9, "the evidence adds up to the score");
        let range = &verdict.events;
        assert!(range.first.0 as usize <= events.len() && range.last.0 < events.len() as u64);
    }
}

#[test]
fn each_layer_speaks_alone_too() {
    let events = scan_then_guess().record();
    for (layer, named, technique) in [
        (DetectionLayer::Geometric, Layer::Geometric, "T1046"),
        (DetectionLayer::Behavioral, Layer::Behavioral, "T1110.001"),
    ] {
        let mut detection = Detection::of_layer(layer, DetectionConfig::default()).unwrap();
        let alerts = alerts_of(&mut detection, &events);
        assert_eq!(summary(&alerts), [(technique.to_owned(), outside(7))]);
        assert_eq!(alerts[0].layer, named);
    }
    let mut detection = Detection::of_layer(DetectionLayer::Temporal, DetectionConfig::default()).unwrap();
    assert_eq!(summary(&alerts_of(&mut detection, &events)), []);
}

/// Guesses in no rhythm, at an outside server that others use: hardly a beacon, and plainly guesses.
#[test]
fn asking_for_quiet_verdicts_makes_and_unmakes_no_alert() {
    let traffic = || {
        let mut traffic = scan_then_guess();
        for (n, pause) in [0.0, 1.0, 7.0, 9.0, 17.0, 19.0, 20.0, 31.0, 33.0, 34.0, 45.0]
            .iter()
            .enumerate()
        {
            let sizes = Ending::Data(1500, 2200 + n as u64, 1.0);
            traffic.tcp(60.0 + pause, inside(9), outside(20), 22, sizes);
        }
        // A busy host that fails here and there, and on five ports of one host: five are too few, whatever else it does.
        for n in 0..300 {
            let at = 80.0 + f64::from(n) * 0.01;
            traffic.tcp(
                at,
                inside(11),
                inside(100 + n % 90),
                80,
                Ending::Data(200, 900, 0.01),
            );
        }
        let failure = |n: u16| {
            if n.is_multiple_of(2) {
                Ending::Refused
            } else {
                Ending::Empty
            }
        };
        for n in 0..20 {
            traffic.tcp(84.0, inside(11), inside(200 + n), 1000 + n, failure(n));
        }
        for n in 0..5 {
            traffic.tcp(84.5, inside(11), inside(20), 2000 + n, failure(n));
        }
        traffic.record()
    };
    let alerts_with = |report_score: f64| {
        let mut config = DetectionConfig::default();
        config.report_score = report_score;
        let mut detection = Detection::new(config, Vec::new()).unwrap();
        summary(&alerts_of(&mut detection, &traffic()))
    };
    let usual = alerts_with(DetectionConfig::default().report_score);
    assert!(usual.contains(&("T1110.001".to_owned(), inside(9))), "{usual:?}");
    assert_eq!(alerts_with(0.001), usual);
    assert_eq!(alerts_with(0.69), usual);
}
