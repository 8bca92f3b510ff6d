use amoskys_core::{Analyzer as _, Extractor as _};

use super::{Correlation, Parts, State};
use crate::live::take_over;
use crate::snapshot;

impl Correlation {
    /// Goes on from the state of another correlation, whose analyzers have other models: each analyzer from that of the one with its
    /// name, as far as it [can](crate::live::take_over), the others afresh. What was joined into incidents stays joined. Says whether
    /// the state could be taken over; if not, everything is as it was. For [`ModelSlot`](crate::live::ModelSlot).
    pub fn take_over(&mut self, before: &Self) -> bool {
        let state = before
            .snapshot()
            .ok()
            .and_then(|state| snapshot::for_model(state, self.model.digest))
            .and_then(|state| snapshot::decode::<(State, Parts)>(self.model.digest, &state).ok());
        let Some((state, (_, extractors))) = state else {
            return false;
        };
        for member in &mut self.members {
            let name = member.model().name;
            if let Some(old) = before.members.iter().find(|old| old.model().name == name) {
                take_over(&**old, &mut **member);
            }
        }
        // Windows that are open go on where the extractor makes the same ones, else they begin afresh.
        for (extractor, state) in self.extractors.iter_mut().zip(&extractors) {
            if let Err(error) = extractor.restore(state) {
                tracing::info!(%error, "windows begin afresh with another model");
            }
        }
        self.state = state;
        true
    }
}
