use amoskys_core::Analyzer;

use crate::snapshot;

/// Brings an analyzer to the state of another one of the same kind that has another model: what was seen of hosts, flows and
/// incidents is a matter of events, not of the model. Says whether that was possible; if not, `after` is as it was.
///
/// Analyzers of this crate that have the same name and settings that fit take the state over, others do so if they accept each
/// other's snapshots. Costs a snapshot and its restoration.
pub fn take_over(before: &dyn Analyzer, after: &mut dyn Analyzer) -> bool {
    let (from, to) = (before.model(), after.model());
    if from.name != to.name {
        return false;
    }
    let Ok(state) = before.snapshot() else {
        return false;
    };
    if after.restore(&state).is_ok() {
        return true;
    }
    snapshot::for_model(state, to.digest).is_some_and(|state| after.restore(&state).is_ok())
}
