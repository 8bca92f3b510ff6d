//! The subscription that lasts all the time.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use amoskys_core::{Open, RecordSource, Remedy};
use amoskys_transport::bus::{ConnectOptions, SubscribeOptions, Subscription};
use amoskys_transport::identity::Credentials;
use amoskys_transport::{Opener, TrustMap};
use tokio::task::JoinHandle;

use crate::children::CLASSES;
use crate::member::{Heads, LOOK, PATIENCE};
use crate::{AGENT, Failure};

/// Reads what comes to the bus, and checks that it is each event once and in order.
pub(crate) struct Reader {
    heads: Arc<[AtomicU64; 2]>,
    failed: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Reader {
    pub(crate) fn begin(dir: &Path, port: u16) -> Result<Self, Failure> {
        let files = Credentials::in_dir(dir.join("pki"), "analyzer");
        let connect = ConnectOptions::new(format!("localhost:{port}"), files.tls.client_config()?)
            .retry(Duration::from_millis(5), Duration::from_millis(50));
        let options = SubscribeOptions::new(connect)
            .agents([AGENT])
            .position("crashtest");
        let opener = Opener::verifying(TrustMap::load(&files.trust)?);
        let (heads, failed) = (Arc::<[AtomicU64; 2]>::default(), Arc::<Mutex<_>>::default());
        let (read, failure) = (heads.clone(), failed.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = read_on(Subscription::new(options), &opener, &read).await {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        });
        Ok(Self { heads, failed, task })
    }

    /// How far it has read.
    pub(crate) fn heads(&self) -> Heads {
        [0, 1].map(|at: usize| self.heads[at].load(Ordering::Acquire))
    }

    /// Waits until it has read so far.
    pub(crate) async fn has(&self, heads: Heads) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            if let Some(failure) = &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
                return Err(format!("the subscription: {failure}").into());
            }
            let read = self.heads();
            if read[0] >= heads[0] && read[1] >= heads[1] {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{heads:?} was acknowledged, and only {read:?} can be read").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops reading; how far it came.
    pub(crate) async fn end(self) -> Result<Heads, Failure> {
        self.has([0, 0]).await?;
        self.task.abort();
        Ok(self.heads())
    }
}

async fn read_on(
    mut subscription: Subscription,
    opener: &Opener,
    heads: &[AtomicU64; 2],
) -> Result<(), Failure> {
    loop {
        let records = match subscription.next_records().await {
            Ok(records) => records.unwrap_or_default(),
            Err(error) => match subscription.remedy(&error) {
                Remedy::RetryAfter(pause) => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
                _ => return Err(error.into()),
            },
        };
        if subscription.lost() > 0 {
            return Err(format!(
                "{} records were deleted before they were read",
                subscription.lost()
            )
            .into());
        }
        let Some((last, _)) = records.last() else { continue };
        let done = last.next();
        for (offset, record) in &records {
            let opened = opener.open(record)?;
            if opened.gap.is_some() {
                return Err(format!("record {} is a gap: {:?}", offset.0, opened.gap).into());
            }
            for recorded in opened.into_recorded() {
                let class = CLASSES.iter().position(|class| *class == recorded.stream.class);
                let head = class.map(|class| &heads[class]).ok_or("a class of no stream")?;
                let expected = head.load(Ordering::Acquire);
                let (seq, id) = (recorded.seq.0, recorded.event.id.ordinal);
                if (seq, id) != (expected, expected) || recorded.stream.epoch.counter != 0 {
                    return Err(format!(
                        "record {} has event {seq} of {} with id {id} where {expected} belongs",
                        offset.0, recorded.stream
                    )
                    .into());
                }
                head.store(expected + 1, Ordering::Release);
            }
        }
        // If this cannot be said now, it is said with the next.
        let _ = subscription.release(done).await;
    }
}
