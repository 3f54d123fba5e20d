//! Curves as SVG: small panels beside each other, each with a few lines on linear or logarithmic axes. Readable on light and dark pages; no
//! script, nothing loaded.

mod scale;
mod svg;

pub use scale::{Kind, Scale};
pub use svg::svg;

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What stands at its end.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// A panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What it is about, with the unit of its heights.
    pub title: String,
    /// What stands below it.
    pub below: String,
    /// Of the horizontal axis.
    pub x: Kind,
    /// Of the vertical axis.
    pub y: Kind,
    /// At most as many as there are colours: four.
    pub lines: Vec<Line>,
}
