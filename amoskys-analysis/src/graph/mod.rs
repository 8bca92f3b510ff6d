//! Who talks to whom, as a graph that is watched while it grows: each edge is judged from those before it and from itself, in
//! constant memory.
//!
//! - [`EdgeScorer`]: edges of which nothing is known but their ends and their minute.
//!
//! `docs/graph.md` in the repository says what each assumes, when it fails, and what was measured.

mod edge;
mod error;
mod node;
mod number;
mod table;
mod tail;

pub use self::edge::{EdgeParams, EdgeScore, EdgeScorer, Role};
pub use self::error::GraphError;
pub use self::node::Nodes;
