//! Scenarios of one group: all their proxies run, and are loaded in turn, round after round.
//!
//! A proxy that runs no filters is the same in every scenario of the group. It is started and measured once, and its figures
//! stand in the tables of all of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::figures::{Figure, Metric, short};
use crate::load::Tool;
use crate::peers::{Peer, Stage};
use crate::report::Row;
use crate::scenario::{Load, PeerName, Scenario};

use super::round::{Round, Rounds};
use super::{Bench, ROUNDS, idle};

/// A proxy with the filters of one scenario, or one without any.
struct Contender<'a> {
    scenario: &'a Scenario,
    peer: Peer,
}

/// Where a row's figures come from.
struct Entry<'a> {
    scenario: &'a Scenario,
    load: Load,
    peer: PeerName,
    contender: usize,
}

/// Measures a group.
pub(super) fn run(
    bench: &Bench,
    scenarios: &[&Scenario],
    stage: &Stage,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    let (entries, contenders) = line_up(bench, scenarios, stage)?;
    let mut rounds: BTreeMap<(Load, usize), Vec<Round>> = BTreeMap::new();
    for entry in &entries {
        rounds.entry((entry.load, entry.contender)).or_default();
    }
    let rates = warm_up(bench, &contenders, &rounds, stage)?;
    for number in 1..=ROUNDS {
        for (key, measured) in &mut rounds {
            let (load, contender) = (key.0, &contenders[key.1]);
            let peer = &contender.peer;
            let turn = Rounds { bench, scenario: contender.scenario, stage };
            let round = match load {
                Load::Idle(connections) => idle::round(&turn, peer.name, connections),
                load => turn.measure(peer, load, rates.get(key).copied().unwrap_or_default()),
            };
            let what = format!("{} in {}, {load}", peer.name, contender.scenario.name);
            let round = round.with_context(|| what.clone())?;
            say(&format!("round {number} of {ROUNDS}: {what}: {}", cost(&round)));
            measured.push(round);
        }
    }
    Ok(entries.iter().map(|entry| row(entry, &rounds)).collect())
}

/// Who takes part, and started.
fn line_up<'a>(
    bench: &Bench,
    scenarios: &[&'a Scenario],
    stage: &Stage,
) -> Result<(Vec<Entry<'a>>, Vec<Contender<'a>>)> {
    let mut entries = Vec::new();
    let mut contenders: Vec<Contender> = Vec::new();
    for scenario in scenarios {
        for program in &bench.programs {
            let name = program.name;
            if !scenario.peers.contains(&name) {
                continue;
            }
            let shared = |other: &Contender| other.peer.name == name && !name.runs_filters();
            let contender = match contenders.iter().position(shared) {
                Some(contender) => contender,
                None => {
                    contenders.push(Contender { scenario, peer: program.start(scenario, stage)? });
                    contenders.len() - 1
                }
            };
            let possible = |load: &&Load| {
                Tool::of(scenario, **load).is_none_or(|tool| bench.generators.has(tool))
            };
            let entry = |load: &Load| Entry { scenario, load: *load, peer: name, contender };
            entries.extend(scenario.loads.iter().filter(possible).map(entry));
        }
    }
    entries.sort_by_key(|entry| {
        (scenarios.iter().position(|scenario| scenario.name == entry.scenario.name), entry.load)
    });
    Ok((entries, contenders))
}

/// Loads each proxy for a moment, unmeasured; what rate it answered.
fn warm_up(
    bench: &Bench,
    contenders: &[Contender],
    rounds: &BTreeMap<(Load, usize), Vec<Round>>,
    stage: &Stage,
) -> Result<BTreeMap<(Load, usize), f64>> {
    let mut rates = BTreeMap::new();
    for (load, at) in rounds.keys() {
        if matches!(load, Load::Idle(_)) {
            continue;
        }
        let Contender { scenario, peer } = &contenders[*at];
        let rate = Rounds { bench, scenario, stage }.warm_up(peer, *load);
        let rate = rate.with_context(|| format!("{} in {}", peer.name, scenario.name))?;
        rates.insert((*load, *at), rate);
    }
    Ok(rates)
}

fn cost(round: &Round) -> String {
    let found = round.iter().find(|(metric, _)| metric.is_cost());
    found.map_or_else(String::new, |(metric, number)| {
        format!("{} {}", short(*number), metric.title())
    })
}

fn row(entry: &Entry, rounds: &BTreeMap<(Load, usize), Vec<Round>>) -> Row {
    let mut numbers: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
    for (metric, number) in rounds[&(entry.load, entry.contender)].iter().flatten() {
        numbers.entry(*metric).or_default().push(*number);
    }
    let figure = |(metric, numbers): (Metric, Vec<f64>)| Some((metric, Figure::of(&numbers)?));
    Row {
        scenario: entry.scenario.name.clone(),
        load: entry.load,
        peer: entry.peer,
        plain: entry.scenario.is_plain_on(entry.peer),
        figures: numbers.into_iter().filter_map(figure).collect(),
    }
}
