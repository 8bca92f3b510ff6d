//! Makes everything by which the processes of a site know each other: a certificate authority, certificates, signing
//! keys and a trust map. For a start, and for the laboratory; a site with an authority of its own lets that one issue
//! the certificates.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use amoskys_core::error::Chain;
use amoskys_transport::check::Severity;
use amoskys_transport::identity::pki::{Done, Site};
use amoskys_transport::identity::{Credentials, TlsFiles};
use clap::Parser;

/// Make a certificate authority, certificates, signing keys and the trust map in one directory.
///
/// What is there already is kept: run it again with one more --agent to add that one. To renew a certificate, remove
/// its .pem file and run it again. Exit status: 0 if all is well; 1 if a certificate that was kept has a problem; 2
/// for wrong arguments, or if something cannot be made.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where everything is kept; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Name of the bus.
    #[arg(long, value_name = "NAME")]
    bus: Option<String>,
    /// A host name or address at which the bus is reached; may be given several times.
    #[arg(long, value_name = "HOST", requires = "bus")]
    host: Vec<String>,
    /// The bus serves agents of the predecessor too: trust the stream that it seals for them.
    #[arg(long, requires = "bus")]
    gateway: bool,
    /// Name of an agent; may be given several times.
    #[arg(long, value_name = "NAME")]
    agent: Vec<String>,
    /// Name of an analyzer; may be given several times.
    #[arg(long, value_name = "NAME")]
    analyzer: Vec<String>,
    /// Revoke the certificate of this name, and write crl.pem; may be given several times. Its certificate and key are
    /// removed: run it again with --agent, --analyzer or --bus for new ones.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bus", "agent", "analyzer", "force"])]
    revoke: Vec<String>,
    /// How many days certificates are valid.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Make everything anew that is there, the authority too; certificates made before are then worthless.
    #[arg(long)]
    force: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pki: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    if !args.revoke.is_empty() {
        let names: Vec<_> = args.revoke.iter().map(String::as_str).collect();
        let list = Site::new(&args.dir).revoke(&names)?;
        println!(
            "Revoked: {}.\nCopy {} to everybody, first to the bus: beside ca.pem, it is used within a second.",
            names.join(", "),
            list.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut site = Site::new(&args.dir)
        .lifetime(Duration::from_secs(u64::from(args.days) * 86_400))
        .force(args.force)
        .gateway(args.gateway);
    if let Some(bus) = &args.bus {
        site = site.bus(bus.as_str());
    }
    site = args.host.iter().fold(site, |site, host| site.host(host));
    site = args
        .agent
        .iter()
        .fold(site, |site, name| site.agent(name.as_str()));
    site = args
        .analyzer
        .iter()
        .fold(site, |site, name| site.analyzer(name.as_str()));
    let done = site.make()?;

    match print(args, &done) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    for problem in &done.problems {
        eprintln!("{problem}");
    }
    let failed = done
        .problems
        .iter()
        .any(|problem| problem.severity >= Severity::Error);
    Ok(ExitCode::from(u8::from(failed)))
}

fn print(args: &Args, done: &Done) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if done.made.is_empty() && done.trusted.is_empty() {
        writeln!(out, "Everything is there; nothing was made.")?;
    } else {
        writeln!(out, "Made in {}:", args.dir.display())?;
        for path in &done.made {
            writeln!(out, "  {}", file_name(path))?;
        }
        for name in &done.trusted {
            writeln!(out, "  trust: a line for {name}")?;
        }
        if !done.kept.is_empty() {
            writeln!(out, "{} files were there, and were kept.", done.kept.len())?;
        }
    }

    writeln!(out, "\nCopy to the machine of")?;
    let buses = args.bus.iter().map(|name| ("bus", name));
    let analyzers = args.analyzer.iter().map(|name| ("analyzer", name));
    let agents = args.agent.iter().map(|name| ("agent", name));
    for (role, name) in buses.chain(analyzers).chain(agents) {
        let mut files = files_of(&args.dir, name);
        if role == "agent" {
            // It shows its own key, but judges nobody else's.
            files.pop();
        }
        writeln!(out, "  {role} {name}: {}", files.join(" "))?;
    }
    let authority = TlsFiles::in_dir(&args.dir, "ca");
    writeln!(
        out,
        "\nKeep {} in a safe place, and nowhere else: whoever has it can be anybody.",
        authority.key_file().display()
    )?;
    let trust = done
        .trusted
        .iter()
        .map(ToString::to_string)
        .collect::<BTreeSet<_>>();
    if !trust.is_empty() {
        writeln!(
            out,
            "Copy trust anew to the bus and to all who read records, for {}.",
            trust.into_iter().collect::<Vec<_>>().join(", ")
        )?;
    }
    out.flush()
}

/// The names of the files that one process needs; the trust map is the last.
fn files_of(dir: &Path, name: &str) -> Vec<String> {
    let files = Credentials::in_dir(dir, name);
    [
        files.tls.ca_file(),
        files.tls.certificate_file(),
        files.tls.key_file(),
        &files.signing_key,
        &files.trust,
    ]
    .map(file_name)
    .to_vec()
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
