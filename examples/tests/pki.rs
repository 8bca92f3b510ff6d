//! The program that makes certificates and keys, as a person uses it.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use amoskys_core::config::Config;
use amoskys_transport::check::Checkup;
use amoskys_transport::identity::Role;

use support::{fail, program, succeed};

fn pki(dir: &Path, more: &[&str]) -> Command {
    let mut command = program("pki");
    command
        .arg("--dir")
        .arg(dir)
        .args(["--bus", "bus", "--host", "localhost", "--host", "127.0.0.1"])
        .args(["--agent", "a", "--agent", "b", "--analyzer", "analyzer"])
        .args(more);
    command
}

#[test]
fn one_command_makes_all_and_another_adds_one() {
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("pki");
    let text = String::from_utf8(succeed(&mut pki(&dir, &[])).stdout).expect("text");
    assert!(
        text.contains("agent a: ca.pem a.pem a.key a.sign\n") && text.contains("bus.sign trust\n"),
        "{text}"
    );
    let mode = |name: &str| {
        std::fs::metadata(dir.join(name))
            .expect(name)
            .permissions()
            .mode()
            & 0o777
    };
    for secret in ["ca.key", "bus.key", "bus.sign", "a.key", "b.sign", "analyzer.key"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    assert_eq!(mode("."), 0o700);
    let before = std::fs::read(dir.join("a.pem")).expect("a certificate");

    let text = String::from_utf8(succeed(&mut pki(&dir, &["--agent", "c"])).stdout).expect("text");
    assert!(
        text.contains("c.pem\n") && text.contains("trust: a line for c\n"),
        "{text}"
    );
    assert!(text.contains(" files were there, and were kept."), "{text}");
    let text = String::from_utf8(succeed(&mut pki(&dir, &["--agent", "c"])).stdout).expect("text");
    assert!(text.contains("nothing was made"), "{text}");
    assert_eq!(
        std::fs::read(dir.join("a.pem")).expect("a certificate"),
        before,
        "nothing is overwritten"
    );

    // The other programs can use it.
    let mut config = Config::default();
    config.agent.name = "c".to_owned();
    config.bus.cert_dir = Some(dir.clone());
    config.bus.address = "127.0.0.1:50051".to_owned();
    config.log.path = parent.path().join("data");
    config.log.budget_bytes = 1 << 20;
    assert_eq!(Checkup::new(&config, Role::Agent).run(), []);

    succeed(&mut pki(&dir, &["--force"]));
    let after = std::fs::read(dir.join("a.pem")).expect("a certificate");
    assert_ne!(after, before, "--force makes it anew");
    let problems = Checkup::new(&config, Role::Agent).run();
    assert!(!problems.is_empty(), "the old certificate is worthless now");
}

#[test]
fn mistakes_are_explained() {
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("pki");
    let (code, text) = fail(program("pki").arg("--dir").arg(&dir));
    assert!(code == Some(2) && text.contains("nobody is named"), "{text}");
    let (code, text) = fail(program("pki").arg("--dir").arg(&dir).args(["--bus", "bus"]));
    assert!(code == Some(2) && text.contains("no host is named"), "{text}");
    let (code, text) = fail(&mut pki(&dir, &["--host", "bus:50051"]));
    assert!(code == Some(2) && text.contains("leave out the port"), "{text}");
    let (code, text) = fail(&mut pki(&dir, &["--days", "0"]));
    assert!(code == Some(2) && text.contains("--days"), "{text}");

    succeed(&mut pki(&dir, &[]));
    let (code, text) = fail(&mut pki(&dir, &["--host", "elsewhere"]));
    assert!(
        code == Some(1) && text.contains("not for the host elsewhere"),
        "{text}"
    );
    std::fs::remove_file(dir.join("ca.key")).expect("remove");
    let (code, text) = fail(&mut pki(&dir, &["--agent", "d"]));
    assert!(
        code == Some(2) && text.contains("ca.key is needed to issue"),
        "{text}"
    );
}
