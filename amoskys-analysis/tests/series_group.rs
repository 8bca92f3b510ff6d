//! Metrics of one host that move together, and one that stops doing so.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "common/noise.rs"]
mod noise;

use std::time::Instant;

use amoskys_analysis::series::{GroupConfig, GroupError, SeriesGroup};
use noise::Noise;

/// A host: two hidden loads with a day's rhythm and bursts, and metrics that mix them in different shares and units.
struct Host {
    noise: Noise,
    slow: f64,
    burst: f64,
    mix: Vec<(f64, f64, f64)>,
}

impl Host {
    fn new(metrics: usize, seed: u64) -> Self {
        let mut noise = Noise::new(seed);
        let mix = (0..metrics)
            .map(|metric| {
                let unit = 10_f64.powi(metric as i32 % 4 - 1);
                (
                    unit * (0.5 + noise.uniform()),
                    unit * (noise.uniform() - 0.5),
                    unit * 0.2,
                )
            })
            .collect();
        Self {
            noise,
            slow: 0.0,
            burst: 0.0,
            mix,
        }
    }

    fn row(&mut self, n: usize) -> Vec<f64> {
        let day = (n as f64 * std::f64::consts::TAU / 480.0).sin();
        let slow = self.noise.autoregressive(&mut self.slow, 0.97);
        self.burst = 0.9 * self.burst
            + if self.noise.uniform() < 0.01 {
                4.0 * self.noise.exponential()
            } else {
                0.0
            };
        let noise = &mut self.noise;
        let metric = |&(a, b, own): &(f64, f64, f64)| {
            a * (3.0 * day + self.burst) + b * 2.0 * slow + own * noise.normal()
        };
        self.mix.iter().map(metric).collect()
    }
}

const TRAINED: usize = 4_000;
const BREAK: usize = 120;

/// Alarms within a break, which series they name, and alarms before it.
fn breaks(alter: impl Fn(usize, &[Vec<f64>], &mut Noise) -> f64) -> (usize, usize, usize) {
    let (mut found, mut right, mut false_alarms) = (0, 0, 0);
    for seed in 0..20 {
        let (metrics, altered) = (6 + seed as usize % 5, seed as usize % 6);
        let mut host = Host::new(metrics, 100 + seed);
        let mut noise = Noise::new(seed);
        let mut group = SeriesGroup::new(metrics, GroupConfig::default()).unwrap();
        let mut rows: Vec<Vec<f64>> = Vec::new();
        let mut first = None;
        for n in 0..TRAINED + BREAK {
            let mut row = host.row(n);
            rows.push(row.clone());
            if n >= TRAINED {
                let column: Vec<Vec<f64>> = vec![rows.iter().map(|row| row[altered]).collect()];
                row[altered] = alter(n, &column, &mut noise);
            }
            if let Some(departure) = group.push(&row).unwrap().alarm {
                assert!(departure.p_value <= 1e-4 && departure.explained >= 0.3);
                if n < TRAINED {
                    false_alarms += 1;
                } else {
                    first = first.or(Some(departure.series));
                }
            }
        }
        found += usize::from(first.is_some());
        right += usize::from(first == Some(altered));
    }
    (found, right, false_alarms)
}

#[test]
fn breaks_of_different_kinds_are_found_and_named() {
    // It stands still at its last value.
    let frozen = breaks(|_, column, _| column[0][TRAINED - 1]);
    // It goes on as it did a third of a day before: each value and each shape is a usual one.
    let delayed = breaks(|n, column, _| column[0][n - 160]);
    // It moves against the others, around its own mean.
    let mirrored = breaks(|n, column, _| {
        let mean = column[0][..TRAINED].iter().sum::<f64>() / TRAINED as f64;
        2.0 * mean - column[0][n]
    });
    // It drifts away by three of its own standard deviations over the break.
    let drift = breaks(|n, column, _| {
        let before = &column[0][..TRAINED];
        let mean = before.iter().sum::<f64>() / TRAINED as f64;
        let variance = before.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / TRAINED as f64;
        column[0][n] + 3.0 * variance.sqrt() * (n - TRAINED) as f64 / BREAK as f64
    });
    // Values of its past in random order.
    let shuffled = breaks(|_, column, noise| column[0][(noise.uniform() * (TRAINED - 1) as f64) as usize]);
    let all = [frozen, delayed, mirrored, drift, shuffled];
    eprintln!("of 20 breaks each: found, named rightly, false alarms in 80000 rows: {all:?}");
    for (found, right, _) in all {
        assert!(found >= 16 && right >= 14, "{all:?}");
    }
    // One in 10,000 rows and series would be 64 of 80,000 rows with 8 series, before those that follow another are left out.
    assert!(all.iter().all(|kind| kind.2 <= 64), "{all:?}");
}

#[test]
fn a_load_that_moves_all_is_no_departure() {
    let mut alarms = 0;
    for seed in 0..10 {
        let mut host = Host::new(8, seed);
        let mut group = SeriesGroup::new(8, GroupConfig::default()).unwrap();
        for n in 0..TRAINED + 300 {
            let mut row = host.row(n);
            if n >= TRAINED {
                // Three times the load ever seen.
                let load = 9.0 * ((n - TRAINED) as f64 / 100.0).sin();
                for (value, mix) in row.iter_mut().zip(&host.mix) {
                    *value += mix.0 * load;
                }
            }
            alarms += usize::from(group.push(&row).unwrap().alarm.is_some() && n >= TRAINED);
        }
    }
    assert!(alarms <= 3, "{alarms} alarms in ten surges");
}

#[test]
fn missing_values_are_given_what_the_others_say() {
    let mut host = Host::new(6, 5);
    let (mut whole, mut holes) = (
        SeriesGroup::new(6, GroupConfig::default()).unwrap(),
        SeriesGroup::new(6, GroupConfig::default()).unwrap(),
    );
    let (mut a, mut b) = (0, 0);
    for n in 0..6_000 {
        let mut row = host.row(n);
        a += usize::from(whole.push(&row).unwrap().alarm.is_some());
        if n % 3 == 0 {
            row[n / 3 % 6] = f64::NAN;
        }
        if n % 1_000 == 999 {
            row.fill(f64::INFINITY);
        }
        let reading = holes.push(&row).unwrap();
        assert!(reading.strengths.iter().all(|strength| strength.is_finite()));
        b += usize::from(reading.alarm.is_some());
    }
    assert!(a <= 8 && b <= 8, "{a} {b}");
}

#[test]
fn constant_and_equal_and_absurd_series_do_no_harm() {
    let mut group = SeriesGroup::new(5, GroupConfig::default()).unwrap();
    let mut noise = Noise::new(3);
    for n in 0..3_000_u32 {
        let x = noise.normal();
        let absurd = [f64::MAX, f64::MIN, 0.0, 1e-300][n as usize % 4];
        let reading = group.push(&[x, x, 7.0, absurd, -1e50 * x]).unwrap();
        assert!(
            reading.strengths.iter().all(|strength| strength.is_finite()),
            "{n} {reading:?}"
        );
    }
    assert_eq!(
        group.push(&[1.0]),
        Err(GroupError::Row {
            expected: 5,
            found: 1
        })
    );
    assert_eq!(
        SeriesGroup::new(1, GroupConfig::default()).unwrap_err(),
        GroupError::Series(1)
    );
    let mut config = GroupConfig::default();
    config.rate = 2.0;
    assert!(SeriesGroup::new(3, config).is_err());
}

#[test]
fn a_restart_goes_unnoticed_and_the_cost_is_bounded() {
    let mut host = Host::new(16, 9);
    let mut group = SeriesGroup::new(16, GroupConfig::default()).unwrap();
    let rows: Vec<Vec<f64>> = (0..4_000).map(|n| host.row(n)).collect();
    let start = Instant::now();
    for row in &rows[..3_000] {
        group.push(row).unwrap();
    }
    eprintln!(
        "{:.1} µs a row of 16",
        start.elapsed().as_secs_f64() / 3_000.0 * 1e6
    );
    let bytes = postcard::to_allocvec(&group).unwrap();
    assert!(bytes.len() < 16 * 10_000, "{}", bytes.len());
    let mut back: SeriesGroup = postcard::from_bytes(&bytes).unwrap();
    for row in &rows[3_000..] {
        assert_eq!(group.push(row).unwrap(), back.push(row).unwrap());
    }
    assert_eq!(
        postcard::to_allocvec(&group).unwrap(),
        postcard::to_allocvec(&back).unwrap()
    );
}
