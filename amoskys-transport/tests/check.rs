//! What keeps a program from starting is found before it starts, each with its reason.
#![cfg(all(feature = "pki", feature = "sled"))]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use amoskys_core::config::Config;
use amoskys_transport::check::{Checkup, Problem, Severity};
use amoskys_transport::identity::pki::Site;
use amoskys_transport::identity::{Credentials, Role};
use amoskys_transport::{FileLogKeys, FileSigner, Log, LogOptions, Signer, TrustMap};

const DAY: Duration = Duration::from_secs(86_400);

/// A site with everything in order, and the settings of its agent.
struct Scene {
    dir: tempfile::TempDir,
    config: Config,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::new(dir.path().join("pki"));
        let site = site.bus("bus").host("localhost").agent("a").analyzer("judge");
        site.make().unwrap();
        let mut config = Config::default();
        config.agent.name = "a".to_owned();
        config.bus.cert_dir = Some(dir.path().join("pki"));
        config.bus.address = "127.0.0.1:50051".to_owned();
        config.log.path = dir.path().join("data");
        config.log.budget_bytes = 1 << 20;
        config.log.segment_bytes = 1 << 17;
        Self { dir, config }
    }

    fn files(&self) -> Credentials {
        Credentials::in_dir(self.dir.path().join("pki"), "a")
    }

    fn log_dir(&self) -> PathBuf {
        self.config.log.path.join("log")
    }

    fn problems(&self) -> Vec<Problem> {
        Checkup::new(&self.config, Role::Agent).run()
    }

    fn begin_log(&self) -> Log {
        let options = LogOptions::new().agent("a").key_file(self.files().signing_key);
        Log::open(&self.config.log.path, options).unwrap()
    }
}

/// The only problem.
fn only(problems: Vec<Problem>) -> Problem {
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.into_iter().next().unwrap()
}

fn assert_error(problem: &Problem, what: &Path, why: &str) {
    assert_eq!(problem.severity, Severity::Error, "{problem}");
    assert_eq!(problem.what, what.display().to_string(), "{problem}");
    assert!(problem.why.contains(why), "{why:?} is not in {problem}");
    assert!(!problem.what_to_do.is_empty());
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn nothing_is_wrong_with_a_site_in_order() {
    let mut scene = Scene::new();
    assert_eq!(scene.problems(), []);
    assert!(!scene.config.log.path.exists(), "a check changes nothing");
    drop(scene.begin_log());
    assert_eq!(scene.problems(), []);
    scene.config.agent.name = "judge".to_owned();
    scene.config.log.path = scene.dir.path().join("other");
    assert_eq!(Checkup::new(&scene.config, Role::Analyzer).run(), []);
    scene.config.bus.server_port = free_port();
    let bus = Checkup::new(&scene.config, Role::Bus).host("localhost");
    assert_eq!(bus.run(), []);
    let problem = only(bus.host("elsewhere").run());
    assert!(problem.why.contains("elsewhere"), "{problem}");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_problem_is_one_line() {
    let scene = Scene::new();
    std::fs::remove_file(scene.files().trust).unwrap();
    std::fs::remove_file(scene.files().tls.ca_file()).unwrap();
    let problem = only(scene.problems());
    let line = format!(
        "error: {}: it does not exist; put it there, or correct bus.cert_dir or agent.name",
        scene.files().tls.ca_file().display()
    );
    assert_eq!(problem.to_string(), line);
}

#[test]
fn everything_is_said_at_once() {
    let mut scene = Scene::new();
    scene.config.bus.cert_dir = Some(scene.dir.path().join("nowhere"));
    scene.config.bus.address = "nowhere.invalid:1".to_owned();
    scene.config.log.path = scene.files().trust;
    let problems = scene.problems();
    let whats: Vec<_> = problems
        .iter()
        .map(|problem| problem.what.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(
        whats,
        ["ca.pem", "a.pem", "a.key", "a.sign", "trust", "bus.address"]
    );
}

#[test]
fn certificates_that_are_not_set() {
    let mut scene = Scene::new();
    scene.config.bus.cert_dir = None;
    assert_eq!(only(scene.problems()).what, "bus.cert_dir");
}

#[test]
fn certificates_of_another_authority() {
    let (scene, other) = (Scene::new(), Scene::new());
    std::fs::copy(other.files().tls.ca_file(), scene.files().tls.ca_file()).unwrap();
    assert_error(
        &only(scene.problems()),
        scene.files().tls.certificate_file(),
        "does not vouch for it: UnknownIssuer",
    );
}

#[test]
fn certificates_that_end() {
    let scene = Scene::new();
    let certificate = scene.files().tls;
    let at = |days: u32| {
        Checkup::new(&scene.config, Role::Agent)
            .at(SystemTime::now() + days * DAY)
            .run()
    };
    assert_eq!(at(330), []);
    let soon = only(at(340));
    assert_eq!(soon.severity, Severity::Warning);
    assert!(
        soon.why.contains("in 24 days") || soon.why.contains("in 25 days"),
        "{soon}"
    );
    assert_error(&only(at(366)), certificate.certificate_file(), "it expired at 20");
    let both = at(3700);
    assert_eq!(both.len(), 2, "{both:?}");
    assert_error(&both[0], certificate.ca_file(), "it expired at 20");

    let early = Checkup::new(&scene.config, Role::Agent)
        .at(SystemTime::now() - DAY)
        .run();
    assert_error(
        &early[1],
        certificate.certificate_file(),
        "it is not valid before 20",
    );
    let patient = Checkup::new(&scene.config, Role::Agent).expiring_within(DAY);
    assert_eq!(patient.at(SystemTime::now() + 340 * DAY).run(), []);
}

#[test]
fn a_certificate_of_another_name_or_role() {
    let scene = Scene::new();
    let pki = scene.dir.path().join("pki");
    let path = scene.files().tls.certificate_file().to_owned();
    std::fs::copy(pki.join("judge.pem"), &path).unwrap();
    std::fs::copy(pki.join("judge.key"), pki.join("a.key")).unwrap();
    assert_error(
        &only(scene.problems()),
        &path,
        "it is for analyzer judge, but this is agent a",
    );
}

#[test]
fn a_key_of_another_certificate_or_open_to_others() {
    let scene = Scene::new();
    let pki = scene.dir.path().join("pki");
    let key = scene.files().tls.key_file().to_owned();
    set_mode(&key, 0o644);
    assert_error(&only(scene.problems()), &key, "0644");
    set_mode(&key, 0o600);
    std::fs::copy(pki.join("judge.key"), &key).unwrap();
    assert_error(&only(scene.problems()), &key, "not the key of");
    std::fs::write(&key, "nonsense").unwrap();
    assert_error(&only(scene.problems()), &key, "no secret key");
}

#[test]
fn a_signing_key_that_cannot_be_used() {
    let scene = Scene::new();
    let path = scene.files().signing_key;
    set_mode(&path, 0o604);
    assert_error(&only(scene.problems()), &path, "0604");
    set_mode(&path, 0o600);
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, [7; 32]).unwrap();
    assert_error(&only(scene.problems()), &path, "not its public key");
    std::fs::write(&path, "nonsense").unwrap();
    assert_error(&only(scene.problems()), &path, "not an Ed25519 key");
    std::fs::remove_file(&path).unwrap();
    assert_error(&only(scene.problems()), &path, "does not exist");
    std::fs::write(&path, good).unwrap();
    set_mode(&path, 0o600);
    assert_eq!(scene.problems(), []);
}

#[test]
fn a_signing_key_that_nobody_trusts() {
    let scene = Scene::new();
    let files = scene.files();
    // Trusted, but for somebody else.
    let key = FileSigner::open(&files.signing_key).unwrap().public_key();
    TrustMap::new().allow("b", key).save(&files.trust).unwrap();
    assert_error(&only(scene.problems()), &files.trust, "is not trusted for a");
    std::fs::write(&files.trust, "# ours\nb ed25519\n").unwrap();
    let line = PathBuf::from(format!("{}:2", files.trust.display()));
    assert_error(&only(scene.problems()), &line, "NAME ed25519 KEY");
    TrustMap::new().allow("a", key).save(&files.trust).unwrap();
    assert_eq!(scene.problems(), []);
    set_mode(&files.trust, 0o666);
    assert_error(&only(scene.problems()), &files.trust, "anyone may add keys");
    // An agent judges nobody; others do.
    std::fs::remove_file(&files.trust).unwrap();
    assert_eq!(scene.problems(), []);
    let analyzer = Checkup::new(&scene.config, Role::Analyzer).run();
    assert!(
        analyzer.iter().any(|problem| problem.what.ends_with("trust")),
        "{analyzer:?}"
    );
}

#[test]
fn a_log_in_use_or_of_another() {
    let mut scene = Scene::new();
    let log = scene.begin_log();
    assert_error(&only(scene.problems()), &scene.log_dir(), "in use");
    drop(log);
    assert_eq!(scene.problems(), []);
    let stranger = scene.dir.path().join("stranger");
    drop(Log::open(&stranger, LogOptions::new().agent("b")).unwrap());
    scene.config.log.path = stranger;
    assert_error(
        &only(scene.problems()),
        &scene.log_dir(),
        "it is the log of b, but this is a",
    );
}

#[test]
fn a_log_signed_with_another_key_or_damaged() {
    let scene = Scene::new();
    drop(Log::open(&scene.config.log.path, LogOptions::new().agent("a")).unwrap());
    let problem = only(scene.problems());
    assert_eq!(problem.severity, Severity::Warning);
    assert!(problem.why.contains("it was signed with the key"), "{problem}");
    std::fs::write(scene.log_dir().join("anchor"), "nonsense").unwrap();
    let problem = only(scene.problems());
    assert!(
        problem.severity == Severity::Warning && problem.why.contains("damaged"),
        "{problem}"
    );
}

#[test]
fn a_log_of_a_newer_version() {
    let scene = Scene::new();
    drop(scene.begin_log());
    let mut segments = std::fs::read_dir(scene.log_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segment = segments
        .find(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    // The version, and the checksum over the header.
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&segment, bytes).unwrap();
    assert_error(&only(scene.problems()), &segment, "newer version, in format 9");
}

#[test]
fn a_log_that_cannot_be_written_or_has_no_room() {
    let mut scene = Scene::new();
    scene.config.log.budget_bytes = 1 << 50;
    let problem = only(scene.problems());
    assert!(
        problem.severity == Severity::Warning && problem.why.contains("MiB are free"),
        "{problem}"
    );
    scene.config.log.budget_bytes = 1 << 20;
    // Nobody, not even root, can write here.
    scene.config.log.path = "/proc/sys/amoskys".into();
    let problems = scene.problems();
    assert!(
        problems
            .iter()
            .any(|problem| problem.severity == Severity::Error && problem.what.starts_with("/proc")),
        "{problems:?}"
    );
    let file = scene.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    scene.config.log.path = file.join("data");
    assert_error(&only(scene.problems()), &scene.config.log.path, "not a directory");
}

#[test]
fn an_address_that_leads_nowhere() {
    let mut scene = Scene::new();
    scene.config.bus.address = "nowhere.invalid:50051".to_owned();
    assert_error(
        &only(scene.problems()),
        Path::new("bus.address"),
        "nowhere.invalid:50051",
    );
}

#[test]
fn ports_that_are_taken() {
    let mut scene = Scene::new();
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    scene.config.health.port = Some(port);
    assert_error(
        &only(scene.problems()),
        Path::new("health.port"),
        "cannot be listened on",
    );
    drop(taken);
    // One port serves both.
    scene.config.metrics.port = Some(port);
    assert_eq!(scene.problems(), []);

    scene.config.bus.server_port = port;
    let checkup = Checkup::new(&scene.config, Role::Bus);
    assert_error(
        &only(checkup.clone().run()),
        Path::new("bus.server_port"),
        "that of health.port too",
    );
    let elsewhere = checkup.listen((Ipv4Addr::LOCALHOST, 0).into());
    assert_eq!(elsewhere.run(), [], "what is not used is not checked");
}

#[cfg(feature = "legacy")]
#[test]
fn a_trust_map_of_the_predecessor_that_cannot_be_used() {
    let mut scene = Scene::new();
    let pki = scene.dir.path().join("pki");
    let map = pki.join("trust_map.yaml");
    scene.config.bus.name = "bus".to_owned();
    scene.config.legacy.trust_map = Some(map.clone());
    let problems = |scene: &Scene| {
        Checkup::new(&scene.config, Role::Bus)
            .listen((Ipv4Addr::LOCALHOST, free_port()).into())
            .run()
    };
    assert_error(&only(problems(&scene)), &map, "does not exist");
    std::fs::write(&map, "agents:\n").unwrap();
    let nobody = only(problems(&scene));
    assert_eq!(nobody.severity, Severity::Warning, "{nobody}");
    // Each line that is wrong is a problem of its own, and all are said at once.
    let key = FileSigner::create(pki.join("x.sign")).unwrap().public_key();
    std::fs::write(pki.join("x.pub"), key.to_pem()).unwrap();
    std::fs::write(pki.join("z.pub"), "no key").unwrap();
    std::fs::write(&map, "agents:\n  x: x.pub\n  y: y.pub\n  z: z.pub\n").unwrap();
    let found = problems(&scene);
    assert_eq!(found.len(), 2, "{found:#?}");
    for (problem, (line, of)) in found.iter().zip([(3, "the key of y"), (4, "the key of z")]) {
        let what = PathBuf::from(format!("{}:{line}", map.display()));
        assert_error(problem, &what, of);
        assert!(problem.what_to_do.contains("public key"), "{problem}");
    }
    std::fs::write(&map, "agents: [\n").unwrap();
    assert!(
        problems(&scene)
            .iter()
            .any(|problem| problem.why.contains("not YAML"))
    );
    std::fs::write(&map, "agents:\n  x: x.pub\n").unwrap();
    assert_eq!(problems(&scene), []);
    set_mode(&map, 0o666);
    assert_error(&only(problems(&scene)), &map, "0666");
    // It is the bus that reads it.
    assert_eq!(scene.problems(), []);
}

#[test]
fn keys_of_the_log_that_cannot_be_read() {
    let mut scene = Scene::new();
    let file = scene.dir.path().join("log.keys");
    scene.config.log.key_file = Some(file.clone());
    assert_error(&only(scene.problems()), &file, "read");
    FileLogKeys::create(&file).unwrap();
    assert_eq!(scene.problems(), []);
    set_mode(&file, 0o640);
    assert_error(&only(scene.problems()), &file, "0640");
}
