//! Whether the process may load programs into the kernel.

use std::fs;

use super::error::EbpfError;

const CAP_SYS_ADMIN: u32 = 21;
type Capability = (&'static str, u32);

/// What each is for: loading and maps; reading the kernel's memory and attaching.
pub(super) const TRACING: &[Capability] = &[("CAP_BPF", 39), ("CAP_PERFMON", 38)];
/// The same; and programs on packets, and their attachment.
pub(super) const NETWORK: &[Capability] = &[("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_NET_ADMIN", 12)];

/// Says which capabilities are missing, before the kernel says only that something is not permitted.
pub(super) fn check(needed: &[Capability]) -> Result<(), EbpfError> {
    let Some(effective) = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| effective(&status))
    else {
        // Without /proc the kernel itself has to say it.
        return Ok(());
    };
    let missing = missing(needed, effective);
    if missing.is_empty() {
        return Ok(());
    }
    Err(EbpfError::Privileges { missing })
}

/// Whether capabilities are those that the kernel asks for: in a user namespace of its own, a process may have all of them
/// there, and they mean nothing to it. They are if it cannot be known.
pub(super) fn are_initial() -> bool {
    fs::read_to_string("/proc/self/uid_map").map_or(true, |map| is_whole(&map))
}

/// The first user namespace has all users, by their own numbers.
fn is_whole(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(needed: &[Capability], effective: u64) -> Vec<&'static str> {
    let has = |number: u32| effective >> number & 1 == 1;
    // It stands for those that were split off from it, not for the network's.
    let stands_in = |number: u32| number >= 38 && has(CAP_SYS_ADMIN);
    needed
        .iter()
        .filter(|(_, number)| !has(*number) && !stands_in(*number))
        .map(|(name, _)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(missing(TRACING, 0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing(TRACING, 1 << 39), ["CAP_PERFMON"]);
        assert!(missing(TRACING, 1 << 39 | 1 << 38).is_empty());
        assert!(missing(TRACING, 1 << CAP_SYS_ADMIN).is_empty());
        assert_eq!(missing(NETWORK, 1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert!(is_whole("         0          0 4294967295\n") && !is_whole("0 1000 1\n"));
        assert_eq!(
            effective("Name:\tsh\nCapEff:\t000001fffeffffff\n"),
            Some(0x1ff_feff_ffff)
        );
        let error = EbpfError::Privileges {
            missing: missing(TRACING, 0),
        };
        assert!(error.to_string().starts_with("missing CAP_BPF, CAP_PERFMON;"));
    }
}
