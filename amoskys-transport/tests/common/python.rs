//! A Python with real gRPC, in an environment of its own.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::Mutex;

use serde_json::Value;

const REQUIREMENTS: &str = "tests/legacy/requirements.txt";
const AGENT: &str = "tests/legacy/agent.py";

/// An agent of the predecessor, in a process of its own.
pub(crate) struct PythonAgent {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl PythonAgent {
    /// `None`, and a line that says so, without Python or the package index; which fails if peers are required.
    pub(crate) fn start() -> Option<Self> {
        let python = match environment() {
            Ok(python) => python,
            Err(reason) => {
                if std::env::var_os("AMOSKYS_REQUIRE_PEERS").is_some_and(|value| value == "1") {
                    panic!("no Python with gRPC: {reason}");
                }
                println!("skipped: no Python with gRPC: {reason}");
                return None;
            }
        };
        let mut child = Command::new(python)
            .arg(file(AGENT))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        })
    }

    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?} to {command}"))
    }
}

impl Drop for PythonAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The interpreter, installed once and kept beside what the tests are built into.
fn environment() -> Result<PathBuf, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("legacy-python");
    let python = dir.join("bin/python");
    let (wanted, noted) = (std::fs::read(file(REQUIREMENTS)).unwrap(), dir.join("installed"));
    if std::fs::read(&noted).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let _ = std::fs::remove_dir_all(&dir);
    run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--retries",
            "2",
        ])
        .args(["--only-binary", ":all:", "--requirement"])
        .arg(file(REQUIREMENTS)))?;
    std::fs::write(noted, wanted).unwrap();
    Ok(python)
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!(
            "{command:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
