//! Models that `train` made: at work, replaced while events flow, and tried beside one another.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use amoskys_analysis::Correlation;
use amoskys_analysis::feedback::Suppressions;
use amoskys_analysis::live::{
    Disagreement, ModelSlot, Shadow, ShadowHandle, SlotHandle, WindowAnalyzer, WindowParams,
};
use amoskys_analysis::model::{ModelFile, SiteModel};
use amoskys_core::config::Config;
use amoskys_core::error::Chain;
use amoskys_core::{Analyzer, BoxExtractor, Digest, FeatureSchema};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
use tokio::runtime::Handle;

use crate::analysis::{Analysis, Trained};

/// How often it is looked whether a model's file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which models to judge by.
#[derive(clap::Args)]
pub(crate) struct Models {
    /// Judge by this model, made by `train --log`; several are joined. When its file changes, and on SIGHUP, it is read again and
    /// put to work without losing an event.
    #[arg(long, value_name = "FILE")]
    model: Vec<PathBuf>,
    /// Try this model beside: its verdicts raise nothing, and the end tells where it differs.
    #[arg(long, value_name = "FILE")]
    shadow: Vec<PathBuf>,
}

/// Makes the analyzer of what was learned.
pub(crate) struct Maker {
    pub(crate) analysis: Analysis,
    pub(crate) config: Config,
    /// What somebody called normal.
    pub(crate) normal: Option<Suppressions>,
}

impl Maker {
    async fn make(&self, site: &SiteModel) -> Result<Correlation, Box<dyn Error>> {
        let analyzer = self.analysis.analyzer(&self.config, trained(site)?).await?;
        Ok(match &self.normal {
            Some(normal) => analyzer.with_suppressions(normal.clone()),
            None => analyzer,
        })
    }
}

/// What is needed while the models are at work.
#[derive(Default)]
pub(crate) struct AtWork {
    watch: Option<Watch>,
    shadow: Option<ShadowHandle>,
    schemas: Vec<FeatureSchema>,
}

impl Models {
    /// The analyzer, and what looks after its models.
    pub(crate) async fn start(&self, maker: Maker) -> Result<(Box<dyn Analyzer>, AtWork), Box<dyn Error>> {
        let stamp = stamp(&self.model);
        let (site, digest) = load(&self.model)?;
        let active = maker.make(&site).await?;
        let shadow = match &self.shadow[..] {
            [] => None,
            files => Some(maker.make(&load(files)?.0).await?),
        };
        let mut at_work = AtWork {
            schemas: site.windows().iter().map(|file| file.schema.clone()).collect(),
            ..AtWork::default()
        };
        let active: Box<dyn Analyzer> = if self.model.is_empty() {
            Box::new(active)
        } else {
            let (slot, handle) = ModelSlot::with_take_over(active, |before, after| after.take_over(before));
            at_work.watch = Some(Watch {
                files: self.model.clone(),
                maker,
                handle,
                digest,
                stamp,
            });
            Box::new(slot)
        };
        let Some(shadow) = shadow else {
            return Ok((active, at_work));
        };
        let (both, handle) = Shadow::new(active, shadow);
        at_work.shadow = Some(handle);
        Ok((Box::new(both), at_work))
    }
}

impl AtWork {
    /// Replaces the model whenever its file changes, or SIGHUP comes.
    pub(crate) fn watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            tokio::spawn(watch.run());
        }
    }

    /// The schemas of the windows that the model read at the start looks at, for the report.
    pub(crate) fn schemas(&self) -> &[FeatureSchema] {
        &self.schemas
    }

    /// Where the shadow differs, if there is one.
    pub(crate) fn disagreement(&self) -> Option<Disagreement> {
        self.shadow.as_ref().map(ShadowHandle::disagreement)
    }
}

/// What a site's model gives to the analysis.
fn trained(site: &SiteModel) -> Result<Trained, Box<dyn Error>> {
    let mut others: Vec<Box<dyn Analyzer>> = Vec::new();
    if !site.windows().is_empty() {
        let extractor = NetworkExtractor::standard(ExtractConfig::default());
        let schemas: Vec<_> = extractor.schemas().cloned().collect();
        let models = site.window_models(&schemas, &|kind, bytes| Ok(amoskys_features::load(kind, bytes)?))?;
        let extractor = Box::new(extractor) as BoxExtractor;
        others.push(Box::new(WindowAnalyzer::new(
            extractor,
            models,
            WindowParams::default(),
        )?));
    }
    Ok(Trained {
        baseline: site.baseline().cloned(),
        calls: site.sequences().cloned(),
        others,
    })
}

/// What the files know together, and a digest of them.
fn load(files: &[PathBuf]) -> Result<(SiteModel, Digest), Box<dyn Error>> {
    let mut site = SiteModel::new();
    let mut digests = Vec::new();
    for path in files {
        let fail = |error: &(dyn Error + 'static)| format!("model {}: {}", path.display(), Chain(error));
        let file = ModelFile::load(path).map_err(|error| fail(&error))?;
        digests.push(file.model_ref()?.digest);
        let one = SiteModel::of_file(&file).map_err(|error| fail(&error))?;
        site = site.join(one).map_err(|error| fail(&error))?;
    }
    let digest = Digest::of_parts(digests.iter().map(|digest| &digest.0[..]));
    Ok((site, digest))
}

/// When the files were written, and how long they are.
fn stamp(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let of = |path: &Path| {
        let known = std::fs::metadata(path).ok()?;
        Some((known.modified().ok()?, known.len()))
    };
    files.iter().map(|path| of(path)).collect()
}

/// Looks after the files of the model at work.
struct Watch {
    files: Vec<PathBuf>,
    maker: Maker,
    handle: SlotHandle<Correlation>,
    digest: Digest,
    stamp: Vec<Option<(SystemTime, u64)>>,
}

impl Watch {
    async fn run(mut self) {
        let mut hangup = Hangup::new();
        loop {
            let asked = tokio::select! {
                () = hangup.next() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let stamp = stamp(&self.files);
            if !asked && stamp == self.stamp {
                continue;
            }
            self.stamp = stamp;
            // A large model takes a while, and others want to run.
            let runtime = Handle::current();
            let reloaded = tokio::task::spawn_blocking(move || {
                runtime.block_on(self.reload(asked));
                self
            });
            let Ok(back) = reloaded.await else { return };
            self = back;
        }
    }

    /// Reads the files. What cannot be used leaves the model at work where it is.
    async fn reload(&mut self, asked: bool) {
        match self.make().await {
            Ok((_, digest)) if digest == self.digest => {
                if asked {
                    eprintln!("sentinel: the model has not changed");
                }
            }
            Ok((analyzer, digest)) => {
                self.digest = digest;
                self.handle.offer(analyzer);
                eprintln!("sentinel: another model judges from the next event on: {digest}");
            }
            Err(error) => {
                eprintln!("sentinel: {}; the model at work stays", Chain(&*error));
            }
        }
    }

    async fn make(&self) -> Result<(Correlation, Digest), Box<dyn Error>> {
        let (site, digest) = load(&self.files)?;
        Ok((self.maker.make(&site).await?, digest))
    }
}

/// SIGHUP, where there is such a thing.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self {
            signal: signal(SignalKind::hangup()).ok(),
        }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal {
            signal.recv().await;
            return;
        }
        std::future::pending::<()>().await;
    }
}
