use amoskys_core::SealError;

use super::header::{RawHeader, damaged};

/// Whether and how payloads are compressed before they are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// As they are. The default: fastest, and right for what does not compress.
    #[default]
    None,
    /// Zstandard at a level from 1 (fast) to 19 (small). A payload that does not become smaller is kept as it is.
    #[cfg(feature = "zstd")]
    #[cfg_attr(docsrs, doc(cfg(feature = "zstd")))]
    Zstd(i32),
}

const NONE: u8 = 0;
const ZSTD: u8 = 1;

/// Compresses what is behind `start` in `record`. Returns the code for the header.
pub(crate) fn compress(how: Compression, record: &mut Vec<u8>, start: usize) -> Result<u8, SealError> {
    match how {
        Compression::None => {
            let _ = (record, start);
            Ok(NONE)
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd(level) => {
            let compressed = zstd::bulk::compress(&record[start..], level.clamp(1, 19));
            let compressed = compressed.map_err(|error| SealError::Batch {
                reason: error.to_string(),
            })?;
            if compressed.len() >= record.len() - start {
                return Ok(NONE);
            }
            record.truncate(start);
            record.extend_from_slice(&compressed);
            Ok(ZSTD)
        }
    }
}

/// The payload as it was before compression. `limit` bounds its size.
pub(crate) fn expand<'a>(
    header: &RawHeader<'_>,
    stored: &'a [u8],
    limit: usize,
) -> Result<std::borrow::Cow<'a, [u8]>, SealError> {
    let raw_len = header.raw_len() as usize;
    if raw_len > limit {
        return Err(damaged(&format!(
            "its payload of {raw_len} bytes is over the limit of {limit}"
        )));
    }
    match header.compression() {
        NONE if raw_len == stored.len() => Ok(stored.into()),
        NONE => Err(damaged("the length of its payload is not what its header says")),
        #[cfg(feature = "zstd")]
        ZSTD => {
            // The capacity is a hard limit, so that a small payload cannot become endless.
            let expanded = zstd::bulk::decompress(stored, raw_len);
            let expanded =
                expanded.map_err(|error| damaged(&format!("its payload does not expand: {error}")))?;
            if expanded.len() != raw_len {
                return Err(damaged(
                    "its payload expands to another length than its header says",
                ));
            }
            Ok(expanded.into())
        }
        #[cfg(not(feature = "zstd"))]
        ZSTD => Err(damaged(
            "it is compressed with zstd, which this program was built without (feature `zstd`)",
        )),
        _ => Err(header.not_known("its compression")),
    }
}
