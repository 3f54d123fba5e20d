//! TCP streams: their callbacks, their bytes, what a guest may ask of them, and their end.

use bytes::Bytes;
use portcullis_vm::{
    Action, Buffer, ContextId, Direction, Effect, Peer, Phase, Streams, TcpStream, Trap,
};

use crate::host::{Host, attributes};

/// One plugin and one connection.
struct Tcp {
    host: Host,
    key: portcullis_vm::StreamKey,
    context: ContextId,
}

impl Tcp {
    fn new(body: &str) -> Tcp {
        let mut host = Host::new(body);
        let key = host.streams.insert(Box::new(TcpStream::new(attributes())));
        let context = host.plugin.create_context(&mut host.streams, key).unwrap();
        host.said();
        Tcp { host, key, context }
    }

    fn stream(&mut self) -> &mut TcpStream {
        self.host.streams.tcp_mut(self.key).unwrap()
    }

    fn run(&mut self, phase: Phase, end: bool) -> Result<Action, Trap> {
        self.host.plugin.run(&mut self.host.streams, self.context, phase, end)
    }

    fn lend(&mut self, direction: Direction, bytes: &'static str) {
        *self.stream().data_mut(direction) =
            Some(Buffer::from(Bytes::from_static(bytes.as_bytes())));
    }

    fn take(&mut self, direction: Direction) -> String {
        let mut text = Vec::new();
        let data = self.stream().data_mut(direction).take().unwrap();
        data.read(0, usize::MAX, |run| text.extend_from_slice(run));
        String::from_utf8(text).unwrap()
    }
}

/// A callback of a data phase that runs `code` and answers `answer`.
fn data(which: &str, code: &str, answer: u32) -> String {
    format!(
        r#"(func (export "proxy_on_{which}_data") (param $context i32) (param $size i32) (param $end i32) (result i32)
             {code} (i32.const {answer}))"#
    )
}

#[test]
fn a_guest_hears_of_a_connection_its_bytes_and_its_ends() {
    let log = "(call $say32 (local.get 0)) (call $say32 (local.get 1)) (call $say32 (local.get 2))";
    let mut tcp = Tcp::new(&format!(
        r#"(func (export "proxy_on_new_connection") (param i32) (result i32) (call $say "new"S) (i32.const 1))
           {} {}
           (func (export "proxy_on_downstream_connection_close") (param i32 i32) (call $say "client"S) (call $say32 (local.get 1)))
           (func (export "proxy_on_upstream_connection_close") (param i32 i32) (call $say "upstream"S) (call $say32 (local.get 1)))
           (func (export "proxy_on_done") (param i32) (result i32) (call $say "done"S) (i32.const 1))
           (func (export "proxy_on_log") (param i32) (call $say "log"S))
           (func (export "proxy_on_delete") (param i32) (call $say "delete"S))"#,
        data("downstream", log, 0),
        data("upstream", log, 1),
    ));
    assert_eq!(tcp.run(Phase::NewConnection, false).unwrap(), Action::PauseWatermark);
    tcp.lend(Direction::Request, "hello");
    assert_eq!(tcp.run(Phase::DownstreamData, false).unwrap(), Action::Continue);
    tcp.lend(Direction::Response, "hi");
    assert_eq!(tcp.run(Phase::UpstreamData, true).unwrap(), Action::PauseWatermark);
    assert_eq!(tcp.host.said(), ["new", "3", "5", "0", "3", "2", "1"]);
    let Tcp { host, context, .. } = &mut tcp;
    let Host { plugin, streams, .. } = host;
    plugin.closed(streams, *context, Direction::Response, Peer::Remote).unwrap();
    plugin.closed(streams, *context, Direction::Request, Peer::Local).unwrap();
    plugin.finish(streams, *context).unwrap();
    assert_eq!(host.said(), ["upstream", "2", "client", "1", "done", "log", "delete"]);
}

#[test]
fn a_guest_reads_and_changes_the_bytes_at_hand() {
    let mut tcp = Tcp::new(&data(
        "downstream",
        r#"(call $say32 (call $proxy_get_buffer_bytes (i32.const 2) (i32.const 0) (i32.const 0xFFFFFFFF) OUT))
           (call $say_out)
           (call $say32 (call $proxy_set_buffer_bytes (i32.const 2) (i32.const 0) (i32.const 4) "pass"S))
           (call $say32 (call $proxy_set_buffer_bytes (i32.const 3) (i32.const 0) (i32.const 0) "x"S))"#,
        0,
    ));
    tcp.lend(Direction::Request, "send me");
    tcp.run(Phase::DownstreamData, false).unwrap();
    let said: Vec<_> =
        tcp.host.said().into_iter().filter(|line| !line.contains("ignored")).collect();
    assert_eq!(said, ["0", "send me", "0", "0"]);
    assert_eq!(tcp.host.record.violations(), ["proxy_set_buffer_bytes"]);
    assert_eq!(tcp.take(Direction::Request), "pass me");
    assert!(tcp.stream().upstream.is_none());
}

#[test]
fn a_guest_resumes_and_closes_connections_and_nothing_of_http() {
    let calls = ["proxy_continue_stream", "proxy_close_stream"];
    let all: String = calls
        .iter()
        .flat_map(|call| {
            (0..4).map(move |stream| format!("(call $say32 (call ${call} (i32.const {stream})))"))
        })
        .collect();
    let mut tcp = Tcp::new(&data("downstream", &all, 0));
    tcp.lend(Direction::Request, "");
    tcp.run(Phase::DownstreamData, false).unwrap();
    assert_eq!(tcp.host.said().iter().filter(|line| *line == "0").count(), 8);
    assert_eq!(tcp.host.record.violations().len(), 4);
    let key = tcp.key;
    assert!(matches!(
        tcp.host.effects()[..],
        [
            Effect::Continue(first, Direction::Request),
            Effect::Continue(second, Direction::Response),
            Effect::Close(third),
            Effect::Close(fourth)
        ] if [first, second, third, fourth] == [key; 4]
    ));
}

#[test]
fn a_connection_has_no_headers_no_body_and_no_reply() {
    let mut tcp = Tcp::new(&data(
        "downstream",
        r#"(call $say32 (call $proxy_send_local_response (i32.const 403) "d"S "b"S (i32.const 0) (i32.const 0) (i32.const -1)))
           (call $say32 (call $proxy_get_header_map_value (i32.const 0) ":path"S OUT))
           (call $say32 (call $proxy_add_header_map_value (i32.const 0) "a"S "b"S))
           (call $say32 (call $proxy_get_header_map_pairs (i32.const 0) OUT))
           (call $say32 (call $proxy_set_buffer_bytes (i32.const 0) (i32.const 0) (i32.const 0) "x"S))"#,
        0,
    ));
    tcp.lend(Direction::Request, "bytes");
    tcp.run(Phase::DownstreamData, false).unwrap();
    let said = tcp.host.said();
    let numbers: Vec<_> = said.iter().filter(|line| line.len() == 1).collect();
    assert_eq!(numbers, ["0", "1", "0", "0", "0"], "{said:?}");
    assert!(tcp.host.effects().is_empty());
    assert_eq!(tcp.take(Direction::Request), "bytes");
}

#[test]
fn a_connection_has_the_attributes_that_need_no_request() {
    let cases = [
        ("source\\00address", "0", "203.0.113.9:55000"),
        ("destination\\00address", "0", "127.0.0.1:8080"),
        ("xds\\00route_name", "0", "route-a"),
        ("connection\\00id", "0", "\u{7}\0\0\0\0\0\0\0"),
        ("request\\00size", "0", "\u{5}\0\0\0\0\0\0\0"),
        ("request\\00path", "1", ""),
        ("response\\00code", "1", ""),
    ];
    for (path, status, value) in cases {
        let code = format!(
            r#"(call $say32 (call $proxy_get_property "{path}"S OUT)) (call $say_out)
               (drop (call $proxy_set_property "mine"S "kept"S))"#
        );
        let mut tcp = Tcp::new(&data("downstream", &code, 0));
        tcp.run(Phase::DownstreamData, false).unwrap();
        assert_eq!(tcp.host.said(), [status, value], "{path}");
    }
}

#[test]
fn a_callout_of_a_connection_finds_its_bytes_again() {
    let mut tcp = Tcp::new(&format!(
        r#"{}
           (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
             (call $say32 (call $proxy_set_effective_context (i32.const 3)))
             (call $say32 (call $proxy_set_buffer_bytes (i32.const 2) (i32.const 0) (i32.const 0) "> "S))
             (call $say32 (call $proxy_continue_stream (i32.const 2))))"#,
        data(
            "downstream",
            &format!(
                r#"(call $say32 (call $proxy_http_call "backend"S "{}"S (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 100) (i32.const 16)))"#,
                crate::host::pairs(&[(":method", "GET"), (":path", "/"), (":authority", "a")])
            ),
            1,
        ),
    ));
    tcp.lend(Direction::Request, "asked");
    tcp.run(Phase::DownstreamData, false).unwrap();
    let effects = tcp.host.effects();
    let [Effect::HttpCall(call)] = &effects[..] else { panic!("{effects:?}") };
    let Host { plugin, streams, .. } = &mut tcp.host;
    plugin.http_call_response(streams, call.id, portcullis_vm::CallOutcome::Failed).unwrap();
    assert_eq!(tcp.host.said(), ["0", "0", "0", "0"]);
    assert!(matches!(tcp.host.effects()[..], [Effect::Continue(_, Direction::Request)]));
    assert_eq!(tcp.take(Direction::Request), "> asked");
}

#[test]
fn a_stream_is_of_one_kind() {
    let mut streams = Streams::default();
    let tcp = streams.insert(Box::new(TcpStream::new(attributes())));
    let http = streams.insert(crate::host::stream());
    assert!(streams.get(tcp).is_none() && streams.tcp(tcp).is_some());
    assert!(streams.get(http).is_some() && streams.tcp(http).is_none());
    assert_ne!(tcp, http);
}
