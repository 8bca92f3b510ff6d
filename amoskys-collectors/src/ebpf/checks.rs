//! What the fuzzer calls: the readers of bytes that come from the rings, which are not public otherwise. No part of the
//! interface; it may change at any time.

use super::clock::BootClock;
use super::decode::Decoder;
use super::histograms::Histograms;
use super::record::{Body, Reader, read, read_present};

/// Whether bytes are a record of the flow meter in the kernel.
///
/// # Panics
///
/// If such a record is not sound.
#[must_use]
pub fn flow_report(bytes: &[u8]) -> bool {
    super::flows::check_report(bytes)
}

/// Reads records as they come from a ring, each behind its length in two bytes, and makes events of them as the collector
/// does: later ones meet the processes that earlier ones told of. How many were records.
///
/// # Panics
///
/// If what is read does not lie inside of the record, which is what the fuzzer looks for.
#[must_use]
pub fn decode_records(bytes: &[u8]) -> usize {
    let mut decoder = Decoder::new(BootClock::default());
    let mut histograms = Histograms::default();
    let mut reader = Reader(bytes);
    let mut count = 0;
    while let Ok(length) = reader.u16() {
        let Ok(bytes) = reader.take(length.into()) else {
            break;
        };
        if let Ok(present) = read_present(bytes) {
            let _ = decoder.present(&present);
        }
        let Ok(record) = read(bytes) else { continue };
        count += 1;
        let header = &record.header;
        match &record.body {
            Body::Process(process) => {
                let _ = decoder.process(header, process);
            }
            Body::Exit(exit) => {
                let _ = decoder.exit(header, exit);
            }
            Body::Activity(activity) => {
                let texts: usize = activity.texts.iter().map(|text| text.len()).sum();
                assert!(texts <= bytes.len(), "texts beyond the record");
                let _ = decoder.activity(header, activity, |path| path.len().is_multiple_of(2));
            }
            Body::Sequence(sequence) => {
                assert!(sequence.calls.len() <= bytes.len(), "calls beyond the record");
                let _ = decoder.sequence(header, sequence);
            }
            Body::Histogram(histogram) => {
                let _ = histograms.add(header, histogram);
            }
        }
    }
    let told = histograms.take(BootClock::default()).count();
    assert!(told <= count, "more histograms than records");
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ebpf::EventKind;

    /// Sizes of the bodies by kind, as `bpf/records.h` has them.
    fn body_bytes(kind: EventKind) -> usize {
        match kind {
            EventKind::Exec | EventKind::Fork | EventKind::Credentials => 160,
            EventKind::Exit => 48,
            EventKind::Sequence => 152,
            EventKind::Histogram => 2064,
            _ => 104,
        }
    }

    /// A record whose sizes are right and whose numbers are anything, of one of few processes.
    fn record() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop::sample::select(EventKind::ALL.to_vec());
        let text = prop::collection::vec(any::<u8>(), 0..600);
        (kind, text, any::<[u8; 64]>(), 0..4u8, any::<u64>()).prop_map(|(kind, text, head, pid, seed)| {
            let mut bytes = head.to_vec();
            bytes[..2].copy_from_slice(&(kind as u16).to_ne_bytes());
            let length = u16::try_from(text.len()).unwrap_or_default();
            bytes[2..4].copy_from_slice(&length.to_ne_bytes());
            // Few numbers and starts, so that records meet; larger than any process has.
            bytes[16..20].copy_from_slice(&(0x7fff_fff0 + u32::from(pid)).to_ne_bytes());
            bytes[24..32].copy_from_slice(&u64::from(pid / 2).to_ne_bytes());
            let mut random = seed;
            let body = body_bytes(kind);
            bytes.extend(
                std::iter::repeat_with(|| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 56) as u8
                })
                .take(body),
            );
            if body == 160 || body == 104 {
                // Lengths of texts that fit: one for all.
                let at = if body == 160 { 144 } else { 98 };
                bytes[64 + at..64 + body].fill(0);
                bytes[64 + at..66 + at].copy_from_slice(&length.to_ne_bytes());
            }
            if kind == EventKind::Sequence {
                bytes[64 + 16..64 + 20].copy_from_slice(&u32::from(seed as u8 % 65).to_ne_bytes());
            }
            bytes.extend(text);
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Records of the right sizes are read, whatever is in them, in any order.
        #[test]
        fn records_of_the_right_sizes_are_read(records in prop::collection::vec(record(), 1..12)) {
            let mut bytes = Vec::new();
            for record in &records {
                bytes.extend(u16::try_from(record.len()).expect("a record is small").to_ne_bytes());
                bytes.extend(record);
            }
            prop_assert_eq!(decode_records(&bytes), records.len());
            // Cut anywhere, no more than these are found.
            let half = bytes.len() / 2;
            prop_assert!(decode_records(&bytes[..half]) <= records.len());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode_records(&bytes);
        }
    }
}
