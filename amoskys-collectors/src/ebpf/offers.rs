//! What the kernel offers, and whether it is used.

use std::fmt;

/// One hook of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// The hook, as `KIND NAME`: `tracepoint sched_process_exec`, `call openat`, `cgroup connect4`.
    pub hook: String,
    /// Whether a program is attached to it.
    pub state: OfferState,
}

/// Whether a hook is used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OfferState {
    /// A program is attached.
    On,
    /// It is not wanted.
    Off(&'static str),
    /// It is wanted and cannot be had, for this reason.
    Missing(String),
}

/// All hooks, as a table for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// In a fixed order.
    pub hooks: Vec<Offer>,
}

impl Offers {
    /// The state of a hook.
    #[must_use]
    pub fn state(&self, hook: &str) -> Option<&OfferState> {
        let found = self.hooks.iter().find(|offer| offer.hook == hook);
        found.map(|offer| &offer.state)
    }

    pub(super) fn add(&mut self, hook: impl Into<String>, state: OfferState) {
        self.hooks.push(Offer {
            hook: hook.into(),
            state,
        });
    }
}

impl fmt::Display for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.hooks.iter().map(|offer| offer.hook.len()).max().unwrap_or(0);
        for offer in &self.hooks {
            let (state, why) = match &offer.state {
                OfferState::On => ("on", ""),
                OfferState::Off(why) => ("off", *why),
                OfferState::Missing(why) => ("missing", why.as_str()),
            };
            writeln!(
                f,
                "{}",
                format!("{:width$}  {state:7}  {why}", offer.hook).trim_end()
            )?;
        }
        Ok(())
    }
}
