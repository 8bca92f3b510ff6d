//! The model at work is replaced while events flow, and no event is lost; a file that cannot be used leaves it in its place.
#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

    let mut running = sentinel()
        .args([
            "--proc",
            "--data-dir",
            "run",
            "--model",
            "site.model",
            "--report",
            "page.html",
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
    wait_for("another model judges");
    // It is asked to look again, and there is nothing new.
    signal("-HUP");
    wait_for("has not changed");
    std::thread::sleep(Duration::from_secs(3));
    signal("-INT");
    let output = running.wait_with_output().expect("wait");
    assert!(output.status.success());
    // Every event that was collected was analyzed, and the place where the model changed is in the log.
    assert_balanced(&output);
    let page = std::fs::read_to_string(dir.join("page.html")).expect("the page");
    assert!(page.contains("replaces"), "the boundary is told of");
}
