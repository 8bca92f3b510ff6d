//! Ranks whole traces: how far is the nearest normal one, in three respects?

use serde::{Deserialize, Serialize};

use super::SequenceError;
use super::gram::{Gram, Grams, MAX_ORDER, gram};

/// Settings of a [`TraceModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceParams {
    /// Calls in a run, 2 to 4. Default 3.
    pub order: usize,
    /// Distinct runs at which a trace has half the evidence it can have. Default 5.
    pub evidence: f64,
}

impl Default for TraceParams {
    fn default() -> Self {
        Self {
            order: 3,
            evidence: 5.0,
        }
    }
}

/// More distinct runs, or training traces, than this are not kept.
const LIMIT: usize = 1 << 24;

impl TraceParams {
    /// Learns from normal traces: the calls of one process each, in order. Those shorter than a run teach nothing.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, no trace is long enough, or there are more than 16 million of them or of their runs.
    pub fn fit<T: AsRef<[u32]>>(&self, traces: &[T]) -> Result<TraceModel, SequenceError> {
        if !(2..=MAX_ORDER).contains(&self.order) {
            return Err(SequenceError::Setting {
                setting: "order",
                reason: "must be 2 to 4",
            });
        }
        if !(self.evidence >= 0.0 && self.evidence.is_finite()) {
            return Err(SequenceError::Setting {
                setting: "evidence",
                reason: "must be a number from 0 up",
            });
        }
        let mut traces: Vec<&[u32]> = traces.iter().map(AsRef::as_ref).collect();
        traces.retain(|trace| trace.len() >= self.order);
        if traces.is_empty() {
            return Err(SequenceError::NoTraces { order: self.order });
        }
        let too_many = |what| SequenceError::TooMany { what, limit: LIMIT };
        if traces.len() > LIMIT {
            return Err(too_many("traces"));
        }
        let count = traces.len() as f64;

        let (mut calls, mut runs) = (Grams::default(), Grams::default());
        let (mut using, mut having): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut counted = Vec::with_capacity(traces.len());
        for trace in &traces {
            let used = distinct(trace.iter().map(|call| calls.number(gram(&[*call]))));
            let windows = trace.windows(self.order);
            let present = distinct(windows.map(|window| runs.number(gram(window))));
            if runs.len() > LIMIT {
                return Err(too_many("runs"));
            }
            using.resize(calls.len(), 0);
            used.iter().for_each(|(call, _)| using[*call as usize] += 1);
            having.resize(runs.len(), 0);
            present.iter().for_each(|(run, _)| having[*run as usize] += 1);
            counted.push((used, present));
        }
        let rarity = |documents: &u32| idf(count, f64::from(*documents));
        let call_weights: Vec<f32> = using.iter().map(rarity).collect();
        let run_weights: Vec<f32> = having.iter().map(rarity).collect();
        // A trace seen twice is no nearer for it.
        counted.sort_unstable();
        counted.dedup();

        let mut model = TraceModel {
            params: self.clone(),
            unknown_weight: idf(count, 0.0),
            call_sums: counted.iter().map(|(used, _)| sum(used, &call_weights)).collect(),
            call_weights,
            run_weights,
            run_counts: counted.iter().map(|(_, present)| present.len() as u32).collect(),
            call_index: Index::default(),
            run_index: Index::default(),
            calls,
            runs,
        };
        let mut by_call = vec![Vec::new(); model.calls.len()];
        let mut by_run = vec![Vec::new(); model.runs.len()];
        for (trace, (used, present)) in (0..).zip(&counted) {
            used.iter().for_each(|(call, _)| {
                by_call[*call as usize].push((trace, model.call_weights[*call as usize]))
            });
            let weight = |run: u32, n: u32| f64::from(n) * f64::from(model.run_weights[run as usize]);
            let square: f64 = present.iter().map(|(run, n)| weight(*run, *n).powi(2)).sum();
            for (run, n) in present {
                let share = weight(*run, *n) / square.sqrt();
                by_run[*run as usize].push((trace, share as f32));
            }
        }
        model.call_index = Index::of(by_call);
        model.run_index = Index::of(by_run);
        Ok(model)
    }
}

/// What a normal trace looks like, from examples: which calls it uses, which runs of calls, and which of them it never leaves out.
///
/// The score of a trace is the sum of three distances, each from 0 to 1, each to the training trace that is nearest in that
/// respect, times a factor for evidence:
///
/// - the calls it uses and the training trace does not, or the other way round (Jaccard, calls weighted with their rarity);
/// - its runs of three calls, by counts weighted with their rarity (1 - cosine of tf-idf vectors);
/// - the share of the training trace's runs that it lacks: an intruder's short program looks like a known one with parts missing;
/// - times m / (m + 5) for m distinct runs: a loop of one new call is one novelty, however often it turns.
///
/// # When it fails
///
/// It judges processes that ran to an end, or a long stretch of one; a trace of a few runs has no evidence. A program that is
/// absent from training is far from everything. An intruder who goes through the motions of a known program is near (mimicry).
/// Scores of training traces are lower than those of new ones: set thresholds on other normal traces.
///
/// # Cost
///
/// See `docs/sequences.md`. Memory: about 8 bytes for each distinct run of each distinct training trace.
///
/// ```
/// use amoskys_analysis::sequence::TraceParams;
///
/// let normal = [vec![3, 4, 5, 6, 3, 4, 5, 6, 1], vec![3, 4, 5, 3, 4, 5, 6, 1]];
/// let model = TraceParams::default().fit(&normal)?;
/// let mut scorer = model.scorer();
/// let usual = scorer.score(&[3, 4, 5, 6, 3, 4, 5, 6, 1]);
/// let other = scorer.score(&[11, 41, 41, 41, 102, 63, 63, 63, 11]);
/// assert!(usual.value < 0.1 && other.value > 1.0);
/// # Ok::<(), amoskys_analysis::sequence::SequenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceModel {
    params: TraceParams,
    unknown_weight: f32,
    /// Rarity of each call, and of each run.
    call_weights: Vec<f32>,
    run_weights: Vec<f32>,
    /// Of each training trace, the rarities of its distinct calls added up, and how many distinct runs it has.
    call_sums: Vec<f32>,
    run_counts: Vec<u32>,
    /// Which training traces use a call, with its rarity, and which have a run, with its share of their length.
    call_index: Index,
    run_index: Index,
    calls: Grams,
    runs: Grams,
}

impl TraceModel {
    /// Something to score traces with, one after the other.
    #[must_use]
    pub fn scorer(&self) -> TraceScorer<'_> {
        let traces = self.run_counts.len();
        TraceScorer {
            model: self,
            shared_calls: vec![0.0; traces],
            shared_runs: vec![Shared::default(); traces],
            known: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Distinct training traces.
    #[must_use]
    pub fn traces(&self) -> usize {
        self.run_counts.len()
    }

    /// Runs of this trace that no training trace has, with how often they occur, the most frequent first.
    #[must_use]
    pub fn unknown_runs(&self, trace: &[u32]) -> Vec<(Vec<u32>, usize)> {
        let windows = trace.windows(self.params.order).map(gram);
        let mut unknown: Vec<Gram> = windows.filter(|run| self.runs.find(run).is_none()).collect();
        unknown.sort_unstable();
        let runs = unknown.chunk_by(|a, b| a == b);
        let mut runs: Vec<(Vec<u32>, usize)> = runs
            .map(|same| (same[0][..self.params.order].to_vec(), same.len()))
            .collect();
        runs.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        runs
    }

    /// Whether the parts of a model that was read fit together.
    ///
    /// # Errors
    ///
    /// [`SequenceError::Stored`] if they do not.
    pub fn check(&self) -> Result<(), SequenceError> {
        let traces = self.run_counts.len();
        let sound = (2..=MAX_ORDER).contains(&self.params.order)
            && self.params.evidence >= 0.0
            && self.call_sums.len() == traces
            && traces > 0
            && self.call_weights.len() == self.calls.len()
            && self.run_weights.len() == self.runs.len()
            && self.call_index.is_sound(self.calls.len(), traces)
            && self.run_index.is_sound(self.runs.len(), traces)
            && self.run_counts.iter().all(|runs| *runs > 0);
        if sound {
            Ok(())
        } else {
            let reason = "its tables differ in length";
            Err(SequenceError::Stored { reason })
        }
    }
}

/// What a trace amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TraceScore {
    /// (calls + runs + missing) · evidence, 0 to 3; higher is more anomalous.
    pub value: f64,
    /// Distance of the set of calls to the nearest training trace.
    pub calls: f64,
    /// Distance of the weighted runs to the nearest training trace.
    pub runs: f64,
    /// Share of a training trace's runs that is missing, where it is least.
    pub missing: f64,
    /// Distinct runs in the trace.
    pub distinct: usize,
    /// How much the trace can say: 0 to 1.
    pub evidence: f64,
}

/// Scores traces with a [`TraceModel`]. Keeps its working memory between traces.
#[derive(Clone, Debug)]
pub struct TraceScorer<'a> {
    model: &'a TraceModel,
    shared_calls: Vec<f32>,
    shared_runs: Vec<Shared>,
    known: Vec<u32>,
    unknown: Vec<Gram>,
}

/// What a trace has in common with a training trace.
#[derive(Clone, Copy, Debug, Default)]
struct Shared {
    product: f32,
    runs: u32,
}

impl TraceScorer<'_> {
    /// The score of a trace.
    #[must_use]
    pub fn score(&mut self, trace: &[u32]) -> TraceScore {
        let model = self.model;
        let order = model.params.order;
        if trace.len() < order {
            return TraceScore::default();
        }
        self.shared_calls.fill(0.0);
        self.shared_runs.fill(Shared::default());

        let (known, unknown) = self.count(trace, 1);
        for (call, _) in &known {
            for (training, weight) in model.call_index.of_key(*call) {
                self.shared_calls[*training as usize] += weight;
            }
        }
        let used = sum(&known, &model.call_weights) + unknown.len() as f32 * model.unknown_weight;
        let shares = self.shared_calls.iter().zip(&model.call_sums);
        let shares = shares.map(|(shared, of_training)| shared / (used + of_training - shared));
        let calls = (1.0 - f64::from(shares.fold(0.0, f32::max))).max(0.0);

        let (known, unknown) = self.count(trace, order);
        let mut square = 0.0;
        for (run, n) in &known {
            let weight = *n as f32 * model.run_weights[*run as usize];
            square += f64::from(weight) * f64::from(weight);
            for (training, share) in model.run_index.of_key(*run) {
                let shared = &mut self.shared_runs[*training as usize];
                shared.product += weight * share;
                shared.runs += 1;
            }
        }
        for n in &unknown {
            square += (f64::from(*n) * f64::from(model.unknown_weight)).powi(2);
        }
        let nearest = self.shared_runs.iter().map(|shared| shared.product);
        let nearest = f64::from(nearest.fold(0.0, f32::max));
        let runs = (1.0 - nearest / square.sqrt()).clamp(0.0, 1.0);
        let missing = self.shared_runs.iter().zip(&model.run_counts);
        let missing = missing.map(|(shared, count)| 1.0 - f64::from(shared.runs) / f64::from(*count));
        let missing = missing.fold(1.0, f64::min);

        let distinct = known.len() + unknown.len();
        let evidence = distinct as f64 / (distinct as f64 + model.params.evidence);
        TraceScore {
            value: (calls + runs + missing) * evidence,
            calls,
            runs,
            missing,
            distinct,
            evidence,
        }
    }

    /// The known runs of so many calls, with their counts, and the counts of the unknown ones.
    fn count(&mut self, trace: &[u32], order: usize) -> (Vec<(u32, u32)>, Vec<u32>) {
        let grams = if order == 1 {
            &self.model.calls
        } else {
            &self.model.runs
        };
        self.known.clear();
        self.unknown.clear();
        for window in trace.windows(order) {
            let run = gram(window);
            match grams.find(&run) {
                Some(number) => self.known.push(number),
                None => self.unknown.push(run),
            }
        }
        self.known.sort_unstable();
        self.unknown.sort_unstable();
        let known = self.known.chunk_by(|a, b| a == b);
        let unknown = self.unknown.chunk_by(|a, b| a == b);
        (
            known.map(|same| (same[0], same.len() as u32)).collect(),
            unknown.map(|same| same.len() as u32).collect(),
        )
    }
}

/// Lists by key, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Index {
    starts: Vec<u32>,
    entries: Vec<(u32, f32)>,
}

impl Index {
    fn of(lists: Vec<Vec<(u32, f32)>>) -> Self {
        let mut index = Self::default();
        index.starts.push(0);
        for list in lists {
            index.entries.extend(list);
            index
                .starts
                .push(u32::try_from(index.entries.len()).unwrap_or(u32::MAX));
        }
        index
    }

    #[inline]
    fn of_key(&self, key: u32) -> &[(u32, f32)] {
        let (start, end) = (self.starts[key as usize], self.starts[key as usize + 1]);
        &self.entries[start as usize..end as usize]
    }

    fn is_sound(&self, keys: usize, traces: usize) -> bool {
        self.starts.len() == keys + 1
            && self.starts.is_sorted()
            && self
                .starts
                .last()
                .is_some_and(|end| *end as usize == self.entries.len())
            && self.entries.iter().all(|(trace, _)| (*trace as usize) < traces)
    }
}

/// How much a run says that this many of so many training traces have.
fn idf(traces: f64, having: f64) -> f32 {
    (((1.0 + traces) / (1.0 + having)).ln() + 1.0) as f32
}

/// The weights of these numbers, added up in order.
fn sum(numbers: &[(u32, u32)], weights: &[f32]) -> f32 {
    numbers.iter().map(|(number, _)| weights[*number as usize]).sum()
}

/// Each number once, with its count, in order.
fn distinct(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    let runs = numbers.chunk_by(|a, b| a == b);
    runs.map(|same| (same[0], same.len() as u32)).collect()
}
