//! Models from tables and logs: the same bytes each time, described, applied with reasons, and mistakes named by line and column.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{alerts, data, fail, program, succeed};

fn train() -> Command {
    let mut command = program("train");
    command.stdin(Stdio::null());
    command
}

/// Flows of an office: most are alike; every twentieth, where there are such, is not, and labelled.
fn table(rows: usize, labelled: bool) -> String {
    let mut text = String::from("id,duration,bytes,service,note,label\n");
    let mut state = 7_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    for row in 0..rows {
        let odd = labelled && row % 20 == 3;
        let bytes = if odd { 90_000.0 } else { 500.0 + 400.0 * uniform() };
        let duration = if row.is_multiple_of(13) {
            String::new()
        } else {
            format!("{:.3}", 1.0 + uniform())
        };
        let service = if odd {
            "tftp"
        } else {
            ["http", "dns", "smtp"][row % 3]
        };
        let label = if odd { "exfiltration" } else { "normal" };
        writeln!(
            text,
            "flow-{row},{duration},{bytes:.0},{service},\"a, \"\"b\"\"\",{label}"
        )
        .expect("text");
    }
    text
}

fn lines(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_same_table_gives_the_same_model_and_the_model_says_what_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("flows.csv"), table(2_000, true)).expect("write");
    let mut packed = flate2::write::GzEncoder::new(
        std::fs::File::create(path("packed.csv.gz")).expect("create"),
        flate2::Compression::fast(),
    );
    std::io::Write::write_all(&mut packed, table(2_000, true).as_bytes()).expect("pack");
    packed.finish().expect("pack");
    let make = |csv: &str, model: &str, threads: &str| {
        let output = succeed(
            train()
                .args(["--csv"])
                .arg(path(csv))
                .args([
                    "--label",
                    "label",
                    "--name",
                    "flows",
                    "--seed",
                    "5",
                    "--threads",
                    threads,
                    "-o",
                ])
                .arg(path(model)),
        );
        (lines(&output), std::fs::read(path(model)).expect("a model"))
    };
    let (said, first) = make("flows.csv", "first.model", "1");
    assert_eq!(make("flows.csv", "second.model", "2").1, first, "on two threads");
    assert_eq!(
        make("packed.csv.gz", "third.model", "1").1,
        first,
        "from a packed file"
    );

    for part in [
        "boosted_trees",
        "digest",
        "seed           5",
        "rows_measured",
        "auroc 1.0000",
        "service: 4",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let described = lines(&succeed(train().arg("--describe").arg(path("first.model"))));
    assert!(said.ends_with(&described), "{said}\n{described}");
}

#[test]
fn rows_are_scored_with_their_reasons() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("flows.csv"), table(1_500, false)).expect("write");
    succeed(
        train()
            .arg("--csv")
            .arg(path("flows.csv"))
            .args(["--exclude", "id,label", "-o"])
            .arg(path("m.model")),
    );
    // Other columns, another order, one more: features are found by their names.
    let mut odd = String::from("service,bytes,duration,extra,note\n");
    odd.push_str("http,600,1.5,x,\"a, \"\"b\"\"\"\ngopher,800000,1.2,y,\"a, \"\"b\"\"\"\n");
    std::fs::write(path("odd.csv"), odd).expect("write");
    let score = || {
        let mut command = train();
        command
            .arg("--score")
            .arg(path("m.model"))
            .arg("--csv")
            .arg(path("odd.csv"));
        command
    };
    let said = lines(&succeed(&mut score()));
    let rows: Vec<&str> = said.lines().collect();
    assert_eq!(rows.len(), 3, "{said}");
    assert_eq!(rows[0], "line,score,probability,alarm,because");
    assert!(rows[1].starts_with("2,") && rows[1].ends_with(",0,"), "{said}");
    assert!(rows[2].starts_with("3,") && rows[2].contains(",1,"), "{said}");
    assert!(rows[2].contains("bytes=800000 (+"), "{said}");
    succeed(score().arg("-o").arg(path("scores.csv")));
    assert_eq!(std::fs::read_to_string(path("scores.csv")).expect("scores"), said);

    std::fs::write(path("odd.csv"), "service,bytes,note\nhttp,1,x\n").expect("write");
    let (_, why) = fail(&mut score());
    assert!(why.contains("columns that are not there: duration"), "{why}");
    std::fs::write(path("odd.csv"), "service,bytes,duration,note\nhttp,1,long,x\n").expect("write");
    let (_, why) = fail(&mut score());
    assert!(why.contains("line 2, column 3 (duration)"), "{why}");
}

#[test]
fn mistakes_are_named_by_line_and_column() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("bad.csv");
    let good = table(300, true);
    let with = |extra: &str| format!("{good}{extra}\n");
    let cases: [(String, &str); 9] = [
        (String::new(), "there is no header"),
        ("a,b,label\n".to_owned(), "there are no rows"),
        ("a,b,a\n1,2,3\n".to_owned(), "columns 1 and 3 are both called a"),
        ("a,,label\n1,2,0\n".to_owned(), "column 2: the column has no name"),
        (with("flow-x,1,2"), "line 302: 3 fields, but the header has 6"),
        (
            with("flow-x,1,many,http,n,normal"),
            "line 302, column 3 (bytes): \"many\" is no number",
        ),
        (
            with("flow-x,1,5,http,n,7"),
            "line 302, column 6 (label): the label 7 is neither 0 nor 1",
        ),
        (
            with("flow-x,1,5,http,n,"),
            "line 302, column 6 (label): the label is missing",
        ),
        (table(10, true), "10 rows; 50 are needed"),
    ];
    for (text, expected) in cases {
        std::fs::write(&path, text).expect("write");
        let (code, why) = fail(
            train()
                .arg("--csv")
                .arg(&path)
                .args(["--label", "label", "-o", "/dev/null"]),
        );
        assert!(code == Some(1) && why.contains(expected), "{expected}: {why}");
    }
    let dos = with("flow-x,1,many,http,n,normal").replace('\n', "\r\n");
    std::fs::write(&path, dos).expect("write");
    let (_, why) = fail(train().arg("--csv").arg(&path).args(["-o", "/dev/null"]));
    assert!(why.contains("line 302, column 3 (bytes)"), "{why}");
    std::fs::write(&path, b"a,label\n1,\xff\n").expect("write");
    let (_, why) = fail(train().arg("--csv").arg(&path).args(["-o", "/dev/null"]));
    assert!(why.contains("line 2, column 2: not UTF-8"), "{why}");
    std::fs::write(&path, &good).expect("write");
    let (_, why) = fail(
        train()
            .arg("--csv")
            .arg(&path)
            .args(["--label", "labels", "-o", "/dev/null"]),
    );
    assert!(why.contains("there is no column labels; there are id"), "{why}");
    let (_, why) =
        fail(
            train()
                .arg("--csv")
                .arg(&path)
                .args(["--detector", "boosted_trees", "-o", "/dev/null"]),
        );
    assert!(why.contains("--label"), "{why}");
    let (_, why) = fail(train().arg("--describe").arg(&path));
    assert!(why.contains("bad.csv"), "{why}");
    let (_, why) = fail(train().args(["--log", "/nowhere", "-o", "/dev/null"]));
    assert!(why.contains("/nowhere"), "{why}");
}

/// Runs sentinel on the laboratory's capture.
fn watch(dir: &Path, more: &[&str]) -> (String, Vec<serde_json::Value>) {
    let file = dir.join("alerts.jsonl");
    std::fs::remove_file(&file).ok();
    let output = succeed(
        program("sentinel")
            .stdin(Stdio::null())
            .arg("--read")
            .arg(data("lab.pcap"))
            .arg("--alerts")
            .arg(&file)
            .args(more)
            .current_dir(dir),
    );
    (lines(&output), alerts(&file))
}

#[test]
fn a_recorded_log_becomes_a_model_and_the_model_is_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let (_, cold) = watch(dir, &["--data-dir", "log"]);
    let make = |model: &str| {
        succeed(
            train()
                .args(["--log", "log", "--seed", "3", "-o", model])
                .current_dir(dir),
        );
        std::fs::read(dir.join(model)).expect("a model")
    };
    assert_eq!(make("site.model"), make("again.model"));
    let described = lines(&succeed(
        train().args(["--describe", "site.model"]).current_dir(dir),
    ));
    for part in [
        "amoskys-site",
        "baseline",
        "windows host.60s",
        "false_alarms",
        "trained on",
    ] {
        assert!(described.contains(part), "no {part} in {described}");
    }

    // What was under way while it was learned is normal to it; tried as a shadow, it says so and raises nothing.
    let (said, shadowed) = watch(dir, &["--shadow", "site.model"]);
    let key = |alert: &serde_json::Value| (alert["host"].clone(), alert["technique"].clone());
    assert_eq!(
        shadowed.iter().map(key).collect::<Vec<_>>(),
        cold.iter().map(key).collect::<Vec<_>>(),
        "a shadow raises nothing"
    );
    assert!(
        said.contains("shadow: ") && said.contains("scores compared"),
        "{said}"
    );
    let (_, at_work) = watch(dir, &["--model", "site.model"]);
    assert!(
        at_work.len() < cold.len(),
        "what was normal then is normal now: {at_work:#?}"
    );
    for alert in &at_work {
        assert_ne!(alert["model"], cold[0]["model"], "alerts name the model");
    }
}

#[test]
fn a_model_of_something_else_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("flows.csv"), table(1_000, false)).expect("write");
    succeed(
        train()
            .arg("--csv")
            .arg(path("flows.csv"))
            .args(["--exclude", "id,label", "--name", "office-flows", "-o"])
            .arg(path("flows.model")),
    );
    let refused = |option: &str, file: &str| {
        let mut sentinel = program("sentinel");
        sentinel.stdin(Stdio::null()).arg("--read").arg(data("lab.pcap"));
        fail(sentinel.arg(option).arg(path(file)))
    };
    let (code, why) = refused("--model", "flows.model");
    assert!(code == Some(2) && why.contains("office-flows"), "{why}");
    let (_, why) = refused("--shadow", "flows.model");
    assert!(why.contains("office-flows"), "{why}");
    std::fs::write(
        path("torn.model"),
        b"AMOSKYSM and then nothing that could be read as a model",
    )
    .expect("write");
    let (_, why) = refused("--model", "torn.model");
    assert!(why.contains("torn.model"), "{why}");
}
