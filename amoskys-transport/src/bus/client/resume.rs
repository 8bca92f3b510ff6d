//! What to send: compares the records of an agent's log, one after the other, with what the bus has.

use std::collections::{BTreeMap, BTreeSet};

use amoskys_core::event::{Gap, GapReason};
use amoskys_core::{Class, Epoch, Name, Seq, StreamId};

use crate::seal::Head;
use crate::seal::header::{RawHeader, RecordKind};

/// A stream of this agent.
pub(crate) type StreamKey = (Epoch, Class);

/// What the bus has of a stream, as it said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) head: Head,
    pub(crate) recent: Vec<Head>,
}

/// Where the log's streams meet those of the bus.
#[derive(Debug)]
pub(crate) struct Resume {
    agent: Name,
    /// The epoch that is sealed now. Others are of the past, and cannot fork any more.
    epoch: Epoch,
    /// How far the bus will have each stream once it has all that was sent.
    at: BTreeMap<StreamKey, Head>,
    /// How far the log has them.
    own: BTreeMap<StreamKey, Head>,
    /// From here on a stream was given up, and sealed again in a later epoch.
    retired: BTreeMap<StreamKey, Head>,
    /// Records that cannot be sent.
    pub(crate) unfit: BTreeSet<(StreamKey, Seq)>,
    /// Something could not be read since the last gap of a stream, so it is the reason for the next.
    damaged: bool,
}

/// What to do with a record.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// The bus does not need it.
    Skip,
    /// It is below what the bus has of the stream. Whether the bus has the same shows where that ends.
    Below(StreamKey, Seq),
    /// What the bus has of the stream ends with it: it has all that was below.
    Reached(StreamKey, Seq),
    /// Send it.
    Send,
    /// Send this gap in its place.
    Replace(Gap),
    /// Send this gap, then the record.
    GapAndSend(Gap),
    /// The bus has something else there.
    Fork,
}

impl Resume {
    pub(crate) fn new(
        agent: Name,
        epoch: Epoch,
        marks: &BTreeMap<StreamKey, Mark>,
        own: BTreeMap<StreamKey, Head>,
        retired: BTreeMap<StreamKey, Head>,
    ) -> Self {
        let at = marks.iter().map(|(key, mark)| (*key, mark.head)).collect();
        Self {
            agent,
            epoch,
            at,
            own,
            retired,
            unfit: BTreeSet::new(),
            damaged: false,
        }
    }

    /// Whether the bus has more of a stream than the log, or another end of it.
    pub(crate) fn is_ahead_of_log(&self) -> bool {
        let present = self.at.iter().filter(|((epoch, _), _)| *epoch == self.epoch);
        present.into_iter().any(|(key, at)| {
            let own = self.own.get(key).copied().unwrap_or_default();
            own.next < at.next || (own.next == at.next && own.digest != at.digest)
        })
    }

    /// The streams that the bus has as far as the log.
    pub(crate) fn level_with_log(&self) -> Vec<(StreamKey, Seq)> {
        let level = self.own.iter().filter(|(key, own)| self.at.get(key) == Some(own));
        level.map(|(key, own)| (*key, own.next)).collect()
    }

    /// The streams of which the bus does not have all. Only they need to be looked for in the log.
    pub(crate) fn behind_log(&self) -> BTreeSet<StreamKey> {
        let behind = self.own.iter().filter(|(key, own)| {
            let end = self.retired.get(key).unwrap_or(own);
            self.at(key).next < end.next
        });
        behind.map(|(key, _)| *key).collect()
    }

    /// How far the bus has a stream.
    pub(crate) fn at(&self, key: &StreamKey) -> Head {
        self.at.get(key).copied().unwrap_or_default()
    }

    /// Some records could not be read.
    pub(crate) fn note_damage(&mut self) {
        self.damaged = true;
    }

    /// Decides about the next record of the log.
    pub(crate) fn step(&mut self, header: &RawHeader<'_>) -> Step {
        let (Ok(class), Some(next)) = (header.class(), header.first().0.checked_add(header.count())) else {
            return Step::Skip;
        };
        if header.agent != self.agent.as_str() || header.count() == 0 {
            return Step::Skip;
        }
        let key = (header.epoch(), class);
        let (first, next) = (header.first(), Seq(next));
        if let Some(from) = self.retired.get(&key)
            && (first >= from.next || from.next <= self.at(&key).next)
        {
            // Sealed again, or known to be the same as the bus's.
            return Step::Skip;
        }
        if self.unfit.contains(&(key, first)) {
            self.damaged = true;
            return Step::Skip;
        }
        let gap = header.gap().filter(|_| header.kind() == RecordKind::Gap);
        let end = Head {
            next,
            digest: gap.map_or_else(|| header.digest(), |(end, _)| end),
        };
        let at = self.at(&key);
        if next <= at.next {
            return match (next == at.next, end.digest == at.digest) {
                (true, true) => Step::Reached(key, next),
                (true, false) => self.differs(&key),
                (false, _) => Step::Below(key, next),
            };
        }
        if first <= at.next {
            if first == at.next && header.previous() == at.digest {
                self.at.insert(key, end);
                return Step::Send;
            }
            return match gap {
                // The bus has the beginning of what is missing here.
                Some((_, reason)) if first < at.next => {
                    let gap = self.gap(key, at, end, reason);
                    self.at.insert(key, end);
                    Step::Replace(gap)
                }
                _ => self.differs(&key),
            };
        }
        let reason = self.reason(at);
        let before = Head {
            next: first,
            digest: header.previous(),
        };
        let gap = self.gap(key, at, before, reason);
        self.at.insert(key, end);
        Step::GapAndSend(gap)
    }

    /// At the end of the log: the ends of streams of which there are no records any more.
    pub(crate) fn trailing(&mut self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (key, own) in self.own.clone() {
            let end = self.retired.get(&key).copied().unwrap_or(own);
            let at = self.at(&key);
            if at.next < end.next {
                let reason = self.reason(at);
                gaps.push(self.gap(key, at, end, reason));
                self.at.insert(key, end);
            }
        }
        gaps
    }

    fn gap(&self, (epoch, class): StreamKey, from: Head, to: Head, reason: GapReason) -> Gap {
        Gap {
            stream: StreamId {
                agent: self.agent.clone(),
                epoch,
                class,
            },
            first: from.next,
            last: Seq(to.next.0.saturating_sub(1)),
            before: from.digest,
            end: to.digest,
            reason,
        }
    }

    fn reason(&mut self, at: Head) -> GapReason {
        match (self.damaged, at.next) {
            (true, _) => GapReason::Quarantined,
            // The bus knows nothing of the stream: it lost its log, after these were trimmed here.
            (false, Seq(0)) => GapReason::LogLost,
            (false, _) => GapReason::Expired,
        }
    }

    /// The bus has something else at the end of a stream. Of an epoch that is over, what could be saved was sealed again
    /// when the next was begun.
    fn differs(&mut self, key: &StreamKey) -> Step {
        if key.0 == self.epoch {
            return Step::Fork;
        }
        let at = self.at(key);
        self.retired.insert(*key, at);
        Step::Reached(*key, at.next)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use amoskys_core::{Event, Offset, Seal as _, Unsealed};
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::bus::server::{Checker, Streams};
    use crate::key::{FileSigner, Signer as _, TrustMap};
    use crate::seal::{Keyring, Sealer, seal_gap};

    const EPOCH: Epoch = Epoch {
        counter: 0,
        random: 5,
    };

    struct Agent {
        signer: Arc<FileSigner>,
        sealer: Sealer,
        checker: Checker,
    }

    impl Agent {
        fn new(dir: &std::path::Path) -> Self {
            let signer = Arc::new(FileSigner::open_or_create(dir.join("key")).unwrap());
            let trust = TrustMap::new().allow("a", signer.public_key());
            Self {
                sealer: Sealer::new("a", EPOCH, signer.clone()),
                checker: Checker::new("a".into(), trust.into(), Arc::default()),
                signer,
            }
        }

        fn seal(&mut self, class: Class, count: usize) -> Bytes {
            let event = Event {
                class,
                ..Event::default()
            };
            let batch = Unsealed {
                class,
                source: &"test".into(),
                events: &vec![event; count],
                position: None,
                ledger: None,
            };
            self.sealer.seal(batch).unwrap().record
        }

        fn give(&mut self, streams: &mut Streams, record: &Bytes) {
            let checked = self.checker.check(record).unwrap();
            let taken = streams.take(&checked.place, 9, || Ok(Offset(0)));
            assert!(taken.is_ok(), "{taken:?}");
        }
    }

    fn marks(streams: &Streams) -> BTreeMap<StreamKey, Mark> {
        let marks = streams.marks();
        marks
            .map(|(key, head, recent)| (key, Mark { head, recent }))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        /// Whatever the bus has of the beginning, and whatever of the log is gone or unreadable: it takes all that is
        /// sent, and has every stream to its end.
        #[test]
        fn the_bus_takes_what_is_sent_and_ends_where_the_log_does(
            batches in prop::collection::vec((0..2_usize, 1..4_usize), 1..30),
            had in 0..30_usize,
            trimmed in 0..30_usize,
            damaged in prop::collection::btree_set(0..30_usize, 0..4),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut agent = Agent::new(dir.path());
            let classes = [Class::Telemetry, Class::Audit];
            let records: Vec<_> = batches.iter().map(|(class, count)| agent.seal(classes[*class], *count)).collect();
            let mut streams = Streams::default();
            for record in records.iter().take(had) {
                agent.give(&mut streams, record);
            }
            let own: BTreeMap<_, _> = classes
                .into_iter()
                .map(|class| ((EPOCH, class), agent.sealer.head(class)))
                .filter(|(_, head)| head.next > Seq(0))
                .collect();
            let mut resume = Resume::new("a".into(), EPOCH, &marks(&streams), own.clone(), BTreeMap::new());
            prop_assert!(!resume.is_ahead_of_log());
            for (at, record) in records.iter().enumerate().skip(trimmed) {
                if damaged.contains(&at) {
                    resume.note_damage();
                    continue;
                }
                let step = resume.step(&RawHeader::parse(record).unwrap());
                let (gap, send) = match step {
                    Step::GapAndSend(gap) => (Some(gap), true),
                    Step::Replace(gap) => (Some(gap), false),
                    Step::Send => (None, true),
                    Step::Fork => panic!("there is no fork"),
                    _ => (None, false),
                };
                if let Some(gap) = gap {
                    let sealed = seal_gap(&gap, &*agent.signer, &Keyring::default()).unwrap();
                    agent.give(&mut streams, &sealed.record);
                }
                if send {
                    agent.give(&mut streams, record);
                }
            }
            for gap in resume.trailing() {
                let sealed = seal_gap(&gap, &*agent.signer, &Keyring::default()).unwrap();
                agent.give(&mut streams, &sealed.record);
            }
            let heads: BTreeMap<_, _> = streams.marks().map(|(key, head, _)| (key, head)).collect();
            prop_assert_eq!(heads, own);
        }

        /// Two logs with the same beginning: the second to send finds out.
        #[test]
        fn a_log_that_went_another_way_is_found_out(
            same in 0..10_usize,
            theirs in 1..10_usize,
            ours in 0..10_usize,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (mut agent, mut copy) = (Agent::new(dir.path()), Agent::new(dir.path()));
            let mut streams = Streams::default();
            let mut records = Vec::new();
            for _ in 0..same {
                let record = agent.seal(Class::Telemetry, 2);
                agent.give(&mut streams, &record);
                records.push(record);
            }
            copy.sealer = Sealer::new("a", EPOCH, copy.signer.clone())
                .resume(Class::Telemetry, agent.sealer.head(Class::Telemetry));
            for _ in 0..theirs {
                let record = agent.seal(Class::Telemetry, 2);
                agent.give(&mut streams, &record);
            }
            records.extend((0..ours).map(|_| copy.seal(Class::Telemetry, 3)));
            let own = BTreeMap::from([((EPOCH, Class::Telemetry), copy.sealer.head(Class::Telemetry))]);
            let mut resume = Resume::new("a".into(), EPOCH, &marks(&streams), own, BTreeMap::new());
            let mut steps = records.iter().map(|record| resume.step(&RawHeader::parse(record).unwrap()));
            let found = steps.any(|step| step == Step::Fork);
            prop_assert!(found || resume.is_ahead_of_log());
        }
    }
}
