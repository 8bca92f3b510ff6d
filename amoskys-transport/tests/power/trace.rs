//! Reads what strace wrote: one system call after the other, in the order in which they began and ended.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// An argument of a system call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Arg {
    /// A quoted string: a path, or bytes that were written.
    Bytes(Vec<u8>),
    /// Parts that are written one after the other.
    Parts(Vec<Vec<u8>>),
    /// Anything else, as it stands there.
    Word(String),
}

impl Arg {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("{other:?} where bytes should be"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        use std::os::unix::ffi::OsStrExt;
        Path::new(std::ffi::OsStr::from_bytes(self.bytes()))
    }

    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Word(word) => word,
            other => panic!("{other:?} where a word should be"),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        let word = self.word();
        word.parse()
            .unwrap_or_else(|_| panic!("{word:?} where a number should be"))
    }

    /// A file descriptor; `None` for the working directory.
    pub(crate) fn fd(&self) -> Option<i32> {
        self.word().parse().ok()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) args: Vec<Arg>,
}

/// What happens at one place of the trace.
pub(crate) enum Event<'a> {
    Begin(&'a Call),
    /// It ended with this; `None` if it failed or never returned.
    End(&'a Call, Option<i64>),
}

/// Visits the system calls of a trace. The number is that of the thread.
pub(crate) fn visit(path: &Path, mut visit: impl FnMut(u32, Event<'_>)) {
    let mut input = BufReader::with_capacity(1 << 20, std::fs::File::open(path).unwrap());
    let mut under_way: HashMap<u32, Call> = HashMap::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).unwrap() == 0 {
            return;
        }
        let text = std::str::from_utf8(&line).expect("strace writes text").trim_end();
        let (thread, rest) = text.split_once(' ').expect("a thread's number");
        let (thread, rest) = (thread.parse().expect("a thread's number"), rest.trim_start());
        if let Some(resumed) = rest.strip_prefix("<... ") {
            // A thread that was killed may be resumed by nothing.
            if let Some(call) = under_way.remove(&thread) {
                assert!(resumed.starts_with(&call.name), "{resumed} ends {}", call.name);
                visit(thread, Event::End(&call, result(resumed)));
            }
            continue;
        }
        // Signals and exits.
        if rest.starts_with(['-', '+']) {
            continue;
        }
        let (name, rest) = rest.split_once('(').expect("a system call");
        let unfinished = rest.strip_suffix("<unfinished ...>");
        let call = Call {
            name: name.to_owned(),
            args: arguments(unfinished.unwrap_or(rest)),
        };
        visit(thread, Event::Begin(&call));
        if unfinished.is_some() {
            under_way.insert(thread, call);
        } else {
            visit(thread, Event::End(&call, result(rest)));
        }
    }
}

fn result(text: &str) -> Option<i64> {
    let (_, value) = text.rsplit_once(" = ")?;
    let value = value.split(' ').next()?;
    value.parse().ok().filter(|value| *value >= 0)
}

/// The arguments up to the closing parenthesis, or to the end where it is not there yet.
fn arguments(text: &str) -> Vec<Arg> {
    let bytes = text.as_bytes();
    let (mut args, mut at) = (Vec::new(), 0);
    loop {
        while bytes.get(at).is_some_and(|b| matches!(b, b' ' | b',')) {
            at += 1;
        }
        match bytes.get(at) {
            None | Some(b')') => return args,
            Some(b'"') => {
                let (value, end) = quoted(bytes, at);
                args.push(Arg::Bytes(value));
                at = end;
            }
            Some(b'[') => {
                let (parts, end) = vector(bytes, at);
                args.push(Arg::Parts(parts));
                at = end;
            }
            Some(_) => {
                let begin = at;
                let mut depth = 0;
                while let Some(b) = bytes.get(at) {
                    match b {
                        b'(' | b'{' => depth += 1,
                        b')' | b'}' if depth > 0 => depth -= 1,
                        b',' | b')' if depth == 0 => break,
                        _ => {}
                    }
                    at += 1;
                }
                args.push(Arg::Word(text[begin..at].trim().to_owned()));
            }
        }
    }
}

/// `"\x61\x62"` at `at`: the bytes, and where it ends.
fn quoted(text: &[u8], at: usize) -> (Vec<u8>, usize) {
    let digit = |b: u8| char::from(b).to_digit(16).expect("a hexadecimal digit") as u8;
    let mut out = Vec::new();
    let mut at = at + 1;
    while text[at] != b'"' {
        assert_eq!(&text[at..at + 2], b"\\x", "strace writes all bytes as digits");
        out.push(digit(text[at + 2]) << 4 | digit(text[at + 3]));
        at += 4;
    }
    at += 1;
    assert!(!text[at..].starts_with(b"..."), "strace cut a string off");
    (out, at)
}

/// `[{iov_base="...", iov_len=3}, ...]` at `at`, or any other list, which is taken for empty.
fn vector(text: &[u8], at: usize) -> (Vec<Vec<u8>>, usize) {
    let mut parts = Vec::new();
    let mut at = at + 1;
    loop {
        match text.get(at) {
            None => return (parts, at),
            Some(b']') => return (parts, at + 1),
            Some(b'"') => {
                let (value, end) = quoted(text, at);
                parts.push(value);
                at = end;
            }
            Some(b'.') if text[at..].starts_with(b"...") => panic!("strace cut a list off"),
            Some(_) => at += 1,
        }
    }
}

#[test]
fn lines_of_strace_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let lines = [
        r#"10 openat(AT_FDCWD, "\x2f\x61", O_WRONLY|O_CREAT|O_CLOEXEC, 0600) = 5"#,
        r#"10 pwritev(5, [{iov_base="\x01\x02", iov_len=2}, {iov_base="", iov_len=0}], 2, 64 <unfinished ...>"#,
        r#"11 fsync(6 <unfinished ...>"#,
        r#"10 <... pwritev resumed>) = 2"#,
        r#"11 <... fsync resumed>) = -1 EIO (Input/output error)"#,
        r#"11 +++ exited with 0 +++"#,
    ];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let mut seen = Vec::new();
    visit(&path, |thread, event| match event {
        Event::Begin(call) => seen.push(format!("{thread} {} begins", call.name)),
        Event::End(call, result) => seen.push(format!("{thread} {} {:?} {result:?}", call.name, call.args)),
    });
    let expected = [
        "10 openat begins",
        r#"10 openat [Word("AT_FDCWD"), Bytes([47, 97]), Word("O_WRONLY|O_CREAT|O_CLOEXEC"), Word("0600")] Some(5)"#,
        "10 pwritev begins",
        "11 fsync begins",
        r#"10 pwritev [Word("5"), Parts([[1, 2], []]), Word("2"), Word("64")] Some(2)"#,
        r#"11 fsync [Word("6")] None"#,
    ];
    assert_eq!(seen, expected);
}
