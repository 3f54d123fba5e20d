//! Axes, pictures, and how growth is judged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use portcullis_bench::chart::{Kind, Line, Panel, Scale, svg};
use portcullis_bench::figures::{Figure, Metric};
use portcullis_bench::grow::{Axis, Growth, Report, Row, growth};
use portcullis_bench::report::Machine;

#[test]
fn a_linear_axis_begins_at_nought_and_ends_round() {
    let scale = Scale::around(Kind::Linear, &[3.0, 47.0]).unwrap();
    assert_eq!(scale.ticks, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
    assert_eq!(scale.place(25.0), Some(0.5));
    assert_eq!(Scale::around(Kind::Linear, &[0.0]).unwrap().place(0.0), Some(0.0));
    assert_eq!(Scale::around(Kind::Linear, &[]), None);
}

#[test]
fn a_logarithmic_axis_counts_in_factors_and_has_no_place_for_nought() {
    let scale = Scale::around(Kind::Log, &[1.0, 10_000.0]).unwrap();
    assert_eq!(scale.ticks, [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
    assert!((scale.place(100.0).unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(scale.place(0.0), None);
    let scale = Scale::around(Kind::Log, &[0.0, 17.0, 160.0]).unwrap();
    assert_eq!(scale.ticks, [10.0, 20.0, 50.0, 100.0, 200.0]);
    assert_eq!(Scale::around(Kind::Log, &[0.0]), None);
}

#[test]
fn one_number_alone_has_a_place() {
    let scale = Scale::around(Kind::Log, &[20.0]).unwrap();
    assert_eq!((scale.place(20.0), scale.ticks), (Some(0.0), vec![20.0, 50.0]));
}

#[test]
fn growth_is_judged_by_what_the_largest_size_adds() {
    let judged = |costs: [f64; 4]| {
        growth(&[1.0, 10.0, 100.0, 1000.0].into_iter().zip(costs).collect::<Vec<_>>())
    };
    assert_eq!(judged([20.0, 20.0, 21.0, 25.0]), Some(Growth::Flat));
    assert_eq!(judged([20.0, 20.0, 30.0, 40.0]), Some(Growth::Less));
    assert_eq!(judged([20.0, 21.0, 30.0, 120.0]), Some(Growth::Linear));
    assert_eq!(judged([20.0, 20.0, 21.0, 35.0]), Some(Growth::Linear));
    assert_eq!(judged([20.0, 20.0, 30.0, 1000.0]), Some(Growth::Worse));
    assert_eq!(growth(&[(1.0, 1.0), (10.0, 100.0)]), None);
}

fn report() -> Report {
    let row = |axis, count, numbers: &[(Metric, f64)]| {
        let figure = |number| Figure { median: number, min: number, max: number };
        let figures = numbers.iter().map(|(metric, number)| (*metric, figure(*number)));
        Row { axis, count, figures: figures.collect::<BTreeMap<_, _>>() }
    };
    let request = |axis, count, cpu, resident| {
        row(axis, count, &[(Metric::CpuUsPerRequest, cpu), (Metric::ResidentMib, resident)])
    };
    let rows = vec![
        request(Axis::Hosts, 1, 20.0, 20.0),
        request(Axis::Hosts, 1000, 21.0, 30.0),
        request(Axis::Hosts, 10_000, 24.0, 120.0),
        request(Axis::Expressions, 1, 20.5, 21.0),
        request(Axis::Expressions, 1000, 50.0, 50.0),
        request(Axis::Expressions, 10_000, 2000.0, 300.0),
        request(Axis::Filters, 0, 20.0, 20.0),
        request(Axis::Filters, 20, 36.0, 25.0),
        request(Axis::Filters, 50, 61.0, 31.0),
    ];
    Report {
        command: "grow".to_owned(),
        machine: Machine::default(),
        rounds: 3,
        seconds: 2,
        rows,
        failures: Vec::new(),
    }
}

#[test]
fn each_axis_has_a_table_whose_last_row_judges() {
    let text = report().markdown();
    let row = |name: &str, number: usize| {
        let line = text.lines().filter(|line| line.starts_with(&format!("| {name} "))).nth(number);
        line.unwrap().split('|').skip(2).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(row("hosts", 0)[..2], ["CPU µs/request", "resident MiB"]);
    assert_eq!(row("10 000", 0)[..2], ["24.0", "120"]);
    assert_eq!(row("growth", 0)[..2], ["flat", "linear"]);
    assert_eq!(row("growth", 1)[..2], ["WORSE THAN LINEAR", "linear"]);
}

#[test]
fn only_what_was_measured_has_a_panel() {
    let panels = report().panels();
    let lines =
        |panel: &Panel| panel.lines.iter().map(|line| line.name.clone()).collect::<Vec<_>>();
    assert_eq!(panels.len(), 3);
    assert_eq!(lines(&panels[0]), ["hosts", "expressions"]);
    assert_eq!((panels[1].x, panels[1].y), (Kind::Linear, Kind::Linear));
    assert_eq!(panels[2].title, "Resident memory, MiB");
}

#[test]
fn a_picture_is_what_it_was() {
    let mut panels = report().panels();
    let points = vec![(1.0, 0.0)];
    let line = Line { name: "a < b & c".to_owned(), points };
    panels.push(Panel { x: Kind::Log, y: Kind::Log, lines: vec![line], ..panels[0].clone() });
    let drawn = svg(&panels);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/curves.svg");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &drawn).unwrap();
    }
    assert_eq!(drawn, fs::read_to_string(&file).unwrap());
}
