use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Method};
use portcullis_proxy::Snapshot;
use portcullis_proxy::route::{Pick, RouteTable, Selected, pick};
use portcullis_proxy::snapshot::*;
use portcullis_vm::{Declaration, Fields, FilterState, RequestHead};
use regex::Regex;

/// Asserts which route serves each request. A route is written `NAME HOSTS: MATCH or MATCH; MATCH`, where `;` begins the
/// next rule (selected as `NAME.1`), HOSTS is a list or `any`, and a leading `grpc ` makes it a GRPCRoute. `@N` after the
/// name is its age. Requests: `METHOD host/path?query`, then headers `name:value`, or `grpc` for the content type.
/// `-` expects no route.
fn check(routes: &[&str], requests: &[(&str, &str)]) {
    let table = table(routes);
    for (request, expected) in requests {
        let found = table.select(&head(request), &FilterState::default());
        let name = found.as_ref().map_or("-", |found| &*found.rule.name);
        assert_eq!(name, *expected, "{request} with {routes:#?}");
    }
}

fn table(routes: &[&str]) -> RouteTable {
    let routes = routes.iter().map(|text| Arc::new(route(text))).collect();
    RouteTable::new(&Snapshot { routes, ..Snapshot::default() }, 0)
}

pub fn selected(routes: &[&str], request: &str) -> Option<Selected> {
    table(routes).select(&head(request), &FilterState::default())
}

fn route(text: &str) -> Route {
    let (kind, text) = match text.strip_prefix("grpc ") {
        Some(rest) => (RouteKind::Grpc, rest),
        None => (RouteKind::Http, text),
    };
    let (title, rules) = text.split_once(": ").unwrap();
    let (name, hosts) = title.split_once(' ').unwrap();
    let (name, created) = match name.split_once('@') {
        Some((name, created)) => (name, Some(created.parse().unwrap())),
        None => (name, None),
    };
    let hostnames = match hosts {
        "any" => vec![],
        hosts => hosts.split(',').map(str::to_owned).collect(),
    };
    let rule = |(index, text): (usize, &str)| {
        let name = if index == 0 { name.into() } else { format!("{name}.{index}").into() };
        let matches = text.split(" or ").map(parse_match).collect();
        Arc::new(Rule { name, matches, ..Rule::default() })
    };
    let rules = rules.split("; ").enumerate().map(rule).collect();
    Route { name: name.into(), kind, listeners: vec![0], hostnames, created, rules }
}

/// Parts: `=/exact`, `/prefix`, `~regex`, `METHOD`, `header:value`, `header:~regex`, `?name=value`, `?name=~regex`,
/// `service=…`, `rpc=…` (both also with `~`), `*` for nothing.
fn parse_match(text: &str) -> Match {
    let mut found = Match::default();
    for part in text.split_whitespace().filter(|part| *part != "*") {
        if let Some(path) = part.strip_prefix('=') {
            found.path = Some(PathMatch::Exact(path.into()));
        } else if part.starts_with('/') {
            found.path = Some(PathMatch::Prefix(part.into()));
        } else if let Some(regex) = part.strip_prefix('~') {
            found.path = Some(PathMatch::Regex(Regex::new(regex).unwrap()));
        } else if let Some(query) = part.strip_prefix('?') {
            let (name, wanted) = query.split_once('=').unwrap();
            found.query.push(QueryMatch { name: name.into(), value: value(wanted) });
        } else if let Some(service) = part.strip_prefix("service=") {
            let method = found.grpc.take().and_then(|grpc| grpc.method);
            found.grpc = Some(GrpcMatch { service: Some(value(service)), method });
        } else if let Some(rpc) = part.strip_prefix("rpc=") {
            let service = found.grpc.take().and_then(|grpc| grpc.service);
            found.grpc = Some(GrpcMatch { service, method: Some(value(rpc)) });
        } else if let Some((name, wanted)) = part.split_once(':') {
            let name = HeaderName::try_from(name).unwrap();
            found.headers.push(HeaderMatch { name, value: value(wanted) });
        } else {
            found.method = Some(part.parse().unwrap());
        }
    }
    found
}

fn value(text: &str) -> ValueMatch {
    match text.strip_prefix('~') {
        Some(regex) => ValueMatch::Regex(Regex::new(regex).unwrap()),
        None => ValueMatch::Exact(text.into()),
    }
}

pub fn head(text: &str) -> RequestHead {
    let mut parts = text.split_whitespace();
    let method: Method = parts.next().unwrap().parse().unwrap();
    let target = parts.next().unwrap();
    let (authority, path) = target.split_at(target.find('/').unwrap_or(target.len()));
    let mut headers = Fields::default();
    for part in parts {
        let (name, value) = match part {
            "grpc" => ("content-type", "application/grpc"),
            part => part.split_once(':').unwrap(),
        };
        headers.append(name, value).unwrap();
    }
    RequestHead {
        method,
        scheme: Bytes::from_static(b"http"),
        authority: Bytes::copy_from_slice(authority.as_bytes()),
        path: Bytes::copy_from_slice(path.as_bytes()),
        headers,
    }
}

#[test]
fn exact_paths_are_compared_byte_for_byte() {
    check(
        &["a any: =/foo"],
        &[
            ("GET h/foo", "a"),
            ("GET h/foo?x=1", "a"),
            ("GET h/foo/", "-"),
            ("GET h/Foo", "-"),
            ("GET h/fo%6f", "-"),
            ("GET h/foo/bar", "-"),
        ],
    );
}

#[test]
fn prefixes_are_whole_segments_and_a_final_slash_does_not_count() {
    let requests = [
        ("GET h/abc", "a"),
        ("GET h/abc/", "a"),
        ("GET h/abc/d", "a"),
        ("GET h/abc?q", "a"),
        ("GET h/abcd", "-"),
        ("GET h/ABC", "-"),
        ("GET h/", "-"),
    ];
    check(&["a any: /abc"], &requests);
    check(&["a any: /abc/"], &requests);
    check(&["a any: /"], &[("GET h/", "a"), ("GET h/x/y", "a"), ("GET h//x", "a")]);
    check(&["a any: *"], &[("GET h/", "a"), ("OPTIONS h", "a")]);
}

#[test]
fn regular_expressions_match_the_whole_path() {
    check(
        &["a any: ~/v[0-9]+/.*", "b any: ~/(x|xy)", "c any: ~/z|/zz"],
        &[
            ("GET h/v1/a", "a"),
            ("GET h/v1/a?v2", "a"),
            ("GET h/x/v1/a", "-"),
            ("GET h/v1", "-"),
            ("GET h/xy", "b"),
            ("GET h/xyz", "-"),
            ("GET h/zz", "c"),
            ("GET h/zzz", "-"),
        ],
    );
}

#[test]
fn exact_comes_before_regex_before_the_longest_prefix() {
    let routes =
        ["p any: /a", "pp any: /a/b", "r any: ~/a/.*", "rr any: ~/a/b/.*", "e any: =/a/b/c"];
    let requests =
        [("GET h/a/b/c", "e"), ("GET h/a/b/d", "rr"), ("GET h/a/x", "r"), ("GET h/a", "p")];
    check(&routes, &requests);
    let reversed: Vec<&str> = routes.iter().rev().copied().collect();
    check(&reversed, &requests);
    check(
        &["a any: /a", "b any: /a/b", "c any: /a/b/c", "z any: /"],
        &[("GET h/a/b/c/d", "c"), ("GET h/a/b/cc", "b"), ("GET h/a/bb", "a"), ("GET h/aa", "z")],
    );
}

#[test]
fn a_longer_prefix_whose_other_conditions_fail_gives_way_to_a_shorter_one() {
    check(
        &["a any: /a", "b any: /a/b POST", "e any: =/a/b x:1"],
        &[("GET h/a/b", "a"), ("POST h/a/b", "b"), ("GET h/a/b x:1", "e"), ("POST h/a/b x:1", "e")],
    );
}

#[test]
fn among_equal_paths_method_comes_before_headers_before_query() {
    check(
        &[
            "q any: / ?x=1 ?y=1 ?z=1",
            "h any: / a:1",
            "hh any: / a:1 b:1",
            "m any: / GET",
            "n any: /",
        ],
        &[
            ("GET h/?x=1&y=1&z=1 a:1 b:1", "m"),
            ("PUT h/?x=1&y=1&z=1 a:1 b:1", "hh"),
            ("PUT h/?x=1&y=1&z=1 a:1", "h"),
            ("PUT h/?x=1&y=1&z=1", "q"),
            ("PUT h/?x=1", "n"),
        ],
    );
    check(
        &["a any: / GET", "b any: / GET x:1", "c any: / GET x:1 ?q=1"],
        &[("GET h/?q=1 x:1", "c"), ("GET h/ x:1", "b"), ("GET h/", "a")],
    );
}

#[test]
fn headers_are_compared_as_a_whole_and_repeated_ones_joined() {
    check(
        &[
            "e any: / X-Version:2",
            "r any: / color:~gr[ae]y",
            "l any: / list:a,b",
            "o any: / host:h",
        ],
        &[
            ("GET i/ x-version:2", "e"),
            ("GET i/ x-version:22", "-"),
            ("GET i/ color:grey", "r"),
            ("GET i/ color:greyish", "-"),
            ("GET i/ list:a list:b", "l"),
            ("GET i/ list:b list:a", "-"),
            ("GET h/", "o"),
        ],
    );
}

#[test]
fn query_parameters_are_decoded_and_the_first_of_a_name_counts() {
    check(
        &["a any: / ?k=v", "b any: / ?n=~[0-9]+", "c any: / ?s=a%b", "d any: / ?e="],
        &[
            ("GET h/?k=v", "a"),
            ("GET h/?x=1&k=v&k=w", "a"),
            ("GET h/?k=w&k=v", "-"),
            ("GET h/?%6B=%76", "a"),
            ("GET h/?K=v", "-"),
            ("GET h/?n=42", "b"),
            ("GET h/?n=42x", "-"),
            ("GET h/?s=a%25b", "c"),
            ("GET h/?e", "d"),
            ("GET h/?e=", "d"),
            ("GET h/", "-"),
        ],
    );
}

#[test]
fn the_more_specific_hostname_comes_first() {
    let routes = [
        "any any: /",
        "wide *.com: /",
        "narrow *.example.com: /",
        "exact a.example.com: /",
        "other b.example.com: /x",
    ];
    check(
        &routes,
        &[
            ("GET a.example.com/", "exact"),
            ("GET A.Example.COM:8080/", "exact"),
            ("GET a.example.com./", "exact"),
            ("GET b.example.com/x", "other"),
            ("GET b.example.com/y", "narrow"),
            ("GET x.y.example.com/", "narrow"),
            ("GET example.com/", "wide"),
            ("GET com/", "any"),
            ("GET [::1]:80/", "any"),
            ("GET /", "any"),
        ],
    );
    check(&["w *.example.com: /"], &[("GET example.com/", "-"), ("GET .example.com/", "-")]);
    check(&["v 127.0.0.1: /", "w [::1]: /"], &[("GET 127.0.0.1:9/", "v"), ("GET [::1]:9/", "w")]);
    check(&["l a.com,b.com: /"], &[("GET a.com/", "l"), ("GET b.com/", "l"), ("GET c.com/", "-")]);
}

#[test]
fn hostnames_outrank_paths() {
    check(
        &["long any: =/a/b/c", "wild *.example.com: /a/b", "host www.example.com: /"],
        &[
            ("GET www.example.com/a/b/c", "host"),
            ("GET x.example.com/a/b/c", "wild"),
            ("GET x.example.com/a", "-"),
            ("GET other/a/b/c", "long"),
        ],
    );
}

#[test]
fn ties_go_to_the_oldest_then_by_name_then_by_order() {
    check(&["b any: /", "a any: /"], &[("GET h/", "a")]);
    check(&["a@20 any: /", "b@10 any: /"], &[("GET h/", "b")]);
    check(&["a any: /", "b@10 any: /"], &[("GET h/", "b")]);
    check(&["a any: / GET; / GET; / x:1"], &[("GET h/", "a"), ("PUT h/ x:1", "a.2")]);
    check(&["a any: / x:1 or =/b; /b"], &[("GET h/b", "a"), ("GET h/b/c", "a.1")]);
}

#[test]
fn grpc_routes_are_ranked_by_service_then_method_then_headers() {
    let routes = [
        "grpc all any: *",
        "grpc s any: service=pkg.Echo",
        "grpc m any: service=pkg.Echo rpc=Say",
        "grpc h any: service=pkg.Echo rpc=Say x:1",
        "grpc r any: service=~pkg\\.Ec.*ho.*",
        "grpc n any: rpc=Shout",
    ];
    check(
        &routes,
        &[
            ("POST h/pkg.Echo/Say grpc", "m"),
            ("POST h/pkg.Echo/Say grpc x:1", "h"),
            ("POST h/pkg.Echoing/Say grpc", "r"),
            ("POST h/other.Service/Shout grpc", "n"),
            ("POST h/other.Service/Whisper grpc", "all"),
            ("POST h/pkg.Echo/Say", "-"),
        ],
    );
    check(
        &["grpc s any: service=pkg.Echo", "grpc m any: rpc=Say"],
        &[
            ("POST h/pkg.Echo/Say grpc", "s"),
            ("POST h/pkg.Echo grpc", "-"),
            ("POST h/x/Say grpc", "m"),
        ],
    );
}

#[test]
fn grpc_requests_meet_grpc_routes_first_and_then_http_routes() {
    check(
        &["web any: =/pkg.Echo/Say", "grpc rpc any: service=pkg.Echo"],
        &[
            ("POST h/pkg.Echo/Say grpc", "rpc"),
            ("POST h/pkg.Echo/Say content-type:application/grpc+proto", "rpc"),
            ("POST h/pkg.Echo/Say content-type:application/grpc-web", "web"),
            ("POST h/pkg.Echo/Say content-type:application/json", "web"),
        ],
    );
    check(
        &["web h: /", "grpc rpc any: *"],
        &[("POST h/a/b grpc", "web"), ("POST i/a/b grpc", "rpc")],
    );
}

#[test]
fn only_routes_of_the_listener_are_asked() {
    let routes = ["a any: /"].map(|text| Arc::new(route(text))).to_vec();
    let snapshot = Snapshot { routes, ..Snapshot::default() };
    assert!(
        RouteTable::new(&snapshot, 0).select(&head("GET h/"), &FilterState::default()).is_some()
    );
    assert!(
        RouteTable::new(&snapshot, 1).select(&head("GET h/"), &FilterState::default()).is_none()
    );
}

#[test]
fn bytes_that_are_no_text_match_nothing_but_prefixes() {
    let mut request = head("GET h/a/b");
    request.path = Bytes::from_static(b"/a/\xff");
    request.authority = Bytes::from_static(b"\xff.example.com");
    let select = |routes: &[&str]| {
        table(routes).select(&request, &FilterState::default()).map(|found| found.rule.name.clone())
    };
    assert_eq!(select(&["a any: /a"]).as_deref(), Some("a"));
    assert_eq!(select(&["a any: ~/a/.*"]), None);
    assert_eq!(select(&["a *.example.com: /"]), None);
}

#[test]
fn a_hostile_head_costs_no_more_than_a_long_one() {
    let mut request = head("GET h/");
    request.path = Bytes::from("/".repeat(60_000));
    request.authority = Bytes::from(".".repeat(60_000));
    let found = table(&["a *.example.com: /", "b any: /a/b/c", "c any: /x"])
        .select(&request, &FilterState::default());
    assert!(found.is_none());
}

#[test]
fn backends_are_picked_by_their_share() {
    let backend = |index: Option<usize>, weight: u32| WeightedBackend {
        backend: index,
        reference: String::new(),
        weight,
        filters: vec![],
    };
    let rule = |backends: Vec<WeightedBackend>| Rule { backends, ..Rule::default() };
    let spread =
        rule(vec![backend(Some(0), 1), backend(Some(1), 0), backend(None, 2), backend(Some(2), 1)]);
    let mut counts = [0; 4];
    for step in 0..1000_u64 {
        match pick(&spread, step * (u64::MAX / 1000)) {
            Pick::Backend(index, _) => counts[index] += 1,
            Pick::Invalid(_) => counts[3] += 1,
            Pick::Nothing => panic!("there are weights"),
        }
    }
    for (count, expected) in counts.into_iter().zip([250_i32, 0, 250, 500]) {
        assert!((count - expected).abs() <= 2, "{counts:?}");
    }
    assert!(matches!(pick(&spread, u64::MAX), Pick::Backend(2, _)));
    assert!(matches!(pick(&spread, 0), Pick::Backend(0, _)));
    assert!(matches!(pick(&rule(vec![]), 7), Pick::Nothing));
    assert!(matches!(pick(&rule(vec![backend(Some(0), 0)]), u64::MAX), Pick::Nothing));
}

#[test]
fn a_match_on_a_property_sees_what_filters_stored_and_never_a_header() {
    let table = table(&["r any: / wasm.tier:gold; / wasm.tier:~plat.*; /"]);
    let stored = |name: &[u8], value: &[u8]| {
        let mut state = FilterState::default();
        state.set(name, value, Declaration::default()).unwrap();
        state
    };
    let cases = [
        (stored(b"wasm.tier", b"gold"), "r"),
        (stored(b"wasm.Tier", b"gold"), "r"),
        (stored(b"wasm.tier", b"platinum"), "r.1"),
        (stored(b"wasm.tier", b"silver"), "r.2"),
        (stored(b"wasm.tier", b"\xff"), "r.2"),
        (stored(b"tier", b"gold"), "r.2"),
        (stored(b"wasm.tiers", b"gold"), "r.2"),
        (FilterState::default(), "r.2"),
    ];
    for (state, expected) in cases {
        let found = table.select(&head("GET h/ wasm.tier:gold"), &state).unwrap();
        assert_eq!(&*found.rule.name, expected, "{state:?}");
    }
    assert!(table.reads_properties());
}
