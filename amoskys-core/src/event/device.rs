/// Whether a device is reachable and healthy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceStatus {
    /// Its state.
    pub state: DeviceState,
    /// Address it was reached at; empty if not reached.
    pub address: String,
    /// Make and model, as far as known.
    pub model: String,
    /// Firmware or operating system, as far as known.
    pub firmware: String,
    /// Time since it started, in seconds, if it says so.
    pub uptime_seconds: Option<u64>,
    /// Why it is in this state, for people.
    pub detail: String,
}

/// State of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceState {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// Reached and well.
    Up,
    /// Reached, but it reports a fault.
    Degraded,
    /// Not reached.
    Down,
}
