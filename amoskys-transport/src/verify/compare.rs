//! Compares a log with what a bus has seen of it.

use std::collections::{BTreeMap, BTreeSet};

use amoskys_core::{Digest, StreamId};

use super::report::{Finding, FindingKind, Place, SeenReport, SeenStream, SeenVerdict};
use super::witness::SeenHeads;
use crate::log::heads::Heads;

/// One stream, while the log is read.
#[derive(Default)]
struct Compared {
    agree: u64,
    is_rewritten: bool,
}

/// Compares records as they come.
pub(super) struct Comparison<'a> {
    seen: &'a SeenHeads,
    streams: BTreeMap<String, Compared>,
    /// Names of streams, which records come of in runs.
    names: BTreeMap<StreamId, Option<String>>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(seen: &'a SeenHeads) -> Self {
        Self {
            seen,
            streams: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// Takes a good record, or a gap that ends with `digest`. A finding if the bus has seen something else there.
    pub(super) fn take(
        &mut self,
        stream: &StreamId,
        (first, next): (u64, u64),
        digest: &Digest,
        is_gap: bool,
        place: &Place,
    ) -> Option<Finding> {
        let seen = self.seen;
        let name = self.names.entry(stream.clone()).or_insert_with(|| {
            let name = stream.to_string();
            seen.streams.contains_key(&name).then_some(name)
        });
        let name = name.as_ref()?;
        let points = seen.streams.get(name)?;
        let compared = self.streams.entry(name.clone()).or_default();
        let behind = first.checked_add(1)?;
        for (at, point) in points.range(behind..=next.max(behind)) {
            // What is inside of a gap cannot be compared.
            if *at < next && is_gap {
                continue;
            }
            if *at == next && point.digest == *digest {
                compared.agree += 1;
                continue;
            }
            compared.is_rewritten = true;
            let detail = format!(
                "the bus {} has seen the stream to before event {at} with digest {} (at {}); here it is another",
                seen.bus, point.digest, point.at
            );
            return Some(Finding {
                kind: FindingKind::Rewritten,
                place: place.clone(),
                stream: Some(name.clone()),
                events: Some((first, next.saturating_sub(1))),
                detail,
            });
        }
        None
    }

    /// Draws the conclusions. `heads` is where the log's streams have come to, `agent` whose log it is.
    pub(super) fn finish(
        mut self,
        agent: Option<&str>,
        heads: &Heads,
        end: &Place,
    ) -> (SeenReport, Vec<Finding>) {
        // Who has one class of an epoch had the others too.
        let epochs: BTreeSet<_> = heads
            .0
            .keys()
            .map(|id| (id.agent.to_string(), id.epoch.to_string()))
            .collect();
        let is_begun = |name: &str| {
            let (stream, epoch) = name.rsplit_once('@')?;
            let (agent, _) = stream.rsplit_once('/')?;
            Some(epochs.contains(&(agent.to_owned(), epoch.to_owned())))
        };
        let heads: BTreeMap<String, _> = heads.0.iter().map(|(id, head)| (id.to_string(), head)).collect();
        let (mut streams, mut findings) = (Vec::new(), Vec::new());
        for (name, points) in &self.seen.streams {
            let Some((last, point)) = points.last_key_value() else {
                continue;
            };
            let head = heads.get(name);
            // The bus has signed for what is in its own log, whosever it is.
            let is_own = agent.is_some_and(|agent| {
                agent == self.seen.bus || name.strip_prefix(agent).is_some_and(|rest| rest.starts_with('/'))
            });
            if head.is_none() && !is_own {
                continue;
            }
            let mut compared = self.streams.remove(name).unwrap_or_default();
            let ends_at = head.map(|head| head.next.0);
            let mut find = |kind, detail: String| {
                findings.push(Finding {
                    kind,
                    place: end.clone(),
                    stream: Some(name.clone()),
                    events: ends_at.filter(|at| at < last).map(|at| (at, last - 1)),
                    detail,
                });
            };
            let was = format!(
                "the bus {} has seen this stream to before event {last} with digest {} (at {})",
                self.seen.bus, point.digest, point.at
            );
            let verdict = match head {
                _ if compared.is_rewritten => SeenVerdict::Rewritten,
                None if is_begun(name) == Some(true) => {
                    let detail = format!(
                        "{was}; of that epoch this log has other classes, and nothing of this: cut off"
                    );
                    find(FindingKind::Truncated, detail);
                    SeenVerdict::CutOff
                }
                None => {
                    let detail = format!(
                        "{was}; this log knows nothing of it, so it is not all there was of this agent"
                    );
                    find(FindingKind::Missing, detail);
                    SeenVerdict::Absent
                }
                Some(head) if head.next.0 < *last => {
                    find(
                        FindingKind::Truncated,
                        format!("{was}; this log ends before event {}: cut off", head.next),
                    );
                    SeenVerdict::CutOff
                }
                Some(head) if head.next.0 == *last && head.digest != point.digest => {
                    find(
                        FindingKind::Rewritten,
                        format!("{was}; here the digest is {}", head.digest),
                    );
                    SeenVerdict::Rewritten
                }
                Some(head) => {
                    // Its last record may have been deleted on purpose.
                    if head.next.0 == *last && compared.agree == 0 {
                        compared.agree = 1;
                    }
                    match compared.agree {
                        0 => SeenVerdict::NotComparable,
                        _ => SeenVerdict::Agrees,
                    }
                }
            };
            streams.push(SeenStream {
                stream: name.clone(),
                next: *last,
                digest: point.digest,
                at: point.at,
                heads: points.len() as u64,
                agree: compared.agree,
                ends_at,
                verdict,
            });
        }
        let report = SeenReport {
            bus: self.seen.bus.clone(),
            path: self.seen.path.clone(),
            key: self.seen.key.clone(),
            is_key_from_beside: self.seen.is_key_from_beside,
            records: self.seen.records,
            not_believed: self.seen.not_believed,
            dropped: self.seen.dropped,
            unreadable: self.seen.unreadable,
            streams,
        };
        (report, findings)
    }
}
