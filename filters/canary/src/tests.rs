//! Who gets the mark, through the filter's only door: a request.

use portcullis_sdk::test::{Exchange, Host};

use crate::Canary;

fn marked(exchange: Exchange<'_>) -> bool {
    let end = exchange.send();
    assert!(end.reached_upstream());
    match end.upstream_headers("x-canary").as_slice() {
        [] => false,
        [mark] if mark == "1" => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_user_stays_where_they_are_and_the_share_is_right() {
    let host = Host::of::<Canary>(r#"{"percent": 20, "stickyHeader": "x-user"}"#);
    let ask = |user: usize| marked(host.get("/").header("x-user", format!("user-{user}")));
    let first: Vec<bool> = (0..2000).map(ask).collect();
    let second: Vec<bool> = (0..2000).map(ask).collect();
    assert_eq!(first, second);
    let share = first.iter().filter(|marked| **marked).count();
    assert!((340..460).contains(&share), "{share} of 2000");
    assert_eq!(host.metric("canary_requests"), 2 * share as u64);
    assert_eq!(host.metric("canary_stable_requests"), 4000 - 2 * share as u64);
}

#[test]
fn whoever_cannot_be_told_apart_draws_lots() {
    let host = Host::of::<Canary>(r#"{"percent": 50, "stickyHeader": "x-user"}"#);
    let share = (0..1000).filter(|_| marked(host.get("/"))).count();
    assert!((420..580).contains(&share), "{share} of 1000");
}

#[test]
fn a_cookie_names_the_user_where_the_header_does_not() {
    let config = r#"{"percent": 50, "stickyHeader": "x-user", "stickyCookie": "uid"}"#;
    let host = Host::of::<Canary>(config);
    for user in 0..50 {
        let by_header = marked(host.get("/").header("x-user", user.to_string()));
        let by_cookie = marked(host.get("/").header("cookie", format!("a=b; uid={user}")));
        assert_eq!(by_header, by_cookie);
    }
}

#[test]
fn the_force_header_gets_the_canary() {
    let host = Host::of::<Canary>(r#"{"percent": 0, "forceHeader": "X-Force"}"#);
    assert!(marked(host.get("/").header("x-force", "1")));
    assert!(marked(host.get("/").header("x-force", b"\xff")));
    assert!(!marked(host.get("/")));
}

#[test]
fn clients_cannot_set_the_mark() {
    let host = Host::of::<Canary>(r#"{"percent": 0}"#);
    assert!(!marked(host.get("/").header("x-canary", "1")));
    assert!(!marked(host.get("/").header("X-Canary", "1").header("x-canary", "1")));
    drop(host);
    let host = Host::of::<Canary>(r#"{"percent": 100}"#);
    assert!(marked(host.get("/").header("x-canary", "0").header("x-canary", "2")));
}

#[test]
fn the_mark_can_have_another_name() {
    let host = Host::of::<Canary>(r#"{"percent": 100, "mark": "x-version"}"#);
    let end = host.get("/").header("x-version", "9").header("x-canary", "kept").send();
    assert_eq!(end.upstream_headers("x-version"), ["1"]);
    assert_eq!(end.upstream_headers("x-canary"), ["kept"]);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let check = |json: &str, expected: &str| {
        assert_eq!(Host::refusal::<Canary>(json), expected, "{json}");
    };
    check(r#"{"percent": 140}"#, "config.percent: 140 is above 100");
    check("{}", "config: missing field `percent`");
    check(r#"{"percent": 1, "mark": ":path"}"#, "config.mark: `:path` is not a header's name");
    check(
        r#"{"percent": 1, "stickyHeader": ""}"#,
        "config.stickyHeader: `` is not a header's name",
    );
    check(
        r#"{"percent": 1, "forceHeader": "X-Canary"}"#,
        "config.forceHeader: is the mark, which clients cannot set",
    );
    let refusal = Host::refusal::<Canary>(r#"{"percent": 1, "sticky": "x"}"#);
    assert!(refusal.starts_with("config.sticky: unknown field `sticky`"), "{refusal}");
}
