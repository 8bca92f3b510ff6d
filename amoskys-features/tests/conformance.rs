//! The extractor keeps the promises of its trait.

use amoskys_core::conformance;
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};

#[test]
fn the_network_extractor_is_an_extractor() {
    let events = conformance::recorded(conformance::sample_events(7, 600));
    conformance::extractor(|| NetworkExtractor::standard(ExtractConfig::default()), &events);
}
