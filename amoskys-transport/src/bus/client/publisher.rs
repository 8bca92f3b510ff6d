use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{Epoch, Name, Offset, RecordFeed, RecordSink, Remedy, Seq};

use super::backlog::Backlog;
use super::backoff::{Backoff, about};
use super::dial::dial_with;
use super::error::{ConnectionError, PublishError};
use super::options::PublisherOptions;
use super::resume::StreamKey;
use super::run::Run;
use crate::bus::message::Part;
use crate::log::Log;
use crate::log::keeper::{CurrentSigner, SharedKeeper};
use crate::seal::{Head, Keyring};
use crate::wal::segment::lock;

/// Sends the records of an agent's log to a bus, over mutual TLS.
///
/// Make it with [`for_log`](Self::for_log) and give it to a pipeline as a [`RecordSink`]. Only what is durable in the log is
/// sent, and the log keeps it until the bus says that it is durable there. At each connection the bus says how far it has
/// the agent's streams, and sending goes on there, so that nothing is lost or doubled when either side crashes.
///
/// What the log no longer has is replaced by a signed gap. If the bus has something else than the log — the log was
/// copied, or restored from a backup — the publisher ends with [`PublishError::Fork`]: open the log again, and it goes on in
/// a new epoch.
pub struct Publisher {
    pub(crate) options: PublisherOptions,
    pub(crate) own: OwnLog,
    pub(crate) backlog: Backlog,
    pub(crate) backoff: Backoff,
    pub(crate) pause: Duration,
    /// Records the bus will not take, whatever is done.
    pub(crate) unfit: BTreeSet<(StreamKey, Seq)>,
    /// The bus found a record altered: all are checked before they are sent.
    pub(crate) suspicious: bool,
    /// The bus will not take what was sealed while the clock was wrong: it has to be sealed again.
    pub(crate) sealed_ahead: bool,
}

/// What a publisher knows of the log it sends from.
pub(crate) struct OwnLog {
    pub(crate) agent: Name,
    pub(crate) epoch: Epoch,
    pub(crate) dir: PathBuf,
    pub(crate) signer: Arc<CurrentSigner>,
    pub(crate) keeper: SharedKeeper,
    /// Where streams of earlier epochs were given up.
    pub(crate) retired: BTreeMap<StreamKey, Head>,
}

impl OwnLog {
    /// How far the log has the agent's streams, and the first offset that does not account for.
    pub(crate) fn heads(&self) -> (BTreeMap<StreamKey, Head>, Offset) {
        let keeper = lock(&self.keeper.0);
        let own = keeper
            .heads
            .0
            .iter()
            .filter(|(stream, _)| stream.agent == self.agent);
        let own = own.map(|(stream, head)| ((stream.epoch, stream.class), *head));
        (own.collect(), Offset(keeper.end))
    }

    /// The hand-overs of the agent's signing key, by their proofs.
    fn hand_overs(&self) -> Vec<Vec<u8>> {
        let links = self.keyring().of(&self.agent);
        links.iter().map(|link| link.proof.to_vec()).collect()
    }

    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        lock(&self.keeper.0).keyring.clone()
    }
}

impl Publisher {
    /// A publisher of the records in this log. Make it before the log's parts are given away.
    #[must_use]
    pub fn for_log(log: &Log, options: PublisherOptions) -> Self {
        let (agent, epoch) = (log.sealer.agent().clone(), log.epoch());
        let (first, longest) = (options.connect.first_pause, options.connect.longest_pause);
        let keeper = log.keeper.clone();
        let (dir, signer) = {
            let keeper = lock(&keeper.0);
            (keeper.dir.clone(), keeper.sealing.clone())
        };
        Self {
            backlog: Backlog::new(Arc::downgrade(&log.wal), options.name.clone()),
            options,
            own: OwnLog {
                agent,
                epoch,
                dir,
                signer,
                keeper,
                retired: log.retired.clone(),
            },
            backoff: Backoff::new(first, longest),
            pause: Duration::ZERO,
            unfit: BTreeSet::new(),
            suspicious: false,
            sealed_ahead: false,
        }
    }
}

impl RecordSink for Publisher {
    type Error = PublishError;

    fn name(&self) -> &str {
        &self.options.name
    }

    async fn carry(&mut self, feed: &RecordFeed) -> Result<(), PublishError> {
        self.backlog.show(feed).await;
        let (connect, agent) = (&self.options.connect, self.own.agent.as_str());
        let dialed = dial_with(connect, Part::Publisher, agent, self.own.hand_overs()).await;
        let result = match dialed {
            Ok((link, welcome, mut standing)) => {
                self.options.connect.tell(None);
                tokio::select! {
                    result = Run::carry(self, feed, link, welcome) => result,
                    error = standing.lost() => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &result {
            self.options.connect.tell(Some(error));
            self.pause = self.backoff.pause();
            if let PublishError::Connection(connection) = error
                && let Some(told) = connection.retry_after()
            {
                self.pause = self.pause.max(about(told));
            }
            metrics::counter!("amoskys_publisher_connections_lost_total", "publisher" => self.options.name.clone())
                .increment(1);
            tracing::info!(
                publisher = self.options.name,
                agent = %self.own.agent,
                error = %amoskys_core::error::Chain(error),
                "records are not carried to the bus"
            );
        }
        result
    }

    fn remedy(&self, error: &PublishError) -> Remedy {
        match error {
            PublishError::Connection(ConnectionError::Address { .. })
            | PublishError::Fork { .. }
            | PublishError::Log(_)
            | PublishError::Seal(_) => Remedy::Fatal,
            PublishError::Connection(_) => Remedy::RetryAfter(self.pause),
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("agent", &self.own.agent)
            .field("bus", &self.options.connect)
            .finish_non_exhaustive()
    }
}
