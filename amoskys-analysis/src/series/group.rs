use serde::{Deserialize, Serialize};

use super::precision::inverse;
use super::tail::TailProbability;

/// Most series of a group.
const MOST: usize = 64;
/// Values beyond are taken as this.
const LARGEST: f64 = 1e100;
/// Added to the diagonal of the correlations: metrics that are copies of each other do not predict with infinite certainty.
const RIDGE: f64 = 1e-3;
/// Deviations and surprises beyond so many standard deviations teach no more than that.
const LIMIT: f64 = 4.0;
/// Weight of a new squared surprise: departures are looked at over about ten rows.
const BLEND: f64 = 0.1;
/// The share of a series' variance that the others must explain before it can depart from them.
const EXPLAINED: f64 = 0.3;
/// Strengths that a series' departures are compared with.
const WINDOW: usize = 1_000;
/// Changes whenever the form of a stored state does. What was stored before there was such a number began with the memory, which is
/// 50 or more.
const LAYOUT: u8 = 2;
/// Conditional means of missing values are found by so many rounds.
const ROUNDS: usize = 4;

/// Settings of a [`SeriesGroup`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct GroupConfig {
    /// Rows over which correlations are learned and forgotten, 50 to 1,000,000. Default 1,000.
    pub memory: u32,
    /// False alarms per row and series, 1e-6 to 0.1. Default 1e-4.
    pub rate: f64,
    /// Rows after an alarm before the next, at most 1,000,000. Default 60.
    pub rest: u32,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            memory: 1_000,
            rate: 1e-4,
            rest: 60,
        }
    }
}

/// Why a group cannot be made, or a row not be taken.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// A group needs two series, and has 64 at most.
    #[error("a group has 2 to 64 series, not {0}")]
    Series(usize),
    /// A setting is out of range.
    #[error("{setting} is {value}, which is out of range")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it was set to.
        value: f64,
    },
    /// The row has another number of values than the group has series.
    #[error("a row has {found} values for {expected} series")]
    Row {
        /// Series of the group.
        expected: usize,
        /// Values of the row.
        found: usize,
    },
}

/// Finds when one metric of a host departs from what its other metrics say it should be.
///
/// The group learns how its series move together, as a covariance that forgets. Each value is predicted from the others of its
/// row, and the error compared with what it usually is. So a load that moves all metrics is no departure, and a metric that
/// stays within its usual range is one if the others have moved without it.
///
/// *Assumes* that relations are about linear and without delay between rows. *Fails* with two series to say which of them
/// departed (the one further from its own mean is named), on relations that only hold at the extremes, and while relations
/// change for good, which takes about a memory to learn. *Costs* time as the square of the number of series (about 2 µs a row
/// of 8), and about 7 kB for each.
///
/// ```
/// use amoskys_analysis::series::{GroupConfig, SeriesGroup};
///
/// let mut group = SeriesGroup::new(3, GroupConfig::default())?;
/// let noise = |n: u32| f64::from(n * 7_919 % 1_013) / 1_013.0;
/// let mut alarms = Vec::new();
/// for n in 0..3_000 {
///     let load = (f64::from(n) / 50.0).sin() + noise(n);
///     let mut row = [load + 0.1 * noise(n + 5), 5.0 * load + 0.5 * noise(n + 11), -load + 0.1 * noise(n + 17)];
///     if n >= 2_500 {
///         row[1] = 2.5; // It does not move any more, at a value it often has.
///     }
///     if let Some(departure) = group.push(&row)?.alarm {
///         alarms.push((n, departure.series));
///     }
/// }
/// assert!(alarms.iter().any(|&(n, series)| (2_500..2_600).contains(&n) && series == 1));
/// # Ok::<(), amoskys_analysis::series::GroupError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct SeriesGroup {
    state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// [`LAYOUT`], so that a state of another form is not taken for one.
    layout: u8,
    config: GroupConfig,
    rows: u64,
    means: Vec<f64>,
    /// Covariances, row by row.
    covariance: Vec<f64>,
    /// The inverse of the correlations, as of when it was computed last; empty before.
    precision: Vec<f64>,
    /// Rows since.
    since: u32,
    members: Vec<Member>,
    /// Rows since the last alarm.
    quiet: u64,
}

/// What is known of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    /// Mean squared surprise of late.
    strength: f64,
    tail: TailProbability,
    /// Rows in a row that were as rare as an alarm.
    rare: u32,
}

/// What a group makes of a row.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GroupReading {
    /// The series that departs most, if that is an alarm.
    pub alarm: Option<Departure>,
    /// For each series, how strongly it departs: its mean squared error of about ten rows, in units of what the others usually
    /// leave unexplained. About 1 where all is well; 0 while unknown, or where the others explain too little.
    pub strengths: Vec<f64>,
}

/// A series that is not what the others say.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Departure {
    /// Which of the group.
    pub series: usize,
    /// Its value.
    pub value: f64,
    /// What the others say.
    pub predicted: f64,
    /// Standard deviation of that prediction.
    pub deviation: f64,
    /// The probability of a departure this strong, as far as recent rows tell.
    pub p_value: f64,
    /// The share of its variance that the others explain.
    pub explained: f64,
}

impl SeriesGroup {
    /// A group of so many series.
    ///
    /// # Errors
    ///
    /// If it is not of 2 to 64 series, or a setting is out of range.
    pub fn new(series: usize, config: GroupConfig) -> Result<Self, GroupError> {
        if !(2..=MOST).contains(&series) {
            return Err(GroupError::Series(series));
        }
        let check = |setting, value: f64, low: f64, high: f64| {
            let fits = (low..=high).contains(&value);
            if fits {
                Ok(())
            } else {
                Err(GroupError::Setting { setting, value })
            }
        };
        check("memory", f64::from(config.memory), 50.0, 1e6)?;
        check("rate", config.rate, 1e-6, 0.1)?;
        check("rest", f64::from(config.rest), 0.0, 1e6)?;
        let member = || Member {
            strength: 1.0,
            tail: TailProbability::new(WINDOW),
            rare: 0,
        };
        Ok(Self {
            state: State {
                layout: LAYOUT,
                config,
                rows: 0,
                means: vec![0.0; series],
                covariance: vec![0.0; series * series],
                precision: Vec::new(),
                since: 0,
                members: std::iter::repeat_with(member).take(series).collect(),
                quiet: u64::MAX,
            },
        })
    }

    /// Takes a row: a value of each series, of about the same time. One that is not finite is missing: nothing is said of its
    /// series, and the others are judged by what they let expect of it. A row with less than two values is left out.
    ///
    /// # Errors
    ///
    /// If it has more values than there are series, or fewer.
    pub fn push(&mut self, row: &[f64]) -> Result<GroupReading, GroupError> {
        let state = &mut self.state;
        let n = state.members.len();
        if row.len() != n {
            return Err(GroupError::Row {
                expected: n,
                found: row.len(),
            });
        }
        state.quiet = state.quiet.saturating_add(1);
        if row.iter().filter(|value| value.is_finite()).count() < 2 {
            return Ok(GroupReading {
                alarm: None,
                strengths: vec![0.0; n],
            });
        }
        let mut row: Vec<f64> = row.iter().map(|value| value.clamp(-LARGEST, LARGEST)).collect();
        let reading = state.judge(&mut row);
        state.learn(&row);
        Ok(reading)
    }

    /// How many series it has.
    #[must_use]
    pub const fn series(&self) -> usize {
        self.state.members.len()
    }
}

impl State {
    fn deviation(&self, series: usize) -> f64 {
        self.covariance[series * self.members.len() + series].sqrt()
    }

    /// Rows before anything is said.
    fn warm_up(&self) -> u64 {
        (u64::from(self.config.memory) / 4).max(10 * self.members.len() as u64)
    }

    /// Says what departs, fills in what is missing, and cuts what would teach too much.
    fn judge(&mut self, row: &mut [f64]) -> GroupReading {
        let n = self.members.len();
        let mut reading = GroupReading {
            alarm: None,
            strengths: vec![0.0; n],
        };
        if self.precision.is_empty() {
            for (series, value) in row.iter_mut().enumerate() {
                if !value.is_finite() {
                    *value = self.means[series];
                }
            }
            return reading;
        }
        let missing: Vec<bool> = row.iter().map(|value| !value.is_finite()).collect();
        let deviations: Vec<f64> = (0..n).map(|series| self.deviation(series)).collect();
        let mut standard: Vec<f64> = (0..n)
            .map(|series| {
                let standard = (row[series] - self.means[series]) / deviations[series];
                if standard.is_finite() { standard } else { 0.0 }
            })
            .collect();
        self.fill(&mut standard, &missing);
        let mut strongest: Option<(f64, f64, Departure)> = None;
        for series in 0..n {
            let own = self.precision[series * n + series];
            // What the others leave unexplained: the conditional variance is the inverse of the precision.
            let explained = 1.0 - 1.0 / own;
            let error = self.product(series, &standard) / own;
            if missing[series] {
                row[series] = self.means[series] + deviations[series] * standard[series];
                continue;
            }
            let surprise = error * own.sqrt();
            let (predicted, deviation) = (
                row[series] - error * deviations[series],
                deviations[series] / own.sqrt(),
            );
            let learned = predicted + surprise.clamp(-LIMIT, LIMIT) * deviation;
            let limit = LIMIT * deviations[series];
            let value = row[series];
            if deviations[series] > 0.0 {
                row[series] = learned.clamp(self.means[series] - limit, self.means[series] + limit);
            }
            if explained < EXPLAINED || self.rows < self.warm_up() {
                continue;
            }
            let member = &mut self.members[series];
            // A single value may be as wrong as it likes; the mean must not remember it for ever.
            member.strength += BLEND * ((surprise * surprise).min(1e4) - member.strength);
            reading.strengths[series] = member.strength;
            let known = member.tail.len() as u64 >= 200;
            let p_value = member.tail.exceedance(member.strength);
            let p_value = p_value.filter(|&p| known && p <= self.config.rate);
            // A departure is not what is usual, or it would hide the next one; unless it lasts.
            member.rare = if p_value.is_some() { member.rare + 1 } else { 0 };
            if p_value.is_none() || member.rare > self.config.memory {
                member.rare = member.rare.min(self.config.memory);
                member.tail.push(member.strength);
            }
            if let Some(p_value) = p_value {
                let departure = Departure {
                    series,
                    value,
                    predicted,
                    deviation,
                    p_value,
                    explained,
                };
                // Equally strong, as in pairs, the one further from its own mean has departed.
                let rank = (member.strength, standard[series].abs());
                let first = strongest.is_none_or(|(strength, own, _)| {
                    rank.0 > 1.05 * strength || (rank.0 * 1.05 >= strength && rank.1 > own)
                });
                if first {
                    strongest = Some((rank.0, rank.1, departure));
                }
            }
        }
        if let Some((_, _, departure)) = strongest
            && self.quiet > u64::from(self.config.rest)
        {
            self.quiet = 0;
            reading.alarm = Some(departure);
        }
        reading
    }

    fn product(&self, series: usize, standard: &[f64]) -> f64 {
        let n = standard.len();
        let row = &self.precision[series * n..(series + 1) * n];
        row.iter().zip(standard).map(|(a, b)| a * b).sum()
    }

    /// Gives what is missing the mean it has given the others.
    fn fill(&self, standard: &mut [f64], missing: &[bool]) {
        if !missing.contains(&true) {
            return;
        }
        let n = standard.len();
        for _ in 0..ROUNDS {
            for series in (0..n).filter(|&series| missing[series]) {
                let own = self.precision[series * n + series];
                standard[series] -= self.product(series, standard) / own;
            }
        }
    }

    fn learn(&mut self, row: &[f64]) {
        let n = self.members.len();
        self.rows = self.rows.saturating_add(1);
        let weight = 1.0 / (self.rows.min(u64::from(self.config.memory)) as f64);
        let before: Vec<f64> = row
            .iter()
            .zip(&self.means)
            .map(|(value, mean)| value - mean)
            .collect();
        for (mean, deviation) in self.means.iter_mut().zip(&before) {
            *mean += weight * deviation;
        }
        for a in 0..n {
            for b in 0..n {
                let known = &mut self.covariance[a * n + b];
                *known += weight * ((1.0 - weight) * before[a] * before[b] - *known);
            }
        }
        self.since += 1;
        // Every n rows, an inversion costs as much as n rows of judging.
        if self.rows >= 2 * n as u64 && self.since as usize >= n {
            self.since = 0;
            if let Some(precision) = self.precision() {
                self.precision = precision;
            }
        }
    }

    fn precision(&self) -> Option<Vec<f64>> {
        let n = self.members.len();
        let deviations: Vec<f64> = (0..n).map(|series| self.deviation(series)).collect();
        let correlation = |at: usize| {
            let (a, b) = (at / n, at % n);
            if a == b {
                return 1.0 + RIDGE;
            }
            let correlation = self.covariance[at] / (deviations[a] * deviations[b]);
            // A series that does not move correlates with nothing.
            if correlation.is_finite() {
                correlation.clamp(-1.0, 1.0)
            } else {
                0.0
            }
        };
        let correlations: Vec<f64> = (0..n * n).map(correlation).collect();
        inverse(&correlations, n)
    }
}

/// Why a stored group cannot be used.
#[derive(Debug, thiserror::Error)]
enum StateError {
    #[error("it cannot be one")]
    Group(#[from] GroupError),
    #[error("its parts do not fit each other")]
    Shape,
    #[error("it was stored by another version")]
    Layout,
}

impl TryFrom<State> for SeriesGroup {
    type Error = StateError;

    fn try_from(state: State) -> Result<Self, Self::Error> {
        if state.layout != LAYOUT {
            return Err(StateError::Layout);
        }
        let n = state.members.len();
        Self::new(n, state.config)?;
        let fits = state.means.len() == n
            && state.covariance.len() == n * n
            && (state.precision.is_empty() || state.precision.len() == n * n);
        if fits {
            Ok(Self { state })
        } else {
            Err(StateError::Shape)
        }
    }
}

impl From<SeriesGroup> for State {
    fn from(group: SeriesGroup) -> Self {
        group.state
    }
}
