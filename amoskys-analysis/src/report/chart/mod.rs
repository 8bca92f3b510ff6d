//! The chart of scores and traffic over time.

mod axis;

use std::time::Duration;

use amoskys_core::event::{Severity, Verdict};
use maud::{Markup, html};

use self::axis::{Axis, ticks};
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
