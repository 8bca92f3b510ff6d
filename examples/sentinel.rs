//! Watches network traffic, from capture files or an interface, and says who attacks whom, and why it thinks so.
//!
//! Packets become flow, DNS and ARP events; events become signed, durable batches in a log; what is in the log
//! becomes features, scores and alerts. Start it again on the same data directory and it goes on where it was.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use amoskys_analysis::report::Report;
use amoskys_analysis::{AlertFile, BaselineBuilder, Detection, DetectionConfig, evidence_schema};
use amoskys_collectors::capture::LiveConfig;
use amoskys_collectors::flow::{FlowCollector, Progress};
use amoskys_core::error::Chain;
use amoskys_core::event::{Verdict, VerdictId};
use amoskys_core::ledger::LedgerSnapshot;
use amoskys_core::pipeline::{Pipeline, Retention};
use amoskys_core::{
    Analyzer, BoxError, BoxExtractor, Class, Collector, Epoch, Observation, Offset, Opened, Payload,
    ReadLogError,
};
use amoskys_core::{Recorded, Seq, Shutdown, StreamId, read_log};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
use amoskys_transport::{Log, LogOptions};
use clap::{ArgGroup, Parser};
use indicatif::{ProgressBar, ProgressStyle};

/// Watch network traffic and raise explained alerts.
#[derive(Parser)]
#[command(version, group(ArgGroup::new("input").required(true).args(["read", "interface", "replay"])))]
struct Args {
    /// Read these capture files (pcap or pcapng), in this order.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    read: Vec<PathBuf>,
    /// Watch this interface until Ctrl-C (Linux; needs CAP_NET_RAW).
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Analyze again what is in the log of the data directory, without adding to it.
    #[arg(long, requires = "data_dir")]
    replay: bool,
    /// Learn what is normal from these capture files first.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    baseline: Vec<PathBuf>,
    /// Keep the log and its key here; by default in a temporary directory that is removed at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write alerts to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// Write a report to this file: one HTML page that needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sentinel: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let temporary = std::env::temp_dir().join(format!("amoskys-sentinel-{}", std::process::id()));
    let dir = args.data_dir.clone().unwrap_or_else(|| temporary.clone());
    let outcome = watch(&args, &dir).await;
    if args.data_dir.is_none() {
        std::fs::remove_dir_all(&temporary).ok();
    }
    outcome
}

async fn watch(args: &Args, dir: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let mut detection = detection(&args.baseline).await?;
    let log = Log::open(dir, LogOptions::new().agent("sentinel"))?;
    let (wal, opener) = (log.wal.clone(), log.opener.clone());
    let mut alerts = args.alerts.as_ref().map(AlertFile::open).transpose()?;
    let mut review = Review::new(args);
    if args.replay {
        review.read(read_log(&*wal, &*opener), Some(&mut detection))?;
        if let Some(mut file) = alerts.take() {
            review
                .verdicts
                .values()
                .try_for_each(|verdict| file.take(verdict))?;
            file.tidy()?;
        }
    } else {
        let shutdown = stop_on_ctrl_c();
        let collector = match &args.interface {
            Some(name) => FlowCollector::from_interface(name, LiveConfig::default()),
            None => FlowCollector::from_files(&args.read)?,
        };
        let bar = tokio::spawn(show_progress(collector.progress()));
        let collector = collector.with_stop(shutdown.clone());
        let mut pipeline = Pipeline::builder()
            .name("sentinel")
            .collector(collector)
            .log(log.into_parts());
        if let Some(file) = alerts.take() {
            pipeline = pipeline.sink_of(Class::Alert, file);
        }
        let pipeline = pipeline
            .retention(Retention::UntilFull)
            .analyzer(detection)
            .build()?;
        let report = pipeline.run(shutdown).await?;
        bar.abort();
        review.failures = report.failures;
        review.ledger = report.ledger;
        review.read(read_log(&*wal, &*opener), None)?;
    }
    if let Some(path) = &args.report {
        std::fs::write(path, review.page())?;
    }
    Ok(review.print())
}

/// The detection, after learning from the baseline captures if there are any.
async fn detection(baseline: &[PathBuf]) -> Result<Detection, Box<dyn Error>> {
    let config = DetectionConfig::default();
    let extractors = || vec![Box::new(NetworkExtractor::standard(ExtractConfig::default())) as BoxExtractor];
    let detection = Detection::new(config.clone(), extractors())?;
    if baseline.is_empty() {
        return Ok(detection);
    }
    let mut builder = BaselineBuilder::new(&config, extractors())?;
    let mut collector = FlowCollector::from_files(baseline)?;
    let stream = StreamId {
        agent: "baseline".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    };
    let (stream, mut seq) = (Arc::new(stream), 0);
    while let Some(batch) = collector.next_batch().await? {
        for event in batch.events {
            builder.observe(&Recorded {
                stream: stream.clone(),
                seq: Seq(seq),
                event,
            });
            seq += 1;
        }
    }
    Ok(detection.with_baseline(&builder.finish()))
}

fn stop_on_ctrl_c() -> Shutdown {
    let shutdown = Shutdown::new();
    let trigger = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            eprintln!("draining: what was collected is kept");
            trigger.trigger();
        }
    });
    shutdown
}

async fn show_progress(progress: Progress) {
    let style = "{percent:>3}% {bar:40} {bytes}/{total_bytes} {eta}";
    let bar = ProgressBar::new(progress.bytes_total());
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        bar.set_position(progress.bytes_read());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the log holds in the end, for the table and the report.
struct Review {
    verdicts: BTreeMap<VerdictId, Verdict>,
    report: Report,
    ledger: LedgerSnapshot,
    failures: Vec<(String, BoxError)>,
}

impl Review {
    fn new(args: &Args) -> Self {
        let mut report = Report::new("Network traffic");
        report.schema(&evidence_schema());
        args.read
            .iter()
            .for_each(|path| report.input(&path.to_string_lossy()));
        args.interface.iter().for_each(|name| report.input(name));
        Self {
            verdicts: BTreeMap::new(),
            report,
            ledger: LedgerSnapshot::default(),
            failures: Vec::new(),
        }
    }

    /// Takes events and verdicts from the log; with a detection, draws the verdicts anew.
    fn read(
        &mut self,
        log: impl Iterator<Item = Result<(Offset, Opened), ReadLogError>>,
        mut detection: Option<&mut Detection>,
    ) -> Result<(), Box<dyn Error>> {
        let mut drawn = Vec::new();
        for opened in log {
            let mut opened = match opened {
                Ok((_, opened)) => opened,
                Err(ReadLogError::Record(error)) => {
                    self.failures.push(("log".to_owned(), error));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.ledger = opened
                .ledger
                .take()
                .filter(|_| detection.is_some())
                .unwrap_or_else(|| self.ledger.clone());
            for event in opened.into_recorded() {
                match (&event.event.payload, &mut detection) {
                    (Payload::Verdict(_), Some(_)) => continue,
                    (Payload::Verdict(verdict), None) => drawn.push((**verdict).clone()),
                    (_, Some(detection)) => detection.observe(Observation::Event(&event), &mut drawn)?,
                    (_, None) => {}
                }
                self.report.observe(&event);
                for verdict in drawn.drain(..) {
                    self.report.verdict(&verdict);
                    self.verdicts.insert(verdict.id, verdict);
                }
            }
        }
        Ok(())
    }

    fn page(&mut self) -> String {
        self.report.ledger(&self.ledger);
        self.report.render()
    }

    fn print(&self) -> ExitCode {
        let mut alerts: Vec<&Verdict> = self
            .verdicts
            .values()
            .filter(|verdict| verdict.is_alert())
            .collect();
        alerts.sort_by_key(|alert| (alert.time, alert.id));
        println!("{} alerts", alerts.len());
        for alert in alerts {
            let technique = alert
                .technique
                .as_ref()
                .map_or("", |technique| technique.as_str());
            println!(
                "  {:8}  {:.2}  {technique:9}  {:22}  {}",
                alert.severity(),
                alert.score,
                alert.entity,
                alert.title
            );
        }
        println!("\n{}", self.ledger);
        for (part, error) in &self.failures {
            eprintln!("sentinel: {part}: {}", Chain(&**error));
        }
        if self.failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
