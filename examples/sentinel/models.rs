//! Models that `train` made: at work, replaced while events flow, and tried beside one another.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use amoskys_analysis::Correlation;
use amoskys_analysis::feedback::Suppressions;
use amoskys_analysis::live::{
    Disagreement, ModelSlot, Shadow, ShadowHandle, SlotHandle, WindowAnalyzer, WindowParams,
};
use amoskys_analysis::model::{ModelFile, SiteModel};
use amoskys_core::config::Config;
use amoskys_core::error::Chain;
use amoskys_core::event::{AuditEntry, AuditOutcome};
use amoskys_core::{Analyzer, Digest, FeatureSchema};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
use tokio::runtime::Handle;

use crate::analysis::{Analysis, Trained};
use crate::audit::{Audit, Decisions};

/// How often it is looked whether a model's file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which models to judge by.
#[derive(clap::Args)]
pub(crate) struct Models {
    /// Judge by this model, made by `train --log`; several are joined. While an interface or this machine is watched, it is read
    /// again when its file changes, and on SIGHUP, and put to work without losing an event.
    #[arg(long, value_name = "FILE")]
    model: Vec<PathBuf>,
    /// Try this model beside: its verdicts raise nothing, and the end tells where it differs; several are joined. It is read again
    /// like the model at work, and compared from there on.
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
    /// Of the model at work, and of the shadow.
    watches: Vec<Watch>,
    shadow: Option<ShadowHandle>,
    schemas: Vec<FeatureSchema>,
}

impl Models {
    /// The analyzer, and what looks after its models.
    pub(crate) async fn start(&self, maker: Maker) -> Result<(Box<dyn Analyzer>, AtWork), Box<dyn Error>> {
        let maker = Arc::new(maker);
        let mut at_work = AtWork::default();
        let active = self.slot(&self.model, "model", &maker, &mut at_work).await?;
        if self.shadow.is_empty() {
            return Ok((active, at_work));
        }
        let schemas = std::mem::take(&mut at_work.schemas);
        let shadow = self.slot(&self.shadow, "shadow", &maker, &mut at_work).await?;
        let (both, handle) = Shadow::new(active, shadow);
        if let Some(watch) = at_work.watches.last_mut() {
            watch.compared = Some(handle.clone());
        }
        (at_work.shadow, at_work.schemas) = (Some(handle), schemas);
        Ok((Box::new(both), at_work))
    }

    /// An analyzer with what these files know, which is replaced when they change; one that stays if there are none.
    async fn slot(
        &self,
        files: &[PathBuf],
        role: &'static str,
        maker: &Arc<Maker>,
        at_work: &mut AtWork,
    ) -> Result<Box<dyn Analyzer>, Box<dyn Error>> {
        let stamp = stamp(files);
        let (site, digest) = load(files)?;
        let analyzer = maker.make(&site).await?;
        at_work.schemas = site.windows().iter().map(|file| file.schema.clone()).collect();
        if files.is_empty() {
            return Ok(Box::new(analyzer));
        }
        let (slot, handle) = ModelSlot::with_take_over(analyzer, |before, after| after.take_over(before));
        at_work.watches.push(Watch {
            files: files.to_vec(),
            role,
            maker: maker.clone(),
            handle,
            compared: None,
            digest,
            stamp,
        });
        Ok(Box::new(slot))
    }
}

impl AtWork {
    /// Replaces a model whenever its file changes, or SIGHUP comes. Gives what tells the log of it.
    pub(crate) fn watch(&mut self, name: &str) -> Vec<Audit> {
        let start = |watch: Watch| {
            let told = Replacements {
                actor: name.to_owned(),
                role: watch.role,
                handle: watch.handle.clone(),
                next: 0,
            };
            let audit = Audit::new(watch.role, name, Box::new(told), true);
            tokio::spawn(watch.run());
            audit
        };
        self.watches.drain(..).map(start).collect()
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

/// The models that were put to work in the place of others.
struct Replacements {
    actor: String,
    role: &'static str,
    handle: SlotHandle<Correlation>,
    next: u64,
}

impl Decisions for Replacements {
    fn take(&mut self, last: bool) -> Vec<AuditEntry> {
        let (swaps, next) = self.handle.swaps_from(self.next);
        self.next = next;
        let mut entries: Vec<AuditEntry> = swaps.iter().map(|swap| swap.audit_entry(&self.actor)).collect();
        for entry in &mut entries {
            entry.reason = format!("the {}: {}", self.role, entry.reason);
        }
        if last && self.handle.is_waiting() {
            entries.push(AuditEntry {
                actor: self.actor.clone(),
                action: "model.offer".to_owned(),
                object: format!("the {}", self.role),
                outcome: AuditOutcome::Success,
                reason: "it judges from the next event on, if one comes before the end".to_owned(),
            });
        }
        entries
    }
}

/// What a site's model gives to the analysis.
fn trained(site: &SiteModel) -> Result<Trained, Box<dyn Error>> {
    let mut trained = Trained {
        baseline: site.baseline().cloned(),
        calls: site.sequences().cloned(),
        ..Trained::default()
    };
    if !site.windows().is_empty() {
        let extractor = NetworkExtractor::standard(ExtractConfig::default());
        let schemas: Vec<_> = extractor.schemas().cloned().collect();
        let models = site.window_models(&schemas, &|kind, bytes| Ok(amoskys_features::load(kind, bytes)?))?;
        trained.schemas = models.iter().map(|model| model.schema().digest()).collect();
        let windows = WindowAnalyzer::of_vectors(models, WindowParams::default())?;
        trained.others.push(Box::new(windows));
    }
    Ok(trained)
}

/// What the files know together, and a digest of them.
fn load(files: &[PathBuf]) -> Result<(SiteModel, Digest), Box<dyn Error>> {
    let mut site = SiteModel::new();
    let mut digests = Vec::new();
    for path in files {
        let fail = |error: &(dyn Error + 'static)| format!("{}: {}", path.display(), Chain(error));
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

/// Looks after the files of a model.
struct Watch {
    files: Vec<PathBuf>,
    role: &'static str,
    maker: Arc<Maker>,
    handle: SlotHandle<Correlation>,
    /// Where a shadow is compared.
    compared: Option<ShadowHandle>,
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

    /// Reads the files. What cannot be used leaves the model that is there where it is.
    async fn reload(&mut self, asked: bool) {
        let role = self.role;
        match self.make().await {
            Ok((_, digest)) if digest == self.digest => {
                if asked {
                    eprintln!("sentinel: the {role} has not changed");
                }
            }
            Ok((analyzer, digest)) => {
                self.digest = digest;
                self.handle.offer(analyzer);
                if let Some(compared) = &self.compared {
                    compared.begin_again();
                }
                eprintln!("sentinel: the {role}: another one judges from the next event on: {digest}");
            }
            Err(error) => {
                eprintln!(
                    "sentinel: the {role}: {}; the one that is there stays",
                    Chain(&*error)
                );
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
