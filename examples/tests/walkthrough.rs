//! The commands of `docs/walkthrough.md` work, and print what stands there.
#![cfg(unix)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{program, succeed};

const CARGO: &str = "cargo run --release --example ";

/// A block of commands, and what they are said to print.
#[derive(Default)]
struct Step {
    commands: String,
    printed: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = "";
    for line in text.lines() {
        match (inside, line.strip_prefix("```")) {
            ("", Some(kind)) => {
                inside = kind;
                if kind == "sh" {
                    steps.push(Step::default());
                }
            }
            (_, Some(_)) => inside = "",
            ("sh", None) => {
                let commands = &mut steps.last_mut().expect("a step").commands;
                commands.push_str(line);
                commands.push('\n');
            }
            ("text", None) => {
                let step = steps.last_mut().expect("commands before what they print");
                step.printed.push(line.to_owned());
            }
            _ => {}
        }
    }
    steps
}

/// The programs as this test has built them.
fn with_programs(commands: &str) -> String {
    let mut parts = commands.split(CARGO);
    let mut script = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -- ").expect("NAME -- ARGUMENTS");
        script.push_str(&format!(
            "'{}' {rest}",
            program(name).get_program().to_string_lossy()
        ));
    }
    script
}

/// A line without what differs from run to run and from version to version: numbers and digests.
fn words(line: &str) -> String {
    let is_digest = |word: &str| word.len() >= 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let plain = |word: &str| -> String {
        let kept = |c: &char| !c.is_ascii_digit() && !"+-.".contains(*c);
        word.chars().filter(kept).collect()
    };
    let words = line.split_whitespace().filter(|word| !is_digest(word));
    words
        .map(plain)
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn every_command_works_and_prints_what_is_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/walkthrough.md")).expect("the walk-through");
    let steps = steps(&text);
    assert!(steps.len() >= 6, "{} steps", steps.len());
    let dir = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(root.join("examples"), dir.path().join("examples")).expect("link");
    for step in steps {
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &with_programs(&step.commands)]);
        let output = succeed(shell.current_dir(dir.path()).stdin(Stdio::null()));
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let known: BTreeSet<String> = printed.lines().map(words).collect();
        for line in step.printed.iter().filter(|line| line.trim() != "...") {
            assert!(
                known.contains(&words(line)),
                "{}\ndoes not print\n{line}\nbut\n{printed}",
                step.commands
            );
        }
    }
}
