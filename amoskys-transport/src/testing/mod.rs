//! Chance and load for programs that put a bus to the test: events, numbers and pauses that follow from a seed, and many
//! agents in one process.
//!
//! What is here makes work for the real parts; it takes the place of none of them.

mod agent;
mod random;

pub use self::agent::{Faults, Load, Outcome, SimulatedAgent};
pub use self::random::Random;
