//! What an operator is given beside the programs: alerts, dashboard and units are held to the tools that read them, and
//! to the metrics there are.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether the tool is there; without it a test is skipped, unless peers are required.
fn there(tool: &str) -> bool {
    if Command::new(tool).arg("--version").output().is_ok() {
        return true;
    }
    println!("skipped: {tool} is not installed");
    assert_ne!(
        std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref(),
        Ok("1"),
        "{tool} is not installed"
    );
    false
}

fn run(command: &mut Command) {
    let output = command.output().expect("run");
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// All names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("amoskys_") {
        let name: String = text[at..]
            .chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
            .collect();
        // `amoskys_.*` and the names of crates are none.
        if !name.ends_with('_') && !text[at + name.len()..].starts_with(':') {
            names.insert(name);
        }
    }
    names
}

/// The names in the tables of the crates' documentation.
fn documented() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders: Vec<PathBuf> = ["core", "transport", "collectors", "features", "analysis"]
        .map(|name| repository().join(format!("amoskys-{name}/src")))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("list") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for line in fs::read_to_string(path).expect("read").lines() {
                if line.trim_start().starts_with("//! | `amoskys_") {
                    names.extend(metrics(line));
                }
            }
        }
    }
    names
}

/// The expressions of the dashboard, with what it fills in filled in.
fn expressions() -> Vec<String> {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("examples/site/grafana/amoskys.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let expressions = targets.map(|target| {
        let expression = target["expr"].as_str().expect("an expression");
        expression
            .replace("$instance", ".*")
            .replace("$__rate_interval", "5m")
    });
    expressions.collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let documented = documented();
    assert!(documented.len() > 20, "{documented:?}");
    let rules = read("examples/site/prometheus/amoskys.rules.yml");
    let asked: BTreeSet<String> = metrics(&rules)
        .union(&metrics(&expressions().join("\n")))
        .cloned()
        .collect();
    assert!(asked.len() > 15, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&documented).collect();
    assert!(unknown.is_empty(), "not in any table of metrics: {unknown:?}");
}

#[test]
fn the_page_of_operations_names_metrics_that_there_are() {
    let documented = documented();
    let page = read("docs/operations.md");
    let unknown: Vec<_> = metrics(&page).difference(&documented).cloned().collect();
    assert!(unknown.is_empty(), "not in any table of metrics: {unknown:?}");
}

#[test]
fn promtool_takes_the_alerts_and_their_tests_hold() {
    if !there("promtool") {
        return;
    }
    let dir = repository().join("examples/site/prometheus");
    run(Command::new("promtool")
        .current_dir(&dir)
        .args(["check", "rules", "amoskys.rules.yml"]));
    run(Command::new("promtool")
        .current_dir(&dir)
        .args(["test", "rules", "amoskys.rules.test.yml"]));
}

#[test]
fn promtool_takes_the_expressions_of_the_dashboard() {
    if !there("promtool") {
        return;
    }
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (at, expression) in expressions().into_iter().enumerate() {
        let quoted = expression.replace('\'', "''");
        writeln!(rules, "  - record: panel:{at}\n    expr: '{quoted}'").expect("write");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("dashboard.yml");
    fs::write(&file, rules).expect("write");
    run(Command::new("promtool").args(["check", "rules"]).arg(file));
}

#[test]
fn systemd_takes_the_units() {
    if !there("systemd-analyze") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    for unit in fs::read_dir(repository().join("examples/site/systemd")).expect("list") {
        let unit = unit.expect("entry").path();
        let text = fs::read_to_string(&unit).expect("read");
        let program = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))
            .and_then(|command| command.split(' ').next())
            .expect("a program")
            .to_owned();
        // The programs are not installed here; all else of the unit is looked at as it is.
        let copy = dir.path().join(unit.file_name().expect("name"));
        fs::write(&copy, text.replace(&program, "/bin/true")).expect("write");
        let output = Command::new("systemd-analyze")
            .arg("verify")
            .arg(&copy)
            .output()
            .expect("run");
        let said = String::from_utf8_lossy(&output.stderr);
        let about = copy.file_name().expect("name").to_string_lossy().into_owned();
        let complaints: Vec<_> = said.lines().filter(|line| line.contains(&about)).collect();
        assert!(
            output.status.success() && complaints.is_empty(),
            "{}: {complaints:?}\n{said}",
            unit.display()
        );
    }
}
