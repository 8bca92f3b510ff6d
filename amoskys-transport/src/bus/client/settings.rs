use std::time::Duration;

use amoskys_core::config::BusSettings;

use super::options::ConnectOptions;

impl ConnectOptions {
    /// As patient as these settings say: `retry_timeout` for a connection to be made, and pauses that double
    /// `retry_max` times, from 200 ms on.
    #[must_use]
    pub fn settings(self, settings: &BusSettings) -> Self {
        let first = Duration::from_millis(200);
        let doublings = 1_u32.checked_shl(settings.retry_max.min(20)).unwrap_or(1);
        self.connect_timeout(settings.retry_timeout)
            .retry(first, first * doublings)
    }
}
