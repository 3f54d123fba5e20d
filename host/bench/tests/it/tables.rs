//! Figures, tables and the document.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_bench::compare::alternating;
use portcullis_bench::figures::{Figure, Metric, short};
use portcullis_bench::report::{
    Machine, Report, Row, Table, align, between, compared, find, targets,
};
use portcullis_bench::scenario::{self, Load, PeerName, Scenario};

const CPU: Metric = Metric::CpuUsPerRequest;

fn figure(number: f64) -> Figure {
    Figure { median: number, min: number, max: number }
}

fn named(name: &str) -> Scenario {
    let mut all = scenario::load().unwrap().into_iter();
    all.find(|scenario| scenario.name == name).unwrap()
}

fn row(scenario: &str, peer: PeerName, cpu: &[f64]) -> Row {
    let resident = vec![17.0; cpu.len()];
    let rounds = BTreeMap::from([(CPU, cpu.to_vec()), (Metric::ResidentMib, resident)]);
    Row::of(&named(scenario), Load::Saturated, peer, rounds)
}

#[test]
fn a_figure_is_the_median_with_the_least_and_the_greatest() {
    let odd = Figure::of(&[3.0, 1.0, 2.0]).unwrap();
    assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
    assert_eq!(Figure::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    assert_eq!(Figure::of(&[]), None);
    assert_eq!(odd.to_string(), "2.00 (1.00–3.00)");
    assert_eq!(figure(7.0).to_string(), "7.00");
}

#[test]
fn numbers_have_three_digits_and_gaps_between_thousands() {
    let shown = [0.125, 18.34, 118.4, 9999.4, 49_312.0, 1_234_567.0].map(short);
    assert_eq!(shown, ["0.12", "18.3", "118", "9999", "49 312", "1 234 567"]);
}

#[test]
fn columns_of_a_table_line_up() {
    let cells = [vec!["", "µs"], vec!["nginx", "18.3"], vec!["Envoy", ""]];
    let cells = cells.map(|row| row.into_iter().map(str::to_owned).collect());
    let lines = ["|       |   µs |", "| ----- | ---: |", "| nginx | 18.3 |", "| Envoy |      |"];
    assert_eq!(align(&cells), lines.map(|line| line.to_owned() + "\n").concat());
}

/// A machine that is three times as slow in the second round, and a proxy that costs twice as much as nginx in each.
fn on_a_drifting_machine() -> Vec<Row> {
    compared(vec![
        row("five", PeerName::Portcullis, &[20.0, 60.0, 22.0]),
        row("five", PeerName::Nginx, &[10.0, 30.0, 11.0]),
        row("five", PeerName::Envoy, &[80.0, 200.0, 88.0]),
    ])
}

#[test]
fn a_ratio_is_the_median_of_the_ratios_that_rounds_had() {
    let rows = on_a_drifting_machine();
    let ratios = |peer| find(&rows, "five", Load::Saturated, peer).unwrap().ratios.clone();
    let own = ratios(PeerName::Portcullis);
    assert_eq!(own[&PeerName::Nginx], figure(2.0));
    assert_eq!(own[&PeerName::Envoy], Figure { median: 0.25, min: 0.25, max: 0.3 });
    assert_eq!(ratios(PeerName::Nginx)[&PeerName::Nginx], figure(1.0));
    // The medians of the rounds of each would have said 8.0.
    assert_eq!(ratios(PeerName::Envoy)[&PeerName::Nginx].median, 8.0);
    let rows = compared(vec![
        row("five", PeerName::Portcullis, &[10.0, 30.0, 20.0]),
        row("five", PeerName::Nginx, &[10.0, 10.0, 5.0]),
    ]);
    assert_eq!(rows[0].ratios[&PeerName::Nginx], Figure { median: 3.0, min: 1.0, max: 4.0 });
}

#[test]
fn only_rows_of_the_same_rounds_under_the_same_load_are_compared() {
    let mut rate = row("five", PeerName::Nginx, &[10.0, 10.0]);
    rate.load = Load::Rate(5000);
    let rows = compared(vec![
        row("five", PeerName::Portcullis, &[20.0, 20.0]),
        row("none", PeerName::Nginx, &[10.0, 10.0]),
        rate,
        row("five", PeerName::Envoy, &[20.0]),
    ]);
    assert_eq!(rows[0].ratios, BTreeMap::new());
}

#[test]
fn turns_alternate_so_that_a_steady_drift_speaks_for_nobody() {
    let of = |round| alternating(round, &["a", "b", "c"]).into_iter().copied().collect::<String>();
    assert_eq!([0, 1, 2, 3, 4, 5, 6].map(of), ["abc", "cba", "bca", "acb", "cab", "bac", "abc"]);
    assert_eq!(alternating::<u8>(3, &[]), [&0; 0]);
    let peers = PeerName::ALL;
    for peer in peers {
        let before = |round| {
            let order = alternating(round, &peers);
            let at = order.iter().position(|other| **other == peer).unwrap();
            at.checked_sub(1).map(|at| *order[at])
        };
        // Whoever begins runs after somebody of another scenario, or after itself.
        let neighbours: BTreeSet<Option<PeerName>> = (0..3).map(before).collect();
        assert!(neighbours.len() > 1, "{peer} always runs after {neighbours:?}");
    }
}

#[test]
fn a_scenario_becomes_a_table_with_ratios_to_nginx_and_envoy() {
    let tables = Table::all(&scenario::load().unwrap(), &on_a_drifting_machine());
    let [table] = &tables[..] else { panic!("{tables:?}") };
    assert_eq!(table.title, "`five`: 5 small filters");
    let cells: Vec<Vec<&str>> =
        table.text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    assert_eq!(cells[0][1..6], ["", "CPU µs/request", "× nginx", "× Envoy", "resident MiB"]);
    assert_eq!(cells[2][1..5], ["Portcullis", "22.0 (20.0–60.0)", "2.00", "0.25"]);
    assert_eq!(cells[3][1], "nginx, without");
}

#[test]
fn targets_are_judged_from_the_rows_that_are_there() {
    let rows = compared(vec![
        row("none", PeerName::Portcullis, &[10.0, 40.0, 10.0]),
        row("none", PeerName::Nginx, &[10.0, 40.0, 20.0]),
        row("five", PeerName::Portcullis, &[14.0; 3]),
        row("five", PeerName::Nginx, &[10.0; 3]),
        row("twenty", PeerName::Portcullis, &[60.0, 90.0, 70.0]),
    ]);
    let judged = targets(&rows);
    let verdicts: Vec<(String, &str)> =
        judged.iter().map(|target| (target.figure.to_string(), target.verdict())).collect();
    let floor = "missed; the floor holds";
    let expected = [
        ("1.00 (0.50–1.00)", "met"),
        ("1.40", floor),
        ("2.50 (2.50–3.00)", "MISSED, the floor too"),
        ("17.0", floor),
    ];
    assert_eq!(verdicts, expected.map(|(figure, verdict)| (figure.to_owned(), verdict)));
    assert_eq!(targets(&compared(vec![row("none", PeerName::Portcullis, &[10.0])])), []);
}

#[test]
fn a_report_shows_each_round_to_machines_and_how_many_there_were_to_people() {
    let mut rows = on_a_drifting_machine();
    rows.push(row("tls", PeerName::Nginx, &[10.0]));
    let targets = targets(&rows);
    let report = Report {
        schema: Report::SCHEMA,
        command: "compare".to_owned(),
        machine: Machine::default(),
        seconds: 4,
        rows,
        targets,
        failures: Vec::new(),
    };
    assert!(report.origin().starts_with("`compare`, 1–3 rounds of 4 s, "), "{}", report.origin());
    let text = report.targets();
    let line = text.lines().find(|line| line.contains("the same five")).unwrap();
    assert!(line.contains(" 0.25 (0.25–0.30) |"), "{line}");
    let json = serde_json::to_value(&report).unwrap();
    let own = &json["rows"][0];
    assert_eq!(own["rounds"]["cpu_us_per_request"], serde_json::json!([20.0, 60.0, 22.0]));
    assert_eq!(own["figures"]["cpu_us_per_request"]["median"], 22.0);
    assert_eq!(own["ratios"]["nginx"]["median"], 2.0);
    assert_eq!(json["targets"][0]["figure"]["max"], 2.0);
}

#[test]
fn only_what_stands_between_the_markers_is_written() {
    let whole = "by hand\n<!-- a -->\nold\n<!-- end of a -->\nby hand too\n";
    let written = between(whole, "a", "new\n").unwrap();
    assert_eq!(written, "by hand\n<!-- a -->\n\nnew\n\n<!-- end of a -->\nby hand too\n");
    assert_eq!(between(&written, "a", "new\n").unwrap(), written);
    assert!(between(whole, "b", "new").is_err());
}
