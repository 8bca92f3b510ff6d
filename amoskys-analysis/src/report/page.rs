//! The page around the figures.

use std::time::Duration;

use amoskys_core::Digest;
use amoskys_core::event::{Severity, Verdict};
use amoskys_core::ledger::{Account, LedgerSnapshot};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::Size;
use super::findings::{Numbered, accused};
use super::format::{bytes, count, counted, duration, foreign, time};
use super::{Report, alerts, chart, graph, shadow, stories};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const MOST_STAGES: usize = 60;
const MOST_REASONS: usize = 8;
const MOST_HOSTS: usize = 20;

pub(super) fn render(report: &Report) -> String {
    let body = body(report).into_string();
    // Only style and script that name this word may run. It is the digest of the page itself, so nothing that the
    // traffic put into the page can contain it.
    let nonce = Digest::of(body.as_bytes()).to_string();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'"
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (report.title) " \u{b7} Amoskys" }
                style nonce=(nonce) { (PreEscaped(STYLE)) }
            }
            body { (PreEscaped(body)) script nonce=(nonce) { (PreEscaped(SCRIPT)) } }
        }
    };
    page.into_string()
}

fn body(report: &Report) -> Markup {
    let found = report.findings.alerts();
    let others = report.findings.others();
    let normal = report.findings.normal();
    html! {
        main {
            (head(report, &found))
            (tiles(report, &found))
            @if !found.is_empty() {
                section #alerts {
                    h2 { "Alerts" }
                    (alerts::list(report, &found))
                    @if report.findings.is_partial() { p.note { "There were too many verdicts to keep: the strongest are shown." } }
                }
            }
            @if let Some(told) = stories::stories(report, &found) {
                section #stories {
                    h2 { "Stories" }
                    p.lead { "Alerts that follow from each other, on one host or on hosts that they link, in order." }
                    (told)
                }
            }
            (over_time(report, &found))
            (who(report, &found))
            @if !found.is_empty() {
                section #evidence {
                    h2 { "Evidence" }
                    p.lead { "Each feature that moved a verdict, with its value and how far it moved the log-odds of an attack: right towards attack, left away from it. Below a score stands between which bounds it lies with 90 % confidence, by how much was counted." }
                    (alerts::cards(report, &found))
                }
            }
            @if !normal.is_empty() {
                section #normal {
                    h2 { "Called normal" }
                    p.lead { "What would have been told of, if nobody had said that it is normal here. The score is the one before." }
                    (alerts::normal(report, &normal))
                }
            }
            @if !others.is_empty() {
                section {
                    details {
                        summary { (counted(u64::try_from(others.len()).unwrap_or(u64::MAX), "further verdict")) " that raised no alert" }
                        (alerts::others(report, &others))
                    }
                }
            }
            @if let Some(told) = &report.disagreement { (shadow::section(told)) }
            @if let Some(ledger) = &report.ledger { (books(ledger)) }
        }
        footer { "Made by Amoskys " (env!("CARGO_PKG_VERSION")) ". All times are UTC. This page holds everything it shows and loads nothing." }
    }
}

fn head(report: &Report, alerts: &[Numbered<'_>]) -> Markup {
    html! {
        header.top {
            div {
                p.brand { (mark()) "Amoskys" }
                h1 { (report.title) }
                p.sub {
                    @for (at, input) in report.inputs.iter().enumerate() {
                        @if at > 0 { ", " }
                        code { (input) }
                    }
                    @if report.inputs_left_out > 0 { " and " (count(report.inputs_left_out)) " more" }
                    @if let Some((first, last)) = report.span {
                        @if !report.inputs.is_empty() { br; }
                        (time(first)) " \u{2013} " (time(last))
                    }
                }
            }
            (outcome(alerts))
        }
    }
}

/// The answer to the first question a reader has.
fn outcome(alerts: &[Numbered<'_>]) -> Markup {
    let worst = alerts.iter().map(|alert| alert.verdict.severity()).max();
    let of = |severity| {
        alerts
            .iter()
            .filter(|alert| alert.verdict.severity() == severity)
            .count()
    };
    html! {
        @match worst {
            None => div.outcome.calm { b { "No alert" } span { "nothing scored above " (Verdict::ALERT_SCORE) } },
            Some(worst) => div.outcome.(worst.as_str()) {
                b { (counted(u64::try_from(alerts.len()).unwrap_or(u64::MAX), "alert")) }
                span {
                    @let parts: Vec<String> = [Severity::Critical, Severity::High].into_iter()
                        .filter(|severity| of(*severity) > 0)
                        .map(|severity| format!("{} {severity}", of(severity))).collect();
                    (parts.join(", "))
                }
            },
        }
    }
}

fn tiles(report: &Report, alerts: &[Numbered<'_>]) -> Markup {
    let total = report.talkers.total();
    let (hosts, more) = report.talkers.hosts_seen();
    let events: u64 = report
        .events
        .iter()
        .filter(|(kind, _)| **kind != "punctuation")
        .map(|(_, count)| count)
        .sum();
    let lasted = report
        .span
        .map_or(Duration::ZERO, |(first, last)| last.since(first));
    let tile = |name: &str, value: String| html! { div { dt { (name) } dd { (value) } } };
    html! {
        dl.tiles {
            (tile("Duration", duration(lasted)))
            (tile("Flows", count(total.flows)))
            (tile("Packets", count(total.packets)))
            (tile("Traffic", bytes(total.bytes)))
            (tile("Hosts", format!("{}{}", if more { "over " } else { "" }, count(hosts))))
            (tile("Accused", count(u64::try_from(accused(alerts).len()).unwrap_or(u64::MAX))))
            (tile("Events", count(events)))
        }
    }
}

fn over_time(report: &Report, alerts: &[Numbered<'_>]) -> Markup {
    let outside = report.timeline.columns(1).flows_outside;
    let charts: Vec<Markup> = Size::ALL
        .iter()
        .filter_map(|size| chart::draw(&report.timeline, alerts, *size))
        .collect();
    html! {
        @if !charts.is_empty() {
            section {
                h2 { "Score over time" }
                figure {
                    @for chart in &charts { (chart) }
                    figcaption {
                        "The highest score of what was going on at the time. Lines: alerts, from first notice to the latest event behind them."
                        @if outside > 0 { " Not drawn: " (counted(outside, "flow")) " with times far from all others." }
                    }
                }
            }
        }
    }
}

fn who(report: &Report, alerts: &[Numbered<'_>]) -> Markup {
    let talkers = &report.talkers;
    let graphs: Vec<Markup> = Size::ALL
        .iter()
        .filter_map(|size| graph::draw(talkers, alerts, *size))
        .collect();
    let accused = accused(alerts);
    html! {
        @if !graphs.is_empty() {
            section {
                h2 { "Who talked to whom" }
                figure {
                    p.legend {
                        span { "Began the flow" }
                        span.keys {
                            @if !alerts.is_empty() { span.key.blamed { "behind an alert" } }
                            @if !accused.is_empty() { span.key.suspect { "other flows of an accused host" } }
                            span.key.plain { "other flows" }
                        }
                        span { "Answered" }
                    }
                    @for graph in &graphs { (graph) }
                    figcaption {
                        "Widths grow with the square root of the number of flows. Names are those that DNS answers in the traffic gave."
                        @if talkers.is_partial() { " There were too many pairs to keep: those with the fewest flows are left out." }
                    }
                }
                details {
                    summary { "The busiest hosts" }
                    div.scroll {
                        table.list {
                            thead { tr { th { "Host" } th { "Name" } th.num { "Flows begun" } th.num { "Flows answered" } th.num { "Packets" } th.num { "Traffic" } } }
                            tbody {
                                @for (host, traffic) in talkers.busiest_hosts(MOST_HOSTS) {
                                    tr {
                                        td.host { (host) @if accused.contains(&host) { " " span.pill.critical { "accused" } } }
                                        td { (talkers.name(host).map(|name| foreign(name, 60)).unwrap_or_default()) }
                                        td.num { (count(traffic.begun.flows)) }
                                        td.num { (count(traffic.accepted.flows)) }
                                        td.num { (count(traffic.begun.packets.saturating_add(traffic.accepted.packets))) }
                                        td.num { (bytes(traffic.bytes())) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn books(ledger: &LedgerSnapshot) -> Markup {
    let wrong = ledger.unbalanced().len();
    html! {
        section {
            h2 { "Ledger" }
            p.lead {
                "Everything that came in went out, was dropped for a stated reason, or is still on its way. "
                @if wrong == 0 { "All accounts balance." }
                @else { strong { (counted(u64::try_from(wrong).unwrap_or(u64::MAX), "account")) " out of balance: something was lost without a reason." } }
            }
            div.scroll {
                table.list {
                    thead { tr { th { "Stage" } th.num { "In" } th.num { "Out" } th.num { "Dropped" } th.num { "Pending" } th { "Balance" } } }
                    tbody {
                        @for (stage, account) in ledger.accounts.iter().take(MOST_STAGES) {
                            tr {
                                td { code { (foreign(stage, 80)) } }
                                td.num { (count(account.received)) }
                                td.num { (count(account.delivered)) }
                                td.num { (dropped(account)) }
                                td.num { (count(account.pending)) }
                                td { @if account.is_balanced() { span.good { "even" } } @else { span.pill.critical { "off" } } }
                            }
                        }
                    }
                }
            }
            @if ledger.accounts.len() > MOST_STAGES { p.note { "The first " (MOST_STAGES) " stages are shown." } }
        }
    }
}

fn dropped(account: &Account) -> Markup {
    let total = account
        .dropped
        .values()
        .fold(0_u64, |sum, count| sum.saturating_add(*count));
    html! {
        (count(total))
        @for (reason, dropped) in account.dropped.iter().take(MOST_REASONS) {
            span.soft { (foreign(reason.as_str(), 40)) " " (count(*dropped)) }
        }
    }
}

/// The project's mark: a signal that leaves its line.
fn mark() -> Markup {
    html! {
        svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
            rect.mark-back x="1" y="1" width="22" height="22" rx="6" {}
            path.mark-line d="M4.5 14.5h4l2-8 3.2 11 2-5h3.8" {}
        }
    }
}
