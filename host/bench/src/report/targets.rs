//! The targets: what each is about, the goal, the floor below which speed is not good enough, and what this run measured.

use serde::Serialize;

use crate::figures::{Figure, Metric};
use crate::scenario::{Load, PeerName};

use super::{Row, find};

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Target {
    /// What it is about, with its unit.
    pub what: &'static str,
    /// At most this is wanted.
    pub goal: f64,
    /// At most this is bearable.
    pub floor: f64,
    /// What was measured.
    pub figure: Figure,
    /// The same of Envoy, where it is no ratio.
    pub envoy: Option<Figure>,
}

impl Target {
    /// In plain words, of the median.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        if self.figure.median <= self.goal {
            "met"
        } else if self.figure.median <= self.floor {
            "missed; the floor holds"
        } else {
            "MISSED, the floor too"
        }
    }
}

/// Those of which these rows tell.
#[must_use]
pub fn targets(rows: &[Row]) -> Vec<Target> {
    let row = |scenario: &str, peer: PeerName| find(rows, scenario, Load::Saturated, peer);
    let another = |peer: PeerName| {
        let cpu = |scenario: &str| row(scenario, peer)?.rounds.get(&Metric::CpuUsPerRequest);
        Figure::of_rounds(cpu("twenty")?, cpu("none")?, |twenty, none| (twenty - none) / 20.0)
    };
    let resident = |peer: PeerName| row("five", peer)?.figures.get(&Metric::ResidentMib).copied();
    let ratio = |what, [goal, floor]: [f64; 2], scenario: &str, other: PeerName| {
        let figure = *row(scenario, PeerName::Portcullis)?.ratios.get(&other)?;
        Some(Target { what, goal, floor, figure, envoy: None })
    };
    let amount = |what, [goal, floor]: [f64; 2], of: &dyn Fn(PeerName) -> Option<Figure>| {
        let (figure, envoy) = (of(PeerName::Portcullis)?, of(PeerName::Envoy));
        Some(Target { what, goal, floor, figure, envoy })
    };
    let none = "no filter: CPU for a request, × nginx";
    let five = "five filters: CPU for a request, × nginx without filters";
    let same = "five filters: CPU for a request, × Envoy with the same five";
    let more = "one more small filter (a twentieth of what twenty add), µs";
    let memory = "resident under load with five filters, MiB";
    let all = [
        ratio(none, [1.0, 1.15], "none", PeerName::Nginx),
        ratio(five, [1.2, 1.5], "five", PeerName::Nginx),
        ratio(same, [0.2, 0.25], "five", PeerName::Envoy),
        amount(more, [0.8, 1.2], &another),
        amount(memory, [16.0, 20.0], &resident),
    ];
    all.into_iter().flatten().collect()
}
