//! The program that writes flows, as somebody meets it who mistypes a name or has a damaged capture.

mod support;

use support::{data, fail, program};

#[test]
fn a_mistake_is_named_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("flows.csv");
    std::fs::write(&output, "of yesterday").expect("write");
    let path = folder.path().to_str().expect("a name");
    for (arguments, parts) in [
        (["--read", "/no/such.pcap"], ["/no/such.pcap", "No such file"]),
        (["--read", path], [path, "Is a directory"]),
        (
            ["--read", output.to_str().expect("a name")],
            ["flows.csv", "not a capture"],
        ),
        (["--interface", "no-such-one"], ["no-such-one", "interface"]),
    ] {
        let (code, said) = fail(program("flowmeter").args(arguments).arg("--output").arg(&output));
        assert!(
            code == Some(1) && parts.iter().all(|part| said.contains(part)),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(std::fs::read(&output).expect("the file"), b"of yesterday");
        let output = program("flowmeter").args(arguments).output().expect("start it");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn what_came_before_the_damage_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = std::fs::read(data("lab.pcap")).expect("the capture");
    let cut = folder.path().join("cut.pcap");
    std::fs::write(&cut, &lab[..100_003]).expect("write");
    let output = program("flowmeter")
        .arg("--read")
        .args([&data("lab.pcap"), &cut])
        .args(["--columns", "counts"])
        .output()
        .expect("start it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cut.pcap: damaged: 1 capture_truncated"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).lines().count() > 100);
    // A file that is missing after one that was read does not cost what was read.
    let output = program("flowmeter")
        .arg("--read")
        .args([&cut, &folder.path().join("missing")])
        .output()
        .expect("start it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("missing: No such file"),
        "{said}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).lines().count() > 20);
}
