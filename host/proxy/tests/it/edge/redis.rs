//! Redis commands of filters: against a real server where there is one, and against servers that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::*;

use super::{Scripted, filtered, snapshot};
use crate::guests::filter;
use crate::harness::{Client, Unserved, Upstream, address, backend, eventually, runtime, start};

/// A user with a password, and nobody else.
const SETTINGS: &str = "bind 127.0.0.1
save \"\"
databases 4
user app on >hush ~* +@all
user default off
";

/// A server of its own; it ends with the test.
struct Server {
    child: Child,
    port: Unserved,
}

impl Server {
    /// `None`, said in words, where no Redis is installed.
    fn start() -> Option<Server> {
        let port = Unserved::new();
        match serve(port.address()) {
            Ok(child) => Some(Server { child, port }),
            Err(problem) => {
                let wanted = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
                assert!(!wanted, "there is no redis-server here ({problem})");
                println!("skipped: there is no redis-server here ({problem})");
                None
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = serve(self.address()).unwrap();
    }
}

/// Returns once it takes connections. It says so itself: whoever asks by connecting may, before it
/// listens, be connected to himself.
fn serve(address: SocketAddr) -> std::io::Result<Child> {
    let mut command = Command::new("redis-server");
    command.arg("-").current_dir(std::env::temp_dir());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let settings = format!("port {}\n{SETTINGS}", address.port());
    child.stdin.take().unwrap().write_all(settings.as_bytes())?;
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let ready = said.find(|line| line.contains("Ready to accept connections"));
    assert!(ready.is_some(), "Redis ended");
    // What it says later has to go somewhere.
    std::thread::spawn(move || said.for_each(drop));
    Ok(child)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn command(parts: &[&str]) -> String {
    let mut text = format!("*{}\r\n", parts.len());
    parts.iter().for_each(|part| text += &format!("${}\r\n{part}\r\n", part.len()));
    text
}

/// Sends the commands one after the other for each request, and answers with the status of the last one and its reply.
fn asking(name: &str, password: &str, timeout: u32, commands: &[&[&str]]) -> Filter {
    let queries: Vec<String> = commands.iter().map(|parts| command(parts)).collect();
    let names: Vec<String> = (0..queries.len()).map(|index| format!("q{index}")).collect();
    let mut strings = vec![("u", "store"), ("n", name), ("w", "app"), ("p", password)];
    strings.extend(names.iter().zip(&queries).map(|(name, query)| (name.as_str(), query.as_str())));
    let send: String = names
        .iter()
        .map(|name| format!("(drop (call $redis_call $u$ ${name}$ (i32.const 8)))"))
        .collect();
    let last = "(i32.load (i32.const 8))";
    let body = format!(
        r#"(global $last (mut i32) (i32.const 0))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (i32.eqz (call $redis_init $n$ $w$ $p$ (i32.const {timeout}))))
           (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
             (global.set $waiting (local.get $id)) {send} (global.set $last {last}) (i32.const 1))
           (func (export "proxy_on_redis_call_response") (param i32 i32 i32 i32)
             (if (i32.ne (local.get 1) (global.get $last)) (then (return)))
             (drop (call $effective (global.get $waiting)))
             (i32.store (i32.const 4) (i32.const 0)) (i32.store (i32.const 8) (i32.const 0))
             (drop (call $get_body (i32.const 9) (i32.const 0) (i32.const -1) (i32.const 4) (i32.const 8)))
             (drop (call $reply (i32.add (i32.const 200) (local.get 2)) (i32.const 0) (i32.const 0)
               (i32.load (i32.const 4)) (i32.load (i32.const 8))
               (i32.const 0) (i32.const 0) (i32.const -1))))"#
    );
    filter("asking", &strings, &body)
}

fn with_store(server: SocketAddr, protocol: BackendProtocol, filter: Filter) -> Snapshot {
    let mut snapshot = snapshot(BackendProtocol::Http, server, |_| {});
    snapshot.backends.push(backend("default/store", protocol, server));
    filtered(snapshot, vec![filter])
}

/// What becomes of one request after the other: status 200 and the reply, or 201 and nothing.
fn ask<const COUNT: usize>(snapshot: Snapshot) -> [(u16, String); COUNT] {
    let proxy = start(snapshot);
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        let mut answers = Vec::new();
        for _ in 0..COUNT {
            let answer = client.get("/").await;
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            answers.push((answer.status.as_u16(), text));
        }
        answers.try_into().unwrap()
    })
}

fn replied(text: &str) -> (u16, String) {
    (200, text.to_owned())
}

fn failed() -> (u16, String) {
    (201, String::new())
}

#[test]
fn a_real_server_replies_to_commands() {
    let Some(server) = Server::start() else { return };
    let ask = |commands: &[&[&str]]| {
        let filter = asking("store", "hush", 5000, commands);
        let [answer] = ask(with_store(server.address(), BackendProtocol::Redis, filter));
        answer
    };
    assert_eq!(ask(&[&["PING"]]), replied("+PONG\r\n"));
    assert_eq!(ask(&[&["SET", "key", "a value"], &["GET", "key"]]), replied("$7\r\na value\r\n"));
    assert_eq!(ask(&[&["GET", "nothing"]]), replied("$-1\r\n"));
    let list = ask(&[&["RPUSH", "list", "1", "two"], &["LRANGE", "list", "0", "-1"]]);
    assert_eq!(list, replied("*2\r\n$1\r\n1\r\n$3\r\ntwo\r\n"));
    // An error of the server's is a reply.
    let (status, text) = ask(&[&["INCR", "key"]]);
    assert!(status == 200 && text.starts_with("-ERR "), "{text}");
    let long = "x".repeat(60_000);
    let kept = ask(&[&["SET", "long", &long], &["STRLEN", "long"], &["GET", "long"]]);
    assert_eq!(kept, replied(&format!("$60000\r\n{long}\r\n")));
}

#[test]
fn a_connection_begins_with_the_password_and_the_database() {
    let Some(server) = Server::start() else { return };
    let set = asking("store?db=2&other=1", "hush", 5000, &[&["SET", "here", "1"]]);
    let count = asking("store?db=2", "hush", 5000, &[&["DBSIZE"]]);
    let elsewhere = asking("store", "hush", 5000, &[&["DBSIZE"]]);
    let wrong = asking("store", "loud", 5000, &[&["PING"]]);
    for (filter, answer) in [
        (set, replied("+OK\r\n")),
        (count, replied(":1\r\n")),
        (elsewhere, replied(":0\r\n")),
        (wrong, failed()),
    ] {
        let answers = ask(with_store(server.address(), BackendProtocol::Redis, filter));
        assert_eq!(answers, [answer]);
    }
}

#[test]
fn commands_of_many_exchanges_share_a_connection() {
    let Some(server) = Server::start() else { return };
    let counting = asking("store", "hush", 5000, &[&["INCR", "count"][..]; 100]);
    let proxy = start(with_store(server.address(), BackendProtocol::Redis, counting));
    runtime().block_on(async {
        let mut client = Client::http2(address(&proxy)).await;
        assert_eq!(client.get("/").await.body, ":100\r\n");
        assert_eq!(client.get("/").await.body, ":200\r\n");
    });
    let opened = "portcullis_upstream_connections_total{backend=\"default/store\"} 1\n";
    assert!(proxy.metrics().contains(opened), "{}", proxy.metrics());
}

#[test]
fn a_server_that_comes_back_is_found_again() {
    let Some(mut server) = Server::start() else { return };
    let filter = asking("store", "hush", 5000, &[&["PING"]]);
    let proxy = start(with_store(server.address(), BackendProtocol::Redis, filter));
    let runtime = runtime();
    let mut client = runtime.block_on(Client::http1(address(&proxy)));
    let mut status = || runtime.block_on(client.get("/")).status.as_u16();
    assert_eq!(status(), 200);
    server.stop();
    assert_eq!(status(), 201);
    server.start_again();
    eventually("Redis is found again", || status() == 200);
}

/// Reads a command, whatever it is, and answers with these pieces, one write for each.
fn canned(pieces: &'static [&'static str]) -> Scripted {
    Scripted::new(move |stream| {
        let mut bytes = [0; 4096];
        while stream.read(&mut bytes).unwrap_or(0) > 0 {
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
                stream.flush().unwrap();
            }
        }
    })
}

#[test]
fn replies_are_found_in_whatever_pieces_they_come() {
    let nested = "*3\r\n*2\r\n+a\r\n:1\r\n$0\r\n\r\n*-1\r\n";
    for (pieces, reply) in [
        (&["+", "PO", "NG\r", "\n"][..], "+PONG\r\n"),
        (&["$5\r\nab\r\nc", "\r\n"], "$5\r\nab\r\nc\r\n"),
        (&["*3\r\n*2\r\n+a", "\r\n:1\r\n$0\r\n", "\r\n*-1\r", "\n"], nested),
        (&["*0\r\n"], "*0\r\n"),
    ] {
        let server = canned(pieces);
        let filter = asking("store", "", 5000, &[&["PING"]]);
        let answers = ask(with_store(server.address, BackendProtocol::Redis, filter));
        assert_eq!(answers, [replied(reply), replied(reply)]);
        assert_eq!(server.opened(), 1);
    }
}

#[test]
fn a_server_that_misbehaves_is_left_and_tried_again() {
    for pieces in
        [&["HTTP/1.1 200 OK\r\n"][..], &["$x\r\n"], &["$99999999\r\n"], &["*999999999\r\n"]]
    {
        let server = canned(pieces);
        let filter = asking("store", "", 5000, &[&["PING"]]);
        let answers = ask(with_store(server.address, BackendProtocol::Redis, filter));
        assert_eq!(answers, [failed(), failed()], "{pieces:?}");
        assert_eq!(server.opened(), 2);
    }
    // More than was asked for: the first reply counts, and the connection goes.
    let server = canned(&["+one\r\n+two\r\n"]);
    let filter = asking("store", "", 5000, &[&["PING"]]);
    let answers = ask(with_store(server.address, BackendProtocol::Redis, filter));
    assert_eq!(answers, [replied("+one\r\n"), replied("+one\r\n")]);
    assert_eq!(server.opened(), 2);
}

#[test]
fn a_command_without_a_reply_fails_in_time_and_so_do_those_behind_it() {
    let silent = canned(&[]);
    let filter = asking("store", "", 50, &[&["PING"], &["PING"]]);
    let answers = ask(with_store(silent.address, BackendProtocol::Redis, filter));
    assert_eq!(answers, [failed(), failed()]);
    assert_eq!(silent.opened(), 2);
}

#[test]
fn a_backend_that_is_no_redis_gets_no_commands_and_a_redis_no_requests() {
    let upstream = Upstream::echo();
    let filter = asking("store", "", 5000, &[&["PING"]]);
    let answers = ask(with_store(upstream.address, BackendProtocol::Http, filter));
    assert_eq!(answers, [failed()]);
    assert_eq!(upstream.pending(), 0);
    let proxy = start(snapshot(BackendProtocol::Redis, upstream.address, |_| {}));
    let status = runtime().block_on(async { Client::http1(address(&proxy)).await.get("/").await });
    assert!(status.status.is_server_error() || status.status == 400, "{status:?}");
    assert_eq!(upstream.pending(), 0);
}
