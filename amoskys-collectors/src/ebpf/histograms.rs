//! Puts together what the threads of a process have counted.

use std::collections::BTreeMap;

use amoskys_core::event::{CallCount, Payload, SyscallHistogram};

use super::clock::BootClock;
use super::record::{Header, Histogram, text};

/// Processes whose counts may wait for the end of the second.
const MAX_PROCESSES: usize = 4096;

/// Counts of the current second, by process.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    by_process: BTreeMap<(u32, u64), Sum>,
}

#[derive(Debug)]
struct Sum {
    command: String,
    from: u64,
    to: u64,
    counts: BTreeMap<u32, u64>,
    others: u64,
}

impl Histograms {
    /// Adds what a thread has counted. True if it is time to tell all.
    pub(super) fn add(&mut self, header: &Header, histogram: &Histogram<'_>) -> bool {
        let sum = self
            .by_process
            .entry((header.pid, header.start))
            .or_insert_with(|| Sum {
                command: text(&header.command),
                from: histogram.from,
                to: header.time,
                counts: BTreeMap::new(),
                others: 0,
            });
        sum.from = sum.from.min(histogram.from);
        sum.to = sum.to.max(header.time);
        sum.others += u64::from(histogram.others);
        for (number, bytes) in (0..).zip(histogram.counts.chunks_exact(4)) {
            let count = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if count > 0 {
                *sum.counts.entry(number).or_default() += u64::from(count);
            }
        }
        self.by_process.len() >= MAX_PROCESSES
    }

    /// All that has been counted: time, payload, and how many calls are in it.
    pub(super) fn take(&mut self, clock: BootClock) -> impl Iterator<Item = (u64, Payload, u64)> {
        let sums = std::mem::take(&mut self.by_process);
        sums.into_iter().map(move |((pid, start), sum)| {
            let calls = sum.counts.values().sum::<u64>() + sum.others;
            let counts = sum.counts.into_iter();
            let event = SyscallHistogram {
                pid,
                start: clock.start(start),
                command: sum.command,
                architecture: std::env::consts::ARCH.to_owned(),
                period_ns: sum.to.saturating_sub(sum.from),
                counts: counts
                    .map(|(number, count)| CallCount { number, count })
                    .collect(),
                others: sum.others,
            };
            (sum.to, Payload::SyscallHistogram(Box::new(event)), calls)
        })
    }
}
