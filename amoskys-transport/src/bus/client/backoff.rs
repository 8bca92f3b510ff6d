use std::time::Duration;

/// Pauses between attempts: twice as long at most each time, and drawn at random below that, so that many clients of a
/// bus that comes back do not come all at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            attempts: 0,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    pub(crate) fn pause(&mut self) -> Duration {
        let limit = self
            .first
            .saturating_mul(1 << self.attempts.min(20))
            .min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        let mut random = [0; 4];
        if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).is_err() {
            return limit;
        }
        limit.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
    }
}

/// At least this long, and up to a quarter more, so that those who were told the same do not come all at once.
pub(crate) fn about(least: Duration) -> Duration {
    let mut random = [0; 4];
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).is_err() {
        return least;
    }
    least + least.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_differ() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for limit in [100, 200, 400, 800, 1600, 2000, 2000] {
            assert!(backoff.pause() <= Duration::from_millis(limit));
        }
        let pauses: Vec<_> = (0..40).map(|_| backoff.pause()).collect();
        assert!(pauses.iter().any(|pause| *pause > Duration::from_millis(1000)));
        assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(1000)));
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(100));
        let told = Duration::from_secs(4);
        assert!((0..40).all(|_| about(told) >= told && about(told) <= told * 5 / 4));
    }
}
