//! Event-time windows: how long, keyed by whom, closed when.
//!
//! Time is cut into panes as long as the slide of the window. An event goes into one pane of its entity,
//! whatever the overlap; when a pane closes, the panes of the window that ends with it are merged. Panes close
//! by the watermark, which [`StreamClock`] derives from the stream itself: from the events' times and from
//! punctuations, never from the wall clock; [`Sources`] makes one watermark of several streams.
//!
//! | windows | when they come out |
//! |---|---|
//! | [`KeyedWindows`] | tumbling and sliding: at each multiple of the slide |
//! | [`SessionWindows`] | when an entity has had no event for a while |
//! | [`DampedWindows`] | never closed: at each multiple of a period, as they are then |
//!
//! ```
//! use std::time::Duration;
//!
//! use amoskys_core::{Seq, Timestamp};
//! use amoskys_features::window::{KeyedWindows, Limits, WindowSpec};
//!
//! # fn main() -> Result<(), amoskys_features::window::SpecError> {
//! let spec = WindowSpec::sliding(Duration::from_secs(10), Duration::from_secs(5))?;
//! let mut counts: KeyedWindows<&str, u64> = KeyedWindows::new(spec, Limits::default());
//! for (second, host) in [(1, "a"), (2, "b"), (7, "a")] {
//!     counts.update(&host, Timestamp::from_secs(second), Seq(0), |count| *count += 1);
//! }
//! let mut seen = Vec::new();
//! counts.advance(Timestamp::from_secs(10), |window| {
//!     seen.push((window.end.nanos() / 1_000_000_000, *window.key, *window.aggregate));
//! });
//! assert_eq!(seen, [(5, "a", 1), (5, "b", 1), (10, "a", 2), (10, "b", 1)]);
//! # Ok(())
//! # }
//! ```

mod clock;
mod damped;
mod few;
mod keyed;
mod many;
mod order;
mod panes;
mod ring;
mod running;
mod session;
mod slices;
mod sources;
mod spec;
mod sums;

pub use self::clock::{ClockConfig, ClockCounters, StreamClock, Tick};
pub use self::damped::{DampedState, DampedWindows};
pub(crate) use self::keyed::Closing;
pub use self::keyed::{Closed, Emit, KeyedWindows, LatePolicy, Limits, WindowCounters, WindowState};
pub use self::session::{SessionSpec, SessionState, SessionWindows};
pub use self::sources::{Sources, SourcesConfig, SourcesState};
pub use self::spec::{SpecError, WindowSpec};
