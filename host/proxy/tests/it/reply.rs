use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use portcullis_proxy::Body;
use portcullis_proxy::message::Response;
use portcullis_proxy::reply::{Dialect, Failure, Source, grpc_status_of, local, redirect, respond};
use portcullis_vm::{Fields, LocalReply};

fn text(response: Response<Body>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bytes = runtime.block_on(response.body.collect()).unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.head.headers.get(name).map_or("-", |value| str::from_utf8(value).unwrap())
}

/// Asserts everything that clients, logs and the retry see of a failure, in both dialects.
fn check(failure: Failure, row: (&str, u16, Source, bool, &str, &str)) {
    let (code, status, source, retry_safe, flags, grpc_status) = row;
    assert_eq!(failure.code(), code);
    assert_eq!(failure.status(), status, "{code}");
    assert_eq!(failure.source(), source, "{code}");
    assert_eq!(failure.retry_safe(), retry_safe, "{code}");
    assert_eq!(failure.flags().to_string(), flags, "{code}");
    assert!(!failure.details().contains(char::is_whitespace), "{code}");

    let response = respond(&failure, Dialect::Http);
    assert_eq!(response.head.status, status, "{code}");
    assert_eq!(header(&response, "x-portcullis-code"), code);
    assert_eq!(header(&response, "content-type"), "text/plain");
    let length: usize = header(&response, "content-length").parse().unwrap();
    let body = text(response);
    assert_eq!(body.len(), length, "{code}");
    assert!(body.starts_with(&format!("{code} ")) && body.ends_with('\n'), "{body:?}");

    let response = respond(&failure, Dialect::Grpc);
    assert_eq!(response.head.status, 200, "{code}");
    assert_eq!(header(&response, "content-type"), "application/grpc");
    assert_eq!(header(&response, "grpc-status"), grpc_status, "{code}");
    assert_eq!(header(&response, "x-portcullis-code"), code);
    assert!(header(&response, "grpc-message").starts_with(code), "{code}");
    assert_eq!(text(response), "");
}

#[test]
fn every_failure_has_its_code_status_and_source() {
    use Source::{Downstream, Filter, Upstream, Us};
    let reason = || "secret.internal".to_owned();
    for (failure, row) in [
        (Failure::NoRoute, ("P0701", 404, Us, false, "NR", "12")),
        (Failure::BrokenRule(reason()), ("P0702", 500, Us, false, "NC", "14")),
        (Failure::NoEndpoint(reason()), ("P0703", 503, Upstream, true, "UH", "14")),
        (Failure::Connect(reason()), ("P0704", 503, Upstream, true, "UF", "14")),
        (Failure::Reset(reason()), ("P0705", 503, Upstream, false, "UC", "14")),
        (Failure::AttemptTimeout, ("P0706", 504, Upstream, false, "UT", "4")),
        (Failure::RequestTimeout, ("P0706", 504, Upstream, false, "UT", "4")),
        (Failure::Filter, ("P0707", 503, Filter, false, "-", "14")),
        (Failure::RequestTooLarge, ("P0708", 413, Downstream, false, "-", "2")),
        (Failure::ResponseTooLarge, ("P0709", 500, Upstream, false, "-", "2")),
        (Failure::BadRequest(reason()), ("P0710", 400, Downstream, false, "DPE", "13")),
        (Failure::HeaderTimeout, ("P0711", 408, Downstream, false, "DPE", "2")),
        (Failure::HeadersTooLarge, ("P0712", 431, Downstream, false, "DPE", "2")),
        (Failure::TargetTooLong, ("P0712", 414, Downstream, false, "DPE", "2")),
        (Failure::Protocol(reason()), ("P0713", 502, Upstream, false, "UPE", "14")),
    ] {
        check(failure, row);
    }
}

#[test]
fn the_reason_of_a_failure_stays_with_us() {
    let failure = Failure::Connect("connect to 10.0.0.1:80: refused".to_owned());
    assert_eq!(failure.reason(), "connect to 10.0.0.1:80: refused");
    assert!(!text(respond(&failure, Dialect::Http)).contains("10.0.0.1"));
    assert!(!header(&respond(&failure, Dialect::Grpc), "grpc-message").contains("10.0.0.1"));
}

#[test]
fn the_content_type_says_whether_a_client_speaks_grpc() {
    for (value, expected) in [
        ("application/grpc", Dialect::Grpc),
        ("application/grpc+proto", Dialect::Grpc),
        ("application/grpc;charset=utf-8", Dialect::Grpc),
        ("application/grpc-web", Dialect::Http),
        ("application/json", Dialect::Http),
    ] {
        let headers = headers(&[("content-type", value)]);
        assert_eq!(Dialect::of(&headers), expected, "{value}");
    }
    assert_eq!(Dialect::of(&Fields::default()), Dialect::Http);
}

#[test]
fn statuses_map_to_grpc_as_in_envoy() {
    let table = [
        (400, 13),
        (401, 16),
        (403, 7),
        (404, 12),
        (429, 14),
        (500, 2),
        (502, 14),
        (503, 14),
        (504, 14),
        (200, 2),
        (418, 2),
    ];
    for (status, expected) in table {
        assert_eq!(grpc_status_of(StatusCode::from_u16(status).unwrap()), expected, "{status}");
    }
}

fn headers(list: &[(&str, &str)]) -> Fields {
    let mut headers = Fields::default();
    for (name, value) in list {
        headers.append(name, value).unwrap();
    }
    headers
}

fn guest(status: u16, list: &[(&str, &str)], body: &'static str) -> LocalReply {
    LocalReply {
        status: StatusCode::from_u16(status).unwrap(),
        details: String::new(),
        headers: headers(list),
        body: Bytes::from_static(body.as_bytes()),
        grpc_status: None,
    }
}

/// Asserts a guest's reply in HTTP: status, all headers in order of their names, body.
fn check_local(reply: LocalReply, status: u16, expected: &[(&str, &str)], body: &str) {
    let response = local(reply, Dialect::Http);
    assert_eq!(response.head.status, status);
    let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let fields = response.head.headers.iter();
    let mut found: Vec<_> = fields.map(|(name, value)| (text_of(name), text_of(value))).collect();
    found.sort();
    let expected: Vec<_> =
        expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    assert_eq!(found, expected);
    assert_eq!(text(response), body);
}

#[test]
fn a_guests_reply_gets_a_length_and_a_type_unless_it_has_one() {
    check_local(
        guest(403, &[("x-a", "1"), ("x-a", "2")], "no"),
        403,
        &[("content-length", "2"), ("content-type", "text/plain"), ("x-a", "1"), ("x-a", "2")],
        "no",
    );
    check_local(
        guest(200, &[("content-type", "application/json")], "{}"),
        200,
        &[("content-length", "2"), ("content-type", "application/json")],
        "{}",
    );
    check_local(guest(401, &[], ""), 401, &[("content-length", "0")], "");
}

#[test]
fn a_guest_cannot_break_the_framing() {
    check_local(
        guest(
            200,
            &[
                ("content-length", "9"),
                ("transfer-encoding", "chunked"),
                ("connection", "close"),
                ("x", "1"),
            ],
            "ok",
        ),
        200,
        &[("content-length", "2"), ("content-type", "text/plain"), ("x", "1")],
        "ok",
    );
    check_local(guest(204, &[("x", "1")], "gone"), 204, &[("x", "1")], "");
    check_local(guest(304, &[], "gone"), 304, &[], "");
    check_local(guest(101, &[], ""), 500, &[("content-length", "0")], "");
}

#[test]
fn a_guests_reply_to_a_grpc_call_becomes_trailers() {
    let response =
        local(guest(403, &[("x-a", "1"), ("content-type", "text/html")], "no ü%\n"), Dialect::Grpc);
    assert_eq!(response.head.status, 200);
    assert_eq!(header(&response, "grpc-status"), "7");
    assert_eq!(header(&response, "grpc-message"), "no %C3%BC%25%0A");
    assert_eq!(header(&response, "content-type"), "application/grpc");
    assert_eq!(response.head.headers.get_all("content-type").count(), 1);
    assert_eq!(header(&response, "x-a"), "1");
    assert_eq!(text(response), "");

    let chosen = LocalReply { grpc_status: Some(5), ..guest(200, &[], "") };
    let response = local(chosen, Dialect::Grpc);
    assert_eq!((header(&response, "grpc-status"), header(&response, "grpc-message")), ("5", "-"));
}

#[test]
fn a_redirect_has_a_location_and_no_body() {
    let response = redirect(StatusCode::MOVED_PERMANENTLY, b"https://h/x?q");
    assert_eq!(response.head.status, 301);
    assert_eq!(header(&response, "location"), "https://h/x?q");
    assert_eq!(header(&response, "content-length"), "0");
    assert_eq!(redirect(StatusCode::FOUND, b"http://h/\r\nset-cookie: x").head.status, 400);
}
