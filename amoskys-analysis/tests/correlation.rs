//! Several analyzers, one attack, one alert.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod capture;
mod joined;
mod traffic;

use std::sync::Arc;

use amoskys_analysis::correlation::correlation_schema;
use amoskys_analysis::graph::{GraphAnalyzer, GraphAnalyzerParams};
use amoskys_analysis::series::MetricDetection;
use amoskys_analysis::{Correlation, Detection, DetectionConfig};
use amoskys_core::event::{
    Entity, EventRange, Evidence, Layer, ModelRef, Payload, Technique, Verdict, VerdictId,
};
use amoskys_core::{
    Analyzer, AnalyzerError, Class, Digest, Epoch, Event, Observation, Recorded, Seq, StreamId, Timestamp,
};
use traffic::{Ending, Traffic, inside, outside, summary};

fn detection() -> Detection {
    Detection::new(DetectionConfig::default(), Vec::new()).unwrap()
}

fn all() -> Correlation {
    joined::join(&DetectionConfig::default(), detection()).unwrap()
}

fn feed(analyzer: &mut impl Analyzer, events: &[Recorded]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for event in events {
        analyzer
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    }
    verdicts
}

fn alerts(verdicts: Vec<Verdict>) -> Vec<Verdict> {
    let mut alerts = capture::latest(verdicts);
    alerts.retain(Verdict::is_alert);
    alerts
}

fn scan_then_guess() -> Vec<Recorded> {
    let mut traffic = Traffic::default();
    for port in 1..=300 {
        let at = f64::from(port) / 50.0;
        traffic.tcp(at, outside(7), inside(20), port, Ending::Refused);
    }
    for n in 0..20_u32 {
        let at = 30.0 + f64::from(n * 3 + n % 2);
        traffic.tcp(at, outside(7), inside(20), 22, Ending::Data(1500, 2200, 2.0));
    }
    traffic.record()
}

#[test]
fn the_detection_alone_comes_out_as_it_came_in() {
    let events = scan_then_guess();
    let mut correlation = Correlation::new(&DetectionConfig::default())
        .unwrap()
        .with(detection());
    let mut alone = feed(&mut detection(), &events);
    assert!(alone.len() > 3);
    for verdict in &mut alone {
        verdict.model = correlation.model();
    }
    assert_eq!(feed(&mut correlation, &events), alone);
}

#[test]
fn a_scan_that_two_analyzers_see_is_one_alert() {
    let events = scan_then_guess();
    let mut graph = GraphAnalyzer::new(GraphAnalyzerParams::default()).unwrap();
    let seen = alerts(feed(&mut graph, &events));
    assert_eq!(summary(&seen), [("T1046".to_owned(), outside(7))]);
    let found = alerts(feed(&mut all(), &events));
    assert_eq!(
        summary(&found),
        [
            ("T1046".to_owned(), outside(7)),
            ("T1110.001".to_owned(), outside(7))
        ]
    );
    let alone = alerts(feed(&mut detection(), &events));
    assert_eq!(found[0].title, alone[0].title);
    assert!(found[0].score >= alone[0].score);
    for verdict in &found {
        let sum: f64 = verdict.evidence.iter().map(|e| e.contribution).sum();
        let log_odds = (verdict.score / (1.0 - verdict.score)).ln();
        assert!((sum - log_odds).abs() < 1e-6, "the evidence adds up to the score");
    }
    let schema = correlation_schema();
    for part in &found[0].evidence {
        assert!(
            schema.index_of(part.feature.as_str()).is_some(),
            "{}",
            part.feature
        );
    }
}

#[test]
fn it_keeps_the_promises_of_an_analyzer() {
    amoskys_core::conformance::analyzer(all, &scan_then_guess());
}

#[test]
fn the_laboratory_s_attacks_are_five_alerts() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
    if !folder.join("labels.csv").exists() {
        return eprintln!("skipped: the laboratory's capture is not part of the package");
    }
    let mut analyzer = all();
    let mut verdicts = Vec::new();
    capture::show_events(folder.join("lab.pcap"), |event| {
        analyzer
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    })
    .unwrap();
    let titles: Vec<String> = alerts(verdicts).into_iter().map(|alert| alert.title).collect();
    assert_eq!(titles.len(), 5, "{titles:#?}");
}

/// An analyzer that says what it is told, at the event of the same number.
struct Says(Vec<(u64, Verdict)>);

impl Analyzer for Says {
    fn model(&self) -> ModelRef {
        ModelRef::default()
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        if let Observation::Event(event) = observation {
            let now = self.0.iter().filter(|(seq, _)| *seq == event.seq.0);
            verdicts.extend(now.map(|(_, verdict)| verdict.clone()));
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), AnalyzerError> {
        Ok(())
    }
}

fn stream() -> StreamId {
    StreamId {
        agent: "sensor".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + second)
}

fn says(second: i64, layer: Layer, entity: Entity, technique: &str, score: f64) -> (u64, Verdict) {
    let technique = (!technique.is_empty()).then(|| Technique::new(technique));
    let seq = Seq(second as u64);
    let time = at(second);
    let id = VerdictId::derive(
        &Digest::of(format!("{layer:?}").as_bytes()),
        &entity,
        technique.as_ref(),
        &stream(),
        seq,
        time,
    );
    let verdict = Verdict {
        id,
        revision: 0,
        time,
        updated: time,
        layer,
        entity,
        peers: Vec::new(),
        technique,
        title: format!("{layer:?}: at {second}"),
        score,
        interval: None,
        evidence: vec![Evidence {
            feature: "shape".into(),
            value: 1.0,
            contribution: (score / (1.0 - score)).ln(),
        }],
        model: ModelRef::default(),
        schema: Digest::default(),
        events: EventRange {
            stream: stream(),
            first: seq,
            last: seq,
        },
    };
    (second as u64, verdict)
}

/// What comes of these verdicts: the latest revision of each, and how many came in all.
fn joined(said: Vec<(u64, Verdict)>) -> (Vec<Verdict>, usize) {
    let last = said.iter().map(|(seq, _)| *seq).max().unwrap();
    let mut correlation = Correlation::new(&DetectionConfig::default())
        .unwrap()
        .with(Says(said));
    let stream = Arc::new(stream());
    let mut verdicts = Vec::new();
    for seq in 0..=last + 1 {
        let event = Recorded {
            timeline: 0,
            stream: stream.clone(),
            seq: Seq(seq),
            event: Event {
                time: at(seq as i64),
                payload: Payload::default(),
                ..Event::default()
            },
        };
        correlation
            .observe(Observation::Event(&event), &mut verdicts)
            .unwrap();
    }
    let count = verdicts.len();
    (capture::latest(verdicts), count)
}

fn host() -> Entity {
    Entity::Host(inside(7))
}

#[test]
fn a_layer_alone_has_to_be_sure_and_two_that_agree_have_not() {
    let one = |score| joined(vec![says(1, Layer::Geometric, host(), "T1046", score)]).0;
    assert!(!one(0.9)[0].is_alert() && one(0.94)[0].is_alert());
    assert_eq!(one(0.94)[0].layer, Layer::Fused);
    let (two, _) = joined(vec![
        says(1, Layer::Geometric, host(), "T1046", 0.82),
        says(9, Layer::Behavioral, host(), "T1046", 0.82),
    ]);
    assert_eq!(two.len(), 1);
    assert!(two[0].is_alert() && two[0].revision == 1);
    // One that finds little does not speak against it.
    let (doubt, _) = joined(vec![
        says(1, Layer::Geometric, host(), "T1046", 0.94),
        says(9, Layer::Behavioral, host(), "T1046", 0.1),
    ]);
    assert!(doubt[0].is_alert());
}

#[test]
fn a_rule_adds_and_never_takes_away() {
    let rule = |score| says(1, Layer::Rule, host(), "T1046", score);
    let (alone, _) = joined(vec![rule(0.9)]);
    assert_eq!((alone[0].score, alone[0].layer), (0.9, Layer::Rule));
    let fused = |score| says(2, Layer::Fused, host(), "T1046", score);
    let with = |score| joined(vec![rule(score), fused(0.8)]).0[0].score;
    assert!((with(0.2) - 0.8).abs() < 1e-9);
    assert!(with(0.8) > 0.9);
}

#[test]
fn what_is_far_apart_elsewhere_or_of_another_kind_is_another_incident() {
    let first = || says(1, Layer::Rule, host(), "T1059.004", 0.9);
    let second = |second, entity, technique| {
        let (found, _) = joined(vec![first(), says(second, Layer::Rule, entity, technique, 0.9)]);
        found.len()
    };
    assert_eq!(second(60, host(), "T1059.006"), 1);
    assert_eq!(
        second(60, host(), "T1203"),
        1,
        "another technique of the same tactic"
    );
    assert_eq!(second(60, host(), "T1548.001"), 2, "another tactic");
    assert_eq!(
        second(60, Entity::Host(inside(8)), "T1059.004"),
        2,
        "another host"
    );
    assert_eq!(second(4_000, host(), "T1059.004"), 2, "another hour");
}

#[test]
fn processes_and_metrics_belong_to_their_machine() {
    let named = |name: &str| Entity::Named(name.into());
    let (found, _) = joined(vec![
        says(1, Layer::Rule, named("web//usr/bin/bash"), "T1059.004", 0.8),
        says(5, Layer::Behavioral, named("web/bash"), "", 0.9),
        says(9, Layer::Temporal, named("web/load"), "", 0.9),
        says(9, Layer::Temporal, named("db/load"), "", 0.99),
    ]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].score > 0.9 && found[0].entity == named("web//usr/bin/bash"));
}

#[test]
fn a_conclusion_that_goes_on_after_its_incident_was_over_is_another_alert() {
    let first = says(1, Layer::Geometric, host(), "T1046", 0.99);
    let mut later = (5_000, first.1.clone());
    (later.1.revision, later.1.updated) = (1, at(5_000));
    later.1.events.last = Seq(5_000);
    let (found, _) = joined(vec![first, later]);
    assert_eq!(found.len(), 2);
    assert!(found[0].id != found[1].id && found[1].revision == 0);
    assert_eq!(found[1].time, at(5_000));
}

#[test]
fn an_attack_does_not_begin_with_the_metric_that_stood_out_before() {
    let named = |name: &str| Entity::Named(name.into());
    let (found, _) = joined(vec![
        says(1, Layer::Temporal, named("web/load"), "", 0.9),
        says(30, Layer::Rule, named("web//usr/bin/bash"), "T1059.004", 0.9),
    ]);
    assert_eq!(found.len(), 2);
    assert_eq!((found[1].time, found[1].score), (at(30), 0.9));
}

/// A metric of the machine that stands out.
fn metric(second: i64, name: &str, score: f64) -> (u64, Verdict) {
    let mut said = says(second, Layer::Temporal, Entity::Named(name.into()), "", score);
    said.1.schema = MetricDetection::evidence_schema().digest();
    said
}

fn odds(score: f64) -> f64 {
    score / (1.0 - score)
}

#[test]
fn a_metric_doubles_the_odds_of_an_attack_at_most_however_many_there_are() {
    let attack = |second| {
        let shell = Entity::Named("web//usr/bin/bash".into());
        says(second, Layer::Rule, shell, "T1059.004", 0.6)
    };
    let (alone, _) = joined(vec![attack(1)]);
    for count in [1, 5] {
        let mut said = vec![attack(1)];
        said.extend((0..count).map(|n| metric(5 + n, &format!("web/metric{n}"), 0.9999)));
        let (found, _) = joined(said);
        assert_eq!(found.len(), 1, "{found:#?}");
        let ratio = odds(found[0].score) / odds(alone[0].score);
        assert!((ratio - 2.0).abs() < 1e-6, "{count} metrics: {ratio}");
        assert_eq!(found[0].title, alone[0].title);
        let sum: f64 = found[0].evidence.iter().map(|e| e.contribution).sum();
        assert!((sum - odds(found[0].score).ln()).abs() < 1e-6);
    }
    // One that hardly stands out says little.
    let (found, _) = joined(vec![attack(1), metric(5, "web/load", 0.31)]);
    assert_eq!(found[0].score, alone[0].score);
    // Alone, and of another host, it is what it was.
    let (found, _) = joined(vec![attack(1), metric(5, "db/load", 0.9999)]);
    assert_eq!((found.len(), found[0].score), (2, alone[0].score));
    // Metrics that stand out one after the other do not carry an attack along.
    let mut said = vec![attack(1)];
    said.extend((0..20).map(|n| metric(60 + 100 * n, &format!("web/metric{n}"), 0.9999)));
    let (found, _) = joined(said);
    let shell = found.iter().find(|verdict| verdict.technique.is_some()).unwrap();
    assert!(shell.updated <= at(121), "{:?}", shell.updated);
}

#[test]
fn on_a_host_whose_metrics_always_stand_out_one_more_says_nothing() {
    let attack = says(
        20_000,
        Layer::Rule,
        Entity::Named("web//usr/bin/bash".into()),
        "T1059.004",
        0.6,
    );
    let ratio = |every: usize| {
        let mut said: Vec<(u64, Verdict)> = (0..20_000)
            .step_by(every)
            .map(|second| metric(second, "web/noisy", 0.5))
            .collect();
        said.extend([attack.clone(), metric(20_010, "web/load", 0.9999)]);
        let (found, _) = joined(said);
        let found = found.iter().find(|verdict| verdict.technique.is_some()).unwrap();
        odds(found.score) / odds(0.6)
    };
    assert!((ratio(15_000) - 2.0).abs() < 1e-6, "{}", ratio(15_000));
    assert!((ratio(50) - 1.0).abs() < 1e-6, "{}", ratio(50));
}

#[test]
fn what_an_analyzer_that_fuses_keeps_apart_stays_apart() {
    let (found, _) = joined(vec![
        says(1, Layer::Fused, host(), "T1071.001", 0.8),
        says(2, Layer::Fused, host(), "T1071.004", 0.8),
    ]);
    assert_eq!(found.len(), 2);
}

#[test]
fn a_pattern_that_repeats_is_one_alert_that_is_revised_now_and_then() {
    let again = (0..300).map(|second| says(second, Layer::Rule, host(), "T1046", 0.9));
    let (found, count) = joined(again.collect());
    assert_eq!(found.len(), 1);
    assert!((50..=70).contains(&count), "{count}");
    assert_eq!(found[0].events.first, Seq(0));
    assert!(found[0].events.last >= Seq(290));
}
