//! What a model that was only tried would have said.

use amoskys_core::event::Technique;
use maud::{Markup, html};

use super::format::{count, foreign};
use crate::live::Disagreement;

const MOST_TITLE_CHARS: usize = 160;

/// The section about the shadow.
pub(super) fn section(told: &Disagreement) -> Markup {
    let score =
        |score: Option<f64>| score.map_or_else(|| "\u{2013}".to_owned(), |score| format!("{score:.2}"));
    html! {
        section #shadow {
            h2 { "Shadow" }
            p.lead {
                "A second model saw the same events; its verdicts raise nothing. Alerts of both: " (count(told.both))
                ", of the model at work alone: " (count(told.only_active)) ", of the shadow alone: " (count(told.only_shadow))
                ". Of " (count(told.compared)) " scores that both gave, the shadow's are " (format!("{:+.3}", told.mean_difference))
                " on the mean, and " (format!("{:.3}", told.largest_difference)) " apart at most."
            }
            @if told.failed { p.note { "The shadow failed, and was not asked any more." } }
            @if told.refused > 0 { p.note { "The shadow refused " (count(told.refused)) " of " (count(told.observations)) " observations." } }
            @if told.left_out > 0 { p.note { (count(told.left_out)) " conclusions were not compared." } }
            @if !told.examples.is_empty() {
                table {
                    thead { tr { th { "At work" } th { "Shadow" } th { "Technique" } th { "Who" } th { "What" } } }
                    tbody {
                        @for example in &told.examples {
                            tr {
                                td { (score(example.active)) }
                                td { (score(example.shadow)) }
                                td { (example.technique.as_ref().map_or("", Technique::as_str)) }
                                td { (foreign(&example.entity.to_string(), MOST_TITLE_CHARS)) }
                                td { (foreign(&example.title, MOST_TITLE_CHARS)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
