//! Numbers, times and foreign text, in the form people read them.

use std::fmt::Write as _;
use std::time::Duration;

use amoskys_core::Timestamp;

/// A count with thousands separated: `12,060`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun, in the singular for one: `1 flow`, `12 flows`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes in decimal units: `3.1 MB`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(super) fn bytes(number: u64) -> String {
    let mut rest = number as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if rest < 999.5 {
            let decimals = usize::from(unit != "B" && rest < 9.95);
            return format!("{rest:.decimals$} {unit}");
        }
        rest /= 1000.0;
    }
    format!("{rest:.1} PB")
}

/// A span of time in its two largest units: `10 min 4 s`.
pub(super) fn duration(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0 if span.is_zero() => "0 s".to_owned(),
        0 if span.as_millis() == 0 => "under 1 ms".to_owned(),
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3_600 => format!("{} min {} s", secs / 60, secs % 60),
        3_600..86_400 => format!("{} h {} min", secs / 3_600, secs % 3_600 / 60),
        _ => format!("{} d {} h", count(secs / 86_400), secs % 86_400 / 3_600),
    }
}

/// A point in time to the millisecond: `2026-11-21 06:24:13.123 UTC`.
pub(super) fn time(time: Timestamp) -> String {
    time_as(time, "%Y-%m-%d %H:%M:%S%.3f UTC")
}

/// A point in time by a `strftime` pattern, in UTC.
pub(super) fn time_as(time: Timestamp, pattern: &str) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time.nanos())) {
        Ok(moment) => moment.strftime(pattern).to_string(),
        // Every 64-bit count of nanoseconds is within the library's range; better a plain number than a panic.
        Err(_) => time.to_string(),
    }
}

/// A measured value: whole numbers as counts, others to four digits, `–` for what is not a number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked first"
)]
pub(super) fn value(number: f64) -> String {
    let size = number.abs();
    let sign = if number < 0.0 { "\u{2212}" } else { "" };
    if !number.is_finite() {
        "\u{2013}".to_owned()
    } else if size >= 1e15 || (size > 0.0 && size < 1e-4) {
        format!("{number:.2e}").replace('-', "\u{2212}")
    } else if size.fract() == 0.0 {
        format!("{sign}{}", count(size as u64))
    } else if size >= 1000.0 {
        format!("{sign}{}", count(size.round() as u64))
    } else {
        let whole_digits = if size >= 100.0 {
            3
        } else {
            1 + usize::from(size >= 10.0)
        };
        let mut text = format!("{sign}{size:.*}", 4 - whole_digits);
        while text.contains('.') && text.ends_with(['0', '.']) {
            text.pop();
        }
        text
    }
}

/// A contribution with its sign: `+2.31`.
pub(super) fn signed(number: f64) -> String {
    if number.is_finite() {
        format!("{number:+.2}").replace('-', "\u{2212}")
    } else {
        "\u{2013}".to_owned()
    }
}

/// A length in a drawing: one decimal, which is finer than a screen shows.
pub(super) fn px(length: f64) -> String {
    let mut text = format!("{length:.1}");
    if text.ends_with(".0") {
        text.truncate(text.len() - 2);
    }
    text
}

/// Text that came from outside, cut to about `limit` characters.
///
/// Markup is escaped where the text enters the page. Here, characters that would make text look like something
/// else are spelled out: control characters, and those that turn the direction of writing or take no space.
pub(super) fn foreign(text: &str, limit: usize) -> String {
    let mut clean = String::new();
    let mut room = limit;
    for c in text.chars() {
        if room == 0 {
            clean.push('\u{2026}');
            break;
        }
        let deceives = c.is_control()
            || matches!(
                c,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            )
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{e0000}'..='\u{e007f}');
        if deceives {
            // Writing to a String cannot fail.
            let _ = write!(clean, "\\u{{{:x}}}", u32::from(c));
            room = room.saturating_sub(8);
        } else {
            clean.push(c);
            room -= 1;
        }
    }
    clean
}

/// The middle of a long text left out, so that both ends can be told: addresses, digests.
pub(super) fn middle(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit || limit < 3 {
        return text.to_owned();
    }
    let head = (limit - 1).div_ceil(2);
    let tail = limit - 1 - head;
    text.chars()
        .take(head)
        .chain(['\u{2026}'])
        .chain(text.chars().skip(length - tail))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(12_060), "12,060");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(counted(1, "flow"), "1 flow");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.0 kB");
        assert_eq!(bytes(999_600), "1.0 MB");
        assert_eq!(bytes(12_345_678), "12 MB");
        assert_eq!(bytes(u64::MAX), "18446.7 PB");
    }

    #[test]
    fn values_keep_four_digits_and_no_more() {
        assert_eq!(value(3.0), "3");
        assert_eq!(value(-3.5), "\u{2212}3.5");
        assert_eq!(value(0.123_456), "0.123");
        assert_eq!(value(12.3456), "12.35");
        assert_eq!(value(123.456), "123.5");
        assert_eq!(value(54_321.6), "54,322");
        assert_eq!(value(1e-9), "1.00e\u{2212}9");
        assert_eq!(value(f64::NAN), "\u{2013}");
        assert_eq!(value(f64::INFINITY), "\u{2013}");
    }

    #[test]
    fn times_cover_the_whole_range_of_a_timestamp() {
        assert_eq!(
            time(Timestamp::from_nanos(1_500_000)),
            "1970-01-01 00:00:00.001 UTC"
        );
        assert!(time(Timestamp::MIN).starts_with("1677-09-21"));
        assert!(time(Timestamp::MAX).starts_with("2262-04-11"));
    }

    #[test]
    fn durations_show_two_units() {
        assert_eq!(duration(Duration::ZERO), "0 s");
        assert_eq!(duration(Duration::from_nanos(5)), "under 1 ms");
        assert_eq!(duration(Duration::from_millis(250)), "250 ms");
        assert_eq!(duration(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(duration(Duration::from_secs(604)), "10 min 4 s");
        assert_eq!(duration(Duration::from_secs(90_000)), "1 d 1 h");
    }

    #[test]
    fn foreign_text_cannot_pass_for_something_else() {
        assert_eq!(foreign("a\u{202e}gpj.exe", 20), "a\\u{202e}gpj.exe");
        assert_eq!(foreign("tab\tnul\0", 20), "tab\\u{9}nul\\u{0}");
        assert_eq!(foreign("zero\u{200b}width", 20), "zero\\u{200b}width");
        assert_eq!(foreign("abcdef", 3), "abc\u{2026}");
        assert_eq!(foreign("abc", 3), "abc");
    }

    #[test]
    fn the_middle_is_left_out() {
        assert_eq!(middle("0123456789", 5), "01\u{2026}89");
        assert_eq!(middle("0123", 5), "0123");
    }
}
