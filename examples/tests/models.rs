//! The model at work is replaced while events flow, and no event is lost; a file that cannot be used leaves it in its place.
#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use amoskys_core::event::{AuditEntry, Payload};
use amoskys_core::seal::LogParts;
use amoskys_core::{Class, read_log};
use amoskys_transport::{Log, LogOptions};
use support::{assert_balanced, data, program, succeed};

/// A site's model, learned from the laboratory's capture by a detector.
fn learn(dir: &Path, model: &str, seed: &str) {
    let mut train = program("train");
    let train = train.args(["--log", "log", "--seed", seed, "-o", model]);
    succeed(train.stdin(Stdio::null()).current_dir(dir));
}

#[test]
fn a_model_is_replaced_while_a_machine_is_watched_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let sentinel = || {
        let mut command = program("sentinel");
        command.stdin(Stdio::null()).current_dir(dir);
        command
    };
    succeed(
        sentinel()
            .arg("--read")
            .arg(data("lab.pcap"))
            .args(["--data-dir", "log"]),
    );
    learn(dir, "site.model", "1");
    learn(dir, "next.model", "2");
    learn(dir, "other.model", "3");
    std::fs::copy(dir.join("site.model"), dir.join("shadow.model")).expect("copy");

    let mut running = sentinel()
        .args([
            "--proc",
            "--data-dir",
            "run",
            "--model",
            "site.model",
            "--shadow",
            "shadow.model",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start sentinel");
    let (told, heard) = std::sync::mpsc::channel();
    let stderr = running.stderr.take().expect("its words");
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            told.send(line).ok();
        }
    });
    let wait_for = |what: &str| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            match heard.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line.contains(what) => return line,
                _ => {}
            }
        }
        panic!("nobody said: {what}");
    };
    let signal = |name: &str| {
        let sent = Command::new("kill")
            .arg(name)
            .arg(running.id().to_string())
            .status();
        assert!(sent.expect("kill").success());
    };
    std::thread::sleep(Duration::from_secs(1));
    std::fs::write(
        dir.join("site.model"),
        b"this is no model, as anybody can see at once",
    )
    .expect("write");
    let line = wait_for("stays");
    assert!(line.contains("site.model"), "{line}");
    std::fs::rename(dir.join("next.model"), dir.join("site.model")).expect("rename");
    wait_for("the model: another one judges");
    std::fs::rename(dir.join("other.model"), dir.join("shadow.model")).expect("rename");
    wait_for("the shadow: another one judges");
    // They are asked to look again, and there is nothing new.
    signal("-HUP");
    wait_for("has not changed");
    std::thread::sleep(Duration::from_secs(3));
    signal("-INT");
    let output = running.wait_with_output().expect("wait");
    assert!(output.status.success());
    // Every event that was collected was analyzed, and what was decided is in the log.
    assert_balanced(&output);
    let replaced: Vec<AuditEntry> = audited(&dir.join("run"))
        .into_iter()
        .filter(|entry| entry.action == "model.replace")
        .collect();
    let of = |role: &str| {
        let mut told = replaced.iter().filter(|entry| entry.reason.starts_with(role));
        let entry = told.next().expect("the replacement is told of");
        assert!(told.next().is_none(), "once: {replaced:?}");
        entry.clone()
    };
    let (model, shadow) = (of("the model: "), of("the shadow: "));
    assert_eq!(model.actor, "sentinel");
    assert!(
        model.object.contains(" -> ") && model.object != shadow.object,
        "{replaced:?}"
    );
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("shadow: "), "{said}");
}

/// The audit entries in a log.
fn audited(path: &Path) -> Vec<AuditEntry> {
    let log = LogParts::from(Log::open(path, LogOptions::new().agent("sentinel")).expect("open the log"));
    let mut found = Vec::new();
    for opened in read_log(&*log.wal, &*log.open) {
        for recorded in opened.expect("a record").1.into_recorded() {
            if let Payload::Audit(entry) = &recorded.event.payload {
                assert_eq!(recorded.event.class, Class::Audit);
                found.push((**entry).clone());
            }
        }
    }
    found
}
