//! What processes on a Linux machine do, seen from inside the kernel: [`EbpfCollector`].
//!
//! Small programs, written in C and compiled beforehand (`bpf/` beside the sources), are loaded into the kernel and
//! fitted to it by its own type information (CO-RE). They see processes begin, change and end, and what these do to
//! files, peers, other processes, memory and the kernel; filter it there; and hand it over through a ring of fixed
//! size. All they see is counted: seen = delivered + filtered + lost, by processor and kind ([`KernelStats`]).
//!
//! `docs/ebpf.md` in the repository tells what is seen and what cannot be, what it costs, and the layout of the records.

mod attachment;
mod batcher;
#[doc(hidden)]
pub mod checks;
mod collector;
mod config;
mod control;
mod counters;
mod decode;
mod enforce;
mod error;
pub mod flows;
mod governor;
mod histograms;
mod hooks;
mod memory_lock;
mod offers;
mod perf;
mod privileges;
mod record;
mod sensor;
mod table;
mod tracefs;
mod worker;

use crate::{clock, container};

pub use self::collector::EbpfCollector;
pub use self::config::{
    CallStreams, DeniedPeer, EbpfConfig, EbpfConfigError, EbpfFilters, Enforcement, Selection,
};
pub use self::control::EbpfHandle;
pub use self::counters::{DropCause, KernelCounts, KernelStats};
pub use self::error::EbpfError;
pub use self::offers::{Offer, OfferState, Offers};
pub use self::record::EventKind;
