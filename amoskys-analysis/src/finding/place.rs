use std::collections::HashMap;
use std::sync::Arc;

use amoskys_core::event::EventRange;
use amoskys_core::{Recorded, Seq, StreamId, Timestamp};
use serde::{Deserialize, Serialize};

/// Streams that are told apart. Events of further ones count as of the last.
const STREAMS: usize = 65_536;

/// Where an event stands: its stream, its number there, and its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) stream: u32,
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    /// Whose clock the time is by.
    pub(crate) timeline: u32,
}

/// The events behind a finding: a range of one stream, and its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    stream: u32,
    first: u64,
    last: u64,
    /// Time of the latest event.
    pub(crate) latest: Timestamp,
}

impl Span {
    /// One event.
    pub(crate) fn of(mark: Mark) -> Self {
        Self {
            stream: mark.stream,
            first: mark.seq,
            last: mark.seq,
            latest: mark.time,
        }
    }

    /// With this event too. One of another stream counts for the time only.
    pub(crate) fn extend(&mut self, mark: Mark) {
        if mark.stream == self.stream {
            self.first = self.first.min(mark.seq);
            self.last = self.last.max(mark.seq);
        }
        self.latest = mark.time;
    }

    /// With the events of another span too.
    pub(crate) fn join(&mut self, other: &Self) {
        if other.stream == self.stream {
            self.first = self.first.min(other.first);
            self.last = self.last.max(other.last);
        }
        self.latest = self.latest.max(other.latest);
    }
}

/// The streams seen so far, so that a mark is a few numbers instead of names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Streams {
    known: Vec<StreamId>,
    /// Where each stands in `known`.
    #[serde(skip)]
    index: HashMap<StreamId, u32>,
    #[serde(skip)]
    latest: Option<(Arc<StreamId>, u32)>,
}

impl Streams {
    /// Where this event stands.
    pub(crate) fn mark(&mut self, recorded: &Recorded) -> Mark {
        Mark {
            stream: self.number(&recorded.stream),
            seq: recorded.seq.0,
            time: recorded.event.time,
            timeline: recorded.timeline,
        }
    }

    /// The range of events of a span.
    pub(crate) fn range(&self, span: &Span) -> Option<EventRange> {
        let stream = self.known.get(span.stream as usize)?.clone();
        Some(EventRange {
            stream,
            first: Seq(span.first),
            last: Seq(span.last),
        })
    }

    fn number(&mut self, stream: &Arc<StreamId>) -> u32 {
        if let Some((latest, number)) = &self.latest
            && Arc::ptr_eq(latest, stream)
        {
            return *number;
        }
        if self.index.len() < self.known.len() {
            self.index = self.known.iter().cloned().zip(0..).collect();
        }
        let number = match self.index.get(&**stream) {
            Some(number) => *number,
            None => {
                if self.known.len() < STREAMS {
                    self.known.push((**stream).clone());
                }
                let number = u32::try_from(self.known.len() - 1).unwrap_or(u32::MAX);
                if self.index.len() < STREAMS {
                    self.index.insert((**stream).clone(), number);
                }
                number
            }
        };
        self.latest = Some((stream.clone(), number));
        number
    }
}

#[cfg(test)]
mod tests {
    use amoskys_core::Event;

    use super::*;

    #[test]
    fn a_span_keeps_to_its_stream() {
        let mut streams = Streams::default();
        let mut mark = |agent: &str, seq| {
            let stream = StreamId {
                agent: agent.into(),
                epoch: Default::default(),
                class: Default::default(),
            };
            let event = Event {
                time: Timestamp::from_secs(seq),
                ..Event::default()
            };
            streams.mark(&Recorded {
                timeline: 0,
                stream: Arc::new(stream),
                seq: Seq(seq as u64),
                event,
            })
        };
        let mut span = Span::of(mark("a", 5));
        span.extend(mark("a", 9));
        span.extend(mark("b", 100));
        span.join(&Span::of(mark("a", 2)));
        assert_eq!(span.latest, Timestamp::from_secs(100));
        let range = streams.range(&span).unwrap();
        assert_eq!(
            (range.stream.agent.as_str(), range.first, range.last),
            ("a", Seq(2), Seq(9))
        );
    }
}
