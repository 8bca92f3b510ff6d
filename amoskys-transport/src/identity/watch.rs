//! Looks at the files again and again.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use amoskys_core::Shutdown;
use amoskys_core::error::Chain;

use super::reload::{ReloadError, Reloaded, Reloader};

/// The certificate's time is told this often.
const TELL: Duration = Duration::from_secs(10);

/// What can be seen of the files without reading them. Each change of a file changes its `ctime`.
type Stamps = Vec<Option<[i64; 7]>>;

/// What was seen and done so far.
#[derive(Default)]
struct Seen {
    stamps: Stamps,
    /// The stamps with which they were read last, and what was wrong with them.
    read: Option<(Stamps, Option<String>)>,
}

impl Reloader {
    /// Looks at the files each `interval`, and [reloads](Self::reload) once one has changed and then stayed as it is for an
    /// interval; until `shutdown` is triggered. A quarter of a second is a good interval: it costs five `stat` calls.
    ///
    /// The result is logged, and counted in `amoskys_credentials_reloads_total` by `result` (`ok`, `failed`). The gauge
    /// `amoskys_certificate_seconds_left` says, by `identity`, how long the own certificate can be used, and is negative
    /// once it has expired. Files that cannot be used are tried again, and complained about once.
    ///
    /// Must be called within a tokio runtime with time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it. A reload that has begun is finished.
    pub async fn watch(&self, interval: Duration, shutdown: Shutdown) {
        let mut seen = Seen {
            stamps: self.stamps(),
            read: None,
        };
        // From zero, or whoever watches how they grow would miss the first.
        for result in ["ok", "failed"] {
            metrics::counter!("amoskys_credentials_reloads_total", "result" => result).increment(0);
        }
        // They may have changed since they were opened; so they are read once more.
        let mut tick = tokio::time::interval(interval.max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told: Option<tokio::time::Instant> = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = shutdown.triggered() => return,
            }
            let this = self.clone();
            let looking = tokio::task::spawn_blocking(move || {
                let result = this.look(&mut seen);
                (seen, result)
            });
            let result = match looking.await {
                Ok((after, result)) => {
                    seen = after;
                    result
                }
                Err(error) => {
                    tracing::error!(%error, "reading the credentials ended by a panic");
                    seen = Seen::default();
                    None
                }
            };
            let has_changed = self.report(result);
            if has_changed || told.is_none_or(|told| told.elapsed() >= TELL) {
                told = Some(tokio::time::Instant::now());
                self.tell_time();
            }
        }
    }

    /// Reloads if there is something new, or what was wrong may have become right.
    fn look(&self, seen: &mut Seen) -> Option<Result<Reloaded, ReloadError>> {
        let stamps = self.stamps();
        let is_settled = stamps == seen.stamps;
        seen.stamps = stamps;
        if !is_settled {
            return None;
        }
        let wrong_before = match &seen.read {
            Some((read, None)) if *read == seen.stamps => return None,
            Some((read, Some(wrong))) if *read == seen.stamps => Some(wrong.clone()),
            _ => None,
        };
        let result = self.reload();
        let wrong = result.as_ref().err().map(|error| Chain(error).to_string());
        let is_said = wrong.is_some() && wrong == wrong_before;
        seen.read = Some((seen.stamps.clone(), wrong));
        (!is_said).then_some(result)
    }

    fn report(&self, result: Option<Result<Reloaded, ReloadError>>) -> bool {
        let result_of = |result: &'static str| {
            metrics::counter!("amoskys_credentials_reloads_total", "result" => result).increment(1);
        };
        match result {
            Some(Ok(reloaded)) if reloaded.tls || reloaded.trust => {
                result_of("ok");
                tracing::info!(
                    identity = %self.tls().identity(),
                    certificates = reloaded.tls,
                    trust = reloaded.trust,
                    "new credentials are in use"
                );
                true
            }
            Some(Err(error)) => {
                result_of("failed");
                tracing::error!(
                    identity = %self.tls().identity(),
                    error = %Chain(&error),
                    "new credentials cannot be used; those that were in use stay in use"
                );
                false
            }
            _ => false,
        }
    }

    fn tell_time(&self) {
        let validity = self.tls().validity();
        let now = SystemTime::now();
        let left = match validity.not_after.duration_since(now) {
            Ok(left) => left.as_secs_f64(),
            Err(over) => -over.duration().as_secs_f64(),
        };
        let identity = self.tls().identity().to_string();
        metrics::gauge!("amoskys_certificate_seconds_left", "identity" => identity).set(left);
    }

    fn stamps(&self) -> Stamps {
        let stamp = |path| {
            let found = std::fs::metadata(path).ok()?;
            let (device, inode, size) = (found.dev(), found.ino(), found.size());
            Some([
                device.cast_signed(),
                inode.cast_signed(),
                size.cast_signed(),
                found.mtime(),
                found.mtime_nsec(),
                found.ctime(),
                found.ctime_nsec(),
            ])
        };
        self.paths().map(stamp).collect()
    }
}
