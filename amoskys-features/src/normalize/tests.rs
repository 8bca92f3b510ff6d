use proptest::prelude::*;

use super::*;
use crate::load;
use crate::testing::{schema, vector};

const ALL: [Normalizer; 8] = [
    Normalizer::MinMax { clip: false },
    Normalizer::MinMax { clip: true },
    Normalizer::ZScore,
    Normalizer::Robust,
    Normalizer::RobustAsinh,
    Normalizer::SignedLog,
    Normalizer::Quantile {
        points: 100,
        normal: false,
    },
    Normalizer::Quantile {
        points: 100,
        normal: true,
    },
];

/// What values become after fitting on others, through the stored form.
fn normalized(normalizer: Normalizer, training: &[f64], values: &[f64]) -> Vec<f64> {
    let schema = schema(&["f"]);
    let training: Vec<_> = training.iter().map(|&value| vector(&schema, &[value])).collect();
    let fitted = normalizer.fit(&training).unwrap();
    let mut again = load(fitted.kind(), &fitted.to_bytes().unwrap()).unwrap();
    assert_ne!(
        again.output().digest(),
        schema.digest(),
        "a scaled value has no unit"
    );
    let scale = |&value: &f64| {
        let mut item = vector(&schema, &[value]);
        again.transform(&mut item).unwrap();
        item.values[0]
    };
    values.iter().map(scale).collect()
}

fn assert_close(found: &[f64], expected: &[f64]) {
    let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(close),
        "{found:?}, not {expected:?}"
    );
}

#[test]
fn known_values() {
    let training = [1.0, 2.0, 3.0, 4.0, 100.0];
    let values = [1.0, 3.0, 200.0];
    assert_close(
        &normalized(ALL[0], &training, &values),
        &[0.0, 2.0 / 99.0, 199.0 / 99.0],
    );
    assert_close(&normalized(ALL[1], &training, &values), &[0.0, 2.0 / 99.0, 1.0]);
    let deviation = (7610.0_f64 / 5.0).sqrt();
    assert_close(
        &normalized(ALL[2], &training, &values),
        &[-21.0 / deviation, -19.0 / deviation, 178.0 / deviation],
    );
    let robust = [-2.0, 0.0, 197.0].map(|apart| apart / (2.0 / 1.349));
    assert_close(&normalized(ALL[3], &training, &values), &robust);
    assert_close(&normalized(ALL[4], &training, &values), &robust.map(f64::asinh));
    assert_close(
        &normalized(ALL[5], &training, &[0.0, -1.0]),
        &[0.0, -(2.0_f64.ln())],
    );
    assert_close(
        &normalized(ALL[6], &training, &[0.0, 1.0, 2.0, 2.5, 100.0, 1e9]),
        &[0.0, 0.0, 0.25, 0.375, 1.0, 1.0],
    );
    assert_close(&normalized(ALL[7], &training, &[3.0]), &[0.0]);
    // Where the interquartile range is 0, the deviation takes its place.
    let mostly_zero = [0.0, 0.0, 0.0, 0.0, 10.0];
    assert_close(&normalized(ALL[3], &mostly_zero, &[10.0]), &[10.0 / 4.0]);
}

#[test]
fn missing_infinite_and_constant_values() {
    for normalizer in ALL {
        let missing = normalized(
            normalizer,
            &[1.0, f64::NAN, 3.0, f64::INFINITY, 2.0],
            &[f64::NAN, f64::INFINITY, 3.0],
        );
        assert!(missing[0].is_nan(), "{normalizer:?}");
        assert_eq!(
            missing[1], missing[2],
            "{normalizer:?}: infinite is as large as the largest"
        );
        let constant = normalized(normalizer, &[5.0, 5.0], &[5.0, 6.0]);
        assert!(constant.iter().all(|value| value.is_finite()), "{normalizer:?}");
        assert!(
            constant[1] > constant[0],
            "{normalizer:?}: a change from the constant shows"
        );
        assert!(
            normalized(normalizer, &[f64::NAN], &[1.0])[0].is_nan(),
            "{normalizer:?}"
        );
    }
}

#[test]
fn bad_requests_are_refused() {
    let (f, g) = (schema(&["f"]), schema(&["g"]));
    assert!(matches!(Normalizer::ZScore.fit(&[]), Err(FitError::Empty)));
    let mixed = [vector(&f, &[1.0]), vector(&g, &[1.0])];
    assert!(matches!(
        Normalizer::ZScore.fit(&mixed),
        Err(FitError::MixedSchemas { at: 1, .. })
    ));
    let short = [vector(&f, &[])];
    assert!(matches!(
        Normalizer::ZScore.fit(&short),
        Err(FitError::Length { .. })
    ));
    let one = Normalizer::Quantile {
        points: 1,
        normal: false,
    };
    assert!(matches!(
        one.fit(&[vector(&f, &[1.0])]),
        Err(FitError::Parameter { .. })
    ));

    let mut fitted = Normalizer::ZScore.fit(&[vector(&f, &[1.0])]).unwrap();
    assert!(
        fitted.transform(&mut vector(&g, &[1.0])).is_err(),
        "another schema"
    );
    assert!(
        fitted.transform(&mut vector(&f, &[1.0, 2.0])).is_err(),
        "another length"
    );
    assert!(load("oracle", &[]).is_err());
    assert!(
        load("encoder", &fitted.to_bytes().unwrap()).is_err(),
        "another kind"
    );
}

#[test]
fn keep_the_promises_of_a_transform() {
    let schema = schema(&["f", "g"]);
    let rows = [[1.0, f64::NAN], [2.0, 5.0], [f64::INFINITY, -7.0]];
    let items: Vec<_> = rows.iter().map(|row| vector(&schema, row)).collect();
    for normalizer in ALL {
        let fitted = normalizer.fit(&items).unwrap();
        amoskys_core::conformance::transform(|| fitted.clone(), &items);
    }
    let streaming = StreamingNormalizer::new(StreamingScale::ZScore, &schema);
    amoskys_core::conformance::transform(|| streaming.clone(), &items);
}

#[test]
fn streaming_agrees_with_batch_on_the_last_value() {
    let schema = schema(&["f"]);
    let values = [3.0, -1.0, 4.0, f64::NAN, 10.0, 2.0];
    for (scale, expected) in [
        (StreamingScale::MinMax, 3.0 / 11.0),
        (StreamingScale::ZScore, (2.0 - 3.6) / 4.037_325_847_637_27),
    ] {
        let mut streaming = StreamingNormalizer::new(scale, &schema);
        let mut last = f64::NAN;
        for value in values {
            let bytes = postcard::to_allocvec(&streaming).unwrap();
            streaming = postcard::from_bytes(&bytes).unwrap();
            let mut item = vector(&schema, &[value]);
            streaming.transform(&mut item).unwrap();
            assert_eq!(item.values[0].is_nan(), value.is_nan());
            last = item.values[0];
        }
        assert!((last - expected).abs() < 1e-9, "{scale:?}: {last}");
    }
}

proptest! {
    #[test]
    fn order_is_kept_and_the_stored_form_is_exact(
        training in proptest::collection::vec(prop_oneof![-1e3..1e3_f64, Just(0.0), any::<f64>()], 1..60),
        mut values in proptest::collection::vec(prop_oneof![-1e4..1e4_f64, any::<f64>()], 2..20),
    ) {
        values.retain(|value| !value.is_nan());
        values.sort_by(f64::total_cmp);
        let schema = schema(&["f"]);
        let rows: Vec<_> = training.iter().map(|&value| vector(&schema, &[value])).collect();
        for normalizer in ALL {
            let fitted = normalizer.fit(&rows).unwrap();
            let stored = fitted.to_bytes().unwrap();
            let again = load(fitted.kind(), &stored).unwrap();
            prop_assert_eq!(again.to_bytes().unwrap(), stored);
            let out: Vec<f64> = values.iter().map(|&value| fitted.values(&vector(&schema, &[value]))[0]).collect();
            // Values near the largest float may overflow on the way; then there is no order to keep.
            if out.iter().all(|value| value.is_finite()) {
                let finite: Vec<f64> = values.iter().zip(&out).filter(|(v, _)| v.is_finite()).map(|(_, o)| *o).collect();
                prop_assert!(finite.windows(2).all(|pair| pair[0] <= pair[1] + 1e-9 * pair[0].abs()), "{:?}: {:?}", normalizer, out);
            }
        }
    }
}

#[test]
fn streaming_scales_come_to_what_fitting_comes_to() {
    let schema = schema(&["x"]);
    let values: Vec<f64> = (0..2000).map(|n| f64::from(n * 7919 % 2000) + 100.0).collect();
    let data: Vec<FeatureVector> = values.iter().map(|&value| vector(&schema, &[value])).collect();
    for (scale, normalizer, within) in [
        (StreamingScale::MinMax, Normalizer::MinMax { clip: false }, 1e-9),
        (StreamingScale::ZScore, Normalizer::ZScore, 0.01),
        (StreamingScale::Robust, Normalizer::Robust, 0.04),
        (
            StreamingScale::Quantile,
            Normalizer::Quantile {
                points: 1000,
                normal: false,
            },
            0.03,
        ),
        (StreamingScale::SignedLog, Normalizer::SignedLog, 1e-12),
    ] {
        let fitted = normalizer.fit(&data).unwrap();
        let mut streaming = StreamingNormalizer::new(scale, &schema);
        for value in &values {
            streaming.transform(&mut vector(&schema, &[*value])).unwrap();
        }
        let bytes = streaming.to_bytes().unwrap();
        let mut again = StreamingNormalizer::from_bytes(&schema, &bytes).unwrap();
        for value in [100.0, 700.0, 1500.0, 2099.0] {
            let (mut a, mut b) = (vector(&schema, &[value]), vector(&schema, &[value]));
            streaming.transform(&mut a).unwrap();
            again.transform(&mut b).unwrap();
            assert_eq!(a.values[0].to_bits(), b.values[0].to_bits());
            let expected = fitted.values(&vector(&schema, &[value]))[0];
            assert!(
                (a.values[0] - expected).abs() <= within,
                "{scale:?} of {value}: {} for {expected}",
                a.values[0]
            );
        }
        let mut missing = vector(&schema, &[f64::NAN]);
        streaming.transform(&mut missing).unwrap();
        assert!(missing.values[0].is_nan());
        let mut endless = vector(&schema, &[f64::INFINITY]);
        streaming.transform(&mut endless).unwrap();
        assert!(scale == StreamingScale::SignedLog || endless.values[0].is_finite());
        assert!(StreamingNormalizer::from_bytes(&crate::testing::schema(&["y"]), &bytes).is_err());
    }
}
