//! Windows hold what Polars computes for them: exact aggregates to 1e-9, sketches within their stated error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use amoskys_core::{Seq, Timestamp};
use amoskys_features::aggregate::{Damped, Distinct, Frequencies, Moments, Quantiles};
use amoskys_features::hash::KeyHash;
use amoskys_features::window::{Emit, KeyedWindows, Limits, WindowSpec};

type Kept = (u64, u64, Moments, Distinct, Quantiles, Frequencies, Damped<100>);

struct Happening {
    host: u32,
    time: Timestamp,
    bytes: u32,
    value: f64,
    member: u32,
    service: u32,
}

/// Thirty hosts for two minutes; the first has as many peers as there are events.
fn happenings() -> Vec<Happening> {
    let mut state = 1_u64;
    let mut below = move |limit: u32| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(state) * u128::from(limit)) >> 64) as u32
    };
    let events = (0..60_000_i64).map(|n| {
        let host = if below(3) == 0 { 0 } else { below(30) };
        let size = below(16);
        Happening {
            host,
            time: Timestamp::from_nanos(1_700_000_000_000_000_000 + n * 2_000_000),
            bytes: below(1500),
            value: f64::from(1 + below(1 << size)) * 0.37,
            member: if host == 0 { below(1_000_000) } else { below(40) },
            service: below(12),
        }
    });
    events.collect()
}

fn ours(events: &[Happening], length: u64, slide: u64) -> BTreeMap<(u32, i64), Kept> {
    let spec = WindowSpec::sliding(Duration::from_secs(length), Duration::from_secs(slide)).expect("windows");
    let mut windows: KeyedWindows<u32, Kept> =
        KeyedWindows::new(spec, Limits::default()).emitting(Emit::Every);
    let mut closed = BTreeMap::new();
    for (number, event) in (0..).zip(events) {
        windows.update(&event.host, event.time, Seq(number), |kept| {
            kept.0 += 1;
            kept.1 += u64::from(event.bytes);
            kept.2.add(event.value);
            kept.3.add(KeyHash::of_number(u64::from(event.member)));
            kept.4.add(event.value);
            kept.5.add(KeyHash::of_number(u64::from(event.service)));
            kept.6.add(event.time, 1.0);
        });
        windows.advance(event.time, |window| {
            closed.insert((*window.key, window.start.nanos()), window.aggregate.clone());
        });
    }
    closed
}

/// The interpreter of an environment with Polars, made once and kept beside what the tests are built into.
fn python() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("polars-python");
    let python = dir.join("bin/python");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/requirements.txt");
    let (wanted, noted) = (
        std::fs::read(&requirements).expect("the list of packages"),
        dir.join("installed"),
    );
    if std::fs::read(&noted).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let _ = std::fs::remove_dir_all(&dir);
    run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    let options = [
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "2",
        "--only-binary",
        ":all:",
        "--requirement",
    ];
    run(Command::new(&python)
        .args(["-m", "pip", "install"])
        .args(options)
        .arg(&requirements))?;
    std::fs::write(noted, wanted).expect("a note");
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

#[test]
fn windows_hold_what_polars_computes() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => {
            assert!(
                std::env::var_os("AMOSKYS_REQUIRE_PEERS").is_none_or(|value| value != "1"),
                "no Python with Polars: {reason}"
            );
            println!("skipped: no Python with Polars: {reason}");
            return;
        }
    };
    let events = happenings();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("windows-of-polars");
    std::fs::create_dir_all(&folder).unwrap();
    let (input, output) = (folder.join("events.csv"), folder.join("windows.csv"));
    let mut text = "host,time,bytes,value,member,service\n".to_owned();
    for event in &events {
        let Happening {
            host,
            time,
            bytes,
            value,
            member,
            service,
        } = event;
        writeln!(text, "{host},{},{bytes},{value},{member},{service}", time.nanos()).unwrap();
    }
    std::fs::write(&input, text).unwrap();
    for (length, slide) in [(10, 10), (20, 5), (60, 4)] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/windows.py");
        let numbers = [length.to_string(), slide.to_string()];
        run(Command::new(&python)
            .arg(script)
            .arg(&input)
            .arg(&output)
            .args(numbers))
        .unwrap();
        let ours = ours(&events, length, slide);
        let theirs = std::fs::read_to_string(&output).unwrap();
        let (mut compared, mut errors) = (0, Vec::new());
        for line in theirs.lines().skip(1) {
            let mut fields = line.split(',');
            let mut next = || fields.next().unwrap();
            let key = (next().parse::<u32>().unwrap(), next().parse::<i64>().unwrap());
            // Windows at the end, which no later event has closed.
            let Some(kept) = ours.get(&key) else { continue };
            let rest: Vec<f64> = fields.map(|field| field.parse().unwrap()).collect();
            let [
                count,
                bytes,
                sum,
                mean,
                deviation,
                distinct,
                p50,
                p90,
                entropy,
                damped,
            ] = rest[..]
            else {
                panic!("{line}");
            };
            let (c, b, moments, members, quantiles, services, rate) = kept;
            assert_eq!((*c as f64, *b as f64), (count, bytes), "{line}");
            for (found, expected) in [
                (moments.sum(), sum),
                (moments.mean(), mean),
                (moments.std_dev(), deviation),
                (services.entropy(), entropy),
                (rate.sums().weight(), damped),
            ] {
                assert!(close(found, expected), "{found} for {expected}: {line}");
            }
            for (share, expected) in [(0.5, p50), (0.9, p90)] {
                let allowed = quantiles.relative_error() * expected * (1.0 + 1e-9);
                assert!(
                    (quantiles.quantile(share) - expected).abs() <= allowed,
                    "{share}: {line}"
                );
            }
            if distinct <= 64.0 {
                assert_eq!(members.count(), distinct, "{line}");
            } else {
                errors.push(members.count() / distinct - 1.0);
            }
            compared += 1;
        }
        // Polars leaves out the windows that begin before the first event.
        let begin =
            events[0].time.nanos().div_euclid(slide as i64 * 1_000_000_000) * slide as i64 * 1_000_000_000;
        assert_eq!(compared, ours.keys().filter(|(_, start)| *start >= begin).count());
        // A standard error of 3.3 %: none is four times as far off, and their mean square is no larger.
        let worst = errors.iter().fold(0.0_f64, |worst, error| worst.max(error.abs()));
        let square = errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64;
        println!("{compared} windows of {length} s every {slide} s, worst distinct count {worst:.3} off");
        assert!(
            worst < 4.0 * 0.0325 && square.sqrt() < 2.0 * 0.0325,
            "{worst} {}",
            square.sqrt()
        );
    }
}
