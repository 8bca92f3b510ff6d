//! Detectors by name: what is chosen at run time, and found again in a model file.

use std::fmt;
use std::num::NonZeroUsize;

use linfa::DatasetBase;
use linfa::traits::Fit as _;
use ndarray::{Array1, ArrayView2};

use super::file::{ModelFile, ModelFileError};
use super::forest::FOREST;
use crate::boost::BoostedTrees;
use crate::detectors::{
    Copod, Detector, DetectorError, Ecod, Ensemble, ExtendedIsolationForest, FitScore as _, GaussianMixture,
    Hbos, Knn, Loda, Lof, NearestSample, Novelty, OneClassSvm, Pca, StoredDetector,
};
use crate::iforest::IsolationForest;

/// A kind of detector for tables, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DetectorKind {
    /// [`Ensemble`]: for rows of which nothing is known.
    Ensemble,
    /// [`Novelty`]: for training rows known to be honest.
    Novelty,
    /// [`BoostedTrees`]: for labelled rows.
    BoostedTrees,
    /// [`IsolationForest`].
    IsolationForest,
    /// [`ExtendedIsolationForest`].
    ExtendedIsolationForest,
    /// [`Hbos`].
    Hbos,
    /// [`Ecod`].
    Ecod,
    /// [`Copod`].
    Copod,
    /// [`Loda`].
    Loda,
    /// [`Knn`].
    Knn,
    /// [`Lof`].
    Lof,
    /// [`Pca`].
    Pca,
    /// [`NearestSample`].
    NearestSample,
    /// [`GaussianMixture`].
    GaussianMixture,
    /// [`OneClassSvm`].
    OneClassSvm,
}

impl DetectorKind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Ensemble,
        Self::Novelty,
        Self::BoostedTrees,
        Self::IsolationForest,
        Self::ExtendedIsolationForest,
        Self::Hbos,
        Self::Ecod,
        Self::Copod,
        Self::Loda,
        Self::Knn,
        Self::Lof,
        Self::Pca,
        Self::NearestSample,
        Self::GaussianMixture,
        Self::OneClassSvm,
    ];

    /// Its name, as [`of_name`](Self::of_name) takes it: `ensemble`, `isolation_forest` and so on. A model file has a part of
    /// this name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ensemble => Ensemble::PART,
            Self::Novelty => Novelty::PART,
            Self::BoostedTrees => BoostedTrees::PART,
            Self::IsolationForest => FOREST,
            Self::ExtendedIsolationForest => ExtendedIsolationForest::PART,
            Self::Hbos => Hbos::PART,
            Self::Ecod => Ecod::PART,
            Self::Copod => Copod::PART,
            Self::Loda => Loda::PART,
            Self::Knn => Knn::PART,
            Self::Lof => Lof::PART,
            Self::Pca => Pca::PART,
            Self::NearestSample => NearestSample::PART,
            Self::GaussianMixture => GaussianMixture::PART,
            Self::OneClassSvm => OneClassSvm::PART,
        }
    }

    /// The kind of this name; `None` if there is none.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it learns from labels.
    #[must_use]
    pub const fn needs_labels(self) -> bool {
        matches!(self, Self::BoostedTrees)
    }

    /// Whether its scores depend on the units of columns, so that they must be scaled alike before.
    #[must_use]
    pub const fn needs_scaling(self) -> bool {
        matches!(
            self,
            Self::Hbos | Self::Loda | Self::Knn | Self::Lof | Self::NearestSample | Self::OneClassSvm
        )
    }

    /// Fits a detector of this kind with its default parameters, this seed where it draws, and so many threads, on which nothing
    /// depends. Labels are looked at only by kinds that [need](Self::needs_labels) them.
    ///
    /// # Errors
    ///
    /// If there are too few rows, a value is not finite, or labels are missing, or only of one kind, where they are needed.
    pub fn fit(
        self,
        rows: ArrayView2<'_, f64>,
        labels: Option<&[bool]>,
        seed: u64,
        threads: NonZeroUsize,
    ) -> Result<AnyDetector, DetectorError> {
        let unlabelled = || DatasetBase::from(rows);
        Ok(AnyDetector(match self {
            Self::Ensemble => {
                let params = Ensemble::params().seed(seed).threads(threads);
                Kept::Ensemble(params.fit_score(rows)?.0)
            }
            Self::Novelty => {
                let params = Novelty::params().seed(seed).threads(threads);
                Kept::Novelty(params.fit(&unlabelled())?)
            }
            Self::BoostedTrees => {
                let labels = labels.unwrap_or_default();
                if labels.len() != rows.nrows() {
                    return Err(DetectorError::TooFew {
                        needed: rows.nrows(),
                        rows: labels.len(),
                    });
                }
                let dataset = DatasetBase::new(rows.to_owned(), Array1::from(labels.to_vec()));
                let params = BoostedTrees::params().seed(seed).threads(threads);
                Kept::BoostedTrees(params.fit(&dataset)?)
            }
            Self::IsolationForest => {
                let fail = |source: crate::iforest::IsolationForestError| DetectorError::Part {
                    part: "the isolation forest",
                    source: Box::new(source),
                };
                let params = IsolationForest::params().seed(seed).threads(threads);
                let params = params.validate().map_err(fail)?;
                Kept::IsolationForest(params.fit(&unlabelled()).map_err(fail)?)
            }
            Self::ExtendedIsolationForest => {
                let params = ExtendedIsolationForest::params().seed(seed).threads(threads);
                Kept::ExtendedIsolationForest(params.fit(&unlabelled())?)
            }
            Self::Hbos => Kept::Hbos(Hbos::params().threads(threads).fit(&unlabelled())?),
            Self::Ecod => Kept::Ecod(Ecod::params().threads(threads).fit(&unlabelled())?),
            Self::Copod => Kept::Copod(Copod::params().threads(threads).fit(&unlabelled())?),
            Self::Loda => {
                let params = Loda::params().seed(seed).threads(threads);
                Kept::Loda(params.fit(&unlabelled())?)
            }
            Self::Knn => Kept::Knn(Knn::params().threads(threads).fit(&unlabelled())?),
            Self::Lof => Kept::Lof(Lof::params().threads(threads).fit(&unlabelled())?),
            Self::Pca => Kept::Pca(Pca::params().threads(threads).fit(&unlabelled())?),
            Self::NearestSample => {
                let params = NearestSample::params().seed(seed).threads(threads);
                Kept::NearestSample(params.fit(&unlabelled())?)
            }
            Self::GaussianMixture => {
                let params = GaussianMixture::params().seed(seed).threads(threads);
                Kept::GaussianMixture(params.fit(&unlabelled())?)
            }
            Self::OneClassSvm => {
                Kept::OneClassSvm(OneClassSvm::params().threads(threads).fit(&unlabelled())?)
            }
        }))
    }
}

impl fmt::Display for DetectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A fitted detector of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct AnyDetector(Kept);

/// Apart from the public type, so that a new kind breaks nobody's match.
#[derive(Clone, Debug, PartialEq)]
enum Kept {
    Ensemble(Ensemble),
    Novelty(Novelty),
    BoostedTrees(BoostedTrees),
    IsolationForest(IsolationForest),
    ExtendedIsolationForest(ExtendedIsolationForest),
    Hbos(Hbos),
    Ecod(Ecod),
    Copod(Copod),
    Loda(Loda),
    Knn(Knn),
    Lof(Lof),
    Pca(Pca),
    NearestSample(NearestSample),
    GaussianMixture(GaussianMixture),
    OneClassSvm(OneClassSvm),
}

impl AnyDetector {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> DetectorKind {
        match &self.0 {
            Kept::Ensemble(_) => DetectorKind::Ensemble,
            Kept::Novelty(_) => DetectorKind::Novelty,
            Kept::BoostedTrees(_) => DetectorKind::BoostedTrees,
            Kept::IsolationForest(_) => DetectorKind::IsolationForest,
            Kept::ExtendedIsolationForest(_) => DetectorKind::ExtendedIsolationForest,
            Kept::Hbos(_) => DetectorKind::Hbos,
            Kept::Ecod(_) => DetectorKind::Ecod,
            Kept::Copod(_) => DetectorKind::Copod,
            Kept::Loda(_) => DetectorKind::Loda,
            Kept::Knn(_) => DetectorKind::Knn,
            Kept::Lof(_) => DetectorKind::Lof,
            Kept::Pca(_) => DetectorKind::Pca,
            Kept::NearestSample(_) => DetectorKind::NearestSample,
            Kept::GaussianMixture(_) => DetectorKind::GaussianMixture,
            Kept::OneClassSvm(_) => DetectorKind::OneClassSvm,
        }
    }

    /// Puts it into a model file, where [`load`](Self::load) finds it.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    pub fn store(&self, file: &mut ModelFile) -> Result<(), ModelFileError> {
        match &self.0 {
            Kept::Ensemble(model) => model.store(file),
            Kept::Novelty(model) => model.store(file),
            Kept::BoostedTrees(model) => model.store(file),
            Kept::IsolationForest(model) => file.put(FOREST, model),
            Kept::ExtendedIsolationForest(model) => model.store(file),
            Kept::Hbos(model) => model.store(file),
            Kept::Ecod(model) => model.store(file),
            Kept::Copod(model) => model.store(file),
            Kept::Loda(model) => model.store(file),
            Kept::Knn(model) => model.store(file),
            Kept::Lof(model) => model.store(file),
            Kept::Pca(model) => model.store(file),
            Kept::NearestSample(model) => model.store(file),
            Kept::GaussianMixture(model) => model.store(file),
            Kept::OneClassSvm(model) => model.store(file),
        }
    }

    /// Takes the detector out of a model file; the first of [`DetectorKind::ALL`] if there are several. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Part`] if it is not whole.
    pub fn load(file: &ModelFile) -> Result<Option<Self>, ModelFileError> {
        let there = |kind: &DetectorKind| file.parts().any(|part| part == kind.name());
        let Some(kind) = DetectorKind::ALL.into_iter().find(there) else {
            return Ok(None);
        };
        Ok(Some(Self(match kind {
            DetectorKind::Ensemble => Kept::Ensemble(StoredDetector::load(file)?),
            DetectorKind::Novelty => Kept::Novelty(StoredDetector::load(file)?),
            DetectorKind::BoostedTrees => Kept::BoostedTrees(StoredDetector::load(file)?),
            DetectorKind::IsolationForest => {
                let forest = file.part(FOREST)?;
                Kept::IsolationForest(forest.ok_or(ModelFileError::Missing { part: FOREST })?)
            }
            DetectorKind::ExtendedIsolationForest => {
                Kept::ExtendedIsolationForest(StoredDetector::load(file)?)
            }
            DetectorKind::Hbos => Kept::Hbos(StoredDetector::load(file)?),
            DetectorKind::Ecod => Kept::Ecod(StoredDetector::load(file)?),
            DetectorKind::Copod => Kept::Copod(StoredDetector::load(file)?),
            DetectorKind::Loda => Kept::Loda(StoredDetector::load(file)?),
            DetectorKind::Knn => Kept::Knn(StoredDetector::load(file)?),
            DetectorKind::Lof => Kept::Lof(StoredDetector::load(file)?),
            DetectorKind::Pca => Kept::Pca(StoredDetector::load(file)?),
            DetectorKind::NearestSample => Kept::NearestSample(StoredDetector::load(file)?),
            DetectorKind::GaussianMixture => Kept::GaussianMixture(StoredDetector::load(file)?),
            DetectorKind::OneClassSvm => Kept::OneClassSvm(StoredDetector::load(file)?),
        })))
    }

    fn inner(&self) -> &dyn Detector {
        match &self.0 {
            Kept::Ensemble(model) => model,
            Kept::Novelty(model) => model,
            Kept::BoostedTrees(model) => model,
            Kept::IsolationForest(model) => model,
            Kept::ExtendedIsolationForest(model) => model,
            Kept::Hbos(model) => model,
            Kept::Ecod(model) => model,
            Kept::Copod(model) => model,
            Kept::Loda(model) => model,
            Kept::Knn(model) => model,
            Kept::Lof(model) => model,
            Kept::Pca(model) => model,
            Kept::NearestSample(model) => model,
            Kept::GaussianMixture(model) => model,
            Kept::OneClassSvm(model) => model,
        }
    }
}

impl Detector for AnyDetector {
    fn columns(&self) -> usize {
        self.inner().columns()
    }

    fn score_parallel(
        &self,
        records: ArrayView2<'_, f64>,
        threads: NonZeroUsize,
    ) -> Result<Array1<f64>, DetectorError> {
        self.inner().score_parallel(records, threads)
    }
}
