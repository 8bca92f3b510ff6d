//! Settings from files, the environment and code: who wins, and what is said when they are wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use amoskys_core::config::{Config, ConfigError, ConfigErrors, Loader, Origin, Warning, keys};

fn file(text: &str) -> Loader {
    Config::loader().yaml(text, "site.yaml")
}

fn errors(loader: Loader) -> Vec<String> {
    loader
        .load()
        .unwrap_err()
        .errors()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn nothing_set_is_the_defaults_and_they_are_valid() {
    let loaded = Config::loader().load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty());
    Config::default().validate().unwrap();
}

#[test]
fn code_wins_over_the_environment_which_wins_over_files() {
    let loaded = Config::loader()
        .adjust(|config| config.batch.max_events = 4)
        .set("batch.max_bytes", "3")
        .environment([("AMOSKYS_BATCH_MAX_BYTES", "2"), ("AMOSKYS_BATCH_LINGER", "2s")])
        .yaml(
            "batch: { max_events: 1, max_bytes: 1, linger: 1s }\nbus: { send_rate: 1 }",
            "a.yaml",
        )
        .yaml("bus: { retry_max: 0 }\nbatch: { linger: 3s }", "b.yaml")
        .load()
        .unwrap();
    let config = loaded.config;
    assert_eq!((config.batch.max_events, config.batch.max_bytes), (4, 3));
    assert_eq!(config.batch.linger, Duration::from_secs(2));
    assert_eq!((config.bus.send_rate, config.bus.retry_max), (1, 0));
}

#[test]
fn every_setting_can_be_set_in_a_file_and_in_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    for key in keys() {
        let value = match (key.name(), key.default_value()) {
            ("bus.cert_dir", _) => dir.to_owned(),
            ("legacy.trust_map" | "log.key_file" | "audit.key", _) => {
                let file = format!("{dir}/a-file");
                std::fs::write(&file, "").unwrap();
                file
            }
            ("audit.dir", _) => format!("{dir}/audit"),
            ("protect.key_file", _) => format!("{dir}/subjects"),
            ("protect.rules" | "protect.keep_clear", _) => "device".to_owned(),
            ("log.retention" | "bus.turn_away_after", _) => "7d".to_owned(),
            ("bus.agent_rates", _) => "agent=1".to_owned(),
            ("metrics.port" | "health.port", _) => "9101".to_owned(),
            ("agent.name" | "bus.name", _) => "other".to_owned(),
            ("bus.retention", _) => "7d".to_owned(),
            ("bus.retain_bytes", _) => "1MiB".to_owned(),
            ("log.path", _) => format!("{dir}/log"),
            ("bus.address", _) => "bus.example:1".to_owned(),
            (name, Some(default)) => {
                // The default is itself a value that may be written.
                Config::loader().set(name, default).load().unwrap();
                if key.allowed().contains("10ms") {
                    "11ms"
                } else {
                    "1"
                }
                .to_owned()
            }
            (name, None) => panic!("{name} has no default"),
        };
        let value = match key.name() {
            "log.segment_bytes"
            | "log.budget_bytes"
            | "bus.soft_bytes"
            | "bus.hard_bytes"
            | "audit.file_bytes"
            | "legacy.index_bytes"
            | "bus.window_bytes"
            | "legacy.max_in_flight_bytes" => "1MiB".to_owned(),
            "log.when_full" => "shed".to_owned(),
            "bus.turn_away_after" => "7s".to_owned(),
            "bus.clock_ahead" | "bus.idle_timeout" => "7min".to_owned(),
            "legacy.allow_unsigned" | "bus.keep_unread" => "true".to_owned(),
            "legacy.window" => "8d".to_owned(),
            "flow.max_flows" | "legacy.max_in_flight" => "17".to_owned(),
            "flow.active_timeout" | "flow.idle_timeout" | "flow.update_interval" => "7".to_owned(),
            "log.sync_interval"
            | "bus.retry_timeout"
            | "bus.heads_interval"
            | "batch.linger"
            | "analysis.checkpoint_interval"
            | "analysis.max_wait" => "7s".to_owned(),
            _ => value,
        };
        let (section, name) = key.name().split_once('.').unwrap();
        let from_file = file(&format!("{section}:\n  {name}: {value}\n"))
            .load()
            .unwrap()
            .config;
        let variable = [(key.variable(), value.clone())];
        let from_environment = Config::loader().environment(variable).load().unwrap().config;
        assert_eq!(from_file, from_environment, "{}", key.name());
        assert_ne!(from_file, Config::default(), "{} had no effect", key.name());
    }
}

#[test]
fn the_predecessors_variables_work_and_name_their_successors() {
    let certificates = tempfile::tempdir().unwrap();
    let variables = [
        ("IS_CERT_DIR", certificates.path().to_str().unwrap()),
        ("IS_WAL_PATH", "wal"),
        ("IS_BUS_ADDRESS", "bus.example:50051"),
        ("IS_MAX_ENV_BYTES", "131072"),
        ("IS_SEND_RATE", "100"),
        ("IS_RETRY_MAX", "5"),
        ("IS_RETRY_TIMEOUT", "1.5"),
        ("IS_METRICS_PORT", "9101"),
        ("IS_HEALTH_PORT", "8081"),
        ("BUS_SERVER_PORT", "50052"),
    ];
    let loaded = Config::loader().environment(variables).load().unwrap();
    let config = loaded.config;
    assert_eq!(config.bus.cert_dir.as_deref(), Some(certificates.path()));
    assert_eq!(config.log.path, Path::new("wal"));
    assert_eq!(config.bus.address, "bus.example:50051");
    assert_eq!(config.batch.max_bytes, 131_072);
    assert_eq!((config.bus.send_rate, config.bus.retry_max), (100, 5));
    assert_eq!(config.bus.retry_timeout, Duration::from_millis(1500));
    assert_eq!(
        (config.metrics.port, config.health.port),
        (Some(9101), Some(8081))
    );
    assert_eq!(config.bus.server_port, 50_052);

    assert_eq!(loaded.warnings.len(), variables.len());
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.contains(&"IS_WAL_PATH is deprecated; use AMOSKYS_LOG_PATH".to_owned()),
        "{warnings:?}"
    );
    assert!(warnings.contains(&"BUS_SERVER_PORT is deprecated; use AMOSKYS_BUS_SERVER_PORT".to_owned()));
}

#[test]
fn a_new_variable_wins_over_the_predecessors() {
    let loaded = Config::loader()
        .environment([
            ("AMOSKYS_BUS_RETRY_MAX", "7"),
            ("IS_RETRY_MAX", "not even a number"),
        ])
        .load()
        .unwrap();
    assert_eq!(loaded.config.bus.retry_max, 7);
    let instead = "AMOSKYS_BUS_RETRY_MAX".to_owned();
    assert_eq!(
        loaded.warnings,
        [Warning::Deprecated {
            variable: "IS_RETRY_MAX",
            instead,
            ignored: true
        }]
    );
}

#[test]
fn a_wrong_value_of_a_former_variable_is_reported_under_its_name() {
    let errors = errors(Config::loader().environment([("IS_METRICS_PORT", "0")]));
    assert_eq!(
        errors,
        ["metrics.port cannot be \"0\"; allowed: 1 to 65535 (IS_METRICS_PORT)"]
    );
}

#[test]
fn every_error_is_reported_at_once_with_value_range_and_origin() {
    let errors = errors(
        file("bus:\n  server_port: 65536\n  retry_max: 21\nflow:\n  idle_timeout: soon\n")
            .environment([
                ("AMOSKYS_BATCH_MAX_BYTES", "17MiB"),
                ("AMOSKYS_HEALTH_PORT", "-1"),
            ])
            .set("batch.max_events", "0")
            .adjust(|config| config.analysis.report_score = f64::NAN),
    );
    let expected = [
        "batch.max_events cannot be \"0\"; allowed: 1 to 65536 (code)",
        "batch.max_bytes cannot be \"17MiB\"; allowed: 1B to 16MiB (AMOSKYS_BATCH_MAX_BYTES)",
        "bus.server_port cannot be \"65536\"; allowed: 1 to 65535 (site.yaml:2)",
        "bus.retry_max cannot be \"21\"; allowed: 0 to 20 (site.yaml:3)",
        "health.port cannot be \"-1\"; allowed: 1 to 65535 (AMOSKYS_HEALTH_PORT)",
        "flow.idle_timeout cannot be \"soon\"; allowed: 100ms to 1d (site.yaml:5)",
        "analysis.report_score cannot be \"NaN\"; allowed: 0 to 1 (code)",
    ];
    assert_eq!(errors, expected);
}

/// Found by thinking on from a fuzz target: a file of brackets took minutes.
#[test]
fn what_lies_too_deep_is_refused_at_once() {
    let begun = std::time::Instant::now();
    for piece in ["[", "{a: ", "- ", "? ", "{[", "a: ["] {
        let text = piece.repeat(200_000 / piece.len());
        for text in [
            text.clone(),
            format!("log:\n  path: {text}"),
            format!("log: {text}"),
        ] {
            let errors = errors(file(&text));
            assert!(!errors.is_empty() && errors.len() < 100, "{errors:?}");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let loaded = file(&format!("log: {}", "[".repeat(10) + &"]".repeat(10)));
    assert_eq!(errors(loaded).len(), 1);
}

#[test]
fn the_edges_of_the_ranges_are_allowed_and_what_is_beyond_is_not() {
    let allowed = |key: &str, value: &str| Config::loader().set(key, value).load().is_ok();
    for port in ["bus.server_port", "metrics.port", "health.port"] {
        assert!(allowed(port, "1") && allowed(port, "65535"), "{port}");
        assert!(!allowed(port, "0") && !allowed(port, "65536"), "{port}");
    }
    assert!(allowed("batch.max_bytes", "1") && allowed("batch.max_bytes", "16777216"));
    assert!(!allowed("batch.max_bytes", "0") && !allowed("batch.max_bytes", "16777217"));
    assert!(allowed("bus.retry_max", "0") && allowed("bus.retry_max", "20"));
    assert!(!allowed("bus.retry_max", "21") && !allowed("bus.retry_max", "-1"));
    assert!(!allowed("bus.retry_max", "4294967296"));
}

#[test]
fn directories_that_must_exist_do() {
    let dir = tempfile::tempdir().unwrap();
    let plain_file = dir.path().join("file");
    std::fs::write(&plain_file, "").unwrap();
    let set = |key: &str, path: PathBuf| Config::loader().set(key, path.to_str().unwrap()).load();
    set("bus.cert_dir", dir.path().into()).unwrap();
    set("bus.cert_dir", dir.path().join("absent")).unwrap_err();
    set("bus.cert_dir", plain_file.clone()).unwrap_err();
    set("log.path", dir.path().join("absent")).unwrap();
    set("log.path", plain_file).unwrap_err();
}

#[test]
fn settings_changed_in_code_are_checked_too() {
    let mut config = Config::default();
    config.bus.server_port = 0;
    config.bus.cert_dir = Some(PathBuf::from("no such directory"));
    let errors = config.validate().unwrap_err();
    assert_eq!(errors.errors().len(), 2);
    assert!(matches!(
        &errors.errors()[0],
        ConfigError::Value {
            origin: Origin::Code,
            ..
        }
    ));
}

#[test]
fn unknown_settings_name_the_nearest_and_keep_their_values_to_themselves() {
    let loader = file("batch:\n  max_event: hunter2\nbuss:\n  address: hunter2\n")
        .environment([
            ("AMOSKYS_BUS_ADRESS", "hunter2"),
            ("IS_UNRELATED", "x"),
            ("HOME", "/"),
        ])
        .set("log.pth", "hunter2");
    let errors = loader.load().unwrap_err();
    let text = errors.to_string();
    assert!(!text.contains("hunter2"), "{text}");
    let lines: Vec<String> = errors.errors().iter().map(ToString::to_string).collect();
    let expected = [
        "there is no setting \"batch.max_event\"; the nearest is batch.max_events (site.yaml:2)",
        "there is no setting \"buss\"; the nearest is the section bus (site.yaml:3)",
        "there is no setting \"AMOSKYS_BUS_ADRESS\"; the nearest is AMOSKYS_BUS_ADDRESS (AMOSKYS_BUS_ADRESS)",
        "there is no setting \"log.pth\"; the nearest is log.path (code)",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_variables_of_the_tests_are_no_settings() {
    let variables = [("AMOSKYS_DATA", "/data"), ("AMOSKYS_REQUIRE_PEERS", "1")];
    Config::loader().environment(variables).load().unwrap();
}

#[test]
fn files_that_say_nothing_are_allowed() {
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "~",
        "bus:\n",
        "bus: {}\n",
        "bus:\n  address:\n  retry_max: ~\n",
    ] {
        assert_eq!(file(text).load().unwrap().config, Config::default(), "{text:?}");
    }
}

#[test]
fn values_are_taken_as_their_settings_mean_them_not_as_yaml_does() {
    let config = file("agent:\n  name: no\nbus:\n  retry_max: '3'\n")
        .load()
        .unwrap()
        .config;
    assert_eq!((config.agent.name.as_str(), config.bus.retry_max), ("no", 3));
    // In quotes, nothing is a value, and not one a name can have.
    assert_eq!(errors(file("agent:\n  name: ''\n")).len(), 1);
}

#[test]
fn files_of_another_form_are_refused_by_line() {
    for (text, line) in [
        ("just text", 1),
        ("- a list", 1),
        ("bus: text", 1),
        ("bus:\n  address:\n    - a list\n", 3),
        ("bus:\n  address:\n    a: mapping\n", 3),
        ("bus:\n  address: [unclosed\n", 2),
        ("bus:\n  address: \"unclosed\n", 2),
        ("bus:\n\taddress: tab\n", 2),
        ("bus: &anchor\n  retry_max: 1\nbatch: *anchor\n", 3),
        ("bus: {}\n---\nbus: {}\n", 2),
        ("? [a, key]\n: value\n", 1),
        ("bus:\n  ? {a: key}\n  : value\n", 2),
    ] {
        let errors = file(text).load().expect_err(text);
        let lines: Vec<usize> = errors.errors().iter().map(error_line).collect();
        assert_eq!(lines.first(), Some(&line), "{text:?}: {errors}");
    }
}

fn error_line(error: &ConfigError) -> usize {
    match error {
        ConfigError::Form {
            origin: Origin::File { line, .. },
            ..
        } => *line,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_right_beside_what_is_wrong_is_still_checked() {
    let errors = errors(file(
        "bus:\n  address:\n    - x\n  retry_max: 99\nflow: 7\nlog:\n  path: {a: [b, {c: d}]}\n  segment_bytes: 1\n",
    ));
    assert_eq!(errors.len(), 5, "{errors:#?}");
    assert!(
        errors
            .iter()
            .any(|error| error.starts_with("bus.retry_max cannot be \"99\""))
    );
    assert!(
        errors
            .iter()
            .any(|error| error.starts_with("log.segment_bytes cannot be \"1\""))
    );
}

#[test]
fn a_setting_that_is_there_twice_is_an_error() {
    let errors = errors(file(
        "bus:\n  retry_max: 1\n  retry_max: 2\nbus:\n  send_rate: 1\n",
    ));
    assert_eq!(
        errors,
        [
            "bus.retry_max is set again (site.yaml:3); the first time is line 2",
            "bus is set again (site.yaml:4); the first time is line 1",
        ]
    );
}

#[test]
fn a_file_that_must_exist_is_missed_and_one_that_need_not_is_not() {
    let absent = Path::new("no such file.yaml");
    assert_eq!(
        Config::loader().file_if_present(absent).load().unwrap().config,
        Config::default()
    );
    let error = Config::loader().file(absent).load().unwrap_err().to_string();
    assert!(error.contains("cannot read no such file.yaml: "), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.yaml");
    std::fs::write(&path, "bus:\n  retry_max: 3\n").unwrap();
    assert_eq!(
        Config::loader().file(&path).load().unwrap().config.bus.retry_max,
        3
    );
    std::fs::write(&path, [b'a', 0xff]).unwrap();
    Config::loader().file_if_present(&path).load().unwrap_err();
}

#[test]
fn hostile_files_end_in_errors() {
    let deep = "[".repeat(100_000);
    let many = "a: 1\n".repeat(50_000);
    let large = " ".repeat((1 << 20) + 1);
    for text in [
        deep,
        "{".repeat(10_000),
        many,
        large,
        "\u{0}".to_owned(),
        "? ".repeat(10_000),
    ] {
        file(&text).load().unwrap_err();
    }
}

#[test]
fn configurations_and_errors_can_be_sent_to_other_threads() {
    fn sendable<T: Send + Sync + 'static>() {}
    sendable::<Config>();
    sendable::<ConfigErrors>();
}

#[cfg(unix)]
#[test]
fn variables_that_are_no_text_are_refused_only_if_they_are_settings() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    let odd = || OsString::from_vec(vec![b'x', 0xff]);
    Config::loader()
        .environment([(odd(), odd()), ("OTHER".into(), odd())])
        .load()
        .unwrap();
    assert_eq!(
        errors(Config::loader().environment([(OsString::from("AMOSKYS_LOG_PATH"), odd())])).len(),
        1
    );
}
