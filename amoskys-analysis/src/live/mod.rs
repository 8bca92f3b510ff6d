//! Models at work: replaced while events flow, and tried beside one another.
//!
//! | part | what it does |
//! |---|---|
//! | [`ModelSlot`] | an analyzer whose model is replaced between two events, through a [`SlotHandle`] |
//! | [`Shadow`] | an analyzer at work, and a second one beside it whose verdicts raise nothing; [`Disagreement`] says where they differ |
//! | `WindowAnalyzer` (feature `linfa`) | verdicts on windows of features, by [models of tables](crate::model::TableModel) |
//!
//! # Replacing a model
//!
//! Whoever makes the new analyzer (loading a model may take a while) does so on a thread of its own, and [offers](SlotHandle::offer)
//! it. The slot looks for an offer before each observation; if there is one, the new analyzer takes the state over and
//! judges this observation and all that follow. So every observation is judged once: by the old model or by the new one.
//!
//! ```
//! use amoskys_analysis::live::{ModelSlot, Taken};
//! use amoskys_analysis::{Detection, DetectionConfig};
//! use amoskys_core::{Analyzer, Observation};
//!
//! # fn event() -> amoskys_core::Recorded {
//! #     let stream = amoskys_core::StreamId { agent: "a".into(), epoch: Default::default(), class: Default::default() };
//! #     amoskys_core::Recorded { timeline: 0, stream: std::sync::Arc::new(stream), seq: amoskys_core::Seq(0), event: Default::default() }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut slot, handle) = ModelSlot::new(Detection::new(DetectionConfig::default(), Vec::new())?);
//! let old = slot.model();
//!
//! // Elsewhere: another configuration makes another model.
//! let mut config = DetectionConfig::default();
//! config.report_score = 0.2;
//! handle.offer(Detection::new(config, Vec::new())?);
//!
//! let mut verdicts = Vec::new();
//! slot.observe(Observation::Event(&event()), &mut verdicts)?;
//! assert_ne!(slot.model(), old);
//! assert_eq!(handle.swaps()[0].state, Taken::Over);
//! // The boundary is no verdict: it is written down as what was decided, and by whom.
//! assert!(verdicts.is_empty());
//! let (swaps, _) = handle.swaps_from(0);
//! assert_eq!(swaps[0].audit_entry("alice").action, "model.replace");
//! # Ok(())
//! # }
//! ```

mod carry;
mod compare;
mod shadow;
mod slot;
#[cfg(feature = "linfa")]
mod windows;

pub use self::carry::take_over;
pub use self::compare::{Disagreement, Example};
pub use self::shadow::{Shadow, ShadowHandle};
pub use self::slot::{ModelSlot, SlotHandle, Swap, Taken};
#[cfg(feature = "linfa")]
#[cfg_attr(docsrs, doc(cfg(feature = "linfa")))]
pub use self::windows::{WindowAnalyzer, WindowParams, WindowParamsError};
