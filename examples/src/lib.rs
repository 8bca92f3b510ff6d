//! The programs are the `[[example]]` targets; see `README.md` beside this package. The programs in the
//! repository's README are tested here.
#![cfg_attr(doctest, doc = include_str!("../../README.md"))]

mod line_ends;

pub use line_ends::LineEnds;
