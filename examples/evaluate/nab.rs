//! `nab`: series with labelled windows, one pass, one configuration. The horizon of the detector is the probation of a series,
//! which the protocol tells every detector; nothing else is known beforehand.
//!
//! Rows of series have raw scores at the released threshold, beside those of ARTime, the best published detector. Totals are
//! normalised, 0 for silence and 100 for perfection: at the released threshold; at the threshold best for each profile, as the
//! protocol has it; and at the threshold best on one half of the series, measured on the other.

#[path = "nab/alarms.rs"]
mod alarms;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::num::NonZeroU32;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use amoskys_analysis::calibrate::Platt;
use amoskys_analysis::eval::nab::{Labels, Profile, normalized, probation};
use amoskys_analysis::series::{AlarmRule, Cause, SeriesConfig, SeriesDetector, alarms_at};
use amoskys_core::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::output::{Format, Metric, Outcome};
use crate::report::{Drawn, Report, Results};
use crate::table::{Csv, Failures, folder, number};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `nab/`, or that folder: `windows.json`, and a CSV for each series below `data/`; `profiles.json` if the
    /// profiles weigh otherwise than in the benchmark.
    #[arg(long)]
    data: PathBuf,
    /// A horizon for all series, in rows, instead of the probation of each.
    #[arg(long)]
    horizon: Option<NonZeroU32>,
    /// The threshold of alarms.
    #[arg(long, default_value = "1")]
    threshold: f64,
    /// Draws of random halves of the series.
    #[arg(long, default_value = "200")]
    halves: u64,
}

/// A detector whose published raw scores stand beside ours.
const BESIDE: &str = "ARTime";
const DETECTOR: &str = "SeriesDetector";
/// Thresholds that are tried: 0.3 to 3.4, each 1 % above the one before.
const TRIED: i32 = 245;

pub(crate) fn run(options: &Options, format: Format, page: &mut Report) -> Result<(), Box<dyn Error>> {
    let folder = folder(&options.data, "nab");
    let (published, reference) = (published(&folder)?, totals(&folder)?);
    let profiles = profiles(&folder)?;
    let mut printer = Results::new(format, page);
    printer.group("nab: series");
    let mut results = Vec::new();
    let mut failures = Failures::default();
    for (name, windows) in labelled(&folder)? {
        let Some(series) = failures.note(read(&folder, name, &windows)) else {
            continue;
        };
        let result = detect(series, options)?;
        printer.add(
            &result.outcome(published.get(&result.name).copied(), &profiles),
            None,
        );
        results.push(result);
    }
    if results.is_empty() {
        return Err(format!("{}: there is no series that can be read", folder.display()).into());
    }
    let best: [Option<f64>; 3] = std::array::from_fn(|profile| {
        let scores = reference.iter().map(|(_, scores)| scores[profile]);
        scores.max_by(f64::total_cmp)
    });
    let all: Vec<&Detected> = results.iter().collect();
    let table = Table::new(&results, profiles);
    let seconds = results.iter().map(|result| result.seconds).sum();
    let total = |set: &str, scores: [Option<f64>; 3], counts: Option<(usize, usize)>| Outcome {
        detector: DETECTOR.to_owned(),
        set: set.to_owned(),
        metrics: metrics(scores.map(|score| score.unwrap_or(f64::NAN)), best, counts),
        seconds,
    };
    let fixed = std::array::from_fn(|profile| score(&all, profiles[profile], |result| &result.alarms));
    printer.group("nab: all");
    printer.add(
        &total("total at fixed threshold", fixed, Some(count(&results))),
        None,
    );
    let every: Vec<usize> = (0..results.len()).collect();
    let chosen = std::array::from_fn(|profile| table.score(table.best(&every, profile), &every, profile));
    printer.add(&total("total at best threshold", chosen, None), None);
    if options.halves > 0 {
        let halves = table.halves(options.halves);
        printer.add(&total("threshold of other half", halves, None), None);
    }
    for (detector, scores) in reference {
        let outcome = Outcome {
            detector,
            set: "total at best threshold".to_owned(),
            metrics: metrics(scores, [None; 3], None),
            seconds: f64::NAN,
        };
        printer.add(&outcome, None);
    }
    draw(&results, &mut printer);
    if format == Format::Table {
        let rows: usize = results.iter().map(|result| result.labels.rows()).sum();
        println!(
            "thresholds: {} fixed; {} best",
            options.threshold,
            (0..3)
                .map(|profile| format!("{:.2}", threshold(table.best(&every, profile))))
                .collect::<Vec<_>>()
                .join(", ")
        );
        println!("{:.1} µs a row, {rows} rows", seconds * 1e6 / rows.max(1) as f64);
        alarms::print(&results, options.halves);
    }
    failures.finish()
}

/// The curves of single rows: whether a row is in a window, by its surprise. The benchmark scores alarms and when they come, not
/// rows. A logistic curve is fitted on every other series with its labels, and looked at on the others.
fn draw(results: &[Detected], printer: &mut Results<'_>) {
    let rows = |wanted: &dyn Fn(usize) -> bool| -> (Vec<f64>, Vec<bool>) {
        let chosen = results.iter().enumerate().filter(|(at, _)| wanted(*at));
        let of = |(_, result): (usize, &Detected)| {
            let known = result.surprises.iter().copied().enumerate();
            let known = known.skip(probation(result.labels.rows()));
            known
                .map(|(row, surprise)| (surprise, is_inside(&result.labels, row)))
                .collect::<Vec<_>>()
        };
        chosen
            .flat_map(of)
            .filter(|(surprise, _)| surprise.is_finite())
            .unzip()
    };
    let (scores, labels) = rows(&|_| true);
    let all = Drawn {
        scores: &scores,
        labels: &labels,
        probabilities: None,
    };
    printer.draw("nab: all", "rows of all series", &all);
    let ((fit, fit_labels), (test, labels)) = (rows(&|at| at.is_multiple_of(2)), rows(&|at| at % 2 == 1));
    if let Ok(curve) = Platt::fit(&fit, &fit_labels) {
        let probabilities: Vec<f64> = test.iter().map(|&score| curve.probability(score)).collect();
        let half = Drawn {
            scores: &test,
            labels: &labels,
            probabilities: Some(&probabilities),
        };
        printer.draw("nab: all", "rows of every other series", &half);
    }
}

fn is_inside(labels: &Labels, row: usize) -> bool {
    let windows = labels.windows();
    windows.iter().any(|&(first, last)| (first..=last).contains(&row))
}

struct Series {
    name: String,
    points: Vec<(Timestamp, f64)>,
    labels: Labels,
}

struct Detected {
    name: String,
    labels: Labels,
    horizon: u32,
    surprises: Vec<f64>,
    alarms: Vec<usize>,
    /// Of each alarm after the probation: its score as a multiple of the threshold, and whether it is in a window.
    strengths: Vec<(f64, bool)>,
    seconds: f64,
}

fn detect(series: Series, options: &Options) -> Result<Detected, Box<dyn Error>> {
    let Series { name, points, labels } = series;
    let mut config = SeriesConfig::default();
    let rows = u32::try_from(probation(labels.rows()))?.max(16);
    config.horizon = options
        .horizon
        .or(NonZeroU32::new(rows))
        .unwrap_or(config.horizon);
    config.alarm = AlarmRule::Threshold(options.threshold);
    let mut detector = SeriesDetector::new(config)?;
    let (mut surprises, mut alarms) = (Vec::with_capacity(points.len()), Vec::new());
    let mut strengths = Vec::new();
    let start = Instant::now();
    for (row, &(time, value)) in points.iter().enumerate() {
        let reading = detector.push(time, value);
        surprises.push(reading.surprise);
        // The benchmark is about values; gaps in time are no anomaly in it.
        if reading.alarm.is_some_and(|cause| cause != Cause::Silence) {
            alarms.push(row);
            strengths.push((row, reading.score / options.threshold));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let counted = strengths
        .into_iter()
        .filter(|(row, _)| *row >= probation(labels.rows()));
    let strengths = counted
        .map(|(row, strength)| (strength, is_inside(&labels, row)))
        .collect();
    Ok(Detected {
        name,
        labels,
        horizon: config.horizon.get(),
        surprises,
        alarms,
        strengths,
        seconds,
    })
}

impl Detected {
    fn outcome(&self, published: Option<f64>, profiles: &[Profile; 3]) -> Outcome {
        let raw = profiles.map(|profile| self.labels.score(&self.alarms, profile));
        Outcome {
            detector: DETECTOR.to_owned(),
            set: self
                .name
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .trim_end_matches(".csv")
                .to_owned(),
            metrics: metrics(
                raw,
                [published, None, None],
                Some(self.labels.count(&self.alarms)),
            ),
            seconds: self.seconds,
        }
    }
}

fn metrics(scores: [f64; 3], references: [Option<f64>; 3], counts: Option<(usize, usize)>) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = ["standard", "low_fp", "low_fn"]
        .into_iter()
        .zip(scores)
        .zip(references)
        .map(|((name, value), reference)| Metric {
            name,
            value,
            reference,
        })
        .collect();
    let [found, outside] = counts.map_or([f64::NAN; 2], |(found, outside)| [found as f64, outside as f64]);
    for (name, value) in [("found", found), ("false", outside)] {
        metrics.push(Metric {
            name,
            value,
            reference: None,
        });
    }
    metrics
}

fn score<'a>(
    results: &[&'a Detected],
    profile: Profile,
    alarms: impl Fn(&'a Detected) -> &'a [usize],
) -> Option<f64> {
    let total = results
        .iter()
        .map(|result| result.labels.score(alarms(result), profile))
        .sum();
    let windows = results.iter().map(|result| result.labels.windows().len()).sum();
    normalized(total, windows, profile)
}

fn count(results: &[Detected]) -> (usize, usize) {
    let counts = results.iter().map(|result| result.labels.count(&result.alarms));
    counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
}

/// The threshold of this number.
fn threshold(number: usize) -> f64 {
    0.3 * 1.01_f64.powf(number as f64)
}

/// Raw scores by threshold, series and profile.
struct Table {
    scores: Vec<Vec<[f64; 3]>>,
    windows: Vec<usize>,
    profiles: [Profile; 3],
}

impl Table {
    fn new(results: &[Detected], profiles: [Profile; 3]) -> Self {
        let at = |threshold: f64| {
            let scores = results.iter().map(|result| {
                let alarms = alarms_at(&result.surprises, result.horizon, threshold);
                profiles.map(|profile| result.labels.score(&alarms, profile))
            });
            scores.collect()
        };
        Self {
            scores: (0..TRIED as usize).map(|number| at(threshold(number))).collect(),
            windows: results
                .iter()
                .map(|result| result.labels.windows().len())
                .collect(),
            profiles,
        }
    }

    fn score(&self, threshold: usize, series: &[usize], profile: usize) -> Option<f64> {
        let total = series
            .iter()
            .map(|&series| self.scores[threshold][series][profile])
            .sum();
        let windows = series.iter().map(|&series| self.windows[series]).sum();
        normalized(total, windows, self.profiles[profile])
    }

    /// The threshold with the highest score on these series.
    fn best(&self, series: &[usize], profile: usize) -> usize {
        let score = |threshold| {
            self.score(threshold, series, profile)
                .unwrap_or(f64::NEG_INFINITY)
        };
        let best = (0..self.scores.len()).max_by(|&a, &b| score(a).total_cmp(&score(b)));
        best.unwrap_or_default()
    }

    /// The mean score on one half of the series at the threshold that was best on the other, over so many random halves, both
    /// ways.
    fn halves(&self, draws: u64) -> [Option<f64>; 3] {
        let mut sums = [0.0; 3];
        let mut count = 0.0;
        for draw in 0..draws {
            let series = shuffled(self.windows.len(), draw);
            let (a, b) = series.split_at(series.len() / 2);
            for (chosen_on, measured_on) in [(a, b), (b, a)] {
                let scores: [Option<f64>; 3] = std::array::from_fn(|profile| {
                    self.score(self.best(chosen_on, profile), measured_on, profile)
                });
                if let [Some(x), Some(y), Some(z)] = scores {
                    sums = [sums[0] + x, sums[1] + y, sums[2] + z];
                    count += 1.0;
                }
            }
        }
        sums.map(|sum| (count > 0.0).then(|| sum / count))
    }
}

/// The numbers below `count` in an order of their own for each draw.
fn shuffled(count: usize, draw: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = draw;
    for at in (1..count).rev() {
        order.swap(at, (split_mix(&mut state) % (at as u64 + 1)) as usize);
    }
    order
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A series, and the first and last moment of each of its windows.
type Labelled = (String, Vec<[String; 2]>);

/// The series that have labels and are there.
fn labelled(folder: &Path) -> Result<Vec<Labelled>, Box<dyn Error>> {
    let windows: BTreeMap<String, Vec<[String; 2]>> = json(&folder.join("windows.json"))?;
    let all = windows.len();
    let is_below = |name: &str| {
        Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    if let Some(name) = windows.keys().find(|name| !is_below(name)) {
        let path = folder.join("windows.json");
        return Err(format!("{}: {name:?} names no series below data/", path.display()).into());
    }
    let series: Vec<Labelled> = windows
        .into_iter()
        .filter(|(name, _)| file_of(folder, name).is_some())
        .collect();
    if series.len() < all {
        let absent = all - series.len();
        eprintln!(
            "{}: {absent} of {all} series of windows.json are not below data/ and are left out",
            folder.display()
        );
    }
    let unknown = count_unknown(&folder.join("data"), Path::new(""), &series, 0);
    if unknown > 0 {
        eprintln!(
            "{}: {unknown} series below data/ are not in windows.json and are left out",
            folder.display()
        );
    }
    Ok(series)
}

/// The file of a series, packed or not.
fn file_of(folder: &Path, name: &str) -> Option<PathBuf> {
    let data = folder.join("data");
    let names = [data.join(name), data.join(format!("{name}.gz"))];
    names.into_iter().find(|path| path.exists())
}

/// Series below a folder that have no labels. Folders are one or two deep.
fn count_unknown(data: &Path, below: &Path, series: &[Labelled], depth: u32) -> usize {
    let entries = std::fs::read_dir(data.join(below))
        .into_iter()
        .flatten()
        .flatten();
    let count = |entry: std::fs::DirEntry| {
        let path = below.join(entry.file_name());
        if depth < 2 && entry.path().is_dir() {
            return count_unknown(data, &path, series, depth + 1);
        }
        let is_series = path.extension().is_some_and(|extension| extension == "csv");
        usize::from(is_series && !series.iter().any(|(name, _)| Path::new(name) == path))
    };
    entries.map(count).sum()
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Box<dyn Error>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // Its message has line and column.
    let value = serde_json::from_reader(BufReader::new(file));
    Ok(value.map_err(|error| format!("{}: {error}", path.display()))?)
}

/// The three profiles, with the weights of `profiles.json` if there is one.
fn profiles(folder: &Path) -> Result<[Profile; 3], Box<dyn Error>> {
    let mut profiles = Profile::ALL;
    let path = folder.join("profiles.json");
    if !path.exists() {
        return Ok(profiles);
    }
    let given: BTreeMap<String, serde_json::Value> = json(&path)?;
    for (name, weights) in &given {
        let Some(profile) = profiles.iter_mut().find(|profile| profile.name == name) else {
            let known = Profile::ALL.map(|profile| profile.name).join(", ");
            eprintln!(
                "{}: profile {name} is not used; there are {known}",
                path.display()
            );
            continue;
        };
        let weights = weights.get("CostMatrix").unwrap_or(weights);
        for (key, weight) in [
            ("tpWeight", &mut profile.true_positive),
            ("fnWeight", &mut profile.false_negative),
            ("fpWeight", &mut profile.false_positive),
        ] {
            let Some(given) = weights.get(key) else { continue };
            *weight = given
                .as_f64()
                .filter(|weight| (0.0..=1e9).contains(weight))
                .ok_or_else(|| format!("{}: {name}: {key} is {given}, and no weight", path.display()))?;
        }
    }
    Ok(profiles)
}

fn read(folder: &Path, name: String, windows: &[[String; 2]]) -> Result<Series, Box<dyn Error>> {
    let file = file_of(folder, &name).ok_or_else(|| format!("{name}: it is not there any more"))?;
    let csv = Csv::read(&file)?;
    let [time, value] = ["timestamp", "value"].map(|column| csv.column(column));
    let (time, value) = (time?, value?);
    let mut points = Vec::with_capacity(csv.lines.len());
    let mut missing = 0_usize;
    for (row, line) in csv.lines.iter().enumerate() {
        let moment = instant(&line[time]).map_err(|error| csv.wrong(row, time, &error.to_string()))?;
        let value = number(&line[value]).ok_or_else(|| csv.wrong(row, value, "not a number"))?;
        missing += usize::from(!value.is_finite());
        points.push((moment, value));
    }
    if missing > 0 {
        eprintln!("{name}: {missing} of {} values are missing", points.len());
    }
    let mut rows = Vec::with_capacity(windows.len());
    for edges in windows {
        rows.push(place(&points, edges).map_err(|error| format!("windows.json: {name}: {error}"))?);
    }
    let labels = Labels::new(points.len(), rows).map_err(|error| format!("windows.json: {name}: {error}"))?;
    Ok(Series { name, points, labels })
}

/// First and last row of a window: those of its edges, or else the nearest within.
fn place(points: &[(Timestamp, f64)], [first, last]: &[String; 2]) -> Result<(usize, usize), Box<dyn Error>> {
    let (from, to) = (instant(first)?, instant(last)?);
    let inside = |point: &(Timestamp, f64)| (from..=to).contains(&point.0);
    let exact = |moment: Timestamp| move |point: &(Timestamp, f64)| point.0 == moment;
    let begin = points.iter().position(exact(from));
    let end = points.iter().rposition(exact(to));
    match (
        begin.or_else(|| points.iter().position(inside)),
        end.or_else(|| points.iter().rposition(inside)),
    ) {
        (Some(begin), Some(end)) => Ok((begin, end)),
        _ => Err(format!("there is no row from {first} to {last}").into()),
    }
}

/// A moment in UTC if nothing else is said: a date with a time, or seconds since 1970.
fn instant(text: &str) -> Result<Timestamp, Box<dyn Error>> {
    let nanos = match (text.parse::<DateTime>(), text.parse::<jiff::Timestamp>()) {
        (Ok(moment), _) => moment.to_zoned(TimeZone::UTC)?.timestamp().as_nanosecond(),
        (_, Ok(moment)) => moment.as_nanosecond(),
        (Err(error), _) => match text.parse::<f64>() {
            Ok(seconds) if seconds.abs() < 1e10 => (seconds * 1e9).round() as i128,
            _ => return Err(error.into()),
        },
    };
    Ok(Timestamp::from_nanos(i64::try_from(nanos)?))
}

/// Published raw scores in the standard profile, by series. Empty if there is no such file.
fn published(folder: &Path) -> Result<BTreeMap<String, f64>, Box<dyn Error>> {
    let path = folder.join("reference_per_series_standard.csv");
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let csv = Csv::read(&path)?;
    let (detector, series) = (csv.column("detector")?, csv.column("series")?);
    let score = csv.column("published_raw_score")?;
    let of_it = csv.lines.iter().filter(|line| line[detector] == *BESIDE);
    let scores = of_it.filter_map(|line| Some((line[series].to_owned(), line[score].parse().ok()?)));
    Ok(scores.collect())
}

/// A detector, and its score in each profile.
type Total = (String, [f64; 3]);

/// Totals of the reference at its best threshold for these series, by detector. Empty if there is no such file.
fn totals(folder: &Path) -> Result<Vec<Total>, Box<dyn Error>> {
    let path = folder.join("reference_scores.csv");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let csv = Csv::read(&path)?;
    let (detector, profile) = (csv.column("detector")?, csv.column("profile")?);
    let score = csv.column("score_this_split_best_threshold")?;
    let mut totals: BTreeMap<String, [f64; 3]> = BTreeMap::new();
    for line in &csv.lines {
        let place = Profile::ALL.iter().position(|known| known.name == &line[profile]);
        if let (Some(place), Ok(score)) = (place, line[score].parse()) {
            totals.entry(line[detector].to_owned()).or_insert([f64::NAN; 3])[place] = score;
        }
    }
    let mut totals: Vec<Total> = totals.into_iter().collect();
    totals.sort_by(|a, b| b.1[0].total_cmp(&a.1[0]));
    Ok(totals)
}
