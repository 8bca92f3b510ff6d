//! Places in capture files, and what tells one list of files from another.

use amoskys_core::{Digest, Position};

use super::files::CaptureFile;

/// How far a collector has come in its files.
///
/// ```text
/// | version 1 | origin 8 | events 8 | packets 8 |   big-endian
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which files, metered how.
    pub(crate) origin: u64,
    /// Events handed over.
    pub(crate) events: u64,
    /// Packets whose fate has been reported. Where a single packet caused several batches of events (a leap in
    /// time may end all flows), it is behind the events.
    pub(crate) packets: u64,
}

const VERSION: u8 = 1;

impl Place {
    pub(crate) fn encode(self) -> Position {
        let mut bytes = Vec::with_capacity(25);
        bytes.push(VERSION);
        for number in [self.origin, self.events, self.packets] {
            bytes.extend(number.to_be_bytes());
        }
        Position(bytes.into())
    }

    pub(crate) fn decode(position: &Position) -> Option<Self> {
        let bytes: &[u8; 25] = position.0.as_ref().try_into().ok()?;
        let [version, rest @ ..] = bytes;
        let (numbers, []) = rest.as_chunks::<8>() else {
            return None;
        };
        let [origin, events, packets] = *numbers else {
            return None;
        };
        (*version == VERSION).then_some(Self {
            origin: u64::from_be_bytes(origin),
            events: u64::from_be_bytes(events),
            packets: u64::from_be_bytes(packets),
        })
    }
}

/// Names a list of files for all time: their names without folders, their sizes and beginnings, and how they are
/// read. The same files in another folder give the same events.
pub(crate) fn origin(files: &[CaptureFile], settings: String) -> u64 {
    let mut parts = vec![settings.into_bytes()];
    for file in files {
        let name = file.path.file_name().unwrap_or_default();
        parts.extend([
            name.as_encoded_bytes().to_vec(),
            file.bytes.to_be_bytes().to_vec(),
            file.beginning.clone(),
        ]);
    }
    let digest = Digest::of_parts(parts.iter().map(Vec::as_slice));
    digest
        .0
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_encoding() {
        let place = Place {
            origin: u64::MAX,
            events: 7,
            packets: 1 << 40,
        };
        assert_eq!(Place::decode(&place.encode()), Some(place));
        for wrong in [&b""[..], b"not a position of yours", &[9; 25]] {
            assert_eq!(Place::decode(&Position(wrong.to_vec().into())), None);
        }
    }
}
