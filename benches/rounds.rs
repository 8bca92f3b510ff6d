//! What the `compare_<what>` benches share: interleaved rounds, medians, and the lines they end with.

use std::time::Duration;

/// Whether the bench was started with `-- --quick`, and is to end within a minute.
#[must_use]
pub fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// The value after `name` on the command line, as in `-- --capture FILE`.
#[must_use]
pub fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// The median: of an even number of times, the longer of the middle two. Zero if there are none.
#[must_use]
pub fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Prints `ratio OURS/PEER VALUE`: above 1, we are faster.
pub fn print_ratio(ours: &str, peer: &str, value: f64) {
    println!("ratio {ours}/{peer} {value:.3}");
}

/// Prints `skip PEER`, in place of a ratio, for a peer that is not installed.
pub fn print_skip(peer: &str) {
    println!("skip {peer}");
}
