//! The targets: what each is about, the goal, the floor below which speed is not good enough, and what this run measured.

use serde::Serialize;

use crate::figures::Metric;
use crate::scenario::{Load, PeerName};

use super::{Row, median};

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
    pub figure: f64,
}

impl Target {
    /// In plain words.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        if self.figure <= self.goal {
            "met"
        } else if self.figure <= self.floor {
            "missed; the floor holds"
        } else {
            "MISSED, the floor too"
        }
    }
}

/// Those of which these rows tell.
#[must_use]
pub fn targets(rows: &[Row]) -> Vec<Target> {
    let saturated = |scenario: &str, peer: PeerName, metric: Metric| {
        median(rows, scenario, Load::Saturated, peer, metric)
    };
    let cpu = |scenario: &str, peer: PeerName| saturated(scenario, peer, Metric::CpuUsPerRequest);
    let own = |scenario: &str| cpu(scenario, PeerName::Portcullis);
    let ratio = |scenario: &str, other: PeerName| Some(own(scenario)? / cpu(scenario, other)?);
    let another = || Some((own("twenty")? - own("none")?) / 20.0);
    let resident = saturated("five", PeerName::Portcullis, Metric::ResidentMib);
    let target = |what, goal, floor, figure: Option<f64>| {
        figure.map(|figure| Target { what, goal, floor, figure })
    };
    let all = [
        target("no filter: CPU for a request, × nginx", 1.0, 1.15, ratio("none", PeerName::Nginx)),
        target(
            "five filters: CPU for a request, × nginx without filters",
            1.2,
            1.5,
            ratio("five", PeerName::Nginx),
        ),
        target(
            "five filters: CPU for a request, × Envoy with the same five",
            0.2,
            0.25,
            ratio("five", PeerName::Envoy),
        ),
        target("one more small filter (a twentieth of what twenty add), µs", 0.8, 1.2, another()),
        target("resident under load with five filters, MiB", 16.0, 20.0, resident),
    ];
    all.into_iter().flatten().collect()
}
