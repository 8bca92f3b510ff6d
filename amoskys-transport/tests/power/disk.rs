//! What a power cut may leave on a disk: of each file and directory what it was at its last sync, and any part of what
//! was done to it since.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::trace::{Arg, Call, Event};

/// A disk writes whole sectors, in any order.
const SECTOR: u64 = 512;

type Ino = usize;

/// Something done since the last sync.
#[derive(Debug)]
struct Pending<T> {
    id: u64,
    /// Whether the system call has returned; only then does a sync that begins now cover it.
    done: bool,
    what: T,
}

#[derive(Clone, Debug)]
enum Change {
    Write {
        at: u64,
        data: Arc<[u8]>,
    },
    SetLen(u64),
    /// Space was reserved, and the file is at least so long.
    Grow(u64),
}

#[derive(Clone, Debug)]
enum Entry {
    Put {
        name: String,
        ino: Ino,
    },
    Remove {
        name: String,
    },
    /// The new name and the old one change at once.
    Rename {
        from: String,
        to: String,
        ino: Ino,
    },
}

type Names = BTreeMap<String, Ino>;

#[derive(Debug)]
enum Node {
    File {
        durable: Vec<u8>,
        len: u64,
        pending: Vec<Pending<Change>>,
    },
    Dir {
        durable: Names,
        now: Names,
        pending: Vec<Pending<Entry>>,
    },
}

/// A directory tree as system calls make it.
pub(crate) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    /// What descriptors stand for; several may share one place in a file.
    open: HashMap<i32, usize>,
    opened: Vec<(Ino, u64)>,
    next_id: u64,
    /// What the system call of a thread is about to change, or what it makes durable.
    under_way: HashMap<u32, (Ino, Vec<u64>)>,
    /// What the program said: lines written to a descriptor that is none of its files.
    pub(crate) told: Vec<String>,
    /// Whether it does what a sync asks of it.
    honest: bool,
}

/// How an image is made: which parts of what was not synced are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// How many of 16 sectors are there.
    sectors: u64,
    /// A sector holds what some moment left in it; otherwise, any of the writes to it may be missing.
    moments: bool,
    /// Directories lose the end of what was done to them; otherwise, any part.
    in_order: bool,
    /// How many of 16 changes of directories are there, where not in order.
    entries: u64,
}

impl Style {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let shares = [0, 1, 4, 8, 12, 15, 16];
        Self {
            sectors: shares[random.below(7) as usize],
            moments: random.below(2) == 0,
            in_order: random.below(2) == 0,
            entries: shares[random.below(7) as usize],
        }
    }
}

impl Disk {
    /// An empty directory, which is durable.
    pub(crate) fn new(root: &Path) -> Self {
        let dir = Node::Dir {
            durable: Names::new(),
            now: Names::new(),
            pending: Vec::new(),
        };
        Self {
            root: root.to_owned(),
            nodes: vec![dir],
            open: HashMap::new(),
            opened: Vec::new(),
            next_id: 0,
            under_way: HashMap::new(),
            told: Vec::new(),
            honest: true,
        }
    }

    /// A disk that says that it has written, and has not.
    pub(crate) fn dishonest(root: &Path) -> Self {
        Self {
            honest: false,
            ..Self::new(root)
        }
    }

    pub(crate) fn apply(&mut self, thread: u32, event: &Event<'_>) {
        match event {
            Event::Begin(call) => self.begin(thread, call),
            Event::End(call, result) => self.end(thread, call, *result),
        }
    }

    /// What has to be known, or may be on the disk, before the call returns.
    fn begin(&mut self, thread: u32, call: &Call) {
        let args = &call.args;
        match call.name.as_str() {
            "close" => {
                // Its number may be given to another thread before this one is seen to return.
                args[0].fd().map(|fd| self.open.remove(&fd));
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => {
                let data = match &args[1] {
                    Arg::Bytes(bytes) => bytes.clone(),
                    Arg::Parts(parts) => parts.concat(),
                    Arg::Word(word) => panic!("{word} was written"),
                };
                let Some(open) = self.opened(&args[0]) else {
                    if let Some(line) = data.strip_prefix(b"told ") {
                        self.told
                            .push(String::from_utf8_lossy(line).trim_end().to_owned());
                    }
                    return;
                };
                let at = match call.name.as_str() {
                    "write" | "writev" => self.opened[open].1,
                    _ => args[3].number(),
                };
                let ino = self.opened[open].0;
                let data = data.into();
                let id = self.change(ino, Change::Write { at, data });
                self.under_way.insert(thread, (ino, vec![id]));
            }
            "fsync" | "fdatasync" => {
                if let Some(open) = self.opened(&args[0]) {
                    let ino = self.opened[open].0;
                    let covered = match &self.nodes[ino] {
                        Node::File { pending, .. } => done(pending),
                        Node::Dir { pending, .. } => done(pending),
                    };
                    self.under_way.insert(thread, (ino, covered));
                }
            }
            "mmap" => {
                if let Some(open) = args.get(4).and_then(|fd| self.opened(fd)) {
                    panic!(
                        "{:?} is mapped into memory: {call:?}",
                        self.name_of(self.opened[open].0)
                    );
                }
            }
            "copy_file_range" | "splice" => {
                assert!(self.opened(&args[2]).is_none(), "not modelled: {call:?}");
            }
            "sendfile" => assert!(self.opened(&args[0]).is_none(), "not modelled: {call:?}"),
            "io_uring_setup" => panic!("what goes through a ring is not seen"),
            _ => {}
        }
    }

    fn end(&mut self, thread: u32, call: &Call, result: Option<i64>) {
        let under_way = self.under_way.remove(&thread);
        let Some(result) = result else {
            assert!(
                !call.name.contains("write") || under_way.is_none(),
                "a write failed"
            );
            return;
        };
        let args = &call.args;
        match call.name.as_str() {
            "open" | "creat" | "openat" => self.end_open(call, result),
            "dup" | "dup2" | "dup3" => self.share(&args[0], result),
            "fcntl" if args[1].word().starts_with("F_DUPFD") => self.share(&args[0], result),
            "lseek" => {
                if let Some(open) = self.opened(&args[0]) {
                    self.opened[open].1 = result as u64;
                }
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => {
                let Some((ino, ids)) = under_way else { return };
                self.end_write(ino, ids[0], result as u64);
                if matches!(call.name.as_str(), "write" | "writev")
                    && let Some(open) = self.opened(&args[0])
                {
                    self.opened[open].1 += result as u64;
                }
            }
            "ftruncate" => {
                if let Some(open) = self.opened(&args[0]) {
                    self.change_at_once(self.opened[open].0, Change::SetLen(args[1].number()));
                }
            }
            "fallocate" => {
                if let Some(open) = self.opened(&args[0]) {
                    assert_eq!(args[1].word(), "0", "not modelled: {call:?}");
                    let end = args[2].number() + args[3].number();
                    self.change_at_once(self.opened[open].0, Change::Grow(end));
                }
            }
            "fsync" | "fdatasync" => {
                if let Some((ino, covered)) = under_way.filter(|_| self.honest) {
                    self.promote(ino, &covered);
                }
            }
            "mkdir" => self.make_dir(None, &args[0]),
            "mkdirat" => self.make_dir(args[0].fd(), &args[1]),
            "rename" => self.rename((None, &args[0]), (None, &args[1])),
            "renameat" | "renameat2" => {
                self.rename((args[0].fd(), &args[1]), (args[2].fd(), &args[3]));
            }
            "link" => self.link((None, &args[0]), (None, &args[1])),
            "linkat" => self.link((args[0].fd(), &args[1]), (args[2].fd(), &args[3])),
            "unlink" | "rmdir" => self.unlink(None, &args[0]),
            "unlinkat" => self.unlink(args[0].fd(), &args[1]),
            "truncate" | "symlink" | "symlinkat" => {
                assert!(self.find(None, &args[0]).is_none(), "not modelled: {call:?}");
            }
            _ => {}
        }
    }

    fn end_open(&mut self, call: &Call, fd: i64) {
        let at = usize::from(call.name == "openat");
        let dir = (at == 1).then(|| call.args[0].fd()).flatten();
        let Some((parent, name)) = self.find(dir, &call.args[at]) else {
            return;
        };
        let flags = call.args.get(at + 1).map_or("", |flags| flags.word());
        assert!(!flags.contains("O_APPEND"), "not modelled: {call:?}");
        let ino = match (self.lookup(parent, &name), flags.contains("O_CREAT")) {
            (Some(ino), _) => ino,
            (None, true) => {
                let file = Node::File {
                    durable: Vec::new(),
                    len: 0,
                    pending: Vec::new(),
                };
                self.nodes.push(file);
                let ino = self.nodes.len() - 1;
                self.put(parent, Entry::Put { name, ino });
                ino
            }
            (None, false) => panic!("{:?} was opened and is not known", call.args[at].path()),
        };
        if flags.contains("O_TRUNC") && matches!(self.nodes[ino], Node::File { len, .. } if len > 0) {
            self.change_at_once(ino, Change::SetLen(0));
        }
        self.opened.push((ino, 0));
        let fd = i32::try_from(fd).expect("a descriptor");
        self.open.insert(fd, self.opened.len() - 1);
    }

    fn share(&mut self, old: &Arg, new: i64) {
        if let Some(open) = self.opened(old) {
            let fd = i32::try_from(new).expect("a descriptor");
            self.open.insert(fd, open);
        }
    }

    fn end_write(&mut self, ino: Ino, id: u64, written: u64) {
        let Node::File { len, pending, .. } = &mut self.nodes[ino] else {
            panic!("a directory was written to");
        };
        let Some(write) = pending.iter_mut().find(|change| change.id == id) else {
            return;
        };
        write.done = true;
        if let Change::Write { at, data } = &mut write.what {
            if written < data.len() as u64 {
                *data = data[..written as usize].into();
            }
            *len = (*len).max(*at + written);
        }
    }

    fn make_dir(&mut self, dir: Option<i32>, path: &Arg) {
        let Some((parent, name)) = self.find(dir, path) else {
            return;
        };
        let made = Node::Dir {
            durable: Names::new(),
            now: Names::new(),
            pending: Vec::new(),
        };
        self.nodes.push(made);
        let ino = self.nodes.len() - 1;
        self.put(parent, Entry::Put { name, ino });
    }

    fn rename(&mut self, from: (Option<i32>, &Arg), to: (Option<i32>, &Arg)) {
        let (from, to) = (self.find(from.0, from.1), self.find(to.0, to.1));
        let (Some((parent, from)), Some((new_parent, to))) = (&from, &to) else {
            assert!(from.is_none() && to.is_none(), "moved in or out");
            return;
        };
        assert_eq!(parent, new_parent, "renames between directories are not modelled");
        let ino = self.lookup(*parent, from).expect("what is renamed");
        let (from, to) = (from.clone(), to.clone());
        self.put(*parent, Entry::Rename { from, to, ino });
    }

    fn link(&mut self, from: (Option<i32>, &Arg), to: (Option<i32>, &Arg)) {
        let Some((from_parent, from)) = self.find(from.0, from.1) else {
            return;
        };
        let (parent, name) = self.find(to.0, to.1).expect("linked within");
        let ino = self.lookup(from_parent, &from).expect("what is linked");
        self.put(parent, Entry::Put { name, ino });
    }

    fn unlink(&mut self, dir: Option<i32>, path: &Arg) {
        if let Some((parent, name)) = self.find(dir, path) {
            self.put(parent, Entry::Remove { name });
        }
    }

    fn opened(&self, fd: &Arg) -> Option<usize> {
        fd.fd().and_then(|fd| self.open.get(&fd)).copied()
    }

    /// The directory of a path, and the name in it; `None` if it is elsewhere.
    fn find(&self, dir: Option<i32>, path: &Arg) -> Option<(Ino, String)> {
        let path = path.path();
        let (mut at, relative) = match dir.map(|dir| self.open.get(&dir)) {
            Some(Some(open)) if path.is_relative() => (self.opened[*open].0, path),
            Some(None) if path.is_relative() => return None,
            _ => (0, path.strip_prefix(&self.root).ok()?),
        };
        let names: Vec<_> = relative
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_str().expect("text").to_owned()),
                _ => None,
            })
            .collect();
        let Some((last, before)) = names.split_last() else {
            // The root itself: an entry that leads back to it.
            return Some((at, String::new()));
        };
        for name in before {
            at = self
                .lookup(at, name)
                .unwrap_or_else(|| panic!("{} is not known", path.display()));
        }
        Some((at, last.clone()))
    }

    fn lookup(&self, dir: Ino, name: &str) -> Option<Ino> {
        match &self.nodes[dir] {
            _ if name.is_empty() => Some(dir),
            Node::Dir { now, .. } => now.get(name).copied(),
            Node::File { .. } => panic!("a file where a directory should be"),
        }
    }

    fn name_of(&self, wanted: Ino) -> String {
        let dirs = self.nodes.iter().filter_map(|node| match node {
            Node::Dir { now, .. } => Some(now),
            Node::File { .. } => None,
        });
        let mut names = dirs.flatten();
        names
            .find(|(_, ino)| **ino == wanted)
            .map_or_else(String::new, |(name, _)| name.clone())
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn change(&mut self, ino: Ino, what: Change) -> u64 {
        let id = self.id();
        if let Node::File { pending, .. } = &mut self.nodes[ino] {
            pending.push(Pending {
                id,
                done: false,
                what,
            });
        }
        id
    }

    fn change_at_once(&mut self, ino: Ino, what: Change) {
        let id = self.change(ino, what.clone());
        let Node::File { len, pending, .. } = &mut self.nodes[ino] else {
            panic!("a directory was changed like a file");
        };
        for change in pending.iter_mut().filter(|change| change.id == id) {
            change.done = true;
        }
        match what {
            Change::SetLen(wanted) => *len = wanted,
            Change::Grow(wanted) => *len = (*len).max(wanted),
            Change::Write { .. } => {}
        }
    }

    fn put(&mut self, dir: Ino, what: Entry) {
        let id = self.id();
        let Node::Dir { now, pending, .. } = &mut self.nodes[dir] else {
            panic!("a file where a directory should be");
        };
        what.apply(now);
        pending.push(Pending { id, done: true, what });
    }

    /// What was done before a sync began is durable once it has returned.
    fn promote(&mut self, ino: Ino, covered: &[u64]) {
        match &mut self.nodes[ino] {
            Node::File { durable, pending, .. } => {
                for change in split_off(pending, covered) {
                    change.apply(durable);
                }
            }
            Node::Dir { durable, pending, .. } => {
                for entry in split_off(pending, covered) {
                    entry.apply(durable);
                }
            }
        }
    }

    /// Makes a directory tree of what may be there after a power cut at this moment.
    pub(crate) fn write_image(&self, target: &Path, style: Style, random: &mut Random) {
        let mut contents = HashMap::new();
        let mut of_dirs = Random(random.next());
        // A file with two names is one file.
        let mut content = |ino| {
            let content = contents
                .entry(ino)
                .or_insert_with(|| Arc::new(self.content(ino, style, random)));
            content.clone()
        };
        self.write_dir(0, target, &mut content, &mut of_dirs, style);
    }

    fn write_dir(
        &self,
        dir: Ino,
        target: &Path,
        content: &mut dyn FnMut(Ino) -> Arc<Vec<u8>>,
        random: &mut Random,
        style: Style,
    ) {
        let Node::Dir { durable, pending, .. } = &self.nodes[dir] else {
            panic!("a file where a directory should be");
        };
        let mut names = durable.clone();
        let kept = random.below(pending.len() as u64 + 1) as usize;
        for (at, entry) in pending.iter().enumerate() {
            let there = if style.in_order {
                at < kept
            } else {
                random.below(16) < style.entries
            };
            if there {
                entry.what.apply(&mut names);
            }
        }
        std::fs::create_dir_all(target).unwrap();
        for (name, ino) in names {
            let path = target.join(name);
            match &self.nodes[ino] {
                Node::File { .. } => write_file(&path, &content(ino)),
                Node::Dir { .. } => self.write_dir(ino, &path, content, random, style),
            }
        }
    }

    fn content(&self, ino: Ino, style: Style, random: &mut Random) -> Vec<u8> {
        let Node::File { durable, pending, .. } = &self.nodes[ino] else {
            panic!("a directory where a file should be");
        };
        let mut content = durable.clone();
        // The size goes through the same states as it did, and stops at one of them.
        let kept = match random.below(4) {
            0 => 0,
            1 => pending.len(),
            _ => random.below(pending.len() as u64 + 1) as usize,
        };
        let mut size = content.len() as u64;
        // Up to when each sector was written back.
        let mut moments: HashMap<u64, u64> = HashMap::new();
        for (at, change) in pending.iter().enumerate() {
            let counts = at < kept;
            match &change.what {
                Change::SetLen(len) if counts => {
                    change.what.apply(&mut content);
                    size = *len;
                }
                Change::Grow(len) if counts => size = size.max(*len),
                Change::SetLen(_) | Change::Grow(_) => {}
                Change::Write { at: begin, data } => {
                    if counts {
                        size = size.max(begin + data.len() as u64);
                    }
                    let end = begin + data.len() as u64;
                    let mut pos = *begin;
                    while pos < end {
                        let next = (pos / SECTOR * SECTOR + SECTOR).min(end);
                        let there = if style.moments {
                            let moment = moments.entry(pos / SECTOR).or_insert_with(|| {
                                if random.below(16) < style.sectors {
                                    random
                                        .below(pending.len() as u64 + 1)
                                        .max(random.below(pending.len() as u64 + 1))
                                } else {
                                    0
                                }
                            });
                            (at as u64) < *moment
                        } else {
                            random.below(16) < style.sectors
                        };
                        if there {
                            let part = (pos - begin) as usize..(next - begin) as usize;
                            overwrite(&mut content, pos, &data[part]);
                        }
                        pos = next;
                    }
                }
            }
        }
        content.resize(size as usize, 0);
        content
    }

    /// Everything that was done, as it is in a directory of a machine that did not lose its power.
    pub(crate) fn assert_is(&self, dir: &Path) {
        self.assert_dir(0, dir);
    }

    fn assert_dir(&self, ino: Ino, dir: &Path) {
        let Node::Dir { now, .. } = &self.nodes[ino] else {
            panic!("a file where a directory should be");
        };
        let mut found: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let known: Vec<_> = now.keys().cloned().collect();
        assert_eq!(found, known, "in {}", dir.display());
        for (name, ino) in now {
            let path = dir.join(name);
            match &self.nodes[*ino] {
                Node::Dir { .. } => self.assert_dir(*ino, &path),
                Node::File {
                    durable,
                    pending,
                    len,
                } => {
                    let mut content = durable.clone();
                    for change in pending {
                        change.what.apply(&mut content);
                    }
                    assert_eq!(content.len() as u64, *len, "{}", path.display());
                    assert!(content == std::fs::read(&path).unwrap(), "{}", path.display());
                }
            }
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, data } => overwrite(content, *at, data),
            Self::SetLen(len) => content.resize(*len as usize, 0),
            Self::Grow(len) => content.resize(content.len().max(*len as usize), 0),
        }
    }
}

impl Entry {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Put { name, ino } => {
                names.insert(name.clone(), *ino);
            }
            Self::Remove { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, ino } => {
                names.remove(from);
                names.insert(to.clone(), *ino);
            }
        }
    }
}

fn done<T>(pending: &[Pending<T>]) -> Vec<u64> {
    let done = pending.iter().filter(|change| change.done);
    done.map(|change| change.id).collect()
}

fn split_off<T>(pending: &mut Vec<Pending<T>>, ids: &[u64]) -> Vec<T> {
    let (taken, left) = std::mem::take(pending)
        .into_iter()
        .partition(|change| ids.binary_search(&change.id).is_ok());
    *pending = left;
    taken.into_iter().map(|change: Pending<T>| change.what).collect()
}

fn overwrite(content: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = at as usize;
    if content.len() < at + data.len() {
        content.resize(at + data.len(), 0);
    }
    content[at..at + data.len()].copy_from_slice(data);
}

fn write_file(path: &Path, content: &[u8]) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(content).unwrap();
}

/// Numbers that follow from a seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
