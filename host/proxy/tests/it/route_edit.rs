use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use portcullis_proxy::route::{apply, apply_to_request, location, rewrite};
use portcullis_proxy::snapshot::{HeaderModifier, PathModifier, Redirect, Rewrite};
use portcullis_vm::Fields;

use crate::route::{head, selected};

/// Asserts what `ReplacePrefixMatch` with `replacement` in a rule for `prefix` makes of a path.
fn check_prefix(prefix: &str, replacement: &str, path: &str, expected: &str) {
    let request = format!("GET host{path}");
    let found = selected(&[&format!("r any: {prefix}")], &request).unwrap();
    let mut rewritten = head(&request);
    let modifier = PathModifier::Prefix(replacement.into());
    rewrite(&Rewrite { hostname: None, path: Some(modifier) }, &mut rewritten, &found.prefix);
    assert_eq!(rewritten.path, expected, "{prefix} -> {replacement:?} on {path}");
    assert_eq!(rewritten.authority, "host");
}

#[test]
fn a_matched_prefix_is_replaced_by_whole_segments() {
    for (prefix, replacement, path, expected) in [
        ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo", "/xyz"),
        ("/foo", "/xyz", "/foo/", "/xyz/"),
        ("/foo", "/xyz/", "/foo/", "/xyz/"),
        ("/foo", "", "/foo/bar", "/bar"),
        ("/foo", "", "/foo/", "/"),
        ("/foo", "", "/foo", "/"),
        ("/foo", "/", "/foo/bar", "/bar"),
        ("/foo", "/", "/foo/", "/"),
        ("/foo", "/", "/foo", "/"),
        ("/", "/xyz", "/foo", "/xyz/foo"),
        ("/", "/xyz", "/", "/xyz/"),
        ("=/foo", "/xyz", "/foo", "/xyz"),
        ("/foo", "/xyz", "/foo/bar?q=/foo", "/xyz/bar?q=/foo"),
        ("/foo", "", "/foo?q", "/?q"),
    ] {
        check_prefix(prefix, replacement, path, expected);
    }
}

#[test]
fn a_path_that_has_left_the_prefix_stays() {
    let mut request = head("GET host/elsewhere?q");
    let modifier = PathModifier::Prefix("/xyz".into());
    rewrite(&Rewrite { hostname: None, path: Some(modifier) }, &mut request, b"/foo");
    assert_eq!(request.path, "/elsewhere?q");
}

#[test]
fn a_whole_path_and_a_host_are_replaced_and_the_query_stays() {
    let mut request = head("GET host:80/foo/bar?q=1");
    let path = Some(PathModifier::Full("/new".into()));
    rewrite(&Rewrite { hostname: Some("other".into()), path }, &mut request, b"/foo");
    assert_eq!((request.path, request.authority), ("/new?q=1".into(), "other".into()));
}

#[derive(Default)]
struct To {
    scheme: Option<&'static str>,
    hostname: Option<&'static str>,
    port: Option<u16>,
    path: Option<PathModifier>,
}

/// Asserts the location of a redirect on a listener's port.
fn check_location(to: To, listener: u16, request: &str, expected: &str) {
    let redirect = Redirect {
        scheme: to.scheme.map(str::to_owned),
        hostname: to.hostname.map(str::to_owned),
        path: to.path,
        port: to.port,
        status: StatusCode::FOUND,
    };
    assert_eq!(location(&redirect, &head(request), b"/foo", listener), expected, "{request}");
}

#[test]
fn a_redirects_port_follows_its_port_then_its_scheme_then_the_listener() {
    let to = To::default;
    let https = || To { scheme: Some("https"), ..To::default() };
    let http = || To { scheme: Some("http"), ..To::default() };
    let host = || To { hostname: Some("other"), ..To::default() };
    for (to, listener, request, expected) in [
        (host(), 80, "GET h/foo?q", "http://other/foo?q"),
        (host(), 8080, "GET h/foo", "http://other:8080/foo"),
        (host(), 8080, "GET h:99/foo", "http://other:8080/foo"),
        (to(), 8080, "GET h:99/foo", "http://h:8080/foo"),
        (https(), 8080, "GET h:8080/foo", "https://h/foo"),
        (http(), 8080, "GET h/foo", "http://h/foo"),
        (To { port: Some(443), ..https() }, 80, "GET h/foo", "https://h/foo"),
        (To { port: Some(80), ..http() }, 8080, "GET h/foo", "http://h/foo"),
        (To { port: Some(443), ..http() }, 80, "GET h/foo", "http://h:443/foo"),
        (To { port: Some(80), ..https() }, 80, "GET h/foo", "https://h:80/foo"),
        (To { port: Some(8443), ..host() }, 80, "GET h/foo", "http://other:8443/foo"),
        (https(), 80, "GET [::1]:80/foo", "https://[::1]/foo"),
    ] {
        check_location(to, listener, request, expected);
    }
}

#[test]
fn a_redirects_path_is_replaced_as_in_a_rewrite() {
    let prefix = |text: &str| To { path: Some(PathModifier::Prefix(text.into())), ..To::default() };
    let full = |text: &str| To { path: Some(PathModifier::Full(text.into())), ..To::default() };
    for (to, request, expected) in [
        (prefix("/xyz"), "GET h/foo/bar?q", "http://h/xyz/bar?q"),
        (prefix(""), "GET h/foo", "http://h/"),
        (full("/"), "GET h/foo/bar?q=1", "http://h/?q=1"),
        (full("/a"), "GET h/foo", "http://h/a"),
    ] {
        check_location(to, 80, request, expected);
    }
}

#[test]
fn a_path_cannot_become_the_host_of_a_redirect() {
    let redirect = Redirect {
        scheme: None,
        hostname: None,
        path: None,
        port: None,
        status: StatusCode::FOUND,
    };
    let mut request = head("GET h/");
    request.path = Bytes::from_static(b"@evil.example/");
    assert_eq!(location(&redirect, &request, b"", 80), "http://h/@evil.example/");
}

fn pairs(list: &[(&str, &str)]) -> Vec<(HeaderName, HeaderValue)> {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
    };
    list.iter().map(pair).collect()
}

#[test]
fn headers_are_set_added_and_removed() {
    let mut headers = Fields::default();
    for (name, value) in [("a", "1"), ("b", "1"), ("c", "1"), ("a", "2")] {
        headers.append(name, value).unwrap();
    }
    let modifier = HeaderModifier {
        set: pairs(&[("a", "3"), ("d", "3")]),
        add: pairs(&[("b", "4"), ("e", "4")]),
        remove: vec![HeaderName::from_static("c"), HeaderName::from_static("missing")],
    };
    apply(&modifier, &mut headers).unwrap();
    let expected = [("a", "3"), ("b", "1"), ("d", "3"), ("b", "4"), ("e", "4")];
    let text = |bytes| str::from_utf8(bytes).unwrap();
    let found: Vec<_> = headers.iter().map(|(name, value)| (text(name), text(value))).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_host_header_of_a_request_is_its_authority() {
    let mut request = head("GET h/ a:1");
    let modifier = HeaderModifier {
        set: pairs(&[("host", "other")]),
        add: vec![],
        remove: vec![HeaderName::from_static("a")],
    };
    apply_to_request(&modifier, &mut request).unwrap();
    assert_eq!(request.authority, "other");
    assert!(request.headers.is_empty());
}
