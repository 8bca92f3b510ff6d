//! The main job on the laboratory's capture: five attacks, five alerts, the same every time.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{alerts, assert_balanced, data, fail, program, succeed};

fn sentinel() -> Command {
    let mut command = program("sentinel");
    command.stdin(Stdio::null());
    command
}

fn on_lab(dir: &Path, alerts: &Path) -> Command {
    let mut command = sentinel();
    command
        .arg("--read")
        .arg(data("lab.pcap"))
        .arg("--data-dir")
        .arg(dir)
        .arg("--alerts")
        .arg(alerts);
    command
}

#[test]
fn finds_the_five_attacks_of_the_laboratory_and_accuses_their_hosts() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("alerts.jsonl");
    let page = dir.path().join("report.html");
    let output = succeed(on_lab(&dir.path().join("data"), &file).arg("--report").arg(&page));
    assert_balanced(&output);
    let alerts = alerts(&file);
    let labels = std::fs::read_to_string(data("labels.csv")).expect("read the labels");
    let mut found = 0;
    for label in labels.lines().skip(1) {
        let [start, end, host, _peer, technique, name] = label
            .split(',')
            .collect::<Vec<_>>()
            .try_into()
            .expect("six columns");
        let tactic = |id: &str| id.split('.').next().unwrap_or_default().to_owned();
        let matching = alerts.iter().find(|alert| {
            let time = alert["time_ns"].as_i64().expect("a time");
            let late = 5_000_000_000;
            let (start, end): (i64, i64) = (start.parse().expect("start"), end.parse().expect("end"));
            alert["host"] == host
                && tactic(alert["technique"].as_str().unwrap_or_default()) == tactic(technique)
                && (start..end + late).contains(&time)
        });
        assert!(matching.is_some(), "no alert for {name}: {alerts:#?}");
        found += 1;
    }
    assert_eq!(found, 5);
    assert!(
        alerts.len() <= found + 1,
        "more than one other alert: {alerts:#?}"
    );
    for alert in &alerts {
        assert_is_complete(alert);
    }

    let page = std::fs::read_to_string(page).expect("read the report");
    for alert in &alerts {
        assert!(
            page.contains(alert["host"].as_str().expect("a host")),
            "the report names who is accused"
        );
    }
    for outside in ["http://", "https://", "src=\"//", "@import"] {
        assert!(!page.contains(outside), "the report needs a network: {outside}");
    }
}

fn assert_is_complete(alert: &Value) {
    assert_eq!(alert["id"].as_str().expect("an id").len(), 32);
    assert!(alert["peers"].is_array() && alert["title"].is_string(), "{alert}");
    let score = alert["score"].as_f64().expect("a score");
    assert!((0.7..=1.0).contains(&score), "{alert}");
    let severity = if score < 0.85 { "high" } else { "critical" };
    assert_eq!(alert["severity"], severity, "{alert}");
    for digest in ["model", "schema"] {
        assert_eq!(alert[digest].as_str().expect("a digest").len(), 64, "{alert}");
    }
    let evidence = alert["evidence"].as_array().expect("evidence");
    assert!(!evidence.is_empty());
    for part in evidence {
        assert!(part["feature"].is_string() && part["value"].is_number() && part["contribution"].is_number());
    }
    let events = &alert["events"];
    assert!(events["stream"].is_string());
    assert!(events["first"].as_u64().expect("first") <= events["last"].as_u64().expect("last"));
}

#[test]
fn the_same_capture_gives_the_same_alerts_again_and_from_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    succeed(&mut on_lab(&path("data-1"), &path("first")));
    succeed(&mut on_lab(&path("data-2"), &path("second")));
    let replay = |from: &str, to: &str| {
        succeed(
            sentinel()
                .arg("--replay")
                .arg("--data-dir")
                .arg(path(from))
                .arg("--alerts")
                .arg(path(to)),
        );
    };
    replay("data-1", "replayed");
    let read = |name: &str| std::fs::read(path(name)).expect("read alerts");
    assert!(!read("first").is_empty());
    assert_eq!(read("first"), read("second"), "two runs");
    assert_eq!(read("first"), read("replayed"), "a replay of the log");

    // The log was finished: another run adds nothing to it.
    let output = succeed(&mut on_lab(&path("data-1"), &path("first")));
    assert_balanced(&output);
    assert_eq!(read("first"), read("second"), "a second run on a finished log");
}

#[test]
fn killed_twenty_times_and_started_again_it_ends_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let reference = dir.path().join("reference.jsonl");
    let started = Instant::now();
    succeed(&mut on_lab(&dir.path().join("undisturbed"), &reference));
    let whole = started.elapsed();
    let reference = std::fs::read(&reference).expect("read alerts");

    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock")
        .as_nanos() as u64;
    println!("seed {seed}");
    let mut random = seed | 1;
    let mut kills = 0;
    for round in 0.. {
        assert!(round < 100, "the program was too quick to be killed twenty times");
        let data_dir = dir.path().join(format!("data-{round}"));
        let file = dir.path().join(format!("alerts-{round}.jsonl"));
        // A few kills in a row, then a run to the end.
        for _ in 0..4 {
            let mut child = on_lab(&data_dir, &file)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("start the program");
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            std::thread::sleep(Duration::from_nanos(random % whole.as_nanos() as u64));
            if child.try_wait().expect("ask for the child").is_none() {
                kills += 1;
            }
            child.kill().ok();
            child.wait().expect("wait for the child");
        }
        let output = succeed(&mut on_lab(&data_dir, &file));
        assert_balanced(&output);
        assert_eq!(
            std::fs::read(&file).expect("read alerts"),
            reference,
            "after {kills} kills, seed {seed}"
        );
        let verified = succeed(program("verify").arg(&data_dir));
        assert!(!verified.stdout.is_empty());
        if kills >= 20 {
            return;
        }
    }
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let (code, text) = fail(sentinel().arg("--read").arg(dir.path().join("missing.pcap")));
    assert!(
        code == Some(2) && text.contains("missing.pcap"),
        "{code:?}: {text}"
    );
    let other = dir.path().join("no-capture");
    std::fs::write(&other, "this is no capture").expect("write");
    let (code, text) = fail(sentinel().arg("--read").arg(&other));
    assert!(code == Some(2) && text.contains("no-capture"), "{code:?}: {text}");
    let (code, _) = fail(&mut sentinel());
    assert_eq!(code, Some(2));
    let (code, text) = fail(sentinel().args(["--interface", "no-such-interface"]));
    assert!(
        code.is_some() && text.contains("no-such-interface"),
        "{code:?}: {text}"
    );
}

#[test]
fn a_capture_cut_short_is_analyzed_as_far_as_it_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let whole = std::fs::read(data("lab.pcap")).expect("read the capture");
    let cut = dir.path().join("cut.pcap");
    std::fs::write(&cut, &whole[..whole.len() / 2 + 7]).expect("write");
    let file = dir.path().join("alerts.jsonl");
    let output = succeed(sentinel().arg("--read").arg(&cut).arg("--alerts").arg(&file));
    assert_balanced(&output);
    assert!(!alerts(&file).is_empty(), "the attacks before the cut are there");
}

#[test]
fn settings_come_from_a_file_and_the_environment() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, log) = (dir.path().join("site.yaml"), dir.path().join("log"));
    // Nothing is an alert by the layers' weights, and the log goes where the file says.
    let text = format!(
        "agent:\n  name: gate-7\nlog:\n  path: {}\nanalysis:\n  geometric_weight: 0\n  temporal_weight: 0\n",
        log.display()
    );
    std::fs::write(&config, text).expect("write");
    let output = succeed(
        sentinel()
            .arg("--read")
            .arg(data("lab.pcap"))
            .arg("--config")
            .arg(&config)
            .env("AMOSKYS_ANALYSIS_BEHAVIORAL_WEIGHT", "0")
            .env("IS_MAX_ENV_BYTES", "100000"),
    );
    assert_balanced(&output);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.starts_with("0 alerts"), "{printed}");
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(
        warned.contains("IS_MAX_ENV_BYTES is deprecated; use AMOSKYS_BATCH_MAX_BYTES"),
        "{warned}"
    );
    succeed(program("verify").arg(&log));
    let verified = succeed(program("verify").arg(&log).arg("--json"));
    assert!(String::from_utf8_lossy(&verified.stdout).contains("gate-7"));
}

#[test]
fn all_that_is_wrong_with_the_settings_is_said_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("site.yaml");
    std::fs::write(&config, "batch:\n  max_events: 0\nflow:\n  idle_timeout: soon\n").expect("write");
    let (code, text) = fail(
        sentinel()
            .arg("--read")
            .arg(data("lab.pcap"))
            .arg("--config")
            .arg(&config)
            .env("AMOSKYS_LOG_BUDGET", "1GiB"),
    );
    assert_eq!(code, Some(2));
    for wrong in ["site.yaml:2", "site.yaml:4", "AMOSKYS_LOG_BUDGET"] {
        assert!(text.contains(wrong), "{wrong} is not in {text}");
    }
    let missing = dir.path().join("missing.yaml");
    let (code, text) = fail(
        sentinel()
            .arg("--read")
            .arg(data("lab.pcap"))
            .arg("--config")
            .arg(&missing),
    );
    assert!(
        code == Some(2) && text.contains("missing.yaml"),
        "{code:?}: {text}"
    );
}
