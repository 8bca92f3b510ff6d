//! What an exporter's sequence numbers say: what never arrived, what came late, and whether it began anew.

/// A jump further ahead than this is no loss, but another exporter or another life of it.
const MAX_GAP: i32 = 1 << 24;
/// Further behind than this is no straggler.
const MAX_LATE: i32 = -(1 << 16);
/// So many datagrams behind, each following the one before, are an exporter that began anew.
const RESTART_RUN: u8 = 3;

/// The sequence numbers of one exporter's stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sequence {
    /// The number stated last, and what that datagram held. `None` if there is nothing to compare with.
    last: Option<(u32, Units)>,
    /// How the exporter counts: a place in the list of what may be expected.
    habit: usize,
    /// The number that would follow the latest straggler, and how many followed one another.
    late: Option<(u32, u8)>,
}

/// What a datagram holds of what its exporter counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Units {
    /// All of it.
    pub(crate) all: u32,
    /// Without records about the exporter.
    pub(crate) flows: u32,
}

impl Units {
    /// So many, all of flows.
    pub(crate) const fn of(count: u32) -> Self {
        Self {
            all: count,
            flows: count,
        }
    }
}

/// What a sequence number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    /// Nothing before it is missing, or there is nothing to compare it with.
    InOrder,
    /// So many units are missing.
    Gap(u32),
    /// It was overtaken by a later one, or is a duplicate.
    Late,
    /// The exporter began to count anew.
    Restart,
}

impl Sequence {
    /// Takes note of a datagram that says `number` and holds `units`; `None` if that cannot be known, so that the
    /// next one cannot be compared.
    pub(crate) fn observe(&mut self, number: u32, units: Option<Units>) -> Observed {
        let observed = self.compare(number, units);
        if observed == Observed::Late {
            let run = self.run(number);
            self.late = units.map(|units| (number.wrapping_add(units.all), run));
        } else {
            self.last = units.map(|units| (number, units));
            self.late = None;
        }
        observed
    }

    /// RFC 7011 asks for the number of all data records sent before. Some exporters leave out those about
    /// themselves, some count what the datagram holds itself, softflowd does both; so every habit is allowed for, and
    /// the one that fitted last is held to.
    fn compare(&mut self, number: u32, units: Option<Units>) -> Observed {
        let (Some((last, before)), Some(units)) = (self.last, units) else {
            return Observed::InOrder;
        };
        let habits = [before.all, before.flows, units.all, units.flows].map(|held| last.wrapping_add(held));
        if habits[self.habit] == number {
            return Observed::InOrder;
        }
        if let Some(habit) = habits.iter().position(|expected| *expected == number) {
            self.habit = habit;
            return Observed::InOrder;
        }
        let ahead = number.wrapping_sub(habits[self.habit]).cast_signed();
        match ahead {
            1..=MAX_GAP => Observed::Gap(ahead.unsigned_abs()),
            MAX_LATE..=0 if self.run(number) < RESTART_RUN => Observed::Late,
            _ => Observed::Restart,
        }
    }

    /// How many stragglers followed one another, with this one.
    fn run(&self, number: u32) -> u8 {
        match self.late {
            Some((expected, run)) if expected == number => run.saturating_add(1),
            _ => 1,
        }
    }

    /// Forgets all numbers: the exporter began anew.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// The clock since boot that v5 and v9 exporters state with every datagram: milliseconds, 32 bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uptime(Option<(u32, u32)>);

/// Clocks that part by more than this have been set, or the exporter booted.
const CLOCK_TOLERANCE_MS: u32 = 5_000;

impl Uptime {
    /// Takes note of an uptime in milliseconds, stated at a time in seconds; whether the exporter has booted since
    /// the one before.
    ///
    /// The uptime wraps after 49.7 days; so does what is expected of it. A clock that was set makes it differ from
    /// what is expected, but only a boot sets it back.
    pub(crate) fn observe(&mut self, uptime_ms: u32, secs: u32) -> bool {
        let before = self.0.replace((uptime_ms, secs));
        let Some((last, last_secs)) = before else {
            return false;
        };
        let elapsed = secs.wrapping_sub(last_secs).wrapping_mul(1000);
        let expected = last.wrapping_add(elapsed);
        let apart = uptime_ms.wrapping_sub(expected).cast_signed().unsigned_abs();
        uptime_ms < last && apart > CLOCK_TOLERANCE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_in_units() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.observe(100, Some(Units::of(30))), Observed::InOrder);
        assert_eq!(sequence.observe(130, Some(Units::of(30))), Observed::InOrder);
        assert_eq!(sequence.observe(220, Some(Units::of(1))), Observed::Gap(60));
        assert_eq!(sequence.observe(190, Some(Units::of(30))), Observed::Late);
        assert_eq!(sequence.observe(221, Some(Units::of(1))), Observed::InOrder);
    }

    #[test]
    fn numbers_wrap() {
        let mut sequence = Sequence::default();
        sequence.observe(u32::MAX - 1, Some(Units::of(4)));
        assert_eq!(sequence.observe(2, Some(Units::of(1))), Observed::InOrder);
        assert_eq!(sequence.observe(5, Some(Units::of(1))), Observed::Gap(2));
    }

    #[test]
    fn a_restart_is_told_from_stragglers() {
        let mut sequence = Sequence::default();
        sequence.observe(50, Some(Units::of(10)));
        assert_eq!(sequence.observe(0, Some(Units::of(10))), Observed::Late);
        assert_eq!(sequence.observe(10, Some(Units::of(10))), Observed::Late);
        assert_eq!(sequence.observe(20, Some(Units::of(10))), Observed::Restart);
        assert_eq!(sequence.observe(40, Some(Units::of(10))), Observed::Gap(10));
        assert_eq!(
            sequence.observe(3_000_000_000, Some(Units::of(1))),
            Observed::Restart
        );
    }

    #[test]
    fn an_unknown_count_breaks_the_chain_without_loss() {
        let mut sequence = Sequence::default();
        sequence.observe(0, Some(Units::of(10)));
        assert_eq!(sequence.observe(10, None), Observed::InOrder);
        assert_eq!(sequence.observe(500, Some(Units::of(1))), Observed::InOrder);
        assert_eq!(sequence.observe(501, Some(Units::of(1))), Observed::InOrder);
    }

    #[test]
    fn an_exporter_may_count_what_it_sends_too() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.observe(23, Some(Units::of(23))), Observed::InOrder);
        assert_eq!(sequence.observe(55, Some(Units::of(32))), Observed::InOrder);
        assert_eq!(sequence.observe(87, Some(Units::of(32))), Observed::InOrder);
        assert_eq!(sequence.observe(98, Some(Units::of(11))), Observed::InOrder);
        // One of them is about the exporter, and not counted.
        let units = Units { all: 21, flows: 20 };
        assert_eq!(sequence.observe(118, Some(units)), Observed::InOrder);
        assert_eq!(sequence.observe(150, Some(Units::of(10))), Observed::Gap(22));
    }

    #[test]
    fn a_boot_is_told_from_a_wrap_and_from_a_clock_that_was_set() {
        let mut uptime = Uptime::default();
        assert!(!uptime.observe(u32::MAX - 500, 1_000_000));
        assert!(!uptime.observe(9_499, 1_000_010), "it wrapped");
        assert!(!uptime.observe(10_000, 5_000_000), "the clock was set");
        assert!(!uptime.observe(9_990, 5_000_000), "a straggler");
        assert!(!uptime.observe(1_000_000, 5_000_990));
        assert!(uptime.observe(200, 5_001_000), "it booted");
    }
}
