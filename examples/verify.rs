//! Checks a data directory offline: every signature, digest, chain and checksum of its log, and that nothing is
//! missing. Needs nothing but the files, and changes none of them.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use amoskys_core::error::Chain;
use amoskys_transport::audit::{AuditKey, AuditVerifier};
use amoskys_transport::verify::{Anchors, Verifier};
use amoskys_transport::{FileLogKeys, LogKeys, PublicKey, TrustMap};
use clap::Parser;
use serde::Serialize;

/// Check the log in a data directory: forged, altered, reordered, missing and truncated records, by position.
///
/// Without --key, the public key beside the log is believed: that finds damage. Against someone who can write the
/// directory, give the key from elsewhere. Exit status: 0 if nothing is wrong; 1 if something is; 2 for wrong
/// arguments, or if the log cannot be read.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// A data directory, or the log directory in it.
    dir: PathBuf,
    /// Believe the signatures of this public key (PEM, or 32 raw bytes) only; may be given several times.
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Believe the keys in this trust map only: what the log of a bus needs, which holds the records of many.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Compare the log with what a bus has seen of its streams: the data directory of the bus, a copy of its log, or a
    /// file that --export-anchors wrote.
    #[arg(long, value_name = "BUS")]
    anchors: Option<PathBuf>,
    /// The bus's public key. Without it, the bus's line in --trust is believed, or else the key beside its log.
    #[arg(long, value_name = "FILE", requires = "anchors")]
    anchors_key: Option<PathBuf>,
    /// The log keys of the bus, if its log is encrypted.
    #[arg(long, value_name = "FILE", requires = "anchors")]
    anchors_log_key: Option<PathBuf>,
    /// DIR is that of a bus: write what it has signed about streams into this new file, and nothing else.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["anchors", "audit", "json"])]
    export_anchors: Option<PathBuf>,
    /// DIR is an audit log, audit.jsonl: check that. Without --audit-key only form and numbers.
    #[arg(long, conflicts_with_all = ["anchors", "key", "trust"])]
    audit: bool,
    /// The key of the audit log.
    #[arg(long, value_name = "FILE", requires = "audit")]
    audit_key: Option<PathBuf>,
    /// Open what is encrypted with the log keys in this file. Without it, only the form of that is checked.
    #[arg(long, value_name = "FILE")]
    log_key: Option<PathBuf>,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(clean) => ExitCode::from(if clean { 0 } else { 1 }),
        Err(error) => {
            eprintln!("verify: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

/// Prints the report; says whether nothing is wrong.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    if args.audit {
        let mut verifier = AuditVerifier::new(&args.dir);
        if let Some(path) = &args.audit_key {
            verifier = verifier.key(Arc::new(AuditKey::open(path)?));
        }
        let report = verifier.run()?;
        print(args, &report)?;
        return Ok(report.is_clean());
    }
    let keys = args.key.iter().map(|path| public_key(path));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let trust = match &args.trust {
        Some(path) => TrustMap::load(path)?,
        None => TrustMap::new(),
    };
    let log_keys = log_keys(args.log_key.as_deref())?;
    if let Some(file) = &args.export_anchors {
        let mut anchors = keys
            .into_iter()
            .fold(Anchors::new(&args.dir).trust(trust), Anchors::key);
        if let Some(keys) = log_keys {
            anchors = anchors.log_keys(keys);
        }
        let records = anchors.export(file)?;
        println!("{records} records about streams are in {}", file.display());
        return Ok(true);
    }
    let mut verifier = Verifier::new(&args.dir).trust(trust.clone());
    verifier = keys.into_iter().fold(verifier, Verifier::key);
    if let Some(path) = &args.anchors {
        let mut anchors = Anchors::new(path).trust(trust);
        if let Some(path) = &args.anchors_key {
            anchors = anchors.key(public_key(path)?);
        }
        if let Some(keys) = self::log_keys(args.anchors_log_key.as_deref())? {
            anchors = anchors.log_keys(keys);
        }
        verifier = verifier.anchors(anchors.read()?);
    }
    if let Some(keys) = log_keys {
        verifier = verifier.log_keys(keys);
    }
    let report = verifier.run()?;
    print(args, &report)?;
    Ok(report.is_clean())
}

/// The keys in this file, if one is named.
fn log_keys(path: Option<&Path>) -> Result<Option<Arc<dyn LogKeys>>, Box<dyn Error>> {
    let Some(path) = path else { return Ok(None) };
    Ok(Some(Arc::new(FileLogKeys::open(path)?)))
}

fn public_key(path: &Path) -> Result<PublicKey, Box<dyn Error>> {
    let content = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(PublicKey::parse(&content).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn print(args: &Args, report: &(impl Display + Serialize)) -> Result<(), Box<dyn Error>> {
    let text = if args.json {
        serde_json::to_string_pretty(report)?
    } else {
        report.to_string()
    };
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads has seen enough, for example `verify DIR | head`; the status still says how it is.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
