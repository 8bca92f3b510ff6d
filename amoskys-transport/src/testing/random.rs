use std::time::Duration;

use amoskys_core::event::LogRecord;
use amoskys_core::{Class, Event, EventId, Payload, Timestamp};

/// The letters of random text: 64, so that one takes six bits.
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

/// Numbers, pauses and events that follow from a seed (SplitMix64): the same seed gives the same ones. Not for keys.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any of 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_u64().checked_rem(limit).unwrap_or(0)
    }

    /// A time shorter than `limit`, in whole microseconds.
    pub fn shorter(&mut self, limit: Duration) -> Duration {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(micros))
    }

    /// An event of now, a log line of `len` letters that compress to three quarters at best.
    pub fn event(&mut self, id: EventId, class: Class, len: usize) -> Event {
        let mut message = String::with_capacity(len);
        while message.len() < len {
            let mut bits = self.next_u64();
            for _ in 0..(len - message.len()).min(10) {
                message.push(char::from(LETTERS[(bits & 63) as usize]));
                bits >>= 6;
            }
        }
        let log = LogRecord {
            message,
            ..LogRecord::default()
        };
        Event {
            id,
            time: Timestamp::now(),
            source: "random".into(),
            class,
            payload: Payload::Log(Box::new(log)),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_everything() {
        let (mut one, mut other, mut third) = (Random::new(1), Random::new(1), Random::new(2));
        let id = EventId {
            origin: 1,
            ordinal: 2,
        };
        let [a, b, c] = [&mut one, &mut other, &mut third].map(|random| {
            let event = random.event(id, Class::Alert, 1000);
            assert_eq!((event.id, event.class), (id, Class::Alert));
            match event.payload {
                Payload::Log(log) => log.message,
                _ => String::new(),
            }
        });
        assert_eq!((a.len(), &a), (1000, &b));
        assert_ne!(a, c);
        assert!((0..1000).all(|_| one.below(7) < 7));
        assert_eq!(one.below(0), 0);
        assert!(one.shorter(Duration::from_micros(3)) < Duration::from_micros(3));
    }
}
