use std::path::Path;

use super::Baseline;
use crate::finding::evidence_schema;
use crate::model::{ModelFile, ModelFileError, Origin};

/// What a baseline's model file is called.
const NAME: &str = "amoskys-baseline";
/// Layout of its content. It changes whenever [`Baseline`] does.
const LAYOUT: &str = "1";
/// The part of the model file that holds it.
const PART: &str = "baseline";

impl Baseline {
    /// The baseline as a [model file](crate::model).
    ///
    /// # Errors
    ///
    /// Does not fail for baselines that were fitted or loaded.
    pub fn to_model(&self) -> Result<ModelFile, BaselineError> {
        let origin = Origin {
            training_rows: self.events,
            ..Origin::default()
        };
        let mut model = ModelFile::new(NAME, LAYOUT, (*evidence_schema()).clone(), origin);
        model.put(PART, self)?;
        Ok(model)
    }

    /// Reads a baseline from a model file.
    ///
    /// # Errors
    ///
    /// If it holds no baseline, one of another layout, or a damaged one.
    pub fn from_model(model: &ModelFile) -> Result<Self, BaselineError> {
        if model.name != NAME {
            return Err(BaselineError::Kind {
                found: model.name.clone(),
            });
        }
        if model.version != LAYOUT {
            return Err(BaselineError::Layout {
                found: model.version.clone(),
                supported: LAYOUT,
            });
        }
        model.part(PART)?.ok_or_else(|| BaselineError::Kind {
            found: model.name.clone(),
        })
    }

    /// Writes the baseline to a file, in place of any that was there, or not at all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), BaselineError> {
        Ok(self.to_model()?.save(path)?)
    }

    /// Reads a baseline from a file. Reading back what [`save`](Self::save) wrote gives the same baseline, bit for bit.
    ///
    /// # Errors
    ///
    /// If it cannot be read, and those of [`from_model`](Self::from_model).
    pub fn load(path: &Path) -> Result<Self, BaselineError> {
        Self::from_model(&ModelFile::load(path)?)
    }
}

/// Why a baseline could not be saved or loaded. If it cannot be loaded, fit it anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The model file cannot be read or written, or is damaged.
    #[error("the baseline cannot be read or written")]
    File(#[from] ModelFileError),
    /// It is a model, but not a baseline.
    #[error("the model {found:?} is no baseline")]
    Kind {
        /// Its name.
        found: String,
    },
    /// It is of another version.
    #[error("the baseline has layout {found}, this version reads layout {supported}")]
    Layout {
        /// Its layout.
        found: String,
        /// The layout this version reads.
        supported: &'static str,
    },
}
