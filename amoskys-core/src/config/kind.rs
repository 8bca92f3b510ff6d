//! Kinds of values: how they are written, and what is allowed.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The value of a setting, whatever its type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Time(Duration),
    Number(f64),
    Text(String),
    Path(PathBuf),
    Switch(bool),
}

/// What a setting takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A TCP or UDP port.
    Port,
    /// A whole number.
    Count { least: u64, most: u64 },
    /// A number of bytes.
    Bytes { least: u64, most: u64 },
    /// A length of time.
    Time { least: Duration, most: Duration },
    /// A number.
    Number { least: f64, most: f64 },
    /// A name.
    Name { most_bytes: usize },
    /// One of some words.
    Choice(&'static [&'static str]),
    /// `HOST:PORT`.
    Address,
    /// A directory that must exist.
    Directory,
    /// A directory that is made if it does not exist.
    NewDirectory,
    /// A file that must exist.
    File,
    /// A file that is made if it does not exist.
    NewFile,
    /// On or off.
    Switch,
}

impl Kind {
    /// Reads a value, whether it is allowed or not; `None` if it is of another kind.
    pub(super) fn parse(self, text: &str) -> Option<Value> {
        let text = text.trim();
        match self {
            Self::Port | Self::Count { .. } => text.parse().ok().map(Value::Whole),
            Self::Bytes { .. } => parse_bytes(text).map(Value::Whole),
            Self::Time { .. } => parse_time(text).map(Value::Time),
            Self::Number { .. } => text.parse().ok().map(Value::Number),
            Self::Name { .. } | Self::Choice(_) | Self::Address => Some(Value::Text(text.to_owned())),
            Self::Directory | Self::NewDirectory | Self::File | Self::NewFile => {
                Some(Value::Path(PathBuf::from(text)))
            }
            Self::Switch => match text {
                "true" | "yes" => Some(Value::Switch(true)),
                "false" | "no" => Some(Value::Switch(false)),
                _ => None,
            },
        }
    }

    /// Whether a value of this kind is allowed.
    pub(super) fn allows(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Port, Value::Whole(port)) => (1..=65_535).contains(port),
            (Self::Count { least, most } | Self::Bytes { least, most }, Value::Whole(value)) => {
                (least..=most).contains(value)
            }
            (Self::Time { least, most }, Value::Time(value)) => (least..=most).contains(value),
            (Self::Number { least, most }, Value::Number(value)) => (least..=most).contains(value),
            (Self::Name { most_bytes }, Value::Text(name)) => {
                !name.is_empty() && name.len() <= most_bytes && !name.chars().any(char::is_control)
            }
            (Self::Choice(words), Value::Text(word)) => words.contains(&word.as_str()),
            (Self::Address, Value::Text(address)) => is_address(address),
            (Self::Directory, Value::Path(path)) => path.is_dir(),
            (Self::NewDirectory, Value::Path(path)) => may_be_directory(path),
            (Self::File, Value::Path(path)) => path.is_file(),
            (Self::NewFile, Value::Path(path)) => {
                path.file_name().is_some() && (path.is_file() || !path.exists())
            }
            (Self::Switch, Value::Switch(_)) => true,
            _ => false,
        }
    }

    /// What is allowed, for people.
    pub(super) fn allowed(self) -> String {
        match self {
            Self::Port => "1 to 65535".to_owned(),
            Self::Count { least, most } => format!("{least} to {most}"),
            Self::Bytes { least, most } => format!("{} to {}", show_bytes(least), show_bytes(most)),
            Self::Time { least, most } => format!("{} to {}", show_time(least), show_time(most)),
            Self::Number { least, most } => format!("{least} to {most}"),
            Self::Name { most_bytes } => {
                format!("1 to {most_bytes} bytes of text without control characters")
            }
            Self::Choice(words) => words.join(" or "),
            Self::Address => "HOST:PORT, with a port from 1 to 65535".to_owned(),
            Self::Directory => "a directory that exists".to_owned(),
            Self::NewDirectory => "a directory, or a path where nothing is yet".to_owned(),
            Self::File => "a file that exists".to_owned(),
            Self::NewFile => "a file, or a path where nothing is yet".to_owned(),
            Self::Switch => "true or false".to_owned(),
        }
    }

    /// The value as it may be written.
    pub(super) fn show(self, value: &Value) -> String {
        match (self, value) {
            (Self::Bytes { .. }, Value::Whole(bytes)) => show_bytes(*bytes),
            (_, Value::Whole(value)) => value.to_string(),
            (_, Value::Time(time)) => show_time(*time),
            (_, Value::Number(value)) => value.to_string(),
            (_, Value::Text(text)) => text.clone(),
            (_, Value::Path(path)) => path.display().to_string(),
            (_, Value::Switch(on)) => on.to_string(),
        }
    }
}

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "" => 1,
        unit => BYTE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn show_bytes(bytes: u64) -> String {
    let binary = BYTE_UNITS[..4]
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    binary.map_or_else(
        || format!("{bytes}B"),
        |(unit, factor)| format!("{}{unit}", bytes / factor),
    )
}

const TIME_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
];

/// A number and a unit; without a unit they are seconds.
fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let unit = if unit.is_empty() { "s" } else { unit };
    let nanos = TIME_UNITS.iter().find(|(name, _)| *name == unit)?.1;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(nanos).map(Duration::from_nanos);
    }
    let number = number.parse::<f64>().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "the factors are exact")]
    Duration::try_from_secs_f64(number * (nanos as f64 / 1e9)).ok()
}

fn show_time(time: Duration) -> String {
    let nanos = time.as_nanos();
    let unit = TIME_UNITS
        .iter()
        .find(|(_, unit)| nanos >= u128::from(*unit) && nanos.is_multiple_of((*unit).into()));
    match unit {
        _ if nanos == 0 => "0s".to_owned(),
        Some((name, unit)) => format!("{}{name}", nanos / u128::from(*unit)),
        None => format!("{}s", time.as_secs_f64()),
    }
}

/// Parts a number from the letters behind it.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..end].trim_end(), &text[end..])
}

fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_good = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(|c: char| ":/@[]".contains(c) || c.is_whitespace()),
    };
    host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn may_be_directory(path: &Path) -> bool {
    !path.as_os_str().is_empty() && (path.is_dir() || !path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_they_are_shown() {
        for text in ["10ms", "1s", "90s", "30min", "2h", "7d", "250us", "0s"] {
            let shown = show_time(parse_time(text).unwrap());
            assert_eq!(parse_time(&shown), parse_time(text), "{text} as {shown}");
        }
        for text in ["0B", "1B", "1023B", "256KiB", "16MiB", "4GiB", "3TiB"] {
            assert_eq!(show_bytes(parse_bytes(text).unwrap()), text);
        }
        assert_eq!(parse_time("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_time("0.5 min"), Some(Duration::from_secs(30)));
        assert_eq!(parse_bytes("2 MB"), Some(2_000_000));
    }

    #[test]
    fn what_is_no_time_or_size_is_refused() {
        for text in [
            "",
            "s",
            "-1",
            "-1s",
            "1 fortnight",
            "1e400",
            "NaN",
            "inf",
            "99999999999d",
            "1s1",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        for text in [
            "",
            "B",
            "-1",
            "1.5KiB",
            "1k",
            "99999999999999999999",
            "99999999TiB",
        ] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for good in ["localhost:1", "10.0.0.1:65535", "[::1]:50051", "bus.example:443"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            ":1",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "::1:1",
            "[x]:1",
            "http://host:1",
            "a b:1",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
