//! What tests and examples need of the correlation: all analyzers that need no training, as the programs join them.

use std::error::Error;

use amoskys_analysis::graph::{GraphAnalyzer, GraphAnalyzerParams};
use amoskys_analysis::sequence::{SequenceAnalyzer, SequenceAnalyzerParams};
use amoskys_analysis::series::{MetricDetection, MetricsConfig};
use amoskys_analysis::{Correlation, Detection, DetectionConfig};

/// The detection, joined by the graph, the rules and the metrics.
pub(crate) fn join(config: &DetectionConfig, detection: Detection) -> Result<Correlation, Box<dyn Error>> {
    // The correlation knows whose hints are to be taken seriously.
    let rules = SequenceAnalyzerParams {
        report_score: 0.0,
        ..SequenceAnalyzerParams::default()
    };
    Ok(Correlation::new(config)?
        .with(detection)
        .with(GraphAnalyzer::new(GraphAnalyzerParams::default())?)
        .with(SequenceAnalyzer::new(None, rules)?)
        .with(MetricDetection::new(MetricsConfig::default())?))
}
