use amoskys_core::Timestamp;

use super::*;
use crate::load;
use crate::testing::{schema, vector};

/// A column of numbers, encoded: the names of the features and what values become.
fn encoded(encoder: Encoder, training: &[f64], values: &[f64]) -> (Vec<String>, Vec<Vec<f64>>) {
    let schema = schema(&["before", "f", "after"]);
    let row = |value: f64| vector(&schema, &[7.0, value, 8.0]);
    let training: Vec<_> = training.iter().map(|&value| row(value)).collect();
    let fitted = encoder.fit(&["f"], &training).unwrap();
    let mut again = load(fitted.kind(), &fitted.to_bytes().unwrap()).unwrap();
    assert_eq!(again.output().digest(), fitted.output().digest());
    let names = fitted
        .output()
        .features()
        .iter()
        .map(|f| f.name.to_string())
        .collect();
    let encode = |&value: &f64| {
        let mut item = row(value);
        assert_eq!(again.transform(&mut item).unwrap(), Outcome::Keep);
        assert_eq!(item.schema.digest(), fitted.output().digest());
        assert_eq!((item.values[0], *item.values.last().unwrap()), (7.0, 8.0));
        item.values[1..item.values.len() - 1].to_vec()
    };
    (names, values.iter().map(encode).collect())
}

#[test]
fn one_hot() {
    let training = [6.0, 17.0, 6.0, 1.0, 17.0, f64::NAN];
    let (names, rows) = encoded(
        Encoder::OneHot { max_categories: 2 },
        &training,
        &[6.0, 17.0, 1.0, 99.0, f64::NAN],
    );
    assert_eq!(names, ["before", "f=6", "f=17", "f=other", "after"]);
    assert_eq!(
        rows,
        [
            [1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [0.0, 0.0, 1.0],
            [0.0, 0.0, 1.0],
            [0.0, 0.0, 0.0]
        ]
    );
}

#[test]
fn hashing() {
    let values: Vec<f64> = (0..100).map(f64::from).chain([f64::NAN, -0.0]).collect();
    let (names, rows) = encoded(Encoder::Hashing { buckets: 8 }, &[1.0], &values);
    assert_eq!(names.len(), 10);
    let (known, rest) = rows.split_at(100);
    assert!(known.iter().all(|row| row.iter().sum::<f64>() == 1.0));
    assert!(
        (0..8).all(|bucket| known.iter().any(|row| row[bucket] == 1.0)),
        "every bucket is used"
    );
    assert_eq!(rest[0], [0.0; 8]);
    assert_eq!(rest[1], known[0], "minus zero is zero");
}

#[test]
fn frequency_and_ordinal() {
    let training = [5.0, 5.0, 5.0, -2.0];
    let (_, rows) = encoded(Encoder::Frequency, &training, &[5.0, -2.0, 9.0, f64::NAN]);
    assert_eq!(rows[..3], [[0.75], [0.25], [0.0]]);
    assert!(rows[3][0].is_nan());
    let (names, rows) = encoded(Encoder::Ordinal, &training, &[5.0, -2.0, 9.0, f64::NAN]);
    assert_eq!(names[1], "f~ordinal");
    assert_eq!(rows[..3], [[1.0], [0.0], [-1.0]]);
    assert!(rows[3][0].is_nan());
}

#[test]
fn cyclic() {
    let (_, rows) = encoded(
        Encoder::Cyclic { period: 24.0 },
        &[0.0],
        &[0.0, 6.0, 23.99, 30.0, f64::NAN],
    );
    let near = |row: &[f64], sin: f64, cos: f64| (row[0] - sin).abs() < 1e-9 && (row[1] - cos).abs() < 1e-9;
    assert!(near(&rows[0], 0.0, 1.0) && near(&rows[1], 1.0, 0.0) && near(&rows[3], 1.0, 0.0));
    assert!((rows[2][0] - rows[0][0]).abs() < 0.01, "midnight is one place");
    assert!(rows[4].iter().all(|value| value.is_nan()));
}

#[test]
fn time_of_week() {
    let schema = schema(&["f"]);
    let mut transform = load(TimeOfWeek::KIND, &TimeOfWeek::new(&schema).to_bytes().unwrap()).unwrap();
    let mut item = vector(&schema, &[1.0]);
    // The epoch was a Thursday; a day and a half later.
    item.end = Timestamp::from_secs(129_600);
    transform.transform(&mut item).unwrap();
    let expected = [
        1.0,
        0.0,
        -1.0,
        (1.5 / 7.0 * std::f64::consts::TAU).sin(),
        (1.5 / 7.0 * std::f64::consts::TAU).cos(),
    ];
    assert!(
        item.values
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-9),
        "{:?}",
        item.values
    );
}

#[test]
fn bad_requests_are_refused() {
    let schema_f = schema(&["f"]);
    let data = [vector(&schema_f, &[1.0])];
    assert!(matches!(
        Encoder::Frequency.fit(&["g"], &data),
        Err(FitError::NoSuchFeature { .. })
    ));
    assert!(matches!(
        Encoder::Frequency.fit(&["f"], &[]),
        Err(FitError::Empty)
    ));
    for encoder in [
        Encoder::OneHot { max_categories: 0 },
        Encoder::Hashing { buckets: 0 },
        Encoder::Cyclic { period: 0.0 },
        Encoder::Cyclic { period: f64::NAN },
    ] {
        assert!(
            matches!(encoder.fit(&["f"], &data), Err(FitError::Parameter { .. })),
            "{encoder:?}"
        );
    }
    let mut fitted = Encoder::Frequency.fit(&["f"], &data).unwrap();
    let other = schema(&["f", "g"]);
    let mut item = vector(&other, &[1.0, 2.0]);
    assert!(fitted.transform(&mut item).is_err());
    assert_eq!(item.values, [1.0, 2.0], "a refused vector is left alone");
    assert_ne!(category("tcp"), category("udp"));
    assert_eq!(category("tcp").fract(), 0.0);
}
