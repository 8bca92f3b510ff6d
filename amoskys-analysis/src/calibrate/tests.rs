use super::*;
use crate::eval::calibration_error;

/// Scores whose true probability is known: each score `s` in 0 to 1 is an anomaly with probability `truth(s)`, spread
/// evenly by a fixed sequence.
fn sample(rows: u32, truth: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<bool>) {
    // Two additive sequences of irrational step cover the unit square evenly.
    let at = |n: u32| (f64::from(n) * 0.754_877_666_246_692_8).fract();
    let coin = |n: u32| (f64::from(n) * 0.569_840_290_998_053_2).fract();
    let scores: Vec<f64> = (0..rows).map(at).collect();
    let labels = scores
        .iter()
        .zip(0..)
        .map(|(&score, n)| coin(n) < truth(score))
        .collect();
    (scores, labels)
}

fn stored(calibration: Calibration) -> Calibration {
    let bytes = postcard::to_allocvec(&calibration).unwrap();
    let again: Calibration = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(again, calibration);
    again
}

fn assert_monotone(calibration: &Calibration) {
    let mut last = 0.0;
    for score in [f64::NAN, f64::NEG_INFINITY]
        .into_iter()
        .chain((-200..400).map(|n| f64::from(n) / 100.0))
        .chain([1e9, f64::INFINITY])
    {
        let probability = calibration.probability(score);
        assert!(probability > 0.0 && probability < 1.0, "{score}: {probability}");
        assert!(probability >= last, "{score}: {probability} after {last}");
        last = probability;
    }
}

#[test]
fn isotonic_finds_any_rising_curve() {
    let steps = |s: f64| {
        if s < 0.3 {
            0.05
        } else if s < 0.8 {
            0.4
        } else {
            0.95
        }
    };
    let (scores, labels) = sample(20_000, steps);
    let isotonic = stored(Isotonic::fit(&scores, &labels).unwrap().into());
    assert_monotone(&isotonic);
    for score in [0.1, 0.2, 0.4, 0.6, 0.7, 0.9] {
        let found = isotonic.probability(score);
        assert!((found - steps(score)).abs() < 0.05, "{score}: {found}");
    }
}

#[test]
fn isotonic_pools_by_hand() {
    let isotonic = Isotonic::fit(&[1.0, 2.0, 3.0, 4.0, 4.0], &[false, true, false, true, true]).unwrap();
    let margin = 1.0 / 7.0;
    for (score, probability) in [
        (1.0, margin),
        (2.0, 0.5),
        (2.5, 0.5),
        (3.5, 0.75),
        (4.0, 1.0 - margin),
        (9.0, 1.0 - margin),
    ] {
        assert!(
            (isotonic.probability(score) - probability).abs() < 1e-12,
            "{score}"
        );
    }
}

#[test]
fn platt_finds_a_logistic_curve() {
    let truth = |s: f64| 1.0 / (1.0 + (-(8.0 * s - 5.0)).exp());
    for (factor, shift) in [(1.0, 0.0), (1e6, -3e6), (1e-6, 2.0)] {
        let (scores, labels) = sample(20_000, truth);
        let moved: Vec<f64> = scores.iter().map(|score| score * factor + shift).collect();
        let platt = stored(Platt::fit(&moved, &labels).unwrap().into());
        for score in [0.1, 0.5, 0.7, 0.95] {
            let found = platt.probability(score * factor + shift);
            assert!((found - truth(score)).abs() < 0.02, "{score}: {found}");
        }
        let probabilities: Vec<f64> = moved.iter().map(|&score| platt.probability(score)).collect();
        assert!(calibration_error(&probabilities, &labels, 10).unwrap() < 0.02);
    }
    assert_monotone(&Platt::new(8.0, -5.0).into());
}

#[test]
fn platt_does_not_run_away_or_turn_around() {
    let apart = Platt::fit(&[0.0, 0.1, 0.9, 1.0], &[false, false, true, true]).unwrap();
    assert_monotone(&apart.into());
    assert!(
        (0.7..0.999).contains(&apart.probability(1.0)),
        "{}",
        apart.probability(1.0)
    );
    let turned = Platt::fit(&[0.0, 0.1, 0.9, 1.0], &[true, true, false, false]).unwrap();
    assert_eq!(turned.probability(0.0), turned.probability(1.0));
    assert!((turned.probability(f64::INFINITY) - 0.5).abs() < 1e-12);
    let through = Platt::through((0.5, 0.01), (0.8, 0.9)).unwrap();
    assert!((through.probability(0.5) - 0.01).abs() < 1e-9 && (through.probability(0.8) - 0.9).abs() < 1e-9);
    assert_eq!(Platt::through((0.5, 0.9), (0.8, 0.1)), None);
    assert_eq!(Platt::through((0.5, 0.0), (0.8, 0.9)), None);
}

#[test]
fn conformal_keeps_its_promise() {
    // Exponential scores by inversion; one half calibrates, the other is judged.
    let scores: Vec<f64> = sample(8000, |_| 0.0)
        .0
        .into_iter()
        .map(|u| -(1.0 - u).ln())
        .collect();
    let (normal, new) = scores.split_at(4000);
    let conformal = Conformal::fit(normal, 0.01).unwrap();
    for alpha in [0.01, 0.05, 0.2] {
        let alarms = new
            .iter()
            .filter(|&&score| conformal.p_value(score) <= alpha)
            .count() as f64
            / 4000.0;
        assert!(
            alarms <= alpha + 0.005 && alarms > 0.8 * alpha,
            "{alarms} at {alpha}"
        );
    }
    assert_eq!(conformal.p_value(f64::INFINITY), 1.0 / 4001.0);
    assert_eq!(conformal.p_value(-1.0), 1.0);
    // The true tail is exp(-score).
    for score in [9.0, 12.0, 20.0] {
        let ratio = conformal.tail_p_value(score).ln() / -score;
        assert!((0.8..1.2).contains(&ratio), "{score}: {ratio}");
    }
    assert_monotone(&stored(conformal.into()));
}

#[test]
fn bad_input_is_refused() {
    assert_eq!(
        Isotonic::fit(&[1.0], &[]),
        Err(CalibrateError::Labels { scores: 1, labels: 0 })
    );
    assert_eq!(
        Platt::fit(&[1.0, 2.0], &[true, true]),
        Err(CalibrateError::OneKind)
    );
    assert_eq!(
        Isotonic::fit(&[f64::NAN, 2.0], &[true, false]),
        Err(CalibrateError::OneKind)
    );
    assert_eq!(
        Conformal::fit(&[f64::NAN], 0.1),
        Err(CalibrateError::TooFew { needed: 1, found: 0 })
    );
    assert_eq!(Conformal::fit(&[1.0], 1.0), Err(CalibrateError::Prior(1.0)));
    let falling = postcard::to_allocvec(&(vec![(0.0, 0.9), (1.0, 0.1)], 0.1)).unwrap();
    assert!(postcard::from_bytes::<Isotonic>(&falling).is_err());
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    // Curves fitted on many samples of few rows: how often is the true probability between the bounds?
    let truth = |s: f64| 1.0 / (1.0 + (-(8.0 * s - 4.0)).exp());
    let mut state = 1_u64;
    let mut even = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let (mut held, mut asked, mut p_held, mut width) = (0, 0, 0, 0.0);
    for _ in 0..200 {
        let scores: Vec<f64> = (0..300).map(|_| even()).collect();
        let labels: Vec<bool> = scores.iter().map(|&score| even() < truth(score)).collect();
        let platt = Calibration::from(Platt::fit(&scores, &labels).unwrap());
        let conformal = Conformal::fit(&scores, 0.01).unwrap();
        for score in [0.1, 0.3, 0.5, 0.7, 0.9] {
            let interval = platt.interval(score, 0.9);
            asked += 1;
            held += i32::from((interval.low..=interval.high).contains(&truth(score)));
            width += interval.high - interval.low;
            // Even scores: a share of 1 - s is as high.
            let (low, high) = conformal.p_value_interval(score, 0.9);
            p_held += i32::from((low..=high).contains(&(1.0 - score)));
        }
    }
    let share = |held| f64::from(held) / f64::from(asked);
    assert!((0.86..0.95).contains(&share(held)), "{}", share(held));
    assert!((0.86..0.95).contains(&share(p_held)), "{}", share(p_held));
    assert!(width / f64::from(asked) < 0.2, "{width}");
}

#[test]
fn intervals_hold_their_probability_and_narrow_with_rows() {
    let (few, many) = (sample(200, |s| s * s), sample(20_000, |s| s * s));
    for score in [-1.0, 0.0, 0.2, 0.55, 0.99, 5.0, f64::NAN, f64::INFINITY] {
        let widths = [&few, &many].map(|(scores, labels)| {
            let kinds = [
                Calibration::from(Isotonic::fit(scores, labels).unwrap()),
                Platt::fit(scores, labels).unwrap().into(),
                Conformal::fit(scores, 0.05).unwrap().into(),
            ];
            kinds.map(|calibration| {
                let interval = stored(calibration.clone()).interval(score, 0.95);
                assert_eq!(interval.probability, calibration.probability(score));
                assert!(
                    0.0 <= interval.low && interval.low <= interval.probability,
                    "{calibration:?}: {interval:?}"
                );
                assert!(
                    interval.probability <= interval.high && interval.high <= 1.0,
                    "{interval:?}"
                );
                interval.high - interval.low
            })
        });
        assert!(
            !score.is_finite() || widths[1][1] < widths[0][1],
            "{score}: {widths:?}"
        );
    }
    let prior = Platt::through((0.5, 0.01), (0.75, 0.95)).unwrap();
    assert_eq!(prior.interval(0.6, 0.95), Interval::sure(prior.probability(0.6)));
}
