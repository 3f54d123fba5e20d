//! One proxy under one load: what each round measured, and what the rounds come to, alone and beside the others.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::figures::{Figure, Metric};
use crate::scenario::{Load, PeerName, Scenario};

/// Those with whom everybody is compared.
pub const YARDSTICKS: [PeerName; 2] = [PeerName::Nginx, PeerName::Envoy];

/// One proxy under one load.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// How much was asked.
    pub load: Load,
    /// Who was asked.
    pub peer: PeerName,
    /// Whether it ran without the scenario's filters, because it runs none.
    pub plain: bool,
    /// What was measured.
    pub figures: BTreeMap<Metric, Figure>,
    /// How many times the cost of others it costs, taken round by round; see [`compared`].
    pub ratios: BTreeMap<PeerName, Figure>,
    /// What each round measured. Rows of one group of scenarios had their rounds together.
    pub rounds: BTreeMap<Metric, Vec<f64>>,
}

impl Row {
    /// A row that is not compared yet.
    #[must_use]
    pub fn of(
        scenario: &Scenario,
        load: Load,
        peer: PeerName,
        rounds: BTreeMap<Metric, Vec<f64>>,
    ) -> Row {
        let figure =
            |(metric, numbers): (&Metric, &Vec<f64>)| Some((*metric, Figure::of(numbers)?));
        Row {
            scenario: scenario.name.clone(),
            load,
            peer,
            plain: scenario.is_plain_on(peer),
            figures: rounds.iter().filter_map(figure).collect(),
            ratios: BTreeMap::new(),
            rounds,
        }
    }

    /// What is compared.
    #[must_use]
    pub fn cost(&self) -> Option<Metric> {
        self.rounds.keys().copied().find(|metric| metric.is_cost())
    }

    fn ratio(&self, other: &Row) -> Option<Figure> {
        let cost = self.cost()?;
        Figure::of_rounds(self.rounds.get(&cost)?, other.rounds.get(&cost)?, |own, other| {
            own / other
        })
    }
}

/// Fills in the ratios of rows to nginx and Envoy in the same scenario, under the same load. Each is the median of the ratios that the
/// rounds had: on a machine whose speed drifts, medians of different moments say nothing about each other.
#[must_use]
pub fn compared(mut rows: Vec<Row>) -> Vec<Row> {
    let ratios = |row: &Row| {
        let ratio = |peer| Some((peer, row.ratio(find(&rows, &row.scenario, row.load, peer)?)?));
        YARDSTICKS.into_iter().filter_map(ratio).collect()
    };
    let all: Vec<BTreeMap<PeerName, Figure>> = rows.iter().map(ratios).collect();
    for (row, ratios) in rows.iter_mut().zip(all) {
        row.ratios = ratios;
    }
    rows
}

/// One of these rows.
#[must_use]
pub fn find<'a>(rows: &'a [Row], scenario: &str, load: Load, peer: PeerName) -> Option<&'a Row> {
    rows.iter().find(|row| row.scenario == scenario && row.load == load && row.peer == peer)
}
