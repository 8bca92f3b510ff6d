//! Drift is told as rarely as stated where there is none, and soon where there is.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::sync::Arc;

use amoskys_core::event::{Class, Entity, EventRange, Payload};
use amoskys_core::{FeatureDef, FeatureSchema, FeatureVector, Seq, StreamId, Timestamp};
use amoskys_features::drift::{
    Adwin, Drift, DriftConfig, DriftMethod, DriftMonitor, KsDrift, KsTest, PageHinkley, PsiDrift, StreamDrift,
};

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + f64::MIN_POSITIVE
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Numbers that Python makes too:
/// `x = seed`, then for each `x = (x * 6364136223846793005 + 1442695040888963407) % 2**64; (x >> 11) / 2**53`.
fn congruential(count: usize, seed: u64, change: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut x = seed;
    let next = || {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        change((x >> 11) as f64 / (1_u64 << 53) as f64)
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn p_values_are_those_of_scipy() {
    // scipy 1.17.1, scipy.stats.ks_2samp(a, b, method="exact"): a is congruential(n, 1), b is congruential(m, 2) as changed.
    type Change = fn(f64) -> f64;
    let cases: [(usize, usize, Change, f64, f64); 6] = [
        (10, 12, |x| x, 0.383_333_333_333_333_36, 0.318_269_965_328_788_8),
        (50, 50, |x| x, 0.12, 0.869_261_887_041_405_6),
        (100, 80, |x| x + 0.15, 0.19, 0.071_163_135_039_048_82),
        (300, 200, |x| x.powf(1.3), 0.13, 0.032_472_765_702_326_56),
        (500, 500, |x| 1.2 * x, 0.182, 1.189_350_354_315_742_5e-7),
        (1_000, 400, |x| x + 0.3, 0.332, 2.146_125_092_408_82e-28),
    ];
    for (n, m, change, statistic, p_value) in cases {
        let (a, b) = (congruential(n, 1, |x| x), congruential(m, 2, change));
        let test = KsTest::two_sample(&a, &b).unwrap();
        assert!((test.statistic - statistic).abs() < 1e-12, "{n} {m}: {test:?}");
        assert!(
            (test.p_value / p_value - 1.0).abs() < 1e-9,
            "{n} {m}: {test:?} instead of {p_value}"
        );
        assert_eq!(KsTest::two_sample(&b, &a).unwrap().statistic, test.statistic);
    }
    let whole = |x: f64| (x * 10.0).floor();
    let (a, b) = (
        congruential(60, 3, whole),
        congruential(45, 4, |x| (x * x * 10.0).floor()),
    );
    let ties = KsTest::two_sample(&a, &b).unwrap();
    assert!(
        (ties.p_value / 0.000_734_673_470_297_903_7 - 1.0).abs() < 1e-9,
        "{ties:?}"
    );
    // Beyond four million, the limit distribution: method="asymp" has 0.017046.
    let (a, b) = (
        congruential(3_000, 5, |x| x),
        congruential(2_500, 6, |x| 1.03 * x),
    );
    let limit = KsTest::two_sample(&a, &b).unwrap();
    assert!((limit.statistic - 0.041_666_666_666_666_74).abs() < 1e-12);
    assert!(
        (limit.p_value / 0.017_046_486_343_007_632 - 1.0).abs() < 0.05,
        "{limit:?}"
    );
    assert_eq!(KsTest::two_sample(&[f64::NAN], &[1.0]), None);
    assert_eq!(KsTest::two_sample(&[1.0; 9], &[1.0; 9]).unwrap().p_value, 1.0);
}

#[test]
fn comparisons_alarm_as_rarely_as_stated() {
    let (mut ks_alarms, mut ks_tests, mut psi_alarms, mut psi_tests) = (0, 0, 0, 0);
    let mut noise = Noise(1);
    for _ in 0..300 {
        let mut ks = KsDrift::new(200, 100, 0.05);
        let mut psi = PsiDrift::new(200, 100, 10);
        for n in 0..1_000 {
            let value = noise.normal();
            if let Some(test) = ks.push(value) {
                ks_tests += 1;
                ks_alarms += u32::from(ks.is_drift(&test));
            }
            psi.push(value);
            if n % 100 == 99
                && let Some(index) = psi.value()
            {
                psi_tests += 1;
                psi_alarms += u32::from(index > psi.limit(0.05));
            }
        }
    }
    let (ks, psi) = (
        f64::from(ks_alarms) / f64::from(ks_tests),
        f64::from(psi_alarms) / f64::from(psi_tests),
    );
    eprintln!(
        "stated 0.05: Kolmogorov-Smirnov {ks:.4} of {ks_tests}, stability index {psi:.4} of {psi_tests}"
    );
    assert!(
        (0.02..0.07).contains(&ks) && (0.02..0.08).contains(&psi),
        "{ks} {psi}"
    );
}

#[test]
fn means_alarm_as_rarely_as_stated() {
    type Draw = fn(&mut Noise) -> f64;
    let kinds: [(&str, Draw); 3] = [
        ("normal", Noise::normal),
        ("uniform", Noise::uniform),
        ("exponential", |noise| -noise.uniform().ln()),
    ];
    for (name, draw) in kinds {
        let mut noise = Noise(2);
        let (mut adwin, mut test) = (Adwin::new(0.002), PageHinkley::new(0.25, 2_000.0));
        let (mut cuts, mut drifts) = (0, 0);
        for _ in 0..200_000 {
            let value = draw(&mut noise);
            cuts += u32::from(adwin.push(value).is_some());
            drifts += u32::from(test.push(value).is_some());
        }
        eprintln!("{name}: {cuts} cuts of 6250 looks; {drifts} drifts, 100 stated");
        assert!(cuts <= 12, "{name}: {cuts}");
        assert!(drifts <= 300, "{name}: {drifts}");
    }
}

#[test]
fn drifts_are_found_soon() {
    type Change = fn(f64) -> f64;
    let changes: [(&str, Change, &[DriftMethod]); 3] = [
        (
            "one deviation up",
            |x| x + 1.0,
            &[
                DriftMethod::Psi,
                DriftMethod::KolmogorovSmirnov,
                DriftMethod::Adwin,
                DriftMethod::PageHinkley,
            ],
        ),
        (
            "half a deviation down",
            |x| x - 0.5,
            &[
                DriftMethod::Adwin,
                DriftMethod::PageHinkley,
                DriftMethod::KolmogorovSmirnov,
            ],
        ),
        (
            "twice the spread",
            |x| 2.0 * x,
            &[DriftMethod::Psi, DriftMethod::KolmogorovSmirnov],
        ),
    ];
    for (name, change, methods) in changes {
        let mut delays = vec![Vec::new(); methods.len()];
        for seed in 0..20 {
            let mut noise = Noise(100 + seed);
            let mut stream = StreamDrift::new("score".into(), DriftConfig::default()).unwrap();
            let mut found = vec![None; methods.len()];
            for n in 0..3_000 {
                let value = noise.normal();
                let mut drifts = Vec::new();
                stream.push(if n < 2_000 { value } else { change(value) }, &mut drifts);
                for Drift { method, .. } in drifts {
                    if n >= 2_000
                        && let Some(at) = methods.iter().position(|known| *known == method)
                    {
                        found[at] = found[at].or(Some(n - 1_999));
                    }
                }
            }
            for (delays, found) in delays.iter_mut().zip(found) {
                delays.push(found.unwrap_or(usize::MAX));
            }
        }
        for (method, delays) in methods.iter().zip(&mut delays) {
            delays.sort_unstable();
            eprintln!(
                "{name}: {} after {} values in the median, {} at the slowest of 20",
                method.as_str(),
                delays[10],
                delays[19]
            );
            assert!(delays[10] <= 500, "{name} {method:?}: {delays:?}");
        }
    }
}

fn vector(schema: &Arc<FeatureSchema>, values: Vec<f64>) -> FeatureVector {
    let stream = StreamId {
        agent: "agent".into(),
        epoch: Default::default(),
        class: Class::Telemetry,
    };
    FeatureVector {
        schema: Arc::clone(schema),
        entity: Entity::Named("host".into()),
        start: Timestamp::from_secs(0),
        end: Timestamp::from_secs(1),
        values,
        events: EventRange {
            stream,
            first: Seq(0),
            last: Seq(0),
        },
    }
}

#[test]
fn a_monitor_names_the_feature_and_goes_on_from_a_snapshot() {
    let feature = |name| FeatureDef::new(name, "", "a number");
    let schema = Arc::new(FeatureSchema::new(
        "test",
        vec![feature("steady"), feature("drifting"), feature("constant")],
    ));
    let mut monitor = DriftMonitor::new(Arc::clone(&schema), DriftConfig::default()).unwrap();
    let mut back = monitor.clone();
    let mut noise = Noise(5);
    let mut sizes = Vec::new();
    let (mut drifts, mut same) = (Vec::new(), Vec::new());
    for n in 0..6_000 {
        let steady = if n % 50 == 0 { f64::NAN } else { noise.normal() };
        let drifting = noise.normal() + if n < 2_000 { 0.0 } else { 3.0 };
        let vector = vector(&schema, vec![steady, drifting, 1e300]);
        monitor.observe(&vector, &mut drifts);
        back.observe(&vector, &mut same);
        if n % 1_000 == 999 {
            let bytes = monitor.snapshot().unwrap();
            sizes.push(bytes.len());
            back = DriftMonitor::new(Arc::clone(&schema), DriftConfig::default()).unwrap();
            back.restore(&bytes).unwrap();
            assert_eq!(back.snapshot().unwrap(), bytes);
            assert!(back.restore(&bytes[..bytes.len() - 1]).is_err());
        }
    }
    assert_eq!(drifts, same);
    assert!(
        drifts.len() >= 4 && drifts.iter().all(|drift| drift.stream.as_str() == "drifting"),
        "{drifts:?}"
    );
    assert!(sizes.iter().all(|size| *size < 3 * 16_000), "{sizes:?}");
    let event = drifts[0].to_event(Timestamp::from_secs(7), "host".into(), "drift".into());
    let Payload::Metric(metric) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(
        (metric.name.as_str(), metric.labels[0].1.as_str()),
        ("feature_drift", "drifting")
    );

    let other = Arc::new(FeatureSchema::new("other", vec![feature("steady")]));
    monitor.observe(&vector(&other, vec![1.0]), &mut drifts);
    assert_eq!(monitor.refused(), 1);
    let mut config = DriftConfig::default();
    config.window = 5;
    assert!(DriftMonitor::new(Arc::clone(&schema), config).is_err());
    config = DriftConfig::default();
    config.rate = f64::NAN;
    assert!(DriftMonitor::new(schema, config).is_err());
}

#[test]
fn windows_of_the_adaptive_kind_grow_and_stay_small() {
    let mut adwin = Adwin::new(1e-6);
    let mut noise = Noise(9);
    for _ in 0..300_000 {
        adwin.push(noise.uniform());
    }
    assert_eq!(adwin.len(), 300_000);
    assert!((adwin.mean() - 0.5).abs() < 0.01);
    assert!(postcard::to_allocvec(&adwin).unwrap().len() < 4_096);
    for value in [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, 0.0] {
        adwin.push(value);
    }
    assert!(adwin.mean().is_finite());
}
