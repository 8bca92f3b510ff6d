//! Who is logged in, as login programs write it down: the file of utmp(5), records of one size in the order of the
//! processor's bytes. The bytes may be anything.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// A user who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// Name of the user; never empty.
    pub user: String,
    /// Terminal, below `/dev`.
    pub terminal: String,
    /// Where the user is, as the login program says: a name, an address or a display. Empty for the machine itself.
    pub host: String,
    /// The peer's address; `None` for the machine itself.
    pub address: Option<IpAddr>,
    /// Process that keeps the session; never 0.
    pub pid: u32,
    /// When it began, in seconds since 1970. Of 32 bits in the file, and so wrong from 2038 on.
    pub since_secs: u32,
}

/// Size of a record of glibc on this processor. Its times have 64 bits where none of 32 came before.
const RECORD_BYTES: usize = if cfg!(target_arch = "aarch64") { 400 } else { 384 };
/// Where the time is, behind a session number of the processor's size.
const TIME_AT: usize = if RECORD_BYTES == 400 { 344 } else { 340 };
/// Where the peer's address is.
const ADDRESS_AT: usize = if RECORD_BYTES == 400 { 360 } else { 348 };
/// Type of a record that says that a user is logged in.
const USER_PROCESS: u16 = 7;
/// Records that are read at most: far more than there are terminals.
const MAX_BYTES: u64 = 8 << 20;

/// Decodes the file; `None` for a record of a user that has no name or process. Records of other types, as of starting
/// the machine, are passed over, and so is a record that is cut off.
pub fn sessions(file: &[u8]) -> impl Iterator<Item = Option<Session>> {
    let records = file.chunks_exact(RECORD_BYTES);
    records
        .filter(|record| record.starts_with(&USER_PROCESS.to_ne_bytes()))
        .map(session)
}

/// The file as far as it is read; empty if it is not there.
pub(super) fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is as good as a shorter file.
        let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
    }
    bytes
}

fn session(record: &[u8]) -> Option<Session> {
    let user = text(record, 44, 32)?;
    let pid = word(record, 4)?;
    if user.is_empty() || pid == 0 {
        return None;
    }
    Some(Session {
        user,
        terminal: text(record, 8, 32)?,
        host: text(record, 76, 256)?,
        address: address(record.get(ADDRESS_AT..ADDRESS_AT + 16)?.try_into().ok()?),
        pid,
        since_secs: word(record, TIME_AT)?,
    })
}

fn word(record: &[u8], at: usize) -> Option<u32> {
    let bytes = record.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Up to the first zero, or the end of the field.
fn text(record: &[u8], at: usize, len: usize) -> Option<String> {
    let field = record.get(at..at + len)?;
    let field = field.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(field).into_owned())
}

/// Sixteen bytes, of which the first four are an IPv4 address if the others are zero.
fn address(bytes: [u8; 16]) -> Option<IpAddr> {
    let [a, b, c, d, rest @ ..] = bytes;
    match (rest == [0; 12], [a, b, c, d] == [0; 4]) {
        (true, true) => None,
        (true, false) => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()),
    }
}
