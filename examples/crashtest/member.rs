//! A process that is killed and started again, and what it has said is safe.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Failure;

/// Numbers of the next events of the agent's two streams.
pub(crate) type Heads = [u64; 2];

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks.
pub(crate) const LOOK: Duration = Duration::from_millis(1);

/// What a process has said, in all its lives.
#[derive(Default)]
struct Said {
    /// Has it opened its log, in this life?
    opened: bool,
    port: Option<u16>,
    durable: Heads,
    acknowledged: Heads,
    /// What it said that cannot be.
    wrong: Option<String>,
}

pub(crate) struct Member {
    name: &'static str,
    dir: PathBuf,
    said: Arc<Mutex<Said>>,
    /// The process, and who hears what it says.
    life: Option<(Child, JoinHandle<()>)>,
}

impl Member {
    pub(crate) fn new(name: &'static str, dir: &Path) -> Self {
        Self {
            name,
            dir: dir.to_owned(),
            said: Arc::default(),
            life: None,
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn durable(&self) -> Heads {
        self.said().durable
    }

    pub(crate) fn acknowledged(&self) -> Heads {
        self.said().acknowledged
    }

    /// Others rely on it to have so much when it opens its log again.
    pub(crate) fn owes(&self, heads: Heads) {
        self.said().durable = heads;
    }

    /// Begins the next life.
    pub(crate) fn start(&mut self, port: u16) -> Result<(), Failure> {
        self.said().opened = false;
        let mut child = Command::new(std::env::current_exe()?)
            .arg(format!("child-{}", self.name))
            .args([self.dir.as_os_str(), port.to_string().as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("a child without output")?;
        let said = self.said.clone();
        self.life = Some((child, std::thread::spawn(move || listen(output, &said))));
        Ok(())
    }

    /// Waits until it has opened its log.
    pub(crate) async fn opened(&mut self) -> Result<(), Failure> {
        self.until("open its log", |said| said.opened.then_some(())).await
    }

    /// Waits for the port it listens at.
    pub(crate) async fn port(&mut self) -> Result<u16, Failure> {
        self.until("listen", |said| said.port).await
    }

    async fn until<T>(&mut self, what: &str, is: impl Fn(&Said) -> Option<T>) -> Result<T, Failure> {
        let begun = Instant::now();
        loop {
            if let Some(value) = is(&self.said()) {
                return Ok(value);
            }
            self.is_alive(true)?;
            if begun.elapsed() > PATIENCE {
                return Err(format!("{} did not {what} within {PATIENCE:?}", self.name).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Fails if it has ended by itself, or has said what cannot be.
    pub(crate) fn is_alive(&mut self, expected: bool) -> Result<(), Failure> {
        if let Some(wrong) = &self.said().wrong {
            return Err(format!("{} {wrong}", self.name).into());
        }
        match &mut self.life {
            Some((child, _)) if expected => match child.try_wait()? {
                Some(status) => Err(format!("{} has ended by itself: {status}", self.name).into()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Ends its life with SIGKILL, and hears what it said before.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        self.is_alive(true)?;
        if let Some((mut child, listening)) = self.life.take() {
            child.kill()?;
            child.wait()?;
            listening.join().map_err(|_| "a listener panicked")?;
        }
        Ok(())
    }

    /// Lets it come to its end.
    pub(crate) async fn finish(&mut self) -> Result<(), Failure> {
        let Some((mut child, listening)) = self.life.take() else {
            return Ok(());
        };
        drop(child.stdin.take());
        let begun = Instant::now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if begun.elapsed() > PATIENCE => {
                    child.kill()?;
                    break child.wait()?;
                }
                None => tokio::time::sleep(LOOK).await,
            }
        };
        listening.join().map_err(|_| "a listener panicked")?;
        if !status.success() {
            return Err(format!("{} did not end in good order: {status}", self.name).into());
        }
        self.is_alive(false)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.life {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn listen(output: ChildStdout, said: &Mutex<Said>) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    // A line that the kill cut off says nothing.
    while output.read_line(&mut line).is_ok() && line.ends_with('\n') {
        let mut words = line.split_whitespace();
        let word = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.flat_map(str::parse).collect();
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        match (word, &numbers[..]) {
            ("port", [port]) => said.port = u16::try_from(*port).ok(),
            ("opened", &[a, b]) => {
                let durable = said.durable;
                if a < durable[0] || b < durable[1] {
                    said.wrong = Some(format!(
                        "opened its log at {:?}, and had said {durable:?}",
                        [a, b]
                    ));
                }
                said.durable = [a, b];
                said.opened = true;
            }
            ("durable", &[a, b]) => said.durable = [a, b],
            ("acknowledged", &[a, b]) => said.acknowledged = [a, b],
            _ => said.wrong = Some(format!("said {line:?}")),
        }
        drop(said);
        line.clear();
    }
}
