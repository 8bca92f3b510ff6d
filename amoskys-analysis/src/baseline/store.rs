use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Baseline;

/// Version of the file format.
const FORMAT: u32 = 1;
/// Bytes a baseline file may have.
const LIMIT: u64 = 256 << 20;

/// The file: JSON with a header that says what it is.
#[derive(Serialize, Deserialize)]
struct Document<B> {
    kind: String,
    format: u32,
    baseline: B,
}

/// The header alone, read first.
#[derive(Deserialize)]
struct Header {
    kind: String,
    format: u32,
}

/// What a baseline file calls itself.
const KIND: &str = "amoskys-baseline";

impl Baseline {
    /// The baseline as JSON. Reading it back gives the same baseline, bit for bit.
    ///
    /// # Errors
    ///
    /// Does not fail for baselines that were fitted or loaded.
    pub fn to_json(&self) -> Result<String, BaselineError> {
        let document = Document { kind: KIND.to_owned(), format: FORMAT, baseline: self };
        serde_json::to_string(&document).map_err(|source| BaselineError::Content { source: source.into() })
    }

    /// Reads a baseline from JSON.
    ///
    /// # Errors
    ///
    /// [`BaselineError::Content`] if it is no baseline or damaged, [`BaselineError::Format`] if it is of another version.
    pub fn from_json(text: &str) -> Result<Self, BaselineError> {
        let content = |source: serde_json::Error| BaselineError::Content { source: source.into() };
        let header: Header = serde_json::from_str(text).map_err(content)?;
        if header.kind != KIND {
            return Err(BaselineError::Content { source: format!("it is of kind {:?}", header.kind).into() });
        }
        if header.format != FORMAT {
            return Err(BaselineError::Format { found: header.format, supported: FORMAT });
        }
        let document: Document<Self> = serde_json::from_str(text).map_err(content)?;
        Ok(document.baseline)
    }

    /// Writes the baseline to a file, in place of any that was there, or not at all.
    ///
    /// # Errors
    ///
    /// [`BaselineError::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), BaselineError> {
        let text = self.to_json()?;
        let failed = |source| BaselineError::File { path: path.to_owned(), source };
        let new = path.with_extension("new");
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)
    }

    /// Reads a baseline from a file.
    ///
    /// # Errors
    ///
    /// [`BaselineError::File`] if it cannot be read, and those of [`from_json`](Self::from_json).
    pub fn load(path: &Path) -> Result<Self, BaselineError> {
        let failed = |source| BaselineError::File { path: path.to_owned(), source };
        let mut text = String::new();
        File::open(path).map_err(failed)?.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
        Self::from_json(&text)
    }
}

/// Why a baseline could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The file cannot be read or written.
    #[error("baseline file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not a baseline, or damaged. Fit it anew.
    #[error("this is no usable baseline")]
    Content {
        /// The cause.
        source: amoskys_core::BoxError,
    },
    /// It is of another version of the format. Fit it anew.
    #[error("the baseline has format {found}, this version reads format {supported}")]
    Format {
        /// Its format.
        found: u32,
        /// The format this version reads.
        supported: u32,
    },
}
