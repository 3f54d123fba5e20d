//! A host for small guests: one engine, one plugin, one exchange, and services that write down what they are asked.

mod guest;
mod record;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, StatusCode};
use portcullis_vm::{
    Action, Attributes, ConnectionAttributes, ContextId, Effect, Engine, Fields, HttpStream,
    Limits, Module, Phase, Plugin, PluginSpec, RequestHead, ResponseHead, StreamKey, Streams, Trap,
};

pub use guest::{bare, wat};
pub use record::{Record, Recorder};

/// The engine of all tests, with a thread that ticks it.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let engine = Engine::new().unwrap();
        let ticking = engine.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Engine::TICK);
                ticking.tick();
            }
        });
        engine
    })
}

pub fn module(text: &str) -> Module {
    let bytes = ::wat::parse_str(text).unwrap_or_else(|problem| panic!("{problem}\n{text}"));
    Module::load(engine(), &bytes, None).unwrap()
}

pub fn spec() -> PluginSpec {
    PluginSpec {
        name: "default/tester".into(),
        root_id: "tester".to_owned(),
        vm_id: "vm-of-tester".to_owned(),
        vm_configuration: Bytes::from_static(b"vm settings"),
        configuration: Bytes::from_static(b"{\"plugin\":true}"),
        environment: vec![("MODE".to_owned(), "test".to_owned()), ("A".to_owned(), "1".to_owned())],
        limits: Limits {
            callback: Duration::from_millis(200),
            memory: 4 << 20,
            ..Limits::default()
        },
        allow_on_headers_stop_iteration: false,
    }
}

/// With as much room for more as whoever reads a head leaves.
pub fn headers(pairs: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::with_capacity(16, 512);
    for (name, value) in pairs {
        fields.append(name, value).unwrap();
    }
    fields
}

pub fn attributes() -> Attributes {
    let connection = ConnectionAttributes {
        id: 7,
        peer: "192.0.2.1:4000".parse().unwrap(),
        local: "127.0.0.1:8080".parse().unwrap(),
        tls: None,
    };
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Attributes {
        client: "203.0.113.9:55000".parse().unwrap(),
        listener_direction: 1,
        protocol: "HTTP/1.1",
        request_bytes: 5,
        route_name: Some("route-a".into()),
        virtual_host: Some("*.example.com".into()),
        listener: Some("web".into()),
        ..Attributes::new(Arc::new(connection), started)
    }
}

pub fn stream() -> Box<HttpStream> {
    let request = RequestHead {
        method: Method::GET,
        scheme: Bytes::from_static(b"http"),
        authority: Bytes::from_static(b"example.com"),
        path: Bytes::from_static(b"/some/path?q=1"),
        headers: headers(&[
            ("x-one", "1"),
            ("x-two", "first"),
            ("x-two", "second"),
            ("x-empty", ""),
        ]),
    };
    Box::new(HttpStream::new(request, attributes()))
}

pub fn response(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: headers(fields) }
}

/// One plugin and one exchange.
pub struct Host {
    pub plugin: Plugin,
    pub streams: Streams,
    pub key: StreamKey,
    pub context: ContextId,
    pub record: Arc<Record>,
}

impl Host {
    /// A guest made of `body`, see [`wat`].
    pub fn new(body: &str) -> Host {
        Host::start(&wat(body), spec()).unwrap()
    }

    /// A guest of that text, started, with an exchange that it knows of.
    pub fn start(text: &str, spec: PluginSpec) -> Result<Host, Trap> {
        Host::start_with(Record::default(), text, spec)
    }

    pub fn start_with(record: Record, text: &str, spec: PluginSpec) -> Result<Host, Trap> {
        let record = Arc::new(record);
        let services = Box::new(Recorder(record.clone()));
        let mut plugin = Plugin::start(&module(text), Arc::new(spec), services)?;
        let mut streams = Streams::default();
        let key = streams.insert(stream());
        let context = plugin.create_context(&mut streams, key)?;
        Ok(Host { plugin, streams, key, context, record })
    }

    pub fn stream(&mut self) -> &mut HttpStream {
        self.streams.get_mut(self.key).unwrap()
    }

    pub fn run(&mut self, phase: Phase) -> Result<Action, Trap> {
        self.plugin.run(&mut self.streams, self.context, phase, false)
    }

    pub fn run_last(&mut self, phase: Phase) -> Result<Action, Trap> {
        self.plugin.run(&mut self.streams, self.context, phase, true)
    }

    /// Takes what the guest logged so far.
    pub fn said(&self) -> Vec<String> {
        self.record.take_log().into_iter().map(|(_, _, message)| message).collect()
    }

    pub fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.plugin.next_effect()).collect()
    }

    pub fn header(&mut self, name: &str) -> Vec<String> {
        let values = self.stream().request.headers.get_all(name);
        values.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

/// Runs `code` as the request-headers callback and compares what it logs.
pub fn check(code: &str, said: &[&str]) -> Host {
    let mut host = Host::new(&callback(code));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), said, "{code}");
    host
}

/// A request-headers callback that runs `code` and answers Continue.
pub fn callback(code: &str) -> String {
    format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {code} (i32.const 0))"#
    )
}

/// Reads a property and keeps its bytes where the test can see them.
pub fn keep(path: &str) -> String {
    callback(&format!(
        r#"(call $say32 (call $proxy_get_property "{path}"S OUT))
           (drop (call $proxy_set_property "kept"S (i32.load (i32.const 16)) (i32.load (i32.const 20))))"#
    ))
}

/// The serialized form of a map, as text for a guest.
pub fn pairs(entries: &[(&str, &str)]) -> String {
    let mut bytes = (entries.len() as u32).to_le_bytes().to_vec();
    for (key, value) in entries {
        bytes.extend((key.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
    }
    for (key, value) in entries {
        bytes.extend([key.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    escape(&bytes)
}

/// Any bytes, as text for a guest.
pub fn escape(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
