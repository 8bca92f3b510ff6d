//! What judges the events: the detection, and what it has learned.

use std::error::Error;
use std::path::PathBuf;

use amoskys_analysis::{BaselineBuilder, Detection, DetectionConfig};
use amoskys_collectors::flow::{FlowCollector, FlowConfig};
use amoskys_core::BoxExtractor;
use amoskys_core::config::Config;
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};

/// The detection, after learning from the baseline captures if there are any.
pub(crate) async fn detection(config: &Config, baseline: &[PathBuf]) -> Result<Detection, Box<dyn Error>> {
    let extractors = || vec![Box::new(NetworkExtractor::standard(ExtractConfig::default())) as BoxExtractor];
    let settings = DetectionConfig::from(&config.analysis);
    let detection = Detection::new(settings.clone(), extractors())?;
    if baseline.is_empty() {
        return Ok(detection);
    }
    let mut builder = BaselineBuilder::new(&settings, extractors())?;
    let collector = FlowCollector::from_files(baseline)?;
    builder
        .learn_from(&mut collector.with_config(FlowConfig::from(&config.flow))?)
        .await?;
    Ok(detection.with_baseline(&builder.finish()))
}
