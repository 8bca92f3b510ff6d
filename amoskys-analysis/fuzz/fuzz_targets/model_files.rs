//! Any bytes as the content of a model file, with the digest that belongs to them: refused, or a model file that stores itself
//! again.
#![no_main]

use amoskys_analysis::baseline::Baseline;
use amoskys_analysis::model::ModelFile;
use amoskys_analysis::sequence::SequenceModel;
use amoskys_core::Digest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // Magic, version and the length of the header stand first: without them nothing further is read.
    let Some((length, rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let length = u32::from(u16::from_le_bytes(*length));
    let mut bytes = b"AMOSKYSM\x01\x00".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(rest);
    bytes.extend(Digest::of(&bytes).0);
    if let Ok(file) = ModelFile::from_bytes(&bytes) {
        let again = file.to_bytes().map(|bytes| ModelFile::from_bytes(&bytes));
        assert!(again.is_ok_and(|again| again.is_ok_and(|again| again == file)));
        let _ = SequenceModel::of_file(&file);
        let _ = Baseline::from_model(&file);
    }
    let _ = ModelFile::from_bytes(input);
});
