//! Looks at every item of a log in turn.

use std::collections::BTreeMap;

use amoskys_core::{Name, SealError, StreamId};

use super::compare::Comparison;
use super::report::{ExplainedGap, Finding, FindingKind, HandOverReport, Place, Report, StreamReport};
use super::witness::SeenHeads;
use crate::key::{KeyId, PublicKey, TrustMap};
use crate::log::anchor::Anchor;
use crate::log::chain::{Break, Chains, Misplaced, Resolved, Spot};
use crate::log::trail::Item;
use crate::seal::Keyring;
use crate::seal::hand_over::HandOver;
use crate::seal::header::{RawHeader, RecordKind, sha256};
use crate::seal::opener::{Signed, check_key};
use crate::wal::format::{HeaderFault, SegmentHeader, segment_name};
use crate::wal::segment::SegmentFile;
use crate::wal::walk::{Damage, End, Found};

/// Most findings that are listed.
const MAX_FINDINGS: usize = 10_000;

/// Keys that are believed: some for their agents, some for any.
pub(super) struct Keys<'a> {
    pub(super) trust: &'a TrustMap,
    pub(super) any: &'a [PublicKey],
    /// Keys that were handed over to others.
    pub(super) keyring: &'a Keyring,
}

impl Keys<'_> {
    /// The key of this name that may have signed for this agent.
    pub(super) fn key(&self, agent: &Name, id: KeyId) -> Option<PublicKey> {
        self.keyring.key(self.trust, agent, id).or_else(|| {
            let direct = self.any.iter().find(|key| key.id() == id).copied();
            // Of a key that is believed for whatever it signs, also those it took over from, as it has signed.
            direct.or_else(|| {
                let mut related = self.any.iter().flat_map(|key| self.keyring.related(agent, key));
                related.find(|key| key.id() == id)
            })
        })
    }
}

pub(super) struct Inspector<'a> {
    keys: Keys<'a>,
    anchor: Option<&'a Anchor>,
    log: Option<u128>,
    chains: Chains,
    comparison: Option<Comparison<'a>>,
    end: Spot,
    /// Keys that have handed over by now, and to which.
    spent: BTreeMap<(Name, KeyId), KeyId>,
    streams: BTreeMap<StreamId, StreamReport>,
    /// Damage that a quarantine gap may explain, by where it is.
    damage: Vec<(Spot, Finding)>,
    pub(super) report: Report,
}

impl<'a> Inspector<'a> {
    pub(super) fn new(
        keys: Keys<'a>,
        anchor: Option<&'a Anchor>,
        report: Report,
        seen: Option<&'a SeenHeads>,
    ) -> Self {
        let none = Default::default();
        let chains = Chains::new(
            anchor.map(|anchor| &anchor.base),
            anchor.map_or(&none, |anchor| &anchor.heads),
        );
        Self {
            keys,
            anchor,
            log: None,
            chains,
            comparison: seen.map(Comparison::new),
            end: Spot::default(),
            spent: BTreeMap::new(),
            streams: BTreeMap::new(),
            damage: Vec::new(),
            report,
        }
    }

    /// Whether a segment with this identity is one of the log: it has that of the epoch the log was begun in, which may
    /// have been followed by others.
    fn belongs(&mut self, log: u128) -> bool {
        let of_agent = |anchor: &Anchor| {
            let own = anchor
                .heads
                .0
                .keys()
                .filter(|stream| stream.agent == anchor.agent);
            anchor.epoch.random == log || own.into_iter().any(|stream| stream.epoch.random == log)
        };
        match self.log {
            Some(known) => known == log,
            None if self.anchor.is_none_or(of_agent) => {
                self.log = Some(log);
                true
            }
            None => false,
        }
    }

    pub(super) fn visit(&mut self, file: &SegmentFile, item: Item<'_>) {
        match item {
            Item::Segment {
                header,
                expected,
                bytes,
            } => self.segment(file, header, expected, bytes),
            Item::Record { found, record } => self.record(file, found, record),
            Item::Locked(found) => self.locked(file, found),
            Item::Damage(damage) => self.damaged(file, damage),
            Item::End { end, last } => self.end(file, end, last),
            // On purpose, as the anchor says, and deleted meanwhile: it was still there when the directory was read.
            Item::Unreadable(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && self.anchor.is_some_and(|anchor| file.first < anchor.floor) => {}
            Item::Unreadable(error) => {
                let finding = at(
                    FindingKind::Missing,
                    file,
                    0,
                    None,
                    format!("the segment cannot be read: {error}"),
                );
                self.damage.push((
                    Spot {
                        segment: file.first,
                        byte: 0,
                        offset: file.first,
                    },
                    finding,
                ));
            }
        }
    }

    fn segment(
        &mut self,
        file: &SegmentFile,
        header: Result<SegmentHeader, HeaderFault>,
        expected: Option<u64>,
        bytes: u64,
    ) {
        self.report.segments += 1;
        self.report.bytes += bytes;
        if self.report.segments == 1 {
            self.report.first_offset = file.first;
        }
        let floor = self.anchor.map_or(0, |anchor| anchor.floor);
        let expected = expected.unwrap_or(if self.anchor.is_some() {
            floor.min(file.first)
        } else {
            file.first
        });
        let spot = Spot {
            segment: file.first,
            byte: 0,
            offset: file.first,
        };
        if self.report.segments == 1 && self.anchor.is_some() && file.first > floor {
            let detail = format!(
                "the log should begin with record {floor}, and begins with {}",
                file.first
            );
            self.damage.push((
                Spot::default(),
                at(FindingKind::Missing, file, 0, Some(floor), detail),
            ));
        } else if file.first > expected && self.report.segments > 1 {
            let detail = format!(
                "records {expected} to {} are missing before this segment",
                file.first - 1
            );
            self.damage
                .push((spot, at(FindingKind::Missing, file, 0, Some(expected), detail)));
        } else if file.first < expected && self.report.segments > 1 {
            let detail = format!(
                "the segment begins with record {}, though {expected} comes next",
                file.first
            );
            self.add(at(FindingKind::Repeated, file, 0, Some(file.first), detail));
        }
        match header {
            Ok(header) => {
                if header.first != file.first {
                    let detail = format!(
                        "the segment was begun with record {}, and is named for another",
                        header.first
                    );
                    self.add(at(FindingKind::Foreign, file, 32, None, detail));
                }
                if !self.belongs(header.log) {
                    let detail = "the segment belongs to another log".to_owned();
                    self.add(at(FindingKind::Foreign, file, 16, None, detail));
                }
            }
            Err(HeaderFault::Damaged) => {
                let detail = "the segment's header fails its check".to_owned();
                self.add(at(FindingKind::Altered, file, 0, None, detail));
            }
            Err(HeaderFault::Version(found)) => {
                let detail = format!("the segment has format version {found}");
                self.add(at(FindingKind::Unsupported, file, 8, None, detail));
            }
        }
    }

    fn record(&mut self, file: &SegmentFile, found: Found, record: &[u8]) {
        let spot = Spot {
            segment: file.first,
            byte: found.pos,
            offset: found.header.offset,
        };
        self.end = spot;
        self.report.next_offset = spot.offset + 1;
        let here = |kind, detail: String| at(kind, file, found.pos, Some(spot.offset), detail);
        if !found.padded {
            self.add(here(
                FindingKind::Altered,
                "the padding behind the record is not zero".to_owned(),
            ));
        }
        if found.header.flags != 0 {
            self.add(here(
                FindingKind::Unsupported,
                "the record is kept in a way that is not known".to_owned(),
            ));
        }
        let header = match RawHeader::parse(record) {
            Ok(header) => header,
            Err(_) if !found.intact => {
                let altered = here(FindingKind::Altered, "the record fails its check".to_owned());
                self.damage.push((spot, altered));
                return;
            }
            Err(error) => {
                let kind = kind_of(&error);
                self.add(here(kind, error.to_string()));
                return;
            }
        };
        let stream = header.class().map(|class| StreamId {
            agent: Name::from(header.agent),
            epoch: header.epoch(),
            class,
        });
        let about = |mut finding: Finding| {
            finding.stream = stream.as_ref().ok().map(ToString::to_string);
            let last = header.first().0.saturating_add(header.count()).saturating_sub(1);
            finding.events = Some((header.first().0, last));
            finding
        };
        if !found.intact {
            let altered = here(FindingKind::Altered, "the record fails its check".to_owned());
            // Its header is believed if the signature still holds; then it is known what is lost.
            if self.signature(&header) == Signed::Good {
                self.damage.push((spot, about(altered)));
                if self.is_kept(spot) {
                    let _ = self.chains.take(&header, spot, true);
                }
            } else {
                self.damage.push((spot, altered));
            }
            return;
        }
        match self.signature(&header) {
            Signed::Good => {
                let signer = (Name::from(header.agent), header.key());
                if let Some(new) = self.spent.get(&signer) {
                    let detail = format!(
                        "it is signed by key {} of {}, which had handed over to {new} before",
                        signer.1, signer.0
                    );
                    self.add(about(here(FindingKind::Forged, detail)));
                }
            }
            Signed::UnknownKey => {
                let detail = format!(
                    "it is signed by key {}, which is not trusted for {}",
                    header.key(),
                    header.agent
                );
                self.add(about(here(FindingKind::Forged, detail)));
                return;
            }
            Signed::Bad => {
                self.add(about(here(
                    FindingKind::Forged,
                    "its signature is wrong".to_owned(),
                )));
                return;
            }
        }
        let payload = header
            .payload_range(record.len())
            .ok()
            .and_then(|range| record.get(range));
        if payload.is_none_or(|payload| sha256(payload) != header.payload_digest()) {
            let detail = "its payload is not the one that was signed".to_owned();
            self.add(about(here(FindingKind::Altered, detail)));
            return;
        }
        let Ok(stream) = &stream else {
            self.add(here(
                FindingKind::Unsupported,
                "it is of a class that is not known".to_owned(),
            ));
            return;
        };
        if let Err(error) = header.check_features() {
            let kind = kind_of(&error);
            self.add(about(here(kind, error.to_string())));
        }
        match HandOver::of(&header) {
            Ok(Some(hand_over)) => {
                self.handed_over(hand_over, here(FindingKind::Forged, String::new()).place)
            }
            Ok(None) => {}
            Err(error) => self.add(about(here(FindingKind::Forged, error.to_string()))),
        }
        self.report.records += 1;
        if header.kind() != RecordKind::Gap {
            self.report.events += header.count();
            let first = header.first().0;
            let entry = self
                .streams
                .entry(stream.clone())
                .or_insert_with(|| StreamReport {
                    stream: stream.to_string(),
                    first,
                    next: first,
                    records: 0,
                    digest: header.digest(),
                });
            entry.records += 1;
        }
        if !self.is_kept(spot) {
            return;
        }
        if let Some(comparison) = &mut self.comparison {
            let next = header.first().0.saturating_add(header.count());
            let (digest, is_gap) = match header.gap() {
                Some((end, _)) => (end, true),
                None => (header.digest(), false),
            };
            let place = here(FindingKind::Rewritten, String::new()).place;
            let found = comparison.take(stream, (header.first().0, next), &digest, is_gap, &place);
            if let Some(found) = found {
                self.add(found);
            }
        }
        if let Some(misplaced) = self.chains.take(&header, spot, false) {
            let (kind, detail) = match misplaced {
                Misplaced::Reordered => (
                    FindingKind::Reordered,
                    "it belongs before records that come earlier",
                ),
                Misplaced::Repeated => (FindingKind::Repeated, "its events were there already"),
                Misplaced::NotAnchored => (FindingKind::Forged, "it is not the record that the anchor names"),
            };
            self.add(about(here(kind, detail.to_owned())));
        }
    }

    /// A record that is encrypted: what can be seen of it from outside.
    fn locked(&mut self, file: &SegmentFile, found: Found) {
        self.end = Spot {
            segment: file.first,
            byte: found.pos,
            offset: found.header.offset,
        };
        self.report.next_offset = found.header.offset + 1;
        self.report.locked_records += 1;
        if !found.padded {
            let detail = "the padding behind the record is not zero".to_owned();
            let offset = Some(found.header.offset);
            self.add(at(FindingKind::Altered, file, found.pos, offset, detail));
        }
    }

    /// Whether a record is not left over from what was trimmed.
    fn is_kept(&self, spot: Spot) -> bool {
        self.anchor.is_none_or(|anchor| spot.offset >= anchor.floor)
    }

    fn signature(&self, header: &RawHeader<'_>) -> Signed {
        let agent = Name::from(header.agent);
        let find = |id| self.keys.key(&agent, id);
        let key = find(header.key()).or_else(|| {
            self.keys.keyring.learn_lineage(header, |id| find(id).is_some());
            find(header.key())
        });
        check_key(header, key.as_ref())
    }

    fn handed_over(&mut self, hand_over: HandOver, place: Place) {
        let (old, new) = (hand_over.old.id(), hand_over.new.id());
        self.report.hand_overs.push(HandOverReport {
            agent: hand_over.agent.to_string(),
            old: old.to_string(),
            new: new.to_string(),
            place,
        });
        self.spent.insert((hand_over.agent.clone(), old), new);
        let _ = self.keys.keyring.learn(hand_over);
    }

    fn damaged(&mut self, file: &SegmentFile, damage: Damage) {
        let spot = Spot {
            segment: file.first,
            byte: damage.pos,
            offset: damage.first,
        };
        let lost = match damage.next - damage.first {
            0 => "no record is lost".to_owned(),
            1 => format!("record {} is lost", damage.first),
            _ => format!("records {} to {} are lost", damage.first, damage.next - 1),
        };
        let (kind, detail) = if damage.end == damage.pos {
            (FindingKind::Missing, format!("{lost} without a trace"))
        } else {
            (
                FindingKind::Altered,
                format!("no record can be read up to byte {}; {lost}", damage.end),
            )
        };
        self.damage
            .push((spot, at(kind, file, damage.pos, Some(damage.first), detail)));
    }

    fn end(&mut self, file: &SegmentFile, end: End, last: bool) {
        self.report.next_offset = self.report.next_offset.max(end.next);
        let spot = Spot {
            segment: file.first,
            byte: end.pos,
            offset: end.next,
        };
        self.end = self.end.max(spot);
        if let Some(stray) = end.stray {
            let (kind, detail) = if last {
                let detail = "what follows is no whole record: damaged, or left half written by a crash; \
                              opening the log settles it";
                (FindingKind::Truncated, detail)
            } else {
                (
                    FindingKind::Altered,
                    "what follows the last record of the segment is no record and not zero",
                )
            };
            self.damage
                .push((spot, at(kind, file, stray, Some(end.next), detail.to_owned())));
        }
    }

    /// Draws the conclusions.
    pub(super) fn finish(mut self) -> Report {
        let reached = self.report.next_offset;
        if let Some(anchor) = self.anchor.filter(|anchor| reached < anchor.end) {
            let file = segment_name(self.end.segment);
            let place = Place {
                file,
                byte: self.end.byte,
                offset: Some(reached),
            };
            let detail = format!(
                "records {reached} to {} are cut off; the anchor has seen them",
                anchor.end - 1
            );
            let finding = Finding {
                kind: FindingKind::Truncated,
                place,
                stream: None,
                events: None,
                detail,
            };
            self.damage.push((self.end, finding));
        }
        let chains = std::mem::take(&mut self.chains);
        // What is locked may be what seems to be missing.
        let resolved = match self.report.locked_records {
            0 => chains.resolve(self.end),
            _ => Resolved::default(),
        };
        let missing = &resolved.missing;
        let explained = &resolved.explained;
        let spans = |hole: &Break, spot: Spot| hole.after.is_none_or(|after| after < spot) && spot <= hole.at;
        for (spot, finding) in std::mem::take(&mut self.damage) {
            let is_explained = explained.iter().any(|(hole, _)| spans(hole, spot))
                && !missing.iter().any(|hole| spans(hole, spot));
            if !is_explained {
                self.add(finding);
            }
        }
        for hole in missing {
            self.add(missing_finding(hole));
        }
        for (hole, gaps) in explained {
            for gap in gaps {
                let spot = gap.spot;
                let place = Place {
                    file: segment_name(spot.segment),
                    byte: spot.byte,
                    offset: Some(spot.offset),
                };
                let (first, last) = (gap.gap.first.0, gap.gap.last.0);
                let (stream, reason) = (hole.stream.to_string(), gap.gap.reason.to_string());
                self.report.gaps.push(ExplainedGap {
                    stream,
                    first,
                    last,
                    reason,
                    place,
                });
            }
        }
        for (stream, head) in &resolved.heads.0 {
            let entry = self
                .streams
                .entry(stream.clone())
                .or_insert_with(|| StreamReport {
                    stream: stream.to_string(),
                    first: head.next.0,
                    next: head.next.0,
                    records: 0,
                    digest: head.digest,
                });
            (entry.next, entry.digest) = (head.next.0, head.digest);
        }
        if let Some(comparison) = self.comparison.take() {
            let end = Place {
                file: segment_name(self.end.segment),
                byte: self.end.byte,
                offset: Some(reached),
            };
            let agent = self.report.agent.clone();
            // Where the log's records come to: what only its anchor says may have been cut off with it.
            let mut reached = resolved.heads.clone();
            for hole in missing.iter().filter(|hole| hole.tail) {
                let head = reached.0.entry(hole.stream.clone()).or_default();
                (head.next.0, head.digest) = (hole.first, hole.before);
            }
            let (seen, findings) = comparison.finish(agent.as_deref(), &reached, &end);
            self.report.seen = Some(seen);
            findings.into_iter().for_each(|finding| self.add(finding));
        }
        self.report.streams = self.streams.into_values().collect();
        self.report.findings.sort_by(|a, b| a.place.cmp(&b.place));
        self.report
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(finding);
        } else {
            self.report.more_findings += 1;
        }
    }
}

fn missing_finding(hole: &Break) -> Finding {
    let place = Place {
        file: segment_name(hole.at.segment),
        byte: hole.at.byte,
        offset: Some(hole.at.offset),
    };
    let (kind, detail) = if hole.first == hole.next {
        let detail = "the record does not go on from the one before it in its stream";
        (FindingKind::Altered, detail)
    } else if hole.tail {
        (
            FindingKind::Truncated,
            "the stream ends here, and the anchor has seen more of it",
        )
    } else {
        (
            FindingKind::Missing,
            "records of the stream are missing before this one, and no gap says why",
        )
    };
    let events = (hole.first < hole.next).then(|| (hole.first, hole.next - 1));
    Finding {
        kind,
        place,
        stream: Some(hole.stream.to_string()),
        events,
        detail: detail.to_owned(),
    }
}

fn kind_of(error: &SealError) -> FindingKind {
    match error {
        SealError::Version { .. } => FindingKind::Unsupported,
        _ => FindingKind::Altered,
    }
}

fn at(kind: FindingKind, file: &SegmentFile, byte: u64, offset: Option<u64>, detail: String) -> Finding {
    let place = Place {
        file: segment_name(file.first),
        byte,
        offset,
    };
    Finding {
        kind,
        place,
        stream: None,
        events: None,
        detail,
    }
}
