//! The records of the programs, as bytes: `bpf/records.h` in Rust. Bytes that are no record are an error, not a panic.

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadRecord;

/// What a record is about. The numbers are those of `enum kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the names say it, and `docs/ebpf.md` tells what is behind each"
)]
pub enum EventKind {
    Exec = 1,
    Fork = 2,
    Exit = 3,
    Credentials = 4,
    Open = 5,
    Create = 6,
    Unlink = 7,
    Rename = 8,
    Chmod = 9,
    Chown = 10,
    Link = 11,
    Connect = 12,
    Accept = 13,
    Bind = 14,
    Listen = 15,
    Send = 16,
    Dns = 17,
    Ptrace = 18,
    MemoryRead = 19,
    MemoryWrite = 20,
    MemoryFile = 21,
    WritableMap = 22,
    WritableProtect = 23,
    Capability = 24,
    Mount = 25,
    Unmount = 26,
    Unshare = 27,
    EnterNamespace = 28,
    ModuleLoad = 29,
    ModuleUnload = 30,
    BpfLoad = 31,
    Signal = 32,
    IoUring = 33,
    Denied = 34,
    Sequence = 40,
    Histogram = 41,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 36] = [
        Self::Exec,
        Self::Fork,
        Self::Exit,
        Self::Credentials,
        Self::Open,
        Self::Create,
        Self::Unlink,
        Self::Rename,
        Self::Chmod,
        Self::Chown,
        Self::Link,
        Self::Connect,
        Self::Accept,
        Self::Bind,
        Self::Listen,
        Self::Send,
        Self::Dns,
        Self::Ptrace,
        Self::MemoryRead,
        Self::MemoryWrite,
        Self::MemoryFile,
        Self::WritableMap,
        Self::WritableProtect,
        Self::Capability,
        Self::Mount,
        Self::Unmount,
        Self::Unshare,
        Self::EnterNamespace,
        Self::ModuleLoad,
        Self::ModuleUnload,
        Self::BpfLoad,
        Self::Signal,
        Self::IoUring,
        Self::Denied,
        Self::Sequence,
        Self::Histogram,
    ];

    fn of_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }

    /// Its bit in a set of kinds.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self as u64
    }
}

/// Reads fields one after another.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], BadRecord> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadRecord)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BadRecord)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u16(&mut self) -> Result<u16, BadRecord> {
        self.array().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BadRecord> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BadRecord> {
        self.array().map(u64::from_ne_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, BadRecord> {
        self.array().map(i64::from_ne_bytes)
    }
}

/// Who did it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: EventKind,
    /// Nanoseconds since boot, as all times here.
    pub(super) time: u64,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) start: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) cgroup: u64,
    pub(super) command: [u8; 16],
}

/// A record: who, what, and text.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) header: Header,
    pub(super) body: Body<'a>,
}

#[derive(Debug)]
pub(super) enum Body<'a> {
    Process(Box<Process<'a>>),
    Exit(Exit),
    Activity(Activity<'a>),
    Sequence(Sequence<'a>),
    Histogram(Histogram<'a>),
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawCredentials {
    pub(super) users: [u32; 4],
    pub(super) groups: [u32; 4],
    /// Effective, permitted, inheritable, bounding, ambient.
    pub(super) capabilities: [u64; 5],
}

#[derive(Debug)]
pub(super) struct Process<'a> {
    pub(super) parent_pid: u32,
    pub(super) parent_start: u64,
    pub(super) result: i64,
    pub(super) credentials: RawCredentials,
    /// Mount, pid, net, uts, ipc, cgroup, user.
    pub(super) namespaces: [u32; 7],
    pub(super) inner_pid: u32,
    pub(super) links: u16,
    pub(super) called_as: &'a [u8],
    pub(super) interpreter: &'a [u8],
    pub(super) arguments: &'a [u8],
    pub(super) directory: &'a [u8],
    pub(super) executable: &'a [u8],
    pub(super) cgroups: [&'a [u8]; 2],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Exit {
    pub(super) status: u32,
    pub(super) user_ns: u64,
    pub(super) system_ns: u64,
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    pub(super) max_rss_pages: u64,
}

#[derive(Debug)]
pub(super) struct Activity<'a> {
    pub(super) result: i64,
    pub(super) arguments: [u64; 4],
    pub(super) target_pid: u32,
    pub(super) target_uid: u32,
    pub(super) target_start: u64,
    pub(super) remote: [u8; 16],
    pub(super) local: [u8; 16],
    pub(super) family: u16,
    pub(super) remote_port: u16,
    pub(super) local_port: u16,
    pub(super) protocol: u16,
    pub(super) via: u16,
    pub(super) texts: [&'a [u8]; 3],
}

#[derive(Debug)]
pub(super) struct Sequence<'a> {
    pub(super) first: u64,
    pub(super) first_time: u64,
    /// Numbers, two bytes each.
    pub(super) calls: &'a [u8],
}

#[derive(Debug)]
pub(super) struct Histogram<'a> {
    pub(super) from: u64,
    pub(super) others: u32,
    /// By number, four bytes each.
    pub(super) counts: &'a [u8],
}

const SEQUENCE_CALLS: usize = 64;
const HISTOGRAM_CALLS: usize = 512;

/// Reads a record.
pub(super) fn read(bytes: &[u8]) -> Result<Record<'_>, BadRecord> {
    let mut reader = Reader(bytes);
    let kind = EventKind::of_number(reader.u16()?).ok_or(BadRecord)?;
    let text_bytes = usize::from(reader.u16()?);
    let _processor = reader.u32()?;
    let header = Header {
        kind,
        time: reader.u64()?,
        pid: reader.u32()?,
        tid: reader.u32()?,
        start: reader.u64()?,
        uid: reader.u32()?,
        gid: reader.u32()?,
        cgroup: reader.u64()?,
        command: reader.array()?,
    };
    let body = match kind {
        EventKind::Exec | EventKind::Fork | EventKind::Credentials => {
            Body::Process(Box::new(read_process(&mut reader, text_bytes)?))
        }
        EventKind::Exit => Body::Exit(read_exit(&mut reader)?),
        EventKind::Sequence => Body::Sequence(read_sequence(&mut reader)?),
        EventKind::Histogram => Body::Histogram(read_histogram(&mut reader)?),
        _ => Body::Activity(read_activity(&mut reader, text_bytes)?),
    };
    Ok(Record { header, body })
}

pub(super) fn read_process<'a>(reader: &mut Reader<'a>, text_bytes: usize) -> Result<Process<'a>, BadRecord> {
    let parent_pid = reader.u32()?;
    let _call = reader.u32()?;
    let parent_start = reader.u64()?;
    let result = reader.i64()?;
    let mut credentials = RawCredentials::default();
    for number in credentials.users.iter_mut().chain(&mut credentials.groups) {
        *number = reader.u32()?;
    }
    for set in &mut credentials.capabilities {
        *set = reader.u64()?;
    }
    let mut namespaces = [0; 7];
    for number in &mut namespaces {
        *number = reader.u32()?;
    }
    let inner_pid = reader.u32()?;
    let (_inode, _device) = (reader.u64()?, reader.u32()?);
    let (_mode, links) = (reader.u16()?, reader.u16()?);
    let mut lengths = [0; 8];
    for length in &mut lengths {
        *length = usize::from(reader.u16()?);
    }
    let mut text = Reader(reader.take(text_bytes)?);
    let mut part = |index: usize| text.take(lengths[index]);
    Ok(Process {
        parent_pid,
        parent_start,
        result,
        credentials,
        namespaces,
        inner_pid,
        links,
        called_as: part(0)?,
        interpreter: part(1)?,
        arguments: part(2)?,
        directory: part(3)?,
        executable: part(4)?,
        cgroups: [part(5)?, part(6)?],
    })
}

fn read_exit(reader: &mut Reader<'_>) -> Result<Exit, BadRecord> {
    let status = reader.u32()?;
    reader.u32()?;
    Ok(Exit {
        status,
        user_ns: reader.u64()?,
        system_ns: reader.u64()?,
        minor_faults: reader.u64()?,
        major_faults: reader.u64()?,
        max_rss_pages: reader.u64()?,
    })
}

fn read_activity<'a>(reader: &mut Reader<'a>, text_bytes: usize) -> Result<Activity<'a>, BadRecord> {
    let result = reader.i64()?;
    let mut arguments = [0; 4];
    for argument in &mut arguments {
        *argument = reader.u64()?;
    }
    let (target_pid, target_uid, target_start) = (reader.u32()?, reader.u32()?, reader.u64()?);
    let (remote, local) = (reader.array()?, reader.array()?);
    let (family, remote_port, local_port) = (reader.u16()?, reader.u16()?, reader.u16()?);
    let (protocol, via) = (reader.u16()?, reader.u16()?);
    let lengths = [reader.u16()?, reader.u16()?, reader.u16()?];
    let mut text = Reader(reader.take(text_bytes)?);
    let mut texts: [&[u8]; 3] = [&[]; 3];
    for (part, length) in texts.iter_mut().zip(lengths) {
        *part = text.take(usize::from(length))?;
    }
    Ok(Activity {
        result,
        arguments,
        target_pid,
        target_uid,
        target_start,
        remote,
        local,
        family,
        remote_port,
        local_port,
        protocol,
        via,
        texts,
    })
}

fn read_sequence<'a>(reader: &mut Reader<'a>) -> Result<Sequence<'a>, BadRecord> {
    let (first, first_time) = (reader.u64()?, reader.u64()?);
    let count = reader.u32()? as usize;
    reader.u32()?;
    let calls = reader.take(2 * SEQUENCE_CALLS)?;
    let calls = calls.get(..2 * count.min(SEQUENCE_CALLS + 1)).ok_or(BadRecord)?;
    Ok(Sequence {
        first,
        first_time,
        calls,
    })
}

fn read_histogram<'a>(reader: &mut Reader<'a>) -> Result<Histogram<'a>, BadRecord> {
    let from = reader.u64()?;
    let _total = reader.u32()?;
    Ok(Histogram {
        from,
        others: reader.u32()?,
        counts: reader.take(4 * HISTOGRAM_CALLS)?,
    })
}

/// A process that was there at the start: `struct present`.
#[derive(Debug)]
pub(super) struct Present<'a> {
    pub(super) reader_pid: u32,
    pub(super) start: u64,
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) command: [u8; 16],
    pub(super) process: Process<'a>,
    pub(super) cgroups: [&'a [u8]; 2],
}

/// Size of `struct present`.
pub(super) const PRESENT_BYTES: usize = 464;

/// Reads a process that was there at the start.
pub(super) fn read_present(bytes: &[u8]) -> Result<Present<'_>, BadRecord> {
    let mut reader = Reader(bytes);
    let reader_pid = reader.u32()?;
    reader.u32()?;
    let start = reader.u64()?;
    let (pid, uid, gid, _) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
    let command = reader.array()?;
    let process = read_process(&mut reader, 0)?;
    let cgroups = [reader.take(128)?, reader.take(128)?];
    Ok(Present {
        reader_pid,
        start,
        pid,
        uid,
        gid,
        command,
        process,
        cgroups,
    })
}

/// Text of the kernel up to its end.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the bytes, reading them ends, and what is read lies inside of them.
        #[test]
        fn any_bytes_are_a_record_or_an_error(kind in 0..50u16, rest in prop::collection::vec(any::<u8>(), 0..3000)) {
            let mut bytes = kind.to_ne_bytes().to_vec();
            bytes.extend(rest);
            if let Ok(record) = read(&bytes) {
                prop_assert_eq!(record.header.kind as u16, kind);
                if let Body::Sequence(sequence) = record.body {
                    prop_assert!(sequence.calls.len() <= 2 * SEQUENCE_CALLS);
                }
            }
            let _ = read_present(&bytes);
        }
    }

    #[test]
    fn a_record_of_an_activity_is_read_field_by_field() {
        let mut bytes = Vec::new();
        bytes.extend(18u16.to_ne_bytes());
        bytes.extend(5u16.to_ne_bytes());
        bytes.extend(3u32.to_ne_bytes());
        bytes.extend(77u64.to_ne_bytes());
        bytes.extend([10u32, 11].map(u32::to_ne_bytes).concat());
        bytes.extend(12u64.to_ne_bytes());
        bytes.extend([13u32, 14].map(u32::to_ne_bytes).concat());
        bytes.extend(15u64.to_ne_bytes());
        bytes.extend(*b"command\0\0\0\0\0\0\0\0\0");
        assert_eq!(bytes.len(), 64);
        bytes.extend((-13i64).to_ne_bytes());
        bytes.extend([1u64, 2, 3, 4].map(u64::to_ne_bytes).concat());
        bytes.extend([20u32, 21].map(u32::to_ne_bytes).concat());
        bytes.extend(22u64.to_ne_bytes());
        bytes.extend([1; 16]);
        bytes.extend([2; 16]);
        bytes.extend([4u16, 80, 81, 6, 1, 3, 2, 0].map(u16::to_ne_bytes).concat());
        assert_eq!(bytes.len(), 64 + 104);
        bytes.extend(b"abcde");
        let record = read(&bytes).unwrap();
        assert_eq!(
            (record.header.time, record.header.pid, record.header.start),
            (77, 10, 12)
        );
        let Body::Activity(activity) = record.body else {
            panic!("{record:?}");
        };
        assert_eq!((activity.result, activity.arguments), (-13, [1, 2, 3, 4]));
        assert_eq!(activity.texts, [b"abc".as_slice(), b"de", b""]);
        assert_eq!(
            (activity.remote_port, activity.local_port, activity.via),
            (80, 81, 1)
        );
        // Lengths that lead outside.
        bytes[64 + 98] = 200;
        assert_eq!(read(&bytes).err(), Some(BadRecord));
    }
}
