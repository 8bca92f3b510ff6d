//! What a file below `/proc` may hold, in each of its decoders.
#![no_main]

use amoskys_collectors::proc::{parse, utmp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(stat) = parse::process_stat(input) {
        assert!(stat.command.len() < input.len());
    }
    let _ = parse::credentials(input);
    let _ = parse::inner_pid(input);
    let _ = parse::device_bytes(input);
    let _ = parse::memory(input, "MemTotal");
    if let Some(loads) = parse::load_averages(input) {
        assert!(loads.iter().all(|load| load.is_finite() && *load >= 0.0));
    }
    let _ = parse::cpu_ticks(input);
    let _ = parse::socket_inode(input);
    for entry in parse::sockets(input).flatten() {
        // An address inside another is told as what it is.
        assert_eq!(entry.local.ip(), entry.local.ip().to_canonical());
    }
    let _ = parse::port_range(input);
    for session in utmp::sessions(input).flatten() {
        assert!(!session.user.is_empty() && session.pid != 0);
    }
    let _ = parse::local_ipv4(input).count();
    let _ = parse::local_ipv6(input).count();
});
