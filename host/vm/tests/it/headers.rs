//! Header maps: reading, writing, what is ignored, and the serialized form.

use std::sync::Arc;
use std::time::Duration;

use portcullis_vm::{Limits, Phase, PluginSpec};

use crate::host::{Host, callback, check, escape, headers, pairs, response, spec, wat};

fn get(map: u32, key: &str) -> String {
    format!(
        r#"(call $say32 (call $proxy_get_header_map_value (i32.const {map}) "{key}"S OUT)) (call $say_out)"#
    )
}

fn write(call: &str, map: u32, key: &str, value: &str) -> String {
    format!(r#"(call $say32 (call ${call} (i32.const {map}) "{key}"S "{value}"S))"#)
}

fn add(key: &str, value: &str) -> String {
    write("proxy_add_header_map_value", 0, key, value)
}

fn replace(key: &str, value: &str) -> String {
    write("proxy_replace_header_map_value", 0, key, value)
}

fn remove(key: &str) -> String {
    format!(r#"(call $say32 (call $proxy_remove_header_map_value (i32.const 0) "{key}"S))"#)
}

fn set_all(map: u32, bytes: &str) -> String {
    format!(r#"(call $say32 (call $proxy_set_header_map_pairs (i32.const {map}) "{bytes}"S))"#)
}

#[test]
fn a_guest_reads_headers_and_pseudo_headers_by_name() {
    let cases = [
        (":method", ["0", "GET"]),
        (":path", ["0", "/some/path?q=1"]),
        (":authority", ["0", "example.com"]),
        ("host", ["0", "example.com"]),
        (":scheme", ["0", "http"]),
        ("x-one", ["0", "1"]),
        ("X-ONE", ["0", "1"]),
        ("x-two", ["0", "first"]),
        ("x-empty", ["0", ""]),
        ("x-absent", ["1", ""]),
        (":unknown", ["1", ""]),
        ("\\ff\\fe", ["1", ""]),
    ];
    for (key, said) in cases {
        check(&get(0, key), &said);
    }
}

#[test]
fn a_map_that_does_not_exist_is_not_found_or_empty() {
    for map in 1..=7 {
        check(&get(map, "x-one"), &["1", ""]);
        let all = format!(
            "(call $say32 (call $proxy_get_header_map_pairs (i32.const {map}) OUT)) (call $say_out)"
        );
        check(&all, &["0", ""]);
    }
    check(&get(8, "x-one"), &["2", ""]);
}

#[test]
fn request_headers_stay_readable_and_response_headers_come_with_the_response() {
    let code = get(0, ":path") + &get(2, ":status") + &get(2, "server");
    let body = callback(&code).replace("request_headers", "response_headers");
    let mut host = Host::new(&body);
    host.stream().request_sent = true;
    host.stream().response = Some(response(204, &[("server", "backend")]));
    host.run(Phase::ResponseHeaders).unwrap();
    assert_eq!(host.said(), ["0", "/some/path?q=1", "0", "204", "0", "backend"]);
}

#[test]
fn a_serialized_map_is_the_one_of_the_specification() {
    let read = "(call $say32 (call $proxy_get_header_map_pairs (i32.const 3) OUT)) (call $say_out)
        (drop (call $proxy_get_header_map_size (i32.const 3) (i32.const 24)))
        (call $say32 (i32.load (i32.const 24)))";
    let mut host = Host::new(&callback(read));
    host.stream().response_trailers = Some(Box::new(headers(&[("a", "1"), ("b", "22")])));
    host.run(Phase::RequestHeaders).unwrap();
    let vector = "\x02\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0a\x001\0b\x0022\0";
    assert_eq!(host.said(), ["0", vector, "5"]);
}

#[test]
fn pseudo_headers_come_first_in_a_serialized_map() {
    let read = "(drop (call $proxy_get_header_map_pairs (i32.const 0) OUT)) (call $say_out)";
    let mut host = Host::new(&callback(read));
    host.run(Phase::RequestHeaders).unwrap();
    let text = host.said().concat();
    let at = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name} in {text:?}"));
    assert!(at(":authority") < at(":path") && at(":method") < at("x-one"));
    assert!(at("x-two\0first\0") < at("x-two\0second\0"));
}

#[test]
fn a_guest_adds_replaces_and_removes_headers() {
    let code = add("X-Two", "third")
        + &replace("x-one", "other")
        + &remove("X-EMPTY")
        + &remove("x-absent");
    let mut host = check(&code, &["0", "0", "0", "0"]);
    assert_eq!(host.header("x-two"), ["first", "second", "third"]);
    assert_eq!(host.header("x-one"), ["other"]);
    assert!(host.header("x-empty").is_empty());
    assert!(host.record.violations().is_empty());
}

#[test]
fn pseudo_headers_are_written_like_headers_and_host_is_the_authority() {
    let code =
        replace(":path", "/new") + &add(":method", "PURGE") + &replace("Host", "other.example");
    let mut host = check(&code, &["0", "0", "0"]);
    let request = &host.stream().request;
    assert_eq!(request.path, "/new");
    assert_eq!(request.method, "PURGE");
    assert_eq!(request.authority, "other.example");
    assert!(request.headers.get("host").is_none());
}

#[test]
fn what_is_no_valid_header_is_ignored_and_counted() {
    let cases = [
        add("bad name", "1"),
        add("", "1"),
        add(":unknown", "1"),
        add("x-new", "a\\0d\\0ab"),
        replace("x-one", "\\00"),
        replace(":path", ""),
        replace(":path", "/a b"),
        replace(":method", "GE T"),
        remove(":path"),
        remove("host"),
    ];
    for code in cases {
        let mut host = Host::new(&callback(&code));
        host.run(Phase::RequestHeaders).unwrap();
        let log = host.record.take_log();
        assert_eq!(log.last().unwrap().2, "0", "{code}");
        assert!(log[0].2.contains("ignored"), "{code}: {log:?}");
        assert_eq!(host.record.violations().len(), 1, "{code}");
        assert_eq!(host.header("x-one"), ["1"], "{code}");
        assert_eq!(host.stream().request.path, "/some/path?q=1", "{code}");
        assert_eq!(host.stream().request.headers.len(), 4, "{code}");
    }
}

#[test]
fn a_field_that_a_guest_writes_again_is_checked_as_closely_as_the_first_time() {
    let fields = [
        ("x-new", "abc"),
        ("x-new", "abc"),
        ("X-New", "abc"),
        ("x-nev", "abc"),
        ("x-new", "abd"),
        ("x-new", "a\\01c"),
        ("x-ne:", "abc"),
        ("x-n", "w: abc"),
        ("x-new", "abc"),
    ];
    let code: String = fields.iter().map(|(key, value)| add(key, value)).collect();
    let mut host = Host::new(&callback(&code));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.header("x-new"), ["abc", "abc", "abc", "abd", "abc"]);
    assert_eq!(host.header("x-nev"), ["abc"]);
    assert_eq!(host.header("x-n"), ["w: abc"]);
    assert_eq!(host.record.violations().len(), 2);
    let long = "v".repeat(200);
    let twice = add("x-long", &long) + &replace("x-long", "short") + &add("x-long", &long);
    let mut host = check(&twice, &["0", "0", "0"]);
    assert_eq!(host.header("x-long"), ["short", &long]);
}

#[test]
fn a_status_is_written_only_if_http_allows_it() {
    for (status, expected) in [("503", 503), ("700", 200), ("99", 200), ("abc", 200), ("", 200)] {
        let code = write("proxy_replace_header_map_value", 2, ":status", status);
        let mut host = Host::new(&callback(&code));
        host.stream().response = Some(response(200, &[]));
        host.run(Phase::RequestHeaders).unwrap();
        assert_eq!(host.stream().response.as_ref().unwrap().status, expected, "{status}");
    }
}

#[test]
fn a_written_map_replaces_everything_but_mandatory_pseudo_headers() {
    let code = set_all(0, &pairs(&[(":path", "/only"), ("x-new", "1"), ("x-new", "2")]));
    let mut host = check(&code, &["0"]);
    assert_eq!(host.header("x-new"), ["1", "2"]);
    assert!(host.header("x-one").is_empty());
    assert_eq!(host.stream().request.path, "/only");
    assert_eq!(host.stream().request.authority, "example.com");
}

#[test]
fn a_written_map_may_be_empty_in_three_forms_and_is_ignored_when_malformed() {
    for empty in ["", "\\00", "\\00\\00\\00\\00"] {
        let mut host = check(&set_all(0, empty), &["0"]);
        assert!(host.stream().request.headers.is_empty());
        assert_eq!(host.stream().request.path, "/some/path?q=1");
    }
    let cut = &pairs(&[("x-new", "1")]);
    let cut = &cut[..cut.len() - 3];
    let huge = escape(&[0xff; 12]);
    let long = escape(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, b'a', 0, 0]);
    for malformed in ["\\01", "\\01\\00\\00\\00", cut, &huge, &long] {
        let mut host = Host::new(&callback(&set_all(0, malformed)));
        host.run(Phase::RequestHeaders).unwrap();
        assert_eq!(host.said().last().unwrap(), "0");
        assert_eq!(host.record.violations(), ["proxy_set_header_map_pairs"], "{malformed}");
        assert_eq!(host.stream().request.headers.len(), 4, "{malformed}");
    }
}

#[test]
fn headers_are_bounded_in_number_and_length() {
    let long = r#"(drop (call $proxy_add_header_map_value (i32.const 0) "x-long"S (i32.const 0) (i32.const 65536)))"#;
    let many = r#"(local $left i32) (local.set $left (i32.const 2000))
        (loop $again (drop (call $proxy_add_header_map_value (i32.const 0) "x-many"S "1"S))
          (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"#;
    let limits = Limits { callback: Duration::from_secs(5), ..spec().limits };
    let text = wat(&callback(&(many.to_owned() + long)));
    let mut host = Host::start(&text, PluginSpec { limits, ..spec() }).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.stream().request.headers.len(), 1024);
    assert!(host.header("x-long").is_empty());
}

#[test]
fn a_head_grows_no_longer_than_a_megabyte() {
    let many = r#"(local $left i32) (local.set $left (i32.const 100))
        (memory.fill (i32.const 0) (i32.const 97) (i32.const 60000))
        (loop $again
          (drop (call $proxy_add_header_map_value (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 60000)))
          (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (drop (call $proxy_replace_header_map_value (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 60000)))"#;
    let limits = Limits { callback: Duration::from_secs(5), memory: 64 << 20, ..spec().limits };
    let text = wat(&callback(many));
    let mut host = Host::start(&text, PluginSpec { limits, ..spec() }).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.header("aaaaaa").len(), 17);
    assert!(host.header("aaaaaaa").is_empty());
    // Room that the embedder makes or takes counts from the next callback on.
    let headers = &mut Arc::make_mut(&mut host.stream().request).headers;
    headers.clear();
    headers.insert("x-long", [b'a'; 120_000]).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.header("aaaaaa").len(), 15);
}

#[test]
fn what_is_replaced_makes_room() {
    let write = |call: &str, name: u32| {
        format!(
            "(drop (call $proxy_{call}_header_map_value
                (i32.const 0) (i32.const 0) (i32.const {name}) (i32.const 0) (i32.const 60000)))"
        )
    };
    let fill = "(memory.fill (i32.const 0) (i32.const 97) (i32.const 60000))";
    let add = write("add", 6).repeat(20);
    let code = [fill, &add, &write("replace", 6), &add, &write("replace", 7)].concat();
    let limits = Limits { memory: 64 << 20, ..spec().limits };
    let mut host = Host::start(&wat(&callback(&code)), PluginSpec { limits, ..spec() }).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.header("aaaaaa").len(), 17);
    assert!(host.header("aaaaaaa").is_empty());
}

#[test]
fn whatever_was_written_before_a_header_gets_the_value_that_is_written() {
    let code = r#"(local $left i32) (local.set $left (i32.const 9))
        (loop $again
          (i32.store8 (i32.const 0) (i32.add (i32.const 48) (i32.rem_u (local.get $left) (i32.const 3))))
          (drop (call $proxy_add_header_map_value (i32.const 0) "x-digit"S (i32.const 0) (i32.const 1)))
          (drop (call $proxy_add_header_map_value (i32.const 0) "X-Digit"S "same"S))
          (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"#;
    let mut host = Host::new(&callback(code));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.header("x-digit"), ["0", "same", "2", "same", "1", "same"].repeat(3));
}

#[test]
fn writes_after_the_head_was_sent_change_nothing_and_answer_ok() {
    let mut host = Host::new(&callback(&replace("x-one", "late")));
    host.stream().request_sent = true;
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said().last().unwrap(), "0");
    assert_eq!(host.record.violations(), ["proxy_replace_header_map_value"]);
    assert_eq!(host.header("x-one"), ["1"]);
}

#[test]
fn trailers_come_into_being_in_the_last_body_callback_only() {
    let code = write("proxy_add_header_map_value", 1, "x-sum", "42");
    let body = callback(&code).replace("request_headers", "request_body");
    let mut host = Host::new(&body);
    host.run(Phase::RequestBody).unwrap();
    assert!(host.stream().request_trailers.is_none());
    assert_eq!(host.record.violations(), ["proxy_add_header_map_value"]);
    host.run_last(Phase::RequestBody).unwrap();
    let trailers = host.stream().request_trailers.as_ref().unwrap();
    assert_eq!(trailers.get("x-sum"), Some(&b"42"[..]));
}

#[test]
fn the_callback_is_told_how_many_entries_there_are_and_whether_it_is_the_end() {
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $say32 (local.get 0)) (call $say32 (local.get 1)) (call $say32 (local.get 2)) (i32.const 0))"#;
    let mut host = Host::new(body);
    host.run_last(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["2", "8", "1"]);
}
