//! A module built with the stock SDK runs unchanged, in both flavours of Wasm.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use portcullis_build::{Options, Target, build};
use portcullis_proxy::snapshot::{AllowCalls, BackendProtocol, FailStrategy, Filter, Isolation};
use portcullis_vm::{Limits, LogLevel, Module, PluginSpec};

use crate::harness::{Client, Upstream, address, engine, request, runtime, simple, start};

/// A guest of `conformance/guests`, with this configuration.
fn stock(guest: &str, target: Target, configuration: &'static str) -> Filter {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut options = Options::new(root.join("conformance/guests").join(guest));
    options.target = target;
    options.target_dir = Some(root.join("target/wasm"));
    let built = build(&options, &mut |step| println!("{step}")).unwrap();
    let bytes = std::fs::read(built.path).unwrap();
    let name: Arc<str> = format!("default/{guest}").into();
    Filter {
        url: format!("file://{guest}.wasm"),
        module: Arc::new(Module::load(&engine(), &bytes, None).unwrap()),
        plugin: Arc::new(PluginSpec {
            name: name.clone(),
            root_id: String::new(),
            vm_id: target.triple().to_owned(),
            vm_configuration: Bytes::new(),
            configuration: Bytes::from_static(configuration.as_bytes()),
            environment: Vec::new(),
            limits: Limits::default(),
            allow_on_headers_stop_iteration: false,
        }),
        name,
        fail: FailStrategy::Close,
        isolation: Isolation::Shared,
        allow_calls: AllowCalls::Everything,
        log_level: LogLevel::Info,
        node: Arc::default(),
    }
}

#[test]
fn a_module_on_the_stock_sdk_runs_unchanged() {
    for target in [Target::Wasip1, Target::Unknown] {
        let upstream = Upstream::echo();
        let mut snapshot = simple(BackendProtocol::Http, &upstream);
        snapshot.filters = vec![Arc::new(stock("stock", target, "hello"))];
        Arc::make_mut(&mut snapshot.listeners[0]).filters = vec![0];
        let proxy = start(snapshot);
        runtime().block_on(async {
            let mut client = Client::http1(address(&proxy)).await;
            let body = Full::from(Bytes::from_static(b"quiet"));
            let answer = client.send(request("POST", "/a?b").body(body).unwrap()).await;
            assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"QUIET"[..]));
            assert_eq!(answer.headers["x-path"], "/a?b");
            assert_eq!(upstream.next().head.headers["x-greeting"], "hello");
            let denied = request("GET", "/").header("x-deny", "1").body(Full::default()).unwrap();
            let answer = client.send(denied).await;
            assert_eq!((answer.status.as_u16(), &*answer.body), (403, &b"denied"[..]));
            assert_eq!(answer.headers["x-by"], "stock");
            while client.get("/").await.headers["x-ticked"] != "yes" {}
        });
        assert!(proxy.metrics().contains("stock_requests"), "{}", proxy.metrics());
    }
}

#[test]
fn a_network_filter_on_the_stock_sdk_runs_unchanged() {
    let upstream = crate::tcp::echo();
    for target in [Target::Wasip1, Target::Unknown] {
        let proxy = start(crate::tcp::snapshot(upstream, vec![stock("stock", target, "bytes")]));
        let mut client = crate::tcp::connect(&proxy);
        for part in ["Quiet ", "Line\n"] {
            client.write_all(part.as_bytes()).unwrap();
        }
        assert_eq!(crate::tcp::take(&mut client, 11), "quiet line\n");
        client.write_all(b"close").unwrap();
        assert_eq!(crate::tcp::rest(&mut client), "");
        crate::tcp::until_metric(&proxy, r#"wasmcustom_stock_bytes{filter="default/stock"} 16"#);
        let metrics = proxy.metrics();
        assert!(
            !metrics.contains("portcullis_filter_traps_total{filter=\"default/stock\""),
            "{metrics}"
        );
    }
}

#[test]
fn a_module_on_the_stock_sdk_calls_foreign_functions() {
    let expression = "request.headers['x-who'] + ' asked ' + request.method";
    let upstream = Upstream::echo();
    let mut snapshot = simple(BackendProtocol::Http, &upstream);
    snapshot.filters = vec![Arc::new(stock("foreign", Target::Wasip1, expression))];
    Arc::make_mut(&mut snapshot.listeners[0]).filters = vec![0];
    let proxy = start(snapshot);
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        let get = request("GET", "/").header("x-who", "somebody").body(Full::default()).unwrap();
        let answer = client.send(get).await;
        let cases = [
            ("x-evaluated", "somebody asked GET"),
            ("x-compressed", "true"),
            ("x-corrupt", "SerializationFailure"),
            ("x-syntax", "BadArgument"),
            ("x-token", "NotFound"),
            ("x-key", "BadArgument"),
            ("x-failure", "BadArgument"),
            ("x-unknown", "NotFound"),
        ];
        for (name, expected) in cases {
            assert_eq!(answer.headers[name], expected, "{name}");
        }
        // The second request meets an instance that is still alive and still has the expression.
        let answer = client.get("/").await;
        assert_eq!(answer.headers["x-evaluated"], "InternalFailure");
    });
    let seen = upstream.next().head.headers;
    assert_eq!((&seen["x-state"], &seen["x-clear"]), (&"".parse().unwrap(), &"".parse().unwrap()));
}
