//! What the tests of the programs share.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) mod halves;
pub(crate) mod site;

use serde_json::Value;

/// A program of this package, as `cargo test` has built it.
pub(crate) fn program(name: &str) -> Command {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/TEST");
    let path = profile
        .join("examples")
        .join(name)
        .with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --examples`",
        path.display()
    );
    Command::new(path)
}

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// Runs a command that is to succeed.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("start the program");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    output
}

/// Runs a command that is to fail with an explanation, and gives the explanation.
pub(crate) fn fail(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("start the program");
    assert!(!output.status.success(), "{command:?} was to fail");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !text.trim().is_empty() && !text.contains("panicked"),
        "{command:?}: {text}"
    );
    (output.status.code(), text)
}

/// The alerts of a file, a JSON object a line.
pub(crate) fn alerts(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("read the alerts");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
        .collect()
}

/// What a run prints is its ledger too; a stage that lost something without saying so is marked there.
pub(crate) fn assert_balanced(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("stage") && !text.contains("UNBALANCED"), "{text}");
    let after = text.lines().skip_while(|line| !line.starts_with("stage")).skip(1);
    // How a shadow differed comes after the ledger.
    let pending = after.take_while(|line| !line.starts_with("shadow: "));
    for line in pending.filter(|line| !line.starts_with(' ') && !line.is_empty()) {
        assert_eq!(
            line.split_whitespace().nth(4),
            Some("0"),
            "something is pending: {line}"
        );
    }
}

/// What a stage of a printed ledger delivered.
pub(crate) fn delivered(text: &str, stage: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(stage));
    let line = lines.find(|rest| rest.starts_with(' '));
    let columns = line
        .unwrap_or_else(|| panic!("no {stage} in {text}"))
        .split_whitespace();
    columns
        .skip(1)
        .map(|column| column.parse().expect("a number"))
        .next()
        .expect("a column")
}

/// What alerts say, in order of time, without the places of their events, which are others where other sensors saw them; a
/// story is named by its first alert's title instead of its id, which comes from such a place.
pub(crate) fn content(alerts: &[Value]) -> Vec<Value> {
    let titles: BTreeMap<String, Value> = alerts
        .iter()
        .map(|alert| (alert["id"].to_string(), alert["title"].clone()))
        .collect();
    let mut alerts = alerts.to_vec();
    for alert in &mut alerts {
        let story = titles[&alert["story"].to_string()].clone();
        let fields = alert.as_object_mut().expect("an object");
        fields.remove("id");
        fields.remove("events");
        fields.insert("story".to_owned(), story);
    }
    alerts.sort_by_key(|alert| (alert["time_ns"].as_i64(), alert["title"].to_string()));
    alerts
}
