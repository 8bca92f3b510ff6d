//! Whatever the bytes of a stored model are: an error, or a model that scores; never a panic, never memory out of proportion.
#![cfg(feature = "linfa")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use amoskys_analysis::boost::{BoostedClasses, BoostedTrees};
use amoskys_analysis::calibrate::Calibration;
use amoskys_analysis::detectors::{
    AutoencoderEnsemble, AutoencoderEnsembleParams, CopodParams, Detector, EcodParams, EnsembleParams,
    ExtendedIsolationForestParams, FitScore, GaussianMixtureParams, HalfSpaceTrees, HalfSpaceTreesParams,
    HbosParams, KnnParams, LodaParams, LofParams, NearestSampleParams, NoveltyParams, OneClassSvmParams,
    PcaParams, RandomCutForest, RandomCutForestParams, Stacking, StoredDetector,
};
use amoskys_analysis::explain::Explainer;
use amoskys_analysis::iforest::{IsolationForest, Rows};
use amoskys_analysis::sequence::{CallModel, CallParams, TraceModel, TraceParams};
use linfa::Dataset;
use linfa::traits::Fit as _;
use ndarray::{Array1, Array2};
use proptest::prelude::*;
use serde::de::DeserializeOwned;

/// What decoding and scoring may hold for each stored byte, and besides. Many models keep an index beside what is stored, and a
/// few bytes may ask for a table that is filled with zeros.
const FACTOR: usize = 256;
const FIXED: usize = 16 << 20;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator, which counts what each thread takes.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory it manages, and
// takes none, because the counters are constant-initialised thread-locals without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.get().wrapping_add(layout.size());
        HELD.set(held);
        // Another thread's memory may be given back here, which looks like less than nothing.
        if held < usize::MAX / 2 && held > MOST.get() {
            MOST.set(held);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Something done to stored bytes; places and lengths are shares of them.
#[derive(Clone, Debug)]
enum Damage {
    Set(f64, u8),
    /// A number that goes on, as lengths are stored.
    Lengthen(f64),
    Cut(f64),
    Remove(f64, usize),
    Repeat(f64, usize),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    // Lengths and kinds stand first.
    let place = prop_oneof![0.0..1.0_f64, 0.0..0.02_f64];
    let one = prop_oneof![
        4 => (place.clone(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        2 => place.clone().prop_map(Damage::Lengthen),
        1 => place.clone().prop_map(Damage::Cut),
        1 => (place.clone(), 1_usize..40).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (place, 1_usize..40).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ];
    proptest::collection::vec(one, 1..5)
}

fn damaged(stored: &[u8], damage: &[Damage]) -> Vec<u8> {
    let mut bytes = stored.to_vec();
    for one in damage {
        let place = |share: f64| ((share * bytes.len() as f64) as usize).min(bytes.len().saturating_sub(1));
        match *one {
            _ if bytes.is_empty() => {}
            Damage::Set(at, byte) => {
                let at = place(at);
                bytes[at] = byte;
            }
            Damage::Lengthen(at) => {
                let at = place(at);
                bytes.splice(at..at, [0xff, 0xff, 0xff, 0x7f]);
            }
            Damage::Cut(at) => bytes.truncate(place(at)),
            Damage::Remove(at, length) => {
                let at = place(at);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Damage::Repeat(at, length) => {
                let at = place(at);
                let again = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// Decodes, and does with what was decoded what a user would.
fn bounded<M: DeserializeOwned>(name: &str, bytes: &[u8], then: impl FnOnce(M)) -> Result<(), TestCaseError> {
    let before = HELD.get();
    MOST.set(before);
    if let Ok(model) = postcard::from_bytes::<M>(bytes) {
        then(model);
    }
    let held = MOST.get().saturating_sub(before);
    prop_assert!(
        held <= bytes.len() * FACTOR + FIXED,
        "{name}: {} bytes took {held} bytes of memory",
        bytes.len()
    );
    Ok(())
}

fn score(model: &dyn Detector) {
    // What says that it has so many columns must hold as much.
    let columns = model.columns();
    let rows = Array2::from_shape_fn((3, columns), |(row, column)| {
        (row * 7 + column) as f64 * 0.1 - 1.0
    });
    let _ = model.score(rows.view());
}

/// Rows of four columns, some of them far out.
fn rows() -> Array2<f64> {
    let mut state = 5_u64;
    let mut even = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    Array2::from_shape_fn((90, 4), |(row, _)| even() + if row % 30 == 0 { 3.0 } else { 0.0 })
}

fn fitted<P: FitScore>(params: &P) -> P::Model {
    params.fit_score(rows().view()).unwrap().0
}

macro_rules! detectors {
    ($($name:ident: $make:expr;)*) => {
        $(
            mod $name {
                use super::*;

                /// Says the type that was made, so that it can be read again.
                fn read_again<M: StoredDetector>(_: &M, bytes: &[u8]) -> Result<(), TestCaseError> {
                    bounded::<M>(stringify!($name), bytes, |model| score(&model))
                }

                #[test]
                fn takes_any_bytes() {
                    let model = $make;
                    let stored = postcard::to_allocvec(&model).unwrap();
                    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
                    proptest!(config, |(damage in damage())| {
                        read_again(&model, &damaged(&stored, &damage))?;
                    });
                }
            }
        )*
    };
}

detectors! {
    hbos: fitted(&HbosParams::new());
    ecod: fitted(&EcodParams::new());
    copod: fitted(&CopodParams::new());
    loda: fitted(&LodaParams::new());
    knn: fitted(&KnnParams::new());
    lof: fitted(&LofParams::new());
    pca: fitted(&PcaParams::new());
    one_class_svm: fitted(&OneClassSvmParams::new());
    gaussian_mixture: fitted(&GaussianMixtureParams::new().components(2));
    extended_isolation_forest: fitted(&ExtendedIsolationForestParams::new());
    nearest_sample: fitted(&NearestSampleParams::new());
    ensemble: fitted(&EnsembleParams::new());
    novelty: fitted(&NoveltyParams::new());
    half_space_trees: fitted(&HalfSpaceTreesParams::new());
    random_cut_forest: fitted(&RandomCutForestParams::new());
    autoencoder_ensemble: fitted(&AutoencoderEnsembleParams::new());
    boosted_trees: BoostedTrees::params().trees(5).fit(&Dataset::new(rows(), labels())).unwrap();
    stacking: Stacking::params().fit(&Dataset::new(rows(), labels())).unwrap();
}

fn labels() -> Array1<bool> {
    (0..90).map(|row| row % 3 == 0).collect()
}

/// Streaming detectors go on learning after they were read.
fn observe<M: amoskys_analysis::detectors::StreamingDetector>(mut model: M) {
    let row = vec![0.5; model.columns()];
    for _ in 0..300 {
        let _ = model.observe(&row);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn streams_go_on_after_any_bytes(damage in damage()) {
        let half = postcard::to_allocvec(&fitted(&HalfSpaceTreesParams::new())).unwrap();
        bounded::<HalfSpaceTrees>("half-space trees", &damaged(&half, &damage), observe)?;
        let cut = postcard::to_allocvec(&fitted(&RandomCutForestParams::new().trees(5))).unwrap();
        bounded::<RandomCutForest>("cut forest", &damaged(&cut, &damage), observe)?;
        let auto = postcard::to_allocvec(&fitted(&AutoencoderEnsembleParams::new())).unwrap();
        bounded::<AutoencoderEnsemble>("autoencoders", &damaged(&auto, &damage), observe)?;
    }

    #[test]
    fn other_stored_parts_take_any_bytes(damage in damage()) {
        let rows = rows();
        let values = Rows::new(rows.as_slice().unwrap(), 4).unwrap();
        let forest = IsolationForest::params().validate().and_then(|params| params.fit_rows(values)).unwrap();
        let forest = damaged(&postcard::to_allocvec(&forest).unwrap(), &damage);
        bounded::<IsolationForest>("isolation forest", &forest, |model| score(&model))?;

        let classes: Array1<usize> = (0..90).map(|row| row % 3).collect();
        let classes = BoostedTrees::params().trees(3).classes().fit(&Dataset::new(rows.clone(), classes)).unwrap();
        let classes = damaged(&postcard::to_allocvec(&classes).unwrap(), &damage);
        bounded::<BoostedClasses>("classes", &classes, |model| {
            let _ = model.probabilities(Array2::zeros((2, model.columns())).view());
        })?;

        let explainer = Explainer::fit(rows.view()).unwrap();
        let explainer = damaged(&postcard::to_allocvec(&explainer).unwrap(), &damage);
        let knn = fitted(&KnnParams::new());
        bounded::<Explainer>("explainer", &explainer, |explainer| {
            let _ = explainer.explain(&knn, &[0.1, 0.2, 3.0, 4.0]);
        })?;

        let scores: Vec<f64> = (0..200).map(f64::from).collect();
        let conformal = amoskys_analysis::calibrate::Conformal::fit(&scores, 0.01).unwrap();
        let calibration = damaged(&postcard::to_allocvec(&Calibration::from(conformal)).unwrap(), &damage);
        bounded::<Calibration>("calibration", &calibration, |calibration| {
            let _ = (calibration.probability(5.0), calibration.interval(5.0, 0.9));
        })?;

        let traces = [vec![3, 4, 5, 6, 3, 4, 5, 6, 1], vec![3, 4, 5, 3, 4, 5, 6, 1], vec![9, 8, 9, 8, 9]];
        let model = TraceParams::default().fit(&traces).unwrap();
        let model = damaged(&postcard::to_allocvec(&model).unwrap(), &damage);
        bounded::<TraceModel>("traces", &model, |model| {
            if model.check().is_ok() {
                let _ = model.scorer().score(&[3, 4, 5, 6, 7, 8]);
                let _ = model.unknown_runs(&[3, 4, 5, 6, 7, 8]);
            }
        })?;
        let model = CallParams::default().fit(&traces).unwrap();
        let model = damaged(&postcard::to_allocvec(&model).unwrap(), &damage);
        bounded::<CallModel>("calls", &model, |model| {
            if model.check().is_ok() {
                let _ = model.bits(&[3, 4, 5, 6, 7, 8, 3, 4]).sum::<f64>();
            }
        })?;
    }
}
