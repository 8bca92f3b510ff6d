use super::verdict::Severity;

/// A condition that a device raised or cleared by itself (an SNMP trap, a monitor's alarm).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alarm {
    /// The device's name of the condition.
    pub code: String,
    /// Raised or cleared.
    pub state: AlarmState,
    /// How serious the device says it is.
    pub severity: Severity,
    /// The device's text.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmState {
    /// It holds from now on.
    #[default]
    Raised,
    /// It holds no longer.
    Cleared,
}
