//! Says that an alert is normal here, or that it is not after all: changes the list that `sentinel --normal` and `analyzer --normal`
//! read. They look at it four times a second, so it takes effect at once.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use amoskys_analysis::alert::Alert;
use amoskys_analysis::feedback::{Suppression, SuppressionFile};
use amoskys_core::Timestamp;
use amoskys_core::error::Chain;
use clap::{ArgGroup, Parser};

/// Tell what is normal here.
///
/// Exit status: 0 if it is done, 2 if it cannot be.
#[derive(Parser)]
#[command(version, group(ArgGroup::new("what").required(true).args(["normal", "not_normal", "show"])))]
struct Args {
    /// The list of what is normal.
    #[arg(long, value_name = "FILE", default_value = "normal.json")]
    list: PathBuf,
    /// The alert that is meant, by its id.
    #[arg(long, value_name = "ID", required_unless_present = "show")]
    verdict: Option<String>,
    /// This alert, and what is like it, is normal.
    #[arg(long, requires_all = ["by", "reason"])]
    normal: bool,
    /// It is not, after all.
    #[arg(long)]
    not_normal: bool,
    /// Only show the list.
    #[arg(long)]
    show: bool,
    /// The file of alerts in which the alert is.
    #[arg(long, value_name = "FILE", default_value = "alerts.jsonl")]
    alerts: PathBuf,
    /// Who says so.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why it is normal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// For so many days; for good if not given.
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// With whomever it is; else with those that the alert names.
    #[arg(long)]
    any_peer: bool,
    /// By whichever service it is; else by those that the alert names, if it names any.
    #[arg(long)]
    any_service: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("feedback: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if args.show {
        let (file, _) = SuppressionFile::open(&args.list, "feedback")?;
        for one in file.suppressions().list().iter() {
            let technique = one
                .technique
                .as_ref()
                .map_or("any", |technique| technique.as_str());
            let of = |what: &[String], any: &str| match what {
                [] => any.to_owned(),
                some => some.join(" "),
            };
            let (peers, services) = (of(&one.peers, "anybody"), of(&one.services, "any service"));
            let Suppression {
                id,
                host,
                up_to,
                by,
                reason,
                ..
            } = one;
            writeln!(
                std::io::stdout(),
                "{id}  {host}  {technique}  with {peers} by {services}  up to {up_to:.3}  {by}: {reason}"
            )
            .ok();
        }
        return Ok(());
    }
    let id = args.verdict.as_deref().unwrap_or_default();
    if args.not_normal {
        return match SuppressionFile::remove(&args.list, id)? {
            true => Ok(()),
            false => Err(format!("{id} is not in {}", args.list.display()).into()),
        };
    }
    let alert = find(&args.alerts, id)?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut word = Suppression::of_alert(&alert, &text(&args.reason), &text(&args.by));
    if args.any_peer {
        word.peers.clear();
    }
    if args.any_service {
        word.services.clear();
    }
    if let Some(days) = args.days {
        word = word.until(Timestamp::now().plus(Duration::from_secs(u64::from(days) * 86_400)));
    }
    Ok(SuppressionFile::add(&args.list, word)?)
}

/// The latest line of an alert.
fn find(path: &Path, id: &str) -> Result<Alert, Box<dyn Error>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut found = None;
    for line in BufReader::new(file).lines() {
        // The last line may be in the midst of being written.
        if let Ok(alert) = serde_json::from_str::<Alert>(&line?)
            && alert.id.to_string() == id
        {
            found = Some(alert);
        }
    }
    found.ok_or_else(|| format!("no alert {id} in {}", path.display()).into())
}
