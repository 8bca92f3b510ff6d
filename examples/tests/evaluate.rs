//! Protocols of `evaluate` on small sets of their forms: what is right and wrong is told apart, and each writes a page.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{data, program, succeed};

fn evaluate(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = program("evaluate");
    command.stdin(Stdio::null()).args(arguments).current_dir(dir);
    command
}

/// What it printed, as lines of JSON.
fn rows(dir: &Path, arguments: &[&str]) -> Vec<serde_json::Value> {
    let output = succeed(evaluate(dir, arguments).args(["--format", "json"]));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = |line| serde_json::from_str(line).expect("an object a line");
    text.lines().map(row).collect()
}

fn page(dir: &Path, name: &str, parts: &[&str]) {
    let page = std::fs::read_to_string(dir.join(name)).expect("the page");
    for part in parts
        .iter()
        .chain(&["ROC", "Precision and recall", "<polyline", "Evaluation"])
    {
        assert!(page.contains(part), "{name} has no {part}");
    }
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("NaN"));
}

#[test]
fn a_capture_is_found_only_with_the_right_host_and_a_technique_that_fits() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for (kind, name) in [
        ("attack", "a.pcap"),
        ("attack", "b.pcap"),
        ("attack", "c.pcap"),
        ("benign", "d.pcap"),
    ] {
        std::fs::create_dir_all(dir.join(kind)).expect("a folder");
        std::fs::copy(data("lab.pcap"), dir.join(kind).join(name)).expect("copy");
    }
    std::fs::write(
        dir.join("attack_labels.csv"),
        "file,category,suspicious_host,peer,description\n\
         attack/a.pcap,port_scan,192.0.2.208,x,\"a scan, with a comma\"\n\
         attack/b.pcap,port_scan,192.0.2.99,x,another host\n\
         attack/c.pcap,arp_spoofing,see packets,x,any host\n",
    )
    .expect("labels");
    let rows = rows(dir, &["pcap", "--data", ".", "--report", "pcap.html"]);
    let verdicts: Vec<&str> = rows.iter().filter_map(|row| row["verdict"].as_str()).collect();
    assert_eq!(verdicts, ["found", "missed", "missed", "false alarm"]);
    assert_eq!(
        (&rows[0]["host"], &rows[0]["technique"]),
        (&"192.0.2.208".into(), &"T1046".into())
    );
    let total = &rows[4];
    assert_eq!((&total["found"], &total["attacks"]), (&1.0.into(), &3.0.into()));
    assert_eq!(total["benign"], 1.0);
    assert!(total["false"].as_f64().expect("a count") >= 5.0);
    page(dir, "pcap.html", &["192.0.2.208", "false alarm", "Reliability"]);

    // Any alert will do where nobody says what a capture shows; what is no capture is named and left out.
    std::fs::copy(data("lab.pcap"), dir.join("attack/e.pcap")).expect("copy");
    std::fs::write(dir.join("benign/notes.txt"), "no capture").expect("write");
    std::fs::write(dir.join("benign/empty.pcap"), "").expect("write");
    // So is what is cut off, but what came before is judged.
    let lab = std::fs::read(data("lab.pcap")).expect("the capture");
    std::fs::write(dir.join("benign/cut.pcap"), &lab[..100_003]).expect("write");
    let output = succeed(&mut evaluate(dir, &["pcap", "--data", "."]));
    let (said, printed) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    assert!(said.contains("1 captures of attack/"), "{said}");
    assert!(
        said.contains("notes.txt") && said.contains("empty.pcap"),
        "{said}"
    );
    assert!(
        said.contains("benign/cut.pcap: damaged: 1 capture_truncated, from byte 99"),
        "{said}"
    );
    assert!(printed.contains("benign/cut.pcap"), "{printed}");
    assert!(printed.contains("2 of 4 attacks found"), "{printed}");
}

#[test]
fn any_stream_of_edges_will_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut text = String::from("src,dst,minute,attack\n");
    for minute in 0..300 {
        for host in 0..10 {
            writeln!(text, "{host},server{},{minute},-", host % 3).expect("text");
        }
        if minute % 50 == 49 {
            (0..40).for_each(|n| writeln!(text, "99,victim{n},{minute},sweep").expect("text"));
        }
    }
    std::fs::write(dir.path().join("edges.csv"), text).expect("edges");
    let rows = rows(
        dir.path(),
        &["graph", "--data", "edges.csv", "--report", "g.html"],
    );
    assert_eq!(rows[0]["set"], "edges: all");
    assert!(rows[0]["auroc"].as_f64().expect("a number") > 0.95, "{}", rows[0]);
    assert!(rows.iter().any(|row| row["set"] == "edges: sweep"));
    page(dir.path(), "g.html", &["sweep", "Reliability"]);
}

#[test]
fn traces_are_learned_from_another_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let normal = |n: usize| -> String {
        let calls = (0..20 + n % 13).map(|at| ["3", "4", "5", "6", "91"][(at * (1 + n % 3)) % 5]);
        calls.collect::<Vec<_>>().join(" ")
    };
    let mut test = String::from("label,family,split,trace_id,syscalls\n");
    let mut train = test.clone();
    for n in 0..120 {
        writeln!(train, "normal,,train,t{n},{}", normal(n)).expect("text");
        writeln!(test, "normal,,validation,v{n},{} {n}", normal(n + 1)).expect("text");
        if n.is_multiple_of(4) {
            let odd = (0..30)
                .map(|at| (200 + (at * n) % 17).to_string())
                .collect::<Vec<_>>();
            writeln!(test, "attack,Shell,attack,a{n},{}", odd.join(" ")).expect("text");
        }
    }
    std::fs::write(dir.path().join("test.csv"), test).expect("traces");
    std::fs::write(dir.path().join("train.csv"), train).expect("traces");
    let arguments = [
        "adfa-ld",
        "--data",
        "test.csv",
        "--train",
        "train.csv",
        "--report",
        "t.html",
    ];
    let rows = rows(dir.path(), &arguments);
    assert!(rows[0]["auroc"].as_f64().expect("a number") > 0.95, "{}", rows[0]);
    page(dir.path(), "t.html", &["Shell", "distinct traces", "Reliability"]);
}

#[test]
fn flows_are_learned_from_one_file_and_tested_on_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let rows_of = |begin: usize| {
        let mut text = String::from("duration,bytes,service,label\n");
        for n in begin..begin + 400 {
            let odd = n.is_multiple_of(8);
            let (bytes, service) = if odd {
                (9_000 + n, "tftp")
            } else {
                (100 + n * 7 % 90, "http")
            };
            writeln!(text, "{},{bytes},{service},{}", n % 10, u8::from(odd)).expect("text");
        }
        text
    };
    std::fs::write(dir.path().join("train.csv"), rows_of(0)).expect("rows");
    std::fs::write(dir.path().join("test.csv"), rows_of(1_000)).expect("rows");
    let arguments = [
        "ids",
        "--train",
        "train.csv",
        "--test",
        "test.csv",
        "--report",
        "i.html",
    ];
    let rows = rows(dir.path(), &arguments);
    assert!(
        rows.len() >= 4
            && rows
                .iter()
                .all(|row| row["auroc"].as_f64().expect("a number") > 0.95)
    );
    page(dir.path(), "i.html", &["Boosting", "Novelty"]);
}
