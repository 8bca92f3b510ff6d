//! Event time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in event time: nanoseconds since the Unix epoch, UTC, without leap seconds.
///
/// The range is about 1677 to 2262. Arithmetic saturates, because times from outside may be absurd
/// and must not stop a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest representable time.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest representable time.
    pub const MAX: Self = Self(i64::MAX);

    /// From nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the Unix epoch, saturating.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The wall clock now. For sensors that stamp what they see; nothing downstream of a sensor may call it
    /// to decide about events.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Later by `by`, saturating.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        // A duration can be longer than half the range of times, so 64 bits are not enough on the way.
        let nanos = i128::from(self.0) + i128::try_from(by.as_nanos()).unwrap_or(i128::MAX / 2);
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// Earlier by `by`, saturating.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        let nanos = i128::from(self.0) - i128::try_from(by.as_nanos()).unwrap_or(i128::MAX / 2);
        Self(i64::try_from(nanos).unwrap_or(i64::MIN))
    }

    /// The time elapsed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = i128::from(self.0) - i128::from(earlier.0);
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    /// Seconds since the Unix epoch, as a float for display and for models.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "sub-microsecond loss is accepted by the callers"
    )]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl fmt::Display for Timestamp {
    /// Seconds and nanoseconds since the Unix epoch, as `1700000000.000000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, nanos) = (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000));
        write!(f, "{secs}.{nanos:09}")
    }
}
