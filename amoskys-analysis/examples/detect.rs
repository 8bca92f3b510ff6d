//! Runs the detection over capture files, each on its own, and prints what it says.
//!
//! ```text
//! cargo run --release -p amoskys-analysis --example detect -- [--baseline FILE]... [--min SCORE] [--evidence] [--alone] FILE...
//! ```
//!
//! The detection is joined by the other analyzers, as in `sentinel`; with `--alone` it is not.

#[path = "../tests/capture/mod.rs"]
mod capture;
#[path = "../tests/joined/mod.rs"]
mod joined;

use std::error::Error;
use std::time::{Duration, Instant};

use amoskys_analysis::{Baseline, BaselineBuilder, Detection, DetectionConfig};
use amoskys_core::event::Verdict;
use amoskys_core::{Analyzer, BoxExtractor, Observation, Timestamp};
use amoskys_features::extract::{ExtractConfig, Hosts, NetworkExtractor};
use amoskys_features::window::WindowSpec;
use capture::{latest, show_events};

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    let mut honest = Vec::new();
    let (mut min, mut evidence, mut quiet, mut alone) = (0.7, false, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--baseline" => honest.push(arguments.next().ok_or("--baseline needs a file")?),
            "--min" => min = arguments.next().ok_or("--min needs a score")?.parse()?,
            "--evidence" => evidence = true,
            "--quiet" => quiet = true,
            "--alone" => alone = true,
            _ => files.push(argument),
        }
    }
    let mut config = DetectionConfig::default();
    config.report_score = config.report_score.min(min);
    let baseline = fit(&config, &honest)?;
    let (mut events, mut seconds) = (0_u64, 0.0);
    for file in &files {
        let mut detection = Detection::new(
            config.clone(),
            if baseline.is_some() {
                extractors()?
            } else {
                Vec::new()
            },
        )?;
        if let Some(baseline) = &baseline {
            detection = detection.with_baseline(baseline);
        }
        let mut analyzer: Box<dyn Analyzer> = match alone {
            true => Box::new(detection),
            false => Box::new(joined::join(&config, detection)?),
        };
        let (mut verdicts, mut start, mut count) = (Vec::new(), None, 0_u64);
        show_events(file, |event| {
            start.get_or_insert(event.event.time);
            count += 1;
            let began = Instant::now();
            let result = analyzer.observe(Observation::Event(event), &mut verdicts);
            seconds += began.elapsed().as_secs_f64();
            if let Err(error) = result {
                eprintln!("{error}");
            }
        })?;
        events += count;
        let latest = latest(verdicts);
        let name = file.rsplit('/').next().unwrap_or(file);
        let alerts = latest.iter().filter(|verdict| verdict.is_alert()).count();
        if !quiet || alerts > 0 {
            println!("{name}: {count} events, {alerts} alerts");
        }
        for verdict in latest.iter().filter(|verdict| verdict.score >= min) {
            print(verdict, start.unwrap_or_default(), evidence);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = events as f64 / seconds.max(1e-9);
    println!("{events} events in {seconds:.3} s, {rate:.0} a second");
    Ok(())
}

fn fit(config: &DetectionConfig, files: &[String]) -> Result<Option<Baseline>, Box<dyn Error>> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut builder = BaselineBuilder::new(config, extractors()?)?;
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

/// Windows of hosts: a minute long, one every ten seconds.
fn extractors() -> Result<Vec<BoxExtractor>, Box<dyn Error>> {
    let minute = WindowSpec::sliding(Duration::from_secs(60), Duration::from_secs(10))?;
    Ok(vec![Box::new(
        NetworkExtractor::new(ExtractConfig::default()).with::<Hosts>(minute),
    )])
}

fn print(verdict: &Verdict, start: Timestamp, evidence: bool) {
    let technique = verdict
        .technique
        .as_ref()
        .map_or("", |technique| technique.as_str());
    println!(
        "  {:7.1} s  {:.3} {:8} {:9} {} (rev {})",
        verdict.time.since(start).as_secs_f64(),
        verdict.score,
        verdict.severity(),
        technique,
        verdict.title,
        verdict.revision,
    );
    if evidence {
        for term in &verdict.evidence {
            println!(
                "             {:+.2}  {} = {:.3}",
                term.contribution, term.feature, term.value
            );
        }
    }
}
