use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// Settings of a [`SeriesDetector`](super::SeriesDetector). The default is for a metric that is read every minute or every few
/// minutes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SeriesConfig {
    /// Points of about the longest stretch that an anomaly is expected to take, at least 16; the detector looks at shapes of a
    /// tenth of it, and says little before it is over. Default 600: two days of a metric read every five minutes.
    pub horizon: NonZeroU32,
    /// When a point is an alarm. Default [`AlarmRule::Threshold`] of 1.
    pub alarm: AlarmRule,
    /// Share of points that the [expected range](super::Reading::expected) shall cover, between 0.5 and 0.9999. Default 0.99.
    pub coverage: f64,
}

/// When a point is an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmRule {
    /// At this score and above. It adapts to a series: each alarm makes the next one harder. Of the order of 1; lower for more
    /// alarms.
    Threshold(f64),
    /// So many false alarms per horizon, as far as the recent past is like the future: what rarely happens is extrapolated by
    /// an extreme-value distribution. Between 0.0001 and 5. Nothing is said before 1.5 horizons.
    Rate(f64),
}

impl Default for SeriesConfig {
    fn default() -> Self {
        Self {
            horizon: NonZeroU32::new(600).unwrap_or(NonZeroU32::MIN),
            alarm: AlarmRule::Threshold(1.0),
            coverage: 0.99,
        }
    }
}

/// A setting is out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[error("{setting} is {value}, but must be {range}")]
pub struct SeriesConfigError {
    /// Name of the setting.
    pub setting: &'static str,
    /// What it was set to.
    pub value: f64,
    /// What it may be.
    pub range: &'static str,
}

impl SeriesConfig {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn validate(&self) -> Result<(), SeriesConfigError> {
        let check = |setting, value: f64, low: f64, high: f64, range| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(SeriesConfigError {
                    setting,
                    value,
                    range,
                })
            }
        };
        let horizon = f64::from(self.horizon.get());
        check("horizon", horizon, 16.0, 1e6, "between 16 and 1000000")?;
        check("coverage", self.coverage, 0.5, 0.9999, "between 0.5 and 0.9999")?;
        match self.alarm {
            AlarmRule::Threshold(threshold) => check(
                "alarm.threshold",
                threshold,
                1e-6,
                1e6,
                "between 0.000001 and 1000000",
            ),
            AlarmRule::Rate(rate) => check("alarm.rate", rate, 1e-4, 5.0, "between 0.0001 and 5"),
        }
    }
}
