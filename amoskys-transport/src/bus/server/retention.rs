//! What the bus deletes from its log, when, and how it says so.

use std::collections::BTreeMap;

use amoskys_core::event::AuditOutcome;
use amoskys_core::{Offset, Timestamp, Wal as _, WalError};

use super::shared::Shared;
use crate::seal::header::{RawHeader, time_of};

/// Streams named in an audit entry about records that were deleted unread.
const NAMED: usize = 64;

/// Deletes what need not be kept; and at least something if room is wanted. Blocks on the disk.
pub(crate) fn run(shared: &Shared, wanted: bool) -> Result<(), WalError> {
    let (wal, options) = (&shared.wal, *shared.retention.snapshot());
    let budget = wal.budget_bytes();
    let keep = options.bytes.unwrap_or(budget / 10 * 9).min(budget / 10 * 9);
    let segments = wal.segment_sizes();
    let mut surplus = wal.used_bytes().saturating_sub(keep).max(u64::from(wanted));
    let mut to = wal.first();
    for pair in segments.windows(2) {
        let [(_, bytes), (next, _)] = pair else { break };
        let expired = || options.age.is_some_and(|age| is_older(shared, *next, age));
        if surplus == 0 && !expired() {
            break;
        }
        surplus = surplus.saturating_sub(*bytes);
        to = to.max(*next);
    }
    let read = shared.positions.lowest().unwrap_or(to);
    if to > read {
        // Half of what is above the limit is left to them before anything is forced.
        let full = wanted || wal.used_bytes() > budget / 20 * 19;
        match full && !options.keep_unread {
            true => force(shared, &segments, &mut to, read)?,
            false => to = read,
        }
    }
    let to = to.min(Offset(
        shared.keep_from.load(std::sync::atomic::Ordering::Acquire),
    ));
    if to > wal.first() {
        if to > shared.journal.last_record() {
            // The ledger lies in the last record of the bus itself.
            shared.journal.clock();
        }
        let ledger = shared.journal.last_record();
        wal.wait_durable(ledger)?;
        wal.trim(to.min(ledger))?;
    }
    Ok(())
}

/// Makes a little room at the cost of who has not read it, and says so first.
fn force(shared: &Shared, segments: &[(Offset, u64)], to: &mut Offset, read: Offset) -> Result<(), WalError> {
    let behind = segments
        .windows(2)
        .map(|pair| pair[1].0)
        .find(|next| *next > read);
    *to = behind.map_or(*to, |next| next.min(*to));
    let losers = shared.positions.behind(*to);
    for (name, at) in losers {
        let from = at.max(shared.wal.first());
        let reason = match unread(shared, from, *to)? {
            Some(what) => format!(
                "the log is full, and {name} has read it up to {at} only: records {from} to {} are deleted:{what}",
                to.0 - 1
            ),
            None => continue,
        };
        shared.journal.audit(
            shared.name.as_str(),
            "retention.unread_deleted",
            &name,
            AuditOutcome::Failure,
            reason,
        );
    }
    Ok(())
}

/// Which events lie in a part of the log, by stream. `None` if there are none.
fn unread(shared: &Shared, mut from: Offset, to: Offset) -> Result<Option<String>, WalError> {
    let mut streams: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut more = 0;
    while from < to {
        let records = match shared.wal.read(from, 1 << 20) {
            Ok(records) => records,
            Err(WalError::Damaged { offset, .. }) => {
                from = offset.next();
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some((last, _)) = records.last() else { break };
        from = last.next();
        for (_, record) in records.iter().filter(|(offset, _)| *offset < to) {
            let Ok(header) = RawHeader::parse(record) else {
                continue;
            };
            let Ok(class) = header.class() else { continue };
            let key = format!("{}/{class}@{}", header.agent, header.epoch());
            let (first, last) = (
                header.first().0,
                header.first().0.saturating_add(header.count().saturating_sub(1)),
            );
            if let Some(range) = streams.get_mut(&key) {
                *range = (range.0.min(first), range.1.max(last));
            } else if streams.len() < NAMED {
                streams.insert(key, (first, last));
            } else {
                more += 1;
            }
        }
    }
    if streams.is_empty() {
        return Ok(None);
    }
    let mut text: String = streams
        .iter()
        .map(|(stream, (first, last))| format!(" {stream} {first} to {last};"))
        .collect();
    if more > 0 {
        text.push_str(&format!(" and {more} records of further streams"));
    }
    Ok(Some(text))
}

/// Whether the record at `at` was sealed longer ago than this.
fn is_older(shared: &Shared, at: Offset, age: std::time::Duration) -> bool {
    let Ok(records) = shared.wal.read(at, 1) else {
        return false;
    };
    let Some((_, record)) = records.first() else {
        return false;
    };
    let Ok(header) = RawHeader::parse(record) else {
        return false;
    };
    let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
    time_of(&header) < Timestamp::from_nanos(Timestamp::now().nanos().saturating_sub(age))
}
