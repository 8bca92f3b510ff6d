//! Metrics: what is unusual in a series of numbers as it comes, and in several series of one host together.
//!
//! | part | what it does | assumes | fails |
//! |---|---|---|---|
//! | [`SeriesDetector`] | tells points of one series that are unlike all before, and why | that what is normal has been seen within about ten horizons | on an anomaly in the first half horizon; on one that lasts many horizons, which becomes normal; with a horizon far from the time that things take |
//! | [`SeriesGroup`] | tells which series departs from what the others of its host say | linear relations without delay | with two series, to say which |
//! | [`MetricDetection`] | both for every metric among the events, as an [`Analyzer`](amoskys_core::Analyzer) | | |
//! | [`Seasonality`] | finds a period by itself | three similar periods | where the period changes |
//! | [`ChangeDetector`] | tells changes of level, at a stated rate of false ones | short memory between changes | on seasons and slow drifts |
//! | [`TailProbability`] | how rare a number is, beyond what was seen | that the future is like the window | while levels change |
//! | [`PredictionInterval`] | a range that covers a stated share of what comes, of any series | | says nothing about single points |
//!
//! All of them are causal, take each point once, have a bounded state that serde stores and restores bit for bit, and are the
//! same on each run. A format that stores them must keep infinities: postcard does, JSON does not.
//!
//! # The horizon
//!
//! The one setting that matters is the [horizon](SeriesConfig::horizon): about how many points the longest anomaly takes.
//! Shapes of a tenth of it are compared with all that were seen in the last six to seventeen horizons. On the labelled series
//! that the detector was measured on, half the horizon or twice as much costs several points of the score.
//!
//! # Which threshold
//!
//! [`AlarmRule::Threshold`] of 1 is the released one. [`alarms_at`] tells from the surprises of a series what another would
//! have raised. [`AlarmRule::Rate`] asks for a rate of false alarms instead, and keeps it on noise.

mod alarm;
mod change;
mod config;
mod detector;
mod extremes;
mod forecast;
mod group;
mod interval;
mod metrics;
mod novelty;
mod packed;
mod precision;
mod presence;
mod ranked;
mod rate;
mod season;
mod sorted;
mod strength;
mod tail;
mod verdict;

pub use self::change::{Change, ChangeDetector};
pub use self::config::{AlarmRule, SeriesConfig, SeriesConfigError};
pub use self::detector::{Cause, Reading, SeriesDetector, SurpriseParts, alarms_at};
pub use self::group::{Departure, GroupConfig, GroupError, GroupReading, SeriesGroup};
pub use self::interval::PredictionInterval;
pub use self::metrics::{MetricDetection, MetricsConfig, MetricsConfigError};
pub use self::season::Seasonality;
pub use self::strength::alarm_probability;
pub use self::tail::TailProbability;

/// Of the evidence in verdicts about metrics.
pub(crate) fn schema_digest() -> amoskys_core::Digest {
    self::verdict::schema().digest()
}
