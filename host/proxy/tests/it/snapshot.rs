//! What a snapshot has to be before it goes live.

use std::sync::Arc;

use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::{Route, RouteFilter, RouteKind, Rule, WeightedBackend};

fn weighted(backend: Option<usize>, filters: Vec<RouteFilter>) -> WeightedBackend {
    WeightedBackend { backend, reference: "default/b".to_owned(), weight: 1, filters }
}

fn problem(listeners: Vec<usize>, rule: Rule) -> Option<String> {
    let route = Route {
        name: "default/r".into(),
        kind: RouteKind::Http,
        listeners,
        hostnames: vec![],
        created: None,
        rules: vec![Arc::new(rule)],
    };
    Snapshot { routes: vec![Arc::new(route)], ..Snapshot::default() }.check().err()
}

#[test]
fn what_a_route_refers_to_is_there_and_no_filter_stands_where_none_runs() {
    let of_rule = Rule { filters: vec![RouteFilter::Wasm(1)], ..Rule::default() };
    let to_backend = Rule { backends: vec![weighted(Some(2), vec![])], ..Rule::default() };
    let of_backend = vec![weighted(None, vec![RouteFilter::Wasm(0)])];
    let of_backend = Rule { backends: of_backend, ..Rule::default() };
    for (listeners, rule, named) in [
        (vec![], of_rule, "filter index 1"),
        (vec![], to_backend, "backend index 2"),
        (vec![], of_backend, "Wasm filter of a backend"),
        (vec![4], Rule::default(), "listener index 4"),
    ] {
        let problem = problem(listeners, rule).unwrap();
        assert!(problem.contains(named), "{problem}");
    }
    assert_eq!(problem(vec![], Rule::default()), None);
}
