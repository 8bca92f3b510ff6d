//! Brings the index up to what is in the log.

use amoskys_core::{BoxError, Name, Offset, Open as _, Timestamp, Wal as _, WalError};

use super::gateway::key;
use super::index::Index;
use super::options::LegacyOptions;
use crate::log::Log;
use crate::seal::Opener;
use crate::seal::header::{RawHeader, RecordKind, time_of};

/// Bytes of log read at once.
const READ: usize = 4 << 20;

/// Reads the records of the gateway that the index does not know. If some of them are no longer in the log, the floor is
/// raised above all that was in them.
pub(crate) fn catch_up(
    index: &mut Index,
    log: &Log,
    name: &Name,
    options: &LegacyOptions,
) -> Result<(), BoxError> {
    let wal = &log.wal;
    // Of a log that lost its end, the index may know more.
    let mut from = index.covered().min(wal.durable());
    let is_hole = wal.oldest() > from && log.heads().keys().any(|stream| stream.agent == *name);
    let mut lost = is_hole;
    let opener = Opener::unchecked();
    let mut earliest_sealed = None;
    from = from.max(wal.oldest());
    loop {
        let records = match wal.read_kept(from, READ) {
            Ok(records) => records,
            Err(WalError::Damaged { offset, .. }) => {
                lost = true;
                from = offset.next();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some((last, _)) = records.last() else { break };
        from = last.next();
        for (_, record) in &records {
            let Ok(header) = RawHeader::parse(record) else {
                continue;
            };
            earliest_sealed = earliest_sealed.or(Some(time_of(&header)));
            if header.agent != name.as_str() || header.kind() != RecordKind::Batch {
                continue;
            }
            match opener.open(record) {
                Ok(opened) => {
                    for event in &opened.events {
                        let time = u64::try_from(event.time.nanos()).unwrap_or(0);
                        index.insert(key(event), &event.device, time);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a record of the gateway cannot be read");
                    lost = true;
                }
            }
        }
    }
    index.covers(wal.durable().max(Offset(from.0)));
    if lost {
        // What is lost came before something that is there, and was at most so far ahead of the clock.
        let now = Timestamp::now();
        let sealed = earliest_sealed.filter(|_| is_hole).unwrap_or(now);
        let floor = sealed.plus(options.max_ahead).min(now);
        tracing::warn!(
            stream = %name,
            "records of the gateway are lost, and with them which envelopes are stored: nothing older than {} ns is taken",
            floor.nanos()
        );
        index.raise_floor_of_all(u64::try_from(floor.nanos()).unwrap_or(0));
    }
    Ok(())
}
