//! What somebody calls normal is no alert any more: at once, for as long as was said, and not without a trace.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod joined;
mod traffic;

use std::path::Path;

use amoskys_analysis::alert::Alert;
use amoskys_analysis::feedback::{
    FeedbackError, MARGIN, Suppression, SuppressionFile, Suppressions, called_normal,
};
use amoskys_analysis::{AlertFile, Correlation, Detection, DetectionConfig, Review};
use amoskys_core::event::{AuditOutcome, Severity, Verdict};
use amoskys_core::{Analyzer, Observation, Recorded, Timestamp};
use traffic::{Ending, Traffic, inside, outside, time};

fn analyzer(suppressions: &Suppressions) -> Correlation {
    let config = DetectionConfig::default();
    let detection = Detection::new(config.clone(), Vec::new()).unwrap();
    joined::join(&config, detection)
        .unwrap()
        .with_suppressions(suppressions.clone())
}

/// Somebody looks at so many ports, from second `at` on.
fn scan(traffic: &mut Traffic, at: f64, ports: u16) {
    for port in 1..=ports {
        traffic.tcp(
            at + f64::from(port) / 10.0,
            outside(7),
            inside(20),
            port,
            Ending::Refused,
        );
    }
}

fn two_scans(first: u16, second: u16) -> Vec<Recorded> {
    let mut traffic = Traffic::default();
    scan(&mut traffic, 0.0, first);
    // After more than an hour it is another incident.
    scan(&mut traffic, 8_000.0, second);
    traffic.record()
}

fn feed(analyzer: &mut Correlation, events: &[Recorded]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for event in events {
        analyzer
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    }
    latest(verdicts)
}

/// The latest revision of each verdict, in order of time.
fn latest(verdicts: Vec<Verdict>) -> Vec<Verdict> {
    let mut latest = std::collections::BTreeMap::new();
    for verdict in verdicts {
        latest.insert((verdict.time, verdict.id), verdict);
    }
    latest.into_values().collect()
}

fn word(alert: &Verdict) -> Suppression {
    Suppression::of_alert(&Alert::from(alert), "the weekly inventory", "bob")
}

#[test]
fn it_takes_effect_with_the_next_event_and_until_it_expires() {
    let events = two_scans(12, 12);
    let alerts = feed(&mut analyzer(&Suppressions::default()), &events);
    assert_eq!(alerts.iter().filter(|alert| alert.is_alert()).count(), 2);

    let suppressions = Suppressions::default();
    let mut running = analyzer(&suppressions);
    let half = events
        .iter()
        .position(|event| event.event.time > time(4_000.0))
        .unwrap();
    let first = feed(&mut running, &events[..half]);
    assert!(first[0].is_alert());
    suppressions.set(vec![word(&first[0])]);
    let second = feed(&mut running, &events[half..]);
    assert_eq!(second.len(), 1);
    assert!(!second[0].is_alert() && second[0].severity() == Severity::Low);
    assert!(called_normal(&second[0]).unwrap() > 0.7);
    assert!(second[0].title.ends_with("(called normal by bob)"));

    let expires = word(&first[0]).until(time(4_000.0));
    let (was, is) = {
        let found = feed(&mut analyzer(&Suppressions::new(vec![expires])), &events);
        (found[0].is_alert(), found[1].is_alert())
    };
    assert!(!was && is);
}

#[test]
fn it_covers_the_host_the_kind_and_the_peers_that_it_names_and_nothing_far_stronger() {
    let events = two_scans(12, 12);
    let found = |change: &dyn Fn(&mut Suppression)| {
        let alerts = feed(&mut analyzer(&Suppressions::default()), &events);
        let mut word = word(&alerts[0]);
        change(&mut word);
        let found = feed(&mut analyzer(&Suppressions::new(vec![word])), &events);
        found.iter().filter(|verdict| verdict.is_alert()).count()
    };
    assert_eq!(found(&|_| {}), 0);
    assert_eq!(found(&|word| word.host = "198.51.100.8".into()), 2);
    assert_eq!(
        found(&|word| word.technique = Some(amoskys_core::event::Technique::new("T1110"))),
        2
    );
    assert_eq!(found(&|word| word.peers = vec!["10.0.0.99".into()]), 2);
    assert_eq!(found(&|word| word.peers.clear()), 0);
    // A scan is about more than some services.
    assert_eq!(found(&|word| word.services = vec!["tcp/22".into()]), 2);

    // A scan of a few ports was called normal, one of hundreds was not.
    let events = two_scans(12, 600);
    let alerts = feed(&mut analyzer(&Suppressions::default()), &events);
    let log_odds = |score: f64| (score / (1.0 - score)).ln();
    assert!(log_odds(alerts[1].score) > log_odds(alerts[0].score) + MARGIN);
    let found = feed(&mut analyzer(&Suppressions::new(vec![word(&alerts[0])])), &events);
    assert_eq!((found[0].is_alert(), found[1].is_alert()), (false, true));
}

/// Guesses of passwords at these ports, one after the other.
fn guesses(ports: &[u16]) -> Vec<Recorded> {
    let mut traffic = Traffic::default();
    for (turn, port) in ports.iter().enumerate() {
        for n in 0..40_u32 {
            let at = turn as f64 * 4_000.0 + f64::from(n) * 3.0;
            let ending = Ending::Data(1_200 + u64::from(n % 5), 1_600, 1.5);
            traffic.tcp(at, inside(9), inside(20), *port, ending);
        }
    }
    traffic.record()
}

#[test]
fn it_covers_the_services_that_it_names_and_no_others() {
    let ssh = feed(&mut analyzer(&Suppressions::default()), &guesses(&[22]));
    assert!(ssh[0].is_alert(), "{ssh:?}");
    let word = word(&ssh[0]);
    assert_eq!(
        (&word.services[..], &word.peers[..]),
        (&["tcp/22".to_owned()][..], &["10.0.0.20".to_owned()][..])
    );
    let alerts = |word: &Suppression, ports: &[u16]| {
        let found = feed(
            &mut analyzer(&Suppressions::new(vec![word.clone()])),
            &guesses(ports),
        );
        found.iter().filter(|verdict| verdict.is_alert()).count()
    };
    assert_eq!(alerts(&word, &[22]), 0);
    assert_eq!(alerts(&word, &[3389]), 1, "another service of the same host");
    assert_eq!(alerts(&word, &[22, 3389]), 1);
    let mut both = word.clone();
    both.services.push("tcp/3389".into());
    assert_eq!(alerts(&both, &[22, 3389]), 0);
    // A list of an older version names no services: it covers all.
    let mut any = word;
    any.services.clear();
    assert_eq!(alerts(&any, &[22, 3389]), 0);
}

#[test]
fn an_alert_that_is_called_normal_while_it_grows_is_one_no_more_and_its_line_says_so() {
    let mut traffic = Traffic::default();
    scan(&mut traffic, 0.0, 12);
    scan(&mut traffic, 60.0, 14);
    let events = traffic.record();
    let suppressions = Suppressions::default();
    let mut running = analyzer(&suppressions);
    let half = events
        .iter()
        .position(|event| event.event.time > time(30.0))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.jsonl");
    let mut file = AlertFile::open(&path).unwrap();
    let first = feed(&mut running, &events[..half]);
    assert!(first[0].is_alert());
    file.take(&first[0]).unwrap();
    suppressions.set(vec![word(&first[0])]);
    let second = feed(&mut running, &events[half..]);
    assert_eq!(second[0].id, first[0].id);
    assert!(!second[0].is_alert());
    file.take(&second[0]).unwrap();
    file.tidy().unwrap();
    drop(AlertFile::open(&path).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let line: Alert = serde_json::from_str(text.trim_end()).unwrap();
    assert!(line.normal && line.score < 0.3, "{line:?}");
}

#[test]
fn a_review_counts_what_was_called_normal_and_shows_it() {
    let events = two_scans(12, 12);
    let alerts = feed(&mut analyzer(&Suppressions::default()), &events);
    let suppressions = Suppressions::new(vec![word(&alerts[0])]);
    let log = amoskys_core::Opened::new(
        events[0].stream.clone(),
        events[0].seq,
        events[events.len() - 1].seq,
        "test".into(),
    );
    let mut log = log;
    log.events = events.iter().map(|event| event.event.clone()).collect();
    let mut review = Review::new();
    review
        .redraw([Ok((amoskys_core::Offset(0), log))], &mut analyzer(&suppressions))
        .unwrap();
    assert_eq!((review.alerts().count(), review.called_normal_count()), (0, 2));
    let text = review.to_string();
    assert!(
        text.contains("2 verdicts called normal here") && text.contains("called normal by bob"),
        "{text}"
    );
}

fn words(count: usize) -> Vec<Suppression> {
    let one = |n| Suppression {
        id: format!("{n}"),
        host: "10.0.0.5".into(),
        technique: None,
        peers: Vec::new(),
        services: Vec::new(),
        up_to: 0.9,
        until_ns: None,
        reason: "it does".into(),
        by: "alice".into(),
    };
    (0..count).map(one).collect()
}

#[test]
fn a_list_is_reloaded_audited_and_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("normal.json");
    let (mut file, entries) = SuppressionFile::open(&path, "sentinel").unwrap();
    assert!(entries.is_empty() && file.reload().is_empty());
    let handle = file.suppressions();

    for one in words(2) {
        SuppressionFile::add(&path, one).unwrap();
    }
    let actions = |entries: &[amoskys_core::event::AuditEntry]| -> Vec<(String, String)> {
        entries
            .iter()
            .map(|entry| (entry.actor.clone(), entry.action.clone()))
            .collect()
    };
    let entries = file.reload();
    let of = |actor: &str, action: &str| (actor.to_owned(), action.to_owned());
    assert_eq!(
        actions(&entries),
        [of("alice", "suppression.add"), of("alice", "suppression.add")]
    );
    assert_eq!(entries[0].reason, "it does");
    let object: Suppression = serde_json::from_str(&entries[0].object).unwrap();
    assert_eq!(object, words(1)[0]);
    assert_eq!(handle.list().len(), 2);

    let longer = words(1).remove(0).until(Timestamp::from_secs(2_000_000_000));
    SuppressionFile::add(&path, longer.clone()).unwrap();
    assert_eq!(actions(&file.reload()), [of("alice", "suppression.change")]);
    assert!(SuppressionFile::remove(&path, "1").unwrap());
    assert!(!SuppressionFile::remove(&path, "1").unwrap());
    assert_eq!(actions(&file.reload()), [of("sentinel", "suppression.remove")]);
    assert!(file.reload().is_empty());

    let (again, entries) = SuppressionFile::open(&path, "sentinel").unwrap();
    assert_eq!(actions(&entries), [of("alice", "suppression.load")]);
    assert_eq!(&again.suppressions().list()[..], [longer]);
}

#[test]
fn a_bad_list_is_an_error_that_says_why_and_the_old_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("normal.json");
    SuppressionFile::add(&path, words(1).remove(0)).unwrap();
    let (mut file, _) = SuppressionFile::open(&path, "sentinel").unwrap();
    let handle = file.suppressions();
    let good = std::fs::read_to_string(&path).unwrap();
    let cases = [
        (good.replace('}', ""), "no list of suppressions"),
        (good.replace("\"by\"", "\"from\""), "no list of suppressions"),
        (good.replace("0.9", "1.9"), "up_to"),
        (good.replace("alice", " "), "who calls this normal"),
        (good.replace("10.0.0.5", ""), "no host"),
    ];
    for (bad, wanted) in cases {
        assert_ne!(bad, good);
        std::fs::write(&path, &bad).unwrap();
        let error = SuppressionFile::open(&path, "sentinel").unwrap_err();
        assert!(
            matches!(error, FeedbackError::Content { .. }) && error.to_string().contains(wanted),
            "{error}"
        );
        let entries = file.reload();
        assert_eq!((entries.len(), entries[0].outcome), (1, AuditOutcome::Failure));
        assert!(entries[0].reason.contains(wanted), "{}", entries[0].reason);
        assert!(file.reload().is_empty(), "a failure is told once");
        assert_eq!(handle.list().len(), 1);
        assert_unused(&path, &bad);
    }
    std::fs::write(&path, &good).unwrap();
    assert!(file.reload().is_empty(), "nothing has changed");
    SuppressionFile::remove(&path, "0").unwrap();
    assert_eq!(file.reload().len(), 1);
    assert!(handle.list().is_empty());
}

/// A list that cannot be used is not overwritten either.
fn assert_unused(path: &Path, content: &str) {
    SuppressionFile::add(path, words(1).remove(0)).unwrap_err();
    assert_eq!(std::fs::read_to_string(path).unwrap(), content);
}
