//! The files of a site: made once, completed later, never overwritten by accident.
#![cfg(feature = "pki")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use amoskys_core::error::Chain;
use amoskys_transport::identity::pki::{PkiError, Site};
use amoskys_transport::identity::{Credentials, Identity, Role, TlsFiles};
use amoskys_transport::{FileSigner, Signer, TrustMap};

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let content = std::fs::read(&path).unwrap();
            (path, content)
        })
        .collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Public files have the mode that the user's mask allows.
fn fits(mode: u32, secret: bool) -> bool {
    match secret {
        true => mode == 0o600,
        false => mode & 0o600 == 0o600 && mode & 0o133 == 0,
    }
}

fn site(dir: &Path) -> Site {
    Site::new(dir)
        .bus("bus")
        .host("localhost")
        .host("127.0.0.1")
        .agent("a")
        .agent("b")
        .analyzer("judge")
}

#[test]
fn makes_everything_that_a_site_needs() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("site");
    let done = site(&dir).make().unwrap();
    assert!(done.kept.is_empty() && done.problems.is_empty(), "{done:?}");
    let files = contents(&dir);
    assert_eq!(files.keys().collect::<Vec<_>>(), {
        let mut made: Vec<_> = done.made.iter().collect();
        made.sort();
        made
    });
    assert_eq!(files.len(), 2 + 4 * 4 + 1);
    assert_eq!(mode(&dir), 0o700);
    for (path, _) in files {
        let secret = path
            .extension()
            .is_some_and(|ending| ending == "key" || ending == "sign");
        assert!(fits(mode(&path), secret), "{}", path.display());
    }

    let trust = TrustMap::load(Credentials::in_dir(&dir, "").trust).unwrap();
    for (role, name) in [
        (Role::Bus, "bus"),
        (Role::Agent, "a"),
        (Role::Agent, "b"),
        (Role::Analyzer, "judge"),
    ] {
        let tls = TlsFiles::in_dir(&dir, name);
        let identity = Identity {
            role,
            name: name.into(),
        };
        assert_eq!(tls.identity().unwrap(), identity);
        tls.client_config().unwrap();
        let key = FileSigner::open(Credentials::in_dir(&dir, name).signing_key)
            .unwrap()
            .public_key();
        assert_eq!(trust.key(&name.into(), key.id()), Some(&key));
    }
    TlsFiles::in_dir(&dir, "bus").server_config().unwrap();
    assert_eq!(trust.iter().count(), 4);
}

#[test]
fn adds_only_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    site(dir).make().unwrap();
    let before = contents(dir);
    let again = site(dir).make().unwrap();
    assert!(again.made.is_empty() && again.problems.is_empty(), "{again:?}");
    assert_eq!(again.kept.len(), before.len());
    assert_eq!(contents(dir), before);

    let more = Site::new(dir).agent("ward 3").make().unwrap();
    assert_eq!(more.trusted, ["ward 3".into()]);
    let names: Vec<_> = more
        .made
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["ward%203.key", "ward%203.pem", "ward%203.sign", "ward%203.pub"]
    );
    let after = contents(dir);
    let trust = Credentials::in_dir(dir, "").trust;
    for (path, content) in &before {
        assert!(
            *path == trust || after[path] == *content,
            "{} was changed",
            path.display()
        );
    }
    assert!(after[&trust].starts_with(&before[&trust]));
    TlsFiles::in_dir(dir, "ward 3").client_config().unwrap();
}

#[test]
fn renews_a_removed_certificate_for_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    site(dir).make().unwrap();
    let files = TlsFiles::in_dir(dir, "a");
    let (certificate, key) = (
        std::fs::read(files.certificate_file()).unwrap(),
        std::fs::read(files.key_file()).unwrap(),
    );
    std::fs::remove_file(files.certificate_file()).unwrap();
    assert_eq!(site(dir).make().unwrap().made, [files.certificate_file()]);
    assert_ne!(std::fs::read(files.certificate_file()).unwrap(), certificate);
    assert_eq!(std::fs::read(files.key_file()).unwrap(), key);
    files.client_config().unwrap();

    // The authority can be had again from its key, and still vouches for what it signed.
    std::fs::remove_file(files.ca_file()).unwrap();
    let again = site(dir).make().unwrap();
    assert_eq!(again.made, [files.ca_file()]);
    assert!(again.problems.is_empty(), "{:?}", again.problems);
}

#[test]
fn force_makes_all_anew() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    site(dir).make().unwrap();
    let before = contents(dir);
    let done = site(dir).force(true).make().unwrap();
    assert_eq!(done.made.len(), before.len());
    let after = contents(dir);
    assert_eq!(after.len(), before.len());
    for (path, content) in &before {
        assert_ne!(after[path], *content, "{}", path.display());
        let secret = path
            .extension()
            .is_some_and(|ending| ending == "key" || ending == "sign");
        assert!(fits(mode(path), secret), "{}", path.display());
    }
    assert!(site(dir).make().unwrap().problems.is_empty());
}

#[test]
fn says_what_is_wrong_with_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    Site::new(dir)
        .bus("bus")
        .host("localhost")
        .agent("a")
        .lifetime(Duration::from_secs(60))
        .make()
        .unwrap();
    let done = Site::new(dir)
        .bus("bus")
        .host("elsewhere")
        .analyzer("a")
        .make()
        .unwrap();
    let problems: Vec<_> = done.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems[0].starts_with("warning") && problems[0].contains("bus.pem: it expires"));
    assert!(problems[1].contains("not for the host elsewhere"));
    assert!(problems[2].contains("a.pem: it expires"));
    assert!(problems[3].contains("it is for agent a, but this is analyzer a"));
}

#[test]
fn what_cannot_be_made_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("site");
    let make = |site: Site| site.make().unwrap_err();
    assert!(matches!(make(Site::new(&dir)), PkiError::Nobody));
    for name in ["", "ca", "a\nb", &"x".repeat(256)] {
        assert!(
            matches!(make(Site::new(&dir).agent(name)), PkiError::Name { .. }),
            "{name:?}"
        );
    }
    assert!(matches!(
        make(Site::new(&dir).agent("a").analyzer("a")),
        PkiError::Name { .. }
    ));
    assert!(!dir.exists());
    assert!(matches!(
        make(Site::new(&dir).bus("bus")),
        PkiError::NoHost { .. }
    ));
    for host in ["", "a b", "localhost:50051", "[::1]", "http://bus"] {
        let site = Site::new(&dir).bus("bus").host(host);
        assert!(matches!(make(site), PkiError::Host { .. }), "{host:?}");
    }
    // What was refused left nothing half made.
    assert!(!dir.join("bus.pem").exists());
    site(&dir).make().unwrap();

    std::fs::remove_file(dir.join("a.key")).unwrap();
    assert!(matches!(
        make(Site::new(&dir).agent("a")),
        PkiError::Incomplete { .. }
    ));
    std::fs::remove_file(dir.join("ca.key")).unwrap();
    assert!(matches!(
        make(Site::new(&dir).agent("c")),
        PkiError::NoAuthorityKey { .. }
    ));
    // Nothing has to be issued for these.
    Site::new(&dir).agent("b").make().unwrap();
    std::fs::write(dir.join("trust"), "b ed25519\n").unwrap();
    assert!(matches!(make(Site::new(&dir).agent("b")), PkiError::Trust { .. }));
    let key = dir.join("ca.key");
    std::fs::write(&key, "no key").unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let line = Chain(&make(Site::new(&dir).agent("c"))).to_string();
    assert!(line.contains("ca.key holds no secret key"), "{line}");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let line = Chain(&make(Site::new(&dir).agent("c"))).to_string();
    assert!(line.contains("ca.key has mode"), "{line}");
}
