//! Two virtual interfaces.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses its part, and may panic"
)]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

/// Two virtual interfaces, the far one in a network namespace of its own; removed when dropped.
pub(crate) struct Pair {
    pub(crate) name: String,
}

static PAIRS: AtomicU8 = AtomicU8::new(0);

impl Pair {
    /// `None` where none can be made: without root, or without the `ip` command.
    pub(crate) fn new() -> Option<Self> {
        let letter = (b'a' + PAIRS.fetch_add(1, Ordering::Relaxed) % 26) as char;
        let pair = Self {
            name: format!("akf{letter}{}", std::process::id() % 100_000),
        };
        let name = &pair.name;
        // Without IPv6 nobody speaks but the test.
        let made = [
            format!("ip netns add {name}"),
            format!("ip link add {name} mtu 9000 type veth peer name inside netns {name}"),
            format!("ip netns exec {name} sysctl -qw net.ipv6.conf.all.disable_ipv6=1"),
            format!("ip link set {name} addrgenmode none up"),
            format!("ip -n {name} link set inside mtu 9000 addrgenmode none up"),
        ];
        made.iter().all(|line| run(line)).then_some(pair)
    }

    /// A program at the far end.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        run(&format!("ip link del {}", self.name));
        run(&format!("ip netns del {}", self.name));
    }
}

/// Whether a command, of words with a space between, succeeds.
pub(crate) fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    Command::new(words.next().unwrap())
        .args(words)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
