//! System calls from the log to a model and back: recorded, learned, and an unusual program found by what it calls.

mod support;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;

use amoskys_analysis::model::{ModelFile, SiteModel};
use amoskys_analysis::sequence::{
    ProcessTrace, SequenceAnalyzer, SequenceAnalyzerParams, SequenceModel, TraceAssembler,
};
use amoskys_core::config::Config;
use amoskys_core::event::{Payload, ProcessAction, ProcessEvent, Punctuation, SyscallEvent};
use amoskys_core::pipeline::{Pipeline, Retention};
use amoskys_core::seal::LogParts;
use amoskys_core::{
    Analyzer, Batch, Class, Collector, Event, EventId, Observation, Recorded, Shutdown, Tally, Timestamp,
    read_log,
};
use amoskys_transport::{Log, LogOptions};
use support::{program, succeed};

fn settings(dir: &Path) -> Config {
    let text = format!("agent:\n  name: sentinel\nlog:\n  path: '{}'\n", dir.display());
    Config::loader()
        .yaml(text, "test")
        .load()
        .expect("settings")
        .config
}

fn read(dir: &Path, mut observe: impl FnMut(&Recorded)) {
    let config = settings(dir);
    let log = LogParts::from(Log::open(&config.log.path, LogOptions::from(&config)).expect("the log"));
    for record in read_log(&*log.wal, &*log.open) {
        let recorded = record.expect("a whole record").1.into_recorded();
        recorded.for_each(|recorded| observe(&recorded));
    }
}

/// The traces in a log, complete ones and others.
fn traces(dir: &Path) -> Vec<ProcessTrace> {
    let mut assembler = TraceAssembler::new(2048, 4096).expect("settings");
    let mut traces = Vec::new();
    read(dir, |recorded| traces.extend(assembler.observe(recorded)));
    traces.extend(assembler.finish());
    traces
}

/// Trains on a log, and gives what was learned about calls.
fn learn(dir: &Path, log: &str, model: &str) -> SequenceModel {
    let output = succeed(
        program("train")
            .stdin(Stdio::null())
            .args(["--log", log, "--seed", "3", "-o", model])
            .current_dir(dir),
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("sequences      alarms above"), "{said}");
    let file = ModelFile::load(&dir.join(model)).expect("a model file");
    let site = SiteModel::of_file(&file).expect("a site's model");
    site.sequences().expect("a model of sequences").clone()
}

fn is_alarm(model: &SequenceModel, calls: &[u32]) -> bool {
    model
        .threshold()
        .is_alarm(model.traces().scorer().score(calls).value)
}

/// Events as the sensor in the kernel hands them over: the news that a process began and ended come before its calls.
struct Sensor {
    batches: VecDeque<Vec<Event>>,
    count: u64,
}

impl Sensor {
    fn new() -> Self {
        Self {
            batches: VecDeque::new(),
            count: 0,
        }
    }

    fn event(&mut self, seconds: f64, class: Class, payload: Payload) -> Event {
        self.count += 1;
        Event {
            id: EventId {
                origin: 1,
                ordinal: self.count,
            },
            time: Timestamp::from_nanos(1_700_000_000_000_000_000 + (seconds * 1e9) as i64),
            device: "web-1".into(),
            source: "ebpf".into(),
            class,
            payload,
            ..Event::default()
        }
    }

    fn process(&mut self, seconds: f64, pid: u32, command: &str, calls: &[u32]) {
        let start = Timestamp::from_nanos(1_700_000_000_000_000_000 + (seconds * 1e9) as i64);
        let mut batch = Vec::new();
        for (action, after) in [(ProcessAction::Exec, 0.001), (ProcessAction::Exit, 0.01)] {
            let process = ProcessEvent {
                action,
                pid,
                start,
                parent_pid: 1,
                command: command.to_owned(),
                executable: format!("/usr/bin/{command}"),
                ..ProcessEvent::default()
            };
            let payload = Payload::Process(Box::new(process));
            batch.push(self.event(seconds + after, Class::Telemetry, payload));
        }
        for (first, run) in (0_u64..).zip(calls.chunks(64)) {
            let run = SyscallEvent {
                pid,
                start,
                tid: pid,
                command: command.to_owned(),
                architecture: "x86_64".to_owned(),
                numbers: run.to_vec(),
                first: first * 64,
                first_time: start,
                ..SyscallEvent::default()
            };
            batch.push(self.event(seconds + 0.01, Class::Bulk, Payload::Syscall(Box::new(run))));
        }
        self.batches.push_back(batch);
    }

    fn clock(&mut self, seconds: f64) {
        let payload = Payload::Punctuation(Punctuation {
            lateness_ns: 1_000_000_000,
            end: false,
        });
        let event = self.event(seconds, Class::Telemetry, payload);
        self.batches.push_back(vec![event]);
    }

    fn record(self, dir: &Path) {
        let config = settings(dir);
        let log = LogParts::from(Log::open(&config.log.path, LogOptions::from(&config)).expect("a log"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let run = async {
            let pipeline = Pipeline::builder()
                .collector(self)
                .name("sentinel")
                .log(log)
                .retention(Retention::UntilFull);
            let pipeline = pipeline.build().expect("a pipeline");
            pipeline.run(Shutdown::new()).await
        };
        let run = runtime.block_on(run).expect("a run");
        assert!(run.failures.is_empty(), "{:?}", run.failures);
    }
}

impl Collector for Sensor {
    type Error = Infallible;

    fn source(&self) -> &str {
        "ebpf"
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, Infallible> {
        Ok(self.batches.pop_front().map(|events| Batch {
            tally: Tally {
                used: events.len() as u64,
                ..Tally::default()
            },
            events,
            ..Batch::default()
        }))
    }
}

/// What a made program calls: its routines one after the other, each as often as there is work, between a beginning and an end that
/// all programs share.
fn usual(which: u32, random: &mut impl FnMut(u32) -> u32) -> Vec<u32> {
    let mut calls = vec![59, 12, 21, 9, 257, 262, 9, 3];
    for routine in (0..4).cycle().take(12) {
        let routine = which * 4 + routine;
        for _ in 0..1 + random(4) {
            calls.extend((0..4 + routine % 3).map(|step| (routine * 7 + step * 5) % 60));
        }
    }
    calls.push(231);
    calls
}

#[test]
fn a_log_with_calls_becomes_a_model_that_finds_an_odd_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut state = 7_u32;
    let mut random = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let mut honest = Sensor::new();
    for n in 0..700 {
        let calls = usual(n % 5, &mut random);
        honest.process(f64::from(n), 1_000 + n, &format!("tool{}", n % 5), &calls);
    }
    honest.record(&dir.join("honest"));
    let whole = traces(&dir.join("honest"));
    assert_eq!(whole.len(), 700, "each process is one trace");
    assert!(
        whole
            .iter()
            .all(|trace| trace.calls[0] == 59 && trace.calls.last() == Some(&231))
    );
    let model = learn(dir, "honest", "site.model");
    assert!(model.program("tool3").is_some());

    // The same programs again, and one that does something else under the name of one of them.
    let odd: Vec<u32> = [59, 12, 21]
        .into_iter()
        .chain((0..300).map(|n| 200 + (n * n) % 37))
        .collect();
    let mut later = Sensor::new();
    let mut alarms = 0;
    for n in 0..100 {
        let calls = usual(n % 5, &mut random);
        alarms += u32::from(is_alarm(&model, &calls));
        later.process(f64::from(n), 5_000 + n, &format!("tool{}", n % 5), &calls);
    }
    assert!(alarms <= 10, "{alarms} of 100");
    assert!(is_alarm(&model, &odd));
    later.process(100.0, 9_000, "tool1", &odd);
    for second in 101..105 {
        later.clock(f64::from(second));
    }
    later.record(&dir.join("later"));
    let mut analyzer =
        SequenceAnalyzer::new(Some(model), SequenceAnalyzerParams::default()).expect("an analyzer");
    let mut verdicts = Vec::new();
    read(&dir.join("later"), |recorded| {
        let told = analyzer.observe(Observation::Event(recorded), &mut verdicts);
        told.expect("an event that is understood");
    });
    let odd = verdicts.iter().filter(|verdict| verdict.title.contains("tool1"));
    assert!(odd.count() >= 1 && verdicts.len() <= 11, "{verdicts:#?}");
    succeed(
        program("sentinel")
            .stdin(Stdio::null())
            .args(["--replay", "--data-dir", "later", "--model", "site.model"])
            .current_dir(dir),
    );
}

/// A control group of the unified hierarchy, removed at the end.
#[cfg(target_os = "linux")]
struct Group(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl Group {
    fn new() -> Option<Self> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|root| Path::new(root).join("cgroup.controllers").exists())?;
        let path = Path::new(root).join(format!("amoskys-calls-{}", std::process::id()));
        std::fs::create_dir_all(&path).ok()?;
        Some(Self(path))
    }

    /// Runs a script in the group.
    fn run(&self, dir: &Path, script: &str) {
        let procs = self.0.join("cgroup.procs");
        let script = format!("echo $$ > '{}' || exit 9\n{script}", procs.display());
        succeed(
            std::process::Command::new("sh")
                .args(["-c", &script])
                .current_dir(dir),
        );
    }
}

#[cfg(target_os = "linux")]
impl Drop for Group {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).ok();
    }
}

#[cfg(target_os = "linux")]
mod live {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use super::*;

    fn skip(why: &str) {
        let must = std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!must, "required, but {why}");
        eprintln!("skipped: {why}");
    }

    /// Starts the sensor on a group, and waits until it sees what happens there. `None`, having said so, where it may not.
    fn start(dir: &Path, log: &str, group: &Group) -> Option<Child> {
        let mut child = program("sentinel")
            .args(["--ebpf", "--calls", "--data-dir", log, "--cgroup"])
            .arg(&group.0)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the program");
        // It is loaded, which takes long on a busy machine, when it takes no further programs into its hands.
        let descriptors = format!("/proc/{}/fd", child.id());
        let loaded = || {
            let open = std::fs::read_dir(&descriptors).into_iter().flatten().flatten();
            let targets = open.filter_map(|one| std::fs::read_link(one.path()).ok());
            let of_kernel = |target: &std::path::PathBuf| {
                let target = target.to_string_lossy();
                target.contains("bpf") || target.contains("perf_event")
            };
            targets.filter(of_kernel).count()
        };
        let (begun, mut count, mut since) = (Instant::now(), 0, Instant::now());
        while count == 0 || since.elapsed() < Duration::from_secs(3) {
            if child.try_wait().expect("a child").is_some() {
                let said = BufReader::new(child.stderr.take().expect("standard error"));
                let said: Vec<String> = said.lines().map_while(Result::ok).collect();
                let said = said.join("\n");
                assert!(said.contains("missing CAP_") || said.contains("BTF"), "{said}");
                skip(&said);
                return None;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "it is not loaded");
            std::thread::sleep(Duration::from_millis(50));
            let now = loaded();
            if now != count {
                (count, since) = (now, Instant::now());
            }
        }
        Some(child)
    }

    fn stop(child: Child) {
        std::thread::sleep(Duration::from_secs(1));
        succeed(Command::new("kill").args(["-INT", &child.id().to_string()]));
        let output = child.wait_with_output().expect("wait for the program");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

    /// Everyday programs, each with one to so many files.
    fn chores(from: u32, to: u32) -> String {
        format!(
            "i={from}; files=; while [ $i -le {to} ]; do
               echo $i > f$i; files=\"$files f$i\"; mkdir -p d$i; cp $files d$i
               cat $files > /dev/null; ls -l d$i > /dev/null; sort $files > /dev/null; wc $files > /dev/null
               grep -c 1 $files > /dev/null; rm -r d$i; i=$((i + 1))
             done"
        )
    }

    #[test]
    fn a_machine_s_calls_are_recorded_learned_and_judged() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let Some(group) = Group::new() else {
            return skip("no control group can be made");
        };
        let Some(child) = start(dir, "first", &group) else {
            return;
        };
        group.run(dir, &chores(1, 30));
        // The shell too is to be known: where it is among the few traces held out, and nothing like it was learned, it alone sets
        // the threshold.
        for length in 6..14 {
            group.run(dir, &chores(1, length));
        }
        stop(child);
        let recorded = traces(&dir.join("first"));
        let of = |name: &str| recorded.iter().filter(|trace| trace.command == name).count();
        assert!(
            of("sort") >= 20 && of("cat") >= 20 && of("grep") >= 20,
            "{} traces",
            recorded.len()
        );
        let model = learn(dir, "first", "site.model");

        let child = start(dir, "second", &group).expect("it could be watched before");
        group.run(dir, &chores(31, 40));
        // A busy machine may lose calls; of three runs one is enough.
        group.run(
            dir,
            "for run in 1 2 3; do perl -e 'for (1..40) { opendir D, q(/etc); @f = readdir D; pipe R, W; fork or exit; wait; kill 0, $$; \
             socket S, 2, 1, 0; bind S, pack q(Sna4x8), 2, 0, qq(\\x7f\\0\\0\\1); listen S, 1; chmod 0600, q(f1); select undef, undef, undef, 0.001 }'; sleep 1; done",
        );
        stop(child);
        let mut judged = (0, 0);
        let mut intruder = false;
        for trace in traces(&dir.join("second")) {
            let alarm = is_alarm(&model, &trace.calls);
            match trace.command.as_str() {
                "perl" => intruder |= alarm,
                _ => {
                    judged.0 += 1;
                    judged.1 += u32::from(alarm);
                }
            }
        }
        assert!(intruder, "perl calls as nothing known does");
        assert!(judged.0 >= 50 && judged.1 * 4 <= judged.0, "{judged:?}");
    }
}
