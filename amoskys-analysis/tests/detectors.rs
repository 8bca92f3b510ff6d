//! The detectors score as established implementations do, and the same on any number of threads, after storing, and in any
//! order of rows; bad input is refused.
#![cfg(feature = "linfa")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::num::NonZeroUsize;

use amoskys_analysis::detectors::{
    AutoencoderEnsembleParams, Copod, CopodParams, Detector, DetectorError, Ecod, EcodParams, Ensemble,
    EnsembleParams, ExtendedIsolationForest, ExtendedIsolationForestParams, FitScore, GaussianMixture,
    GaussianMixtureParams, HalfSpaceTreesParams, Hbos, HbosParams, Knn, KnnDistance, KnnParams, Loda,
    LodaParams, Lof, LofParams, NearestSample, NearestSampleParams, NoveltyParams, OneClassSvm,
    OneClassSvmParams, Pca, PcaParams, PcaScore, RandomCutForestParams, StoredDetector,
};
use amoskys_analysis::model::{ModelFile, ModelFileError, Origin};
use amoskys_core::FeatureSchema;
use linfa::DatasetBase;
use linfa::traits::{Fit, Predict as _};
use ndarray::{Array1, Array2, Axis, ShapeBuilder as _, array};
use proptest::prelude::*;

/// Nearly normal numbers of a fixed sequence: sums of six even ones.
struct Normal(u64);

impl Normal {
    fn next(&mut self) -> f64 {
        let mut unit = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..6).map(|_| unit()).sum::<f64>() - 3.0
    }
}

/// 400 rows of six columns: one correlated with two others, one of few values; every 20th row is far out in one column,
/// every 50th equals an earlier one.
fn crowd() -> Array2<f64> {
    let mut normal = Normal(7);
    let mut rows: Vec<[f64; 6]> = Vec::new();
    for n in 0..400 {
        let mut row: [f64; 6] = std::array::from_fn(|_| normal.next());
        row[5] = row[0] + 0.5 * row[1] + 0.1 * row[5];
        row[3] = (4.0 * row[3]).floor() / 4.0;
        if n % 20 == 0 {
            row[n / 20 % 6] += if n % 40 == 0 { -5.0 } else { 5.0 };
        }
        if n % 50 == 7 {
            row = rows[n - 5];
        }
        rows.push(row);
    }
    Array2::from(rows)
}

/// 150 rows of so many columns that neighbours are found by all distances.
fn wide() -> Array2<f64> {
    let mut normal = Normal(11);
    Array2::from_shape_simple_fn((150, 40), || normal.next())
}

fn scores(params: &impl FitScore, rows: &Array2<f64>) -> Array1<f64> {
    params.fit_score(rows.view()).unwrap().1
}

/// Compares the scores of some rows, and the sum of all, with those of PyOD 3.6.7 on scikit-learn 1.9.1: the same rows made by
/// the same sequence in Python, `Detector().fit(X).decision_scores_`, printed with twelve digits.
fn assert_as_pyod(params: &impl FitScore, rows: &Array2<f64>, expected: &[f64], sum: f64, tolerance: f64) {
    let scores = scores(params, rows);
    for (at, expected) in [0, 1, 20, 40, 57, 52, 199, 300].into_iter().zip(expected) {
        let apart = (scores[at] - expected).abs() / expected.abs();
        assert!(
            apart < tolerance,
            "row {at}: {} instead of {expected}",
            scores[at]
        );
    }
    assert!(
        (scores.sum() - sum).abs() / sum < tolerance,
        "{} instead of {sum}",
        scores.sum()
    );
}

#[test]
fn hbos_as_pyod() {
    let expected = [
        8.286865843398,
        10.37420169671,
        9.583833634993,
        7.803056493034,
        6.911176240206,
        6.911176240206,
        6.839867089585,
        7.050950869861,
    ];
    assert_as_pyod(&Hbos::params(), &crowd(), &expected, 2914.037983651, 1e-9);
}

#[test]
fn ecod_as_pyod() {
    let expected = [
        10.901995825046,
        14.731366325855,
        13.820593515368,
        11.837829671565,
        8.568704318738,
        8.568704318738,
        9.051395258834,
        9.467456370756,
    ];
    assert_as_pyod(&Ecod::params(), &crowd(), &expected, 3940.822286536, 1e-9);
}

#[test]
fn copod_as_pyod() {
    let expected = [
        10.446465983818,
        12.503373024982,
        12.766285643245,
        11.615957758103,
        7.308175726566,
        7.308175726566,
        6.777685489374,
        9.287283109676,
    ];
    assert_as_pyod(&Copod::params(), &crowd(), &expected, 3133.453348564, 1e-9);
}

#[test]
fn neighbours_as_pyod() {
    let expected = [
        3.902362262241,
        1.634875004582,
        4.307350339418,
        4.139178775408,
        0.818392916662,
        0.818392916662,
        0.928658886427,
        3.413267600912,
    ];
    assert_as_pyod(&Knn::params(), &crowd(), &expected, 452.668430655, 1e-9);
    let mean = Knn::params().neighbours(10).distance(KnnDistance::Mean);
    assert_as_pyod(
        &mean,
        &crowd(),
        &[3.371442665936, 1.52264515107],
        439.110537068,
        1e-9,
    );
    let expected = [5.502076618389, 5.75256907271, 4.590258690625, 5.432230834285];
    assert_as_pyod(&Knn::params(), &wide(), &expected, 778.512298007, 1e-9);
}

#[test]
fn lof_as_pyod() {
    let expected = [
        2.604168355672,
        1.386901683053,
        3.021104641974,
        2.732781477828,
        1.031886516835,
        1.031886516835,
        1.042866460727,
        2.527528273837,
    ];
    assert_as_pyod(&Lof::params(), &crowd(), &expected, 464.770121339, 1e-9);
    let expected = [1.027932836645, 1.100207024836, 0.987847554674, 1.027216325854];
    assert_as_pyod(&Lof::params(), &wide(), &expected, 153.029215858, 1e-9);
}

#[test]
fn pca_as_pyod() {
    let expected = [
        285.412040561904,
        164.451349427648,
        306.878677134185,
        320.955419659071,
        95.290985975044,
        95.290985975044,
        107.800004693027,
        254.712568530422,
    ];
    assert_as_pyod(&Pca::params(), &crowd(), &expected, 46472.180209373, 1e-9);
}

#[test]
fn one_class_svm_as_pyod() {
    let expected = [
        53.2905662589,
        25.1997682447,
        54.9859864222,
        54.4905790951,
        -6.60483715604,
        -6.60483715604,
        -1.68529321596,
        52.010416725,
    ];
    let params = OneClassSvm::params().tolerance(1e-9);
    assert_as_pyod(&params, &crowd(), &expected, 947.960088049, 1e-6);
    // Fewer outside, and a narrower kernel: the bound of the share holds.
    let (model, scores) = params.nu(0.1).gamma(0.5).fit_score(crowd().view()).unwrap();
    assert!((scores.sum() + 68.0156055229).abs() < 1e-4, "{}", scores.sum());
    assert!((scores[57] + 0.327233399069).abs() < 1e-6);
    assert!(scores.iter().filter(|score| **score > 1e-6).count() <= 40 && model.support_vectors() >= 40);
}

#[test]
fn mixture_as_pyod() {
    let expected = [
        36.796625977,
        8.86397810708,
        27.5251716111,
        25.9803765631,
        5.58174598481,
        5.58174598481,
        5.94471901636,
        18.8743479214,
    ];
    // PyOD adds its millionth to variances in the columns' units, and not in units of their variances.
    let params = GaussianMixture::params();
    assert_as_pyod(&params, &crowd(), &expected, 2903.94836633, 2e-3);
}

/// Two groups of normal rows, and the density of both in between.
#[test]
fn a_mixture_finds_the_groups() {
    let mut normal = Normal(5);
    let rows = Array2::from_shape_fn((20_000, 2), |(row, column)| {
        let middle = if row % 4 == 0 { [30.0, 0.0] } else { [0.0, 0.0] };
        middle[column] + normal.next()
    });
    let model = GaussianMixture::params()
        .components(2)
        .fit(&DatasetBase::from(rows))
        .unwrap();
    assert_eq!(model.components(), 2);
    let scores = model
        .score(array![[0.0, 0.0], [30.0, 0.0], [15.0, 0.0]].view())
        .unwrap();
    // A sum of six even numbers has variance one half: its density in the middle of two columns is 1 / pi.
    let density = |share: f64| -(share / std::f64::consts::PI).ln();
    assert!((scores[0] - density(0.75)).abs() < 0.1, "{scores}");
    assert!((scores[1] - density(0.25)).abs() < 0.2, "{scores}");
    assert!(scores[2] > 100.0);
}

#[test]
fn a_far_row_and_many_columns_leave_a_mixture_standing() {
    let mut normal = Normal(5);
    let mut rows = Array2::from_shape_simple_fn((3000, 40), || normal.next());
    rows.row_mut(7).fill(1e9);
    let scores = scores(&GaussianMixture::params().components(3), &rows);
    let highest = (0..3000).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    assert_eq!(highest, Some(7));
    let wide = Array2::zeros((3, 5000));
    assert!(matches!(
        GaussianMixture::params().fit_score(wide.view()),
        Err(DetectorError::TooWide {
            most: 4096,
            columns: 5000
        })
    ));
}

#[test]
fn more_rows_than_a_one_class_svm_can_take_are_refused() {
    let refused = OneClassSvm::params().fit_score(Array2::zeros((10_001, 2)).view());
    assert!(matches!(
        refused,
        Err(DetectorError::TooMany {
            most: 10_000,
            rows: 10_001
        })
    ));
}

/// What holds for every detector.
fn check<P, M>(params: impl Fn(NonZeroUsize) -> P, part: &str)
where
    P: FitScore<Model = M> + Fit<Array2<f64>, Array1<()>, DetectorError, Object = M>,
    M: StoredDetector + PartialEq + std::fmt::Debug + linfa::traits::PredictInplace<Array2<f64>, Array1<f64>>,
{
    let rows = crowd();
    let one = params(NonZeroUsize::MIN);
    let (model, trained) = one.fit_score(rows.view()).unwrap();
    let bits = |scores: &Array1<f64>| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
    let scored = model.score(rows.view()).unwrap();

    // Threads change no bit; nor does linfa's way in, another layout, or the company a row comes in.
    for threads in [2, 3, 64].map(|threads| NonZeroUsize::new(threads).unwrap()) {
        let (other, again) = params(threads).fit_score(rows.view()).unwrap();
        assert_eq!(other, model);
        assert_eq!(bits(&again), bits(&trained));
        assert_eq!(
            bits(&model.score_parallel(rows.view(), threads).unwrap()),
            bits(&scored)
        );
    }
    let dataset = DatasetBase::new(rows.clone(), Array1::from_elem(rows.nrows(), ()));
    assert_eq!(one.fit(&dataset).unwrap(), model);
    assert_eq!(bits(&model.predict(&rows)), bits(&scored));
    let mut by_columns = Array2::zeros(rows.raw_dim().f());
    by_columns.assign(&rows);
    assert_eq!(bits(&model.score(by_columns.view()).unwrap()), bits(&scored));
    for at in [0, 57, 399] {
        let alone = model.score(rows.select(Axis(0), &[at]).view()).unwrap();
        assert_eq!(alone[0].to_bits(), scored[at].to_bits(), "row {at}");
    }

    // A model file keeps every bit, and damage is refused or harmless.
    let mut file = ModelFile::new(
        "test",
        "1",
        FeatureSchema::new("six", Vec::new()),
        Origin::default(),
    );
    assert!(matches!(M::load(&file), Err(ModelFileError::Missing { .. })));
    model.store(&mut file).unwrap();
    assert_eq!(file.parts().collect::<Vec<_>>(), [part]);
    let loaded = M::load(&ModelFile::from_bytes(&file.to_bytes().unwrap()).unwrap()).unwrap();
    assert_eq!(loaded, model);
    assert_eq!(bits(&loaded.score(rows.view()).unwrap()), bits(&scored));
    let stored = postcard::to_allocvec(&model).unwrap();
    for at in (0..stored.len()).step_by(stored.len() / 60 + 1) {
        for bit in [0, 5, 7] {
            let mut damaged = stored.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(model) = postcard::from_bytes::<M>(&damaged) {
                let _ = model.score(Array2::zeros((3, model.columns())).view());
            }
        }
        assert!(postcard::from_bytes::<M>(&stored[..at]).is_err());
    }

    // Far rows are more anomalous than those in the middle of the crowd.
    let mut ordered = trained.to_vec();
    ordered.sort_by(f64::total_cmp);
    let far: Vec<f64> = trained.iter().copied().step_by(20).collect();
    assert!(
        far.iter().sum::<f64>() / far.len() as f64 > ordered[300],
        "{far:?}"
    );

    // A column of one value says nothing about any row.
    let mut constant = Array2::from_elem((rows.nrows(), 7), 3.25);
    constant.slice_axis_mut(Axis(1), (0..6).into()).assign(&rows);
    let with_constant = scores(&one, &constant);
    assert!(with_constant.iter().all(|score| score.is_finite()));

    // Refusals.
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut rows = rows.clone();
        rows[[7, 4]] = wrong;
        let refused = |error| {
            matches!(
                error,
                Some(DetectorError::NotFinite {
                    row: 7,
                    column: 4,
                    ..
                })
            )
        };
        assert!(refused(one.fit_score(rows.view()).err()));
        assert!(refused(model.score(rows.view()).err()));
    }
    let narrow = model.score(array![[1.0, 2.0]].view());
    assert!(matches!(
        narrow,
        Err(DetectorError::Columns {
            expected: 6,
            found: 2
        })
    ));
    let alone = one.fit_score(array![[1.0, 2.0]].view());
    assert!(matches!(alone, Err(DetectorError::TooFew { needed: 2, rows: 1 })));
    assert!(matches!(
        one.fit_score(Array2::zeros((5, 0)).view()),
        Err(DetectorError::Shape { columns: 0 })
    ));
    assert_eq!(model.score(Array2::zeros((0, 6)).view()).unwrap().len(), 0);
}

macro_rules! every_detector {
    ($($test:ident: $params:ident, $part:literal;)*) => {
        $(#[test]
        fn $test() {
            check(|threads| $params::new().threads(threads), $part);
        })*

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(32))]

            #[test]
            fn any_finite_rows_give_scores(
                values in proptest::collection::vec(prop_oneof![any::<f64>(), Just(0.0), Just(1.0), -1.0..1.0_f64], 8..60),
            ) {
                let finite: Vec<f64> = values.into_iter().map(|v| if v.abs() < 1e100 { v } else { -2.0 }).collect();
                let rows = finite.len() / 4;
                let rows = Array2::from_shape_vec((rows, 4), finite[..rows * 4].to_vec()).unwrap();
                $({
                    let (model, scores) = $params::new().fit_score(rows.view()).unwrap();
                    prop_assert!(scores.iter().all(|score| !score.is_nan()), $part);
                    let stored: Vec<u8> = postcard::to_allocvec(&model).unwrap();
                    let (read, _) = (postcard::from_bytes(&stored), prop_assert_eq!(model.columns(), 4));
                    prop_assert!(read.is_ok_and(|read| same(&read, &model)), $part);
                })*
            }
        }
    };
}

fn same<M: PartialEq>(a: &M, b: &M) -> bool {
    a == b
}

every_detector! {
    hbos: HbosParams, "hbos";
    ecod: EcodParams, "ecod";
    copod: CopodParams, "copod";
    loda: LodaParams, "loda";
    knn: KnnParams, "knn";
    lof: LofParams, "lof";
    pca: PcaParams, "pca";
    one_class_svm: OneClassSvmParams, "one_class_svm";
    gaussian_mixture: GaussianMixtureParams, "gaussian_mixture";
    extended_isolation_forest: ExtendedIsolationForestParams, "extended_isolation_forest";
    nearest_sample: NearestSampleParams, "nearest_sample";
    ensemble: EnsembleParams, "ensemble";
    novelty: NoveltyParams, "novelty";
    half_space_trees: HalfSpaceTreesParams, "half_space_trees";
    random_cut_forest: RandomCutForestParams, "random_cut_forest";
    autoencoder_ensemble: AutoencoderEnsembleParams, "autoencoder_ensemble";
}

#[test]
fn novelty_of_a_draw_of_the_rows() {
    let rows = crowd();
    let (all, of_all) = NoveltyParams::new().fit_score(rows.view()).unwrap();
    let (few, of_few) = NoveltyParams::new().most_rows(60).fit_score(rows.view()).unwrap();
    // Fewer rows to be near to: none is nearer, but for those that vouch for themselves.
    let (all, few) = (all.score(rows.view()).unwrap(), few.score(rows.view()).unwrap());
    assert!(all.iter().zip(&few).all(|(all, few)| few >= all));
    assert!(of_all.iter().zip(&of_few).all(|(all, few)| few >= all));
    let mut ordered = of_few.to_vec();
    ordered.sort_by(f64::total_cmp);
    let far = of_few.iter().step_by(20).sum::<f64>() / 20.0;
    assert!(far > ordered[320], "{far}");
    let refused = NoveltyParams::new().most_rows(1).fit_score(rows.view());
    assert!(matches!(refused, Err(DetectorError::Parameter { .. })));
}

/// Detectors that draw no rows do not care about the order of rows, but for rounding.
#[test]
fn the_order_of_rows_does_not_matter() {
    let rows = crowd();
    let order: Vec<usize> = (0..400).map(|n| n * 147 % 400).collect();
    let shuffled = rows.select(Axis(0), &order);
    fn compare(params: &impl FitScore, order: &[usize], rows: &Array2<f64>, shuffled: &Array2<f64>) {
        let (before, after) = (scores(params, rows), scores(params, shuffled));
        for (at, &from) in order.iter().enumerate() {
            assert!(
                (after[at] - before[from]).abs() < 1e-9 * before[from].abs(),
                "row {from}"
            );
        }
    }
    compare(&Hbos::params(), &order, &rows, &shuffled);
    compare(&Ecod::params(), &order, &rows, &shuffled);
    compare(&Copod::params(), &order, &rows, &shuffled);
    compare(&Loda::params(), &order, &rows, &shuffled);
    compare(&Knn::params(), &order, &rows, &shuffled);
    compare(&Lof::params(), &order, &rows, &shuffled);
    compare(&Pca::params(), &order, &rows, &shuffled);
    compare(
        &Pca::params().score(PcaScore::Variances),
        &order,
        &rows,
        &shuffled,
    );
}

#[test]
fn seeds_matter_where_rows_are_drawn() {
    let rows = crowd();
    assert_ne!(
        scores(&Loda::params().seed(1), &rows),
        scores(&Loda::params(), &rows)
    );
    assert_ne!(
        scores(&NearestSample::params().seed(1), &rows),
        scores(&NearestSample::params(), &rows)
    );
    assert_ne!(
        scores(&Ensemble::params().seed(1), &rows),
        scores(&Ensemble::params(), &rows)
    );
    let forest = ExtendedIsolationForest::params;
    assert_ne!(scores(&forest().seed(1), &rows), scores(&forest(), &rows));
}

#[test]
fn parameters_out_of_range_are_refused() {
    let rows = crowd();
    fn refused(params: &impl FitScore, rows: &Array2<f64>) {
        let error = params.fit_score(rows.view()).err();
        assert!(matches!(error, Some(DetectorError::Parameter { .. })));
    }
    refused(&Hbos::params().bins(1), &rows);
    refused(&OneClassSvm::params().nu(0.0), &rows);
    refused(&OneClassSvm::params().gamma(f64::NAN), &rows);
    refused(&OneClassSvm::params().tolerance(0.0), &rows);
    refused(&GaussianMixture::params().components(0), &rows);
    refused(&Hbos::params().regularizer(0.0), &rows);
    refused(&Hbos::params().tolerance(f64::NAN), &rows);
    refused(&Loda::params().projections(0), &rows);
    refused(&Loda::params().bins(5000), &rows);
    refused(&Knn::params().neighbours(0), &rows);
    refused(&Lof::params().neighbours(1001), &rows);
    refused(&ExtendedIsolationForest::params().trees(0), &rows);
    refused(&ExtendedIsolationForest::params().max_samples(1), &rows);
    refused(&ExtendedIsolationForest::params().cut_columns(0), &rows);
    refused(&NearestSample::params().samples(0), &rows);
    refused(&NearestSample::params().rows(1), &rows);
}

/// Crowds of equal rows cost nothing extra, and count each.
#[test]
fn equal_rows_are_each_other_s_neighbours() {
    let mut rows = Array2::zeros((20_000, 3));
    rows.row_mut(7).fill(1.0);
    rows.row_mut(8).fill(1.0);
    let (model, knn) = Knn::params().neighbours(2).fit_score(rows.view()).unwrap();
    assert_eq!((knn[0], knn[7], knn[8]), (0.0, 3.0_f64.sqrt(), 3.0_f64.sqrt()));
    // A new row finds both, and is none of them.
    assert_eq!(model.score(array![[1.0, 1.0, 1.0]].view()).unwrap()[0], 0.0);
    let lof = scores(&Lof::params(), &rows);
    assert!((lof[0] - 1.0).abs() < 1e-9 && lof[7] > 1e6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against sorting all distances.
    #[test]
    fn neighbours_are_the_nearest(
        values in proptest::collection::vec(prop_oneof![(0_i8..4).prop_map(f64::from), -3.0..3.0_f64], 34..600),
        columns in prop_oneof![1_usize..6, 16_usize..18],
        k in 1_usize..8,
    ) {
        let count = values.len() / columns;
        let rows = Array2::from_shape_vec((count, columns), values[..count * columns].to_vec()).unwrap();
        let (model, trained) = Knn::params().neighbours(k).fit_score(rows.view()).unwrap();
        let scored = model.score(rows.view()).unwrap();
        for at in 0..count {
            let mut distances: Vec<f64> = rows.outer_iter().map(|other| {
                (&other - &rows.row(at)).mapv(|apart| apart * apart).sum().sqrt()
            }).collect();
            distances.sort_by(f64::total_cmp);
            prop_assert!((scored[at] - distances[(k - 1).min(count - 1)]).abs() < 1e-9);
            prop_assert!((trained[at] - distances[k.min(count - 1)]).abs() < 1e-9);
        }
    }
}
