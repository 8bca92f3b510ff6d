//! Power failures. The file operations of a run are recorded with strace; then disks are made as a power cut at any
//! moment may leave them: with any part, sector by sector, of what was written, created, renamed and removed since each
//! file's or directory's own last sync. Whatever the part, what was reported durable is there, and the rest is a clean
//! prefix.
//!
//! `AMOSKYS_TEST_POWER_IMAGES` says how many images are made of each run, and `AMOSKYS_TEST_POWER_SEED` from which seed.
#![cfg(all(feature = "sled", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]
#![allow(clippy::cast_possible_truncation, reason = "files of a few megabytes")]

#[path = "../common/mod.rs"]
mod common;

mod check;
mod disk;
mod program;
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use amoskys_transport::Log;

use self::check::{Told, check};
use self::disk::{Disk, Random, Style};
use self::program::Program;

const DIR: &str = "AMOSKYS_TEST_POWER_DIR";
const RUN: &str = "AMOSKYS_TEST_POWER_RUN";
const SEED: &str = "AMOSKYS_TEST_POWER_SEED";
const IMAGES: &str = "AMOSKYS_TEST_POWER_IMAGES";

/// Everything that may change a file, or say that it is durable.
const CALLS: &str = "trace=open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,pwritev2,\
    truncate,ftruncate,fallocate,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,symlink,symlinkat,\
    unlink,unlinkat,rmdir,mkdir,mkdirat,mmap,copy_file_range,sendfile,splice,io_uring_setup";

#[test]
#[ignore = "the program that is recorded by the tests"]
fn child() {
    let (Some(dir), Ok(run)) = (std::env::var_os(DIR).map(PathBuf::from), std::env::var(RUN)) else {
        return;
    };
    let program = Program::ALL.into_iter().find(|program| program.name() == run);
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    program.unwrap().run(&dir.join("disk"), &dir.join("others"), seed);
}

#[test]
fn an_agent_loses_its_power() {
    lose_power(Program::Agent, 160);
}

#[test]
fn an_agent_whose_log_is_encrypted_loses_its_power() {
    lose_power(Program::Encrypted, 80);
}

#[test]
fn a_bus_loses_its_power() {
    lose_power(Program::Bus, 120);
}

#[test]
fn power_is_lost_while_a_fork_is_acted_upon() {
    lose_power(Program::Fork, 100);
}

#[test]
fn power_is_lost_while_records_are_given_up() {
    lose_power(Program::Shed, 100);
}

#[test]
fn power_is_lost_while_a_key_is_replaced() {
    lose_power(Program::Rotate, 100);
}

#[test]
fn power_is_lost_between_segments_that_were_prepared() {
    // Images of it are large: a few, unless many are asked for.
    lose_power(Program::Large, 6);
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let Some(recording) = Recording::of(Program::Agent) else {
        return;
    };
    let mut cuts = recording.cuts(20);
    cuts.retain(|cut| *cut > recording.moments / 2);
    let found_out = std::sync::atomic::AtomicU64::new(0);
    recording.each_image(&cuts, Disk::dishonest, &|image, told| {
        let log = Log::open(image, Program::Agent.options());
        if !log.is_ok_and(|log| told.is_kept_by(&log)) {
            found_out.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    // Where all of it happens to have been written, nothing is missing.
    assert!(found_out.into_inner() * 2 > cuts.len() as u64);
}

/// Records a run, and checks so many images of it.
fn lose_power(program: Program, images: u64) {
    let Some(recording) = Recording::of(program) else {
        return;
    };
    let images = number(IMAGES).unwrap_or(images);
    println!("{images} images");
    let (all, others) = (&recording.all, recording.dir.path().join("others"));
    recording.each_image(&recording.cuts(images), Disk::new, &|image, told| {
        check(program, image, &others, told, &all.appended);
    });
}

/// A run of a program.
struct Recording {
    program: Program,
    dir: tempfile::TempDir,
    seed: u64,
    /// Beginnings and ends of system calls.
    moments: u64,
    /// All that was said.
    all: Told,
}

impl Recording {
    /// `None` if nothing can be recorded here.
    fn of(program: Program) -> Option<Self> {
        let seed = number(SEED).unwrap_or_else(|| {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            u64::from(now.subsec_nanos())
        });
        println!("{}: seed {seed}", program.name());
        let dir = scratch();
        let root = dir.path().join("disk");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::create_dir_all(dir.path().join("others")).unwrap();
        program::trust(&dir.path().join("others"));
        if !record(program, dir.path(), seed) {
            return None;
        }
        let (mut disk, mut moments) = (Disk::new(&root), 0);
        trace::visit(&dir.path().join("trace"), |thread, event| {
            disk.apply(thread, &event);
            moments += 1;
        });
        // What the trace says is what happened.
        disk.assert_is(&root);
        let mut all = Told::default();
        disk.told.iter().for_each(|line| all.hear(line));
        assert!(all.appended.len() > 50, "the program was at work");
        Some(Self {
            program,
            dir,
            seed,
            moments,
            all,
        })
    }

    /// Random moments, in order.
    fn cuts(&self, count: u64) -> Vec<u64> {
        let mut random = Random(self.seed);
        let mut cuts: Vec<_> = (0..count).map(|_| random.below(self.moments) + 1).collect();
        cuts.sort_unstable();
        cuts
    }

    /// Makes an image at each of these moments, and looks at it.
    fn each_image(&self, cuts: &[u64], disk: fn(&Path) -> Disk, look: &(dyn Fn(&Path, &Told) + Sync)) {
        const WORKERS: usize = 2;
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let cuts: Vec<_> = cuts.iter().copied().skip(worker).step_by(WORKERS).collect();
                scope.spawn(move || {
                    let mut images = Images {
                        recording: self,
                        told: Told::default(),
                        heard: 0,
                        random: Random(self.seed ^ worker as u64),
                    };
                    let mut disk = disk(&self.dir.path().join("disk"));
                    let (mut moment, mut cuts) = (0, cuts.into_iter().peekable());
                    trace::visit(&self.dir.path().join("trace"), |thread, event| {
                        if cuts.peek().is_none() {
                            return;
                        }
                        disk.apply(thread, &event);
                        moment += 1;
                        while cuts.next_if_eq(&moment).is_some() {
                            images.make(&disk, moment, look);
                        }
                    });
                });
            }
        });
    }
}

/// Images of one run, one after the other.
struct Images<'a> {
    recording: &'a Recording,
    told: Told,
    heard: usize,
    random: Random,
}

impl Images<'_> {
    fn make(&mut self, disk: &Disk, moment: u64, look: &dyn Fn(&Path, &Told)) {
        for line in &disk.told[self.heard..] {
            self.told.hear(line);
        }
        self.heard = disk.told.len();
        let style = Style::draw(&mut self.random);
        let seed = self.random.next();
        let image = scratch();
        disk.write_image(image.path(), style, &mut Random(seed));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| look(image.path(), &self.told))) {
            let kept = scratch().keep();
            disk.write_image(&kept, style, &mut Random(seed));
            let trace = self.recording.dir.path().join("trace");
            std::fs::copy(trace, kept.with_extension("trace")).unwrap();
            eprintln!(
                "{}: at moment {moment}, {style:?}, seed {seed}; the image is kept in {}",
                self.recording.program.name(),
                kept.display()
            );
            resume_unwind(panic);
        }
    }
}

/// Runs a program under strace. `false` if there is none.
fn record(program: Program, dir: &Path, seed: u64) -> bool {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-xx", "-v", "-s", "16777216", "-e", CALLS, "-o"])
        .arg(dir.join("trace"))
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(RUN, program.name())
        .env(SEED, seed.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    match strace.spawn().and_then(std::process::Child::wait_with_output) {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            // Containers and hardened kernels forbid one process to watch another.
            if said.contains("ptrace") || said.contains("PTRACE") {
                skip(&format!("strace may not watch a process here: {said}"));
                return false;
            }
            panic!("the program failed: {said}");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip("no strace");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn skip(why: &str) {
    assert!(
        std::env::var_os("AMOSKYS_REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "{why}"
    );
    println!("skipped: {why}");
}

/// In memory where there is a file system for it: what a power cut leaves is made up here, and nothing is to be waited
/// for.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
