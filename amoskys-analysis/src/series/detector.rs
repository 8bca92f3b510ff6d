use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::alarm::Alarms;
use super::change::{Change, ChangeDetector};
use super::config::{AlarmRule, SeriesConfig, SeriesConfigError};
use super::extremes::Extremes;
use super::forecast::Forecast;
use super::novelty::Novelty;
use super::presence::Presence;
use super::tail::TailProbability;

/// Blocks per horizon that shapes are looked at in, and blocks per shape. Several of both, because any one of them is lucky on
/// some series and not on others.
const SCALES: [u32; 3] = [60, 100, 160];
const SHAPES: [usize; 3] = [4, 10, 16];
/// The same for one shape of half a horizon, which notices what fails to happen, and what that is worth.
const LONG_SCALE: u32 = 30;
const LONG_SHAPE: usize = 16;
const LONG_WEIGHT: f64 = 0.3;
/// Added to ratios before their logarithms are averaged: one shape that is perfectly usual does not veto the others.
const OFFSET: f64 = 0.05;
/// What a value outside the known range by all of it adds.
const EXTREME_WEIGHT: f64 = 8.0;
/// Horizons for which extremes are remembered, at least.
const EXTREME_SPAN: u64 = 20;
/// Blocks per horizon and number of them that p-values rest on.
const TAIL_SCALE: u32 = 160;
const TAIL_WINDOW: usize = 1_000;
/// Values beyond are taken as this: their sums stay finite.
const LARGEST: f64 = 1e100;
/// Points between false alarms about the level, in horizons.
const CHANGE_HORIZONS: f64 = 20.0;
/// Changes whenever the form of a stored state does. What was stored before there was such a number began with the horizon, which
/// is 16 or more.
const LAYOUT: u8 = 2;

/// Finds what is unlike anything before in one series of numbers, as they come.
///
/// A point is surprising if the shape that ends with it was never seen before, on several scales of time, compared with how new
/// shapes usually are in this series; or if its value lies outside everything before. Surprises that follow each other are one
/// alarm, and a series that often alarms must surprise more. See the [module](super) for what it assumes, and when it fails.
///
/// It is causal: a reading depends on the points up to its own. The state is bounded, and can be stored and read back with
/// serde, in any format that keeps every bit of a float and infinities (postcard does, JSON does not): what follows is the
/// same, bit for bit.
///
/// ```
/// use amoskys_analysis::series::{SeriesConfig, SeriesDetector};
/// use amoskys_core::Timestamp;
///
/// let mut detector = SeriesDetector::new(SeriesConfig::default())?;
/// let mut alarms = Vec::new();
/// for n in 0..3_000_i64 {
///     let wave = (n as f64 / 40.0).sin();
///     let value = if n == 2_000 { 5.0 } else { wave };
///     let reading = detector.push(Timestamp::from_secs(300 * n), value);
///     if reading.alarm.is_some() {
///         alarms.push(n);
///     }
/// }
/// assert_eq!(alarms, [2_000]);
/// # Ok::<(), amoskys_analysis::series::SeriesConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct SeriesDetector {
    state: State,
}

/// Everything, in the form in which it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// [`LAYOUT`], so that a state of another form is not taken for one.
    layout: u8,
    config: SeriesConfig,
    scales: Vec<Novelty>,
    long: Novelty,
    extremes: Extremes,
    alarms: Alarms,
    forecast: Forecast,
    changes: ChangeDetector,
    presence: Presence,
    tail: TailProbability,
    /// The most surprising point of the current block, and its number of points.
    block: (f64, u32),
    /// Surprise by shapes, held until a block ends.
    shape: f64,
    long_shape: f64,
    values: u64,
    missing: u64,
    /// Points since the level changed.
    since_change: u64,
}

/// What the detector makes of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// How surprising it is in a series that alarms as often as this one: an alarm at [`AlarmRule::Threshold`] and above.
    pub score: f64,
    /// How surprising it is: the score without fatigue. 1 is of the order of an alarm.
    pub surprise: f64,
    /// What the surprise is made of.
    pub parts: SurpriseParts,
    /// The probability that the most surprising point among `horizon / 160` is this surprising, learned from the last 1,000
    /// such stretches and extrapolated. `None` during the first 1.5 horizons.
    pub p_value: Option<f64>,
    /// Why it is an alarm, if it is one.
    pub alarm: Option<Cause>,
    /// What was predicted for it, from the points before. `None` at the start.
    pub predicted: Option<f64>,
    /// Lowest and highest value expected, to cover [`SeriesConfig::coverage`] of all points in the long run. `None` while it
    /// cannot be said.
    pub expected: Option<(f64, f64)>,
    /// A change of level that was found with this point. It may have begun earlier, and is not an alarm by itself. Seasons,
    /// once found, are no changes.
    pub change: Option<Change>,
    /// Whether the point had no value: it was not finite.
    pub missing: bool,
    /// Whether its time was before that of the point before. Its value counts like any other.
    pub clock_stepped: bool,
}

/// What a surprise is made of: it is the sum of `shape` and `extreme`, or `long_shape` if that is more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SurpriseParts {
    /// How new the shape of the latest tenth of a horizon is, as a multiple of what is usual, over several scales of time.
    pub shape: f64,
    /// How far the value is outside all before, as a share of their range, weighted.
    pub extreme: f64,
    /// How new the shape of the latest half horizon is, weighted: something fails to happen.
    pub long_shape: f64,
}

/// Why a point is an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// A value outside everything of late: a spike, or the first point of a step.
    Extreme,
    /// The level has changed within the last tenth of a horizon.
    LevelChange,
    /// A shape that is new: a usual value at an unusual time, a rhythm that is lost.
    Shape,
    /// A long stretch without what usually happens.
    Absence,
    /// No values for much longer than ever of late. The reading tells by `missing` whether they have come back.
    Silence,
}

impl Cause {
    /// A word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Extreme => "extreme value",
            Self::LevelChange => "level change",
            Self::Shape => "new shape",
            Self::Absence => "missing pattern",
            Self::Silence => "silence",
        }
    }
}

impl SeriesDetector {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(config: SeriesConfig) -> Result<Self, SeriesConfigError> {
        config.validate()?;
        let horizon = config.horizon.get();
        let points = |scale: u32| (horizon / scale).max(1) as usize;
        let novelty = |&scale: &u32| Novelty::new(points(scale), &SHAPES);
        let state = State {
            layout: LAYOUT,
            config,
            scales: SCALES.iter().map(novelty).collect(),
            long: Novelty::new(points(LONG_SCALE), &[LONG_SHAPE]),
            extremes: Extremes::new(u64::from(horizon / 4), EXTREME_SPAN * u64::from(horizon)),
            alarms: Alarms::new(f64::from(horizon)),
            forecast: Forecast::new(config.coverage),
            changes: ChangeDetector::new(CHANGE_HORIZONS * f64::from(horizon)),
            presence: Presence::new(),
            tail: TailProbability::new(TAIL_WINDOW),
            block: (0.0, 0),
            shape: 0.0,
            long_shape: 0.0,
            values: 0,
            missing: 0,
            since_change: u64::MAX,
        };
        Ok(Self { state })
    }

    /// Takes the next point, and says what it makes of it.
    ///
    /// A value that is not finite is missing: it changes nothing but what is known about silence. Values beyond ±1e100 are
    /// taken as that. Points are taken in the order they come; their times tell only about silence.
    pub fn push(&mut self, time: Timestamp, value: f64) -> Reading {
        let state = &mut self.state;
        let arrival = state.presence.push(time, value.is_finite());
        let silence = arrival.silence.map(|_| Cause::Silence);
        state.alarms.tick();
        if !value.is_finite() {
            state.missing += 1;
            return Reading {
                alarm: silence,
                missing: true,
                clock_stepped: arrival.stepped,
                ..Reading::default()
            };
        }
        state.values += 1;
        let value = value.clamp(-LARGEST, LARGEST);
        let expected = state.forecast.expected();
        let change = state.level(value);
        let parts = state.parts(value);
        let surprise = (parts.shape + parts.extreme).max(parts.long_shape);
        let p_value = state.p_value(surprise);
        state.forecast.push(value);
        let score = state.alarms.score(surprise);
        let alarming = match state.config.alarm {
            AlarmRule::Threshold(threshold) => score >= threshold,
            AlarmRule::Rate(rate) => p_value.is_some_and(|p| p <= rate / f64::from(TAIL_SCALE)),
        };
        let alarm = (alarming && state.alarms.may(surprise)).then(|| {
            state.alarms.raise(surprise);
            state.cause(parts)
        });
        Reading {
            score,
            surprise,
            parts,
            p_value,
            alarm: alarm.or(silence),
            predicted: expected.map(|expected| expected.value),
            expected: expected.and_then(|expected| expected.range),
            change,
            missing: false,
            clock_stepped: arrival.stepped,
        }
    }

    /// Tells that nothing has come up to this time; true if that is an unusual [silence](Cause::Silence), the first time it is.
    pub fn absent(&mut self, time: Timestamp) -> bool {
        self.state.presence.push(time, false).silence.is_some()
    }

    /// Its settings.
    #[must_use]
    pub const fn config(&self) -> &SeriesConfig {
        &self.state.config
    }

    /// Points of a season, if the series has one.
    #[must_use]
    pub fn period(&self) -> Option<usize> {
        self.state.forecast.period()
    }

    /// How many points had a value, and how many had none.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        (self.state.values, self.state.missing)
    }

    /// How often the time went backward.
    #[must_use]
    pub const fn clock_steps(&self) -> u64 {
        self.state.presence.clock_steps()
    }
}

impl State {
    fn parts(&mut self, value: f64) -> SurpriseParts {
        let mut ended = false;
        for scale in &mut self.scales {
            ended |= scale.push(value);
        }
        if ended {
            let ratios = self.scales.iter().flat_map(Novelty::ratios);
            let sum: f64 = ratios.map(|ratio| (ratio + OFFSET).ln()).sum();
            let count: usize = self.scales.iter().map(Novelty::len).sum();
            self.shape = (sum / count as f64).exp();
        }
        if self.long.push(value) {
            self.long_shape = LONG_WEIGHT * self.long.ratios().fold(0.0, f64::max);
        }
        SurpriseParts {
            shape: self.shape,
            extreme: EXTREME_WEIGHT * self.extremes.push(value),
            long_shape: self.long_shape,
        }
    }

    /// Looks for changes of level in what no season explains.
    fn level(&mut self, value: f64) -> Option<Change> {
        self.since_change = self.since_change.saturating_add(1);
        let season = self.forecast.a_period_ago();
        let change = self.changes.push(value - season.unwrap_or(0.0));
        if change.is_some() {
            self.since_change = 0;
        }
        change
    }

    /// What the surprise is worth among the most surprising points of late, before it becomes one of them.
    fn p_value(&mut self, surprise: f64) -> Option<f64> {
        let horizon = u64::from(self.config.horizon.get());
        // Shapes need a past before their newness means anything.
        if self.values <= horizon {
            return None;
        }
        let p = (2 * self.values > 3 * horizon)
            .then(|| self.tail.exceedance(surprise))
            .flatten();
        self.block = (self.block.0.max(surprise), self.block.1 + 1);
        if self.block.1 >= (self.config.horizon.get() / TAIL_SCALE).max(1) {
            self.tail.push(self.block.0);
            self.block = (0.0, 0);
        }
        p
    }

    fn cause(&self, parts: SurpriseParts) -> Cause {
        if parts.long_shape > parts.shape + parts.extreme {
            Cause::Absence
        } else if parts.extreme >= parts.shape {
            Cause::Extreme
        } else if self.since_change <= u64::from(self.config.horizon.get() / 10) {
            Cause::LevelChange
        } else {
            Cause::Shape
        }
    }
}

/// Why a stored detector cannot be used.
#[derive(Debug, thiserror::Error)]
enum StateError {
    #[error("a setting is out of range")]
    Config(#[from] SeriesConfigError),
    #[error("its parts do not fit its settings")]
    Shape,
    #[error("it was stored by another version")]
    Layout,
}

impl TryFrom<State> for SeriesDetector {
    type Error = StateError;

    fn try_from(state: State) -> Result<Self, Self::Error> {
        if state.layout != LAYOUT {
            return Err(StateError::Layout);
        }
        let fresh = Self::new(state.config)?.state;
        let fits = state.scales.len() == fresh.scales.len()
            && state
                .scales
                .iter()
                .zip(&fresh.scales)
                .all(|(stored, fresh)| stored.fits(fresh))
            && state.long.fits(&fresh.long)
            && state.extremes.fits(&fresh.extremes);
        if fits {
            Ok(Self { state })
        } else {
            Err(StateError::Shape)
        }
    }
}

impl From<SeriesDetector> for State {
    fn from(detector: SeriesDetector) -> Self {
        detector.state
    }
}

/// The points of which a detector with this horizon and [`AlarmRule::Threshold`] would have made alarms, from the surprise of
/// each point of one series (0 for missing ones): another threshold is tried without going over the series again.
///
/// ```
/// use amoskys_analysis::series::alarms_at;
///
/// let mut surprises = vec![0.1; 500];
/// (surprises[100], surprises[110], surprises[400]) = (2.0, 2.5, 1.5);
/// // The second is part of the first.
/// assert_eq!(alarms_at(&surprises, 100, 1.2), [100, 400]);
/// ```
#[must_use]
pub fn alarms_at(surprises: &[f64], horizon: u32, threshold: f64) -> Vec<usize> {
    let mut stage = Alarms::new(f64::from(horizon));
    let mut alarms = Vec::new();
    for (at, &surprise) in surprises.iter().enumerate() {
        stage.tick();
        if stage.score(surprise) >= threshold && stage.may(surprise) {
            stage.raise(surprise);
            alarms.push(at);
        }
    }
    alarms
}
