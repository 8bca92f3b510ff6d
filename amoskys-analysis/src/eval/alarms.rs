use super::tied_groups;

/// What alarms above a threshold were worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Anomalies with an alarm.
    pub found: u64,
    /// Anomalies without.
    pub missed: u64,
    /// Other rows with an alarm.
    pub false_alarms: u64,
    /// Other rows without.
    pub quiet: u64,
}

impl Alarms {
    /// Counts rows by their label and whether their score is above the threshold. A score that is not a number raises no
    /// alarm.
    ///
    /// # Panics
    ///
    /// If there are more scores than labels, or fewer.
    #[must_use]
    pub fn count(scores: &[f64], labels: &[bool], threshold: f64) -> Self {
        assert_eq!(scores.len(), labels.len(), "each score needs a label");
        let mut alarms = Self::default();
        for (score, label) in scores.iter().zip(labels) {
            *match (label, *score > threshold) {
                (true, true) => &mut alarms.found,
                (true, false) => &mut alarms.missed,
                (false, true) => &mut alarms.false_alarms,
                (false, false) => &mut alarms.quiet,
            } += 1;
        }
        alarms
    }

    /// Share of the rows that were judged rightly. `None` if there are no rows.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        let right = self.found + self.quiet;
        share(right, right + self.missed + self.false_alarms)
    }

    /// Share of the anomalies that were found. `None` if there are none.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        share(self.found, self.found + self.missed)
    }

    /// Share of the alarms that were right. `None` if there are none.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        share(self.found, self.found + self.false_alarms)
    }

    /// Share of the other rows with an alarm. `None` if there are none.
    #[must_use]
    pub fn false_positive_rate(&self) -> Option<f64> {
        share(self.false_alarms, self.false_alarms + self.quiet)
    }

    /// The harmonic mean of precision and recall. `None` if there are neither anomalies nor alarms.
    #[must_use]
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.found, 2 * self.found + self.missed + self.false_alarms)
    }
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// The lowest share of other rows at or above a threshold that finds at least this share of the anomalies. `None` if there are no
/// anomalies, or nothing else.
///
/// ```
/// use amoskys_analysis::eval::false_positive_rate_at;
///
/// let (scores, labels) = ([0.9, 0.8, 0.7, 0.1], [true, false, true, false]);
/// assert_eq!(false_positive_rate_at(&scores, &labels, 0.5), Some(0.0));
/// assert_eq!(false_positive_rate_at(&scores, &labels, 0.95), Some(0.5));
/// ```
///
/// # Panics
///
/// If there are more scores than labels, or fewer.
#[must_use]
pub fn false_positive_rate_at(scores: &[f64], labels: &[bool], recall: f64) -> Option<f64> {
    let groups = tied_groups(scores, labels);
    let (anomalies, others) = groups
        .iter()
        .fold((0, 0), |(a, o), group| (a + group.0, o + group.1));
    let needed = recall * anomalies as f64;
    let (mut found, mut alarms) = (0, 0);
    for (anomalies, others) in groups {
        if found as f64 >= needed {
            break;
        }
        found += anomalies;
        alarms += others;
    }
    (anomalies > 0).then(|| share(alarms, others)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_a_known_case() {
        let (scores, labels) = ([0.9, 0.5, 0.8, 0.1, f64::NAN], [true, true, false, false, true]);
        let alarms = Alarms::count(&scores, &labels, 0.5);
        assert_eq!(
            (alarms.found, alarms.missed, alarms.false_alarms, alarms.quiet),
            (1, 2, 1, 1)
        );
        assert_eq!(alarms.accuracy(), Some(0.4));
        assert_eq!(
            (alarms.precision(), alarms.false_positive_rate()),
            (Some(0.5), Some(0.5))
        );
        assert_eq!((alarms.recall(), alarms.f1()), (Some(1.0 / 3.0), Some(0.4)));
        assert_eq!(Alarms::default().f1(), None);
    }

    #[test]
    fn rates_at_a_recall() {
        let (scores, labels) = ([3.0, 3.0, 2.0, 1.0], [true, false, true, false]);
        let rate = |recall| false_positive_rate_at(&scores, &labels, recall);
        assert_eq!(
            (rate(0.0), rate(0.5), rate(1.0)),
            (Some(0.0), Some(0.5), Some(0.5))
        );
        assert_eq!(false_positive_rate_at(&scores, &[true; 4], 0.5), None);
        assert_eq!(false_positive_rate_at(&scores, &[false; 4], 0.5), None);
    }
}
