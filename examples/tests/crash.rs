//! Agent and bus are killed again and again, and nothing acknowledged is lost: a short run of `crashtest`.

mod support;

use support::{fail, program, succeed};

#[test]
fn killed_at_any_moment_agent_and_bus_keep_their_word() {
    let output = succeed(program("crashtest").args(["--kills", "20"]));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("20 kills; ") && !text.contains("; 0 events"),
        "{text}"
    );
}

#[test]
fn a_directory_that_is_there_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (code, text) = fail(program("crashtest").arg("--dir").arg(dir.path()));
    assert_eq!(code, Some(2));
    assert!(text.contains("cannot be made"), "{text}");
}
