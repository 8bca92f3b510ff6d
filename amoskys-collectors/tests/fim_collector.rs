//! Real files, as the collector of their integrity tells of them.
#![cfg(all(feature = "fim", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use amoskys_collectors::fim::{
    Baseline, BaselineError, BaselineKey, FileFacts, FimCollector, FimConfig, FimError,
};
use amoskys_core::event::{ActivityAction, ActivityVia, Value};
use amoskys_core::{Collector, Digest, Payload, Tally};
use proptest::prelude::*;

use ActivityAction::{FileCreate, FileMode, FileModify, FileOwner, FileUnlink};

struct Watch {
    collector: FimCollector,
    seen: Vec<(ActivityAction, String, std::collections::BTreeMap<String, Value>)>,
    losses: u64,
    tally: Tally,
}

impl Watch {
    /// Opens, and waits until everything has been looked at once.
    async fn open(config: FimConfig, baseline: Option<Baseline>) -> Self {
        let mut collector = FimCollector::open(config).unwrap();
        if let Some(baseline) = baseline {
            collector = collector.with_baseline(baseline);
        }
        let mut watch = Self {
            collector,
            seen: Vec::new(),
            losses: 0,
            tally: Tally::default(),
        };
        watch.step().await;
        watch
    }

    async fn step(&mut self) {
        let batch = tokio::time::timeout(Duration::from_secs(30), self.collector.next_batch());
        let batch = batch.await.expect("the clock is stated").unwrap().unwrap();
        self.tally.add(&batch.tally);
        for event in batch.events {
            match event.payload {
                Payload::Activity(activity) => {
                    assert_eq!((activity.pid, activity.via), (0, ActivityVia::Comparison));
                    self.seen.push((activity.action, activity.path, event.attributes));
                }
                Payload::Loss(loss) => self.losses += loss.count,
                _ => {}
            }
        }
    }

    /// Waits for a change of a path and returns its attributes.
    async fn until(
        &mut self,
        action: ActivityAction,
        path: &Path,
    ) -> std::collections::BTreeMap<String, Value> {
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            let found = |(did, at, _): &(ActivityAction, String, _)| *did == action && Path::new(at) == path;
            if let Some(place) = self.seen.iter().position(found) {
                return self.seen.remove(place).2;
            }
            self.step().await;
        }
        panic!("no {action} of {}: {:?}", path.display(), self.seen);
    }
}

fn sha256(contents: &[u8]) -> Value {
    Value::Text(Digest::of(contents).to_string())
}

fn config(folder: &Path) -> FimConfig {
    FimConfig {
        settle: Duration::from_millis(200),
        ..FimConfig::new([folder])
    }
}

#[tokio::test]
async fn each_change_of_a_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwd");
    fs::write(&file, "root").unwrap();
    let mut watch = Watch::open(config(folder.path()), None).await;
    assert!(
        watch.seen.is_empty(),
        "what is there is no change: {:?}",
        watch.seen
    );
    assert_eq!(watch.tally.used, 2);

    fs::write(&file, "toor").unwrap();
    let changed = watch.until(FileModify, &file).await;
    assert_eq!(changed["sha256"], sha256(b"toor"));
    assert_eq!(changed["sha256_before"], sha256(b"root"));
    assert!(!changed.contains_key("mode_before"));

    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    let changed = watch.until(FileMode, &file).await;
    assert_eq!(changed["mode"], Value::Uint(0o4755));

    let is_root = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if is_root.unwrap() {
        std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
        let changed = watch.until(FileOwner, &file).await;
        assert_eq!(
            (&changed["uid"], &changed["uid_before"]),
            (&Value::Uint(65_534), &Value::Uint(0))
        );
    } else {
        eprintln!("only root gives files away: changes of the owner are not tested");
    }

    // Kept open, as logs are.
    let mut open = fs::OpenOptions::new().append(true).open(&file).unwrap();
    open.write_all(b"!").unwrap();
    let changed = watch.until(FileModify, &file).await;
    assert_eq!(changed["sha256"], sha256(b"toor!"));

    // Replaced at once, as editors do.
    let new = folder.path().join("passwd.new");
    fs::write(&new, "fresh").unwrap();
    watch.until(FileCreate, &new).await;
    fs::rename(&new, &file).unwrap();
    let changed = watch.until(FileModify, &file).await;
    assert_eq!(changed["sha256"], sha256(b"fresh"));
    watch.until(FileUnlink, &new).await;

    fs::remove_file(&file).unwrap();
    let gone = watch.until(FileUnlink, &file).await;
    assert_eq!(gone["sha256_before"], sha256(b"fresh"));
    assert_eq!(watch.losses, 0);
}

#[tokio::test]
async fn directories_are_followed_wherever_they_go() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let mut watch = Watch::open(config(folder.path()), None).await;
    fs::create_dir_all(old.join("a/b")).unwrap();
    fs::write(old.join("a/b/file"), "1").unwrap();
    watch.until(FileCreate, &old.join("a/b/file")).await;
    fs::rename(&old, &new).unwrap();
    watch.until(FileUnlink, &old.join("a/b/file")).await;
    watch.until(FileCreate, &new.join("a/b/file")).await;
    fs::write(new.join("a/b/file"), "2").unwrap();
    let changed = watch.until(FileModify, &new.join("a/b/file")).await;
    assert_eq!(changed["sha256_before"], sha256(b"1"));
    fs::remove_dir_all(&new).unwrap();
    watch.until(FileUnlink, &new).await;
    // One of the same name is another.
    fs::create_dir(&new).unwrap();
    watch.until(FileCreate, &new).await;
    fs::write(new.join("again"), "").unwrap();
    watch.until(FileCreate, &new.join("again")).await;
}

#[tokio::test]
async fn links_are_not_followed() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = outside.path().join("target");
    fs::write(&target, "1").unwrap();
    let mut watch = Watch::open(config(folder.path()), None).await;
    let (link, tree) = (folder.path().join("link"), folder.path().join("tree"));
    symlink(&target, &link).unwrap();
    symlink(outside.path(), &tree).unwrap();
    let made = watch.until(FileCreate, &link).await;
    assert_eq!(made["kind"], Value::Text("link".to_owned()));
    assert_eq!(made["sha256"], sha256(target.to_str().unwrap().as_bytes()));
    fs::write(&target, "2").unwrap();
    let last = folder.path().join("last");
    fs::write(&last, "").unwrap();
    watch.until(FileCreate, &last).await;
    watch.until(FileCreate, &tree).await;
    assert!(watch.seen.iter().all(|(_, path, _)| !path.contains("target")));
}

#[tokio::test]
async fn what_differs_from_a_signed_baseline_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["same", "changed", "removed", "mode"] {
        fs::write(at(name), name).unwrap();
    }
    let config = config(folder.path());
    let (baseline, counts) = Baseline::scan(&config);
    assert_eq!((counts.files, counts.refused), (5, 0));
    let key = BaselineKey::from_seed(&[7; 32]).unwrap();
    let path = kept.path().join("baseline");
    baseline.save(&path, &key).unwrap();
    let loaded = Baseline::load(&path, &key.public_key()).unwrap();
    assert_eq!(loaded, baseline);

    // While nobody watches, and with the time put back.
    let time = fs::metadata(at("changed")).unwrap().modified().unwrap();
    fs::write(at("changed"), "CHANGED").unwrap();
    let file = fs::File::options().write(true).open(at("changed")).unwrap();
    file.set_modified(time).unwrap();
    drop(file);
    fs::remove_file(at("removed")).unwrap();
    fs::write(at("added"), "").unwrap();
    fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o755)).unwrap();

    let watch = Watch::open(config, Some(loaded)).await;
    let mut seen: Vec<_> = watch
        .seen
        .iter()
        .map(|(did, path, _)| (*did, path.as_str()))
        .collect();
    seen.sort_unstable();
    let mut expected = [
        (FileCreate, at("added")),
        (FileModify, at("changed")),
        (FileUnlink, at("removed")),
        (FileMode, at("mode")),
    ];
    expected.sort();
    let expected: Vec<_> = expected
        .iter()
        .map(|(did, path)| (*did, path.to_str().unwrap()))
        .collect();
    assert_eq!(seen, expected);
    assert!(
        watch
            .seen
            .iter()
            .all(|(_, _, facts)| facts["since_baseline"] == Value::Bool(true))
    );
}

#[tokio::test]
async fn a_full_queue_is_told_and_made_up_for() {
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue: usize = queue.trim().parse().unwrap();
    if queue > 100_000 {
        eprintln!("the queue is too long to be filled here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut watch = Watch::open(config(folder.path()), None).await;
    let at = |number: usize| folder.path().join(number.to_string());
    // Nobody asks for batches, so that the collector must wait before long.
    for number in 0..queue {
        fs::write(at(number), "").unwrap();
    }
    for number in 1..queue {
        fs::remove_file(at(number)).unwrap();
    }
    fs::write(at(queue), "last").unwrap();
    watch.until(FileCreate, &at(queue)).await;
    while watch.losses == 0 {
        watch.step().await;
    }
    assert!(
        watch
            .tally
            .dropped
            .iter()
            .any(|(reason, _)| reason.as_str() == "kernel")
    );
    // It goes on as if nothing had been.
    fs::write(at(0), "still").unwrap();
    for _ in 0..200 {
        if watch
            .seen
            .iter()
            .any(|(_, _, facts)| facts.get("sha256") == Some(&sha256(b"still")))
        {
            return;
        }
        watch.step().await;
    }
    panic!("nothing is seen after the overflow");
}

#[tokio::test]
async fn a_pipe_holds_nobody_up_and_bounds_hold() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    fs::write(folder.path().join("large"), vec![0; 5000]).unwrap();
    let mut config = config(folder.path());
    config.max_hash_bytes = 4999;
    let (baseline, counts) = Baseline::scan(&config);
    assert_eq!(counts.files, 3);
    assert!(baseline.files().all(|(_, facts)| facts.sha256.is_none()));
    config.max_files = 2;
    assert_eq!(Baseline::scan(&config).1.full, 1);
    config.exclude = vec![pipe];
    assert_eq!(Baseline::scan(&config).1.full, 0);
    let facts = FileFacts::of(&folder.path().join("large"), 5000).unwrap();
    assert_eq!(facts.sha256, Some(Digest::of(&[0; 5000])));

    let mut watch = Watch::open(FimConfig::new([folder.path()]), None).await;
    assert!(watch.collector.stop());
    while let Some(batch) = watch.collector.next_batch().await.unwrap() {
        watch.tally.add(&batch.tally);
    }
    assert_eq!(watch.tally.used, 3);
}

#[test]
fn wrong_settings_are_refused() {
    for config in [FimConfig::new(Vec::<String>::new()), FimConfig::new(["relative"])] {
        assert!(matches!(FimCollector::open(config), Err(FimError::Config(_))));
    }
}

#[test]
fn a_baseline_that_was_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "a").unwrap();
    let (baseline, _) = Baseline::scan(&FimConfig::new([folder.path()]));
    let key = BaselineKey::from_seed(&[1; 32]).unwrap();
    let bytes = baseline.sign(&key);
    assert_eq!(Baseline::verify(&bytes, &key.public_key()).unwrap(), baseline);
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        let result = Baseline::verify(&changed, &key.public_key());
        assert!(matches!(result, Err(BaselineError::Signature)), "{place}");
    }
    let other = BaselineKey::from_seed(&[2; 32]).unwrap();
    assert!(Baseline::verify(&bytes, &other.public_key()).is_err());
    let missing = Baseline::load(&folder.path().join("none"), &key.public_key());
    assert!(matches!(missing, Err(BaselineError::File { .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Baseline::verify(&bytes, &[3; 32]).is_err());
    }
}
