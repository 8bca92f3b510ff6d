use std::fmt;
use std::io;
use std::time::Duration;

use super::Packet;
use super::ring::{Ring, RingPackets};

/// How live traffic is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveConfig {
    /// Memory shared with the kernel, in bytes; what arrives while it is full is lost and counted. Rounded up to
    /// whole blocks of 256 KiB. Default 8 MiB; 512 KiB to 1 GiB.
    pub ring_bytes: usize,
    /// Bytes captured of each packet. Flows need the headers and, for DNS and ICMP, the message. Default 2048; 96
    /// to 65 535.
    pub snap_bytes: u32,
    /// Whether to receive packets to other hosts too, where the link delivers them. Default true.
    pub promiscuous: bool,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            snap_bytes: 2048,
            promiscuous: true,
        }
    }
}

impl LiveConfig {
    fn check(&self) -> Result<(), LiveError> {
        let out_of_range = |key, value, range| Err(LiveError::Setting { key, value, range });
        if !(512 << 10..=1 << 30).contains(&self.ring_bytes) {
            return out_of_range("ring_bytes", self.ring_bytes, "512 KiB to 1 GiB");
        }
        if !(96..=65_535).contains(&self.snap_bytes) {
            return out_of_range("snap_bytes", self.snap_bytes as usize, "96 to 65535");
        }
        Ok(())
    }
}

/// Why live capture failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// There is no interface of this name.
    #[error("there is no network interface {name:?}")]
    NoInterface {
        /// The name.
        name: String,
    },
    /// A setting is out of range.
    #[error("{key} is {value}, but must be {range}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// What it was set to.
        value: usize,
        /// What it may be.
        range: &'static str,
    },
    /// The process may not capture.
    #[error(
        "could not capture on {name:?}: missing {}; give the process this capability, or run it as root",
        missing.join(", ")
    )]
    Privileges {
        /// Name of the interface.
        name: String,
        /// The capabilities it needs and has not.
        missing: Vec<&'static str>,
        /// What the system said.
        source: io::Error,
    },
    /// Opening the capture failed.
    #[error("could not capture on {name:?}: {step} failed")]
    Open {
        /// Name of the interface.
        name: String,
        /// The step that failed.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Live capture is not implemented on this platform.
    #[error("live capture needs Linux")]
    Unsupported,
    /// Waiting for packets failed, for example because the interface is down. It may be tried again.
    #[error("could not wait for packets")]
    Wait(#[source] io::Error),
}

impl LiveError {
    /// A step of opening failed. Nothing but the capability is asked for by the system when it says that something is not
    /// permitted: in the network namespace of the thread, which may belong to another user namespace.
    pub(super) fn open(name: &str, step: &'static str, source: io::Error) -> Self {
        let name = name.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            let missing = vec!["CAP_NET_RAW"];
            return Self::Privileges {
                name,
                missing,
                source,
            };
        }
        Self::Open { name, step, source }
    }
}

/// Packets from a network interface: a ring of memory shared with the kernel (`AF_PACKET`, `TPACKET_V3`).
///
/// # Platform
///
/// Linux 3.2 or later; elsewhere [`open`](Self::open) fails. Needs `CAP_NET_RAW` (and `CAP_NET_ADMIN` for promiscuous mode on some systems). Ethernet,
/// loopback, and links that carry bare IP such as tunnels.
///
/// On the loopback interface each packet is seen once, when it is received.
#[derive(Debug)]
pub struct LiveCapture {
    ring: Ring,
}

impl LiveCapture {
    /// Starts to capture on an interface.
    ///
    /// # Errors
    ///
    /// If there is no such interface, a setting is out of range, or the system refuses.
    pub fn open(interface: &str, config: &LiveConfig) -> Result<Self, LiveError> {
        config.check()?;
        Ok(Self {
            ring: Ring::open(interface, config)?,
        })
    }

    /// Starts to capture on an interface with several rings, each of `ring_bytes`, for as many threads. The kernel
    /// shares the packets among them by addresses and ports, the same in both directions (`PACKET_FANOUT_HASH`), so
    /// that a flow stays with one ring. Needs Linux 4.12.
    ///
    /// # Errors
    ///
    /// As those of [`open`](Self::open), and if `rings` is not 1 to 64.
    pub fn open_shared(interface: &str, config: &LiveConfig, rings: usize) -> Result<Vec<Self>, LiveError> {
        if rings == 1 {
            return Ok(vec![Self::open(interface, config)?]);
        }
        if !(1..=64).contains(&rings) {
            return Err(LiveError::Setting {
                key: "rings",
                value: rings,
                range: "1 to 64",
            });
        }
        config.check()?;
        let mut group = None;
        let opened =
            (0..rings).map(|_| Ring::open_shared(interface, config, &mut group).map(|ring| Self { ring }));
        let captures = opened.collect::<Result<Vec<_>, _>>()?;
        for capture in &captures {
            capture
                .ring
                .begin(config.snap_bytes)
                .map_err(|source| LiveError::open(interface, "SO_ATTACH_FILTER", source))?;
        }
        Ok(captures)
    }

    /// Waits until there are packets, at most for `timeout` (to the millisecond); says whether there are.
    ///
    /// The kernel hands packets over in blocks, when a block is full or 50 ms old.
    ///
    /// # Errors
    ///
    /// If the interface is down or gone.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, LiveError> {
        self.ring.wait(timeout).map_err(LiveError::Wait)
    }

    /// The next packet, if one is there; does not wait.
    pub fn next_packet(&mut self) -> Option<Packet<'_>> {
        self.ring.next_packet()
    }

    /// The packets of the next block that the kernel has handed over, or those that are left of this one; does not wait.
    /// `None` if there is none yet. A block has up to 256 KiB, and goes back to the kernel with the next call.
    pub fn next_packets(&mut self) -> Option<LivePackets<'_>> {
        self.ring.next_packets().map(LivePackets)
    }

    /// How many packets the kernel dropped since this was last asked, because the ring was full.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn take_drops(&mut self) -> Result<u64, LiveError> {
        self.ring.take_drops().map_err(LiveError::Wait)
    }
}

/// Packets of a block that the kernel has handed over, where they lie.
pub struct LivePackets<'a>(RingPackets<'a>);

impl<'a> Iterator for LivePackets<'a> {
    type Item = Packet<'a>;

    #[inline]
    fn next(&mut self) -> Option<Packet<'a>> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl fmt::Debug for LivePackets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LivePackets").finish_non_exhaustive()
    }
}
