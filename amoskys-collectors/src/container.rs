//! Container ids in the names of control groups.

#[cfg(feature = "ebpf")]
use std::fs;

/// The container that a control group of this name belongs to, given also the name of the group around it.
///
/// Docker, containerd, CRI-O and Podman name a group by the 64 hexadecimal digits of the container's id: bare
/// (`/docker/ID`, `/kubepods/burstable/podUID/ID`), or as a systemd scope (`docker-ID.scope`,
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`). Podman puts what it runs into a group inside of
/// that (`libpod-ID.scope/container`).
#[cfg(feature = "ebpf")]
pub(super) fn of_names<'a>(inner: &'a str, outer: &'a str) -> Option<&'a str> {
    of_name(inner).or_else(|| of_name(outer))
}

/// The container of a process, by `/proc/PID/cgroup`: for what was there before, or has been moved.
#[cfg(feature = "ebpf")]
pub(super) fn of_process(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    of_groups(&groups).map(str::to_owned)
}

/// Of lines as `HIERARCHY:CONTROLLERS:PATH`, the first that names a container.
pub(super) fn of_groups(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        path.rsplit('/').take(2).find_map(of_name)
    })
}

fn of_name(name: &str) -> Option<&str> {
    const PREFIXES: [&str; 5] = ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-"];
    let id = name.strip_suffix(".scope").unwrap_or(name);
    let id = PREFIXES
        .iter()
        .find_map(|prefix| id.strip_prefix(prefix))
        .unwrap_or(id);
    let is_id = id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_forms_of_docker_containerd_crio_and_podman_are_known() {
        for name in [
            ID.to_owned(),
            format!("docker-{ID}.scope"),
            format!("cri-containerd-{ID}.scope"),
            format!("crio-{ID}.scope"),
            format!("libpod-{ID}.scope"),
            format!("libpod-{ID}"),
        ] {
            #[cfg(feature = "ebpf")]
            assert_eq!(of_names(&name, "docker"), Some(ID), "{name}");
            #[cfg(feature = "ebpf")]
            assert_eq!(of_names("container", &name), Some(ID), "inside {name}");
            let lines = format!("12:pids:/somewhere\n0::/machine.slice/{name}\n");
            assert_eq!(of_groups(&lines), Some(ID), "{lines}");
        }
    }

    #[test]
    fn other_groups_are_no_containers() {
        for name in [
            "",
            "user.slice",
            "session-1.scope",
            "docker-.scope",
            "docker-0123.scope",
            &ID[1..],
            &ID.to_uppercase(),
            &format!("{ID}0"),
        ] {
            #[cfg(feature = "ebpf")]
            assert_eq!(of_names(name, "system.slice"), None, "{name}");
        }
        assert_eq!(of_groups("nonsense\n0:\n"), None);
    }
}
