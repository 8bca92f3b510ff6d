use std::net::IpAddr;
use std::path::PathBuf;

use super::record::EventKind;

/// What the sensor watches, and how. The default watches all events of security on the whole machine, but no
/// sequences or histograms of system calls, and forbids nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EbpfConfig {
    /// Which events. A program is attached for each that the kernel offers; leaving kinds out saves their cost.
    /// Default: all but sequences and histograms, which [`streams`](Self::streams) chooses.
    pub events: Vec<EventKind>,
    /// What is recorded of all system calls. Default: nothing.
    pub streams: CallStreams,
    /// What is left out in the kernel. [`EbpfHandle::set_filters`](super::EbpfHandle::set_filters) changes it while
    /// the sensor runs.
    pub filters: EbpfFilters,
    /// Size of the ring for events: a power of two, 64 KiB to 1 GiB. It is mapped twice. Default: 4 MiB.
    pub event_ring_bytes: u32,
    /// Size of the ring for sequences and histograms, likewise. Default: 4 MiB.
    pub call_ring_bytes: u32,
    /// Whether to record less when the reader cannot keep up, in steps: sequences become histograms, histograms
    /// nothing; events are always recorded. Default: true.
    pub governor: bool,
    /// Whether the processes that are there already are reported first, as
    /// [`ProcessAction::Seen`](amoskys_core::event::ProcessAction::Seen). They are listed in any case, as ancestors.
    /// Default: true.
    pub report_present: bool,
    /// What is forbidden. Default: nothing.
    pub enforcement: Enforcement,
    /// Hooks that are not to be used although they are wanted, by their names in the table of
    /// [`offers`](super::EbpfCollector::offers): `fentry commit_creds`. What stands in for one is used then. Default: none.
    pub left_out: Vec<String>,
}

impl Default for EbpfConfig {
    fn default() -> Self {
        Self {
            events: EventKind::ALL
                .into_iter()
                .filter(|kind| !matches!(kind, EventKind::Sequence | EventKind::Histogram))
                .collect(),
            streams: CallStreams::None,
            filters: EbpfFilters::default(),
            event_ring_bytes: 4 << 20,
            call_ring_bytes: 4 << 20,
            governor: true,
            report_present: true,
            enforcement: Enforcement::default(),
            left_out: Vec::new(),
        }
    }
}

/// What is recorded of all system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CallStreams {
    /// Nothing: calls that do not concern security cost next to nothing.
    #[default]
    None,
    /// How often each process made which calls, by the second.
    Histograms,
    /// The number of each call of each thread, in order.
    Sequences,
}

impl CallStreams {
    /// The name used in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "events_only",
            Self::Histograms => "histograms",
            Self::Sequences => "sequences",
        }
    }

    pub(super) const fn less(self) -> Self {
        match self {
            Self::Sequences => Self::Histograms,
            _ => Self::None,
        }
    }
}

/// A choice among values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection<T> {
    /// All values. The default.
    #[default]
    All,
    /// These alone.
    Only(Vec<T>),
    /// All but these.
    Except(Vec<T>),
}

impl<T> Selection<T> {
    pub(super) const fn mode(&self) -> u32 {
        match self {
            Self::All => 0,
            Self::Only(_) => 1,
            Self::Except(_) => 2,
        }
    }

    pub(super) fn values(&self) -> &[T] {
        match self {
            Self::All => &[],
            Self::Only(values) | Self::Except(values) => values,
        }
    }
}

/// What is left out in the kernel, before it costs more than its counting. Something is recorded if all of these let
/// it pass. The process of the sensor itself is always left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EbpfFilters {
    /// Effective user ids. At most 1024.
    pub uids: Selection<u32>,
    /// Ids of control groups of the unified hierarchy: the inode number of the group's directory. At most 1024.
    pub cgroups: Selection<u64>,
    /// Ports, own or remote, of events that have one. At most 1024.
    pub ports: Selection<u16>,
    /// System calls in sequences and histograms, by number, below 512. At most 512.
    pub calls: Selection<u32>,
    /// Files are watched whose path begins like this, as text: `/etc/ssh` also is `/etc/sshd`. Seen from the root of
    /// the process's mount namespace. At most 1024, of 1 to 256 bytes. Default: what grants access or starts programs.
    pub watched: Vec<String>,
    /// Failed calls are left out unless the error is one of permission (`EPERM`, `EACCES`, `EROFS`). Default: true.
    pub only_denied_failures: bool,
}

impl Default for EbpfFilters {
    fn default() -> Self {
        let watched = [
            "/etc/passwd",
            "/etc/shadow",
            "/etc/group",
            "/etc/gshadow",
            "/etc/sudoers",
            "/etc/ssh",
            "/etc/pam",
            "/etc/cron",
            "/etc/init",
            "/etc/rc",
            "/etc/profile",
            "/etc/systemd",
            "/etc/ld.so.preload",
            "/etc/modules",
            "/etc/udev",
            "/root/.ssh",
            "/root/.bash",
            "/root/.profile",
            "/usr/lib/systemd/system",
            "/lib/systemd/system",
            "/var/spool/cron",
            "/boot/",
        ];
        Self {
            uids: Selection::All,
            cgroups: Selection::All,
            ports: Selection::All,
            calls: Selection::All,
            watched: watched.map(str::to_owned).to_vec(),
            only_denied_failures: true,
        }
    }
}

/// What the sensor forbids. Off unless set: it changes what the machine does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enforcement {
    /// Connections that are refused with `EPERM`, for processes in [`cgroup`](Self::cgroup).
    pub deny_connect: Vec<DeniedPeer>,
    /// Where the control group is whose processes may not connect: its directory in the unified hierarchy.
    pub cgroup: Option<PathBuf>,
    /// A process is killed (`SIGKILL`) when it does something of these kinds and the filters let it pass, before it
    /// goes on to its next instruction.
    pub kill_on: Vec<EventKind>,
}

/// Peers that may not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeniedPeer {
    /// The network's address.
    pub address: IpAddr,
    /// How many of its bits count.
    pub prefix: u8,
    /// The port; 0 for any.
    pub port: u16,
}

/// A setting is out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}, but must be {range}")]
#[non_exhaustive]
pub struct EbpfConfigError {
    /// Name of the setting.
    pub key: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be.
    pub range: &'static str,
}

impl EbpfConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<(), EbpfConfigError> {
        for (key, bytes) in [
            ("event_ring_bytes", self.event_ring_bytes),
            ("call_ring_bytes", self.call_ring_bytes),
        ] {
            if !bytes.is_power_of_two() || !(64 << 10..=1 << 30).contains(&bytes) {
                return Err(wrong(key, bytes, "a power of two, 65536 to 1073741824"));
            }
        }
        let Enforcement {
            deny_connect, cgroup, ..
        } = &self.enforcement;
        if deny_connect.len() > 1024 {
            return Err(wrong("deny_connect", deny_connect.len(), "at most 1024 networks"));
        }
        if !deny_connect.is_empty() && cgroup.is_none() {
            return Err(wrong("cgroup", "not set", "set if connections are to be denied"));
        }
        for peer in deny_connect {
            let bits = if peer.address.is_ipv4() { 32 } else { 128 };
            if peer.prefix > bits {
                return Err(wrong("prefix", peer.prefix, "at most the bits of the address"));
            }
        }
        self.filters.validate()
    }
}

impl EbpfFilters {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<(), EbpfConfigError> {
        for (key, count) in [
            ("uids", self.uids.values().len()),
            ("cgroups", self.cgroups.values().len()),
            ("ports", self.ports.values().len()),
            ("watched", self.watched.len()),
        ] {
            if count > 1024 {
                return Err(wrong(key, count, "at most 1024 values"));
            }
        }
        if let Some(call) = self.calls.values().iter().find(|call| **call >= 512) {
            return Err(wrong("calls", call, "numbers below 512"));
        }
        if let Some(path) = self
            .watched
            .iter()
            .find(|path| path.is_empty() || path.len() > 256)
        {
            return Err(wrong("watched", path, "paths of 1 to 256 bytes"));
        }
        Ok(())
    }
}

fn wrong(key: &'static str, value: impl ToString, range: &'static str) -> EbpfConfigError {
    EbpfConfigError {
        key,
        value: value.to_string(),
        range,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn ranges_are_checked_and_named() {
        assert_eq!(EbpfConfig::default().validate(), Ok(()));
        let key = |change: &dyn Fn(&mut EbpfConfig)| {
            let mut config = EbpfConfig::default();
            change(&mut config);
            config.validate().unwrap_err().key
        };
        assert_eq!(
            key(&|config| config.event_ring_bytes = 100_000),
            "event_ring_bytes"
        );
        assert_eq!(key(&|config| config.call_ring_bytes = 4096), "call_ring_bytes");
        assert_eq!(
            key(&|config| config.filters.watched.push(String::new())),
            "watched"
        );
        assert_eq!(
            key(&|config| config.filters.uids = Selection::Only(vec![0; 2000])),
            "uids"
        );
        assert_eq!(
            key(&|config| config.filters.calls = Selection::Except(vec![512])),
            "calls"
        );
        let peer = DeniedPeer {
            address: Ipv4Addr::LOCALHOST.into(),
            prefix: 33,
            port: 0,
        };
        assert_eq!(
            key(&|config| config.enforcement.deny_connect = vec![peer]),
            "cgroup"
        );
        assert_eq!(
            key(&|config| {
                config.enforcement.deny_connect = vec![peer];
                config.enforcement.cgroup = Some("/sys/fs/cgroup".into());
            }),
            "prefix"
        );
    }
}
