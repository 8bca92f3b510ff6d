//! What the tests of the programs share.
#![allow(dead_code, reason = "each test uses its part")]

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
    let pending = text.lines().skip_while(|line| !line.starts_with("stage")).skip(1);
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
