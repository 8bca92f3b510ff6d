use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use amoskys_core::event::ModelRef;
use amoskys_core::{BoxError, Digest, FeatureSchema, FeatureVector, Name, Transform};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"AMOSKYSM";
const VERSION: u16 = 1;
const PREFIX: usize = 8 + 2 + 4;
/// A larger file is refused before it is read.
const MAX_BYTES: u64 = 1 << 30;

/// A model as it is stored: parts, transforms, schema and origin.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// What the model is called.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The schema of the vectors it takes, before any transform.
    pub schema: FeatureSchema,
    /// The transforms its vectors go through, in order.
    pub transforms: Vec<StoredTransform>,
    /// Where it comes from.
    pub origin: Origin,
    parts: BTreeMap<String, Vec<u8>>,
}

/// A fitted transform in its stored form, which only the crate that made it can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransform {
    /// The kind, which tells the loader how to read it.
    pub kind: String,
    /// Its stored form.
    pub bytes: Vec<u8>,
}

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Seed of the random choices in training.
    pub seed: u64,
    /// Digest of the training data.
    pub training_data: Digest,
    /// Rows of the training data.
    pub training_rows: u64,
    /// Figures from its evaluation, by name. Each must be finite.
    pub metrics: BTreeMap<String, f64>,
}

/// Reads a stored transform of a kind: what [`ModelFile::load_transforms`] is given. `amoskys_features::load`, boxed, is
/// one.
pub type TransformLoader<'a> = &'a dyn Fn(&str, &[u8]) -> Result<Box<dyn Transform<FeatureVector>>, BoxError>;

#[derive(Serialize, Deserialize)]
struct Header {
    name: String,
    version: String,
    schema: FeatureSchema,
    /// The schema's digest, so that a tool need not know how it is computed.
    schema_digest: Digest,
    origin: Origin,
    transforms: Vec<Blob>,
    parts: Vec<Blob>,
}

#[derive(Serialize, Deserialize)]
struct Blob {
    /// Kind of a transform, or name of a part.
    name: String,
    bytes: u64,
}

impl ModelFile {
    /// A model without parts and transforms.
    #[must_use]
    pub fn new(name: &str, version: &str, schema: FeatureSchema, origin: Origin) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            schema,
            transforms: Vec::new(),
            origin,
            parts: BTreeMap::new(),
        }
    }

    /// Adds a part, or replaces the one of this name.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Part`] if it cannot be encoded.
    pub fn put<T: Serialize>(&mut self, name: &str, part: &T) -> Result<(), ModelFileError> {
        let bytes = postcard::to_allocvec(part).map_err(|error| ModelFileError::Part {
            part: name.to_owned(),
            source: error.into(),
        })?;
        self.parts.insert(name.to_owned(), bytes);
        Ok(())
    }

    /// Reads the part of this name; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Part`] if it is not a `T`.
    pub fn part<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ModelFileError> {
        let Some(bytes) = self.parts.get(name) else {
            return Ok(None);
        };
        let fail = |source: BoxError| ModelFileError::Part {
            part: name.to_owned(),
            source,
        };
        match postcard::take_from_bytes(bytes) {
            Ok((part, [])) => Ok(Some(part)),
            Ok((_, rest)) => Err(fail(format!("{} bytes are left over", rest.len()).into())),
            Err(error) => Err(fail(error.into())),
        }
    }

    /// The names of the parts.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }

    /// Reads the transforms, in order.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Transform`] if the loader refuses one.
    pub fn load_transforms(
        &self,
        loader: TransformLoader<'_>,
    ) -> Result<Vec<Box<dyn Transform<FeatureVector>>>, ModelFileError> {
        let load = |stored: &StoredTransform| {
            let fail = |source| ModelFileError::Transform {
                kind: stored.kind.clone(),
                source,
            };
            loader(&stored.kind, &stored.bytes).map_err(fail)
        };
        self.transforms.iter().map(load).collect()
    }

    /// Refuses vectors of another schema.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Schema`] if the digests differ.
    pub fn check_schema(&self, schema: &FeatureSchema) -> Result<(), ModelFileError> {
        if schema.digest() == self.schema.digest() {
            return Ok(());
        }
        let describe = |schema: &FeatureSchema| format!("{} ({})", schema.name(), schema.digest());
        Err(ModelFileError::Schema {
            expected: describe(&self.schema),
            found: describe(schema),
        })
    }

    /// Name, version and digest, as verdicts carry them.
    ///
    /// # Errors
    ///
    /// As [`to_bytes`](Self::to_bytes).
    pub fn model_ref(&self) -> Result<ModelRef, ModelFileError> {
        let bytes = self.to_bytes()?;
        let digest = bytes
            .last_chunk::<32>()
            .map_or_else(Digest::default, |digest| Digest(*digest));
        Ok(ModelRef {
            name: Name::from(self.name.as_str()),
            version: Name::from(self.version.as_str()),
            digest,
        })
    }

    /// The stored form.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Metric`] if a metric is not finite.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelFileError> {
        if let Some((metric, _)) = self.origin.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(ModelFileError::Metric {
                metric: metric.clone(),
            });
        }
        let blob = |name: &str, bytes: &[u8]| Blob {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
        };
        let header = Header {
            name: self.name.clone(),
            version: self.version.clone(),
            schema: self.schema.clone(),
            schema_digest: self.schema.digest(),
            origin: self.origin.clone(),
            transforms: self.transforms.iter().map(|t| blob(&t.kind, &t.bytes)).collect(),
            parts: self.parts.iter().map(|(name, bytes)| blob(name, bytes)).collect(),
        };
        let header = serde_json::to_vec(&header).map_err(|error| ModelFileError::Part {
            part: "header".to_owned(),
            source: error.into(),
        })?;
        let length = u32::try_from(header.len()).map_err(|_| ModelFileError::TooLarge)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(header);
        let blobs = self
            .transforms
            .iter()
            .map(|t| &t.bytes)
            .chain(self.parts.values());
        blobs.for_each(|blob| bytes.extend(blob));
        bytes.extend(Digest::of(&bytes).0);
        Ok(bytes)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    ///
    /// If the bytes are damaged, or of a version this program does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelFileError> {
        let Some((content, digest)) = bytes.split_last_chunk::<32>() else {
            return Err(ModelFileError::Damaged);
        };
        if content.len() < PREFIX || content[..8] != MAGIC[..] {
            return Err(ModelFileError::NotAModel);
        }
        let version = u16::from_le_bytes([content[8], content[9]]);
        if version != VERSION {
            return Err(ModelFileError::Version { found: version });
        }
        if Digest::of(content).0 != *digest {
            return Err(ModelFileError::Damaged);
        }
        let length = u32::from_le_bytes([content[10], content[11], content[12], content[13]]) as usize;
        let (header, mut blobs) = content[PREFIX..]
            .split_at_checked(length)
            .ok_or(ModelFileError::Damaged)?;
        let header: Header = serde_json::from_slice(header).map_err(|error| ModelFileError::Part {
            part: "header".to_owned(),
            source: error.into(),
        })?;
        if header.schema_digest != header.schema.digest() {
            return Err(ModelFileError::Damaged);
        }
        let mut next = |blob: &Blob| {
            let length = usize::try_from(blob.bytes).map_err(|_| ModelFileError::Damaged)?;
            let (bytes, rest) = blobs.split_at_checked(length).ok_or(ModelFileError::Damaged)?;
            blobs = rest;
            Ok(bytes.to_vec())
        };
        let mut model = Self::new(&header.name, &header.version, header.schema, header.origin);
        for blob in header.transforms {
            let bytes = next(&blob)?;
            model.transforms.push(StoredTransform {
                kind: blob.name,
                bytes,
            });
        }
        for blob in header.parts {
            let bytes = next(&blob)?;
            model.parts.insert(blob.name, bytes);
        }
        if blobs.is_empty() {
            Ok(model)
        } else {
            Err(ModelFileError::Damaged)
        }
    }

    /// Writes it to a file. The file is complete or not there at all: it is written beside its place, made durable, and
    /// renamed.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded or written.
    pub fn save(&self, path: &Path) -> Result<(), ModelFileError> {
        let bytes = self.to_bytes()?;
        let fail = |source| ModelFileError::File {
            path: path.to_owned(),
            source,
        };
        let mut beside = path.as_os_str().to_owned();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        let written = File::create(&beside)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&beside, path));
        written.map_err(fail)
    }

    /// Reads it from a file of at most 1 GiB.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not a whole model.
    pub fn load(path: &Path) -> Result<Self, ModelFileError> {
        let fail = |source| ModelFileError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(fail)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ModelFileError::TooLarge);
        }
        Self::from_bytes(&bytes)
    }
}

/// Why a model could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// The file cannot be read or written.
    #[error("model file {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It does not begin as a model file does.
    #[error("not a model file")]
    NotAModel,
    /// It was written by another version of the format.
    #[error("the model has format version {found}; this program reads version {VERSION}")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Bytes were lost or changed. Fetch the file again.
    #[error("the model file is damaged")]
    Damaged,
    /// It is larger than 1 GiB, or its header than 4 GiB.
    #[error("the model file is larger than 1 GiB")]
    TooLarge,
    /// A part cannot be encoded or decoded.
    #[error("part {part} of the model")]
    Part {
        /// Name of the part.
        part: String,
        /// What is wrong with it.
        source: BoxError,
    },
    /// A part that the model cannot do without is not there.
    #[error("the model has no part {part}")]
    Missing {
        /// Name of the part.
        part: &'static str,
    },
    /// A transform cannot be read.
    #[error("transform {kind} of the model")]
    Transform {
        /// Its kind.
        kind: String,
        /// What the loader says.
        source: BoxError,
    },
    /// A metric is not finite.
    #[error("metric {metric} is not a finite number")]
    Metric {
        /// Its name.
        metric: String,
    },
    /// The vectors have another schema.
    #[error("the model reads schema {expected}, not {found}")]
    Schema {
        /// The model's schema.
        expected: String,
        /// The vectors' schema.
        found: String,
    },
    /// The forest does not fit the transforms.
    #[error("the forest was fitted on {expected} features, and the transforms give {found}")]
    Columns {
        /// Features the forest reads.
        expected: usize,
        /// Features it was given.
        found: usize,
    },
}
