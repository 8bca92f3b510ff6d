use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

use amoskys_core::event::FlowKey;
use rustix::io::Errno;

use super::parse::{self, LISTENING, SocketEntry};
use super::procfs::Procfs;
use super::{ProcError, ProcessKey, container};

/// Which process owns which socket, as of the last [`refresh`](Self::refresh).
///
/// Covers TCP and UDP in the network namespace of the `proc` that is read. A socket that several processes share
/// belongs to the one that started first, which in most servers is the one that made it. A socket that began and ended
/// between two refreshes is not known, and a connection that waits to be accepted belongs to nobody yet.
///
/// ```
/// use amoskys_collectors::proc::SocketOwners;
/// use amoskys_core::event::FlowKey;
///
/// # fn example(key: &FlowKey) -> Result<(), Box<dyn std::error::Error>> {
/// let mut owners = SocketOwners::open("/proc")?;
/// owners.refresh()?;
/// if let Some(owner) = owners.of_flow(key) {
///     println!("{key}: {} (process {})", owner.command, owner.key.pid);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SocketOwners {
    procfs: Procfs,
    /// Number of the socket by protocol, own address and peer.
    sockets: HashMap<(u8, SocketAddr, SocketAddr), u64>,
    owners: HashMap<u64, SocketOwner>,
    /// Protocol, address and number of the socket.
    listening: Vec<(u8, SocketAddr, u64)>,
    /// The machine's own addresses.
    own: HashSet<IpAddr>,
}

/// A process that owns a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOwner {
    /// The process.
    pub key: ProcessKey,
    /// Name of its program as the kernel keeps it.
    pub command: String,
    /// Its effective user, if it may be known.
    pub uid: Option<u32>,
    /// Container id; empty outside containers.
    pub container: String,
}

/// What a refresh found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketCounts {
    /// Sockets.
    pub sockets: u64,
    /// Sockets whose owner is known.
    pub owned: u64,
    /// Lines that could not be decoded.
    pub malformed: u64,
    /// Processes whose files may not be looked at. Needs `CAP_SYS_PTRACE` for those of other users.
    pub refused: u64,
    /// Tables that were longer than is read, 64 MiB: the rest is not known.
    pub cut: u64,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const TABLES: [(&str, u8); 4] = [
    ("net/tcp", TCP),
    ("net/tcp6", TCP),
    ("net/udp", UDP),
    ("net/udp6", UDP),
];
/// Of a table: some 400,000 sockets.
const TABLE_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 1 << 16;
/// Ports that Linux hands out to sockets that ask for none, unless it is set.
const DEFAULT_PASSING: RangeInclusive<u16> = 32768..=60999;

impl SocketOwners {
    /// Opens a mounted `proc`, usually `/proc`. Nothing is known before the first refresh.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, ProcError> {
        Ok(Self {
            procfs: Procfs::open(root.as_ref())?,
            sockets: HashMap::new(),
            owners: HashMap::new(),
            listening: Vec::new(),
            own: HashSet::new(),
        })
    }

    /// Reads all sockets and the open files of all processes anew. Blocks: it takes far longer than a sample of the
    /// processes, so it is not for every packet.
    ///
    /// # Errors
    ///
    /// If the tables of sockets or the processes cannot be listed.
    pub fn refresh(&mut self) -> Result<SocketCounts, ProcError> {
        let mut counts = SocketCounts::default();
        self.sockets.clear();
        self.listening.clear();
        self.owners.clear();
        let passing = self.procfs.read("sys/net/ipv4/ip_local_port_range", 64);
        let passing = passing.ok().and_then(|range| parse::port_range(&range));
        let passing = passing.unwrap_or(DEFAULT_PASSING);
        for (file, protocol) in TABLES {
            let table = match self.procfs.read(file, TABLE_BYTES) {
                Ok(table) => table,
                // A kernel without IPv6 has no table of it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => {
                    return Err(ProcError::Root {
                        path: file.into(),
                        source,
                    });
                }
            };
            counts.cut += u64::from(table.len() as u64 == TABLE_BYTES);
            for entry in parse::sockets(&table) {
                match entry {
                    Some(entry) => self.insert(protocol, &entry, &passing, &mut counts),
                    None => counts.malformed += 1,
                }
            }
        }
        self.listening.sort_unstable();
        self.find_own_addresses();
        self.find_owners(&mut counts)?;
        counts.owned = self
            .sockets
            .values()
            .filter(|inode| self.owners.contains_key(inode))
            .count() as u64;
        Ok(counts)
    }

    /// The owner of the socket with these addresses; of the one that takes packets to this address if none has this
    /// very peer.
    #[must_use]
    pub fn owner(&self, protocol: u8, local: SocketAddr, remote: SocketAddr) -> Option<&SocketOwner> {
        let (local, remote) = (canonical(local), canonical(remote));
        let any = |ip: IpAddr, port| SocketAddr::new(ip, port);
        let (v4, v6) = (
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        );
        let nobody = match local {
            SocketAddr::V4(_) => any(v4, 0),
            SocketAddr::V6(_) => any(v6, 0),
        };
        let candidates = [
            (local, remote),
            // Without a peer: of UDP, and listening.
            (local, nobody),
            (any(v4, local.port()), any(v4, 0)),
            // One for IPv6 usually takes IPv4 too.
            (any(v6, local.port()), any(v6, 0)),
        ];
        let is_v6 = local.is_ipv6();
        // A socket that takes packets to any address takes those to the machine's own.
        let is_own = local.ip().is_loopback() || self.own.contains(&local.ip());
        let mut found = candidates
            .into_iter()
            .filter(|(local, _)| !local.ip().is_unspecified() || (is_own && !(is_v6 && local.is_ipv4())))
            .filter_map(|(local, remote)| self.sockets.get(&(protocol, local, remote)));
        found.find_map(|inode| self.owners.get(inode))
    }

    /// The owner of one end of a flow: of its source if both are on this machine.
    #[must_use]
    pub fn of_flow(&self, key: &FlowKey) -> Option<&SocketOwner> {
        let source = SocketAddr::new(key.source, key.source_port);
        let destination = SocketAddr::new(key.destination, key.destination_port);
        let exact = |local, remote| {
            let inode = self
                .sockets
                .get(&(key.protocol, canonical(local), canonical(remote)))?;
            self.owners.get(inode)
        };
        exact(source, destination)
            .or_else(|| exact(destination, source))
            .or_else(|| self.owner(key.protocol, source, destination))
            .or_else(|| self.owner(key.protocol, destination, source))
    }

    /// Where TCP connections are waited for, or UDP taken from anyone: protocol number and address, in order, and by
    /// whom. UDP sockets at ports that the system hands out itself are left out: most of them wait for an answer.
    pub fn listening(&self) -> impl Iterator<Item = (u8, SocketAddr, Option<&SocketOwner>)> {
        self.listening
            .iter()
            .map(|(protocol, address, inode)| (*protocol, *address, self.owners.get(inode)))
    }

    fn insert(
        &mut self,
        protocol: u8,
        entry: &SocketEntry,
        passing: &RangeInclusive<u16>,
        counts: &mut SocketCounts,
    ) {
        // Connections that have ended stay in the table for a while, and belong to nobody.
        if entry.inode == 0 {
            return;
        }
        counts.sockets += 1;
        let is_listening = match protocol {
            TCP => entry.state == LISTENING,
            _ => entry.remote.port() == 0 && !passing.contains(&entry.local.port()),
        };
        if is_listening {
            self.listening.push((protocol, entry.local, entry.inode));
        }
        self.sockets
            .insert((protocol, entry.local, entry.remote), entry.inode);
    }

    /// Without these tables only exact addresses are found.
    fn find_own_addresses(&mut self) {
        let table = |file| self.procfs.read(file, TABLE_BYTES).unwrap_or_default();
        let (v4, v6) = (table("net/fib_trie"), table("net/if_inet6"));
        self.own.clear();
        self.own.extend(parse::local_ipv4(&v4).map(IpAddr::V4));
        self.own.extend(parse::local_ipv6(&v6).map(IpAddr::V6));
    }

    fn find_owners(&mut self, counts: &mut SocketCounts) -> Result<(), ProcError> {
        let wanted: HashSet<u64> = self.sockets.values().copied().collect();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut inodes = Vec::new();
        let (procfs, owners) = (&self.procfs, &mut self.owners);
        procfs.each_pid(|pid| {
            inodes.clear();
            let listed = procfs.each_open_file(pid, |target| {
                inodes.extend(parse::socket_inode(target).filter(|inode| wanted.contains(inode)));
            });
            counts.refused += u64::from(matches!(listed, Err(Errno::ACCESS | Errno::PERM)));
            if inodes.is_empty() {
                return;
            }
            let Some(owner) = describe(procfs, pid, &mut buffer) else {
                return;
            };
            let order = |owner: &SocketOwner| (owner.key.start_ticks, owner.key.pid);
            for inode in inodes.drain(..) {
                let entry = owners.entry(inode).or_insert_with(|| owner.clone());
                if order(&owner) < order(entry) {
                    *entry = owner.clone();
                }
            }
        })
    }
}

fn describe(procfs: &Procfs, pid: u32, buffer: &mut [u8]) -> Option<SocketOwner> {
    let mut file = |name| {
        let bytes = procfs.read_of(pid, name, buffer).ok()?;
        Some(buffer[..bytes].to_vec())
    };
    let stat = file("stat")?;
    let stat = parse::process_stat(&stat)?;
    let credentials = file("status").and_then(|status| parse::credentials(&status));
    let groups = file("cgroup").unwrap_or_default();
    let container = std::str::from_utf8(&groups).ok().and_then(container::of_groups);
    Some(SocketOwner {
        key: ProcessKey {
            pid,
            start_ticks: stat.start_ticks,
        },
        command: String::from_utf8_lossy(stat.command).into_owned(),
        uid: credentials.map(|credentials| credentials.effective_uid),
        container: container.unwrap_or_default().to_owned(),
    })
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
