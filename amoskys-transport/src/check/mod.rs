//! Looks at everything a program needs before it starts, and says all at once what is wrong with it.

pub(crate) mod certificates;
mod problem;

pub use self::problem::{Problem, Severity};
