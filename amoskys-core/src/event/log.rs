/// A line of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRecord {
    /// How serious its writer found it.
    pub level: LogLevel,
    /// Facility, unit or logger that wrote it.
    pub facility: String,
    /// Program name; empty if not stated.
    pub program: String,
    /// Process id; 0 if not stated.
    pub pid: u32,
    /// The text, without the header fields above.
    pub message: String,
}

/// Severity of a log line, by the numbers of RFC 5424 section 6.2.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// 0: the system is unusable.
    Emergency,
    /// 1: action must be taken at once.
    Alert,
    /// 2: critical conditions.
    Critical,
    /// 3: error conditions.
    Error,
    /// 4: warning conditions.
    Warning,
    /// 5: normal but significant.
    Notice,
    /// 6: informational.
    #[default]
    Info,
    /// 7: debugging.
    Debug,
}
