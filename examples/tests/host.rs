//! The recorded machine: an intruder comes in, becomes root, stays, and writes into another program; told as one story.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use amoskys_core::config::Config;
use amoskys_core::event::{Payload, Value};
use amoskys_core::read_log;
use amoskys_core::seal::LogParts;
use amoskys_transport::{Log, LogOptions};
use serde_json::Value as Json;
use support::{alerts, assert_balanced, data, program, succeed};

/// Where the log lies, ready to be read. What unpacks it is on every system that these tests run on.
fn unpack(dir: &Path) -> std::path::PathBuf {
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(data("host/log.tar.gz")).arg("-C").arg(dir);
    succeed(&mut tar);
    dir.join("log")
}

fn replay(log: &Path, alerts: &Path) -> Command {
    let mut command = program("sentinel");
    command
        .arg("--replay")
        .arg("--data-dir")
        .arg(log)
        .arg("--alerts")
        .arg(alerts)
        .env("AMOSKYS_AGENT_NAME", "web-1")
        .stdin(Stdio::null());
    command
}

fn labels() -> Json {
    let text = std::fs::read_to_string(data("host/labels.json")).expect("read the labels");
    serde_json::from_str(&text).expect("labels")
}

/// The technique without what it is in detail.
fn technique(text: &str) -> &str {
    text.split('.').next().unwrap_or_default()
}

#[test]
fn the_steps_of_an_intruder_are_one_story() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = unpack(dir.path());
    let file = dir.path().join("alerts.jsonl");
    assert_balanced(&succeed(&mut replay(&log, &file)));
    let alerts = alerts(&file);
    let labels = labels();
    let host = labels["host"].as_str().expect("a host");
    let mut story = None;
    let mut told = Vec::new();
    for step in labels["steps"].as_array().expect("steps") {
        let (start, end) = (step["start_ns"].as_i64(), step["end_ns"].as_i64());
        let (start, end) = (start.expect("a start"), end.expect("an end"));
        let wanted = technique(step["technique"].as_str().expect("a technique"));
        let found = alerts.iter().position(|alert| {
            let time = alert["time_ns"].as_i64().expect("a time");
            let said = technique(alert["technique"].as_str().unwrap_or_default());
            let accused = alert["host"].as_str().expect("a host");
            said == wanted && accused.starts_with(host) && (start..end + 5_000_000_000).contains(&time)
        });
        let found = found.unwrap_or_else(|| panic!("no alert for {step}: {alerts:#?}"));
        told.push(found);
        let told_as = alerts[found]["story"].as_str().expect("a story");
        let story = story.get_or_insert(told_as);
        assert_eq!(*story, told_as, "{step} is another story: {alerts:#?}");
    }
    let story = story.expect("a story");
    let others = alerts.iter().filter(|alert| alert["story"] != story).count();
    assert!(others <= 1, "{others} alerts beside the story: {alerts:#?}");
}

#[test]
fn the_recording_gives_the_same_alerts_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = unpack(dir.path());
    let [first, second] = ["first", "second"].map(|name| {
        let file = dir.path().join(name);
        succeed(&mut replay(&log, &file));
        std::fs::read(&file).expect("read the alerts")
    });
    assert!(!first.is_empty());
    assert_eq!(first, second);
}

#[test]
fn the_flow_of_the_intruder_names_the_process_that_made_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = unpack(dir.path());
    let settings = format!("agent:\n  name: web-1\nlog:\n  path: '{}'\n", log.display());
    let config = Config::loader()
        .yaml(settings, "test")
        .load()
        .expect("settings")
        .config;
    let log = Log::open(&config.log.path, LogOptions::from(&config)).expect("the log");
    let log = LogParts::from(log);
    let labels = labels();
    let shell = &labels["steps"][0];
    let (pid, peer) = (shell["pids"][0].as_u64(), shell["peer"].as_str().expect("a peer"));
    let mut owners = Vec::new();
    for record in read_log(&*log.wal, &*log.open) {
        for recorded in record.expect("a whole record").1.into_recorded() {
            if let Payload::Flow(flow) = &recorded.event.payload
                && format!("{}:{}", flow.key.destination, flow.key.destination_port) == peer
            {
                owners.push(recorded.event.attributes.get("process_pid").cloned());
            }
        }
    }
    assert!(!owners.is_empty());
    for owner in owners {
        assert_eq!(owner, pid.map(Value::Uint));
    }
}

#[test]
fn the_recording_is_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = unpack(dir.path());
    let verified = succeed(program("verify").arg(&log).arg("--json"));
    let text = String::from_utf8_lossy(&verified.stdout);
    assert!(text.contains("web-1"), "{text}");
}

#[cfg(target_os = "linux")]
mod live {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::support::{delivered, fail};

    /// Whether the peers and privileges have to be there.
    fn must() -> bool {
        std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref() == Ok("1")
    }

    fn sentinel() -> Command {
        let mut command = program("sentinel");
        command.stdin(Stdio::null());
        command
    }

    #[test]
    fn without_privileges_it_says_which_it_needs() {
        let path = sentinel().get_program().to_owned();
        for (source, capability) in [
            (["--ebpf"].as_slice(), "CAP_BPF"),
            (["--proc", "--interface", "lo"].as_slice(), "CAP_NET_RAW"),
        ] {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all"]);
            command.arg(&path).args(source).stdin(Stdio::null());
            if Command::new("setpriv").arg("--version").output().is_err() {
                assert!(!must(), "setpriv is missing");
                eprintln!("skipped: setpriv is missing");
                return;
            }
            let (code, text) = fail(&mut command);
            if text.contains("setpriv:") {
                // Who is not root has nothing to give up.
                let (code, text) = fail(sentinel().args(source));
                assert!(code == Some(2) && text.contains(capability), "{code:?}: {text}");
                continue;
            }
            assert!(code == Some(2) && text.contains(capability), "{code:?}: {text}");
        }
    }

    /// What the program says of these sources, and of errors, after some connections and changes; `None` if it may not watch them here.
    fn watch(sources: &[&str], watched: &Path) -> Option<String> {
        let data = tempfile::tempdir().expect("a directory");
        let child = sentinel()
            .args(sources)
            .arg("--data-dir")
            .arg(data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the program");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        // The sensor takes some seconds to be loaded on a busy machine. What comes before is not seen, and need not be.
        for _ in 0..40 {
            drop(TcpStream::connect(listener.local_addr().expect("an address")).expect("connect"));
            drop(listener.accept().expect("accept"));
            std::fs::write(watched.join("file"), "other").expect("write");
            succeed(&mut Command::new("true"));
            std::thread::sleep(Duration::from_millis(200));
        }
        succeed(Command::new("kill").args(["-INT", &child.id().to_string()]));
        let output = child.wait_with_output().expect("wait for the program");
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && (said.contains("missing CAP_") || said.contains("BTF")) {
            assert!(!must(), "{said}");
            eprintln!("skipped: {said}");
            return None;
        }
        assert!(output.status.success(), "{said}");
        assert_balanced(&output);
        Some(String::from_utf8_lossy(&output.stdout).into_owned() + &said)
    }

    #[test]
    fn several_sources_are_watched_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = dir.path().to_str().expect("a path in UTF-8");
        let sources = ["--ebpf", "--proc", "--interface", "lo", "--integrity", files];
        let Some(text) = watch(&sources, dir.path()) else {
            return;
        };
        for source in ["collect/ebpf", "collect/proc", "collect/flow", "collect/fim"] {
            assert!(delivered(&text, source) > 0, "{source}: {text}");
        }
    }

    #[test]
    fn an_interface_is_metered_in_the_kernel() {
        let dir = tempfile::tempdir().expect("a directory");
        let Some(text) = watch(&["--interface", "lo", "--in-kernel"], dir.path()) else {
            return;
        };
        assert!(delivered(&text, "collect/flow") > 0, "{text}");
        assert_eq!(
            text.matches("sentinel: watching lo in the kernel").count(),
            1,
            "{text}"
        );
    }

    #[test]
    fn what_keeps_it_from_an_interface_is_said_once_and_at_once() {
        for sources in [
            ["--interface", "nowhere0"].as_slice(),
            &["--interface", "nowhere0", "--in-kernel"],
        ] {
            let (code, text) = fail(sentinel().args(sources));
            let told = text.lines().filter(|line| line.starts_with("sentinel: ")).count();
            assert!(
                code == Some(2) && told == 1 && !text.contains("ERROR"),
                "{code:?}: {text}"
            );
            let reasons = ["nowhere0", "missing CAP_", "BTF"];
            assert!(reasons.iter().any(|reason| text.contains(reason)), "{text}");
        }
    }
}
