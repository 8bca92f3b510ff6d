//! Puts signed gaps in the place of records that are damaged or lost, so that the chains go on.

use std::io;
use std::path::Path;

use amoskys_core::Name;
use amoskys_core::event::{Gap, GapReason};

use super::chain::{Chains, Resolved, Spot};
use super::heads::Heads;
use super::trail::{Item, walk_log};
use crate::key::TrustMap;
use crate::seal::Keyring;
use crate::seal::header::RawHeader;
use crate::seal::opener::{Signed, check_signature};
use crate::wal::LogKeys;
use crate::wal::walk::Depth;

/// Reads the whole log and finds the gaps that have to be recorded for this agent, and where its streams have
/// come to.
pub(crate) fn find_gaps(
    dir: &Path,
    agent: &Name,
    floor: u64,
    keys: Option<&dyn LogKeys>,
    (base, anchored): (&Heads, &Heads),
    (trust, keyring): (&TrustMap, &Keyring),
) -> io::Result<(Vec<Gap>, Heads)> {
    let mut chains = Chains::new(Some(base), anchored);
    let mut end = Spot::default();
    walk_log(dir, Depth::Records, u64::MAX, keys, &mut |file, item| {
        let Item::Record { found, record } = item else {
            return;
        };
        let spot = Spot {
            segment: file.first,
            byte: found.pos,
            offset: found.header.offset,
        };
        end = spot;
        if spot.offset < floor {
            return;
        }
        let Ok(header) = RawHeader::parse(record) else {
            return;
        };
        // Of a damaged record, the header is believed if its signature still holds.
        if found.intact || check_signature(&header, trust, keyring) == Signed::Good {
            let _ = chains.take(&header, spot, !found.intact);
        }
    })?;
    let Resolved { missing, heads, .. } = chains.resolve(end);
    let gaps = missing
        .into_iter()
        .filter(|hole| hole.stream.agent == *agent && hole.first < hole.next)
        .map(|hole| {
            let reason = if hole.tail {
                GapReason::LogLost
            } else {
                GapReason::Quarantined
            };
            hole.to_gap(reason)
        });
    Ok((gaps.collect(), heads))
}
