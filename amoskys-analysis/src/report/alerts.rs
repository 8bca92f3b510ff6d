//! The list of alerts and, for each, the evidence.

use amoskys_core::event::{Entity, Evidence, ScoreInterval, Severity, Technique, Verdict};
use maud::{Markup, html};

use super::Report;
use super::findings::Numbered;
use super::format::{count, duration, foreign, middle, px, signed, time, value};
use crate::alert::service;

/// Of more alerts than this, the strongest are shown with their evidence, the others in the list only.
const MOST_CARDS: usize = 50;
const MOST_ROWS: usize = 300;
const MOST_PEERS_SHOWN: usize = 4;

/// One row for each alert.
pub(super) fn list(report: &Report, alerts: &[Numbered<'_>]) -> Markup {
    let carded = carded(alerts);
    html! {
        div.scroll {
            table.list {
                thead {
                    tr { th.no { "#" } th { "Severity" } th { "What" } th { "Who" } th { "Technique" } th { "When" } th.num { "Score" } }
                }
                tbody {
                    @for alert in alerts.iter().take(MOST_ROWS) {
                        @let Numbered { number, verdict } = *alert;
                        tr data-alert=(number) data-severity=(verdict.severity()) {
                            td.no { (number) }
                            td { (severity(verdict)) }
                            td.what {
                                @if carded.contains(&number) { a href={ "#alert-" (number) } { (verdict.title) } }
                                @else { (verdict.title) }
                            }
                            td.host { (entity(&verdict.entity)) }
                            td { (technique_id(verdict.technique.as_ref())) }
                            td.nowrap { (report.clock(verdict.time)) }
                            td.num { (score(verdict)) (bounds(verdict)) }
                        }
                    }
                }
            }
        }
        @if alerts.len() > MOST_ROWS {
            p.note { "The first " (MOST_ROWS) " of " (count(u64::try_from(alerts.len()).unwrap_or(u64::MAX))) " alerts are listed." }
        }
    }
}

/// A card for each alert.
pub(super) fn cards(report: &Report, alerts: &[Numbered<'_>]) -> Markup {
    let carded = carded(alerts);
    html! {
        @for alert in alerts.iter().filter(|alert| carded.contains(&alert.number)) {
            (card(report, alert))
        }
        @if carded.len() < alerts.len() {
            p.note { "Evidence is shown for the " (carded.len()) " alerts with the highest scores." }
        }
    }
}

/// Verdicts below the threshold, in short.
pub(super) fn others(report: &Report, verdicts: &[&Verdict]) -> Markup {
    const MOST: usize = 25;
    html! {
        div.scroll {
            table.list {
                thead { tr { th { "Severity" } th { "Layer" } th { "What" } th { "Who" } th { "When" } th.num { "Score" } } }
                tbody {
                    @for verdict in verdicts.iter().take(MOST) {
                        tr {
                            td { (severity(verdict)) }
                            td { (layer(verdict)) }
                            td.what { (verdict.title) }
                            td.host { (entity(&verdict.entity)) }
                            td.nowrap { (report.clock(verdict.time)) }
                            td.num { (score(verdict)) (bounds(verdict)) }
                        }
                    }
                }
            }
        }
        @if verdicts.len() > MOST { p.note { "The " (MOST) " with the highest scores are shown." } }
    }
}

/// Verdicts that somebody called normal, with the score that each had before.
pub(super) fn normal(report: &Report, verdicts: &[(&Verdict, f64)]) -> Markup {
    html! {
        div.scroll {
            table.list {
                thead { tr { th { "What" } th { "Who" } th { "Technique" } th { "When" } th.num { "Score" } } }
                tbody {
                    @for (verdict, before) in verdicts.iter().take(MOST_ROWS) {
                        tr {
                            td.what { (verdict.title) }
                            td.host { (entity(&verdict.entity)) }
                            td { (technique_id(verdict.technique.as_ref())) }
                            td.nowrap { (report.clock(verdict.time)) }
                            td.num { (format!("{before:.2}")) }
                        }
                    }
                }
            }
        }
        @if verdicts.len() > MOST_ROWS { p.note { "The first " (MOST_ROWS) " of " (count(u64::try_from(verdicts.len()).unwrap_or(u64::MAX))) " are shown." } }
    }
}

/// The numbers of the alerts that get a card.
fn carded(alerts: &[Numbered<'_>]) -> std::collections::BTreeSet<usize> {
    let mut ranked: Vec<_> = alerts.iter().collect();
    ranked.sort_by(|a, b| {
        b.verdict
            .score
            .total_cmp(&a.verdict.score)
            .then(a.number.cmp(&b.number))
    });
    ranked
        .into_iter()
        .take(MOST_CARDS)
        .map(|alert| alert.number)
        .collect()
}

fn card(report: &Report, alert: &Numbered<'_>) -> Markup {
    let Numbered { number, verdict } = *alert;
    html! {
        article.alert.(verdict.severity().as_str()) id={ "alert-" (number) } data-alert=(number)
            data-severity=(verdict.severity()) {
            header {
                span.no { (number) }
                div.head {
                    h3 { (verdict.title) }
                    p.who { (whom(verdict)) }
                }
                div.score { b { (score(verdict)) } (bounds(verdict)) (severity(verdict)) }
            }
            dl.facts {
                div { dt { "Technique" } dd { (technique_full(verdict.technique.as_ref())) } }
                div { dt { "First seen" } dd { (time(verdict.time)) } }
                div { dt { "Last seen" } dd { (time(verdict.updated)) @if verdict.updated > verdict.time { span.soft { ", " (duration(verdict.updated.since(verdict.time))) " later" } } } }
            }
            @if !verdict.evidence.is_empty() { (evidence(report, verdict)) }
            dl.origin {
                div { dt { "Drawn by" } dd { (layer(verdict)) ", " code { (foreign(verdict.model.name.as_str(), 60)) " " (foreign(verdict.model.version.as_str(), 30)) } } }
                div { dt { "Model" } dd { code { (verdict.model.digest) } } }
                div { dt { "Schema" } dd { code { (verdict.schema) } } }
                div { dt { "Events" } dd { code { (verdict.events.first) "\u{2013}" (verdict.events.last) } " of stream " code { (foreign(&verdict.events.stream.to_string(), 160)) } } }
                div { dt { "Verdict" } dd { code { (verdict.id) } ", revision " (verdict.revision) } }
            }
        }
    }
}

fn evidence(report: &Report, verdict: &Verdict) -> Markup {
    let finite = |evidence: &Evidence| Some(evidence.contribution).filter(|c| c.is_finite());
    let contributions = || verdict.evidence.iter().filter_map(finite);
    let up = contributions().fold(0.0, f64::max);
    let down = -contributions().fold(0.0, f64::min);
    html! {
        table.evidence {
            thead { tr { th { "Evidence" } th.num { "Value" } th.num colspan="2" { "Contribution" } } }
            tbody {
                @for evidence in &verdict.evidence {
                    @let feature = report.feature(&verdict.schema, evidence.feature.as_str());
                    tr {
                        td {
                            code { (foreign(evidence.feature.as_str(), 48)) }
                            @if let Some(feature) = feature { span.soft { (foreign(&feature.description, 120)) } }
                        }
                        td.num {
                            (value(evidence.value))
                            @if let Some(feature) = feature.filter(|feature| !feature.unit.is_empty()) {
                                span.unit { " " (foreign(&feature.unit, 16)) }
                            }
                        }
                        td.num.share { (signed(evidence.contribution)) }
                        td.bar { (bar(evidence.contribution, up, down)) }
                    }
                }
                @if let Some(sum) = whole(verdict) {
                    tr.sum {
                        td { "Together: the log-odds of a probability of " (score(verdict)) }
                        td {}
                        td.num.share { (signed(sum)) }
                        td.bar {}
                    }
                }
            }
        }
    }
}

/// The sum of all contributions, if it is the verdict's score in log-odds.
fn whole(verdict: &Verdict) -> Option<f64> {
    let sum: f64 = verdict
        .evidence
        .iter()
        .map(|evidence| evidence.contribution)
        .sum();
    let log_odds = (verdict.score / (1.0 - verdict.score)).ln();
    ((sum - log_odds).abs() < 0.005).then_some(sum)
}

/// A bar from a zero that is the same in all rows of a table: right towards attack, left away from it.
fn bar(contribution: f64, up: f64, down: f64) -> Markup {
    const WIDTH: f64 = 160.0;
    let whole = up + down;
    // The sum of two finite numbers may not be.
    let scale = if whole > 0.0 && whole.is_finite() {
        WIDTH / whole
    } else {
        0.0
    };
    let zero = down * scale;
    let length = if contribution.is_finite() {
        contribution.abs() * scale
    } else {
        0.0
    };
    let (class, x) = if contribution < 0.0 {
        ("down", zero - length)
    } else {
        ("up", zero)
    };
    html! {
        svg viewBox="0 0 162 12" width="162" height="12" aria-hidden="true" {
            rect.(class) x=(px(x + 1.0)) y="1.5" width=(px(length)) height="9" rx="1.5" {}
            line.zero x1=(px(zero + 0.5)) x2=(px(zero + 0.5)) y1="0" y2="12" {}
        }
    }
}

/// The accused and those concerned.
fn whom(verdict: &Verdict) -> Markup {
    let more = verdict.peers.len().saturating_sub(MOST_PEERS_SHOWN);
    html! {
        code.accused { (entity(&verdict.entity)) }
        @if !verdict.peers.is_empty() {
            span.arrow { " \u{2192} " }
            @for (at, peer) in verdict.peers.iter().take(MOST_PEERS_SHOWN).enumerate() {
                @if at > 0 { ", " }
                code { (entity(peer)) }
            }
            @if more > 0 { " and " (more) " more" }
        }
    }
}

fn entity(entity: &Entity) -> String {
    let text = match (entity, service(entity)) {
        (Entity::Service(host, ..), Some(service)) => format!("{host} {service}"),
        (Entity::Client(host, ..), Some(service)) => format!("{host} \u{2192} {service}"),
        _ => entity.to_string(),
    };
    middle(&foreign(&text, 256), 64)
}

fn severity(verdict: &Verdict) -> Markup {
    let severity: Severity = verdict.severity();
    html! { span.pill.(severity.as_str()) { (severity) } }
}

fn score(verdict: &Verdict) -> String {
    if verdict.score.is_finite() {
        format!("{:.2}", verdict.score)
    } else {
        "\u{2013}".to_owned()
    }
}

/// Between which bounds the score lies, where that is known.
fn bounds(verdict: &Verdict) -> Markup {
    let known = verdict
        .interval
        .filter(|bounds| bounds.low.is_finite() && bounds.high.is_finite());
    html! {
        @if let Some(ScoreInterval { low, high }) = known {
            span.bounds title="90 % confidence" { (format!("{low:.2}\u{2013}{high:.2}")) }
        }
    }
}

fn layer(verdict: &Verdict) -> String {
    format!("{:?}", verdict.layer).to_lowercase()
}

fn technique_id(technique: Option<&Technique>) -> Markup {
    html! {
        @match technique {
            Some(technique) => code.nowrap title=[crate::attack::name(technique)] { (foreign(technique.as_str(), 16)) },
            None => "\u{2013}",
        }
    }
}

fn technique_full(technique: Option<&Technique>) -> Markup {
    html! {
        (technique_id(technique))
        @if let Some(name) = technique.and_then(crate::attack::name) { " " (name) }
    }
}
