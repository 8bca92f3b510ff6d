//! What one series is watched for, and what its detector promises.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "common/noise.rs"]
mod noise;

use std::num::NonZeroU32;

use amoskys_analysis::series::{AlarmRule, Cause, Reading, SeriesConfig, SeriesDetector};
use amoskys_core::Timestamp;
use noise::Noise;
use proptest::prelude::*;

fn detector(horizon: u32) -> SeriesDetector {
    let mut config = SeriesConfig::default();
    config.horizon = NonZeroU32::new(horizon).unwrap();
    SeriesDetector::new(config).unwrap()
}

fn minutes(n: usize) -> Timestamp {
    Timestamp::from_secs(60 * i64::try_from(n).unwrap())
}

/// A day of 288 points, with a little noise.
fn daily(rows: usize, seed: u64) -> Vec<f64> {
    let mut noise = Noise::new(seed);
    let wave = |n: usize| (n as f64 * std::f64::consts::TAU / 288.0).sin();
    (0..rows)
        .map(|n| 50.0 + 20.0 * wave(n) + noise.normal())
        .collect()
}

fn run(detector: &mut SeriesDetector, values: &[f64]) -> Vec<Reading> {
    let readings = values.iter().enumerate();
    readings
        .map(|(n, &value)| detector.push(minutes(n), value))
        .collect()
}

fn alarms(readings: &[Reading]) -> Vec<(usize, Cause)> {
    let alarms = readings.iter().enumerate();
    alarms
        .filter_map(|(n, reading)| reading.alarm.map(|cause| (n, cause)))
        .collect()
}

#[test]
fn a_spike_is_told_at_once_and_once() {
    let mut values = daily(4_000, 1);
    values[3_000] = 150.0;
    let found = alarms(&run(&mut detector(600), &values));
    assert!(found.contains(&(3_000, Cause::Extreme)), "{found:?}");
    assert!(found.len() <= 3, "{found:?}");
}

#[test]
fn a_level_that_changes_within_the_usual_range_is_told() {
    let mut noise = Noise::new(2);
    // Bursts make the range wide; the level stays within it.
    let values: Vec<f64> = (0..6_000)
        .map(|n| noise.normal() + if n % 700 < 3 { 40.0 } else { 0.0 } + if n >= 5_000 { 15.0 } else { 0.0 })
        .collect();
    let mut detector = detector(600);
    let readings = run(&mut detector, &values);
    let found = alarms(&readings);
    assert!(found.iter().any(|(n, _)| (5_000..5_100).contains(n)), "{found:?}");
    let change = readings[5_000..5_030]
        .iter()
        .find_map(|reading| reading.change)
        .unwrap();
    assert!(
        (10.0..20.0).contains(&change.after) && change.before < 3.0,
        "{change:?}"
    );
}

#[test]
fn a_day_that_does_not_come_is_told() {
    let mut values = daily(6_000, 3);
    let mut noise = Noise::new(4);
    // The values are usual ones: those of noon, for a day.
    for value in &mut values[4_700..5_000] {
        *value = 50.0 + noise.normal();
    }
    let found = alarms(&run(&mut detector(600), &values));
    let (at, cause) = *found.iter().find(|(n, _)| (4_700..5_000).contains(n)).unwrap();
    assert!(
        matches!(cause, Cause::Shape | Cause::LevelChange | Cause::Absence),
        "{at} {cause:?}"
    );
}

#[test]
fn quiet_series_raise_no_alarm() {
    for value in [0.0, 7.5, -1e300, 1e300] {
        assert_eq!(alarms(&run(&mut detector(600), &vec![value; 3_000])), []);
    }
    let square: Vec<f64> = (0..5_000)
        .map(|n| if n % 288 < 100 { 80.0 } else { 20.0 })
        .collect();
    assert_eq!(alarms(&run(&mut detector(600), &square)), []);
    // The day has been learned after the first horizon.
    let found = alarms(&run(&mut detector(600), &daily(12_000, 5)));
    assert!(found.len() <= 6, "{found:?}");
}

#[test]
fn what_is_expected_covers_what_it_says_and_knows_the_season() {
    let readings = run(&mut detector(600), &daily(9_000, 6));
    let ranges: Vec<(f64, f64)> = readings.iter().filter_map(|reading| reading.expected).collect();
    assert!(ranges.len() > 8_000);
    let values = daily(9_000, 6);
    let inside = readings
        .iter()
        .zip(&values)
        .filter(|(reading, value)| {
            reading
                .expected
                .is_some_and(|(low, high)| (low..=high).contains(value))
        })
        .count();
    let share = inside as f64 / ranges.len() as f64;
    assert!((0.98..=1.0).contains(&share), "{share}");
    // Noise of standard deviation 1 needs 5.2 at 99 %, or 7.3 predicted from a noisy point; the day alone spans 40.
    let width = ranges
        .iter()
        .rev()
        .take(1_000)
        .map(|(low, high)| high - low)
        .sum::<f64>()
        / 1_000.0;
    assert!(width < 12.0, "{width}");
}

#[test]
fn missing_values_change_nothing_but_silence() {
    let values = daily(3_000, 7);
    let mut holes = Vec::new();
    for (n, &value) in values.iter().enumerate() {
        if n % 97 == 0 {
            holes.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        }
        holes.push(value);
    }
    let mut detector = detector(600);
    let readings: Vec<Reading> = holes
        .iter()
        .enumerate()
        .map(|(n, &value)| detector.push(minutes(n), value))
        .collect();
    assert_eq!(readings.iter().filter(|reading| reading.missing).count(), 31 * 3);
    assert_eq!(detector.counts(), (3_000, 93));
    let whole = run(&mut self::detector(600), &values);
    let with: Vec<f64> = readings
        .iter()
        .filter(|reading| !reading.missing)
        .map(|reading| reading.surprise)
        .collect();
    let without: Vec<f64> = whole.iter().map(|reading| reading.surprise).collect();
    assert_eq!(with, without);
    // A long silence is told while it lasts.
    let told: Vec<Option<Cause>> = (0..20)
        .map(|n| detector.push(minutes(4_000 + n), f64::NAN).alarm)
        .collect();
    assert_eq!(told.iter().flatten().collect::<Vec<_>>(), [&Cause::Silence]);
}

#[test]
fn a_clock_that_steps_disturbs_nothing() {
    let values = daily(3_000, 8);
    let mut detector = detector(600);
    let stepped: Vec<Reading> = values
        .iter()
        .enumerate()
        .map(|(n, &value)| detector.push(minutes(if n < 1_500 { n + 1_000_000 } else { n }), value))
        .collect();
    assert!(stepped[1_500].clock_stepped && detector.clock_steps() == 1);
    let steady = run(&mut self::detector(600), &values);
    for (a, b) in stepped.iter().zip(&steady) {
        assert_eq!((a.surprise, a.alarm), (b.surprise, b.alarm));
    }
}

#[test]
fn memory_is_capped() {
    let mut noise = Noise::new(9);
    let mut detector = detector(100);
    let mut sizes = Vec::new();
    for n in 0..40_000 {
        detector.push(minutes(n), noise.normal());
        if n % 10_000 == 9_999 {
            sizes.push(postcard::to_allocvec(&detector).unwrap().len());
        }
    }
    assert!(sizes.iter().all(|size| *size < 39_000), "{sizes:?}");
    // The first points take next to nothing.
    let mut fresh = SeriesDetector::new(SeriesConfig::default()).unwrap();
    for n in 0..150 {
        let _ = fresh.push(minutes(n), noise.normal());
    }
    assert!(postcard::to_allocvec(&fresh).unwrap().len() < 5_000);
}

#[test]
fn settings_out_of_range_are_refused() {
    let with = |change: fn(&mut SeriesConfig)| {
        let mut config = SeriesConfig::default();
        change(&mut config);
        SeriesDetector::new(config)
            .map(drop)
            .map_err(|error| error.setting)
    };
    assert_eq!(with(|config| config.horizon = NonZeroU32::MIN), Err("horizon"));
    assert_eq!(with(|config| config.horizon = NonZeroU32::MAX), Err("horizon"));
    assert_eq!(with(|config| config.coverage = f64::NAN), Err("coverage"));
    assert_eq!(
        with(|config| config.alarm = AlarmRule::Threshold(0.0)),
        Err("alarm.threshold")
    );
    assert_eq!(
        with(|config| config.alarm = AlarmRule::Rate(f64::INFINITY)),
        Err("alarm.rate")
    );
}

/// A stored state that was tampered with is refused, or at least does no harm.
#[test]
fn a_damaged_state_does_not_panic() {
    let mut detector = detector(16);
    run(&mut detector, &daily(200, 10));
    let bytes = postcard::to_allocvec(&detector).unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        if let Ok(mut back) = postcard::from_bytes::<SeriesDetector>(&damaged) {
            back.push(minutes(201), 1.0);
        }
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![6 => -10.0..10.0_f64, 1 => any::<f64>(), 1 => Just(f64::NAN), 1 => Just(f64::MAX), 1 => Just(0.0)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever comes, whenever: no panic, nothing but finite scores, and a restart at any place goes unnoticed.
    #[test]
    fn a_restart_goes_unnoticed(
        points in proptest::collection::vec((value(), prop_oneof![8 => 0..4_000_i64, 1 => any::<i64>()]), 1..400),
        cut in 0.0..1.0_f64,
        horizon in 16..80_u32,
    ) {
        let mut whole = detector(horizon);
        let mut resumed = detector(horizon);
        let cut = (points.len() as f64 * cut) as usize;
        for (n, &(value, time)) in points.iter().enumerate() {
            if n == cut {
                let bytes = postcard::to_allocvec(&resumed).unwrap();
                resumed = postcard::from_bytes(&bytes).unwrap();
            }
            let time = Timestamp::from_nanos(time.wrapping_add(n as i64 * 1_000));
            let (a, b) = (whole.push(time, value), resumed.push(time, value));
            prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
            prop_assert!(a.score.is_finite() && a.surprise.is_finite(), "{:?}", a);
        }
        prop_assert_eq!(postcard::to_allocvec(&whole).unwrap(), postcard::to_allocvec(&resumed).unwrap());
    }
}
