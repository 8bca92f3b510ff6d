//! Any text as a file of Sigma rules: refused with a reason, or applied to an event, without a panic.
#![no_main]

use std::sync::LazyLock;

use amoskys_analysis::sequence::SigmaAnalyzer;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a folder for the rule"));

fuzz_target!(|input: &[u8]| {
    let path = FOLDER.path().join("rule.yml");
    std::fs::write(&path, input).expect("the rule can be written");
    let rules = SigmaAnalyzer::load(FOLDER.path()).expect("the folder can be read");
    assert_eq!(rules.rules() + rules.refused().len(), 1);
});
