//! What holds of the cases and guests of this tree, without running a host.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use portcullis_conformance::case::{self, Case, HostName};
use portcullis_conformance::differences::Differences;
use portcullis_conformance::matrix::{self, Results};
use portcullis_conformance::table::{self, Table};
use portcullis_conformance::{guests, h2spec, hostile, place, suite};

#[path = "../../../host/layers.rs"]
mod layers;

const RESERVED: layers::Reserved = &[("hyper::", &["net"])];

#[test]
fn modules_import_only_what_is_below_them() {
    let breaches = layers::breaches(env!("CARGO_MANIFEST_DIR"), RESERVED);
    assert!(breaches.is_empty(), "{breaches:#?}");
}

fn cases() -> Vec<Case> {
    case::load(&place::home().join("cases")).unwrap()
}

#[test]
fn every_case_can_be_read_and_every_guest_has_one() {
    let cases = cases();
    let mut used = guests::of(&cases);
    used.extend(matrix::guests());
    guests::all_used(&used).unwrap();
}

#[test]
fn every_hostile_guest_is_wasm_and_has_a_verdict() {
    for guest in hostile::load().unwrap() {
        assert!(guest.module().is_ok_and(|module| module.starts_with(b"\0asm")), "{}", guest.name);
    }
}

#[test]
fn every_difference_that_a_case_names_is_explained() {
    suite::all_explained(&cases(), &Differences::load().unwrap()).unwrap();
}

#[test]
fn every_cell_is_in_the_table_and_every_difference_is_explained() {
    let (table, differences) = (Table::load().unwrap(), Differences::load().unwrap());
    assert_eq!(table.unexplained(&differences), Vec::<&str>::new());
    assert_eq!(suite::idle(&cases(), &table, &differences), Vec::<String>::new());
    let text = table.render(&matrix::cells(), &differences);
    assert_eq!(table::first_difference(&table::committed().unwrap(), &text), None);
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let cells = matrix::cells();
    let cell = cells.iter().find(|cell| cell.name() == "matrix/tick/log").unwrap();
    let results = |result: &str| Results::from([(cell.name(), result.to_owned())]);
    let table = Table::of(BTreeMap::from([
        (HostName::Portcullis, results("0 a|b\\s<c>*")),
        (HostName::Envoy, results("same, but not the same")),
    ]));
    let text = table.render(std::slice::from_ref(cell), &Differences::default());
    assert_eq!(Table::parse(&text), table);
    assert!(text.contains("unexplained"), "{text}");
}

#[test]
fn a_case_says_what_is_otherwise_on_one_host() {
    let text = r#"
        about = "x"
        filter = [{ guest = "stock" }]
        log = ["one"]
        request = [{ client = { status = 200 } }]
        differs = [{ host = "envoy", entry = "why", request = 1, client = { status = 503 } }]
    "#;
    let case = Case::parse("x", text).unwrap();
    assert_eq!(case.on(HostName::Portcullis).requests[0].client.status, Some(200));
    assert_eq!(case.on(HostName::Envoy).requests[0].client.status, Some(503));
    assert_eq!(case.on(HostName::Envoy).log, Some(vec!["one".to_owned()]));
    assert_eq!(case.entries().collect::<Vec<_>>(), ["why"]);
    let astray = text.replace("request = 1", "request = 2");
    assert!(Case::parse("x", &astray).unwrap_err().to_string().contains("request 2"));
    assert!(Case::parse("x", &text.replace("about", "abuot")).is_err());
}

#[test]
fn a_difference_explains_the_cells_that_fit_its_patterns() {
    let text = "# x\n### `trap`: what\nwhy\nCells: `matrix/*/get:request`, `matrix/log/*`\n### `idle`: no\n";
    let differences = Differences::parse(text).unwrap();
    assert_eq!(differences.of_cell("matrix/tick/get:request"), Some("trap"));
    assert_eq!(differences.of_cell("matrix/log/anything"), Some("trap"));
    assert_eq!(differences.of_cell("matrix/tick/get:response"), None);
    assert_eq!(differences.idle(&BTreeSet::from(["trap"])), ["idle"]);
    assert!(Differences::parse(&text.replace("idle", "trap")).is_err());
}

#[test]
fn failures_of_h2spec_are_read_with_their_ids() {
    let report = r#"<testsuites><testsuite package="http2/3.5">
        <testcase package="http2/3.5" classname="Sends one" time="0.1"></testcase>
        <testcase package="http2/3.5" classname="Sends two" time="0.1">
          <error>Connection closed
Timeout</error>
        </testcase></testsuite><testsuite>
        <testcase package="hpack/4" classname="Sends three" time="0.1"></testcase></testsuite></testsuites>"#;
    let tested = h2spec::read("tls", report).unwrap();
    let ids: Vec<&str> = tested.iter().map(|test| test.id.as_str()).collect();
    assert_eq!(ids, ["tls/http2/3.5/1", "tls/http2/3.5/2", "tls/hpack/4/1"]);
    let failures: Vec<Option<&str>> = tested.iter().map(|test| test.failure.as_deref()).collect();
    assert_eq!(failures, [None, Some("Connection closed\nTimeout"), None]);
}
