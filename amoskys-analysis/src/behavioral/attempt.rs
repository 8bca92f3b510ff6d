//! One connection to a service that asks for a login, and what many of them are worth.

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::measure::seconds_between;
use crate::sighting::login::Login;

/// Seconds over which attempts count.
pub(super) const WINDOW: f64 = 600.0;
/// Attempts that are nothing.
pub(super) const USUAL: f64 = 3.0;
/// What it adds that nearly all were turned away, for all to see.
pub(super) const TURNED_AWAY: f64 = 1.5;
/// What a further try in the same connection is worth: clients offer their keys one by one too.
const FURTHER: f64 = 0.5;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) start: Timestamp,
    /// Payload bytes of the client, and of the server.
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) login: Login,
}

impl Attempt {
    pub(super) const fn is_turned_away(&self) -> bool {
        matches!(self.login, Login::TurnedAway(_))
    }

    /// How often a login was tried.
    pub(super) fn tries(&self) -> usize {
        match self.login {
            Login::TurnedAway(tries) => tries as usize,
            _ => 1,
        }
    }

    /// In attempts of one try each.
    pub(super) fn worth(&self) -> f64 {
        match self.login {
            Login::TurnedAway(tries) => 1.0 + FURTHER * (f64::from(tries) - 1.0).max(0.0),
            _ => 1.0,
        }
    }
}

/// What so many attempts add.
pub(super) fn by_attempts(amount: f64) -> f64 {
    (2.6 * (amount / USUAL).log2()).min(8.0)
}

/// What it takes away that the client was let in meanwhile: little for once or twice, as at the end of guesses; much where
/// it comes near the number of refusals, as of a program that is asked for a password before it says it.
pub(super) fn by_let_in(let_in: f64, attempts: f64) -> f64 {
    let share = let_in / attempts.max(1.0);
    -let_in.min(2.0) - if share > 0.4 { 4.0 } else { 0.0 }
}

/// Seconds between the starts of attempts, in order of time.
pub(super) fn intervals(attempts: &[Attempt]) -> Vec<f64> {
    let mut starts: Vec<Timestamp> = attempts.iter().map(|attempt| attempt.start).collect();
    starts.sort_unstable();
    let pairs = starts.windows(2);
    pairs.map(|pair| seconds_between(pair[0], pair[1])).collect()
}
