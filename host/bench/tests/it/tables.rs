//! Figures, tables and the document.

use std::collections::BTreeMap;

use portcullis_bench::figures::{Figure, Metric, short};
use portcullis_bench::report::{Row, Table, align, between, targets};
use portcullis_bench::scenario::{self, Load, PeerName};

fn figure(number: f64) -> Figure {
    Figure { median: number, min: number, max: number }
}

fn row(scenario: &str, peer: PeerName, cpu: f64) -> Row {
    let figures = BTreeMap::from([
        (Metric::CpuUsPerRequest, figure(cpu)),
        (Metric::ResidentMib, figure(17.0)),
    ]);
    let plain = scenario != "none" && !peer.runs_filters();
    Row { scenario: scenario.to_owned(), load: Load::Saturated, peer, plain, figures }
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

#[test]
fn a_scenario_becomes_a_table_with_ratios_to_nginx_and_envoy() {
    let all = scenario::load().unwrap();
    let rows = [
        row("five", PeerName::Portcullis, 20.0),
        row("five", PeerName::Nginx, 10.0),
        row("five", PeerName::Envoy, 80.0),
    ];
    let tables = Table::all(&all, &rows);
    let [table] = &tables[..] else { panic!("{tables:?}") };
    assert_eq!(table.title, "`five`: 5 small filters");
    let cells: Vec<Vec<&str>> =
        table.text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    assert_eq!(cells[0][1..6], ["", "CPU µs/request", "× nginx", "× Envoy", "resident MiB"]);
    assert_eq!(cells[2][1..5], ["Portcullis", "20.0", "2.00", "0.25"]);
    assert_eq!(cells[3][1], "nginx, without");
}

#[test]
fn targets_are_judged_from_the_rows_that_are_there() {
    let rows = [
        row("none", PeerName::Portcullis, 10.0),
        row("none", PeerName::Nginx, 10.0),
        row("five", PeerName::Portcullis, 14.0),
        row("five", PeerName::Nginx, 10.0),
        row("twenty", PeerName::Portcullis, 60.0),
    ];
    let judged = targets(&rows);
    let verdicts: Vec<(f64, &str)> =
        judged.iter().map(|target| (target.figure, target.verdict())).collect();
    let floor = "missed; the floor holds";
    assert_eq!(
        verdicts,
        [(1.0, "met"), (1.4, floor), (2.5, "MISSED, the floor too"), (17.0, floor)]
    );
    assert_eq!(targets(&rows[..1]), []);
}

#[test]
fn only_what_stands_between_the_markers_is_written() {
    let whole = "by hand\n<!-- a -->\nold\n<!-- end of a -->\nby hand too\n";
    let written = between(whole, "a", "new\n").unwrap();
    assert_eq!(written, "by hand\n<!-- a -->\n\nnew\n\n<!-- end of a -->\nby hand too\n");
    assert_eq!(between(&written, "a", "new\n").unwrap(), written);
    assert!(between(whole, "b", "new").is_err());
}
