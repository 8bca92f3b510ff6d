use std::hash::Hash;
use std::time::Duration;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::{ClockConfig, ClockCounters, StreamClock, Tick};
use crate::lru::{Lru, LruState};

/// How the clocks of several sources make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcesConfig {
    /// How the clock of a source follows its events.
    pub clock: ClockConfig,
    /// A source so far behind the one that is furthest, by event time, no longer holds the others back. Default 60 s.
    pub idle_after: Duration,
    /// How many sources are kept; when one more comes, the one without events for longest is forgotten, and counted.
    /// Default 1024.
    pub max_sources: usize,
}

impl Default for SourcesConfig {
    fn default() -> Self {
        Self {
            clock: ClockConfig::default(),
            idle_after: Duration::from_secs(60),
            max_sources: 1024,
        }
    }
}

/// One watermark for windows that several sources fill: the earliest of theirs.
///
/// A source that falls silent would stop all windows. So it is idle once it is further behind the others than
/// [`idle_after`](SourcesConfig::idle_after), and holds nobody back until it speaks again; what it then says of times
/// that have closed is late. Idleness goes by event time alone, so that reading a log again comes to the same.
pub struct Sources<S> {
    config: SourcesConfig,
    clocks: Lru<S, Source>,
    watermark: Timestamp,
    /// The latest time of any source.
    latest: Timestamp,
    evicted: u64,
    past: ClockCounters,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Source {
    clock: StreamClock,
    latest: Timestamp,
}

/// The state of several sources between two events, to be stored and restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourcesState<S> {
    clocks: LruState<S, Source>,
    watermark: Timestamp,
    latest: Timestamp,
    evicted: u64,
    past: ClockCounters,
}

impl<S: Clone + Eq + Hash> Sources<S> {
    /// No source yet.
    #[must_use]
    pub fn new(config: SourcesConfig) -> Self {
        Self {
            config,
            clocks: Lru::new(config.max_sources),
            watermark: Timestamp::MIN,
            latest: Timestamp::MIN,
            evicted: 0,
            past: ClockCounters::default(),
        }
    }

    /// Takes the time of an event. If it is [implausible](Tick::Implausible), the event is to be left out.
    ///
    /// Where the clock of one source is set back, the common watermark stays: what comes is late.
    pub fn event(&mut self, source: &S, time: Timestamp) -> Tick {
        let entry = self.source(source);
        let tick = entry.clock.event(time);
        if tick != Tick::Implausible {
            let reset = matches!(tick, Tick::Reset { .. });
            entry.latest = if reset { time } else { entry.latest.max(time) };
            self.latest = self.latest.max(time);
        }
        tick
    }

    /// Takes a punctuation of a source: nothing earlier than `time - lateness` will follow from it.
    pub fn punctuation(&mut self, source: &S, time: Timestamp, lateness: Duration) {
        let entry = self.source(source);
        entry.clock.punctuation(time, lateness);
        entry.latest = entry.latest.max(time);
        self.latest = self.latest.max(time);
    }

    /// A source has ended: it holds nobody back any more.
    pub fn end(&mut self, source: &S) {
        if let Some(gone) = self.clocks.remove(source) {
            self.past = self.past.and(&gone.clock.counters());
        }
    }

    /// Everything before this time has been seen, from all sources that are not idle. It never goes back. The earliest
    /// time there is, if nothing was seen.
    ///
    /// It costs a look at each source.
    pub fn watermark(&mut self) -> Timestamp {
        let active = |source: &Source| self.latest.since(source.latest) <= self.config.idle_after;
        let sources = self.clocks.iter().map(|entry| entry.1);
        let earliest = sources
            .filter(|source| active(source))
            .map(|source| source.clock.watermark())
            .min();
        self.watermark = self.watermark.max(earliest.unwrap_or(Timestamp::MIN));
        self.watermark
    }

    /// How many sources there are, idle ones included.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.clocks.len()
    }

    /// How many of them are idle.
    #[must_use]
    pub fn idle(&self) -> usize {
        let idle = |source: &Source| self.latest.since(source.latest) > self.config.idle_after;
        self.clocks.iter().filter(|entry| idle(entry.1)).count()
    }

    /// Sources forgotten because there were too many.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What the clocks made of the events so far.
    #[must_use]
    pub fn counters(&self) -> ClockCounters {
        let counters = self.clocks.iter().map(|entry| entry.1.clock.counters());
        counters.fold(self.past, |all, one| all.and(&one))
    }

    /// The state, to be given to [`restore`](Self::restore) of sources of the same configuration.
    #[must_use]
    pub fn state(&self) -> SourcesState<S> {
        SourcesState {
            clocks: self.clocks.state(|_, source| source.clone()),
            watermark: self.watermark,
            latest: self.latest,
            evicted: self.evicted,
            past: self.past,
        }
    }

    /// Goes on from a state.
    pub fn restore(&mut self, state: SourcesState<S>) {
        self.clocks.restore(state.clocks);
        self.watermark = state.watermark;
        self.latest = state.latest;
        self.evicted = state.evicted;
        self.past = state.past;
    }

    fn source(&mut self, source: &S) -> &mut Source {
        let config = self.config.clock;
        let (entry, evicted) = self.clocks.get_or_insert(source, || Source {
            clock: StreamClock::new(config),
            latest: Timestamp::MIN,
        });
        if let Some((_, gone)) = evicted {
            self.evicted += 1;
            self.past = self.past.and(&gone.clock.counters());
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn the_slowest_source_that_still_speaks_sets_the_time() {
        let mut sources: Sources<&str> = Sources::new(SourcesConfig::default());
        assert_eq!(sources.watermark(), Timestamp::MIN);
        sources.event(&"a", at(100));
        sources.event(&"b", at(90));
        assert_eq!(sources.watermark(), at(89));
        sources.event(&"a", at(149));
        assert_eq!((sources.watermark(), sources.idle()), (at(89), 0));
        // b is silent for more than a minute.
        sources.event(&"a", at(151));
        assert_eq!((sources.watermark(), sources.idle()), (at(150), 1));
        // What it says then is late, and moves nothing back.
        sources.event(&"b", at(120));
        assert_eq!((sources.watermark(), sources.idle()), (at(150), 0));
        sources.end(&"b");
        sources.punctuation(&"a", at(300), Duration::ZERO);
        assert_eq!((sources.watermark(), sources.sources()), (at(300), 1));
    }

    #[test]
    fn sources_are_bounded_and_restored() {
        let config = SourcesConfig {
            max_sources: 10,
            ..SourcesConfig::default()
        };
        let mut sources: Sources<u32> = Sources::new(config);
        for n in 0..100_u32 {
            sources.event(&n, at(i64::from(n)));
        }
        assert_eq!((sources.sources(), sources.evicted()), (10, 90));
        let bytes = postcard::to_allocvec(&sources.state()).unwrap();
        let mut other: Sources<u32> = Sources::new(config);
        other.restore(postcard::from_bytes(&bytes).unwrap());
        assert_eq!(other.watermark(), sources.watermark());
        assert_eq!(
            postcard::to_allocvec(&other.state()).unwrap(),
            postcard::to_allocvec(&sources.state()).unwrap()
        );
    }
}
