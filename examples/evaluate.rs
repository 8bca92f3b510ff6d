//! Runs evaluation protocols on labelled data, and sets the results beside those of established tools.
//!
//! ```text
//! cargo run --release --example evaluate -- adbench --data DIR [--format table|csv|json]
//! cargo run --release --example evaluate -- ids --data DIR [--open-set] [--report FILE.html]
//! cargo run --release --example evaluate -- ids --train FILE --test FILE
//! cargo run --release --example evaluate -- graph --data DIR|FILE
//! cargo run --release --example evaluate -- adfa-ld --data DIR [--train FILE]
//! cargo run --release --example evaluate -- nab --data DIR
//! cargo run --release --example evaluate -- pcap --data DIR
//! ```
//!
//! `DIR` is the folder that holds `adbench/`, `ids/` and so on, or one of these. Each protocol is a module beside this file;
//! `docs/detectors.md`, `docs/detection.md` and the pages beside them have the results of this version. Each also writes a page:
//! `--report FILE.html`.

#[path = "evaluate/adbench.rs"]
mod adbench;
#[path = "evaluate/adfa_ld.rs"]
mod adfa_ld;
#[path = "evaluate/graph.rs"]
mod graph;
#[path = "evaluate/ids.rs"]
mod ids;
#[path = "evaluate/nab.rs"]
mod nab;
#[path = "evaluate/output.rs"]
mod output;
#[path = "evaluate/pcap.rs"]
mod pcap;
#[path = "evaluate/report.rs"]
mod report;
#[path = "evaluate/table.rs"]
mod table;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::output::Format;
use self::report::Report;

/// Scores detectors on labelled data, by fixed protocols.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    protocol: Protocol,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Also writes a page with tables, curves and differences to the reference.
    #[arg(long, global = true, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Protocol {
    /// Unsupervised detectors on tables: fitted without labels, the same rows scored.
    Adbench(adbench::Options),
    /// Network flows: unsupervised detectors that saw honest training rows only.
    Ids(ids::Options),
    /// Edges of a stream, each scored from those before it.
    Graph(graph::Options),
    /// Traces of system calls, after normal ones.
    AdfaLd(adfa_ld::Options),
    /// Series with labelled windows, in one pass.
    Nab(nab::Options),
    /// Captures of attacks and of honest traffic, each by itself, without a baseline.
    Pcap(pcap::Options),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut page = Report::default();
    let run = match &options.protocol {
        Protocol::Adbench(protocol) => adbench::run(protocol, options.format, &mut page),
        Protocol::Ids(protocol) => ids::run(protocol, options.format, &mut page),
        Protocol::Graph(protocol) => graph::run(protocol, options.format, &mut page),
        Protocol::AdfaLd(protocol) => adfa_ld::run(protocol, options.format, &mut page),
        Protocol::Nab(protocol) => nab::run(protocol, options.format, &mut page),
        Protocol::Pcap(protocol) => pcap::run(protocol, options.format, &mut page),
    };
    // What was measured before something went wrong is kept.
    let saved = options.report.as_ref().map_or(Ok(()), |path| {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        page.save(path, &format!("evaluate {}", arguments.join(" ")))
    });
    let run = run.and(saved);
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &(dyn Error + 'static)) {
    eprintln!("evaluate: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
