//! Pure decoders of what Linux writes below `/proc`: bytes in, numbers out, no allocation. The bytes may be anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use amoskys_core::event::Credentials;

/// Fields of `/proc/PID/stat`, by proc_pid_stat(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStat<'a> {
    /// Process id.
    pub pid: u32,
    /// Name of the program, without the parentheses. It may hold any bytes, parentheses and line ends too.
    pub command: &'a [u8],
    /// State as a letter: `R` running, `S` sleeping, `D` waiting for a device, `Z` ended and not collected, `T` stopped.
    pub state: u8,
    /// Parent's process id.
    pub parent_pid: u32,
    /// Page faults without input or output.
    pub minor_faults: u64,
    /// Page faults that waited for a device.
    pub major_faults: u64,
    /// Processor time in its own code, in clock ticks.
    pub user_ticks: u64,
    /// Processor time in the kernel, in clock ticks.
    pub system_ticks: u64,
    /// Threads.
    pub threads: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Size of its address space in bytes.
    pub virtual_bytes: u64,
    /// Its resident memory in pages. The kernel's count is inexact by a few pages for each thread.
    pub resident_pages: u64,
}

/// Decodes `/proc/PID/stat`; `None` if it is not in that form.
#[must_use]
pub fn process_stat(bytes: &[u8]) -> Option<ProcessStat<'_>> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    // The name may hold parentheses, what follows does not.
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let pid = number(bytes.get(..open)?.trim_ascii())?;
    let command = bytes.get(open + 1..close)?;
    let mut fields = bytes
        .get(close + 1..)?
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|field| !field.is_empty());
    let state = match fields.next()? {
        [state] => *state,
        _ => return None,
    };
    let parent_pid = number(fields.next()?)?;
    // Counted from the field after the parent, which is the fifth.
    let mut next = |skip: usize| number::<u64>(fields.nth(skip)?);
    let minor_faults = next(5)?;
    let major_faults = next(1)?;
    let user_ticks = next(1)?;
    let system_ticks = next(0)?;
    let threads = u32::try_from(next(4)?).ok()?;
    let start_ticks = next(1)?;
    let virtual_bytes = next(0)?;
    let resident_pages = next(0)?;
    Some(ProcessStat {
        pid,
        command,
        state,
        parent_pid,
        minor_faults,
        major_faults,
        user_ticks,
        system_ticks,
        threads,
        start_ticks,
        virtual_bytes,
        resident_pages,
    })
}

/// Users, groups and capabilities from `/proc/PID/status`; `None` if one of the lines is missing or broken.
#[must_use]
pub fn credentials(status: &[u8]) -> Option<Credentials> {
    let ids = |name: &str| -> Option<[u32; 4]> {
        let mut ids = words(value(status, name)?).map(number);
        Some([ids.next()??, ids.next()??, ids.next()??, ids.next()??])
    };
    let set = |name: &str| {
        let digits = std::str::from_utf8(value(status, name)?.trim_ascii()).ok()?;
        u64::from_str_radix(digits, 16).ok()
    };
    let [uid, effective_uid, saved_uid, _] = ids("Uid")?;
    let [gid, effective_gid, saved_gid, _] = ids("Gid")?;
    Some(Credentials {
        uid,
        effective_uid,
        saved_uid,
        gid,
        effective_gid,
        saved_gid,
        effective: set("CapEff")?,
        permitted: set("CapPrm")?,
        inheritable: set("CapInh")?,
        bounding: set("CapBnd")?,
        // Since Linux 4.3.
        ambient: set("CapAmb").unwrap_or_default(),
    })
}

/// The process's id in its own namespace, from `/proc/PID/status`.
#[must_use]
pub fn inner_pid(status: &[u8]) -> Option<u32> {
    number(words(value(status, "NSpid")?).last()?)
}

/// Bytes a process had devices read and write, from `/proc/PID/io`.
#[must_use]
pub fn device_bytes(io: &[u8]) -> Option<(u64, u64)> {
    let count = |name| number(value(io, name)?.trim_ascii());
    Some((count("read_bytes")?, count("write_bytes")?))
}

/// A number of `/proc/meminfo`, in bytes.
#[must_use]
pub fn memory(meminfo: &[u8], name: &str) -> Option<u64> {
    let kibibytes: u64 = number(words(value(meminfo, name)?).next()?)?;
    kibibytes.checked_mul(1024)
}

/// The load averages over 1, 5 and 15 minutes, from `/proc/loadavg`.
#[must_use]
pub fn load_averages(loadavg: &[u8]) -> Option<[f64; 3]> {
    let mut loads = words(loadavg).map(|word| {
        let load: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
        (load.is_finite() && load >= 0.0).then_some(load)
    });
    Some([loads.next()??, loads.next()??, loads.next()??])
}

/// Time all processors together spent in each of [`CPU_MODES`], in clock ticks, from `/proc/stat`.
#[must_use]
pub fn cpu_ticks(stat: &[u8]) -> Option<[u64; 8]> {
    let line = stat.split(|byte| *byte == b'\n').next()?;
    let mut fields = words(line);
    if fields.next()? != b"cpu" {
        return None;
    }
    let mut ticks = [0; 8];
    for tick in &mut ticks {
        *tick = number(fields.next()?)?;
    }
    Some(ticks)
}

/// What [`cpu_ticks`] counts, in order.
pub const CPU_MODES: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];

/// A line of `/proc/net/tcp`, `tcp6`, `udp` or `udp6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketEntry {
    /// The own address; unspecified if it takes any. IPv4 addresses inside IPv6 are given as IPv4.
    pub local: SocketAddr,
    /// The peer's; unspecified and port 0 without one.
    pub remote: SocketAddr,
    /// State, numbered as the kernel numbers those of TCP: 1 established, 10 listening. 7 for UDP without a peer.
    pub state: u8,
    /// User who made it.
    pub uid: u32,
    /// Number of the socket; 0 if no process has it any more.
    pub inode: u64,
}

/// A listening TCP socket's [`state`](SocketEntry::state).
pub const LISTENING: u8 = 10;

/// Decodes a table of sockets, line by line without its head; `None` for a line that is not in that form.
pub fn sockets(table: &[u8]) -> impl Iterator<Item = Option<SocketEntry>> {
    table
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter(|line| !line.trim_ascii().is_empty())
        .map(socket)
}

fn socket(line: &[u8]) -> Option<SocketEntry> {
    let mut fields = words(line);
    let local = endpoint(fields.nth(1)?)?;
    let remote = endpoint(fields.next()?)?;
    let state = u8::try_from(hexadecimal(fields.next()?)?).ok()?;
    let uid = number(fields.nth(3)?)?;
    let inode = number(fields.nth(1)?)?;
    Some(SocketEntry {
        local,
        remote,
        state,
        uid,
        inode,
    })
}

/// `0100007F:0035`: words of 32 bits as the processor has them in memory, then the port as a number.
fn endpoint(text: &[u8]) -> Option<SocketAddr> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (address, port) = (text.get(..colon)?, text.get(colon + 1..)?);
    let port = u16::try_from(hexadecimal(port)?).ok()?;
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(hexadecimal(address)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            let (digits, _) = address.as_chunks::<8>();
            let (words, _) = bytes.as_chunks_mut::<4>();
            for (word, digits) in words.iter_mut().zip(digits) {
                *word = hexadecimal(digits)?.to_ne_bytes();
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// The ports that are given to sockets that ask for none, from `/proc/sys/net/ipv4/ip_local_port_range`.
#[must_use]
pub fn port_range(range: &[u8]) -> Option<RangeInclusive<u16>> {
    let mut ports = words(range).map(number);
    Some(ports.next()??..=ports.next()??)
}

/// The machine's own IPv4 addresses, from `/proc/net/fib_trie`. Some come twice.
pub fn local_ipv4(fib_trie: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    let mut latest = None;
    fib_trie.split(|byte| *byte == b'\n').filter_map(move |line| {
        let line = line.trim_ascii();
        if let Some(address) = line.strip_prefix(b"|-- ") {
            latest = std::str::from_utf8(address)
                .ok()
                .and_then(|text| text.parse().ok());
        }
        (line == b"/32 host LOCAL").then_some(latest)?
    })
}

/// The machine's own IPv6 addresses, from `/proc/net/if_inet6`.
pub fn local_ipv6(if_inet6: &[u8]) -> impl Iterator<Item = Ipv6Addr> {
    if_inet6.split(|byte| *byte == b'\n').filter_map(|line| {
        let (digits, rest) = words(line).next()?.as_chunks::<8>();
        let digits: &[[u8; 8]; 4] = digits.try_into().ok().filter(|_| rest.is_empty())?;
        let mut bytes = [0; 16];
        let (words, _) = bytes.as_chunks_mut::<4>();
        for (word, digits) in words.iter_mut().zip(digits) {
            *word = hexadecimal(digits)?.to_be_bytes();
        }
        Some(bytes.into())
    })
}

/// The number of a socket that a link in `/proc/PID/fd` leads to: `socket:[1234]`.
#[must_use]
pub fn socket_inode(link: &[u8]) -> Option<u64> {
    number(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

/// What follows `name:` at the beginning of a line.
fn value<'a>(lines: &'a [u8], name: &str) -> Option<&'a [u8]> {
    lines
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let is_hexadecimal = !digits.is_empty() && digits.len() <= 8;
    let mut digits = digits.iter();
    is_hexadecimal.then(|| {
        digits.try_fold(0, |number, digit| {
            Some(number << 4 | char::from(*digit).to_digit(16)?)
        })
    })?
}

/// A decimal number without sign; `None` if it is none, or too large.
pub(super) fn number<N: TryFrom<u64>>(digits: &[u8]) -> Option<N> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    N::try_from(number).ok()
}
