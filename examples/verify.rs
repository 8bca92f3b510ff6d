//! Checks a data directory offline: every signature, digest, chain and checksum of its log, and that nothing is
//! missing. Needs nothing but the files, and changes none of them.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use amoskys_core::error::Chain;
use amoskys_transport::verify::Verifier;
use amoskys_transport::{PublicKey, TrustMap};
use clap::Parser;

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
    let mut verifier = Verifier::new(&args.dir);
    for path in &args.key {
        let content = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let key = PublicKey::parse(&content).map_err(|error| format!("{}: {error}", path.display()))?;
        verifier = verifier.key(key);
    }
    if let Some(path) = &args.trust {
        verifier = verifier.trust(TrustMap::load(path)?);
    }
    let report = verifier.run()?;
    let text = if args.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.to_string()
    };
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads has seen enough, for example `verify DIR | head`; the status still says how it is.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(report.is_clean()),
    }
}
