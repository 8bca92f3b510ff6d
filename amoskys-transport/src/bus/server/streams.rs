//! Where an agent's streams have come to at the bus, and what becomes of the next record.

use std::collections::{BTreeMap, VecDeque};

use amoskys_core::{Class, Digest, Epoch, Offset, Seq, WalError};

use crate::bus::refuse::RefuseReason;
use crate::seal::Head;

/// Records kept in mind per stream, to tell repeated ones from forks.
const RECENT: usize = 64;

/// A stream of one agent.
pub(crate) type StreamKey = (Epoch, Class);

/// Where a record belongs, from its header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) stream: StreamKey,
    pub(crate) first: Seq,
    pub(crate) next: Seq,
    pub(crate) previous: Digest,
    /// What the stream's digest is behind it: of a gap, that of the last missing record.
    pub(crate) end: Digest,
    pub(crate) is_gap: bool,
}

/// All streams of one agent.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    known: BTreeMap<StreamKey, Known>,
}

#[derive(Debug, Default)]
struct Known {
    head: Head,
    recent: VecDeque<Recent>,
}

/// The end of a record, and where it lies in the bus's log if that may not be durable yet.
#[derive(Clone, Copy, Debug)]
struct Recent {
    end: Head,
    offset: Option<Offset>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the log now.
    Stored {
        offset: Offset,
        /// It is the first of its epoch.
        begins_epoch: bool,
    },
    /// It was there already: durable with this offset, or long since.
    Repeated { offset: Option<Offset> },
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It does not belong here. The stream is at `head`.
    Misplaced { reason: RefuseReason, head: Head },
    /// The log did not take it.
    Log(WalError),
}

impl Streams {
    /// A stream that is in the log.
    pub(crate) fn insert(&mut self, stream: StreamKey, head: Head) {
        let recent = VecDeque::from([Recent {
            end: head,
            offset: None,
        }]);
        self.known.insert(stream, Known { head, recent });
    }

    /// Decides about a record. If it is the next of its stream, `append` puts it into the log.
    pub(crate) fn take(
        &mut self,
        place: &Place,
        max_streams: usize,
        append: impl FnOnce() -> Result<Offset, WalError>,
    ) -> Result<Taken, NotTaken> {
        let known = self.known.get(&place.stream);
        let head = known.map(|known| known.head).unwrap_or_default();
        let misplaced = |reason| Err(NotTaken::Misplaced { reason, head });
        let end = Head {
            next: place.next,
            digest: place.end,
        };
        if place.first > head.next {
            return misplaced(RefuseReason::Ahead);
        }
        if place.first < head.next {
            if place.next > head.next {
                // Of a gap that was partly explained before, the rest can be said again.
                return misplaced(if place.is_gap {
                    RefuseReason::Behind
                } else {
                    RefuseReason::Fork
                });
            }
            let recent = known.map(|known| &known.recent);
            let same = recent.and_then(|recent| recent.iter().rev().find(|r| r.end.next == place.next));
            return match same {
                Some(recent) if recent.end == end => Ok(Taken::Repeated {
                    offset: recent.offset,
                }),
                Some(_) if !place.is_gap => misplaced(RefuseReason::Fork),
                _ => misplaced(RefuseReason::Behind),
            };
        }
        if place.previous != head.digest {
            return misplaced(RefuseReason::Fork);
        }
        let begins_epoch = known.is_none() && !self.known.keys().any(|(epoch, _)| *epoch == place.stream.0);
        if known.is_none() && self.known.len() >= max_streams {
            return misplaced(RefuseReason::TooManyStreams);
        }
        let offset = append().map_err(NotTaken::Log)?;
        let known = self.known.entry(place.stream).or_default();
        known.head = end;
        if known.recent.len() >= RECENT {
            known.recent.pop_front();
        }
        known.recent.push_back(Recent {
            end,
            offset: Some(offset),
        });
        Ok(Taken::Stored { offset, begins_epoch })
    }

    /// Where a stream has come to.
    pub(crate) fn head(&self, stream: &StreamKey) -> Head {
        self.known.get(stream).map(|known| known.head).unwrap_or_default()
    }

    /// The last offset that was given to a record of this agent.
    pub(crate) fn last_offset(&self) -> Option<Offset> {
        let last = self
            .known
            .values()
            .filter_map(|known| known.recent.back().and_then(|r| r.offset));
        last.max()
    }

    /// How far the streams are, and the ends of some records before that.
    pub(crate) fn marks(&self) -> impl Iterator<Item = (StreamKey, Head, Vec<Head>)> {
        self.known.iter().map(|(stream, known)| {
            let recent = known.recent.iter().rev().skip(1).map(|recent| recent.end);
            (*stream, known.head, recent.collect())
        })
    }

    /// Where the streams of the newest epoch but this one have come to.
    pub(crate) fn before(&self, epoch: Epoch) -> Option<(Epoch, Vec<(Class, Head)>)> {
        let others = self.known.keys().map(|(known, _)| *known);
        let last = others.filter(|known| *known != epoch).max()?;
        let heads = self.known.iter().filter(|((known, _), _)| *known == last);
        Some((
            last,
            heads.map(|((_, class), known)| (*class, known.head)).collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamKey = (
        Epoch {
            counter: 0,
            random: 1,
        },
        Class::Telemetry,
    );

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn batch(first: u64, next: u64, previous: u8, end: u8) -> Place {
        Place {
            stream: STREAM,
            first: Seq(first),
            next: Seq(next),
            previous: digest(previous),
            end: digest(end),
            is_gap: false,
        }
    }

    fn take(streams: &mut Streams, place: Place) -> Result<Taken, RefuseReason> {
        let taken = streams.take(&place, 4, || Ok(Offset(place.next.0)));
        taken.map_err(|error| match error {
            NotTaken::Misplaced { reason, .. } => reason,
            NotTaken::Log(error) => panic!("{error}"),
        })
    }

    fn stored(offset: u64, begins_epoch: bool) -> Result<Taken, RefuseReason> {
        Ok(Taken::Stored {
            offset: Offset(offset),
            begins_epoch,
        })
    }

    #[test]
    fn takes_what_is_next_and_tells_the_rest_apart() {
        let mut streams = Streams::default();
        assert_eq!(take(&mut streams, batch(5, 9, 0, 1)), Err(RefuseReason::Ahead));
        assert_eq!(take(&mut streams, batch(0, 4, 7, 1)), Err(RefuseReason::Fork));
        assert_eq!(take(&mut streams, batch(0, 4, 0, 1)), stored(4, true));
        assert_eq!(take(&mut streams, batch(4, 8, 1, 2)), stored(8, false));
        // Again, altered, overlapping, from elsewhere.
        let repeated = Ok(Taken::Repeated {
            offset: Some(Offset(4)),
        });
        assert_eq!(take(&mut streams, batch(0, 4, 0, 1)), repeated);
        assert_eq!(take(&mut streams, batch(0, 4, 0, 9)), Err(RefuseReason::Fork));
        assert_eq!(take(&mut streams, batch(4, 9, 1, 3)), Err(RefuseReason::Fork));
        assert_eq!(take(&mut streams, batch(0, 3, 0, 3)), Err(RefuseReason::Behind));
        assert_eq!(take(&mut streams, batch(8, 9, 9, 3)), Err(RefuseReason::Fork));
        assert_eq!(take(&mut streams, batch(9, 10, 2, 3)), Err(RefuseReason::Ahead));
    }

    #[test]
    fn a_gap_moves_the_stream_on() {
        let mut streams = Streams::default();
        let gap = Place {
            is_gap: true,
            ..batch(0, 100, 0, 5)
        };
        assert_eq!(take(&mut streams, gap), stored(100, true));
        assert_eq!(take(&mut streams, batch(100, 101, 5, 6)), stored(101, false));
        let again = Place {
            is_gap: true,
            ..batch(50, 101, 0, 7)
        };
        assert_eq!(take(&mut streams, again), Err(RefuseReason::Behind));
        let beyond = Place {
            is_gap: true,
            ..batch(50, 200, 0, 7)
        };
        assert_eq!(take(&mut streams, beyond), Err(RefuseReason::Behind));
    }

    #[test]
    fn what_is_forgotten_is_behind_and_streams_are_bounded() {
        let mut streams = Streams::default();
        for n in 0..=RECENT as u64 {
            let byte = |n: u64| u8::try_from(n % 255).unwrap();
            let previous = if n == 0 { 0 } else { byte(n - 1) + 1 };
            take(&mut streams, batch(n, n + 1, previous, byte(n) + 1)).unwrap();
        }
        assert_eq!(take(&mut streams, batch(0, 1, 0, 1)), Err(RefuseReason::Behind));
        for random in 2..5 {
            let stream = (Epoch { counter: 0, random }, Class::Bulk);
            take(
                &mut streams,
                Place {
                    stream,
                    ..batch(0, 1, 0, 1)
                },
            )
            .unwrap();
        }
        let stream = (
            Epoch {
                counter: 0,
                random: 9,
            },
            Class::Bulk,
        );
        let fifth = Place {
            stream,
            ..batch(0, 1, 0, 1)
        };
        assert_eq!(take(&mut streams, fifth), Err(RefuseReason::TooManyStreams));
    }
}
