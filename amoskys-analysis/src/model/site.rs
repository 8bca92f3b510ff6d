//! All that was learned from one site's log, in one file.

use std::sync::Arc;

use amoskys_core::{FeatureDef, FeatureSchema};

use super::file::{ModelFile, ModelFileError, Origin, TransformLoader};
use super::table::TableModel;
use crate::baseline::{Baseline, BaselineError};
use crate::sequence::{SequenceModel, sequence_schema};

/// What the model file of a site is called.
const NAME: &str = "amoskys-site";
/// Layout of its content.
const LAYOUT: &str = "1";
const BASELINE: &str = "baseline";
const SEQUENCES: &str = "sequences";
const WINDOWS: &str = "windows";

/// What was learned at one site: a [`Baseline`], models of [windows](TableModel) by the name of their schema, and a
/// [`SequenceModel`], each if there was something to learn it from. One [`ModelFile`] holds them, and in it each is a whole model
/// file of its own, so that any of them can be taken out and used alone.
#[derive(Clone, Debug, Default)]
pub struct SiteModel {
    baseline: Option<Baseline>,
    windows: Vec<ModelFile>,
    sequences: Option<(SequenceModel, ModelFile)>,
}

impl SiteModel {
    /// A model of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this baseline.
    #[must_use]
    pub fn with_baseline(mut self, baseline: Baseline) -> Self {
        self.baseline = Some(baseline);
        self
    }

    /// With a model of windows, as [`TableModel::store`] filled it. Its schema is that of the windows.
    #[must_use]
    pub fn with_windows(mut self, file: ModelFile) -> Self {
        self.windows
            .retain(|known| known.schema.name() != file.schema.name());
        self.windows.push(file);
        self.windows.sort_by(|a, b| a.schema.name().cmp(b.schema.name()));
        self
    }

    /// With a model of sequences, from its file.
    ///
    /// # Errors
    ///
    /// If the file holds no whole model of sequences.
    pub fn with_sequences(mut self, file: ModelFile) -> Result<Self, SiteModelError> {
        self.sequences = Some((SequenceModel::of_file(&file)?, file));
        Ok(self)
    }

    /// What is normal here, if it was learned.
    #[must_use]
    pub const fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_ref()
    }

    /// The model of sequences of calls, if it was learned.
    #[must_use]
    pub fn sequences(&self) -> Option<&SequenceModel> {
        self.sequences.as_ref().map(|(model, _)| model)
    }

    /// The files of the models of windows, by the name of their schema.
    #[must_use]
    pub fn windows(&self) -> &[ModelFile] {
        &self.windows
    }

    /// The models of windows, ready for use with extractors that give vectors of these schemas.
    ///
    /// # Errors
    ///
    /// [`SiteModelError::NoSuchWindows`] or [`SiteModelError::OtherWindows`] if the extractors do not give what a model reads, and
    /// if a model is not whole.
    pub fn window_models<'a>(
        &self,
        offered: impl IntoIterator<Item = &'a Arc<FeatureSchema>>,
        loader: TransformLoader<'_>,
    ) -> Result<Vec<TableModel>, SiteModelError> {
        let offered: Vec<&Arc<FeatureSchema>> = offered.into_iter().collect();
        let load = |file: &ModelFile| {
            let name = file.schema.name();
            let Some(schema) = offered.iter().find(|schema| schema.name() == name) else {
                return Err(SiteModelError::NoSuchWindows {
                    schema: name.to_string(),
                });
            };
            if schema.digest() != file.schema.digest() {
                return Err(other_windows(&file.schema, schema));
            }
            Ok(TableModel::load(file, loader)?)
        };
        self.windows.iter().map(load).collect()
    }

    /// Adds what another model knows.
    ///
    /// # Errors
    ///
    /// [`SiteModelError::Twice`] if both have a baseline, a model of sequences, or a model of the same windows.
    pub fn join(mut self, other: Self) -> Result<Self, SiteModelError> {
        let twice = |what: &str| SiteModelError::Twice {
            what: what.to_owned(),
        };
        if self.baseline.is_some() && other.baseline.is_some() {
            return Err(twice("a baseline"));
        }
        if self.sequences.is_some() && other.sequences.is_some() {
            return Err(twice("a model of sequences"));
        }
        for file in other.windows {
            let name = file.schema.name();
            if self.windows.iter().any(|known| known.schema.name() == name) {
                return Err(twice(&format!("a model of the windows {name}")));
            }
            self = self.with_windows(file);
        }
        self.baseline = self.baseline.or(other.baseline);
        self.sequences = self.sequences.or(other.sequences);
        Ok(self)
    }

    /// The model file. Its schema names every feature of every window, `host.60s/flows` and so on.
    ///
    /// # Errors
    ///
    /// If a part cannot be encoded.
    pub fn to_file(&self, origin: Origin) -> Result<ModelFile, SiteModelError> {
        let feature = |schema: &FeatureSchema, feature: &FeatureDef| {
            let name = format!("{}/{}", schema.name(), feature.name);
            FeatureDef::new(&name, &feature.unit, &feature.description)
        };
        let features = self.windows.iter().flat_map(|file| {
            let schema = &file.schema;
            schema.features().iter().map(move |one| feature(schema, one))
        });
        let schema = FeatureSchema::new(NAME, features.collect());
        let mut file = ModelFile::new(NAME, LAYOUT, schema, origin);
        if let Some(baseline) = &self.baseline {
            file.put(BASELINE, &baseline.to_model()?.to_bytes()?)?;
        }
        let windows: Result<Vec<Vec<u8>>, _> = self.windows.iter().map(ModelFile::to_bytes).collect();
        file.put(WINDOWS, &windows?)?;
        if let Some((_, sequences)) = &self.sequences {
            file.put(SEQUENCES, &sequences.to_bytes()?)?;
        }
        Ok(file)
    }

    /// Takes it out of a model file: that of a site, or of one of its parts alone.
    ///
    /// # Errors
    ///
    /// If the file holds something else, or a part is not whole.
    pub fn of_file(file: &ModelFile) -> Result<Self, SiteModelError> {
        if file.name != NAME {
            return Self::of_part(file);
        }
        if file.version != LAYOUT {
            return Err(SiteModelError::Layout {
                found: file.version.clone(),
            });
        }
        let nested = |part: &str| -> Result<Option<ModelFile>, ModelFileError> {
            let bytes: Option<Vec<u8>> = file.part(part)?;
            bytes.map(|bytes| ModelFile::from_bytes(&bytes)).transpose()
        };
        let mut site = Self::new();
        if let Some(baseline) = nested(BASELINE)? {
            site.baseline = Some(Baseline::from_model(&baseline)?);
        }
        let windows: Vec<Vec<u8>> = file.part(WINDOWS)?.unwrap_or_default();
        for bytes in windows {
            site = site.with_windows(ModelFile::from_bytes(&bytes)?);
        }
        match nested(SEQUENCES)? {
            Some(sequences) => site.with_sequences(sequences),
            None => Ok(site),
        }
    }

    fn of_part(file: &ModelFile) -> Result<Self, SiteModelError> {
        if file.parts().any(|part| part == BASELINE) {
            return Ok(Self::new().with_baseline(Baseline::from_model(file)?));
        }
        if file.schema.digest() == sequence_schema().digest() {
            return Self::new().with_sequences(file.clone());
        }
        if super::AnyDetector::load(file)?.is_some() {
            return Ok(Self::new().with_windows(file.clone()));
        }
        Err(SiteModelError::Kind {
            found: file.name.clone(),
        })
    }
}

/// Names what is different: the first feature of one that the other lacks, or has elsewhere.
fn other_windows(expected: &FeatureSchema, found: &FeatureSchema) -> SiteModelError {
    let (ours, theirs) = (found.features(), expected.features());
    let same = |a: &FeatureDef, b: &FeatureDef| a.name == b.name && a.unit == b.unit;
    let at = (0..ours.len().max(theirs.len()))
        .find(|&at| !matches!((ours.get(at), theirs.get(at)), (Some(a), Some(b)) if same(a, b)))
        .unwrap_or_default();
    let name = |features: &[FeatureDef]| {
        let feature = features.get(at);
        feature.map_or_else(|| "nothing".to_owned(), |feature| feature.name.to_string())
    };
    SiteModelError::OtherWindows {
        schema: expected.name().to_string(),
        place: at + 1,
        expected: name(theirs),
        found: name(ours),
    }
}

/// Why a site's model cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteModelError {
    /// A model file is damaged, or lacks a part.
    #[error("the model cannot be read or written")]
    File(#[from] ModelFileError),
    /// The baseline cannot be read or written.
    #[error("the model's baseline")]
    Baseline(#[from] BaselineError),
    /// It is a model, but of nothing that a site's events could be judged by.
    #[error("the model {found:?} is neither a site's, nor a baseline, nor one of windows or of sequences")]
    Kind {
        /// Its name.
        found: String,
    },
    /// It was written by another version.
    #[error("the model has layout {found}, this version reads layout {LAYOUT}")]
    Layout {
        /// Its layout.
        found: String,
    },
    /// The model reads windows that no extractor makes.
    #[error("the model reads windows {schema}, which are not made here")]
    NoSuchWindows {
        /// Name of the schema.
        schema: String,
    },
    /// The windows of this name have other features than those the model was fitted on. Train it again.
    #[error(
        "the model was fitted on other windows {schema}: feature {place} was {expected}, and is {found} here"
    )]
    OtherWindows {
        /// Name of the schema.
        schema: String,
        /// The first feature that differs, counted from 1.
        place: usize,
        /// Its name in the model.
        expected: String,
        /// Its name here.
        found: String,
    },
    /// Two models know the same thing.
    #[error("there are two models with {what}")]
    Twice {
        /// What both have.
        what: String,
    },
}
