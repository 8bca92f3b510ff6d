//! Verdicts carry bounds of their scores where something was counted for them.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use amoskys_analysis::alert::Alert;
use amoskys_analysis::feedback::{Suppression, Suppressions};
use amoskys_analysis::odds::logit;
use amoskys_analysis::{Correlation, Detection, DetectionConfig};
use amoskys_core::event::{ScoreInterval, Verdict};
use amoskys_core::{Analyzer, Observation, Recorded};
use traffic::{Ending, Traffic, inside, outside};

/// A scan of so many ports, all of them refused.
fn scan(ports: u16) -> Vec<Recorded> {
    let mut traffic = Traffic::default();
    for port in 1..=ports {
        let at = f64::from(port) / 5.0;
        traffic.tcp(at, outside(7), inside(20), port, Ending::Refused);
    }
    traffic.record()
}

fn detection() -> Detection {
    Detection::new(DetectionConfig::default(), Vec::new()).unwrap()
}

fn verdicts(analyzer: &mut impl Analyzer, events: &[Recorded]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for event in events {
        analyzer
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    }
    verdicts
}

fn last(all: &[Verdict]) -> &Verdict {
    all.last().expect("a verdict")
}

#[test]
fn the_more_was_counted_the_nearer_the_bounds() {
    // From few probes the prior and the weights say the most; from many, it is certain.
    let reach = |ports: u16| {
        let all = verdicts(&mut detection(), &scan(ports));
        let verdict = last(&all);
        let ScoreInterval { low, high } = verdict.interval.expect("failed ports were counted");
        assert!(
            0.0 <= low && low <= verdict.score && verdict.score <= high && high <= 1.0,
            "{verdict:?}"
        );
        logit(verdict.score) - logit(low)
    };
    let (few, many) = (reach(10), reach(100));
    assert!(few > 0.5, "ten failures may be bad luck: {few}");
    assert!(many < few / 2.0, "{many} {few}");
}

#[test]
fn every_revision_lies_between_its_bounds_and_the_alert_says_them() {
    let all = verdicts(&mut detection(), &scan(40));
    assert!(all.len() > 2);
    for verdict in &all {
        let ScoreInterval { low, high } = verdict.interval.expect("bounds");
        assert!((low..=high).contains(&verdict.score), "{verdict:?}");
        let line = Alert::from(verdict).to_line().unwrap();
        let read: Alert = serde_json::from_str(&line).unwrap();
        assert_eq!(read.interval, verdict.interval);
        assert!(line.contains("\"interval\":{\"low\":"), "{line}");
    }
    let foreign = Verdict {
        interval: Some(ScoreInterval {
            low: f64::NAN,
            high: 7.0,
        }),
        ..last(&all).clone()
    };
    let line = Alert::from(&foreign).to_line().unwrap();
    assert!(!line.contains("interval"), "{line}");
}

#[test]
fn what_comes_alone_through_correlation_keeps_its_bounds_and_somebodys_word_has_none() {
    let config = DetectionConfig::default();
    let events = scan(40);
    let own = verdicts(&mut detection(), &events);
    let mut alone = Correlation::new(&config).unwrap().with(detection());
    let joined = verdicts(&mut alone, &events);
    assert_eq!(last(&joined).interval, last(&own).interval);

    let word = Suppression {
        up_to: 1.0,
        ..Suppression::of_alert(&Alert::from(last(&own)), "an inventory", "anna")
    };
    let mut told = Correlation::new(&config)
        .unwrap()
        .with(detection())
        .with_suppressions(Suppressions::new(vec![word]));
    let quiet = verdicts(&mut told, &events);
    assert!(!last(&quiet).is_alert());
    assert_eq!(last(&quiet).interval, None);
}
