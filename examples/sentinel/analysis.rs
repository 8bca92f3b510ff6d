//! What judges the events: the detection and what it has learned, and beside it the graph, rules, sequences and metrics, joined so that
//! one attack is one alert.

use std::error::Error;
use std::path::PathBuf;

use amoskys_analysis::feedback::{SuppressionFile, Suppressions};
use amoskys_analysis::graph::{GraphAnalyzer, GraphAnalyzerParams};
use amoskys_analysis::sequence::{SequenceAnalyzer, SequenceAnalyzerParams, SequenceModel, SigmaAnalyzer};
use amoskys_analysis::series::{MetricDetection, MetricsConfig};
use amoskys_analysis::{Baseline, BaselineBuilder, Correlation, Detection, DetectionConfig};
use amoskys_collectors::flow::{FlowCollector, FlowConfig};
use amoskys_core::config::Config;
use amoskys_core::event::AuditEntry;
use amoskys_core::{Analyzer, BoxExtractor, Digest};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
use clap::Args;

use crate::audit::{Audit, Decisions};

/// How to judge.
#[derive(Args, Clone)]
pub(crate) struct Analysis {
    /// Learn what is normal from these capture files first.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    baseline: Vec<PathBuf>,
    /// Apply the Sigma rules of this directory to what processes do.
    #[arg(long, value_name = "DIR")]
    sigma: Option<PathBuf>,
    /// Take somebody's word for what is normal here: a list of suppressions (JSON), which may be changed at any time.
    #[arg(long, value_name = "FILE")]
    normal: Option<PathBuf>,
}

/// The list of what is normal, which is read again whenever it has changed.
struct ListOfNormal {
    file: SuppressionFile,
    /// What it held at first.
    entries: Vec<AuditEntry>,
}

impl Decisions for ListOfNormal {
    fn take(&mut self, _: bool) -> Vec<AuditEntry> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.extend(self.file.reload());
        entries
    }
}

/// What was trained elsewhere.
#[derive(Default)]
pub(crate) struct Trained {
    /// What is normal here.
    pub(crate) baseline: Option<Baseline>,
    /// What calls processes usually make.
    pub(crate) calls: Option<SequenceModel>,
    /// Analyzers of any kind, whose verdicts are joined with the others.
    pub(crate) others: Vec<Box<dyn Analyzer>>,
    /// Schemas of the windows that those want to be shown.
    pub(crate) schemas: Vec<Digest>,
}

impl Analysis {
    /// The list of what is normal, if there is one, and the one who watches it and tells the log of each change. Without `live` it is
    /// read once.
    pub(crate) fn normal(
        &self,
        config: &Config,
        live: bool,
    ) -> Result<Option<(Suppressions, Audit)>, Box<dyn Error>> {
        let Some(path) = &self.normal else {
            return Ok(None);
        };
        let name = &config.agent.name;
        let (file, entries) = SuppressionFile::open(path, name)?;
        let handle = file.suppressions();
        let list = Box::new(ListOfNormal { file, entries });
        Ok(Some((handle, Audit::new("feedback", name, list, live))))
    }

    /// The analyzer, after learning from the baseline captures if there are any.
    pub(crate) async fn analyzer(
        &self,
        config: &Config,
        trained: Trained,
    ) -> Result<Correlation, Box<dyn Error>> {
        let settings = DetectionConfig::from(&config.analysis);
        // The correlation knows whose hints are to be taken seriously.
        let hints = SequenceAnalyzerParams {
            report_score: 0.0,
            ..SequenceAnalyzerParams::default()
        };
        let baseline = self.baseline(config, &settings, trained.baseline).await?;
        let mut detection = Detection::new(settings.clone(), Vec::new())?;
        let mut schemas = trained.schemas;
        if let Some(baseline) = &baseline {
            detection = detection.with_baseline(baseline);
            schemas.extend(baseline.window_schemas());
        }
        let mut joined = Correlation::new(&settings)?
            .with(detection)
            .with(GraphAnalyzer::new(GraphAnalyzerParams::default())?)
            .with(SequenceAnalyzer::new(trained.calls, hints)?)
            .with(MetricDetection::new(MetricsConfig::default())?);
        if let Some(folder) = &self.sigma {
            let rules = SigmaAnalyzer::load(folder)?;
            for refused in rules.refused() {
                tracing::warn!(path = %refused.path.display(), reason = refused.reason, "a Sigma rule is not applied");
            }
            joined = joined.with(rules);
        }
        for other in trained.others {
            joined = joined.with(other);
        }
        // Windows are made once for all who look at them, and only if anybody does.
        if !schemas.is_empty() {
            joined = joined.with_extractor(extractor(), &schemas);
        }
        Ok(joined)
    }

    /// What is normal: as it was trained, or learned from captures now.
    async fn baseline(
        &self,
        config: &Config,
        settings: &DetectionConfig,
        trained: Option<Baseline>,
    ) -> Result<Option<Baseline>, Box<dyn Error>> {
        if self.baseline.is_empty() {
            return Ok(trained);
        }
        if trained.is_some() {
            return Err("the model has a baseline, and --baseline would be another".into());
        }
        let mut builder = BaselineBuilder::new(settings, vec![extractor()])?;
        let collector = FlowCollector::from_files(&self.baseline)?;
        builder
            .learn_from(&mut collector.with_config(FlowConfig::from(&config.flow))?)
            .await?;
        Ok(Some(builder.finish()))
    }
}

fn extractor() -> BoxExtractor {
    Box::new(NetworkExtractor::standard(ExtractConfig::default()))
}
