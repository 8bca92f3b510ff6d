//! Any bytes as a stored detector of any kind: refused, or a detector that scores, without a panic.
#![no_main]

use amoskys_analysis::boost::{BoostedClasses, BoostedTrees};
use amoskys_analysis::calibrate::Calibration;
use amoskys_analysis::detectors::{
    AutoencoderEnsemble, Copod, Detector, Ecod, Ensemble, ExtendedIsolationForest, GaussianMixture,
    HalfSpaceTrees, Hbos, Knn, Loda, Lof, NearestSample, Novelty, OneClassSvm, Pca, RandomCutForest,
    Stacking, StoredDetector, StreamingDetector,
};
use amoskys_analysis::explain::Explainer;
use amoskys_analysis::iforest::IsolationForest;
use amoskys_analysis::sequence::{CallModel, TraceModel};
use libfuzzer_sys::fuzz_target;
use ndarray::Array2;

/// Columns of the rows that are scored. Some detectors look at few columns of many, and so may claim any number in few bytes;
/// whoever scores has the rows, and so the memory for them.
const MAX_COLUMNS: usize = 1 << 14;

fn scores<M: StoredDetector>(bytes: &[u8]) {
    if let Ok(model) = postcard::from_bytes::<M>(bytes)
        && model.columns() <= MAX_COLUMNS
    {
        let rows = Array2::from_shape_fn((2, model.columns()), |(row, column)| (row + column) as f64 - 1.5);
        let _ = model.score(rows.view());
    }
}

fn learns<M: StoredDetector + StreamingDetector>(bytes: &[u8]) {
    scores::<M>(bytes);
    if let Ok(mut model) = postcard::from_bytes::<M>(bytes)
        && model.columns() <= MAX_COLUMNS
    {
        let row = vec![0.25; model.columns()];
        for _ in 0..20 {
            let _ = model.observe(&row);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    match kind % 24 {
        0 => scores::<Hbos>(bytes),
        1 => scores::<Ecod>(bytes),
        2 => scores::<Copod>(bytes),
        3 => scores::<Loda>(bytes),
        4 => scores::<Knn>(bytes),
        5 => scores::<Lof>(bytes),
        6 => scores::<Pca>(bytes),
        7 => scores::<OneClassSvm>(bytes),
        8 => scores::<GaussianMixture>(bytes),
        9 => scores::<ExtendedIsolationForest>(bytes),
        10 => scores::<NearestSample>(bytes),
        11 => scores::<Ensemble>(bytes),
        12 => scores::<Novelty>(bytes),
        13 => scores::<Stacking>(bytes),
        14 => scores::<BoostedTrees>(bytes),
        15 => {
            if let Ok(model) = postcard::from_bytes::<IsolationForest>(bytes)
                && model.columns() <= MAX_COLUMNS
            {
                let _ = Detector::score(&model, Array2::zeros((2, model.columns())).view());
            }
        }
        16 => learns::<HalfSpaceTrees>(bytes),
        17 => learns::<RandomCutForest>(bytes),
        18 => learns::<AutoencoderEnsemble>(bytes),
        19 => {
            if let Ok(model) = postcard::from_bytes::<BoostedClasses>(bytes)
                && model.columns() <= MAX_COLUMNS
            {
                let _ = model.probabilities(Array2::zeros((2, model.columns())).view());
            }
        }
        20 => {
            if let Ok(model) = postcard::from_bytes::<TraceModel>(bytes)
                && model.check().is_ok()
            {
                let _ = model.scorer().score(&[3, 4, 5, 6, 7, 8]);
                let _ = model.unknown_runs(&[3, 4, 5, 6, 7, 8]);
            }
        }
        21 => {
            if let Ok(model) = postcard::from_bytes::<CallModel>(bytes)
                && model.check().is_ok()
            {
                let _ = model.bits(&[3, 4, 5, 6, 7, 8, 3, 4]).sum::<f64>();
            }
        }
        22 => {
            if let Ok(calibration) = postcard::from_bytes::<Calibration>(bytes) {
                let _ = (calibration.probability(0.5), calibration.interval(0.5, 0.9));
            }
        }
        _ => drop(postcard::from_bytes::<Explainer>(bytes)),
    }
});
