//! `pcap`: captures of attacks and of honest traffic. The detection sees each by itself, without a baseline and with its defaults.
//! An attack is found if an alert accuses the right host of a technique that fits; an alert on honest traffic is false.
//!
//! `attack_labels.csv` says what a capture shows and who does it. Where it names no host, any will do; an attack that it does not
//! name counts as found with an alert on any host, of any technique. What cannot be read as a capture is said to be so, and left out.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use amoskys_analysis::eval::{auroc, average_precision};
use amoskys_analysis::{Detection, DetectionConfig};
use amoskys_collectors::capture::CaptureReader;
use amoskys_collectors::flow::FlowCollector;
use amoskys_core::error::Chain;
use amoskys_core::event::{Technique, Verdict, VerdictId};
use amoskys_core::{Analyzer, Class, Collector as _, Epoch, Observation, Recorded, Seq, StreamId};
use serde_json::json;

use crate::output::{Format, Metric, Outcome, csv_field};
use crate::report::{Drawn, Report, Results};
use crate::table::{Lines, folder};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `pcap/`, or that folder: `attack/`, `benign/` or both, and `attack_labels.csv`.
    #[arg(long)]
    data: PathBuf,
}

const DETECTOR: &str = "Detection";
/// Verdicts are asked for from this score on, to see how far the others are from an alert.
const LEAST: f64 = 1e-3;

/// Techniques that fit what a capture is labelled with. One with a dot fits its parent too.
const FITTING: [(&str, &[&str]); 9] = [
    ("port_scan", &["T1046", "T1595"]),
    ("dns_tunnel", &["T1071.004", "T1572", "T1048"]),
    ("malware_c2", &["T1071", "T1041", "T1571", "T1573", "T1105"]),
    ("web_attack", &["T1190"]),
    ("icmp_tunnel", &["T1095", "T1572", "T1048"]),
    ("brute_force", &["T1110"]),
    ("rat_c2", &["T1071", "T1041", "T1095", "T1219", "T1571"]),
    ("arp_spoofing", &["T1557"]),
    ("syn_flood", &["T1499", "T1498"]),
];
const EXPLOITS: &[&str] = &["T1190", "T1210", "T1203", "T1068"];

/// A capture, and what is known of it.
struct Capture {
    path: PathBuf,
    name: String,
    label: Option<Label>,
}

#[derive(Default)]
struct Label {
    /// `None`: nobody says, and any will do.
    category: Option<String>,
    /// Empty: any.
    hosts: Vec<String>,
}

/// What was said of a capture.
struct Finding {
    name: String,
    attack: bool,
    /// The strongest alert that is right, else the strongest verdict.
    said: Option<Verdict>,
    /// Highest score of any verdict.
    score: f64,
    alerts: usize,
    right: bool,
    seconds: f64,
    events: u64,
}

pub(crate) fn run(options: &Options, format: Format, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let folder = folder(&options.data, "pcap");
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut findings = Vec::new();
    let mut unreadable = 0;
    for capture in captures(&folder)? {
        match runtime.block_on(detect(&capture)) {
            Ok(finding) => {
                say_damaged(&capture.path)?;
                if finding.events == 0 {
                    eprintln!(
                        "{}: there is no packet that could be metered",
                        capture.path.display()
                    );
                }
                print(&finding, format);
                findings.push(finding);
            }
            Err(error) => {
                unreadable += 1;
                eprintln!("{}: left out: {}", capture.path.display(), Chain(&*error));
            }
        }
    }
    if findings.is_empty() {
        return Err(format!("{}: there is no capture that can be read", folder.display()).into());
    }
    if unreadable > 0 {
        eprintln!("{unreadable} files could not be read as captures and are left out");
    }
    let mut results = Results::new(format, report);
    results.group("pcap");
    summarise(&findings, format, &mut results);
    Ok(())
}

/// The captures of both folders, in order of their names.
fn captures(folder: &Path) -> Result<Vec<Capture>, Box<dyn Error>> {
    let mut labels = labels(&folder.join("attack_labels.csv"))?;
    let mut captures = Vec::new();
    let mut unknown = 0;
    let below = |kind: &str| folder.join(kind);
    if !["attack", "benign"].iter().any(|kind| below(kind).is_dir()) {
        let folder = folder.display();
        return Err(format!("{folder}: there is neither a folder attack/ nor a folder benign/").into());
    }
    for kind in ["attack", "benign"] {
        let below = below(kind);
        if !below.is_dir() {
            eprintln!("{}: there is no folder {kind}/", folder.display());
            continue;
        }
        let fail = |error| format!("{}: {error}", below.display());
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&below).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let file = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let name = format!("{kind}/{file}");
            let label = labels.remove(&name);
            let label = match kind {
                "attack" => {
                    unknown += usize::from(label.is_none());
                    Some(label.unwrap_or_default())
                }
                _ if label.is_some() => {
                    return Err(format!("{name}: attack_labels.csv says that it is an attack").into());
                }
                _ => None,
            };
            captures.push(Capture { path, name, label });
        }
    }
    if unknown > 0 {
        eprintln!(
            "{}: attack_labels.csv does not say what {unknown} captures of attack/ show: any alert on them counts as right",
            folder.display()
        );
    }
    for name in labels.keys() {
        eprintln!("attack_labels.csv: there is no capture {name}");
    }
    Ok(captures)
}

/// What the captures show, by their names; nothing if there is no such file.
fn labels(path: &Path) -> Result<BTreeMap<String, Label>, Box<dyn Error>> {
    let mut labels = BTreeMap::new();
    if !path.exists() {
        return Ok(labels);
    }
    let mut lines = Lines::open(path)?;
    let [file, category, host] = ["file", "category", "suspicious_host"].map(|name| lines.column(name));
    let (file, category, host) = (file?, category?, host?);
    while let Some(line) = lines.next()? {
        let hosts = line[host].split(';').map(str::trim);
        let hosts = hosts.filter(|host| host.parse::<std::net::IpAddr>().is_ok());
        let label = Label {
            category: Some(line[category].to_owned()).filter(|category| !category.is_empty()),
            hosts: hosts.map(str::to_owned).collect(),
        };
        labels.insert(line[file].to_owned(), label);
    }
    Ok(labels)
}

/// What judges each capture.
fn analyzer() -> Result<impl Analyzer, Box<dyn Error>> {
    let mut config = DetectionConfig::default();
    config.report_score = LEAST;
    Ok(Detection::new(config, Vec::new())?)
}

/// What could be read of a damaged capture was judged; what was wrong with it is said.
fn say_damaged(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut reader = CaptureReader::new(File::open(path)?)?;
    while reader.next_packet()?.is_some() {}
    let damage = reader.damage();
    for (kind, count) in &damage.counts {
        let at = damage.first_offset.unwrap_or_default();
        eprintln!("{}: damaged: {count} {kind}, from byte {at}", path.display());
    }
    Ok(())
}

async fn detect(capture: &Capture) -> Result<Finding, Box<dyn Error>> {
    let mut analyzer = analyzer()?;
    let stream = Arc::new(StreamId {
        agent: "sensor".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    });
    let mut collector = FlowCollector::from_files([&capture.path])?;
    let (mut verdicts, mut events) = (Vec::new(), 0);
    let begun = Instant::now();
    while let Some(batch) = collector.next_batch().await? {
        for event in batch.events {
            let recorded = Recorded {
                timeline: 0,
                stream: stream.clone(),
                seq: Seq(events),
                event,
            };
            events += 1;
            analyzer.observe(Observation::Event(&recorded), &mut verdicts)?;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let mut latest: Vec<(VerdictId, Verdict)> = Vec::new();
    for verdict in verdicts {
        match latest.iter_mut().find(|(id, _)| *id == verdict.id) {
            Some((_, known)) => *known = verdict,
            None => latest.push((verdict.id, verdict)),
        }
    }
    let mut latest: Vec<Verdict> = latest.into_iter().map(|(_, verdict)| verdict).collect();
    latest.sort_by(|a, b| b.score.total_cmp(&a.score));
    let score = latest.first().map_or(0.0, |verdict| verdict.score);
    let alerts = latest.iter().filter(|verdict| verdict.is_alert()).count();
    let is_right = |verdict: &&Verdict| {
        let label = capture.label.as_ref();
        verdict.is_alert() && label.is_some_and(|label| label.fits(verdict))
    };
    let found = latest.iter().find(is_right);
    let right = if capture.label.is_some() {
        found.is_some()
    } else {
        alerts == 0
    };
    Ok(Finding {
        name: capture.name.clone(),
        attack: capture.label.is_some(),
        said: found.or(latest.first()).cloned(),
        score,
        alerts,
        right,
        seconds,
        events,
    })
}

impl Label {
    fn fits(&self, verdict: &Verdict) -> bool {
        let host = verdict.entity.host().map(|host| host.to_string());
        let host = self.hosts.is_empty() || host.is_some_and(|host| self.hosts.contains(&host));
        let Some(category) = &self.category else {
            return host;
        };
        let fitting = FITTING.iter().find(|(known, _)| known == category);
        let fitting = fitting.map_or(EXPLOITS, |(_, techniques)| techniques);
        host && verdict.technique.as_ref().is_some_and(|technique| {
            let id = technique.as_str();
            let parent = id.split('.').next().unwrap_or(id);
            fitting.iter().any(|fits| *fits == id || *fits == parent)
        })
    }
}

impl Finding {
    /// Host, technique, score.
    fn words(&self) -> [String; 3] {
        let said = self.said.as_ref();
        [
            said.map_or_else(|| "-".to_owned(), |verdict| verdict.entity.to_string()),
            said.and_then(|verdict| verdict.technique.as_ref().map(Technique::to_string))
                .unwrap_or_else(|| "-".to_owned()),
            format!("{:.3}", said.map_or(0.0, |verdict| verdict.score)),
        ]
    }

    const fn verdict(&self) -> &'static str {
        match (self.attack, self.right) {
            (true, true) => "found",
            (true, false) => "missed",
            (false, true) => "quiet",
            (false, false) => "false alarm",
        }
    }
}

fn print(finding: &Finding, format: Format) {
    let [host, technique, score] = finding.words();
    let (name, verdict, alerts) = (&finding.name, finding.verdict(), finding.alerts);
    match format {
        Format::Table => {
            println!("{name:<48} {host:<24} {technique:<10} {score:>6} {alerts:>3} alerts  {verdict}");
        }
        Format::Csv => println!(
            "{},{host},{technique},{score},{alerts},{verdict}",
            csv_field(name)
        ),
        Format::Json => println!(
            "{}",
            json!({"capture": name, "host": host, "technique": technique, "score": finding.score, "alerts": alerts, "verdict": verdict})
        ),
    }
}

fn summarise(findings: &[Finding], format: Format, results: &mut Results<'_>) {
    let scores: Vec<f64> = findings.iter().map(|finding| finding.score).collect();
    let labels: Vec<bool> = findings.iter().map(|finding| finding.attack).collect();
    let count =
        |wanted: &dyn Fn(&Finding) -> bool| findings.iter().filter(|finding| wanted(finding)).count() as f64;
    let metric = |name: &'static str, value: f64| Metric {
        name,
        value,
        reference: None,
    };
    let outcome = Outcome {
        detector: DETECTOR.to_owned(),
        set: "pcap".to_owned(),
        metrics: vec![
            metric("found", count(&|finding| finding.attack && finding.right)),
            metric("attacks", count(&|finding| finding.attack)),
            metric(
                "false",
                findings
                    .iter()
                    .filter(|finding| !finding.attack)
                    .map(|finding| finding.alerts)
                    .sum::<usize>() as f64,
            ),
            metric("benign", count(&|finding| !finding.attack)),
            metric("auroc", auroc(&scores, &labels).unwrap_or(f64::NAN)),
            metric("ap", average_precision(&scores, &labels).unwrap_or(f64::NAN)),
        ],
        seconds: findings.iter().map(|finding| finding.seconds).sum(),
    };
    let drawn = Drawn {
        scores: &scores,
        labels: &labels,
        // The score of a verdict is meant as a probability.
        probabilities: Some(&scores),
    };
    let lines = findings.iter().map(|finding| {
        let [host, technique, score] = finding.words();
        let alerts = finding.alerts.to_string();
        vec![
            finding.name.clone(),
            host,
            technique,
            score,
            alerts,
            finding.verdict().to_owned(),
        ]
    });
    let heads = [
        "capture",
        "host accused",
        "technique",
        "score",
        "alerts",
        "verdict",
    ];
    results.listing("pcap", &heads, lines.collect());
    results.add(&outcome, Some(&drawn));
    if format == Format::Table {
        let events: u64 = findings.iter().map(|finding| finding.events).sum();
        println!(
            "{:.0} of {:.0} attacks found, {:.0} alerts on {:.0} honest captures; {events} events",
            outcome.metrics[0].value,
            outcome.metrics[1].value,
            outcome.metrics[2].value,
            outcome.metrics[3].value
        );
    }
}
