//! The programs that are watched.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Something that is done again and again, with a watcher and without.
pub(crate) enum Workload {
    /// `dd bs=1`: two system calls for each byte, and little else.
    Dd(u64),
    /// Compiles C files, two at a time, with the system's compiler.
    Compile(Compile),
}

impl Workload {
    pub(crate) fn run(&self) -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        let status = match self {
            Self::Dd(count) => Command::new("dd")
                .args(["if=/dev/zero", "of=/dev/null", "bs=1"])
                .arg(format!("count={count}"))
                .stderr(Stdio::null())
                .status()?,
            Self::Compile(compile) => compile.command().status()?,
        };
        let time = start.elapsed();
        if status.success() {
            Ok(time)
        } else {
            Err("what was to be watched failed".into())
        }
    }
}

/// C files in a folder of their own.
pub(crate) struct Compile {
    folder: tempfile::TempDir,
    files: usize,
}

impl Compile {
    /// `None` without a compiler.
    pub(crate) fn new(files: usize) -> Result<Option<Self>, Box<dyn Error>> {
        if Command::new("cc").arg("--version").output().is_err() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        for file in 0..files {
            let mut text = String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
            for n in 0..60 {
                writeln!(
                    text,
                    "int work_{n}(int *all, int count) {{ int sum = {n}; for (int i = 0; i < count; i++) \
                     if (all[i] % {} == 0) sum += all[i] * {file}; return sum ^ (int)strlen(getenv(\"HOME\")); }}",
                    n + 2
                )?;
            }
            std::fs::write(folder.path().join(format!("{file}.c")), text)?;
        }
        Ok(Some(Self { folder, files }))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.current_dir(self.folder.path()).arg("-c").arg(format!(
            "seq 0 {} | xargs -P 2 -I N cc -O1 -c N.c -o N.o",
            self.files - 1
        ));
        command
    }
}

/// The program that makes what is to be seen.
pub(crate) struct Generator {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

/// What the generator says.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    pub(crate) time: Duration,
    pub(crate) processor: Duration,
    pub(crate) count: u64,
}

impl Generator {
    /// `None` without a compiler.
    pub(crate) fn build() -> Result<Option<Self>, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("generator");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare_ebpf/generator.c");
        let built = Command::new("cc")
            .arg("-O2")
            .arg("-o")
            .arg(&path)
            .arg(source)
            .status();
        match built {
            Ok(status) if status.success() => Ok(Some(Self {
                _folder: folder,
                path,
            })),
            Ok(_) => Err("the generator does not compile".into()),
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn protect(&self, count: u64, rate: u64) -> Result<Made, Box<dyn Error>> {
        let mut command = Command::new(&self.path);
        command
            .arg("protect")
            .arg(count.to_string())
            .arg(rate.to_string());
        Made::of(&mut command)
    }
}

impl Made {
    /// What a generator's last words say.
    pub(crate) fn of(command: &mut Command) -> Result<Self, Box<dyn Error>> {
        let output = command.stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8(output.stdout)?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next().ok_or("the generator failed");
        let (time, processor, count) = (next()??, next()??, next()??);
        Ok(Self {
            time: Duration::from_nanos(time),
            processor: Duration::from_nanos(processor),
            count,
        })
    }
}
