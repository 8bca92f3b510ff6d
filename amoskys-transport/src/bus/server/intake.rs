//! The end of a record's way in: it is checked, put in its place and into the log.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use amoskys_core::{DropReason, Wal as _, WalError};
use tower::Service;

use super::check::{Checked, Checker};
use super::shared::{Agent, Shared};
use super::streams::{NotTaken, Taken};
use crate::bus::admission::{Admitted, Pace, Rejection, Submission};
use crate::bus::refuse::RefuseReason;
use crate::seal::Head;
use crate::wal::segment::lock;

/// How often a full log is asked again, if nothing says that there is room.
const ASK_AGAIN: Duration = Duration::from_millis(25);
/// What an agent is asked to wait for a log without room.
const PAUSE: Duration = Duration::from_millis(500);

/// What layers need to know of the connection that a record came on.
pub(crate) struct Sender {
    pub(crate) agent: Arc<Agent>,
    pub(crate) checker: Mutex<Checker>,
    pub(crate) pace: Pace,
}

/// Checks records and puts them into the bus's log, as the innermost service of their way in. A record for which there is
/// no room waits until there is.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
}

impl Intake {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Service<Submission> for Intake {
    type Response = Admitted;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Admitted, Rejection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, submission: Submission) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move { take_in(&shared, &submission).await })
    }
}

async fn take_in(shared: &Shared, submission: &Submission) -> Result<Admitted, Rejection> {
    let sender = &submission.sender;
    let checked = lock(&sender.checker).check(&submission.record);
    let checked = match checked {
        Ok(checked) => checked,
        Err((reason, text)) => {
            count_refused(shared, &sender.agent, 0);
            return Err(Rejection::new(reason, text));
        }
    };
    let mut waiting = None;
    loop {
        let error = match shared.store(&sender.agent, &checked, submission.record.clone()) {
            Ok(taken) => return Ok(admitted(&checked, taken)),
            Err(NotTaken::Misplaced { reason, head }) => {
                count_refused(shared, &sender.agent, checked.events);
                return Err(misplaced(&checked, reason, head));
            }
            Err(NotTaken::Log(error)) => error,
        };
        match error {
            WalError::Full {
                used_bytes,
                budget_bytes,
            } => {
                // Of the log or of the disk, rather than of the queue in memory, which empties itself.
                if budget_bytes == shared.wal.budget_bytes() || used_bytes == budget_bytes {
                    shared.room.notify_one();
                    if waiting.is_none() {
                        submission.ask_to_wait(PAUSE, "log_full");
                        waiting = Some(shared.waiting.enter(error.to_string()));
                    }
                }
                let mut durable = shared.durable.clone();
                durable.mark_unchanged();
                let _ = tokio::time::timeout(ASK_AGAIN, durable.changed()).await;
            }
            WalError::TooLarge { .. } => {
                count_refused(shared, &sender.agent, checked.events);
                return Err(Rejection::new(RefuseReason::TooLarge, error.to_string()));
            }
            error => return Err(Rejection::new(RefuseReason::LogFailed, error.to_string())),
        }
    }
}

fn admitted(checked: &Checked, taken: Taken) -> Admitted {
    let (offset, stored) = match taken {
        Taken::Stored { offset, .. } => (Some(offset), true),
        Taken::Repeated { offset } => (offset, false),
    };
    Admitted {
        offset,
        stream: checked.place.stream,
        next: checked.place.next,
        stored,
        held: Vec::new(),
    }
}

fn count_refused(shared: &Shared, agent: &Agent, events: u64) {
    let ledger = &shared.journal.ledger;
    ledger.received(&agent.stage, events);
    ledger.dropped(&agent.stage, DropReason::known("refused"), events);
}

fn misplaced(checked: &Checked, reason: RefuseReason, head: Head) -> Rejection {
    let place = &checked.place;
    let what = match reason {
        RefuseReason::Ahead => "records before it are missing",
        RefuseReason::Fork => "the bus has another record there: two logs of this agent went different ways",
        RefuseReason::KeyRetired => "the key that signed it was retired, or has handed over to another",
        RefuseReason::Clock => {
            "it was sealed too far ahead of the bus's clock; one of the two clocks is wrong"
        }
        RefuseReason::TooManyStreams => "the agent has too many streams",
        _ => "it is too old to be compared",
    };
    let text = format!(
        "record {} to {}: {what}; the next is {}",
        place.first,
        place.next.0 - 1,
        head.next
    );
    Rejection {
        at: Some(Box::new((place.stream, head))),
        ..Rejection::new(reason, text)
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("bus", &self.shared.name).finish()
    }
}
