//! The same verdicts across processes as in one: agents, bus and analyzer, undisturbed and killed again and again.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use amoskys_core::Open;
use amoskys_transport::Opener;
use support::site::{Running, Site, finish};
use support::{alerts, assert_balanced, content, data, delivered, halves, program, succeed};

/// What `sentinel` says of the laboratory's capture.
fn reference(dir: &Path) -> PathBuf {
    let file = dir.join("reference.jsonl");
    succeed(
        program("sentinel")
            .arg("--read")
            .arg(data("lab.pcap"))
            .arg("--alerts")
            .arg(&file)
            .stdin(Stdio::null()),
    );
    assert!(alerts(&file).len() >= 5);
    file
}

/// Without what it says when others are killed, unless that is what is to be seen.
fn quietly(command: &mut std::process::Command) -> &mut std::process::Command {
    if std::env::var_os("RUST_LOG").is_none() {
        command.stderr(Stdio::null());
    }
    command.stdout(Stdio::null())
}

/// Checks the logs of bus and members, with the keys everybody knows.
fn verify(site: &Site, logs: &[&str]) {
    for log in logs {
        let mut verify = program("verify");
        verify
            .arg(site.path(log))
            .arg("--trust")
            .arg(site.path("pki/trust"));
        succeed(&mut verify);
    }
}

#[test]
fn three_processes_say_what_one_says() {
    let mut site = Site::new(&["sentinel"]);
    let expected = reference(site.dir.path());
    let bus = site.start_bus();
    let file = site.path("alerts.jsonl");
    let mut analyzer = Running::start(
        "analyzer",
        site.analyzer(&file, &["sentinel"]).stdout(Stdio::null()),
    );
    let output = finish("agent", &mut site.agent("sentinel", &data("lab.pcap")));
    assert_balanced(&output);
    assert!(analyzer.wait(), "the analyzer failed");
    assert!(bus.stop(), "the bus failed");
    let read = |path: &Path| std::fs::read_to_string(path).expect("read alerts");
    assert_eq!(read(&file), read(&expected));
    verify(&site, &["sentinel", "bus", "analyzer"]);
}

#[test]
fn two_agents_with_half_the_traffic_each_and_an_idle_one_say_the_same() {
    let mut site = Site::new(&["left", "right", "idle"]);
    let expected = reference(site.dir.path());
    let parts = [site.path("left.pcap"), site.path("right.pcap")];
    halves::split(&data("lab.pcap"), [&parts[0], &parts[1]]);
    // Nothing but the beginning of a capture.
    let idle = site.path("idle.pcap");
    let start = std::fs::read(&parts[0]).expect("read");
    std::fs::write(&idle, &start[..24]).expect("write");
    let bus = site.start_bus();
    let file = site.path("alerts.jsonl");
    let expect = ["left", "right"];
    let mut analyzer = Running::start("analyzer", site.analyzer(&file, &expect).stdout(Stdio::null()));
    finish("idle", &mut site.agent("idle", &idle));
    let mut right = site.agent("right", &parts[1]);
    let mut right = Running::start("right", right.stdout(Stdio::null()));
    finish("left", &mut site.agent("left", &parts[0]));
    assert!(right.wait() && analyzer.wait() && bus.stop());
    assert_eq!(content(&alerts(&file)), content(&alerts(&expected)));
    verify(&site, &["left", "right", "bus", "analyzer"]);
}

#[test]
fn killed_fifty_times_they_still_say_the_same() {
    let mut site = Site::new(&["sentinel"]);
    let expected = reference(site.dir.path());
    let file = site.path("alerts.jsonl");
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock")
        .as_nanos() as u64;
    println!("seed {seed}");
    let mut random = seed | 1;
    let mut draw = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    // Slow enough to be killed in the middle, and with a checkpoint now and then.
    let agent = |site: &Site| {
        let mut agent = site.agent("sentinel", &data("lab.pcap"));
        agent
            .env("AMOSKYS_BUS_SEND_RATE", "1500")
            .env("AMOSKYS_BATCH_MAX_EVENTS", "16");
        Running::start("agent", quietly(&mut agent))
    };
    let analyzer = |site: &Site| {
        let mut analyzer = site.analyzer(&file, &["sentinel"]);
        analyzer.env("AMOSKYS_ANALYSIS_CHECKPOINT_INTERVAL", "300ms");
        Running::start("analyzer", quietly(&mut analyzer))
    };
    let mut running = [Some(site.start_bus()), Some(agent(&site)), Some(analyzer(&site))];
    let mut kills = 0;
    let began = Instant::now();
    while kills < 50 {
        assert!(began.elapsed() < Duration::from_secs(240), "{kills} kills only");
        std::thread::sleep(Duration::from_millis(20 + draw(200)));
        let which = usize::try_from(draw(3)).expect("small");
        let mut victim = running[which].take().expect("it runs");
        if victim.is_running() {
            kills += 1;
        }
        victim.kill();
        running[which] = Some(match which {
            0 => site.start_bus(),
            1 => agent(&site),
            _ => analyzer(&site),
        });
    }
    let [bus, agent, analyzer] = running.map(|running| running.expect("it runs"));
    let (mut agent, mut analyzer) = (agent, analyzer);
    assert!(agent.wait(), "the agent failed; seed {seed}");
    assert!(analyzer.wait(), "the analyzer failed; seed {seed}");
    assert!(bus.stop());
    // Once more, each to its end: what they print is their ledgers, and they agree.
    let bus = site.start_bus();
    let say = |output: std::process::Output| {
        assert_balanced(&output);
        String::from_utf8(output.stdout).expect("text")
    };
    let agent = say(finish("agent", &mut site.agent("sentinel", &data("lab.pcap"))));
    let analyzer = say(finish("analyzer", &mut site.analyzer(&file, &["sentinel"])));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let records = runtime.block_on(site.read_all());
    let bus = bus.stop_and_say().expect("the bus failed");
    let events = delivered(&agent, "log/flow");
    assert!(events > 8000);
    for (text, stage) in [
        (&agent, "carry/bus"),
        (&bus, "bus/sentinel"),
        (&analyzer, "analysis"),
    ] {
        assert_eq!(
            delivered(text, stage),
            events,
            "{stage}, seed {seed}:\n{agent}{bus}{analyzer}"
        );
    }
    let verdicts = delivered(&analyzer, "log/analysis");
    for (text, stage) in [(&analyzer, "carry/bus"), (&bus, "bus/analyzer")] {
        assert_eq!(
            delivered(text, stage),
            verdicts,
            "{stage}, seed {seed}:\n{bus}{analyzer}"
        );
    }
    // A subscriber that keeps ids has each of them once.
    let (mut ids, mut seen) = (BTreeSet::new(), 0);
    for (_, record) in records {
        let opened = Opener::unchecked().open(&record).expect("open");
        if matches!(opened.stream.agent.as_str(), "sentinel" | "analyzer") {
            seen += opened.events.len() as u64;
            ids.extend(opened.events.iter().map(|event| event.id));
        }
    }
    assert_eq!(
        (seen, ids.len() as u64),
        (events + verdicts, events + verdicts),
        "seed {seed}"
    );
    let read = |path: &Path| std::fs::read_to_string(path).expect("read alerts");
    assert_eq!(read(&file), read(&expected), "seed {seed}");
    verify(&site, &["sentinel", "bus", "analyzer"]);
}
