//! What Linux lists in `/proc`: processes, their sockets, and the host: [`ProcCollector`].
//!
//! - [`ProcessTable`] samples the processes there are. Reading only `/proc/PID/stat` with a parser of its own, it costs
//!   little enough to be asked every second.
//! - [`ProcCollector`] is the source for a pipeline: processes that begin, change and end, what they use, who listens,
//!   and the load of the host.
//! - [`SocketOwners`] names the process that owns a socket, and so the process behind a flow; [`FlowOwners`] is the
//!   transform that writes it into events of flows.
//! - [`parse`] decodes what the kernel writes, and [`utmp`] who is logged in. Pure functions over bytes that may be
//!   anything.
//!
//! Nothing is loaded into the kernel and no privileges are needed for the processes of one's own user. What lives
//! shorter than the time between two samples is not seen; the feature `ebpf` sees it.

mod collector;
mod config;
mod details;
mod error;
mod flows;
mod host;
pub mod parse;
mod procfs;
mod sockets;
mod table;
pub mod utmp;
mod worker;

pub use self::collector::ProcCollector;
pub use self::config::ProcConfig;
pub use self::error::{ProcConfigError, ProcError};
pub use self::flows::FlowOwners;
pub use self::sockets::{SocketCounts, SocketOwner, SocketOwners};
pub use self::table::{ProcessKey, ProcessSample, ProcessTable, Sampled};

use crate::{clock, container};
