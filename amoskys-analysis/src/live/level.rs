use serde::{Deserialize, Serialize};

/// By how much an unusual spell lowers the level, in logarithms: by two fifths.
const STEP: f64 = 0.5;
/// How low it gets: a thousandth of what was asked for.
const LOWEST: f64 = -6.9;

/// Keeps a share of false alarms where p-values promise too much: the level below which a p-value is unusual falls with each
/// one, and rises a little with each that is not (adaptive conformal inference: Gibbs and Candès, 2021, in logarithms).
///
/// Windows of one host or service depend on each other, and one that was not seen in training is like none of those: the share of
/// entities that alarm can be many times that of the windows a model was calibrated on. What is counted is an entity's spell, not
/// its windows, so that many windows of one entity are one alarm.
///
/// Over T spells at most `a·T + (6.9 + 0.5) / 0.5` are unusual, where `a` is the share asked for, unless p-values are below a
/// thousandth of it: those always are. So an intruder's are told however many false alarms there were before, if they are far out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Level {
    /// Logarithm of the level, as a share of the one asked for: 0 at most.
    offset: f64,
}

impl Level {
    /// What a p-value has to be multiplied with before it is compared with the share asked for: 1 at least.
    pub(super) fn strictness(self) -> f64 {
        (-self.offset).exp()
    }

    /// Notes part of a spell, which began an alarm or did not.
    pub(super) fn note(&mut self, share: f64, part: f64, alarm: bool) {
        let alarms = if alarm { 1.0 } else { 0.0 };
        self.offset = (self.offset + STEP * (share * part - alarms)).clamp(LOWEST, 0.0);
    }

    /// Whether it can be one.
    pub(super) fn is_valid(self) -> bool {
        (LOWEST..=0.0).contains(&self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alarms among so many spells whose p-values fall below `p` in a share of `p.powf(power)`.
    fn alarms(spells: u64, share: f64, power: f64) -> (u64, Level) {
        let (mut level, mut count) = (Level::default(), 0);
        for n in 0..spells {
            // Evenly spread, in an order of no rule.
            let uniform = ((n * 2_654_435_761) % 1_000_003) as f64 / 1_000_003.0;
            let p = uniform.powf(1.0 / power);
            let alarm = p * level.strictness() < share;
            count += u64::from(alarm);
            level.note(share, 1.0, alarm);
        }
        (count, level)
    }

    #[test]
    fn a_promise_that_is_broken_ninefold_is_kept() {
        // The share of p-values below 0.01 is 0.087, as measured on services.
        let power = 0.087_f64.ln() / 0.01_f64.ln();
        let (count, level) = alarms(100_000, 0.01, power);
        assert!((900..=1_020).contains(&count), "{count}");
        assert!(level.strictness() > 5.0);
    }

    #[test]
    fn a_promise_that_is_kept_is_left_alone() {
        let (count, _) = alarms(100_000, 0.01, 1.0);
        assert!((700..=1_000).contains(&count), "{count}");
        let (count, level) = alarms(100_000, 0.01, 1.5);
        assert!(count <= 110 && level.strictness() < 2.0, "{count}");
    }

    #[test]
    fn what_is_far_out_is_told_whatever_came_before() {
        let mut level = Level::default();
        (0..10_000).for_each(|_| level.note(0.001, 1.0, true));
        assert!(level.is_valid() && 9e-7 * level.strictness() < 0.001);
        assert!(2e-6 * level.strictness() > 0.001);
    }
}
