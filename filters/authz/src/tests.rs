//! Istio's semantics, policy by policy, through the filter's only door: a request.

use portcullis_sdk::test::{Exchange, Host};

use crate::Authz;

/// A host with these policies, written as JSON without the outer braces.
fn host(policies: &str) -> Host {
    Host::of::<Authz>(&format!(r#"{{"policies": [{policies}]}}"#))
}

/// One policy with one rule.
fn one(action: &str, rule: &str) -> Host {
    host(&format!(r#"{{"name": "p", "action": "{action}", "rules": [{rule}]}}"#))
}

fn passes(exchange: Exchange<'_>) -> bool {
    let end = exchange.send();
    if !end.reached_upstream() {
        assert_eq!((end.status(), end.body().as_str()), (403, "RBAC: access denied"));
    }
    end.reached_upstream()
}

#[test]
fn the_default_is_istios() {
    let check = |policies: &str, expected: bool| {
        assert_eq!(passes(host(policies).get("/")), expected, "{policies}");
    };
    check("", true);
    check(r#"{"name": "deny-all"}"#, false);
    check(r#"{"name": "allow-all", "rules": [{}]}"#, true);
    check(r#"{"name": "p", "action": "DENY"}"#, true);
    check(r#"{"name": "p", "action": "DENY", "rules": [{}]}"#, false);
    check(r#"{"name": "a", "rules": [{}]}, {"name": "d", "action": "DENY", "rules": [{}]}"#, false);
    check(r#"{"name": "none"}, {"name": "all", "rules": [{}]}"#, true);
    check(r#"{"name": "p", "action": "AUDIT", "rules": [{}]}"#, true);
}

#[test]
fn an_audit_policy_counts_and_logs_and_decides_nothing() {
    let rule = r#"{"to": [{"operation": {"methods": ["POST"]}}]}"#;
    let host = one("AUDIT", rule);
    assert!(passes(host.request("POST", "/pay")));
    assert!(passes(host.get("/pay")));
    assert_eq!((host.metric("authz_audited"), host.metric("authz_allowed")), (1, 2));
    assert_eq!(host.logs(), ["info: policy p matches post /pay"]);
}

#[test]
fn operations_match_by_method_path_host_and_port() {
    let check = |operation: &str, method: &str, authority: &str, path: &str, expected: bool| {
        let host = one("ALLOW", &format!(r#"{{"to": [{{"operation": {operation}}}]}}"#));
        let exchange = host
            .request(method, path)
            .header(":authority", authority)
            .property(&["destination", "port"], 8080_i64.to_le_bytes());
        assert_eq!(passes(exchange), expected, "{operation} {method} {authority} {path}");
    };
    check(r#"{"methods": ["GET", "HEAD"]}"#, "HEAD", "a", "/", true);
    check(r#"{"methods": ["GET"]}"#, "POST", "a", "/", false);
    check(r#"{"notMethods": ["GET"]}"#, "POST", "a", "/", true);
    check(r#"{"notMethods": ["GET"]}"#, "GET", "a", "/", false);
    check(r#"{"methods": ["GET"], "paths": ["/a"]}"#, "GET", "a", "/b", false);

    let path = |pattern: &str, path: &str, expected: bool| {
        check(&format!(r#"{{"paths": ["{pattern}"]}}"#), "GET", "a", path, expected);
        check(&format!(r#"{{"notPaths": ["{pattern}"]}}"#), "GET", "a", path, !expected);
    };
    path("/info", "/info", true);
    path("/info", "/info?verbose=1", true);
    path("/info", "/info/", false);
    path("/info*", "/information", true);
    path("*/admin", "/a/b/admin", true);
    path("*/admin", "/admin/x", false);
    path("*", "/", true);
    path("/users/{*}/books", "/users/7/books", true);
    path("/users/{*}/books", "/users/7/8/books", false);
    path("/users/{*}/books", "/users//books", false);
    path("/files/{**}", "/files/a/b.txt", true);
    path("/files/{**}", "/files/", true);
    path("/files/{**}", "/files", false);
    path("/{*}/v1/{**}", "/x/v1/y/z", true);

    let host = |pattern: &str, authority: &str, expected: bool| {
        check(&format!(r#"{{"hosts": ["{pattern}"]}}"#), "GET", authority, "/", expected);
        check(&format!(r#"{{"notHosts": ["{pattern}"]}}"#), "GET", authority, "/", !expected);
    };
    host("Shop.Example", "shop.EXAMPLE", true);
    host("shop.example", "shop.example:8443", true);
    host("shop.example", "shop.example.", true);
    host("shop.example:80", "shop.example:8443", false);
    host("*.example", "shop.example:80", true);
    host("*.example", "example.org", false);

    check(r#"{"ports": ["8080"]}"#, "GET", "a", "/", true);
    check(r#"{"ports": ["80"]}"#, "GET", "a", "/", false);
    check(r#"{"notPorts": ["80"]}"#, "GET", "a", "/", true);
}

#[test]
fn no_spelling_of_a_path_gets_around_a_rule() {
    let tricks = [
        "/admin",
        "//admin",
        "/./admin",
        "/a/../admin",
        "/a/%2e%2E/admin",
        "/%61dmin",
        "/%2fadmin",
        "/public%2F..%2fadmin",
        "/public/..%5cadmin",
        "\\\\admin",
        "/public\\..\\admin",
        "/admin?x=/public/",
        "/admin#/public/",
        "/../../admin",
    ];
    for rule in [
        ("DENY", r#"{"paths": ["/admin*"]}"#),
        ("DENY", r#"{"notPaths": ["/public/*"]}"#),
        ("ALLOW", r#"{"paths": ["/public/*"]}"#),
        ("ALLOW", r#"{"notPaths": ["/admin*"]}"#),
    ] {
        let host = one(rule.0, &format!(r#"{{"to": [{{"operation": {}}}]}}"#, rule.1));
        for path in tricks {
            assert!(!passes(host.get(path)), "{path} passes {rule:?}");
        }
        for path in ["/public/x", "/public/%zz", "/public/./a%20b?c=/admin", "/public/a%2Fb"] {
            assert!(passes(host.get(path)), "{path} is held up by {rule:?}");
        }
    }
}

#[test]
fn sources_match_by_address_and_identity() {
    let check = |source: &str, peer: &str, identity: &str, expected: bool| {
        let host = one("ALLOW", &format!(r#"{{"from": [{{"source": {source}}}]}}"#));
        let mut exchange = host.get("/").peer(peer);
        if !identity.is_empty() {
            let path = ["connection", "uri_san_peer_certificate"];
            exchange = exchange.property(&path, identity);
        }
        assert_eq!(passes(exchange), expected, "{source} {peer} {identity}");
    };
    check(r#"{"ipBlocks": ["10.0.0.0/8"]}"#, "10.9.8.7:1", "", true);
    check(r#"{"ipBlocks": ["10.0.0.0/8"]}"#, "11.0.0.1:1", "", false);
    check(r#"{"ipBlocks": ["10.0.0.0/8"]}"#, "[::ffff:10.1.1.1]:1", "", true);
    check(r#"{"notIpBlocks": ["10.0.0.0/8"]}"#, "10.9.8.7:1", "", false);
    check(r#"{"remoteIpBlocks": ["192.0.2.7"]}"#, "192.0.2.7:1", "", true);
    check(r#"{"remoteIpBlocks": ["192.0.2.7"]}"#, "192.0.2.8:1", "", false);
    check(r#"{"notRemoteIpBlocks": ["0.0.0.0/0"]}"#, "192.0.2.8:1", "", false);
    check(r#"{"ipBlocks": ["2001:db8::/33"]}"#, "[2001:db8:7fff::1]:1", "", true);
    check(r#"{"ipBlocks": ["2001:db8::/33"]}"#, "[2001:db8:8000::1]:1", "", false);
    check(r#"{"ipBlocks": ["::/0"]}"#, "10.1.1.1:1", "", false);

    let ann = "spiffe://cluster.local/ns/shop/sa/ann";
    let peer = "192.0.2.1:1";
    check(r#"{"principals": ["cluster.local/ns/shop/sa/ann"]}"#, peer, ann, true);
    check(r#"{"principals": ["cluster.local/ns/shop/*"]}"#, peer, ann, true);
    check(r#"{"principals": ["*/sa/bob"]}"#, peer, ann, false);
    check(r#"{"principals": ["*"]}"#, peer, ann, true);
    check(r#"{"principals": ["*"]}"#, peer, "", false);
    check(r#"{"principals": ["*"]}"#, peer, "https://cluster.local/ns/shop/sa/ann", false);
    check(r#"{"notPrincipals": ["*/sa/ann"]}"#, peer, ann, false);
    check(r#"{"notPrincipals": ["*/sa/ann"]}"#, peer, "", true);
    check(r#"{"namespaces": ["shop"]}"#, peer, ann, true);
    check(r#"{"namespaces": ["shop"]}"#, peer, "spiffe://x/ns/shop", false);
    check(r#"{"notNamespaces": ["shop"]}"#, peer, "", true);
    check(r#"{"principals": ["*"], "ipBlocks": ["10.0.0.0/8"]}"#, peer, ann, false);
}

#[test]
fn every_value_of_a_repeated_header_is_judged() {
    let check = |action: &str, condition: &str, values: &[&str], expected: bool| {
        let rule = format!(r#"{{"when": [{{"key": "request.headers[X-Role]", {condition}}}]}}"#);
        let host = one(action, &rule);
        let exchange = values.iter().fold(host.get("/"), |e, value| e.header("x-role", value));
        assert_eq!(passes(exchange), expected, "{action} {condition} {values:?}");
    };
    let admin = r#""values": ["admin"]"#;
    check("ALLOW", admin, &["admin"], true);
    check("ALLOW", admin, &["admin", "guest"], false);
    check("ALLOW", admin, &[], false);
    check("DENY", admin, &["guest", "admin"], false);
    check("DENY", admin, &["guest"], true);
    check("DENY", admin, &[], true);
    let other = r#""notValues": ["admin"]"#;
    check("ALLOW", other, &["guest", "admin"], false);
    check("ALLOW", other, &["guest"], true);
    check("ALLOW", other, &[], true);
    check("DENY", other, &["admin", "guest"], false);
    check("DENY", other, &["admin"], true);
    check("DENY", other, &[], false);
    check("ALLOW", r#""values": ["*"]"#, &["anything"], true);
    check("ALLOW", r#""values": ["*"]"#, &[], false);
    check("DENY", r#""notValues": ["*"]"#, &[], false);
    check("ALLOW", r#""values": ["adm*"], "notValues": ["admin"]"#, &["adm1"], true);
    check("ALLOW", r#""values": ["adm*"], "notValues": ["admin"]"#, &["admin"], false);
}

#[test]
fn rules_are_alternatives_and_their_parts_are_not() {
    let host = host(
        r#"{"name": "p", "rules": [
            {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}},
                      {"source": {"principals": ["*"]}}],
             "to": [{"operation": {"methods": ["GET"]}}, {"operation": {"paths": ["/open"]}}],
             "when": [{"key": "request.headers[x-a]", "values": ["1"]},
                      {"key": "connection.sni", "values": ["shop.example"]}]},
            {"to": [{"operation": {"paths": ["/health"]}}]}]}"#,
    );
    let sni = ["connection", "requested_server_name"];
    let full =
        || host.get("/").peer("10.0.0.1:1").header("x-a", "1").property(&sni, "shop.example");
    assert!(passes(full()));
    assert!(!passes(full().peer("192.0.2.1:1")));
    assert!(!passes(full().header(":method", "PUT")));
    assert!(passes(full().header(":method", "PUT").header(":path", "/open")));
    assert!(!passes(full().property(&sni, "other.example")));
    assert!(passes(host.get("/health")));
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let check = |policy: &str, expected: &str| {
        let json = format!(r#"{{"policies": [{policy}]}}"#);
        let refusal = Host::refusal::<Authz>(&json);
        assert!(refusal.starts_with(expected), "{refusal}");
    };
    check(r#"{"name": "p", "action": "CUSTOM"}"#, "config.policies[0].action: unknown variant");
    check(r#"{"name": "p", "selector": {}}"#, "config.policies[0].selector: unknown field");
    check(r#"{"rules": []}"#, "config.policies[0]: missing field `name`");
    let rule = |rule: &str, expected: &str| {
        check(&format!(r#"{{"name": "p", "rules": [{rule}]}}"#), expected);
    };
    rule(r#"{"form": []}"#, "config.policies[0].rules[0].form: unknown field `form`");
    rule(r#"{"to": []}"#, "config.policies[0].rules[0].to: is empty: leave it out instead");
    let operation = |operation: &str, expected: &str| {
        let place = "config.policies[0].rules[0].to[0].operation.";
        rule(
            &format!(r#"{{"to": [{{"operation": {operation}}}]}}"#),
            &format!("{place}{expected}"),
        );
    };
    operation(r#"{"path": ["/"]}"#, "path: unknown field `path`");
    operation(r#"{"paths": []}"#, "paths: is empty");
    operation(r#"{"paths": ["/a*b"]}"#, "paths[0]: `/a*b`: `*` stands at the start");
    operation(r#"{"paths": ["/{**}/a"]}"#, "paths[0]: `/{**}/a`: {**} comes last");
    operation(r#"{"paths": ["/", "/{a}"]}"#, "paths[1]: `/{a}`: a template is made of");
    operation(r#"{"ports": ["http"]}"#, "ports[0]: `http` is not a port");
    operation(r#"{"methods": [""]}"#, "methods[0]: an empty pattern matches nothing");
    let source = |source: &str, expected: &str| {
        let place = "config.policies[0].rules[0].from[0].source.";
        rule(&format!(r#"{{"from": [{{"source": {source}}}]}}"#), &format!("{place}{expected}"));
    };
    source(r#"{"ipBlocks": ["10.0.0.0/33"]}"#, "ipBlocks[0]: `10.0.0.0/33` is not an address");
    source(r#"{"requestPrincipals": ["*"]}"#, "requestPrincipals: unknown field");
    let when = |when: &str, expected: &str| {
        let place = "config.policies[0].rules[0].when[0]";
        rule(&format!(r#"{{"when": [{when}]}}"#), &format!("{place}{expected}"));
    };
    when(r#"{"key": "request.header[a]", "values": ["1"]}"#, ".key: `request.header[a]` is not");
    when(r#"{"key": "request.headers[]", "values": ["1"]}"#, ".key: `request.headers[]` is not");
    when(r#"{"key": "source.ip", "values": ["10.0.0.0/8"]}"#, ".key: `source.ip` is not");
    when(r#"{"key": "request.headers[a]"}"#, ": needs values or notValues");
}
