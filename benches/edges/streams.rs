//! Streams of edges to score: a made one, and the recorded one if it is there.

use std::io::BufRead as _;
use std::path::PathBuf;

/// Source, destination, minute.
pub(crate) type Edge = (u64, u64, u64);

/// Edges in order of time.
pub(crate) struct Stream {
    pub(crate) name: &'static str,
    pub(crate) edges: Vec<Edge>,
    /// The number of the attack that each is of; 0 for honest ones.
    #[allow(dead_code, reason = "one of two benches compares what is found")]
    pub(crate) attacks: Vec<u16>,
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below the limit, low ones more often.
fn unequal(state: &mut u64, limit: u64) -> u64 {
    let uniform = (random(state) >> 11) as f64 / (1_u64 << 53) as f64;
    (limit as f64 * uniform.powi(3)) as u64
}

/// A network of some thousand hosts: sources and destinations of unequal weight, a minute every thousand edges, and a flood
/// between two hosts, the attack, for a tenth of them.
pub(crate) fn made(edges: u64) -> Stream {
    let mut state = 1;
    let is_flood = |n: u64| n % 10_000 < 1_000;
    let edge = |n: u64| match is_flood(n) {
        true => (7_777_777, 3, n / 1_000),
        false => (
            unequal(&mut state, 3_000),
            10_000 + unequal(&mut state, 20_000),
            n / 1_000,
        ),
    };
    Stream {
        name: "made",
        edges: (0..edges).map(edge).collect(),
        attacks: (0..edges).map(|n| u16::from(is_flood(n))).collect(),
    }
}

/// `graph/darpa98_june.csv.gz` below `AMOSKYS_DATA`, if it is there.
pub(crate) fn recorded() -> Option<Stream> {
    let file = PathBuf::from(std::env::var_os("AMOSKYS_DATA")?).join("graph/darpa98_june.csv.gz");
    let file = flate2::read::GzDecoder::new(std::fs::File::open(file).ok()?);
    let mut names: Vec<String> = vec!["-".to_owned()];
    let mut edge = |line: String| {
        let mut fields = line.split(',');
        let mut number = || fields.next()?.parse().ok();
        let edge = (number()?, number()?, number()?);
        let name = fields.next()?;
        let known = names.iter().position(|known| known == name);
        let attack = known.unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        Some((edge, u16::try_from(attack).ok()?))
    };
    let lines = std::io::BufReader::new(file).lines().skip(1);
    let read: Option<Vec<(Edge, u16)>> = lines.map(|line| edge(line.ok()?)).collect();
    let (edges, attacks) = read?.into_iter().unzip();
    Some(Stream {
        name: "recorded",
        edges,
        attacks,
    })
}
