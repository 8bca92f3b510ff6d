use std::time::Duration;

use amoskys_core::Timestamp;

/// The most panes a window may have.
const MAX_PANES: u64 = 1024;

/// How long windows are, and how often one ends.
///
/// Windows are aligned to the Unix epoch: one ends at each multiple of the slide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowSpec {
    panes: i64,
    slide_ns: i64,
}

impl WindowSpec {
    /// Windows of this length, one ending after every `slide`.
    ///
    /// # Errors
    ///
    /// If `slide` is below a microsecond, or `length` is not a multiple of it, or more than 1024 times as long,
    /// or longer than a year.
    pub fn sliding(length: Duration, slide: Duration) -> Result<Self, SpecError> {
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        if slide < Duration::from_micros(1) || length > YEAR {
            return Err(SpecError::OutOfRange { length, slide });
        }
        let panes = length.as_nanos() / slide.as_nanos();
        if panes == 0 || panes > u128::from(MAX_PANES) || !length.as_nanos().is_multiple_of(slide.as_nanos())
        {
            return Err(SpecError::NotAMultiple { length, slide });
        }
        let out_of_range = |_| SpecError::OutOfRange { length, slide };
        Ok(Self {
            panes: i64::try_from(panes).map_err(out_of_range)?,
            slide_ns: i64::try_from(slide.as_nanos()).map_err(out_of_range)?,
        })
    }

    /// Windows of this length, each beginning where the one before ended.
    ///
    /// # Errors
    ///
    /// If `length` is below a microsecond or above a year.
    pub fn tumbling(length: Duration) -> Result<Self, SpecError> {
        Self::sliding(length, length)
    }

    /// Length of a window.
    #[must_use]
    pub fn length(&self) -> Duration {
        // Both factors are positive, and the product was a length before.
        Duration::from_nanos(self.slide_ns.saturating_mul(self.panes).unsigned_abs())
    }

    /// Time from one window's end to the next one's.
    #[must_use]
    pub const fn slide(&self) -> Duration {
        Duration::from_nanos(self.slide_ns.unsigned_abs())
    }

    /// Panes in a window.
    pub(crate) const fn panes(&self) -> i64 {
        self.panes
    }

    /// The pane that holds `time`.
    pub(crate) const fn pane_of(&self, time: Timestamp) -> i64 {
        time.nanos().div_euclid(self.slide_ns)
    }

    /// The earliest time in a pane; at the ends of time, the earliest or latest time there is.
    pub(crate) const fn start_of(&self, pane: i64) -> Timestamp {
        Timestamp::from_nanos(pane.saturating_mul(self.slide_ns))
    }
}

/// Why there are no such windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The length is not a multiple of the slide, or too large a multiple.
    #[error("window length {length:?} is not 1 to {MAX_PANES} times its slide {slide:?}")]
    NotAMultiple {
        /// The length asked for.
        length: Duration,
        /// The slide asked for.
        slide: Duration,
    },
    /// The gap is too short, or the longest session is.
    #[error(
        "session gap {gap:?} and longest session {longest:?} are not between 1 microsecond and 366 days, in this order"
    )]
    Session {
        /// The gap asked for.
        gap: Duration,
        /// The longest session asked for.
        longest: Duration,
    },
    /// The slide is too short or the length too long.
    #[error("window length {length:?} and slide {slide:?} are not between 1 microsecond and 366 days")]
    OutOfRange {
        /// The length asked for.
        length: Duration,
        /// The slide asked for.
        slide: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be_cut_into_panes() {
        let secs = Duration::from_secs;
        for (length, slide) in [
            (10, 3),
            (10, 0),
            (0, 1),
            (1, 10),
            (2000, 1),
            (86_400 * 400, 86_400),
        ] {
            assert!(
                WindowSpec::sliding(secs(length), secs(slide)).is_err(),
                "{length} by {slide}"
            );
        }
        let spec = WindowSpec::sliding(secs(10), secs(2)).unwrap();
        assert_eq!(
            (spec.length(), spec.slide(), spec.panes()),
            (secs(10), secs(2), 5)
        );
        assert_eq!(spec.pane_of(Timestamp::from_secs(-1)), -1);
        assert_eq!(spec.start_of(i64::MAX), Timestamp::MAX);
    }
}
