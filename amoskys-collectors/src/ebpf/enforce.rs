//! Connections that are refused by policy.

use std::fs::File;
use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::programs::{CgroupAttachMode, CgroupSockAddr};

use super::config::{DeniedPeer, Enforcement};
use super::error::EbpfError;

const WHAT: &str = "the programs that deny connections";

/// Attaches the programs that deny connections, with their list. An order that cannot be carried out is an error: who
/// asks for enforcement relies on it.
pub(super) fn attach(programs: &mut Ebpf, enforcement: &Enforcement) -> Result<(), EbpfError> {
    let Some(cgroup) = &enforcement.cgroup else {
        return Ok(());
    };
    let map = programs.map_mut("DENIED").ok_or_else(|| EbpfError::Map {
        what: "denied peers",
        source: "the object has no such map".into(),
    })?;
    let mut denied: LpmTrie<_, [u8; 20], u8> =
        LpmTrie::try_from(map).map_err(EbpfError::map("denied peers"))?;
    for peer in &enforcement.deny_connect {
        denied
            .insert(&key(peer), 1, 0)
            .map_err(EbpfError::map("denied peers"))?;
    }
    let directory = File::open(cgroup).map_err(|source| EbpfError::load(WHAT, source))?;
    for name in ["on_connect4", "on_connect6"] {
        let missing = || EbpfError::load(WHAT, std::io::Error::other(name));
        let program = programs.program_mut(name).ok_or_else(missing)?;
        let program: &mut CgroupSockAddr = program
            .try_into()
            .map_err(|source| EbpfError::load(WHAT, source))?;
        program.load().map_err(|source| EbpfError::load(WHAT, source))?;
        // A link of its own, beside those of others.
        program
            .attach(&directory, CgroupAttachMode::Single)
            .map_err(|source| EbpfError::load(WHAT, source))?;
    }
    Ok(())
}

/// `struct denied_key`: the port and the family count in full, of the address so many bits.
fn key(peer: &DeniedPeer) -> Key<[u8; 20]> {
    let mut bytes = [0; 20];
    bytes[..2].copy_from_slice(&peer.port.to_ne_bytes());
    let family: u16 = match peer.address {
        IpAddr::V4(address) => {
            bytes[4..8].copy_from_slice(&address.octets());
            4
        }
        IpAddr::V6(address) => {
            bytes[4..].copy_from_slice(&address.octets());
            6
        }
    };
    bytes[2..4].copy_from_slice(&family.to_ne_bytes());
    Key::new(32 + u32::from(peer.prefix), bytes)
}
