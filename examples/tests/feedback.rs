//! "This is normal here": said with one program, believed by another, written down in its log.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use amoskys_core::event::Payload;
use amoskys_core::seal::LogParts;
use amoskys_core::{Class, read_log};
use amoskys_transport::{Log, LogOptions};
use support::{alerts, assert_balanced, data, fail, program, succeed};

fn sentinel(dir: &Path) -> Command {
    let mut command = program("sentinel");
    command.stdin(Stdio::null()).current_dir(dir);
    command
}

fn feedback(dir: &Path) -> Command {
    let mut command = program("feedback");
    command.stdin(Stdio::null()).current_dir(dir);
    command
}

/// The audit entries in a log: who did what.
fn audited(path: &Path) -> Vec<(String, String)> {
    let log = LogParts::from(Log::open(path, LogOptions::new().agent("sentinel")).expect("open the log"));
    let mut found = Vec::new();
    for opened in read_log(&*log.wal, &*log.open) {
        for recorded in opened.expect("a record").1.into_recorded() {
            if let Payload::Audit(entry) = &recorded.event.payload {
                assert_eq!(recorded.event.class, Class::Audit);
                found.push((entry.actor.clone(), entry.action.clone()));
            }
        }
    }
    found
}

#[test]
fn what_is_called_normal_is_no_alert_any_more_and_is_written_down() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let lab = data("lab.pcap");
    succeed(
        sentinel(dir)
            .arg("--read")
            .arg(&lab)
            .args(["--data-dir", "first", "--alerts", "alerts.jsonl"]),
    );
    let before = alerts(&dir.join("alerts.jsonl"));
    assert_eq!(before.len(), 5);
    let id = before[0]["id"].as_str().expect("an id");

    let (code, text) = fail(feedback(dir).args(["--verdict", id, "--normal"]));
    assert!(code == Some(2) && text.contains("--reason"), "{text}");
    let say = ["--normal", "--by", "bob", "--reason", "the monitor does that"];
    let (_, text) = fail(feedback(dir).args(["--verdict", &"0".repeat(32)]).args(say));
    assert!(text.contains("no alert"), "{text}");
    succeed(feedback(dir).args(["--verdict", id]).args(say));
    let shown = succeed(feedback(dir).arg("--show"));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("bob: the monitor does that"));

    let output = succeed(
        sentinel(dir)
            .arg("--read")
            .arg(&lab)
            .args([
                "--data-dir",
                "second",
                "--alerts",
                "second.jsonl",
                "--normal",
                "normal.json",
            ])
            .args(["--report", "report.html"]),
    );
    assert_balanced(&output);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        printed.starts_with("4 alerts") && printed.contains("1 verdict called normal here"),
        "{printed}"
    );
    let after = alerts(&dir.join("second.jsonl"));
    assert!(after.len() == 4 && after.iter().all(|alert| alert["id"] != id));
    let page = std::fs::read_to_string(dir.join("report.html")).expect("read the report");
    assert!(page.contains("called normal by bob"));
    let said = ("bob".to_owned(), "suppression.load".to_owned());
    assert_eq!(audited(&dir.join("second")), [said]);

    // It is not normal, after all.
    succeed(feedback(dir).args(["--verdict", id, "--not-normal"]));
    let again = succeed(sentinel(dir).args(["--replay", "--data-dir", "second", "--normal", "normal.json"]));
    assert!(String::from_utf8_lossy(&again.stdout).starts_with("5 alerts"));

    std::fs::write(dir.join("normal.json"), "normal").expect("write");
    let (code, text) =
        fail(sentinel(dir).args(["--replay", "--data-dir", "second", "--normal", "normal.json"]));
    assert!(code == Some(2) && text.contains("normal.json"), "{text}");
}
