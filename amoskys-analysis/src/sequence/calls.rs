//! How surprising each call is after those before it: an n-gram model with back-off.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::SequenceError;

/// Settings of a [`CallModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallParams {
    /// Calls before a call that can tell about it, 1 to 16. Default 5.
    pub context: usize,
    /// Calls there may be in all, known or not: what no context has seen is spread over so many. Default 512.
    pub vocabulary: u32,
    /// Contexts that may be kept. Default 4 million, about 200 MB at worst.
    pub max_contexts: usize,
}

impl Default for CallParams {
    fn default() -> Self {
        Self {
            context: 5,
            vocabulary: 512,
            max_contexts: 1 << 22,
        }
    }
}

impl CallParams {
    fn check(&self) -> Result<(), SequenceError> {
        let refuse = |setting, reason| Err(SequenceError::Setting { setting, reason });
        if !(1..=16).contains(&self.context) {
            return refuse("context", "must be 1 to 16");
        }
        if self.vocabulary == 0 {
            return refuse("vocabulary", "must be 1 or more");
        }
        if !(1..=1 << 28).contains(&self.max_contexts) {
            return refuse("max_contexts", "must be 1 to 2^28");
        }
        Ok(())
    }

    /// Learns from traces, each the calls of one process or thread in order.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, there is no call, or there are too many contexts.
    pub fn fit<T: AsRef<[u32]>>(&self, traces: &[T]) -> Result<CallModel, SequenceError> {
        self.check()?;
        let mut counts: HashMap<&[u32], HashMap<u32, u32>> = HashMap::new();
        for trace in traces {
            let trace = trace.as_ref();
            for (at, call) in trace.iter().enumerate() {
                for length in 0..=self.context.min(at) {
                    let seen = counts.entry(&trace[at - length..at]).or_default();
                    let count = seen.entry(*call).or_insert(0);
                    *count = count.saturating_add(1);
                }
                if counts.len() > self.max_contexts {
                    return Err(SequenceError::TooMany {
                        what: "contexts",
                        limit: self.max_contexts,
                    });
                }
            }
        }
        if counts.is_empty() {
            return Err(SequenceError::NoTraces { order: 1 });
        }
        Ok(CallModel::build(counts, self.vocabulary))
    }
}

/// Predicts calls from up to so many before them, by what was counted (Witten and Bell 1991): a context is believed by how often it
/// was seen, and otherwise leaves the word to the next shorter one.
///
/// It points at calls; to rank whole traces use a [`TraceModel`](super::TraceModel), which does so better (see
/// `docs/sequences.md`).
///
/// # Cost
///
/// One search in a short list for a call that was expected, one more for each context too long. 16 bytes for each context and
/// 12 for each call seen after it.
///
/// ```
/// use amoskys_analysis::sequence::CallParams;
///
/// let model = CallParams::default().fit(&[[5, 3, 3, 6, 5, 3, 3, 6, 5, 3, 3, 6]])?;
/// let mut at = model.begin();
/// let usual: f64 = [5, 3, 3, 6].map(|call| model.step(&mut at, call).bits()).iter().sum();
/// let odd = model.step(&mut at, 11);
/// assert!(usual < 6.0 && odd.bits() > 8.0);
/// assert_eq!(odd.known_after, None);
/// # Ok::<(), amoskys_analysis::sequence::SequenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallModel {
    contexts: Vec<Context>,
    calls: Vec<Seen>,
    /// Probability of a call that nothing is known of.
    base: f32,
}

/// Some calls in a row. The first of a model is the empty one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Context {
    /// Where the calls seen after it begin; they end where those of the next context begin.
    start: u32,
    /// The context without its first call.
    shorter: u32,
    /// What it leaves to the shorter one.
    left: f32,
    /// What it and all shorter ones leave to whatever knows nothing of the context.
    left_in_all: f32,
}

/// A call seen after a context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    call: u32,
    /// Its probability, without what is left to whatever knows nothing of the context.
    probability: f32,
    /// The longest context known that ends with it.
    next: u32,
}

/// The calls seen after a context, with how often, in order of the calls.
type Counted = Vec<(u32, u32)>;

/// Where a process stands in a model. Belongs to the model that gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position(u32);

/// How likely a call was.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CallChance {
    /// Its probability, above 0.
    pub probability: f64,
    /// How many shortenings it took until the context had seen the call; `None` if not even the empty one had.
    pub known_after: Option<u8>,
}

impl CallChance {
    /// Surprise, in bits.
    #[must_use]
    pub fn bits(&self) -> f64 {
        -self.probability.log2()
    }
}

impl CallModel {
    fn build(counts: HashMap<&[u32], HashMap<u32, u32>>, vocabulary: u32) -> Self {
        let mut counts: Vec<(&[u32], Counted)> = counts
            .into_iter()
            .map(|(context, seen)| {
                let mut seen: Counted = seen.into_iter().collect();
                seen.sort_unstable();
                (context, seen)
            })
            .collect();
        // Shorter contexts first: longer ones rest on them.
        counts.sort_unstable_by(|a, b| (a.0.len(), a.0).cmp(&(b.0.len(), b.0)));
        let numbers: HashMap<&[u32], u32> = counts.iter().map(|(context, _)| *context).zip(0..).collect();
        let mut model = Self {
            contexts: Vec::with_capacity(counts.len() + 1),
            calls: Vec::new(),
            base: 1.0 / vocabulary as f32,
        };
        let mut joined = Vec::new();
        for (context, seen) in counts {
            let shorter = context.get(1..).and_then(|shorter| numbers.get(shorter));
            let shorter = shorter.copied().unwrap_or(0);
            let distinct = seen.len() as f64;
            let total: f64 = seen.iter().map(|(_, count)| f64::from(*count)).sum();
            let left = distinct / (total + distinct);
            let left_before = match model.contexts.get(shorter as usize) {
                Some(context_before) if !context.is_empty() => f64::from(context_before.left_in_all),
                _ => 1.0,
            };
            let start = u32::try_from(model.calls.len()).unwrap_or(u32::MAX);
            // Before its calls: they end those of the context before.
            model.contexts.push(Context {
                start,
                shorter,
                left: left as f32,
                left_in_all: (left * left_before) as f32,
            });
            for (call, count) in seen {
                let (before, next) = if context.is_empty() {
                    (0.0, 0)
                } else {
                    let known = model.find(shorter, call);
                    known.map_or((0.0, 0), |known| (f64::from(known.probability), known.next))
                };
                joined.clear();
                joined.extend_from_slice(context);
                joined.push(call);
                model.calls.push(Seen {
                    call,
                    probability: (f64::from(count) / (total + distinct) + left * before) as f32,
                    next: numbers.get(joined.as_slice()).copied().unwrap_or(next),
                });
            }
        }
        // Where the calls of the last context end.
        model.contexts.push(Context {
            start: u32::try_from(model.calls.len()).unwrap_or(u32::MAX),
            shorter: 0,
            left: 1.0,
            left_in_all: 1.0,
        });
        model
    }

    /// Before the first call of a process, or where calls were lost.
    #[must_use]
    pub const fn begin(&self) -> Position {
        Position(0)
    }

    /// The chance of a call, and the position after it.
    #[inline]
    pub fn step(&self, position: &mut Position, call: u32) -> CallChance {
        self.step_over(position, call, f64::from(self.base))
    }

    /// The same where something else says how likely the call is as far as this model does not know: a general model, for one of a
    /// program that has been seen little of.
    #[inline]
    pub fn step_over(&self, position: &mut Position, call: u32, otherwise: f64) -> CallChance {
        let mut at = position.0;
        let left_in_all = self
            .contexts
            .get(at as usize)
            .map_or(1.0, |c| f64::from(c.left_in_all));
        let mut share = 1.0_f32;
        let mut shortened = 0;
        loop {
            if let Some(seen) = self.find(at, call) {
                position.0 = seen.next;
                return CallChance {
                    probability: f64::from(share * seen.probability) + left_in_all * otherwise,
                    known_after: Some(shortened),
                };
            }
            if at == 0 {
                break;
            }
            let context = self.contexts[at as usize];
            share *= context.left;
            at = context.shorter;
            shortened += 1;
        }
        position.0 = 0;
        CallChance {
            probability: left_in_all * otherwise,
            known_after: None,
        }
    }

    /// Surprise of a whole trace: bits of each call in turn.
    pub fn bits<'a>(&'a self, trace: &'a [u32]) -> impl Iterator<Item = f64> + 'a {
        let mut at = self.begin();
        trace.iter().map(move |call| self.step(&mut at, *call).bits())
    }

    /// Contexts kept.
    #[must_use]
    pub fn contexts(&self) -> usize {
        self.contexts.len().saturating_sub(1)
    }

    /// Whether the parts of a model that was read fit together.
    ///
    /// # Errors
    ///
    /// [`SequenceError::Stored`] if they do not.
    pub fn check(&self) -> Result<(), SequenceError> {
        let contexts = self.contexts.len();
        let number = |at: u32| (at as usize) + 1 < contexts;
        let shares = |share: f32| (0.0..=1.0).contains(&share);
        let sound = contexts > 1
            && self.contexts.is_sorted_by_key(|context| context.start)
            && self.contexts[0].start == 0
            && self.contexts[contexts - 1].start as usize == self.calls.len()
            // A shorter context comes before: looking for a call ends.
            && self.contexts.iter().zip(0_u32..).all(|(context, at)| context.shorter < at.max(1))
            && self.contexts.iter().all(|context| shares(context.left) && shares(context.left_in_all))
            && self.calls.iter().all(|seen| number(seen.next) && shares(seen.probability))
            && self.base > 0.0
            && self.base <= 1.0;
        if sound {
            Ok(())
        } else {
            let reason = "its contexts do not fit together";
            Err(SequenceError::Stored { reason })
        }
    }

    #[inline]
    fn find(&self, context: u32, call: u32) -> Option<&Seen> {
        let at = context as usize;
        let start = self.contexts.get(at)?.start as usize;
        let end = self
            .contexts
            .get(at + 1)
            .map_or(self.calls.len(), |next| next.start as usize);
        let seen = &self.calls[start..end];
        if seen.len() <= 8 {
            return seen.iter().find(|seen| seen.call == call);
        }
        let at = seen.binary_search_by_key(&call, |seen| seen.call).ok()?;
        Some(&seen[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Witten-Bell as it is defined, by counting anew each time.
    fn slow(traces: &[&[u32]], context: &[u32], call: u32, vocabulary: f64) -> f64 {
        let shorter = || match context {
            [] => 1.0 / vocabulary,
            [_, rest @ ..] => slow(traces, rest, call, vocabulary),
        };
        let mut after: Vec<u32> = Vec::new();
        for trace in traces {
            for at in context.len()..trace.len() {
                if trace[at - context.len()..at] == *context {
                    after.push(trace[at]);
                }
            }
        }
        if after.is_empty() {
            return shorter();
        }
        let count = after.iter().filter(|other| **other == call).count() as f64;
        let total = after.len() as f64;
        after.sort_unstable();
        after.dedup();
        let distinct = after.len() as f64;
        (count + distinct * shorter()) / (total + distinct)
    }

    #[test]
    fn chances_are_those_of_the_definition() {
        let traces: [&[u32]; 3] = [&[1, 2, 3, 1, 2, 4, 1, 2, 3, 5], &[2, 2, 2, 3, 1], &[9]];
        let model = CallParams {
            context: 3,
            vocabulary: 10,
            ..CallParams::default()
        }
        .fit(&traces)
        .unwrap();
        model.check().unwrap();
        let tried = [1, 2, 3, 1, 2, 2, 3, 7, 1, 2, 4, 9, 9, 5, 1, 2, 3];
        let mut at = model.begin();
        for (n, call) in tried.iter().enumerate() {
            let context = &tried[n.saturating_sub(3)..n];
            let expected = slow(&traces, context, *call, 10.0);
            let found = model.step(&mut at, *call).probability;
            assert!((found / expected - 1.0).abs() < 1e-5, "{n}: {found} {expected}");
        }
    }

    #[test]
    fn chances_add_up_to_one() {
        let trace: Vec<u32> = (0..500).map(|n| (n * n / 3) % 7).collect();
        let model = CallParams {
            vocabulary: 8,
            ..CallParams::default()
        }
        .fit(&[&trace])
        .unwrap();
        let mut at = model.begin();
        for call in &trace[..50] {
            let sum: f64 = (0..8)
                .map(|call| model.step(&mut at.clone(), call).probability)
                .sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
            model.step(&mut at, *call);
        }
    }

    #[test]
    fn bad_settings_and_empty_training_are_refused() {
        let none: [&[u32]; 1] = [&[]];
        assert!(CallParams::default().fit(&none).is_err());
        for params in [
            CallParams {
                context: 0,
                ..CallParams::default()
            },
            CallParams {
                vocabulary: 0,
                ..CallParams::default()
            },
            CallParams {
                max_contexts: 3,
                ..CallParams::default()
            },
        ] {
            assert!(params.fit(&[[1, 2, 3, 4, 5]]).is_err(), "{params:?}");
        }
    }
}
