//! Stories in words.

use std::fmt;

use amoskys_core::Timestamp;

use super::Story;

impl fmt::Display for Story {
    /// A line that sums it up, then one for each alert, indented by two.
    ///
    /// ```text
    /// story 6f1c…: web, from 2026-03-01 12:03:11 to 12:05:02 UTC: Execution -> Persistence
    ///   12:03:11  T1059.004  a shell was tied to a socket: bash (4711), started by python3 < systemd
    ///   12:05:02  T1053.003  a job to be run at certain times was written: bash (4790), started by …
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hosts: Vec<&str> = Vec::new();
        for chapter in self.chapters() {
            let host = machine(&chapter.host);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let tactics: Vec<&str> = self.tactics().iter().map(|tactic| tactic.as_str()).collect();
        let first = self
            .chapters()
            .next()
            .map_or(Timestamp::default(), |chapter| chapter.time);
        let last = self.chapters().last().map_or(first, |chapter| chapter.time);
        let (day, clock) = day_and_time(first);
        let (last_day, last_clock) = day_and_time(last);
        let until = if day == last_day {
            last_clock
        } else {
            format!("{last_day} {last_clock}")
        };
        write!(
            f,
            "story {}: {}, from {day} {clock} to {until} UTC",
            self.id(),
            hosts.join(", ")
        )?;
        if !tactics.is_empty() {
            write!(f, ": {}", tactics.join(" -> "))?;
        }
        for chapter in self.chapters() {
            let technique = chapter
                .technique
                .as_ref()
                .map_or("", |technique| technique.as_str());
            let (_, clock) = day_and_time(chapter.time);
            let who = if hosts.len() > 1 {
                format!("{}  ", chapter.host)
            } else {
                String::new()
            };
            write!(f, "\n  {clock}  {technique:9}  {who}{}", chapter.title)?;
        }
        if self.left_out() > 0 {
            write!(f, "\n  and {} more", self.left_out())?;
        }
        Ok(())
    }
}

/// The machine that a process or metric is of.
pub(crate) fn machine(name: &str) -> &str {
    name.split_once('/').map_or(name, |parts| parts.0)
}

/// The date and the time of day, in UTC.
pub(crate) fn day_and_time(time: Timestamp) -> (String, String) {
    let seconds = time.nanos().div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to dates of the Gregorian calendar, by eras of 400 years that begin on the first of March.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (
        format!("{year:04}-{month:02}-{of_month:02}"),
        format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, day, clock) in [
            (0, "1970-01-01", "00:00:00"),
            (951_782_399, "2000-02-28", "23:59:59"),
            (951_868_799, "2000-02-29", "23:59:59"),
            (951_868_800, "2000-03-01", "00:00:00"),
            (-1, "1969-12-31", "23:59:59"),
            (1_700_000_000, "2023-11-14", "22:13:20"),
            (4_107_542_400, "2100-03-01", "00:00:00"),
        ] {
            let found = day_and_time(Timestamp::from_secs(seconds));
            assert_eq!(found, (day.to_owned(), clock.to_owned()), "{seconds}");
        }
        day_and_time(Timestamp::MIN);
        day_and_time(Timestamp::MAX);
    }
}
