//! All that is learned about the calls of processes, as one model.

use std::collections::BTreeMap;

use amoskys_core::event::{ModelRef, ScoreInterval};
use amoskys_core::{Digest, FeatureDef, FeatureSchema};
use serde::{Deserialize, Serialize};

use super::{CallModel, CallParams, SequenceError, Threshold, TraceModel, TraceParams};
use crate::calibrate::Conformal;
use crate::model::{ModelFile, ModelFileError, Origin};

/// A normal trace of a program.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// Name of the program, as events have it; empty if it is not known.
    pub program: &'a str,
    /// Its calls, in order.
    pub calls: &'a [u32],
}

/// Settings of a [`SequenceModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceParams {
    /// Of whole traces.
    pub traces: TraceParams,
    /// Of single calls.
    pub calls: CallParams,
    /// Share of normal traces that may raise an alarm. Default 0.01.
    pub false_alarms: f64,
    /// Of so many distinct traces, one is held out to set the threshold. Default 3.
    pub held_out: usize,
    /// Traces of a program from which on it has a model of its own. Default 5.
    pub own_model: usize,
    /// Probability of an attack before its trace is seen, for probabilities. Default 0.001.
    pub prior: f64,
}

impl Default for SequenceParams {
    fn default() -> Self {
        Self {
            traces: TraceParams::default(),
            calls: CallParams::default(),
            false_alarms: 0.01,
            held_out: 3,
            own_model: 5,
            prior: 0.001,
        }
    }
}

/// Ranks traces, points at calls, and knows which scores normal traces have.
///
/// Programs with enough traces have a model of their calls of their own, which leaves to the general one what it does not know: a
/// program that was never seen is judged by the general one alone.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceModel {
    params: SequenceParams,
    traces: TraceModel,
    general: CallModel,
    programs: BTreeMap<String, CallModel>,
    threshold: Threshold,
    normal: Conformal,
}

const TRACES: &str = "sequence_traces";
const GENERAL: &str = "sequence_calls";
const PROGRAMS: &str = "sequence_programs";
const SETTINGS: &str = "sequence_settings";
const NORMAL: &str = "sequence_normal";

impl SequenceParams {
    /// Learns from normal traces. Every third distinct one is held out from ranking, to set the threshold; at least
    /// 1 / [`false_alarms`](Self::false_alarms) must be.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or there are too few traces.
    pub fn fit(&self, examples: &[Example<'_>]) -> Result<SequenceModel, SequenceError> {
        if self.held_out < 2 {
            return Err(SequenceError::Setting {
                setting: "held_out",
                reason: "must be 2 or more",
            });
        }
        let mut distinct: Vec<&[u32]> = examples.iter().map(|example| example.calls).collect();
        distinct.sort_unstable();
        distinct.dedup();
        // By content, not by place: which are held out does not depend on the order of the examples.
        distinct.sort_by_cached_key(|calls| digest(calls));
        let is_held_out = |at: usize| at % self.held_out == self.held_out - 1;
        let part = |held_out: bool| -> Vec<&[u32]> {
            let chosen = distinct
                .iter()
                .enumerate()
                .filter(|(at, _)| is_held_out(*at) == held_out);
            chosen.map(|(_, calls)| *calls).collect()
        };
        let traces = self.traces.fit(&part(false))?;
        let mut scorer = traces.scorer();
        let scores: Vec<f64> = part(true).iter().map(|calls| scorer.score(calls).value).collect();
        let threshold = Threshold::conformal(&scores, self.false_alarms)?;
        let normal = Conformal::fit(&scores, self.prior).map_err(|_| SequenceError::Setting {
            setting: "prior",
            reason: "must be between 0 and 1",
        })?;
        let all: Vec<&[u32]> = examples.iter().map(|example| example.calls).collect();
        let general = self.calls.fit(&all)?;
        let mut by_program: BTreeMap<&str, Vec<&[u32]>> = BTreeMap::new();
        for example in examples.iter().filter(|example| !example.program.is_empty()) {
            by_program.entry(example.program).or_default().push(example.calls);
        }
        let mut programs = BTreeMap::new();
        for (program, calls) in by_program {
            if calls.len() >= self.own_model && calls.iter().any(|calls| !calls.is_empty()) {
                programs.insert(program.to_owned(), self.calls.fit(&calls)?);
            }
        }
        Ok(SequenceModel {
            params: self.clone(),
            traces,
            general,
            programs,
            threshold,
            normal,
        })
    }
}

impl SequenceModel {
    /// The model of whole traces.
    #[must_use]
    pub const fn traces(&self) -> &TraceModel {
        &self.traces
    }

    /// The general model of calls.
    #[must_use]
    pub const fn general(&self) -> &CallModel {
        &self.general
    }

    /// The model of a program's calls, if it has one of its own.
    #[must_use]
    pub fn program(&self, program: &str) -> Option<&CallModel> {
        self.programs.get(program)
    }

    /// Where alarms begin.
    #[must_use]
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The share of held-out normal traces that score as high.
    #[must_use]
    pub fn p_value(&self, score: f64) -> f64 {
        self.normal.p_value(score)
    }

    /// The probability that a trace of this score is an attack, at most: see [`Conformal::probability`].
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        self.normal.probability(score)
    }

    /// The bounds of that probability, by the number of normal traces held out.
    #[must_use]
    pub fn score_interval(&self, score: f64) -> Option<ScoreInterval> {
        let interval = self.normal.interval(score, ScoreInterval::CONFIDENCE);
        interval.of_score(interval.probability)
    }

    /// The calls of a trace that are least expected, with their place and surprise in bits, the most surprising first.
    #[must_use]
    pub fn surprising(&self, program: &str, calls: &[u32], most: usize) -> Vec<(usize, u32, f64)> {
        let own = self.program(program);
        let (mut general, mut of_program) = Default::default();
        let mut found: Vec<(usize, u32, f64)> = Vec::with_capacity(calls.len());
        for (at, call) in calls.iter().enumerate() {
            let mut chance = self.general.step(&mut general, *call);
            if let Some(own) = own {
                chance = own.step_over(&mut of_program, *call, chance.probability);
            }
            found.push((at, *call, chance.bits()));
        }
        found.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
        found.truncate(most);
        found
    }

    /// Puts it into a model file.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    pub fn to_file(&self, name: &str, version: &str, origin: Origin) -> Result<ModelFile, ModelFileError> {
        let mut file = ModelFile::new(name, version, sequence_schema(), origin);
        file.put(SETTINGS, &(&self.params, self.threshold))?;
        file.put(TRACES, &self.traces)?;
        file.put(GENERAL, &self.general)?;
        file.put(PROGRAMS, &self.programs)?;
        file.put(NORMAL, &self.normal)?;
        Ok(file)
    }

    /// Takes it out of a model file.
    ///
    /// # Errors
    ///
    /// If the file holds no such model, or one of another schema, or its parts do not fit together.
    pub fn of_file(file: &ModelFile) -> Result<Self, ModelFileError> {
        fn part<T: serde::de::DeserializeOwned>(file: &ModelFile, name: &str) -> Result<T, ModelFileError> {
            file.part(name)?.ok_or_else(|| ModelFileError::Part {
                part: name.to_owned(),
                source: "it is not there".into(),
            })
        }
        file.check_schema(&sequence_schema())?;
        let (params, threshold) = part(file, SETTINGS)?;
        let model = Self {
            params,
            threshold,
            traces: part(file, TRACES)?,
            general: part(file, GENERAL)?,
            programs: part(file, PROGRAMS)?,
            normal: part(file, NORMAL)?,
        };
        let fail = |name: &str, error: SequenceError| ModelFileError::Part {
            part: name.to_owned(),
            source: error.into(),
        };
        model.traces.check().map_err(|error| fail(TRACES, error))?;
        model.general.check().map_err(|error| fail(GENERAL, error))?;
        for program in model.programs.values() {
            program.check().map_err(|error| fail(PROGRAMS, error))?;
        }
        Ok(model)
    }

    /// Name, version and digest, for verdicts.
    pub(super) fn reference(&self) -> Result<ModelRef, ModelFileError> {
        self.to_file("amoskys-sequence", env!("CARGO_PKG_VERSION"), Origin::default())?
            .model_ref()
    }
}

fn digest(calls: &[u32]) -> Digest {
    let bytes: Vec<u8> = calls.iter().flat_map(|call| call.to_le_bytes()).collect();
    Digest::of(&bytes)
}

/// The schema of the evidence that verdicts about sequences give.
#[must_use]
pub fn sequence_schema() -> FeatureSchema {
    let features = [
        (
            "calls",
            "",
            "distance of the calls used to the nearest normal trace, rare calls counting more",
        ),
        (
            "runs",
            "",
            "distance of the runs of calls to the nearest normal trace, rare runs counting more",
        ),
        (
            "missing",
            "",
            "share of a normal trace's runs that are missing, where it is least",
        ),
        (
            "evidence",
            "",
            "how much the trace can say: m / (m + 5) for m distinct runs",
        ),
        (
            "p_value",
            "",
            "share of held-out normal traces that score as high",
        ),
        ("surprise", "bit", "surprise of the least expected call"),
        ("rule", "", "1 if the steps of a written rule were all seen"),
    ];
    let features = features
        .iter()
        .map(|(name, unit, text)| FeatureDef::new(name, unit, text));
    FeatureSchema::new("amoskys.sequence", features.collect())
}
