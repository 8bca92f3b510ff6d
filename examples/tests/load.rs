//! A short run of `loadgen` with a bus of its own.

mod support;

use support::{fail, program, succeed};

#[test]
fn what_simulated_agents_seal_is_acknowledged_and_stored() {
    let args = ["--local", "--agents", "20", "--rate", "100", "--duration", "1"];
    let output = succeed(program("loadgen").args(args));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\nlost: 0 events; connections lost: 0\n"), "{text}");
    let number = |before: &str, after: &str| {
        let line = text.lines().find(|line| line.ends_with(after)).expect("the line");
        let number = line.strip_prefix(before).expect("its beginning");
        let word = number.split(' ').next().expect("a word");
        word.parse::<u64>().expect("a number")
    };
    let stored = number("the ledger of the bus: ", "events stored");
    assert!((1000..=2000).contains(&stored), "{text}");
    assert_eq!(number("", "offered"), stored, "{text}");
}

#[test]
fn faults_neither_lose_nor_double_anything() {
    let args = ["--local", "--agents", "20", "--rate", "50", "--duration", "3"];
    let faults = [
        "--disconnect-every",
        "1",
        "--repeat",
        "0.2",
        "--slow-line",
        "200000",
        "--kill-every",
        "1",
    ];
    let output = succeed(program("loadgen").args(args).args(faults));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\nlost: 0 events; "), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("faults: "))
        .expect("the faults");
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[..3].iter().all(|count| *count > 0), "{line}");
}

#[test]
fn a_bus_needs_certificates() {
    let (code, text) = fail(program("loadgen").args(["--bus", "localhost:1"]));
    assert_eq!(code, Some(2));
    assert!(text.contains("--cert-dir"), "{text}");
    let dir = tempfile::tempdir().expect("a directory");
    let (code, text) = fail(
        program("loadgen")
            .args(["--bus", "localhost:1", "--cert-dir"])
            .arg(dir.path()),
    );
    assert_eq!(code, Some(2));
    assert!(text.contains("agent-1.pem does not exist"), "{text}");
}
