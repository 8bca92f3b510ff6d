//! Decoders of `/proc`: of real lines, of made ones, and of bytes that are anything.
#![cfg(all(feature = "proc", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{Ipv4Addr, SocketAddr};

use amoskys_collectors::proc::parse;
use proptest::prelude::*;

#[test]
fn a_name_may_hold_anything() {
    let line = b"42 (a) R 1 (b\n) S 7 42 42 0 -1 4194304 100 200 3 4 50 60 70 80 20 0 5 0 123456 4096000 321 18446744073709551615\n";
    let stat = parse::process_stat(line).unwrap();
    assert_eq!((stat.pid, stat.state, stat.parent_pid), (42, b'S', 7));
    assert_eq!(stat.command, b"a) R 1 (b\n");
    assert_eq!((stat.minor_faults, stat.major_faults), (100, 3));
    assert_eq!((stat.user_ticks, stat.system_ticks), (50, 60));
    assert_eq!((stat.threads, stat.start_ticks), (5, 123_456));
    assert_eq!((stat.virtual_bytes, stat.resident_pages), (4_096_000, 321));
}

#[test]
fn a_line_that_is_cut_is_refused() {
    let line = std::fs::read("/proc/self/stat").unwrap();
    assert!(parse::process_stat(&line).is_some());
    let name_ends = line.iter().rposition(|byte| *byte == b')').unwrap();
    // Up to the last field that is used, which is the 22nd after the name.
    let fields = line[name_ends..].iter().enumerate();
    let mut spaces = fields
        .filter(|(_, byte)| **byte == b' ')
        .map(|(place, _)| name_ends + place);
    let last = spaces.nth(21).unwrap();
    for end in 0..last {
        assert!(parse::process_stat(&line[..end]).is_none(), "{end}");
    }
}

#[test]
fn the_own_process_is_what_the_system_says_it_is() {
    let line = std::fs::read("/proc/self/stat").unwrap();
    let stat = parse::process_stat(&line).unwrap();
    assert_eq!(stat.pid, std::process::id());
    assert_eq!(stat.parent_pid, std::os::unix::process::parent_id());
    let status = std::fs::read("/proc/self/status").unwrap();
    let credentials = parse::credentials(&status).unwrap();
    assert_eq!(credentials.uid, own().0);
    assert_eq!(credentials.effective_gid, own().1);
    assert!(parse::inner_pid(&status).is_some());
}

#[test]
fn tables_of_sockets_are_decoded() {
    // As a little-endian processor writes them.
    let table = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0\nnonsense\n   1: 0000000000000000FFFF00000100007F:0016 0000000000000000FFFF00000200007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 12 1\n";
    if cfg!(target_endian = "big") {
        return;
    }
    let entries: Vec<_> = parse::sockets(table).collect();
    assert_eq!(entries.len(), 3);
    let first = entries[0].unwrap();
    assert_eq!(first.local, "127.0.0.1:8080".parse::<SocketAddr>().unwrap());
    assert_eq!(
        (first.state, first.uid, first.inode),
        (parse::LISTENING, 1000, 4711)
    );
    assert_eq!(entries[1], None);
    let mapped = entries[2].unwrap();
    assert_eq!(mapped.local, "127.0.0.1:22".parse::<SocketAddr>().unwrap());
    assert_eq!(mapped.remote, "127.0.0.2:49152".parse::<SocketAddr>().unwrap());
}

#[test]
fn ports_that_are_handed_out_are_a_range() {
    assert_eq!(parse::port_range(b"32768\t60999\n"), Some(32768..=60999));
    assert_eq!(parse::port_range(b"32768\n"), None);
    assert_eq!(parse::port_range(b"1 65536\n"), None);
}

#[test]
fn own_addresses_are_those_of_hosts() {
    let table = b"Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
    let own: Vec<_> = parse::local_ipv4(table).collect();
    assert_eq!(own, [Ipv4Addr::new(10, 1, 2, 3)]);
    let table = b"00000000000000000000000000000001 01 80 10 80       lo\nnonsense\n";
    let own: Vec<_> = parse::local_ipv6(table).collect();
    assert_eq!(own, [std::net::Ipv6Addr::LOCALHOST]);
}

fn own() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata("/proc/self").unwrap();
    (own.uid(), own.gid())
}

fn is_harmless(bytes: &[u8]) {
    let _ = parse::process_stat(bytes);
    let _ = parse::credentials(bytes);
    let _ = parse::inner_pid(bytes);
    let _ = parse::device_bytes(bytes);
    let _ = parse::memory(bytes, "MemTotal");
    let _ = parse::load_averages(bytes);
    let _ = parse::cpu_ticks(bytes);
    let _ = parse::socket_inode(bytes);
    let _ = parse::port_range(bytes);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    assert!(parse::sockets(bytes).count() <= lines);
    assert!(parse::local_ipv4(bytes).count() <= lines);
    assert!(parse::local_ipv6(bytes).count() <= lines);
}

proptest! {
    #[test]
    fn bytes_may_be_anything(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        is_harmless(&bytes);
    }

    #[test]
    fn lines_may_be_almost_right(
        file in prop::sample::select(vec!["self/stat", "self/status", "self/io", "net/tcp", "meminfo", "stat"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = std::fs::read(format!("/proc/{file}")).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        is_harmless(&bytes);
    }

    #[test]
    fn what_is_written_is_read(
        pid in any::<u32>(), parent in any::<u32>(), command in "[ -~]{0,15}",
        numbers in prop::array::uniform7(any::<u64>()), threads in any::<u32>(),
    ) {
        let [minor, major, user, system, start, bytes, pages] = numbers;
        let line = format!(
            "{pid} ({command}) S {parent} 1 1 -1 -1 0 {minor} 0 {major} 0 {user} {system} -5 -6 20 -1 {threads} 0 {start} {bytes} {pages} 0\n"
        );
        let stat = parse::process_stat(line.as_bytes()).unwrap();
        prop_assert_eq!((stat.pid, stat.parent_pid, stat.threads), (pid, parent, threads));
        prop_assert_eq!(stat.command, command.as_bytes());
        prop_assert_eq!(
            [stat.minor_faults, stat.major_faults, stat.user_ticks, stat.system_ticks],
            [minor, major, user, system]
        );
        prop_assert_eq!([stat.start_ticks, stat.virtual_bytes, stat.resident_pages], [start, bytes, pages]);
    }
}
