//! The drawing of who talked to whom: those who began on the left, those they began with on the right.

mod layout;

use maud::{Markup, html};

use self::layout::{Graph, Node, RIBBON_MIN};
use super::chart::Size;
use super::findings::Numbered;
use super::format::{bytes, counted, foreign, middle, px};
use super::talkers::{Talkers, Traffic};

const BAR: f64 = 6.0;

/// Draws the graph; without flows nothing is drawn.
pub(super) fn draw(talkers: &Talkers, alerts: &[Numbered<'_>], size: Size) -> Option<Markup> {
    let graph = Graph::of(talkers, alerts)?;
    let (width, label) = (size.width(), if size == Size::Wide { 290.0 } else { 122.0 });
    let (left_x, right_x) = (label, width - label);
    let height = graph.left.height().max(graph.right.height()) + 8.0;
    let view = format!("0 0 {} {}", px(width), px(height));
    let (left_top, right_top) = (
        4.0 + (height - 8.0 - graph.left.height()) / 2.0,
        4.0 + (height - 8.0 - graph.right.height()) / 2.0,
    );
    Some(html! {
        svg.graph.(size.class()) viewBox=(view) role="img" aria-label="Who talked to whom" {
            @for ribbon in &graph.ribbons {
                @let (y0, y1) = (left_top + ribbon.from_y, right_top + ribbon.to_y);
                path.ribbon.(ribbon.class()) data-alert=[ribbon.alert]
                    d=(band(left_x + BAR, y0, right_x - BAR, y1, ribbon.width)) {
                    title { (graph.left.nodes[ribbon.from].title()) " \u{2192} " (graph.right.nodes[ribbon.to].title()) "\n" (amount(ribbon.traffic)) }
                }
            }
            @for node in &graph.left.nodes {
                (draw_node(node, left_top, left_x, size, "end"))
            }
            @for node in &graph.right.nodes {
                (draw_node(node, right_top, right_x - BAR, size, "start"))
            }
        }
    })
}

/// Flows and bytes in words.
fn amount(traffic: Traffic) -> String {
    format!("{}, {}", counted(traffic.flows, "flow"), bytes(traffic.bytes))
}

fn draw_node(node: &Node, top: f64, x: f64, size: Size, anchor: &str) -> Markup {
    let y = top + node.y;
    let centre = y + node.height / 2.0;
    let text_x = if anchor == "end" { x - 8.0 } else { x + BAR + 8.0 };
    let name_limit = if size == Size::Wide { 39 } else { 17 };
    let mut detail = amount(node.traffic);
    if size == Size::Narrow {
        detail = counted(node.traffic.flows, "flow");
    } else if let Some(name) = &node.name {
        detail = format!("{} \u{b7} {detail}", middle(&foreign(name, 60), 28));
    }
    let (bar_y, bar_height) = (centre - node.ribbons / 2.0, node.ribbons.max(RIBBON_MIN));
    html! {
        g.node.accused[node.accused].rest[node.host.is_none()] {
            title { (node.title()) "\n" (amount(node.traffic)) @if node.accused { "\naccused" } }
            rect x=(px(x)) y=(px(bar_y)) width=(px(BAR)) height=(px(bar_height)) rx="1.5" {}
            text.host x=(px(text_x)) y=(px(centre - 2.0)) text-anchor=(anchor) { (middle(&node.label(), name_limit)) }
            text.detail x=(px(text_x)) y=(px(centre + 11.5)) text-anchor=(anchor) { (detail) }
        }
    }
}

/// A ribbon between two heights.
fn band(x0: f64, y0: f64, x1: f64, y1: f64, width: f64) -> String {
    let bend = f64::midpoint(x0, x1);
    let [x0, x1, bend] = [x0, x1, bend].map(px);
    let [y0, y1, y0_low, y1_low] = [y0, y1, y0 + width, y1 + width].map(px);
    format!(
        "M{x0},{y0}C{bend},{y0} {bend},{y1} {x1},{y1}L{x1},{y1_low}C{bend},{y1_low} {bend},{y0_low} {x0},{y0_low}Z"
    )
}
