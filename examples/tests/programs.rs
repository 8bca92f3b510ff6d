//! The programs of a site as an operator meets them: mistakes, health, stopping, an interface on which nothing happens.

mod support;

use std::fs::{Permissions, set_permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::site::{Running, Site, finish};
use support::{alerts, assert_balanced, data, fail, halves, program, succeed};

const PROGRAMS: [&str; 3] = ["eventbus", "agent", "analyzer"];

/// Status and body of an answer; `None` if nobody answers.
fn ask(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Asks until the answer is as it should be.
fn wait_for(port: u16, path: &str, is_right: impl Fn(u16, &str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let answer = ask(port, path);
        match answer {
            Some((status, body)) if is_right(status, &body) => return body,
            answer => assert!(
                began.elapsed() < Duration::from_secs(30),
                "{path} of port {port}: {answer:?}"
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    listener.local_addr().expect("its address").port()
}

/// The lines of a check that is to find something.
fn problems(command: &mut Command) -> String {
    let (code, text) = fail(command.arg("--check"));
    assert_eq!(code, Some(1), "{text}");
    text
}

#[test]
fn a_check_that_finds_nothing_says_so() {
    let site = Site::new(&["sensor"]);
    for (name, member) in [("eventbus", "bus"), ("agent", "sensor"), ("analyzer", "analyzer")] {
        let mut check = site.member(name, member);
        check.env("AMOSKYS_BUS_ADDRESS", "localhost:50051").arg("--check");
        if name == "eventbus" {
            check.args(["--listen", "127.0.0.1:0"]);
        }
        let output = succeed(&mut check);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "nothing is wrong\n",
            "{name}"
        );
        assert!(!site.path(member).exists(), "{name}: a check changes nothing");
    }
}

#[test]
fn a_check_says_everything_at_once() {
    let site = Site::new(&["sensor"]);
    let taken = TcpListener::bind("0.0.0.0:0").expect("listen");
    let port = taken.local_addr().expect("its address").port().to_string();

    let text = problems(program("agent").env("AMOSKYS_LOG_PATH", site.path("log")));
    assert!(text.contains("bus.cert_dir: it is not set"), "{text}");

    // A name for which there is nothing, a host that there is not, and a port in use.
    let mut agent = site.member("agent", "stranger");
    agent
        .env("AMOSKYS_BUS_ADDRESS", "no-such-host.invalid:50051")
        .env("AMOSKYS_HEALTH_PORT", &port);
    let text = problems(&mut agent);
    for part in [
        "stranger.pem: it does not exist",
        "stranger.key: it does not exist",
        "stranger.sign: it does not exist",
        "no-such-host.invalid:50051",
        &format!("health.port: port {port} cannot be listened on"),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }

    // The same command line as without a check, and an interface that there is not.
    let mut agent = site.member("agent", "sensor");
    agent
        .env("AMOSKYS_BUS_ADDRESS", "localhost:1")
        .args(["--interface", "no-such-one"]);
    let text = problems(&mut agent);
    assert!(
        text.contains("--interface: ") && text.contains("no-such-one"),
        "{text}"
    );

    // Keys that others can read, and no trust map.
    for key in ["bus.key", "bus.sign"] {
        set_permissions(site.path("pki").join(key), Permissions::from_mode(0o644)).expect("change the mode");
    }
    std::fs::rename(site.path("pki/trust"), site.path("pki/hidden")).expect("rename");
    let mut bus = site.member("eventbus", "bus");
    let text = problems(bus.env("AMOSKYS_BUS_SERVER_PORT", &port));
    for part in [
        "bus.key: its mode is 0644",
        "bus.sign: its mode is 0644",
        "trust: it does not exist",
        &format!("port {port} cannot be listened on"),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = problems(
        site.member("analyzer", "analyzer")
            .env("AMOSKYS_BUS_ADDRESS", "localhost:1"),
    );
    assert!(text.contains("trust: it does not exist"), "{text}");

    // Another's certificate.
    let pki = site.path("pki");
    let copy = |from: &str, to: &str| {
        std::fs::copy(pki.join(from), pki.join(to)).expect("copy");
    };
    for ending in ["pem", "key", "sign"] {
        copy(&format!("sensor.{ending}"), &format!("impostor.{ending}"));
    }
    let text = problems(&mut site.member("agent", "impostor"));
    assert!(
        text.contains("it is for agent sensor, but this is agent impostor"),
        "{text}"
    );
}

#[test]
fn a_program_that_cannot_start_says_why() {
    let mut site = Site::new(&["sensor"]);
    for name in PROGRAMS {
        let (code, text) = fail(program(name).arg("--no-such-argument"));
        assert!(code == Some(2) && text.contains("--no-such-argument"), "{text}");
        let (code, text) = fail(program(name).args(["--check", "--config", "/no/such/file"]));
        assert!(code == Some(2) && text.contains("/no/such/file"), "{text}");

        let file = site.path("wrong.yaml");
        std::fs::write(&file, "bus:\n  adress: x:1\nlog:\n  budget_bytes: much\n").expect("write");
        let (code, text) = fail(program(name).arg("--check").arg("--config").arg(&file));
        assert!(code == Some(2), "{text}");
        for part in [
            "adress",
            "the nearest is bus.address",
            "log.budget_bytes cannot be",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    let (code, text) = fail(&mut program("agent"));
    assert!(code == Some(2) && text.contains("--read"), "{text}");
    let (code, text) = fail(
        site.agent("nobody", &data("lab.pcap"))
            .env("AMOSKYS_BUS_ADDRESS", "localhost:1"),
    );
    assert!(code == Some(2) && text.contains("nobody.pem"), "{text}");
    let mut missing = site.agent("sensor", Path::new("/no/such.pcap"));
    let (code, text) = fail(missing.env("AMOSKYS_BUS_ADDRESS", "localhost:1"));
    assert!(code == Some(2) && text.contains("/no/such.pcap"), "{text}");

    // A log that is in use.
    let bus = site.start_bus();
    let text = problems(site.member("eventbus", "bus").args(["--listen", "127.0.0.1:0"]));
    assert!(text.contains("it is in use by another process"), "{text}");
    assert!(bus.stop());
    let (code, text) = fail(program("verify").arg(site.path("nothing")));
    assert!(code == Some(2) && text.contains("nothing"), "{text}");
}

#[test]
fn the_settings_in_this_package_can_be_used() {
    let site = Site::new(&["sensor1"]);
    for (name, file) in [("eventbus", "bus"), ("agent", "agent"), ("analyzer", "analyzer")] {
        let settings = data("../site").join(file).with_extension("yaml");
        let mut check = program(name);
        check.arg("--check").arg("--config").arg(settings);
        // Everything else is as on a machine of the site.
        check
            .env("AMOSKYS_BUS_CERT_DIR", site.path("pki"))
            .env("AMOSKYS_LOG_PATH", site.path(name))
            .env("AMOSKYS_LOG_BUDGET_BYTES", "64MiB")
            .env("AMOSKYS_BUS_ADDRESS", "localhost:50051")
            .env("AMOSKYS_HEALTH_PORT", free_port().to_string());
        if name == "eventbus" {
            check.args(["--listen", "127.0.0.1:0"]);
        }
        succeed(&mut check);
    }
}

#[test]
fn a_hangup_has_the_bus_read_its_settings_again() {
    let site = Site::new(&["sensor"]);
    let (file, port) = (site.path("bus.yaml"), free_port());
    let write = |settings: &str| std::fs::write(&file, format!("bus:\n{settings}\n")).expect("write");
    write("  agent_rate: 100");
    let mut command = site.member("eventbus", "bus");
    command
        .env("AMOSKYS_HEALTH_PORT", port.to_string())
        .arg("--config")
        .arg(&file)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::null());
    let mut bus = command.spawn().expect("start the program");
    wait_for(port, "/readyz", |status, _| status == 200);
    let process = bus.id().to_string();
    let hang_up = |settings: &str, result: &str| {
        write(settings);
        succeed(Command::new("kill").args(["-HUP", &process]));
        let line = format!("amoskys_bus_reconfigurations_total{{result=\"{result}\"}}");
        wait_for(port, "/metrics", |_, body| {
            body.lines()
                .any(|found| found.strip_prefix(&line).is_some_and(|count| count.trim() != "0"))
        });
    };
    hang_up("  agent_rate: many", "failed");
    hang_up("  agent_rate: 200\n  agent_rates: sensor=0", "ok");
    succeed(Command::new("kill").arg(&process));
    assert!(bus.wait().expect("wait for the child").success());
}

#[test]
fn health_says_whether_the_bus_is_reached_and_a_signal_ends_all_well() {
    let mut site = Site::new(&["sensor"]);
    let ports = [free_port(), free_port()];
    let with_health = |port: u16| [("AMOSKYS_HEALTH_PORT", port.to_string())];
    let bus = site.start_bus_with(with_health(ports[0]));
    assert_eq!(ask(ports[0], "/livez"), Some((200, "ok\n".to_owned())));
    wait_for(ports[0], "/readyz", |status, _| status == 200);
    let mut analyzer = site.member("analyzer", "analyzer");
    let analyzer = analyzer.envs(with_health(ports[1])).stdout(Stdio::null());
    let analyzer = Running::start("analyzer", analyzer);
    wait_for(ports[1], "/readyz", |status, _| status == 200);
    assert_balanced(&finish("agent", &mut site.agent("sensor", &data("lab.pcap"))));
    let metrics = wait_for(ports[0], "/metrics", |_, body| body.contains(r#"agent="sensor""#));
    assert!(metrics.contains("amoskys_bus_connections"), "{metrics}");
    let is_analyzed =
        |_, body: &str| body.contains(r#"stage="analysis""#) && body.contains("amoskys_verdicts_total");
    wait_for(ports[1], "/metrics", is_analyzed);

    assert!(bus.stop(), "a signal ends the bus well");
    let body = wait_for(ports[1], "/readyz", |status, _| status == 503);
    assert!(body.contains("bus/events"), "{body}");
    assert_eq!(
        ask(ports[1], "/livez").map(|(status, _)| status),
        Some(200),
        "it waits"
    );
    let bus = site.start_bus();
    wait_for(ports[1], "/readyz", |status, _| status == 200);
    assert!(analyzer.stop(), "a signal ends the analyzer well");
    assert!(bus.stop());
}

/// A pair of virtual interfaces on which nothing ever happens; removed when dropped.
struct Quiet(String);

impl Quiet {
    fn new() -> Option<Self> {
        let name = format!("amq{}", std::process::id() % 100_000);
        let peer = format!("{name}p");
        let quiet = Self(name.clone());
        // Without addresses, or the kernel would look for IPv6 neighbours.
        let made = [
            format!("ip link add {name} type veth peer name {peer}"),
            format!("ip link set {name} addrgenmode none up"),
            format!("ip link set {peer} addrgenmode none up"),
        ];
        made.iter().all(|line| run(line)).then_some(quiet)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        run(&format!("ip link del {}", self.0));
    }
}

fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a word"));
    command
        .args(words)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn skip(why: &str) {
    assert_ne!(
        std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref(),
        Ok("1"),
        "required, but {why}"
    );
    eprintln!("skipped: {why}");
}

/// What the alerts of a file say, without the places of their events.
fn content(file: &Path) -> Vec<(Option<i64>, String, String)> {
    let mut alerts: Vec<_> = alerts(file)
        .iter()
        .map(|alert| {
            let text = |field: &str| alert[field].to_string();
            (alert["time_ns"].as_i64(), text("title"), text("score"))
        })
        .collect();
    alerts.sort();
    alerts
}

#[test]
fn an_agent_on_a_quiet_interface_holds_up_nobody() {
    let Some(quiet) = Quiet::new() else {
        return skip("virtual interfaces cannot be made (needs root and the ip command)");
    };
    let mut site = Site::new(&["left", "right", "idle"]);
    let reference = site.path("reference.jsonl");
    let mut sentinel = program("sentinel");
    sentinel.arg("--read").arg(data("lab.pcap"));
    succeed(sentinel.arg("--alerts").arg(&reference).stdin(Stdio::null()));
    let expected = content(&reference);
    assert!(expected.len() >= 5);
    let parts = [site.path("left.pcap"), site.path("right.pcap")];
    halves::split(&data("lab.pcap"), [&parts[0], &parts[1]]);

    let bus = site.start_bus();
    let port = free_port();
    let mut idle = site.member("agent", "idle");
    idle.args(["--interface", &quiet.0])
        .env("AMOSKYS_HEALTH_PORT", port.to_string())
        .stdout(Stdio::null());
    let idle = Running::start("idle", &mut idle);
    wait_for(port, "/readyz", |status, _| status == 200);
    // The clock of the idle one has come to the bus: the analyzer knows of it from the start.
    wait_for(port, "/metrics", |_, body| {
        let line = body.lines().find(|line| line.contains(r#"stage="carry/bus""#));
        line.is_some_and(|line| !line.ends_with(" 0"))
    });
    let file = site.path("alerts.jsonl");
    let mut analyzer = site.member("analyzer", "analyzer");
    analyzer
        .args(["--expect", "left", "right", "idle", "--alerts"])
        .arg(&file)
        // Whoever holds up others holds them up longer than this test waits.
        .env("AMOSKYS_ANALYSIS_MAX_WAIT", "1h")
        .stdout(Stdio::null());
    let analyzer = Running::start("analyzer", &mut analyzer);
    finish("left", &mut site.agent("left", &parts[0]));
    finish("right", &mut site.agent("right", &parts[1]));
    let began = Instant::now();
    while !file.exists() || content(&file).len() < expected.len() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the verdicts do not come"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // Nothing more is said later.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(idle.stop(), "the idle agent failed");
    assert!(analyzer.stop() && bus.stop());
    assert_eq!(content(&file), expected);
}
