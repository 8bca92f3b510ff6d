//! Alerts that follow from each other, told in order.

use maud::{Markup, html};

use super::Report;
use super::findings::Numbered;
use super::format::{foreign, middle};
use crate::story::{Story, machine};

const MOST_STORIES: usize = 20;
const MOST_TITLE_CHARS: usize = 160;

/// The stories of more than one alert; `None` if there is none.
pub(super) fn stories(report: &Report, alerts: &[Numbered<'_>]) -> Option<Markup> {
    let all = report
        .stories
        .stories()
        .filter(|story| story.chapters().nth(1).is_some());
    let all: Vec<&Story> = all.collect();
    let shown = all.iter().take(MOST_STORIES);
    (!all.is_empty()).then(|| {
        html! {
            @for story in shown { (tell(report, alerts, story)) }
            @if all.len() > MOST_STORIES { p.note { "The first " (MOST_STORIES) " of " (all.len()) " stories are told." } }
        }
    })
}

fn tell(report: &Report, alerts: &[Numbered<'_>], story: &Story) -> Markup {
    let mut hosts: Vec<&str> = Vec::new();
    for chapter in story.chapters() {
        let host = machine(&chapter.host);
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    let tactics: Vec<&str> = story.tactics().iter().map(|tactic| tactic.as_str()).collect();
    let number = |id| {
        alerts
            .iter()
            .find(|alert| alert.verdict.id == id)
            .map(|alert| alert.number)
    };
    html! {
        article {
            h3 { (middle(&foreign(&hosts.join(", "), 256), 96)) }
            p.who { (tactics.join(" \u{2192} ")) }
            div.scroll {
                table.list {
                    thead { tr { th { "When" } th { "Tactic" } th { "Technique" } th { "What" } th { "Who" } th.no { "#" } } }
                    tbody {
                        @for chapter in story.chapters() {
                            tr {
                                td.nowrap { (report.clock(chapter.time)) }
                                td { @if let Some(tactic) = chapter.tactic { (tactic.as_str()) } @else { "\u{2013}" } }
                                td { @if let Some(technique) = &chapter.technique { code.nowrap { (foreign(technique.as_str(), 16)) } } }
                                td.what { (foreign(&chapter.title, MOST_TITLE_CHARS)) }
                                td.host { (middle(&foreign(&chapter.host, 256), 64)) }
                                td.no { @if let Some(number) = number(chapter.id) { a href={ "#alert-" (number) } { (number) } } }
                            }
                        }
                    }
                }
            }
            @if story.left_out() > 0 { p.note { "And " (story.left_out()) " more." } }
        }
    }
}
