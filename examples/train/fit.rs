//! Fits a model to rows: a part is for fitting, a part for calibration and threshold, and the last for measuring. Where rows depend on
//! each other there is no part for calibration: parts of those for fitting are left out in turn, and scored by what the others teach.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use amoskys_analysis::calibrate::{Calibration, Conformal, Isotonic, Platt};
use amoskys_analysis::detectors::Detector as _;
use amoskys_analysis::eval::{
    Alarms, auroc, average_precision, brier_score, calibration_error, stratified_split,
};
use amoskys_analysis::explain::Explainer;
use amoskys_analysis::model::{
    AnyDetector, DetectorKind, Filling, ModelFile, Origin, StoredTransform, TableModel, TableParts,
};
use amoskys_analysis::sequence::Threshold;
use amoskys_core::{Digest, FeatureSchema, FeatureVector};
use amoskys_features::FittedTransform;
use amoskys_features::encode::Encoder;
use amoskys_features::normalize::Normalizer;
use ndarray::Array2;

use crate::Settings;
use crate::left_out::Division;
use crate::table::{CATEGORY, Table};

/// The part with the parameters, and the one with the names of categories.
pub(crate) const SETTINGS: &str = "settings";
pub(crate) const CATEGORIES: &str = "categories";
/// Categories of a column that get a feature of their own.
const MOST_CATEGORIES: u16 = 64;
/// With fewer rows nothing can be held out.
const FEWEST: usize = 50;
/// Labelled rows from which on isotonic regression has enough.
const ISOTONIC: usize = 1000;
/// Probability of an anomaly before its row is seen, where no labels say it.
const PRIOR: f64 = 0.01;

/// Numbers of the rows that each part takes.
pub(crate) struct Split {
    pub(crate) fit: Vec<usize>,
    pub(crate) calibrate: Vec<usize>,
    pub(crate) test: Vec<usize>,
    /// How rows to fit on are left out in turn for calibration, in place of rows to calibrate on.
    pub(crate) divisions: Vec<Division>,
}

/// What is fitted.
pub(crate) struct Task<'a> {
    pub(crate) schema: &'a Arc<FeatureSchema>,
    pub(crate) vectors: &'a [FeatureVector],
    pub(crate) labels: Option<&'a [bool]>,
    pub(crate) kind: DetectorKind,
    pub(crate) split: Split,
    pub(crate) data: Digest,
}

/// A model of a table.
pub(crate) fn table(path: &Path, settings: &Settings) -> Result<ModelFile, Box<dyn Error>> {
    let table = Table::read(path)?;
    let place = |name: &String| table.column(name);
    let mut excluded: BTreeSet<usize> = settings.exclude.iter().map(place).collect::<Result<_, _>>()?;
    let categorical: BTreeSet<usize> = settings.categorical.iter().map(place).collect::<Result<_, _>>()?;
    let label = settings.label.as_ref().map(place).transpose()?;
    excluded.extend(label);
    let labels = label.map(|label| table.labels(label)).transpose()?;
    let columns = table.columns(&excluded, &categorical)?;
    for (column, why) in &columns.left_out {
        eprintln!("column {} {why} and is left out", table.header[*column]);
    }
    if let Some(labels) = &labels {
        for column in &columns.categories {
            warn_of_answer(&table, *column, labels);
        }
    }
    let name = settings.name.as_deref().unwrap_or("table");
    let schema = Arc::new(table.schema(name, &columns));
    let vectors = table.vectors(&schema)?;
    if vectors.len() < FEWEST {
        return Err(format!("{}: {} rows; {FEWEST} are needed", path.display(), vectors.len()).into());
    }
    let all_honest = vec![false; vectors.len()];
    let strata = labels.as_deref().unwrap_or(&all_honest);
    let kind = match settings.detector {
        Some(kind) if kind.needs_labels() && labels.is_none() => {
            return Err(format!("{kind} needs labels: --label COLUMN").into());
        }
        Some(kind) => kind,
        None if labels.is_some() => DetectorKind::BoostedTrees,
        None => DetectorKind::Ensemble,
    };
    let task = Task {
        schema: &schema,
        vectors: &vectors,
        labels: labels.as_deref(),
        kind,
        split: random_split(strata, settings.seed),
        data: table.digest,
    };
    let mut file = fit(&task, settings)?;
    let mut categories: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for &column in &columns.categories {
        let mut known: Vec<(&str, usize)> = table.categories(column).into_iter().collect();
        known.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let commonest = known.into_iter().take(usize::from(MOST_CATEGORIES));
        categories.insert(&table.header[column], commonest.map(|(name, _)| name).collect());
    }
    file.put(CATEGORIES, &categories)?;
    Ok(file)
}

/// Six tenths for fitting, two for calibration, two for measuring, each with its share of attacks.
fn random_split(labels: &[bool], seed: u64) -> Split {
    let (fit, rest) = stratified_split(labels, 0.4, seed);
    let of_rest: Vec<bool> = rest.iter().map(|&at| labels[at]).collect();
    let (calibrate, test) = stratified_split(&of_rest, 0.5, seed);
    let of = |places: Vec<usize>| places.into_iter().map(|at| rest[at]).collect();
    Split {
        fit,
        calibrate: of(calibrate),
        test: of(test),
        divisions: Vec::new(),
    }
}

/// Fits, calibrates and measures.
pub(crate) fn fit(task: &Task<'_>, settings: &Settings) -> Result<ModelFile, Box<dyn Error>> {
    let Task {
        schema,
        vectors,
        kind,
        ..
    } = task;
    let is_attack = |at: usize| task.labels.is_some_and(|labels| labels[at]);
    // Those that learn what is honest are shown nothing else.
    let fitted: Vec<usize> = task
        .split
        .fit
        .iter()
        .copied()
        .filter(|&at| kind.needs_labels() || !is_attack(at))
        .collect();
    let (prepared, detector) = learn(task, &fitted, settings)?;

    let scores = |places: &[usize]| judge(&prepared, &detector, vectors, places, settings);
    let (calibrate, test) = (&task.split.calibrate, &task.split.test);
    let mut known = scores(calibrate)?;
    let mut honest: Vec<f64> = known
        .iter()
        .zip(calibrate)
        .filter(|(_, at)| !is_attack(**at))
        .map(|(score, _)| *score)
        .collect();
    let mut calibrated_on = None;
    if !task.split.divisions.is_empty() {
        let (name, scores) = left_out(task, settings)?;
        calibrated_on = Some(name);
        honest.clone_from(&scores);
        known = scores;
    }
    let threshold = Threshold::conformal(&honest, settings.false_alarms).map_err(|_| {
        format!(
            "{} honest rows to set the threshold on are too few for --false-alarms {}: it takes {} at least",
            honest.len(),
            settings.false_alarms,
            (1.0 / settings.false_alarms).ceil()
        )
    })?;
    let calibration = match task.labels {
        Some(labels) => {
            let labels: Vec<bool> = calibrate.iter().map(|&at| labels[at]).collect();
            if labels.len() >= ISOTONIC {
                Calibration::from(Isotonic::fit(&known, &labels)?)
            } else {
                Calibration::from(Platt::fit(&known, &labels)?)
            }
        }
        None => Calibration::from(Conformal::fit(&honest, PRIOR)?),
    };
    let tested = scores(test)?;
    let labels: Option<Vec<bool>> = task
        .labels
        .map(|labels| test.iter().map(|&at| labels[at]).collect());
    let metrics = measure(&tested, labels.as_deref(), &calibration, threshold);

    let origin = Origin {
        seed: settings.seed,
        training_data: task.data,
        training_rows: vectors.len() as u64,
        metrics,
    };
    let name = settings.name.as_deref().unwrap_or("table");
    let mut file = ModelFile::new(name, "1", FeatureSchema::clone(schema), origin);
    for transform in &prepared.transforms {
        file.transforms.push(StoredTransform {
            kind: transform.kind().to_owned(),
            bytes: transform.to_bytes()?,
        });
    }
    let parts = TableParts {
        detector: &detector,
        calibration: &calibration,
        threshold,
        explainer: &Explainer::fit(prepared.rows(vectors, &fitted)?.view())?,
        filling: &prepared.filling,
        sources: &prepared.sources,
    };
    TableModel::store(&mut file, &parts)?;
    let mut parameters = parameters(task, settings, fitted.len(), &calibration);
    if let Some(name) = calibrated_on {
        parameters.insert("calibrated_on", format!("{name} left out in turn"));
        parameters.insert("rows_calibrated", known.len().to_string());
    }
    file.put(SETTINGS, &parameters)?;
    Ok(file)
}

/// Fits a detector, and what brings rows into its form, on some of the rows.
fn learn(
    task: &Task<'_>,
    places: &[usize],
    settings: &Settings,
) -> Result<(Prepared, AnyDetector), Box<dyn Error>> {
    let prepared = Prepared::fit(task.schema, task.vectors, places, task.kind)?;
    let rows = prepared.rows(task.vectors, places)?;
    let labels: Option<Vec<bool>> = task
        .labels
        .filter(|_| task.kind.needs_labels())
        .map(|labels| places.iter().map(|&at| labels[at]).collect());
    let detector = task
        .kind
        .fit(rows.view(), labels.as_deref(), settings.seed, settings.threads)?;
    Ok((prepared, detector))
}

fn judge(
    prepared: &Prepared,
    detector: &AnyDetector,
    vectors: &[FeatureVector],
    places: &[usize],
    settings: &Settings,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let rows = prepared.rows(vectors, places)?;
    Ok(detector.score_parallel(rows.view(), settings.threads)?.to_vec())
}

/// The scores of rows to detectors that were fitted without the part they are in, by the division that makes alarms rarest: which
/// of them is what tomorrow is like, nobody knows.
fn left_out(task: &Task<'_>, settings: &Settings) -> Result<(&'static str, Vec<f64>), Box<dyn Error>> {
    let mut strictest: Option<(&'static str, Vec<f64>)> = None;
    let mut highest = f64::NEG_INFINITY;
    for division in &task.split.divisions {
        let mut scores = Vec::new();
        for part in &division.parts {
            let (prepared, detector) = learn(task, &part.rest, settings)?;
            scores.extend(judge(
                &prepared,
                &detector,
                task.vectors,
                &part.left_out,
                settings,
            )?);
        }
        let threshold = Threshold::conformal(&scores, settings.false_alarms).map(|threshold| threshold.0);
        let threshold = threshold.unwrap_or(f64::NEG_INFINITY);
        if strictest.is_none() || threshold > highest {
            highest = threshold;
            strictest = Some((division.name, scores));
        }
    }
    strictest.ok_or_else(|| "there is nothing to calibrate on".into())
}

fn parameters(
    task: &Task<'_>,
    settings: &Settings,
    fitted: usize,
    calibration: &Calibration,
) -> BTreeMap<&'static str, String> {
    let calibration = match calibration {
        Calibration::Isotonic(_) => "isotonic",
        Calibration::Platt(_) => "platt",
        _ => "conformal",
    };
    let mut parameters = BTreeMap::from([
        ("detector", task.kind.name().to_owned()),
        ("false_alarms", settings.false_alarms.to_string()),
        ("calibration", calibration.to_owned()),
        ("rows_fitted", fitted.to_string()),
        ("rows_calibrated", task.split.calibrate.len().to_string()),
        ("rows_measured", task.split.test.len().to_string()),
    ]);
    if let Some(label) = &settings.label {
        parameters.insert("label", label.clone());
    }
    for (key, names) in [
        ("excluded", &settings.exclude),
        ("categorical", &settings.categorical),
    ] {
        if !names.is_empty() {
            parameters.insert(key, names.join(","));
        }
    }
    parameters
}

/// Figures of rows that nothing was fitted or set on.
fn measure(
    scores: &[f64],
    labels: Option<&[bool]>,
    calibration: &Calibration,
    threshold: Threshold,
) -> BTreeMap<String, f64> {
    let all_honest = vec![false; scores.len()];
    let alarms = Alarms::count(scores, labels.unwrap_or(&all_honest), threshold.0);
    let mut metrics = vec![("false_alarms", alarms.false_positive_rate())];
    if let Some(labels) = labels {
        let probabilities: Vec<f64> = scores
            .iter()
            .map(|&score| calibration.probability(score))
            .collect();
        metrics.extend([
            ("auroc", auroc(scores, labels)),
            ("average_precision", average_precision(scores, labels)),
            ("recall", alarms.recall()),
            ("precision", alarms.precision()),
            ("f1", alarms.f1()),
            ("brier_score", brier_score(&probabilities, labels)),
            ("calibration_error", calibration_error(&probabilities, labels, 10)),
        ]);
    }
    let finite = |(name, value): (&str, Option<f64>)| {
        Some((name.to_owned(), value.filter(|value| value.is_finite())?))
    };
    metrics.into_iter().filter_map(finite).collect()
}

/// How rows are brought into the form a detector wants.
struct Prepared {
    transforms: Vec<Box<dyn FittedTransform>>,
    filling: Filling,
    sources: Vec<u16>,
}

impl Prepared {
    fn fit(
        schema: &Arc<FeatureSchema>,
        vectors: &[FeatureVector],
        rows: &[usize],
        kind: DetectorKind,
    ) -> Result<Self, Box<dyn Error>> {
        let mut seen: Vec<FeatureVector> = rows.iter().map(|&at| vectors[at].clone()).collect();
        let mut transforms: Vec<Box<dyn FittedTransform>> = Vec::new();
        let features = schema.features().iter();
        let categories: Vec<&str> = features
            .filter(|feature| feature.unit == CATEGORY)
            .map(|feature| feature.name.as_str())
            .collect();
        if !categories.is_empty() {
            let encoder = Encoder::OneHot {
                max_categories: MOST_CATEGORIES,
            };
            transforms.push(Box::new(encoder.fit(&categories, &seen)?));
            apply(&transforms, &mut seen);
        }
        if kind.needs_scaling() {
            let scale = Normalizer::MinMax { clip: false }.fit(&seen)?;
            seen.iter_mut().for_each(|vector| {
                vector.values = scale.values(vector);
                vector.schema = Arc::clone(scale.output());
            });
            transforms.push(Box::new(scale));
        }
        let width = seen.first().map_or(0, |vector| vector.values.len());
        let values: Vec<f64> = seen.into_iter().flat_map(|vector| vector.values).collect();
        let matrix = Array2::from_shape_vec((rows.len(), width), values)?;
        let encoded = transforms.first().map_or(schema, |first| first.output());
        Ok(Self {
            filling: Filling::fit(matrix.view()),
            sources: sources(schema, encoded)?,
            transforms,
        })
    }

    /// Some of the vectors as the detector sees them.
    fn rows(&self, vectors: &[FeatureVector], places: &[usize]) -> Result<Array2<f64>, Box<dyn Error>> {
        let mut values = Vec::new();
        for &at in places {
            let mut one = [vectors[at].clone()];
            apply(&self.transforms, &mut one);
            let [mut vector] = one;
            self.filling.apply(&mut vector.values);
            values.append(&mut vector.values);
        }
        Ok(Array2::from_shape_vec(
            (places.len(), self.sources.len()),
            values,
        )?)
    }
}

fn apply(transforms: &[Box<dyn FittedTransform>], vectors: &mut [FeatureVector]) {
    for transform in transforms {
        for vector in &mut *vectors {
            vector.values = transform.values(vector);
            vector.schema = Arc::clone(transform.output());
        }
    }
}

/// For each encoded feature, the one it was made of. Of a category come several, the last of which is `=other`.
fn sources(schema: &FeatureSchema, encoded: &FeatureSchema) -> Result<Vec<u16>, Box<dyn Error>> {
    let mut sources = Vec::with_capacity(encoded.len());
    let mut features = (0_u16..).zip(schema.features()).peekable();
    for made in encoded.features() {
        let (at, feature) = features.peek().ok_or("the encoder made features of nothing")?;
        sources.push(*at);
        if feature.unit != CATEGORY || made.name.as_str() == format!("{}=other", feature.name) {
            features.next();
        }
    }
    Ok(sources)
}

/// A category that goes with the label in every row is an answer, as a rule.
fn warn_of_answer(table: &Table, column: usize, labels: &[bool]) {
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (row, label) in table.rows.iter().zip(labels) {
        counts.entry(&row[column]).or_default()[usize::from(*label)] += 1;
    }
    let told: usize = counts
        .values()
        .map(|[honest, attacks]| *honest.max(attacks))
        .sum();
    let attacks = labels.iter().filter(|label| **label).count();
    let guessed = attacks.max(labels.len() - attacks);
    if told as f64 > 0.999 * labels.len() as f64 && guessed < told {
        let name = &table.header[column];
        eprintln!(
            "column {name} alone tells the label: if it is an answer, leave it out with --exclude {name}"
        );
    }
}
