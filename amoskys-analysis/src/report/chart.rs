//! The chart of scores and traffic over time.

use std::time::Duration;

use amoskys_core::Timestamp;
use amoskys_core::event::{Severity, Verdict};
use maud::{Markup, html};

use super::findings::Numbered;
use super::format::{bytes, count, counted, duration, px, time_as};
use super::timeline::{Bin, Columns, Timeline};

/// One drawing for wide screens and paper, one for phones: text in a drawing shrinks with it, so that one
/// drawing for both would be unreadable on one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Wide,
    Narrow,
}

impl Size {
    pub(super) const ALL: [Self; 2] = [Self::Wide, Self::Narrow];

    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    pub(super) const fn width(self) -> f64 {
        match self {
            Self::Wide => 1056.0,
            Self::Narrow => 360.0,
        }
    }
}

const LEFT: f64 = 36.0;
const RIGHT: f64 = 10.0;
const LANE: f64 = 22.0;
const MOST_LANES: usize = 4;
const SCORE_HEIGHT: f64 = 150.0;
const STRIP_HEIGHT: f64 = 44.0;
const STRIP_GAP: f64 = 30.0;

/// Draws the chart; nothing happened, nothing is drawn.
pub(super) fn draw(timeline: &Timeline, alerts: &[Numbered<'_>], size: Size) -> Option<Markup> {
    let columns = timeline.columns(if size == Size::Wide { 256 } else { 96 });
    if columns.bins.is_empty() {
        return None;
    }
    let axis = Axis::over(&columns, LEFT, size.width() - RIGHT);
    let (markers, lanes) = place(alerts, &axis);
    let score_top = 10.0 + LANE * f64::from(u8::try_from(lanes).unwrap_or(u8::MAX));
    let score_base = score_top + SCORE_HEIGHT;
    let flows_base = score_base + STRIP_GAP + STRIP_HEIGHT;
    let bytes_base = flows_base + STRIP_GAP + STRIP_HEIGHT;
    let height = bytes_base + 26.0;
    // A score that is not a number is drawn as none.
    let score_y = |score: f64| {
        score_base
            - SCORE_HEIGHT
                * if score.is_nan() {
                    0.0
                } else {
                    score.clamp(0.0, 1.0)
                }
    };
    let ticks = ticks(&axis, if size == Size::Wide { 96.0 } else { 70.0 });
    let per = duration(Duration::from_nanos(columns.width_ns.unsigned_abs()));
    let most_flows = columns.bins.iter().map(|bin| bin.flows).max().unwrap_or(0);
    let most_bytes = columns.bins.iter().map(|bin| bin.bytes).max().unwrap_or(0);
    let view = format!("0 0 {} {}", px(size.width()), px(height));
    Some(html! {
        svg.chart.(size.class()) viewBox=(view) role="img" aria-label="Scores, new flows and bytes over time" {
            @for tick in &ticks {
                line.grid x1=(px(tick.x)) x2=(px(tick.x)) y1=(px(score_top)) y2=(px(bytes_base)) {}
                text.tick x=(px(tick.x)) y=(px(bytes_base + 18.0)) text-anchor="middle" { (tick.label) }
            }
            @for level in [0.0, 0.5, 1.0] {
                line.grid x1=(px(LEFT)) x2=(px(axis.to)) y1=(px(score_y(level))) y2=(px(score_y(level))) {}
                text.tick x=(px(LEFT - 8.0)) y=(px(score_y(level) + 4.0)) text-anchor="end" { (level) }
            }
            @for (x, width, score) in axis.scores(&columns) {
                rect.bar.(Severity::of_score(score).as_str()) x=(px(x)) y=(px(score_y(score))) width=(px(width))
                    height=(px(score_base - score_y(score))) {}
            }
            line.threshold x1=(px(LEFT)) x2=(px(axis.to)) y1=(px(score_y(Verdict::ALERT_SCORE)))
                y2=(px(score_y(Verdict::ALERT_SCORE))) {}
            text.threshold-label x=(px(LEFT + 4.0)) y=(px(score_y(Verdict::ALERT_SCORE) - 5.0)) {
                "alert above " (Verdict::ALERT_SCORE)
            }
            @for alert in alerts {
                (span(alert, &axis, score_y(alert.verdict.score)))
            }
            (strip(&axis, &columns, flows_base, "flows", &format!("New flows per {per}, at most {}", count(most_flows)), |bin| ratio(bin.flows, most_flows)))
            (strip(&axis, &columns, bytes_base, "bytes", &format!("Traffic per {per}, at most {}", bytes(most_bytes)), |bin| ratio(bin.bytes, most_bytes)))
            @for (x, bin) in axis.bins(&columns) {
                @if *bin != Bin::default() {
                    rect.hover x=(px(x)) y=(px(score_top)) width=(px(axis.column)) height=(px(bytes_base - score_top)) {
                        title { (tip(&axis, x, bin)) }
                    }
                }
            }
            @for marker in &markers {
                (pin(marker, score_top, score_y(marker.alert.verdict.score)))
            }
        }
    })
}

/// From event time to place.
struct Axis {
    start: Timestamp,
    width_ns: f64,
    from: f64,
    to: f64,
    column: f64,
}

impl Axis {
    #[expect(clippy::cast_precision_loss, reason = "a pixel is coarser")]
    fn over(columns: &Columns, from: f64, to: f64) -> Self {
        let column = (to - from) / columns.bins.len() as f64;
        Self {
            start: columns.start,
            width_ns: columns.width_ns.max(1) as f64,
            from,
            to,
            column,
        }
    }

    fn x(&self, time: Timestamp) -> f64 {
        let nanos = (i128::from(time.nanos()) - i128::from(self.start.nanos())) as f64;
        (self.from + nanos / self.width_ns * self.column).clamp(self.from, self.to)
    }

    fn time(&self, x: f64) -> Timestamp {
        let nanos = (x - self.from) / self.column * self.width_ns;
        // A float's cast saturates.
        #[expect(clippy::cast_possible_truncation, reason = "saturating is what is wanted")]
        Timestamp::from_nanos(self.start.nanos().saturating_add(nanos.round() as i64))
    }

    /// From the first to the latest event of a verdict: wide enough to be seen.
    fn span(&self, verdict: &Verdict) -> (f64, f64) {
        let from = self.x(verdict.time);
        let to = self.x(verdict.updated).max(from + 5.0).min(self.to);
        (from.min(to - 5.0), to)
    }

    /// Width of a bar: a little less than a column, where there is room for a gap.
    fn bar(&self) -> f64 {
        if self.column > 3.0 {
            self.column - 1.0
        } else {
            self.column
        }
    }

    /// Place, width and score of adjacent columns with one score. Drawn apart, they would show seams.
    fn scores(&self, columns: &Columns) -> Vec<(f64, f64, f64)> {
        let mut runs: Vec<(f64, f64, f64)> = Vec::new();
        let mut last = None;
        for (x, bin) in self.bins(columns) {
            match (bin.score, runs.last_mut()) {
                (Some(score), Some((_, width, _))) if last == Some(score) => *width += self.column,
                (Some(score), _) => runs.push((x, self.column, score)),
                (None, _) => {}
            }
            last = bin.score;
        }
        runs
    }

    fn bins<'a>(&self, columns: &'a Columns) -> impl Iterator<Item = (f64, &'a Bin)> {
        let (mut x, column) = (self.from, self.column);
        columns.bins.iter().map(move |bin| {
            let here = x;
            x += column;
            (here, bin)
        })
    }
}

struct Tick {
    x: f64,
    label: String,
}

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Distances between ticks that people count in.
const STEPS: [i64; 38] = [
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    50 * MS,
    100 * MS,
    200 * MS,
    500 * MS,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    5 * DAY,
    10 * DAY,
    30 * DAY,
    60 * DAY,
    180 * DAY,
    360 * DAY,
    720 * DAY,
    1800 * DAY,
    3600 * DAY,
    18_000 * DAY,
];

/// Ticks at round times, at least `apart` from each other.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser")]
fn ticks(axis: &Axis, apart: f64) -> Vec<Tick> {
    let ns_per_px = axis.width_ns / axis.column;
    let step = STEPS
        .iter()
        .copied()
        .find(|step| *step as f64 / ns_per_px >= apart)
        .unwrap_or(36_000 * DAY);
    let pattern = match step {
        ..SECOND => "%H:%M:%S%.3f",
        SECOND..MINUTE => "%H:%M:%S",
        MINUTE..DAY => "%H:%M",
        _ => "%Y-%m-%d",
    };
    let mut ticks = Vec::new();
    let mut at = axis
        .start
        .nanos()
        .div_euclid(step)
        .saturating_add(1)
        .saturating_mul(step);
    loop {
        let x = axis.x(Timestamp::from_nanos(at));
        if x >= axis.to || ticks.len() > 64 {
            return ticks;
        }
        ticks.push(Tick {
            x,
            label: time_as(Timestamp::from_nanos(at), pattern),
        });
        let Some(next) = at.checked_add(step) else {
            return ticks;
        };
        at = next;
    }
}

struct Marker<'a> {
    alert: Numbered<'a>,
    x: f64,
    lane: usize,
}

/// Puts the numbers of the alerts above the chart, in as many lanes as keep them apart. Those for which there is
/// no room have their line in the chart and their place in the list.
fn place<'a>(alerts: &[Numbered<'a>], axis: &Axis) -> (Vec<Marker<'a>>, usize) {
    let mut ends = [f64::NEG_INFINITY; MOST_LANES];
    let mut markers = Vec::new();
    for alert in alerts {
        let x = axis.x(alert.verdict.time).clamp(axis.from + 9.0, axis.to - 9.0);
        let Some(lane) = ends.iter().position(|end| x - end >= LANE) else {
            continue;
        };
        ends[lane] = x;
        markers.push(Marker {
            alert: *alert,
            x,
            lane,
        });
    }
    let lanes = markers.iter().map(|marker| marker.lane + 1).max().unwrap_or(0);
    (markers, lanes)
}

/// The time an alert lasted, at the height of its score.
fn span(alert: &Numbered<'_>, axis: &Axis, y: f64) -> Markup {
    let (from, to) = axis.span(alert.verdict);
    html! {
        line.span.(alert.verdict.severity().as_str()) data-alert=(alert.number) x1=(px(from)) x2=(px(to))
            y1=(px(y)) y2=(px(y)) {}
    }
}

/// The number of an alert, with a line down to its score.
fn pin(marker: &Marker<'_>, score_top: f64, y: f64) -> Markup {
    let lane = f64::from(u8::try_from(marker.lane).unwrap_or(u8::MAX));
    let centre = score_top - 8.0 - LANE / 2.0 - lane * LANE;
    let Numbered { number, verdict } = marker.alert;
    html! {
        a.pin.(verdict.severity().as_str()) href={ "#alert-" (number) } data-alert=(number) {
            title { (number) ". " (verdict.title) }
            line x1=(px(marker.x)) x2=(px(marker.x)) y1=(px(centre + 9.0)) y2=(px(y)) {}
            circle cx=(px(marker.x)) cy=(px(centre)) r="9.5" {}
            text x=(px(marker.x)) y=(px(centre + 4.0)) text-anchor="middle" { (number) }
        }
    }
}

/// A row of bars below the scores.
fn strip(
    axis: &Axis,
    columns: &Columns,
    base: f64,
    class: &str,
    label: &str,
    part: impl Fn(&Bin) -> f64,
) -> Markup {
    html! {
        text.strip-label x=(px(LEFT)) y=(px(base - STRIP_HEIGHT - 7.0)) { (label) }
        line.base x1=(px(LEFT)) x2=(px(axis.to)) y1=(px(base)) y2=(px(base)) {}
        @for (x, bin) in axis.bins(columns) {
            @let height = STRIP_HEIGHT * part(bin);
            @if height > 0.0 {
                rect.(class) x=(px(x)) y=(px(base - height.max(1.0))) width=(px(axis.bar())) height=(px(height.max(1.0))) {}
            }
        }
    }
}

/// What a reader sees who points at a column.
fn tip(axis: &Axis, x: f64, bin: &Bin) -> String {
    let from = time_as(axis.time(x), "%Y-%m-%d %H:%M:%S%.3f");
    let to = time_as(axis.time(x + axis.column), "%H:%M:%S%.3f");
    let score = bin
        .score
        .map_or_else(String::new, |score| format!("\nscore {score:.2}"));
    format!(
        "{from} \u{2013} {to}{score}\n{}\n{}",
        counted(bin.flows, "new flow"),
        bytes(bin.bytes)
    )
}

#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
