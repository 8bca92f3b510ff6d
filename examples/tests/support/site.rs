//! A site of separate processes: a bus, agents and an analyzer, with certificates and keys from `pki`.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use amoskys_core::{Offset, RecordSource};
use amoskys_transport::bus::{ConnectOptions, SubscribeOptions, Subscription};
use amoskys_transport::identity::Credentials;
use bytes::Bytes;

use super::{program, succeed};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    /// Port of the bus, once it was started.
    port: Option<u16>,
}

impl Site {
    pub(crate) fn new(agents: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut pki = program("pki");
        pki.arg("--dir").arg(dir.path().join("pki"));
        pki.args(["--bus", "bus", "--host", "localhost", "--analyzer", "analyzer"]);
        for agent in agents {
            pki.args(["--agent", agent]);
        }
        succeed(&mut pki);
        Self { dir, port: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program of the site, with its log in a directory of its name.
    pub(crate) fn member(&self, program_name: &str, name: &str) -> Command {
        let mut command = program(program_name);
        command
            .env("AMOSKYS_BUS_CERT_DIR", self.path("pki"))
            .env("AMOSKYS_LOG_PATH", self.path(name))
            .env("AMOSKYS_LOG_BUDGET_BYTES", "512MiB")
            .env("AMOSKYS_AGENT_NAME", name)
            .stdin(Stdio::null());
        if let Some(port) = self.port {
            command.env("AMOSKYS_BUS_ADDRESS", format!("localhost:{port}"));
        }
        command
    }

    /// Starts the bus, on the port it had before if there was one.
    pub(crate) fn start_bus(&mut self) -> Running {
        self.start_bus_with([])
    }

    /// The same, with these variables.
    pub(crate) fn start_bus_with<const N: usize>(&mut self, variables: [(&str, String); N]) -> Running {
        let mut command = self.member("eventbus", "bus");
        command
            .envs(variables)
            .env_remove("AMOSKYS_AGENT_NAME")
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", self.port.unwrap_or(0)))
            .stdout(Stdio::piped());
        // Where to put what it says, if that is of interest.
        let said = command.get_envs().find(|(name, _)| *name == "AMOSKYS_STDERR");
        if let Some(path) = said.and_then(|(_, path)| path).map(PathBuf::from) {
            let file = std::fs::File::create(path).expect("a file");
            command.env_remove("AMOSKYS_STDERR").stderr(file);
        }
        let mut bus = Running::start("bus", &mut command);
        let mut line = String::new();
        let output = bus.child.stdout.take().expect("its output");
        let mut output = BufReader::new(output);
        output.read_line(&mut line).expect("read");
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        self.port = Some(port.unwrap_or_else(|| panic!("no port in {line:?}")));
        bus.printed = Some(std::thread::spawn(move || {
            let mut rest = String::new();
            output.read_to_string(&mut rest).expect("read");
            rest
        }));
        bus
    }

    /// Reads everything the bus has, as the analyzer.
    pub(crate) async fn read_all(&self) -> Vec<(Offset, Bytes)> {
        let files = Credentials::in_dir(self.path("pki"), "analyzer");
        let tls = files.tls.client_config().expect("certificates");
        let address = format!("localhost:{}", self.port.expect("the bus was started"));
        let mut subscription = Subscription::new(SubscribeOptions::new(ConnectOptions::new(address, tls)));
        let mut all = Vec::new();
        // What comes after a second without anything was not there when this began.
        while let Ok(records) =
            tokio::time::timeout(Duration::from_secs(1), subscription.next_records()).await
        {
            all.extend(records.expect("read").expect("a bus does not end"));
        }
        all
    }

    pub(crate) fn agent(&self, name: &str, capture: &Path) -> Command {
        let mut agent = self.member("agent", name);
        agent.arg("--read").arg(capture);
        agent
    }

    /// An analyzer that waits for these agents, and ends when they have ended.
    pub(crate) fn analyzer(&self, alerts: &Path, expect: &[&str]) -> Command {
        let mut analyzer = self.member("analyzer", "analyzer");
        analyzer
            .arg("--until-end")
            .arg("--alerts")
            .arg(alerts)
            .arg("--expect")
            .args(expect);
        // Nobody is given up however slow this machine is.
        analyzer.env("AMOSKYS_ANALYSIS_MAX_WAIT", "1h");
        analyzer
    }
}

/// A process that does not outlive the test.
pub(crate) struct Running {
    name: String,
    child: Child,
    /// What it prints, if that is read.
    printed: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let child = command.spawn().expect("start the program");
        Self {
            name: name.to_owned(),
            child,
            printed: None,
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("ask for the child").is_none()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().ok();
        self.child.wait().expect("wait for the child");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(self) -> bool {
        self.stop_and_say().is_some()
    }

    /// The same, and what it printed since it was started; `None` if it failed.
    pub(crate) fn stop_and_say(mut self) -> Option<String> {
        succeed(Command::new("kill").arg(self.child.id().to_string()));
        let printed = self.printed.take();
        self.wait()
            .then(|| printed.map_or_else(String::new, |printed| printed.join().expect("its output")))
    }

    /// Waits until it has ended by itself; whether all went well.
    pub(crate) fn wait(&mut self) -> bool {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("ask for the child") {
                return status.success();
            }
            assert!(began.elapsed() < PATIENCE, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a command to its end, but not for ever.
pub(crate) fn finish(name: &str, command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    let id = child.id().to_string();
    let (ended, watch) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if watch
            .recv_timeout(PATIENCE)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            Command::new("kill").args(["-9", &id]).status().ok();
        }
    });
    let output = child.wait_with_output().expect("wait for the child");
    drop(ended);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{text}", output.status);
    output
}
