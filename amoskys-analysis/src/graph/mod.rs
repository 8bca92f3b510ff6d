//! Who talks to whom, as a graph that is watched while it grows: each edge is judged from those before it and from itself, in
//! bounded memory.
//!
//! - [`EdgeScorer`]: edges of which nothing is known but their ends and their minute; constant memory, many millions a second.
//! - [`ContactScorer`]: conversations with their service, outcome and volume.
//! - [`Degrees`]: how many others a node has to do with, over long windows.
//! - [`Paths`]: chains from host to host, or from user to user.
//! - [`Communities`]: which nodes belong together.
//! - [`GraphAnalyzer`]: the same on flow and process events, with verdicts.
//!
//! Nodes are numbers; [`Nodes`] makes them from hosts, services, users, programs and names.
//!
//! `docs/graph.md` in the repository says what each assumes, when it fails, and what was measured.

mod analyzer;
mod community;
mod contact;
mod degree;
mod edge;
mod error;
mod habits;
mod node;
mod number;
mod path;
mod schema;
mod table;
mod tail;

pub use self::analyzer::{GraphAnalyzer, GraphAnalyzerParams};
pub use self::community::{Communities, CommunityScore};
pub use self::contact::{Contact, ContactParams, ContactScore, ContactScorer};
pub use self::degree::{DegreeParams, DegreeScore, Degrees};
pub use self::edge::{EdgeParams, EdgeScore, EdgeScorer, Role};
pub use self::error::GraphError;
pub use self::node::Nodes;
pub use self::path::{PathParams, PathScore, Paths};
pub use self::schema::graph_schema;
