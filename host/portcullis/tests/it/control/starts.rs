//! What a first start makes of documents of which some are broken.

use portcullis::diagnose::Problem;
use serde_json::Value;

use super::house::{House, PROXY, backend, route};

#[test]
fn a_first_start_leaves_out_what_is_broken_and_serves_the_rest() {
    let house = House::living(&[
        ("proxy.yaml", PROXY),
        ("b.yaml", &backend("b")),
        ("r.yaml", &route("r", "b")),
        ("s.yaml", "kind: Nonsense: no"),
    ]);
    house.check(1, &["r", "b"]);
    assert_eq!(house.problems(), ["s.yaml P0101"]);
    assert_eq!(house.source("s.yaml")["accepted_version"], Value::Null);
}

#[test]
fn a_route_whose_backend_was_left_out_stays_rather_than_give_its_traffic_to_others() {
    let mut house = House::living(&[
        ("proxy.yaml", PROXY),
        ("b.yaml", "kind: Backend: no"),
        ("r.yaml", &route("r", "b")),
    ]);
    house.check(1, &["r"]);
    assert_eq!(house.problems(), ["b.yaml P0101", "r.yaml P0105"]);
    house.edit("b.yaml", &backend("b"));
    house.check(2, &["r", "b"]);
    assert_eq!(house.problems(), [""; 0]);
}

#[test]
fn a_new_route_to_nothing_goes_live_and_answers_500_rather_than_give_its_traffic_to_others() {
    let files = [("proxy.yaml", PROXY), ("r.yaml", &*route("r", "nothing"))];
    let house = House::living(&files);
    house.check(1, &["r"]);
    assert_eq!(house.problems(), ["r.yaml P0105"]);

    let mut house = House::living(&files[..1]);
    house.edit("r.yaml", &route("r", "nothing"));
    house.check(2, &["r"]);
    assert_eq!(house.problems(), ["r.yaml P0105"]);
    house.edit("n.yaml", &backend("nothing"));
    house.check(3, &["r", "nothing"]);
    assert_eq!(house.problems(), [""; 0]);
}

#[test]
fn nothing_starts_without_a_filter_that_traffic_has_to_pass() {
    let filter = |name: &str, more: &str| {
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: {name}}}\n\
             spec: {{url: 7, {more}}}\n"
        )
    };
    let start =
        |text: &str| House::new(&[("proxy.yaml", PROXY), ("guard.yaml", text)]).control.start();
    let (open, closed) = ("failStrategy: FAIL_OPEN", "priority: 1");
    let problems = start(&filter("guard", closed)).unwrap_err();
    let codes: Vec<String> = problems.iter().map(|problem| problem.code.to_string()).collect();
    assert_eq!(codes, ["P0103", "P0209"]);
    assert!(start(&filter("guard", open)).is_ok());
    // Each filter speaks for itself, words of a comment or a configuration for nobody, and what nobody can read for a guard.
    for other in [
        format!("---\n{}", filter("other", closed)),
        format!("---\n{}", filter("other", "pluginConfig: {failStrategy: FAIL_OPEN}")),
        format!("---\n{}# failStrategy: FAIL_OPEN\n", filter("other", closed)),
        format!("---\n{}", filter("other", open).replace("v1alpha1", "v7")),
        "---\nkind: [\n".to_owned(),
    ] {
        let problems = start(&format!("{}{other}", filter("guard", open))).unwrap_err();
        assert!(problems.iter().any(|problem| problem.code.to_string() == "P0209"), "{other}");
    }
}

#[test]
fn a_first_start_with_nothing_good_says_everything_that_is_wrong() {
    let codes = |files: &[(&str, &str)]| -> Vec<String> {
        let problems: Vec<Problem> = House::new(files).control.start().unwrap_err();
        problems.iter().map(|problem| problem.code.to_string()).collect()
    };
    assert_eq!(codes(&[]).len(), 1);
    let broken = PROXY.replace("spec:", "spec:\n  colour: red");
    assert_eq!(
        codes(&[("a.yaml", "kind: : no"), ("proxy.yaml", &broken)]),
        ["P0101", "P0102"].map(str::to_owned)
    );
}
