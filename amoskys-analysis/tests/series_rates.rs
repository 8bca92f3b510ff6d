//! False alarms come as often as was stated, on noise of which the truth is known.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "common/noise.rs"]
mod noise;

use std::num::NonZeroU32;

use amoskys_analysis::series::{
    AlarmRule, ChangeDetector, PredictionInterval, Seasonality, SeriesConfig, SeriesDetector, TailProbability,
};
use amoskys_core::Timestamp;
use noise::Noise;

type Draw = Box<dyn FnMut() -> f64>;

/// Draws of a kind of noise, by its name.
fn noises() -> [(&'static str, Draw); 5] {
    let (mut a, mut b, mut c, mut d, mut e) = (
        Noise::new(1),
        Noise::new(2),
        Noise::new(3),
        Noise::new(4),
        Noise::new(5),
    );
    let (mut slow, mut slower) = (0.0, 0.0);
    [
        ("normal", Box::new(move || a.normal())),
        ("uniform", Box::new(move || b.uniform())),
        ("exponential", Box::new(move || c.exponential())),
        (
            "autoregressive 0.6",
            Box::new(move || d.autoregressive(&mut slow, 0.6)),
        ),
        (
            "autoregressive 0.9",
            Box::new(move || e.autoregressive(&mut slower, 0.9)),
        ),
    ]
}

#[test]
fn exceedances_are_as_rare_as_their_probability() {
    for (name, mut draw) in noises() {
        let mut tail = TailProbability::new(1_000);
        (0..1_000).for_each(|_| tail.push(draw()));
        let levels = [0.001, 0.01, 0.05];
        let mut below = [0_u32; 3];
        let rows = 60_000;
        for _ in 0..rows {
            let value = draw();
            let p = tail.exceedance(value).unwrap();
            assert!((0.0..=1.0).contains(&p));
            for (count, level) in below.iter_mut().zip(levels) {
                *count += u32::from(p <= level);
            }
            tail.push(value);
        }
        for (count, level) in below.into_iter().zip(levels) {
            let ratio = f64::from(count) / f64::from(rows) / level;
            eprintln!("{name}: {ratio:.2} times {level}");
            assert!((1.0 / 3.0..3.0).contains(&ratio), "{name}: {ratio} times {level}");
        }
    }
}

#[test]
fn a_range_covers_its_share_whatever_the_series_does() {
    for (name, mut draw) in noises() {
        let mut interval = PredictionInterval::new(0.95, 500);
        let rows = 20_000;
        let covered = (0..rows).filter(|_| interval.push(draw())).count();
        let share = covered as f64 / f64::from(rows);
        assert!((share - 0.95).abs() < 201.0 / f64::from(rows), "{name}: {share}");
    }
    // Errors that grow for ever, and an adversary that looks where the range ends.
    let mut interval = PredictionInterval::new(0.9, 200);
    let growing = (0..20_000).filter(|&n| interval.push(f64::from(n * n))).count();
    assert!((growing as f64 / 2e4 - 0.9).abs() < 101.0 / 2e4, "{growing}");
    let mut interval = PredictionInterval::new(0.9, 200);
    let chased = (0..20_000)
        .filter(|_| {
            let width = interval.width();
            interval.push(if width.is_finite() {
                width.max(0.0) * 1.01 + 1.0
            } else {
                1.0
            })
        })
        .count();
    assert!((chased as f64 / 2e4 - 0.9).abs() < 101.0 / 2e4, "{chased}");
}

#[test]
fn changes_are_told_as_rarely_as_asked_for_and_found_soon() {
    for (name, mut draw) in noises()
        .into_iter()
        .filter(|(name, _)| *name != "autoregressive 0.9")
    {
        let mut changes = ChangeDetector::new(2_000.0);
        let told = (0..200_000).filter(|_| changes.push(draw()).is_some()).count();
        let between = 200_000.0 / told.max(1) as f64;
        eprintln!("{name}: {between:.0} points between false alarms, asked for 2000");
        // What is cut makes false alarms rarer than asked for; that is no fault.
        assert!(between > 2_000.0 / 3.0, "{name}: {between}");
        if name == "normal" || name == "autoregressive 0.6" {
            assert!(between < 6_000.0, "{name}: {between}");
        }
    }
    let mut noise = Noise::new(11);
    let mut delays = Vec::new();
    for _ in 0..200 {
        let mut changes = ChangeDetector::new(10_000.0);
        for _ in 0..300 {
            changes.push(noise.normal());
        }
        let delay = (1..200).find(|_| changes.push(noise.normal() + 1.5).is_some());
        delays.push(delay.unwrap_or(200));
    }
    delays.sort_unstable();
    assert!(
        delays[100] <= 12 && delays[190] <= 25,
        "{} {}",
        delays[100],
        delays[190]
    );
}

#[test]
fn alarms_by_rate_come_at_most_as_often_as_stated() {
    for (name, mut draw) in noises() {
        let mut config = SeriesConfig::default();
        config.horizon = NonZeroU32::new(160).unwrap();
        config.alarm = AlarmRule::Rate(0.2);
        let (mut alarms, mut rows) = (0, 0);
        for _ in 0..4 {
            let mut detector = SeriesDetector::new(config).unwrap();
            for n in 0..16_000 {
                let reading = detector.push(Timestamp::from_secs(n), draw());
                alarms += u32::from(reading.alarm.is_some());
                rows += 1;
            }
        }
        let rate = f64::from(alarms) / (f64::from(rows) / 160.0);
        eprintln!("{name}: {rate:.3} alarms a horizon, 0.2 stated");
        assert!((0.02..0.4).contains(&rate), "{name}: {rate}");
    }
}

#[test]
fn seasons_are_found_in_noise_and_not_made_of_it() {
    for (period, rows) in [
        (12_usize, 600),
        (24, 600),
        (100, 1_500),
        (288, 4_000),
        (1_440, 9_000),
    ] {
        let mut noise = Noise::new(period as u64);
        let mut season = Seasonality::new();
        for n in 0..rows {
            let part = (n % period) as f64 / period as f64;
            // A working day: busy for a third, with a peak at noon.
            let busy = if part < 0.35 {
                2.0 + (part * 18.0).sin()
            } else {
                0.0
            };
            season.push(busy + 0.4 * noise.normal());
        }
        let found = season.period().unwrap();
        assert!(
            found.abs_diff(period) * 50 <= period.max(50),
            "{found} instead of {period}"
        );
    }
    for (name, mut draw) in noises() {
        let (mut found, mut looks) = (0, 0);
        let mut season = Seasonality::new();
        for n in 0..60_000 {
            season.push(draw());
            if n % 128 == 127 {
                looks += 1;
                found += u32::from(season.period().is_some());
            }
        }
        eprintln!("{name}: {found} of {looks} looks find a season");
        assert!(found * 20 <= looks, "{name}: {found} of {looks}");
    }
}
