//! What a publisher has not delivered yet, as gauges.

use std::sync::Weak;
use std::time::Duration;

use amoskys_core::{RecordFeed, Timestamp, Wal as _};

use crate::seal::header::{RawHeader, time_of};
use crate::wal::SledWal;

/// How often the gauges are set while there is a connection.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Backlog {
    /// Not kept open by this: who stops with the log can open it again.
    wal: Weak<SledWal>,
    publisher: String,
}

impl Backlog {
    pub(crate) fn new(wal: Weak<SledWal>, publisher: String) -> Self {
        Self { wal, publisher }
    }

    /// Sets the gauges. It looks into the log, for one record at most.
    pub(crate) async fn show(&self, feed: &RecordFeed) {
        let Some(wal) = self.wal.upgrade() else { return };
        let feed = feed.clone();
        let looking = tokio::task::spawn_blocking(move || (bytes(&wal, &feed), age(&feed)));
        let Ok((bytes, age)) = looking.await else { return };
        let label = || self.publisher.clone();
        metrics::gauge!("amoskys_publisher_backlog_bytes", "publisher" => label()).set(bytes);
        metrics::gauge!("amoskys_publisher_backlog_seconds", "publisher" => label()).set(age.as_secs_f64());
    }
}

/// About how many bytes of the log are not acknowledged: exactly by segment, and by the share of records in the first.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn bytes(wal: &SledWal, feed: &RecordFeed) -> f64 {
    let (from, to) = (feed.acknowledged(), wal.next());
    let mut segments = wal.segment_sizes();
    // Of the one that is being filled, no size is given.
    let others: u64 = segments.iter().map(|(_, size)| *size).sum();
    if let Some((_, size)) = segments.last_mut() {
        *size = wal.used_bytes().saturating_sub(others);
    }
    let ends = segments.iter().skip(1).map(|(first, _)| *first).chain([to]);
    let mut bytes = 0.0;
    for ((first, size), end) in segments.iter().zip(ends) {
        let records = end.0.saturating_sub(first.0) as f64;
        let open = end.0.saturating_sub(from.max(*first).0) as f64;
        if open > 0.0 {
            bytes += *size as f64 * open / records;
        }
    }
    bytes
}

/// How long ago the oldest record that is not acknowledged was sealed, by the clock of this machine.
fn age(feed: &RecordFeed) -> Duration {
    let at = feed.acknowledged().max(feed.first());
    if at >= feed.durable() {
        return Duration::ZERO;
    }
    let sealed = feed.read(at, 1).ok().and_then(|records| {
        let (_, record) = records.first()?;
        RawHeader::parse(record).ok().map(|header| time_of(&header))
    });
    let age = sealed.map_or(0, |sealed| {
        Timestamp::now().nanos().saturating_sub(sealed.nanos())
    });
    Duration::from_nanos(u64::try_from(age).unwrap_or_default())
}
