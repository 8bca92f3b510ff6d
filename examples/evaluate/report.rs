//! A page with what an evaluation found: one file of HTML that loads nothing.

use std::error::Error;
use std::path::Path;

use amoskys_analysis::eval::{
    ReliabilityBin, brier_score, calibration_error, precision_recall_curve, reliability, roc_curve,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::output::{Format, Outcome, Printer};

const STYLE: &str = include_str!("report.css");
/// Points of a drawn curve at most.
const MOST_POINTS: usize = 240;
const BINS: usize = 10;
/// Width and height of a drawing, and of the frame inside it.
const SIZE: f64 = 300.0;
const FRAME: (f64, f64) = (34.0, 8.0);
const INNER: f64 = 252.0;

/// Where results go: printed as they come, and kept for the page.
pub(crate) struct Results<'a> {
    printer: Printer,
    report: &'a mut Report,
    /// What they are shown together with; each set by itself if there is none.
    group: Option<String>,
}

/// The scores behind a result, for its curves.
pub(crate) struct Drawn<'a> {
    pub(crate) scores: &'a [f64],
    pub(crate) labels: &'a [bool],
    /// Of detectors that give them.
    pub(crate) probabilities: Option<&'a [f64]>,
}

impl<'a> Results<'a> {
    pub(crate) const fn new(format: Format, report: &'a mut Report) -> Self {
        let printer = Printer::new(format);
        Self {
            printer,
            report,
            group: None,
        }
    }

    /// Shows what comes from here on in one table and one drawing, under this name.
    pub(crate) fn group(&mut self, name: &str) {
        self.group = Some(name.to_owned());
    }

    pub(crate) fn add(&mut self, outcome: &Outcome, drawn: Option<&Drawn<'_>>) {
        self.printer.print(outcome);
        self.keep(outcome, &outcome.detector, drawn);
    }

    /// Adds a result whose curve has another name than the detector: there are several of one.
    pub(crate) fn add_named(&mut self, outcome: &Outcome, curve: &str, drawn: &Drawn<'_>) {
        self.printer.print(outcome);
        self.keep(outcome, curve, Some(drawn));
    }

    /// Keeps a result for the page that was printed otherwise.
    pub(crate) fn keep(&mut self, outcome: &Outcome, curve: &str, drawn: Option<&Drawn<'_>>) {
        let group = self.group.clone().unwrap_or_else(|| outcome.set.clone());
        self.report.outcome(&group, outcome);
        if let Some(drawn) = drawn {
            self.report.curves(&group, curve, drawn);
        }
    }

    /// Adds curves to the page that belong to no single result.
    pub(crate) fn draw(&mut self, group: &str, name: &str, drawn: &Drawn<'_>) {
        self.report.curves(group, name, drawn);
    }

    /// Adds a table of words to the page, under the name of a group.
    pub(crate) fn listing(&mut self, group: &str, heads: &[&'static str], lines: Vec<Vec<String>>) {
        self.report.listings.push(Listing {
            group: group.to_owned(),
            summary: None,
            heads: heads.to_vec(),
            lines,
        });
    }

    /// The same at the end of the group, folded under a line of its own.
    pub(crate) fn folded_listing(
        &mut self,
        group: &str,
        summary: &'static str,
        heads: &[&'static str],
        lines: Vec<Vec<String>>,
    ) {
        self.report.listings.push(Listing {
            group: group.to_owned(),
            summary: Some(summary),
            heads: heads.to_vec(),
            lines,
        });
    }
}

/// What was measured, in the order in which it was.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    curves: Vec<Curves>,
    listings: Vec<Listing>,
}

/// A table of words.
struct Listing {
    group: String,
    /// The line under which it is folded, at the end of the group.
    summary: Option<&'static str>,
    heads: Vec<&'static str>,
    lines: Vec<Vec<String>>,
}

struct Row {
    group: String,
    detector: String,
    set: String,
    /// Name, value, and the reference where there is a difference to it.
    metrics: Vec<(&'static str, f64, Option<f64>)>,
    seconds: f64,
}

/// What a detector's scores look like on a set.
struct Curves {
    group: String,
    name: String,
    roc: Vec<(f64, f64)>,
    precision_recall: Vec<(f64, f64)>,
    /// Bins, Brier score and calibration error.
    reliability: Option<(Vec<ReliabilityBin>, f64, f64)>,
}

impl Report {
    fn outcome(&mut self, group: &str, outcome: &Outcome) {
        let metric = |metric: &crate::output::Metric| {
            let comparable = metric.difference().and(metric.reference);
            (metric.name, metric.value, comparable)
        };
        self.rows.push(Row {
            group: group.to_owned(),
            detector: outcome.detector.clone(),
            set: outcome.set.clone(),
            metrics: outcome.metrics.iter().map(metric).collect(),
            seconds: outcome.seconds,
        });
    }

    /// Keeps the curves of scores, and the reliability of probabilities where there are any.
    fn curves(&mut self, group: &str, name: &str, drawn: &Drawn<'_>) {
        let labels = drawn.labels;
        let reliability = drawn.probabilities.and_then(|given| {
            let bins = reliability(given, labels, BINS);
            Some((
                bins,
                brier_score(given, labels)?,
                calibration_error(given, labels, BINS)?,
            ))
        });
        self.curves.push(Curves {
            group: group.to_owned(),
            name: name.to_owned(),
            roc: thinned(&roc_curve(drawn.scores, labels)),
            precision_recall: thinned(&precision_recall_curve(drawn.scores, labels)),
            reliability,
        });
    }

    /// Writes the page.
    pub(crate) fn save(&self, path: &Path, command: &str) -> Result<(), Box<dyn Error>> {
        if self.rows.is_empty() {
            return Err("there is nothing to report".into());
        }
        let fail = |error| format!("{}: {error}", path.display());
        Ok(std::fs::write(path, self.page(command).into_string()).map_err(fail)?)
    }

    fn page(&self, command: &str) -> Markup {
        let mut groups: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !groups.contains(&row.group.as_str()) {
                groups.push(&row.group);
            }
        }
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { "Evaluation \u{b7} Amoskys" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        h1 { "Evaluation" }
                        p.sub { code { (command) } " \u{b7} Amoskys " (env!("CARGO_PKG_VERSION")) }
                        (self.differences())
                        @for group in groups { (self.group(group)) }
                    }
                    footer { "This page holds everything it shows and loads nothing." }
                }
            }
        }
    }

    /// How far the first metric is from the reference, set by set. Groups that are shown as one have a scale of their own.
    fn differences(&self) -> Markup {
        let mut scales: Vec<(&str, Vec<(&Row, f64)>)> = Vec::new();
        for row in &self.rows {
            let Some((_, value, Some(reference))) = row.metrics.first() else {
                continue;
            };
            let scale = if row.group == row.set { "" } else { &row.group };
            match scales.iter_mut().find(|(known, _)| *known == scale) {
                Some((_, known)) => known.push((row, value - reference)),
                None => scales.push((scale, vec![(row, value - reference)])),
            }
        }
        html! {
            @for (at, (scale, known)) in scales.iter().enumerate() {
                @let most = known.iter().fold(0.01_f64, |most, (_, by)| most.max(by.abs()));
                section {
                    @if at == 0 { h2 { "Difference to the reference" } }
                    p.note {
                        @if !scale.is_empty() { (scale) ": " }
                        @if let Some((first, _)) = known.first() { "in " (first.metrics[0].0) "; " }
                        "to the right, ours is higher. The scale ends at \u{b1}" (format!("{most:.3}")) "."
                    }
                    table.differences {
                        @for (row, by) in known {
                            tr {
                                td { (row.detector) } td { (row.set.strip_prefix(&format!("{scale}: ")).unwrap_or(&row.set)) }
                                td { (bar(*by / most)) }
                                td.number { (signed(*by)) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn group(&self, group: &str) -> Markup {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.group == group).collect();
        let curves: Vec<&Curves> = self
            .curves
            .iter()
            .filter(|curves| curves.group == group)
            .collect();
        let listings = self.listings.iter().filter(|listing| listing.group == group);
        let (folded, listings): (Vec<&Listing>, Vec<&Listing>) =
            listings.partition(|listing| listing.summary.is_some());
        // A result is written in the columns of the first; one that has no value there leaves the field empty.
        let names: Vec<&'static str> = rows.first().map_or_else(Vec::new, |row| {
            row.metrics.iter().map(|metric| metric.0).collect()
        });
        let whole: Vec<bool> = (0..names.len())
            .map(|at| {
                rows.iter()
                    .filter_map(|row| row.metrics.get(at))
                    .all(|metric| is_count(metric.1))
            })
            .collect();
        let sets = rows.iter().any(|row| row.set != group);
        let timed = rows.iter().any(|row| row.seconds > 0.0);
        html! {
            section {
                h2 { (group) }
                @for listing in listings { (listing.table()) }
                table {
                    tr {
                        th { "detector" } @if sets { th { "set" } }
                        @for name in &names { th.number { (name) } }
                        @if timed { th.number { "seconds" } }
                    }
                    @for row in &rows {
                        tr {
                            td { (row.detector) }
                            @if sets { td { (row.set.strip_prefix(&format!("{group}: ")).unwrap_or(&row.set)) } }
                            @for ((_, value, reference), whole) in row.metrics.iter().zip(&whole) {
                                td.number {
                                    (number(*value, *whole))
                                    @if let Some(reference) = reference { span.by { " " (signed(value - reference)) } }
                                }
                            }
                            @if timed { td.number { @if row.seconds > 0.0 { (format!("{:.2}", row.seconds)) } } }
                        }
                    }
                }
                @if !curves.is_empty() {
                    @if curves.len() > 1 {
                        ul.legend {
                            @for (at, curves) in curves.iter().enumerate() { li.(color(at)) { (curves.name) } }
                        }
                    }
                    div.drawings {
                        (drawing("ROC", "false-positive rate", "recall", &curves, |curves| &curves.roc, true))
                        (drawing("Precision and recall", "recall", "precision", &curves, |curves| &curves.precision_recall, false))
                        (reliability_drawing(&curves))
                    }
                }
                @for listing in folded {
                    details {
                        summary { (listing.summary.unwrap_or_default()) }
                        (listing.table())
                    }
                }
            }
        }
    }
}

impl Listing {
    fn table(&self) -> Markup {
        html! {
            table {
                tr { @for head in &self.heads { th { (head) } } }
                @for line in &self.lines {
                    tr { @for field in line { td { (field) } } }
                }
            }
        }
    }
}

/// A bar to the right or to the left, of at most its half of the field.
fn bar(share: f64) -> Markup {
    let half = 150.0;
    html! {
        svg.difference viewBox="0 0 300 12" role="img" aria-label=(signed(share)) {
            line.axis x1="150" x2="150" y1="0" y2="12" {}
            rect.(if share < 0.0 { "below" } else { "above" })
                x=(px(half + (share * half).min(0.0))) y="2" height="8"
                width=(px((share * half).abs().max(0.5))) {}
        }
    }
}

/// With its sign, which zero does not have.
fn signed(value: f64) -> String {
    let text = format!("{value:+.4}");
    if text == "-0.0000" {
        "+0.0000".to_owned()
    } else {
        text
    }
}

fn is_count(value: f64) -> bool {
    !value.is_finite() || (value.fract() == 0.0 && value >= 0.0)
}

/// A count is written as one; what is not known not at all.
fn number(value: f64, whole: bool) -> String {
    if !value.is_finite() {
        String::new()
    } else if whole {
        format!("{value:.0}")
    } else {
        // No zero below zero.
        let text = format!("{value:.4}");
        if text == "-0.0000" {
            "0.0000".to_owned()
        } else {
            text
        }
    }
}

fn drawing(
    title: &str,
    across: &str,
    up: &str,
    all: &[&Curves],
    of: impl Fn(&Curves) -> &[(f64, f64)],
    diagonal: bool,
) -> Markup {
    html! {
        figure {
            figcaption { (title) span.by { " \u{b7} " (up) " over " (across) } }
            svg viewBox=(format!("0 0 {SIZE} {SIZE}")) role="img" aria-label=(title) {
                (frame(across, diagonal))
                @for (at, curves) in all.iter().enumerate() {
                    polyline.(color(at)) points=(points(of(curves))) {}
                }
            }
        }
    }
}

/// Each bin with the bounds that its number of rows leaves open, at 95 % confidence.
fn reliability_drawing(all: &[&Curves]) -> Markup {
    let known = || {
        let of =
            |(at, curves): (usize, &&Curves)| Some((at, curves.name.clone(), curves.reliability.clone()?));
        all.iter().enumerate().filter_map(of).collect::<Vec<_>>()
    };
    html! {
        @if !known().is_empty() {
            figure {
                figcaption { "Reliability" span.by { " \u{b7} came true over given" } }
                svg viewBox=(format!("0 0 {SIZE} {SIZE}")) role="img" aria-label="Reliability" {
                    (frame("given probability", true))
                    @for (at, _, (bins, _, _)) in known() {
                        polyline.(color(at)) points=(points(&bins.iter().map(|bin| (bin.given, bin.came_true)).collect::<Vec<_>>())) {}
                        @for bin in &bins {
                            @let bounds = bin.interval(0.95);
                            line.bounds.(color(at)) x1=(px(x(bin.given))) x2=(px(x(bin.given))) y1=(px(y(bounds.0))) y2=(px(y(bounds.1))) {}
                            circle.(color(at)) cx=(px(x(bin.given))) cy=(px(y(bin.came_true))) r="3" {
                                title { (bin.rows) " rows" }
                            }
                        }
                    }
                }
                @for (_, detector, (_, brier, error)) in known() {
                    p.note { (detector) ": Brier score " (format!("{brier:.4}")) ", calibration error " (format!("{error:.4}")) }
                }
            }
        }
    }
}

fn frame(across: &str, diagonal: bool) -> Markup {
    html! {
        @for level in [0.0, 0.25, 0.5, 0.75, 1.0] {
            line.grid x1=(px(x(0.0))) x2=(px(x(1.0))) y1=(px(y(level))) y2=(px(y(level))) {}
            line.grid x1=(px(x(level))) x2=(px(x(level))) y1=(px(y(0.0))) y2=(px(y(1.0))) {}
            text.tick x=(px(x(0.0) - 4.0)) y=(px(y(level) + 4.0)) text-anchor="end" { (level) }
            text.tick x=(px(x(level))) y=(px(y(0.0) + 14.0)) text-anchor="middle" { (level) }
        }
        @if diagonal { line.diagonal x1=(px(x(0.0))) x2=(px(x(1.0))) y1=(px(y(0.0))) y2=(px(y(1.0))) {} }
        text.tick x=(px(x(0.5))) y=(px(y(0.0) + 30.0)) text-anchor="middle" { (across) }
    }
}

fn x(share: f64) -> f64 {
    FRAME.0 + INNER * share
}

fn y(share: f64) -> f64 {
    FRAME.1 + INNER * (1.0 - share)
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn points(curve: &[(f64, f64)]) -> String {
    let point = |&(across, up): &(f64, f64)| format!("{:.1},{:.1}", x(across), y(up));
    curve.iter().map(point).collect::<Vec<_>>().join(" ")
}

/// The ends, and between them only points that are some way from the one before.
fn thinned(curve: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let least = 2.0 / MOST_POINTS as f64;
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (at, &point) in curve.iter().enumerate() {
        let far = kept
            .last()
            .is_none_or(|last| (point.0 - last.0).abs() + (point.1 - last.1).abs() >= least);
        if far || at + 1 == curve.len() {
            kept.push(point);
        }
    }
    kept
}

/// A color, dashed from the thirteenth curve on.
fn color(at: usize) -> String {
    format!("c{}{}", at % 12, if at < 12 { "" } else { " dashed" })
}
