//! The access log: what stands in a line, which exchanges get one, and the file under it.

use std::fs;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use portcullis_proxy::facts::{Flags, Record, Request, Text, Verdict};
use portcullis_proxy::observe::{AccessLogger, Registry};
use portcullis_proxy::snapshot::{AccessLog, AccessLogFormat};

use crate::harness::PATIENCE;

fn asked(path: &[u8]) -> Request {
    Request {
        protocol: "HTTP/1.1",
        scheme: "http",
        method: Method::GET,
        authority: Text::from("reviews"),
        path: Text::of(path),
    }
}

fn record() -> Record {
    let text = |text: &str| Some(Text::from(text));
    Record {
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_007),
        duration: Duration::from_micros(12_900),
        upstream_duration: Some(Duration::from_millis(11)),
        generation: 7,
        listener: "web".into(),
        route: Some("default/reviews/0".into()),
        backend: Some("default/reviews-v1".into()),
        upstream_peer: Some(([127, 0, 0, 1], 9001).into()),
        upstream_local: Some(([127, 0, 0, 1], 40001).into()),
        upstream_failure: None,
        attempts: 1,
        peer: ([10, 0, 0, 2], 50000).into(),
        local: ([10, 0, 0, 1], 8080).into(),
        client: ([192, 0, 2, 9], 0).into(),
        server_name: None,
        mutual_tls: false,
        request: Some(asked(b"/a?b=c")),
        user_agent: text("curl/8"),
        forwarded_for: text("192.0.2.9"),
        request_id: text("id-1"),
        request_bytes: 0,
        status: Some(StatusCode::OK),
        grpc_status: None,
        response_bytes: 37,
        flags: Flags::none(),
        details: text("via_upstream"),
        code: None,
        filters: vec![
            ("default/authz".into(), Verdict::Continued),
            ("default/canary".into(), Verdict::Skipped),
        ],
        stored: vec![("wasm.tier".into(), Text::from("gold")), ("far".into(), Text::of(b"\xff"))],
    }
}

/// A record full of bytes that have no place in a log.
fn hostile() -> Record {
    let mut flags = Flags::NO_ROUTE;
    flags.insert(Flags::DOWNSTREAM_TERMINATION);
    Record {
        route: None,
        backend: None,
        upstream_duration: None,
        upstream_peer: None,
        upstream_local: None,
        status: None,
        flags,
        details: Some(Text::from("no route\n")),
        code: Some("P0701"),
        request: Some(asked(b"/\xff\"\\\x1b[31m\r\n{}")),
        user_agent: Some(Text::of("\u{e9}\u{9b}\u{0}\u{7f}".as_bytes())),
        forwarded_for: None,
        request_id: None,
        filters: Vec::new(),
        stored: Vec::new(),
        ..record()
    }
}

/// What an access log of this form holds after these records.
fn logged(format: AccessLogFormat, filter: Option<&str>, records: Vec<Record>) -> String {
    let filter = filter.map(str::to_owned);
    written(AccessLog { format, filter, ..AccessLog::default() }, records)
}

fn written(settings: AccessLog, records: Vec<Record>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let settings = AccessLog { path: path.to_str().unwrap().to_owned(), ..settings };
    let logger = AccessLogger::open(&settings, &Registry::default()).unwrap();
    records.into_iter().for_each(|record| logger.log(record));
    assert!(logger.flush(PATIENCE));
    fs::read_to_string(path).unwrap()
}

#[test]
fn an_exchange_is_one_json_object() {
    assert_eq!(
        logged(AccessLogFormat::Json, None, vec![record()]),
        concat!(
            r#"{"start_time":"2024-02-29T12:34:56.007Z","method":"GET","path":"/a?b=c","#,
            r#""authority":"reviews","scheme":"http","protocol":"HTTP/1.1","response_code":200,"#,
            r#""response_flags":"-","response_code_details":"via_upstream","grpc_status":null,"#,
            r#""bytes_received":0,"bytes_sent":37,"duration":12,"upstream_service_time":11,"#,
            r#""upstream_host":"127.0.0.1:9001","upstream_cluster":"default/reviews-v1","#,
            r#""upstream_local_address":"127.0.0.1:40001","#,
            r#""upstream_transport_failure_reason":null,"upstream_request_attempt_count":1,"#,
            r#""route_name":"default/reviews/0","request_id":"id-1","user_agent":"curl/8","#,
            r#""x_forwarded_for":"192.0.2.9","downstream_remote_address":"192.0.2.9:0","#,
            r#""downstream_direct_remote_address":"10.0.0.2:50000","#,
            r#""downstream_local_address":"10.0.0.1:8080","requested_server_name":null,"#,
            r#""listener_name":"web","portcullis_code":null,"generation":7,"filters":["#,
            r#"{"filter":"default/authz","verdict":"continued"},"#,
            r#"{"filter":"default/canary","verdict":"skipped"}]}"#,
            "\n",
        )
    );
}

#[test]
fn an_exchange_is_one_line_of_text() {
    assert_eq!(
        logged(AccessLogFormat::Text, None, vec![record()]),
        concat!(
            "[2024-02-29T12:34:56.007Z] \"GET /a?b=c HTTP/1.1\" 200 - via_upstream 0 37 12 11 ",
            "\"192.0.2.9\" \"curl/8\" \"id-1\" \"reviews\" \"127.0.0.1:9001\" ",
            "default/reviews-v1 default/reviews/0 web 192.0.2.9:0 - 7 ",
            "default/authz=continued,default/canary=skipped\n",
        )
    );
}

#[test]
fn hostile_bytes_neither_break_a_line_nor_reach_a_terminal() {
    let json = logged(AccessLogFormat::Json, None, vec![hostile(), record()]);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["path"], "/\u{fffd}\"\\\u{1b}[31m\r\n{}");
    assert_eq!(lines[0]["user_agent"], "\u{e9}\u{9b}\u{0}\u{7f}");
    assert_eq!(lines[0]["response_code"], 0);
    assert_eq!(lines[0]["response_flags"], "NR,DC");
    assert_eq!(lines[0]["portcullis_code"], "P0701");
    assert!(!json.chars().any(|c| c.is_control() && c != '\n'), "{json:?}");

    assert_eq!(
        logged(AccessLogFormat::Text, None, vec![hostile()]),
        concat!(
            "[2024-02-29T12:34:56.007Z] \"GET /\\xFF\\x22\\x5C\\x1B[31m\\x0D\\x0A{} HTTP/1.1\" 0 ",
            "NR,DC no_route\\x0A 0 37 12 - \"-\" \"\\xC3\\xA9\\xC2\\x9B\\x00\\x7F\" \"-\" ",
            "\"reviews\" \"-\" - - web 192.0.2.9:0 P0701 7 -\n",
        )
    );
}

#[test]
fn only_exchanges_that_the_filter_is_true_of_are_logged() {
    let check = |filter: &str, expected: &[bool]| {
        let exchanges = vec![record(), hostile()];
        let log = logged(AccessLogFormat::Text, Some(filter), exchanges);
        let found = [log.contains("curl/8"), log.contains("P0701")];
        assert_eq!(found, expected, "{filter}");
    };
    check("true", &[true, true]);
    check("response.code >= 500", &[false, false]);
    check("response.code == 200", &[true, false]);
    check("!has(response.code) || response.code >= 500", &[false, true]);
    check("request.method == 'GET' && request.path.startsWith('/a')", &[true, false]);
    check("request.url_path == '/a' && request.query == 'b=c'", &[true, false]);
    check("request.path.matches('^/a[?]')", &[true, false]);
    check("route_name == 'default/reviews/0'", &[true, false]);
    check("cluster_name == null", &[false, true]);
    check("response.flags != 0", &[false, true]);
    check("['HEAD', 'GET'].exists(m, m == request.method)", &[true, true]);
    check("request.duration_ms > 12", &[false, false]);
    check("wasm.tier == 'gold'", &[true, false]);
    check("filter_state['wasm.tier'].startsWith('g')", &[true, false]);
    check("filter_state.far == b'\\xff'", &[true, false]);
    check("has(wasm.tier) && !has(wasm.other)", &[true, false]);
    check("!has(wasm.tier) || int(wasm.tier) > 5", &[false, true]);
}

#[test]
fn a_filter_that_cannot_work_is_refused_when_it_is_opened() {
    let check = |filter: &str, expected: &str| {
        let problem = AccessLogger::check_filter(filter).unwrap_err();
        assert!(problem.contains(expected), "{filter}: {problem}");
    };
    check("response.code >=", "line 1, column");
    check("response.cod >= 500", "unknown attribute response.cod");
    check("true || respons.code >= 500", "unknown attribute respons");
    check("has(request.headers)", "unknown attribute request.headers");
    check("response.code", "expected bool");
    check("wasm == filter_state", "a name has to follow");
    check("filter_state[request.path] == 'x'", "a name has to follow");
    check("wasm.tier", "expected bool");
    check("response.code >= '500'", "overload");
    check("frobnicate(response.code)", "frobnicate");
}

#[test]
fn the_configurations_own_fields_stand_at_the_end_of_a_line() {
    let fields = [
        ("far", "filter_state.far"),
        ("gone", "wasm.gone"),
        ("half", "double(response.size) / 2.0"),
        ("ok", "response.code == 200"),
        ("tier", "wasm.tier + '!'"),
        ("times", "response.size * 2"),
    ];
    let fields = fields.map(|(name, source)| (name.to_owned(), source.to_owned()));
    let write = |format| {
        let settings = AccessLog { format, fields: fields.clone().into(), ..AccessLog::default() };
        let log = written(settings, vec![record()]);
        log.trim_end().rsplit_once("skipped").unwrap().1.to_owned()
    };
    assert_eq!(
        write(AccessLogFormat::Json),
        "\"}],\"fields\":{\"far\":\"\u{fffd}\",\"gone\":null,\"half\":18.5,\"ok\":true,\"tier\":\"gold!\",\"times\":74}}"
    );
    assert_eq!(
        write(AccessLogFormat::Text),
        " far=\"\\xFF\" gone=\"-\" half=\"18.5\" ok=\"true\" tier=\"gold!\" times=\"74\""
    );
    for (name, source, expected) in [
        ("a b", "wasm.tier", "letters"),
        ("list", "[wasm.tier]", "no field"),
        ("typo", "wsam.tier", "unknown attribute wsam"),
    ] {
        let problem = AccessLogger::check_field(name, source).unwrap_err();
        assert!(problem.contains(expected), "{name}: {problem}");
    }
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let settings = AccessLog {
        format: AccessLogFormat::Text,
        path: path.to_str().unwrap().to_owned(),
        filter: None,
        ..AccessLog::default()
    };
    let logger = AccessLogger::open(&settings, &Registry::default()).unwrap();
    logger.log(record());
    assert!(logger.flush(PATIENCE));
    let moved = folder.path().join("access.log.1");
    fs::rename(&path, &moved).unwrap();
    logger.reopen();
    logger.log(hostile());
    assert!(logger.flush(PATIENCE));
    assert!(fs::read_to_string(moved).unwrap().contains("curl/8"));
    assert!(fs::read_to_string(path).unwrap().contains("P0701"));
}

#[test]
fn an_access_log_that_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/access.log").to_str().unwrap().to_owned();
    let settings = AccessLog {
        format: AccessLogFormat::Json,
        path: path.clone(),
        filter: None,
        ..AccessLog::default()
    };
    let problem = AccessLogger::open(&settings, &Registry::default()).unwrap_err();
    assert!(problem.starts_with(&format!("access log {path}: ")), "{problem}");
}
