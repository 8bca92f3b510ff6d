//! Where two models that see the same events say different things.

use std::collections::BTreeMap;
use std::fmt;

use amoskys_core::Timestamp;
use amoskys_core::event::{Entity, Technique, Verdict, VerdictId};
use serde::{Deserialize, Serialize};

use crate::measure::seconds_between;

/// Conclusions about the same entity and technique are about the same thing if no more seconds lie between them.
const APART: f64 = 3_600.0;
/// Things that are compared at most; further ones are counted.
const MOST: usize = 10_000;
/// Examples that are named.
const EXAMPLES: usize = 10;

/// What two models disagree about, so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Disagreement {
    /// Observations that both have seen.
    pub observations: u64,
    /// Observations that the shadow refused.
    pub refused: u64,
    /// Whether the shadow panicked, and is not asked since.
    pub failed: bool,
    /// Alerts of both.
    pub both: u64,
    /// Alerts of the model at work alone.
    pub only_active: u64,
    /// Alerts of the shadow alone.
    pub only_shadow: u64,
    /// Conclusions of both, alerts or not, whose scores are compared.
    pub compared: u64,
    /// Mean of the shadow's scores minus those of the model at work, over what is compared; 0 if nothing is.
    pub mean_difference: f64,
    /// The largest difference of two scores that are compared, without its sign.
    pub largest_difference: f64,
    /// Conclusions that were not compared because there were too many.
    pub left_out: u64,
    /// Where they differ most, ten at most: alerts of one alone first, then the largest differences.
    pub examples: Vec<Example>,
}

/// A thing that two models see differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// Who is accused.
    pub entity: Entity,
    /// Of what.
    pub technique: Option<Technique>,
    /// When it was first said.
    pub time: Timestamp,
    /// In the words of the model at work, if it said anything, else of the shadow.
    pub title: String,
    /// Score of the model at work, if it said anything.
    pub active: Option<f64>,
    /// Score of the shadow, if it said anything.
    pub shadow: Option<f64>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Active,
    Shadow,
}

/// Pairs up what both say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Comparison {
    pub(super) observations: u64,
    pub(super) refused: u64,
    #[serde(skip)]
    pub(super) failed: bool,
    left_out: u64,
    things: BTreeMap<(Entity, Option<Technique>), Vec<Pair>>,
    count: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pair {
    time: Timestamp,
    updated: Timestamp,
    said: [Option<Said>; 2],
}

/// What one said, in its latest words.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Said {
    id: VerdictId,
    title: String,
    score: f64,
    alert: bool,
}

impl Comparison {
    pub(super) fn take(&mut self, side: Side, verdict: &Verdict) {
        let side = side as usize;
        let key = (verdict.entity.clone(), verdict.technique.clone());
        let said = Said {
            id: verdict.id,
            title: verdict.title.chars().take(200).collect(),
            score: verdict.score,
            alert: verdict.is_alert(),
        };
        if let Some(pairs) = self.things.get_mut(&key) {
            let mine = |pair: &Pair| pair.said[side].as_ref().is_some_and(|said| said.id == verdict.id);
            let open = |pair: &Pair| {
                pair.said[side].is_none() && seconds_between(pair.updated, verdict.time).abs() < APART
            };
            let at = pairs
                .iter()
                .position(mine)
                .or_else(|| pairs.iter().position(open));
            if let Some(pair) = at.and_then(|at| pairs.get_mut(at)) {
                pair.said[side] = Some(said);
                pair.updated = pair.updated.max(verdict.updated);
                return;
            }
        }
        if self.count >= MOST {
            self.left_out += u64::from(verdict.revision == 0);
            return;
        }
        self.count += 1;
        let mut both = [None, None];
        both[side] = Some(said);
        self.things.entry(key).or_default().push(Pair {
            time: verdict.time,
            updated: verdict.updated,
            said: both,
        });
    }

    pub(super) fn summary(&self) -> Disagreement {
        let mut summary = Disagreement {
            observations: self.observations,
            refused: self.refused,
            failed: self.failed,
            left_out: self.left_out,
            ..Disagreement::default()
        };
        let mut sum = 0.0;
        let mut examples: Vec<(bool, f64, Example)> = Vec::new();
        for ((entity, technique), pairs) in &self.things {
            for pair in pairs {
                let [active, shadow] = &pair.said;
                let alert = |said: &Option<Said>| said.as_ref().is_some_and(|said| said.alert);
                let alerts = (alert(active), alert(shadow));
                match alerts {
                    (true, true) => summary.both += 1,
                    (true, false) => summary.only_active += 1,
                    (false, true) => summary.only_shadow += 1,
                    (false, false) => {}
                }
                let score = |said: &Option<Said>| said.as_ref().map(|said| said.score);
                let (a, b) = (score(active), score(shadow));
                if let (Some(a), Some(b)) = (a, b) {
                    summary.compared += 1;
                    sum += b - a;
                    summary.largest_difference = summary.largest_difference.max((b - a).abs());
                }
                let by = b.unwrap_or_default() - a.unwrap_or_default();
                if by == 0.0 {
                    continue;
                }
                let words = active.as_ref().or(shadow.as_ref());
                let example = Example {
                    entity: entity.clone(),
                    technique: technique.clone(),
                    time: pair.time,
                    title: words.map_or_else(String::new, |said| said.title.clone()),
                    active: a,
                    shadow: b,
                };
                examples.push((alerts.0 != alerts.1, by.abs(), example));
            }
        }
        if summary.compared > 0 {
            summary.mean_difference = sum / summary.compared as f64;
        }
        examples.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
        summary.examples = examples
            .into_iter()
            .take(EXAMPLES)
            .map(|(.., example)| example)
            .collect();
        summary
    }
}

impl fmt::Display for Disagreement {
    /// For people, some lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            both,
            only_active,
            only_shadow,
            compared,
            ..
        } = self;
        writeln!(
            f,
            "shadow: {both} alerts of both, {only_active} of the model at work alone, {only_shadow} of the shadow alone"
        )?;
        writeln!(
            f,
            "  {compared} scores compared: the shadow's are {:+.3} on the mean, {:.3} apart at most",
            self.mean_difference, self.largest_difference
        )?;
        if self.refused > 0 {
            writeln!(
                f,
                "  the shadow refused {} of {} observations",
                self.refused, self.observations
            )?;
        }
        if self.failed {
            writeln!(f, "  the shadow failed, and was not asked any more")?;
        }
        if self.left_out > 0 {
            writeln!(f, "  {} conclusions were not compared", self.left_out)?;
        }
        let score =
            |score: Option<f64>| score.map_or_else(|| "   -".to_owned(), |score| format!("{score:.2}"));
        for example in &self.examples {
            let technique = example.technique.as_ref().map_or("", Technique::as_str);
            writeln!(
                f,
                "  {} at work, {} shadow  {technique:9}  {:22}  {}",
                score(example.active),
                score(example.shadow),
                example.entity,
                example.title
            )?;
        }
        Ok(())
    }
}
