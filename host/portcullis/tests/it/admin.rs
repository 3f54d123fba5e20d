//! The admin and health servers over real sockets, the redaction of secrets, and our own log.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::admin::{Admin, Report, redact};
use portcullis::logging::{Error, Format, Log};
use portcullis_proxy::observe::{Counter, Target};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const INDEX: &str = "\
/healthz/live   whether the process works
/healthz/ready  whether traffic should be sent here
/metrics        metrics, in the Prometheus text format
/status         generation, sources, listeners and filters, as JSON
";

#[derive(Default)]
struct Proxy {
    sick: AtomicBool,
}

impl Report for Proxy {
    fn live(&self) -> bool {
        !self.sick.load(Ordering::Relaxed)
    }

    fn ready(&self) -> Result<(), String> {
        if self.live() { Ok(()) } else { Err("no configuration was accepted yet".to_owned()) }
    }

    fn metrics(&self) -> String {
        "up 1\n".to_owned()
    }

    fn status(&self) -> Value {
        json!({"generation": 7})
    }

    fn config(&self) -> Value {
        json!({"token": "hunter2", "kind": "Proxy"})
    }
}

struct Servers {
    servers: Admin,
    proxy: Arc<Proxy>,
}

fn start() -> Servers {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let proxy = Arc::new(Proxy::default());
    let report: Arc<dyn Report> = proxy.clone();
    Servers { servers: Admin::start(Some(any), Some(any), report).unwrap(), proxy }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes; the whole answer until the server closes.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Status, content type and body of the answer to a request.
fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let answer = exchange(address, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| line.strip_prefix("content-type: ").map(str::to_owned);
    (status, head.lines().find_map(header).unwrap_or_default(), body.to_owned())
}

#[test]
fn the_admin_server_shows_everything_and_no_secret() {
    let running = start();
    let check = |path: &str, content_type: &str, body: &str| {
        let expected = (200, content_type.to_owned(), body.to_owned());
        assert_eq!(ask(running.servers.admin.unwrap(), "GET", path), expected, "{path}");
    };
    let text = "text/plain; charset=utf-8";
    check("/healthz/live", text, "live\n");
    check("/healthz/ready?verbose", text, "ready\n");
    check("/metrics", "text/plain; version=0.0.4; charset=utf-8", "up 1\n");
    check("/status", "application/json", "{\n  \"generation\": 7\n}\n");
    let config = "{\n  \"kind\": \"Proxy\",\n  \"token\": \"<redacted>\"\n}\n";
    check("/config", "application/json", config);
    let last = "/config         the documents in force, secrets redacted, as JSON\n";
    check("/", text, &format!("{INDEX}{last}"));
}

#[test]
fn the_health_server_shows_no_configuration() {
    let running = start();
    let health = running.servers.health.unwrap();
    for path in ["/healthz/live", "/healthz/ready", "/metrics", "/status"] {
        assert_eq!(ask(health, "GET", path).0, 200, "{path}");
    }
    let (status, _, body) = ask(health, "GET", "/config");
    let expected = format!("there is no /config here; there is\n\n{INDEX}");
    assert_eq!((status, body), (404, expected));
    assert_eq!(ask(health, "GET", "/").2, INDEX);
}

#[test]
fn what_is_not_ready_says_why() {
    let running = start();
    running.proxy.sick.store(true, Ordering::Relaxed);
    let health = running.servers.health.unwrap();
    let (status, _, body) = ask(health, "GET", "/healthz/ready");
    let reason = "not ready: no configuration was accepted yet\n".to_owned();
    assert_eq!((status, body), (503, reason));
    let (status, _, body) = ask(health, "GET", "/healthz/live");
    assert_eq!((status, body), (503, "not live\n".to_owned()));
}

#[test]
fn everything_is_read_only() {
    let running = start();
    let admin = running.servers.admin.unwrap();
    let refused = exchange(admin, "POST /config HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    assert!(refused.contains("\r\nallow: GET, HEAD\r\n"), "{refused}");
    let head = exchange(admin, "HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("\r\ncontent-length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn clients_that_hold_connections_open_keep_nobody_out() {
    let running = start();
    let admin = running.servers.admin.unwrap();
    let mut idle: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = connect(admin);
            stream.write_all(b"GET /metrics HTTP/1.1\r\nx: ").unwrap();
            stream
        })
        .collect();
    assert_eq!(ask(admin, "GET", "/healthz/live").0, 200);
    let evicted = idle[0].read(&mut [0; 1]);
    assert!(!matches!(evicted, Ok(1)), "{evicted:?}");
    let youngest = idle.last_mut().unwrap();
    youngest.write_all(b"y\r\n\r\n").unwrap();
    let mut status = [0; 13];
    youngest.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 ");
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let running = start();
    let request = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(16 << 10));
    let mut stream = connect(running.servers.admin.unwrap());
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 13];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 431 ");
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let running = start();
    let taken = running.servers.admin.unwrap();
    let error = Admin::start(None, Some(taken), running.proxy.clone()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("health address {taken}: ")), "{error}");
}

#[test]
fn the_servers_stop_when_they_are_dropped() {
    let running = start();
    let address = running.servers.admin.unwrap();
    drop(running.servers);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn secrets_are_redacted_wherever_they_stand() {
    let check = |mut given: Value, expected: Value| {
        redact(&mut given);
        assert_eq!(given, expected);
    };
    let hidden = "<redacted>";
    for name in ["password", "apiKey", "client_secret", "API-TOKEN", "key", "x-auth-token"] {
        check(json!([{name: "s"}]), json!([{name: hidden}]));
        check(json!({name: {"deep": 1}}), json!({name: hidden}));
    }
    for name in ["apiKeys", "keys", "tokens", "secrets", "passwords", "hmacSecret", "jwt"] {
        check(json!({name: ["s"]}), json!({name: hidden}));
    }
    for name in ["keyFile", "imagePullSecret", "tokens_per_second", "kind", "monkey"] {
        check(json!({name: "s"}), json!({name: "s"}));
    }
    check(
        json!({"set": [{"name": "Authorization", "value": "Basic x"}, {"name": "a", "value": "b"}]}),
        json!({"set": [{"name": "Authorization", "value": hidden}, {"name": "a", "value": "b"}]}),
    );
    check(
        json!({"vmConfig": {"env": [{"name": "MODE", "value": "strict"}]}}),
        json!({"vmConfig": {"env": [{"name": "MODE", "value": hidden}]}}),
    );
    check(json!({"pluginConfig": "a=b"}), json!({"pluginConfig": hidden}));
    check(
        json!({"pluginConfig": {"percent": 10, "secret": null, "users": {"password": "x"}}}),
        json!({"pluginConfig": {"percent": hidden, "secret": null, "users": {"password": hidden}}}),
    );
    check(
        json!({"metadata": {"name": "a", "annotations": {"last": "{}"}, "managedFields": [1]}}),
        json!({"metadata": {"name": "a"}}),
    );
    check(json!({"kty": "oct", "k": "x"}), json!({"kty": "oct", "k": hidden}));
    check(
        json!({"pluginConfig": {"a": [1, true]}}),
        json!({"pluginConfig": {"a": [hidden, hidden]}}),
    );
    check(json!(["Bearer x", "basic eA==", "basic"]), json!([hidden, hidden, "basic"]));
    check(
        json!(["https://user:pa@ss@host/a@b", "https://host/a@b", "a@b", "s3://k@h"]),
        json!(["https://<redacted>@host/a@b", "https://host/a@b", "a@b", "s3://<redacted>@h"]),
    );
    check(json!("x\n-----BEGIN EC PRIVATE KEY-----\nMHc\n"), json!(hidden));
}

#[test]
fn our_own_log_has_one_line_for_each_event_of_its_level() {
    let folder = tempfile::tempdir().unwrap();
    let check = |format, level: &str| {
        let path = folder.path().join(format!("{format:?}"));
        let target = Target::File(path.clone());
        let (log, subscriber) = Log::to(&target, format, level, Counter::default()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(filter = "ns/f", text = "two\nlines \u{1b}[31m", "trapped");
            tracing::info!("unheard");
            tracing::debug!(target: "loud", "heard\nERROR forged");
        });
        assert!(log.flush(PATIENCE));
        fs::read_to_string(path).unwrap()
    };
    let json = check(Format::Json, "warn,loud=debug");
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{json}");
    assert_eq!(lines[0]["level"], "WARN");
    assert_eq!(lines[0]["message"], "trapped");
    assert_eq!(lines[0]["filter"], "ns/f");
    assert_eq!(lines[0]["text"], "two\nlines \u{1b}[31m");
    assert_eq!(lines[1]["target"], "loud");
    assert_eq!(lines[1]["message"], "heard\nERROR forged");

    let text = check(Format::Text, "warn,loud=debug");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("trapped filter=\"ns/f\""), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("unheard"), "{text}");
}

#[test]
fn a_bad_log_level_is_an_error_that_names_it() {
    let problem = Log::to(&Target::Stderr, Format::Text, "a=b=c", Counter::default()).err();
    assert!(
        matches!(&problem, Some(Error::Level { level, .. }) if level == "a=b=c"),
        "{problem:?}"
    );
}
