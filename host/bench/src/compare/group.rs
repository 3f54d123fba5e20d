//! Scenarios of one group: all their proxies run, and are loaded in turn, round after round. A round has every proxy of every scenario, one
//! scenario after the other, so that whatever is compared was measured within seconds.
//!
//! A proxy that runs no filters is the same in every scenario of the group: it is started once, and measured in each.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::figures::{Metric, short};
use crate::load::Tool;
use crate::peers::{Peer, Stage};
use crate::report::{Row, compared};
use crate::scenario::{Load, PeerName, Scenario};

use super::order::alternating;
use super::round::{Round, Rounds};
use super::{Bench, idle};

/// A proxy with the filters of one scenario, or one without any.
struct Contender<'a> {
    scenario: &'a Scenario,
    peer: Peer,
}

/// What is measured once in each round, and becomes a row.
struct Turn<'a> {
    scenario: &'a Scenario,
    load: Load,
    contender: usize,
    rounds: Vec<Round>,
}

/// Turns whose figures are compared with each other, by their places: one scenario under one load.
type Block = Vec<usize>;

/// Measures a group.
pub(super) fn run(
    bench: &Bench,
    scenarios: &[&Scenario],
    stage: &Stage,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    let (mut turns, contenders) = line_up(bench, scenarios, stage)?;
    let rates = warm_up(bench, &contenders, &turns, stage)?;
    let blocks = blocks(&turns);
    let rounds = scenarios.first().map_or(0, |scenario| scenario.rounds.min(bench.pace.rounds));
    for number in 0..rounds {
        for at in sequence(number, &blocks) {
            let turn = &mut turns[at];
            let peer = &contenders[turn.contender].peer;
            let rate = rates.get(&(turn.load, turn.contender)).copied().unwrap_or_default();
            let what = format!("{} in {}, {}", peer.name, turn.scenario.name, turn.load);
            let round = measured(bench, turn, peer, rate, stage).with_context(|| what.clone())?;
            say(&format!("round {} of {rounds}: {what}: {}", number + 1, cost(&round)));
            turn.rounds.push(round);
        }
    }
    Ok(compared(turns.iter().map(|turn| row(turn, contenders[turn.contender].peer.name)).collect()))
}

/// Who takes part, and started; turns in the order of the tables.
fn line_up<'a>(
    bench: &Bench,
    scenarios: &[&'a Scenario],
    stage: &Stage,
) -> Result<(Vec<Turn<'a>>, Vec<Contender<'a>>)> {
    let mut turns = Vec::new();
    let mut contenders: Vec<Contender> = Vec::new();
    for scenario in scenarios {
        let from = turns.len();
        for program in &bench.programs {
            let name = program.name;
            if !scenario.peers.contains(&name) {
                continue;
            }
            let shared = |other: &Contender| other.peer.name == name && !name.runs_filters();
            let contender = match contenders.iter().position(shared) {
                Some(contender) => contender,
                None => {
                    let peer = program.start(scenario, stage)?;
                    peer.rest()?;
                    contenders.push(Contender { scenario, peer });
                    contenders.len() - 1
                }
            };
            let possible = |load: &&Load| {
                Tool::of(scenario, **load).is_none_or(|tool| bench.generators.has(tool))
            };
            let turn = |load: &Load| Turn { scenario, load: *load, contender, rounds: Vec::new() };
            turns.extend(scenario.loads.iter().filter(possible).map(turn));
        }
        turns[from..].sort_by_key(|turn| turn.load);
    }
    Ok((turns, contenders))
}

/// Loads each proxy for a moment, unmeasured; what rate it answered.
fn warm_up(
    bench: &Bench,
    contenders: &[Contender],
    turns: &[Turn],
    stage: &Stage,
) -> Result<BTreeMap<(Load, usize), f64>> {
    let mut rates = BTreeMap::new();
    for Turn { load, contender, .. } in turns {
        if matches!(load, Load::Idle(_)) || rates.contains_key(&(*load, *contender)) {
            continue;
        }
        let Contender { scenario, peer } = &contenders[*contender];
        let _awake = peer.wake()?;
        let rate = Rounds { bench, scenario, stage }.warm_up(peer, *load);
        let rate = rate.with_context(|| format!("{} in {}", peer.name, scenario.name))?;
        rates.insert((*load, *contender), rate);
    }
    Ok(rates)
}

/// Loads are not compared with each other, and have their blocks apart.
fn blocks(turns: &[Turn]) -> BTreeMap<Load, Vec<Block>> {
    let mut blocks: BTreeMap<Load, Vec<Block>> = BTreeMap::new();
    let together = |a: &usize, b: &usize| {
        let (a, b) = (&turns[*a], &turns[*b]);
        a.load == b.load && a.scenario.name == b.scenario.name
    };
    let places: Vec<usize> = (0..turns.len()).collect();
    for block in places.chunk_by(together) {
        blocks.entry(turns[block[0]].load).or_default().push(block.to_vec());
    }
    blocks
}

/// The turns of a round, by their places.
fn sequence(round: u32, blocks: &BTreeMap<Load, Vec<Block>>) -> Vec<usize> {
    let round = round as usize;
    let of_load = blocks.values().flat_map(|blocks| alternating(round, blocks));
    of_load.flat_map(|block| alternating(round, block)).copied().collect()
}

fn measured(bench: &Bench, turn: &Turn, peer: &Peer, rate: f64, stage: &Stage) -> Result<Round> {
    let rounds = Rounds { bench, scenario: turn.scenario, stage };
    if let Load::Idle(connections) = turn.load {
        return idle::round(&rounds, peer.name, connections);
    }
    let _awake = peer.wake()?;
    rounds.measure(peer, turn.load, rate)
}

fn cost(round: &Round) -> String {
    let found = round.iter().find(|(metric, _)| metric.is_cost());
    found.map_or_else(String::new, |(metric, number)| {
        format!("{} {}", short(*number), metric.title())
    })
}

fn row(turn: &Turn, peer: PeerName) -> Row {
    let mut rounds: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
    for (metric, number) in turn.rounds.iter().flatten() {
        rounds.entry(*metric).or_default().push(*number);
    }
    Row::of(turn.scenario, turn.load, peer, rounds)
}
