//! Chance for programs that put a bus to the test: events, numbers and pauses that follow from a seed.
//!
//! What is here makes work for the real parts; it takes the place of none of them.

mod random;

pub use self::random::Random;
