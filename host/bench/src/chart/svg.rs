//! Panels written as SVG, two in a row.

use std::fmt::Write as _;

use super::{Line, Panel, Scale};
use crate::figures::short;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 60.0;
/// Names of lines stand here.
const RIGHT: f64 = 90.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 46.0;
/// Between the names of two lines.
const APART: f64 = 15.0;

/// Colours follow the page that the picture stands on, so far as a picture can know it.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #57606a }
.title { font-weight: 600; font-size: 13px; fill: #24292f }
.grid { stroke: #8c959f; stroke-opacity: .3 }
path { fill: none; stroke-width: 2 }
.s0 { stroke: #0969da } .s1 { stroke: #bc4c00 } .s2 { stroke: #1a7f37 } .s3 { stroke: #8250df }
circle.s0, text.s0 { fill: #0969da; stroke: none } circle.s1, text.s1 { fill: #bc4c00; stroke: none }
circle.s2, text.s2 { fill: #1a7f37; stroke: none } circle.s3, text.s3 { fill: #8250df; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #9ea7b3 } .title { fill: #e6edf3 }
.s0 { stroke: #58a6ff } .s1 { stroke: #f0883e } .s2 { stroke: #3fb950 } .s3 { stroke: #bc8cff }
circle.s0, text.s0 { fill: #58a6ff } circle.s1, text.s1 { fill: #f0883e }
circle.s2, text.s2 { fill: #3fb950 } circle.s3, text.s3 { fill: #bc8cff }
}
";

/// The whole picture. A panel without any point that has a place is left empty.
#[must_use]
pub fn svg(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(2) as f64;
    let (width, height) = (2.0 * WIDTH, rows * HEIGHT);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n<style>\n{STYLE}</style>\n"
    );
    for (at, panel) in panels.iter().enumerate() {
        let (x, y) = ((at % 2) as f64 * WIDTH, (at / 2) as f64 * HEIGHT);
        let _infallible = writeln!(text, "<g transform=\"translate({x} {y})\">");
        draw(panel, &mut text);
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

fn draw(panel: &Panel, text: &mut String) {
    let title = escaped(&panel.title);
    let _infallible = writeln!(text, "<text class=\"title\" x=\"8\" y=\"20\">{title}</text>");
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let xs: Vec<f64> = points().map(|(x, _)| *x).collect();
    let ys: Vec<f64> = points().map(|(_, y)| *y).collect();
    let (Some(x), Some(y)) = (Scale::around(panel.x, &xs), Scale::around(panel.y, &ys)) else {
        return;
    };
    let frame = Frame { x, y };
    frame.axes(&panel.below, text);
    let mut ends = Vec::new();
    for (number, line) in panel.lines.iter().enumerate() {
        ends.extend(frame.line(number, line, text).map(|y| (y, number, line.name.as_str())));
    }
    names(ends, text);
}

/// The axes of a panel.
struct Frame {
    x: Scale,
    y: Scale,
}

impl Frame {
    fn across(&self, number: f64) -> Option<f64> {
        Some((WIDTH - LEFT - RIGHT).mul_add(self.x.place(number)?, LEFT))
    }

    fn down(&self, number: f64) -> Option<f64> {
        Some((HEIGHT - TOP - BOTTOM).mul_add(1.0 - self.y.place(number)?, TOP))
    }

    fn axes(&self, below: &str, text: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (tick, y) in self.y.ticks.iter().filter_map(|tick| Some((tick, self.down(*tick)?))) {
            let _infallible = writeln!(
                text,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                label(*tick)
            );
        }
        for (tick, x) in self.x.ticks.iter().filter_map(|tick| Some((tick, self.across(*tick)?))) {
            let _infallible = writeln!(
                text,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 17.0,
                label(*tick)
            );
        }
        let (middle, y) = (f64::midpoint(LEFT, right), bottom + 35.0);
        let below = escaped(below);
        let _infallible =
            writeln!(text, "<text x=\"{middle}\" y=\"{y}\" text-anchor=\"middle\">{below}</text>");
    }

    /// The height at which it ends.
    fn line(&self, number: usize, line: &Line, text: &mut String) -> Option<f64> {
        let placed = |(x, y): &(f64, f64)| Some(((*x, *y), self.across(*x)?, self.down(*y)?));
        let placed: Vec<_> = line.points.iter().filter_map(placed).collect();
        let (_, _, end) = placed.last()?;
        let steps: Vec<String> = placed.iter().map(|(_, x, y)| format!("{x:.1} {y:.1}")).collect();
        let _infallible = writeln!(text, "<path class=\"s{number}\" d=\"M{}\"/>", steps.join(" L"));
        for ((count, value), x, y) in &placed {
            let told = format!("{}: {} at {}", escaped(&line.name), short(*value), label(*count));
            let _infallible = writeln!(
                text,
                "<circle class=\"s{number}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{told}</title></circle>"
            );
        }
        Some(*end)
    }
}

/// Names stand where their lines end, moved down as far as the one above needs.
fn names(mut ends: Vec<(f64, usize, &str)>, text: &mut String) {
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = f64::NEG_INFINITY;
    for (end, number, name) in ends {
        let y = end.max(free);
        free = y + APART;
        let (x, y, name) = (WIDTH - RIGHT + 8.0, y + 4.0, escaped(name));
        let _infallible =
            writeln!(text, "<text class=\"s{number}\" x=\"{x}\" y=\"{y:.1}\">{name}</text>");
    }
}

/// As many digits as it has.
fn label(number: f64) -> String {
    if number >= 1e4 { short(number) } else { ((number * 1e6).round() / 1e6).to_string() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
