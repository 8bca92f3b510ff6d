//! The loss ledger: at every stage, in = out + dropped by reason + pending.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::Position;

/// Why something was dropped. A drop without a reason cannot be written down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropReason(Cow<'static, str>);

impl DropReason {
    /// A live source held it in memory when the process died.
    pub const CRASH: Self = Self(Cow::Borrowed("crash"));
    /// The kernel dropped it because the reader was too slow.
    pub const KERNEL: Self = Self(Cow::Borrowed("kernel"));
    /// It could not be parsed.
    pub const MALFORMED: Self = Self(Cow::Borrowed("malformed"));
    /// A bounded queue was full.
    pub const FULL: Self = Self(Cow::Borrowed("full"));
    /// A filter left it out on purpose.
    pub const FILTERED: Self = Self(Cow::Borrowed("filtered"));
    /// A transform could not handle it.
    pub const TRANSFORM_FAILED: Self = Self(Cow::Borrowed("transform_failed"));
    /// It could not be sealed.
    pub const SEAL_FAILED: Self = Self(Cow::Borrowed("seal_failed"));
    /// It was read again after a restart, though it was already safe.
    pub const DUPLICATE: Self = Self(Cow::Borrowed("duplicate"));
    /// It came later than its window allows.
    pub const LATE: Self = Self(Cow::Borrowed("late"));
    /// It is missing in its stream: lost before it could be read here.
    pub const MISSING: Self = Self(Cow::Borrowed("missing"));
    /// A full log shed it to make room.
    pub const SHED: Self = Self(Cow::Borrowed("shed"));
    /// It became older than the log's retention allows.
    pub const EXPIRED: Self = Self(Cow::Borrowed("expired"));
    /// A sink refused it for good.
    pub const REJECTED: Self = Self(Cow::Borrowed("rejected"));

    /// A reason of a collector's or transform's own: a short lower-case word.
    #[must_use]
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }

    /// A reason known when compiling.
    #[must_use]
    pub const fn known(reason: &'static str) -> Self {
        Self(Cow::Borrowed(reason))
    }

    /// The reason as text, as metrics and files have it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What one stage did with what came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Came in.
    pub received: u64,
    /// Went out.
    pub delivered: u64,
    /// Still inside.
    pub pending: u64,
    /// Did not go out, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl Account {
    /// All that was dropped, for whatever reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Whether received = delivered + dropped + pending.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let out = u128::from(self.delivered)
            + u128::from(self.pending)
            + self
                .dropped
                .values()
                .map(|count| u128::from(*count))
                .sum::<u128>();
        u128::from(self.received) == out
    }
}

/// The accounts of all stages at one moment, by stage name (`pcap/packets`, `log/events`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerSnapshot {
    /// Account by stage.
    pub accounts: BTreeMap<String, Account>,
    /// How far each source had come, by its name: filled in where a ledger is sealed into a log, so that the last
    /// record alone says where every source goes on.
    pub positions: BTreeMap<String, Position>,
}

impl LedgerSnapshot {
    /// The stages whose accounts do not balance; none, if all is well.
    #[must_use]
    pub fn unbalanced(&self) -> Vec<&str> {
        let wrong = self.accounts.iter().filter(|(_, account)| !account.is_balanced());
        wrong.map(|(stage, _)| stage.as_str()).collect()
    }
}

impl fmt::Display for LedgerSnapshot {
    /// A table for people: a line for each stage, and one for each reason of dropping below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.accounts.keys().map(String::len).max().unwrap_or(0).max(5);
        writeln!(
            f,
            "{:width$}  {:>12}  {:>12}  {:>10}  {:>10}",
            "stage", "in", "out", "dropped", "pending"
        )?;
        for (stage, account) in &self.accounts {
            let (dropped, mark) = (
                account.dropped_total(),
                if account.is_balanced() { "" } else { "  UNBALANCED" },
            );
            let Account {
                received,
                delivered,
                pending,
                ..
            } = account;
            writeln!(
                f,
                "{stage:width$}  {received:>12}  {delivered:>12}  {dropped:>10}  {pending:>10}{mark}"
            )?;
            for (reason, count) in &account.dropped {
                writeln!(f, "{:width$}  {:>12}  {:>12}  {count:>10}  {reason}", "", "", "")?;
            }
        }
        Ok(())
    }
}

/// A ledger: clones share it. Every stage of a pipeline reports to one.
///
/// Each count is entered where it happens (received when taken, delivered when handed on, dropped when given
/// up), so a balance that does not come out even shows a stage that lost something without saying so.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, Account>>>);

impl Ledger {
    /// A ledger without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A ledger that goes on from a snapshot.
    #[must_use]
    pub fn resume(snapshot: LedgerSnapshot) -> Self {
        Self(Arc::new(Mutex::new(snapshot.accounts)))
    }

    /// `count` items came into `stage`.
    pub fn received(&self, stage: &str, count: u64) {
        self.change(stage, |account| {
            account.received += count;
            account.pending += count;
        });
    }

    /// `count` items left `stage` as they should.
    pub fn delivered(&self, stage: &str, count: u64) {
        self.change(stage, |account| {
            account.delivered += count;
            account.pending = account.pending.wrapping_sub(count);
        });
    }

    /// `count` items were given up in `stage`.
    pub fn dropped(&self, stage: &str, reason: DropReason, count: u64) {
        if count == 0 {
            return;
        }
        self.change(stage, |account| {
            *account.dropped.entry(reason).or_default() += count;
            account.pending = account.pending.wrapping_sub(count);
        });
    }

    /// Replaces the account of `stage`: for a stage that goes on from an account of its own.
    pub fn set(&self, stage: &str, account: Account) {
        self.change(stage, |current| *current = account);
    }

    /// All accounts now.
    #[must_use]
    pub fn snapshot(&self) -> LedgerSnapshot {
        LedgerSnapshot {
            accounts: self.lock().clone(),
            positions: BTreeMap::new(),
        }
    }

    fn change(&self, stage: &str, change: impl FnOnce(&mut Account)) {
        let mut entries = self.lock();
        // Almost always the stage is known, and its name need not be copied.
        if let Some(account) = entries.get_mut(stage) {
            change(account);
        } else {
            change(entries.entry(stage.to_owned()).or_default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
