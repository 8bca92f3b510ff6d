use std::collections::BTreeMap;

use amoskys_core::{Name, StreamId};

use crate::seal::Head;
use crate::seal::header::{RawHeader, RecordKind};

/// Where each stream has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heads(pub(crate) BTreeMap<StreamId, Head>);

impl Heads {
    /// Takes a record as the beginning of its stream, if it is the first of it.
    pub(crate) fn begin(&mut self, record: &[u8]) {
        let Ok(header) = RawHeader::parse(record) else {
            return;
        };
        let Ok(class) = header.class() else { return };
        let stream = StreamId {
            agent: Name::from(header.agent),
            epoch: header.epoch(),
            class,
        };
        self.0.entry(stream).or_insert(Head {
            next: header.first(),
            digest: header.previous(),
        });
    }

    /// Takes note of a record. What is no sealed record is passed over.
    pub(crate) fn observe(&mut self, record: &[u8]) {
        let Ok(header) = RawHeader::parse(record) else {
            return;
        };
        let (Ok(class), Some(next)) = (header.class(), header.first().0.checked_add(header.count())) else {
            return;
        };
        let stream = StreamId {
            agent: Name::from(header.agent),
            epoch: header.epoch(),
            class,
        };
        let head = self.0.entry(stream).or_default();
        let next = amoskys_core::Seq(next);
        match (header.kind(), header.gap()) {
            (RecordKind::Gap, Some((end, _))) => {
                // A gap at the end of a stream moves it on; one in the middle explains what was there before.
                let joins = header.first() == head.next && header.previous() == head.digest;
                // An anchor may be older than a gap, and stand amid the records that the gap took the place of.
                let covers = header.first() < head.next && head.next < next;
                if joins || covers {
                    *head = Head { next, digest: end };
                }
            }
            (RecordKind::Gap, None) => {}
            // Also of a kind that is not known: it is a link of the chain, unless it is about nothing.
            _ => {
                *head = Head {
                    next,
                    digest: header.digest(),
                }
            }
        }
    }
}
