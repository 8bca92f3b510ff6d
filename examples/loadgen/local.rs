//! The bus of a local run: this program once more, in a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use amoskys_core::Shutdown;
use amoskys_transport::bus::{Bus, BusOptions};
use amoskys_transport::identity::{Credentials, pki};
use amoskys_transport::{LogOptions, TrustMap, WalOptions};

use crate::Failure;

/// The bus of a local run.
pub(crate) struct Local {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: String,
    agents: usize,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Local {
    pub(crate) fn begin(names: &[String]) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let site = pki::Site::new(dir.path().join("pki"))
            .bus("bus")
            .host("localhost");
        names
            .iter()
            .fold(site, |site, name| site.agent(name.as_str()))
            .make()?;
        let (child, output, address) = start(dir.path(), names.len(), 0)?;
        Ok(Self {
            dir,
            agents: names.len(),
            address,
            child,
            output,
        })
    }

    /// Kills it, as a crash would, and starts it again at the same port with the same log.
    pub(crate) fn kill_and_start(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        let port = self.address.rsplit(':').next().unwrap_or_default().parse()?;
        (self.child, self.output, self.address) = start(self.dir.path(), self.agents, port)?;
        Ok(())
    }

    /// Time it has had on processors, in all its threads.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let number = text
                .split_whitespace()
                .next()
                .and_then(|number| number.parse().ok());
            nanos += number.unwrap_or(0_u64);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Bytes of memory, as the system counts them.
    pub(crate) fn memory(&self, what: &str) -> Result<u64, Failure> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number
            .ok_or("the system does not say how much memory it takes")?
            .parse::<u64>()?
            * 1024)
    }

    /// Ends it; how many events its ledger has.
    pub(crate) fn end(mut self) -> Result<u64, Failure> {
        drop(self.child.stdin.take());
        let mut stored = String::new();
        self.output.read_to_string(&mut stored)?;
        Ok(stored.trim().parse()?)
    }
}

fn start(dir: &Path, agents: usize, port: u16) -> Result<(Child, BufReader<ChildStdout>, String), Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg(dir)
        .args([agents.to_string(), port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("a bus without output")?);
    let mut address = String::new();
    output.read_line(&mut address)?;
    let address = address.trim().to_owned();
    match address.is_empty() {
        true => Err("the bus did not start".into()),
        false => Ok((child, output, address)),
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until the end of the input.
pub(crate) async fn serve(dir: &Path, agents: usize, port: u16) -> Result<(), Failure> {
    let files = Credentials::in_dir(dir.join("pki"), "bus");
    let log = LogOptions::new()
        .wal(WalOptions::new().budget_bytes(2 << 30))
        .key_file(&files.signing_key);
    let options = BusOptions::new(
        dir.join("bus"),
        files.tls.server_config()?,
        TrustMap::load(&files.trust)?,
    )
    .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    .max_connections(agents + 16)
    .log(log);
    let (bus, stop) = (Bus::open(options)?, Shutdown::new());
    writeln!(std::io::stdout(), "localhost:{}", bus.local_addr().port())?;
    let told = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.trigger();
    });
    let ledger = bus.serve(stop).await?.ledger;
    let stored: u64 = ledger.accounts.values().map(|account| account.delivered).sum();
    writeln!(std::io::stdout(), "{stored}")?;
    Ok(())
}
