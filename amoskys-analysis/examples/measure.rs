//! Measures the detection on labelled captures: what it finds, what else it says, how sure it is, and how soon.
//!
//! ```text
//! cargo run --release -p amoskys-analysis --example measure -- [--baseline FILE]... [--alone] FILE...
//! ```
//!
//! The labels of a capture are in `labels.csv` beside it, as `examples/lab/README.md` describes them. A capture without labels
//! counts as honest. With `--baseline`, each capture is measured after learning from those.
//! The detection is joined by the other analyzers, as in `sentinel`; with `--alone` it is not.

#[path = "../tests/capture/mod.rs"]
mod capture;
#[path = "../tests/joined/mod.rs"]
mod joined;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use amoskys_analysis::{Baseline, BaselineBuilder, Detection, DetectionConfig};
use amoskys_core::event::{Verdict, VerdictId};
use amoskys_core::{Analyzer, BoxExtractor, Observation, Timestamp};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
use capture::{latest, show_events};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut files, mut honest, mut alone) = (Vec::new(), Vec::new(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--baseline" => honest.push(arguments.next().ok_or("--baseline needs a file")?),
            "--alone" => alone = true,
            _ => files.push(argument),
        }
    }
    // Quiet verdicts are wanted too, to see how far they are from an alert.
    let mut config = DetectionConfig::default();
    config.report_score = 1e-3;
    let baseline = fit(&config, &honest)?;
    for file in &files {
        println!("{file}");
        let labels = &labels(Path::new(file))?;
        let mut incidents = measure(Path::new(file), &config, baseline.as_ref(), alone)?;
        for label in labels {
            let found = incidents
                .iter()
                .position(|incident| label.is_about(&incident.latest))
                .map(|at| incidents.remove(at));
            print_attack(label, found.as_ref());
        }
        let others = |attackers: bool| {
            incidents.iter().filter(move |incident| {
                labels.iter().any(|label| label.accuses(&incident.latest)) == attackers
            })
        };
        print_others("of the attackers' hosts", others(true));
        print_others("of all other hosts", others(false));
    }
    Ok(())
}

/// What a capture is known to hold.
struct Label {
    start: Timestamp,
    host: String,
    technique: String,
    name: String,
}

impl Label {
    fn is_about(&self, verdict: &Verdict) -> bool {
        let technique = verdict
            .technique
            .as_ref()
            .is_some_and(|technique| technique.as_str() == self.technique);
        technique && self.accuses(verdict)
    }

    fn accuses(&self, verdict: &Verdict) -> bool {
        let host = verdict.entity.host();
        host.is_some_and(|host| host.to_string() == self.host)
    }
}

/// A verdict in its latest revision, and when it first was an alert.
struct Incident {
    latest: Verdict,
    alert: Option<Timestamp>,
}

fn labels(capture: &Path) -> Result<Vec<Label>, Box<dyn Error>> {
    let path = capture.with_file_name("labels.csv");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut labels = Vec::new();
    for line in std::fs::read_to_string(path)?.lines().skip(1) {
        let [start, _, host, _, technique, name] = line.split(',').collect::<Vec<_>>()[..] else {
            return Err(format!("labels.csv: not six columns: {line}").into());
        };
        labels.push(Label {
            start: Timestamp::from_nanos(start.parse()?),
            host: host.to_owned(),
            technique: technique.to_owned(),
            name: name.to_owned(),
        });
    }
    Ok(labels)
}

fn fit(config: &DetectionConfig, files: &[String]) -> Result<Option<Baseline>, Box<dyn Error>> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut builder = BaselineBuilder::new(config, extractors())?;
    for file in files {
        show_events(file, |event| builder.observe(event))?;
    }
    let baseline = builder.finish();
    println!(
        "baseline: {} events over {:.0} s",
        baseline.events(),
        baseline.seconds()
    );
    Ok(Some(baseline))
}

fn measure(
    file: &Path,
    config: &DetectionConfig,
    baseline: Option<&Baseline>,
    alone: bool,
) -> Result<Vec<Incident>, Box<dyn Error>> {
    let mut detection = Detection::new(config.clone(), extractors())?;
    if let Some(baseline) = baseline {
        detection = detection.with_baseline(baseline);
    }
    let mut analyzer: Box<dyn Analyzer> = match alone {
        true => Box::new(detection),
        false => Box::new(joined::join(config, detection)?),
    };
    let mut first: BTreeMap<VerdictId, Timestamp> = BTreeMap::new();
    let (mut verdicts, mut clock, mut failure) = (Vec::new(), Timestamp::default(), None);
    show_events(file, |event| {
        clock = clock.max(event.event.time);
        let known = verdicts.len();
        if let Err(error) = analyzer.observe(Observation::Event(event), &mut verdicts) {
            failure.get_or_insert(error);
        }
        for alert in verdicts[known..].iter().filter(|verdict| verdict.is_alert()) {
            first.entry(alert.id).or_insert(clock);
        }
    })?;
    failure.map_or(Ok(()), Err)?;
    let incident = |verdict: Verdict| Incident {
        alert: first.get(&verdict.id).copied(),
        latest: verdict,
    };
    Ok(latest(verdicts).into_iter().map(incident).collect())
}

/// The extractors of the `sentinel` example.
fn extractors() -> Vec<BoxExtractor> {
    vec![Box::new(NetworkExtractor::standard(ExtractConfig::default()))]
}

fn print_attack(label: &Label, found: Option<&Incident>) {
    let Label {
        name,
        host,
        technique,
        start,
    } = label;
    match found {
        None => println!("  missed    {name:22} {technique:9} {host}"),
        Some(Incident { latest, alert: None }) => {
            println!(
                "  no alert  {name:22} {technique:9} {host}  score {:.3}",
                latest.score
            );
        }
        Some(Incident {
            latest,
            alert: Some(time),
        }) => println!(
            "  alert     {name:22} {technique:9} {host}  score {:.3}  after {:.2} s",
            latest.score,
            time.since(*start).as_secs_f64()
        ),
    }
}

fn print_others<'a>(whose: &str, incidents: impl Iterator<Item = &'a Incident> + Clone) {
    let alerts = incidents
        .clone()
        .filter(|incident| incident.alert.is_some())
        .count();
    match incidents.max_by(|a, b| a.latest.score.total_cmp(&b.latest.score)) {
        Some(Incident { latest, .. }) => {
            println!(
                "  {alerts} other alerts {whose}, highest score {:.3}: {}",
                latest.score, latest.title
            );
        }
        None => println!("  {alerts} other alerts {whose}, no score"),
    }
}
