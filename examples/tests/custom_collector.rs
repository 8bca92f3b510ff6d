//! The example of a collector of one's own, as a program and against what is promised of collectors.
#![allow(dead_code, reason = "the program's beginning is not a test's")]

mod support;

#[path = "../custom_collector.rs"]
mod example;

use std::fs::File;
use std::io::BufReader;

use amoskys_core::Collector;
use support::{fail, program, succeed};

fn readings() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines = (0..1500).map(|number| match number % 100 {
        99 => "not a reading\n".to_owned(),
        _ => format!("{} temperature {}.5\n", 1_700_000_000 + number, number % 30),
    });
    std::fs::write(file.path(), lines.collect::<String>() + "1700001500 last 1").expect("written");
    file
}

#[test]
fn it_runs_to_the_end_and_balances() {
    let file = readings();
    let output = succeed(program("custom_collector").arg(file.path()));
    let table = String::from_utf8_lossy(&output.stdout);
    let line = table.lines().find(|line| line.contains("malformed"));
    assert!(line.is_some_and(|line| line.contains("15")), "{table}");
    assert!(table.contains("1501") && table.contains("1486"), "{table}");
    assert!(!table.contains("UNBALANCED"), "{table}");
    let (code, text) = fail(&mut program("custom_collector"));
    assert_eq!(code, Some(1), "{text}");
}

#[tokio::test]
async fn it_keeps_what_collectors_promise() {
    let file = readings();
    amoskys_core::conformance::collector(|| example::Readings {
        file: BufReader::new(File::open(file.path()).expect("opened")),
        offset: 0,
    })
    .await;
    let mut broken = example::Readings {
        file: BufReader::new(File::open(file.path()).expect("opened")),
        offset: 0,
    };
    let position = amoskys_core::Position(b"none of mine".to_vec().into());
    assert!(broken.resume(&position).await.is_err());
}
