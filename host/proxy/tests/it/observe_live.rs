//! What others can see of a running proxy: the same exchange in the access log, the metrics and the status.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use portcullis_proxy::observe::FilterState;
use portcullis_proxy::snapshot::{
    AccessLog, AllowCalls, BackendProtocol, FailStrategy, Filter, Isolation,
};
use portcullis_proxy::{Proxy, Snapshot};
use portcullis_vm::{LogLevel, Module, Node, PluginSpec};
use serde_json::Value;

use crate::guests;
use crate::harness::{self, Client, PATIENCE, Upstream};

/// A filter whose every exchange ends in a trap.
const BROKEN: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable))"#;

fn filter(text: &str, fail: FailStrategy) -> Arc<Filter> {
    let bytes = wat::parse_str(text).unwrap();
    let name: Arc<str> = "default/broken".into();
    Arc::new(Filter {
        url: "file://broken.wasm".to_owned(),
        module: Arc::new(Module::load(&harness::engine(), &bytes, None).unwrap()),
        plugin: Arc::new(PluginSpec {
            name: Arc::clone(&name),
            root_id: String::new(),
            vm_id: name.to_string(),
            vm_configuration: Bytes::new(),
            configuration: Bytes::new(),
            environment: Vec::new(),
            limits: Default::default(),
            allow_on_headers_stop_iteration: false,
        }),
        name,
        fail,
        isolation: Isolation::Shared,
        allow_calls: AllowCalls::Everything,
        log_level: LogLevel::Info,
        node: Arc::default(),
    })
}

struct World {
    proxy: Proxy,
    folder: tempfile::TempDir,
    _upstream: Upstream,
}

fn start(filters: Vec<Arc<Filter>>) -> World {
    start_with(filters, AccessLog::default())
}

fn start_with(filters: Vec<Arc<Filter>>, access_log: AccessLog) -> World {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::echo();
    let mut listener = harness::listener("web");
    listener.filters = (0..filters.len()).collect();
    let proxy = harness::start(Snapshot {
        listeners: vec![Arc::new(listener)],
        filters,
        access_log: Some(AccessLog {
            path: folder.path().join("log").to_str().unwrap().to_owned(),
            ..access_log
        }),
        ..harness::simple(BackendProtocol::Http, &upstream)
    });
    World { proxy, folder, _upstream: upstream }
}

impl World {
    fn get(&self, path: &str) -> u16 {
        harness::runtime().block_on(async {
            let mut client = Client::http1(harness::address(&self.proxy)).await;
            client.get(path).await.status.as_u16()
        })
    }

    /// Everything that was logged until the proxy had drained.
    fn log(&self) -> Vec<Value> {
        assert!(self.proxy.drain(Duration::ZERO, PATIENCE));
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn an_exchange_is_logged_and_counted_with_what_became_of_it() {
    let world = start(Vec::new());
    assert_eq!(world.get("/a?b"), 200);
    let log = world.log();
    assert_eq!(log.len(), 1, "{log:?}");
    let check = |field: &str, expected: Value| assert_eq!(log[0][field], expected, "{field}");
    check("method", "GET".into());
    check("path", "/a?b".into());
    check("authority", "app.test".into());
    check("protocol", "HTTP/1.1".into());
    check("response_code", 200.into());
    check("response_flags", "-".into());
    check("response_code_details", "via_upstream".into());
    check("bytes_sent", 8.into());
    check("upstream_cluster", "default/app".into());
    check("upstream_request_attempt_count", 1.into());
    check("route_name", "default/route/0".into());
    check("listener_name", "web".into());
    check("generation", 1.into());
    check("portcullis_code", Value::Null);
    assert!(log[0]["request_id"].is_string() && log[0]["upstream_host"].is_string(), "{log:?}");
    let counted = concat!(
        "portcullis_requests_total{listener=\"web\",route=\"default/route/0\",",
        "backend=\"default/app\",code=\"200\",flags=\"-\"} 1\n",
    );
    assert!(world.proxy.metrics().contains(counted), "{}", world.proxy.metrics());
}

#[test]
fn a_filter_that_keeps_trapping_is_suspended_and_everything_says_so() {
    let world = start(vec![filter(BROKEN, FailStrategy::Close)]);
    let deadline = Instant::now() + PATIENCE;
    let mut requests = 0;
    let status = loop {
        assert_eq!(world.get("/"), 503);
        requests += 1;
        let status = world.proxy.status();
        if status.filters[0].state == FilterState::Suspended {
            break status;
        }
        assert!(Instant::now() < deadline, "{status:?}");
    };
    let filter = &status.filters[0];
    assert_eq!(filter.traps.iter().collect::<Vec<_>>(), [(&"trap", &5)]);
    let last = filter.last_trap.as_ref().unwrap();
    assert_eq!(last.reason, "trap");
    assert!(last.message.contains("proxy_on_request_headers"), "{}", last.message);
    assert!(filter.suspended_until > Some(last.time.clone()), "{filter:?}");
    assert_eq!(filter.digest.len(), 64);

    let metrics = world.proxy.metrics();
    let traps = "portcullis_filter_traps_total{filter=\"default/broken\",reason=\"trap\"} 5\n";
    assert!(metrics.contains(traps), "{metrics}");
    let log = world.log();
    assert_eq!(log.len(), requests);
    for line in &log {
        assert_eq!(line["filters"][0]["filter"], "default/broken", "{line}");
        assert_eq!(line["filters"][0]["verdict"], "failed", "{line}");
        assert_eq!(line["portcullis_code"], "P0707", "{line}");
    }
}

#[test]
fn a_filter_that_may_fail_open_is_skipped_and_the_log_says_so() {
    let world = start(vec![filter(BROKEN, FailStrategy::Open)]);
    assert_eq!(world.get("/"), 200);
    let log = world.log();
    assert_eq!(log[0]["filters"][0]["verdict"], "skipped", "{log:?}");
    assert_eq!(log[0]["response_code"], 200);
}

#[test]
fn a_filter_counts_the_exchanges_that_it_saw() {
    let world = start(vec![Arc::new(guests::marker("marker", "seen"))]);
    assert_eq!((world.get("/"), world.get("/")), (200, 200));
    assert_eq!(world.proxy.status().filters[0].exchanges, 2);
    let metrics = world.proxy.metrics();
    let counted = "portcullis_filter_exchanges_total{filter=\"default/marker\"} 2\n";
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn the_text_of_all_metrics_has_each_family_once() {
    let world = start(vec![filter(BROKEN, FailStrategy::Open)]);
    assert_eq!(world.get("/"), 200);
    let text = world.proxy.metrics();
    assert!(text.contains("# TYPE portcullis_filter_instances gauge\n"), "{text}");
    let mut types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let before = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), before, "{text}");
}

#[test]
fn what_a_filter_stores_decides_and_fills_the_access_log() {
    let storing = guests::filter(
        "storing",
        &[("k", "tier"), ("v", "gold"), ("c", "cost"), ("n", "7")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $set_property $k$ $v$)) (i32.const 0))
           (func (export "proxy_on_log") (param i32) (drop (call $set_property $c$ $n$)))"#,
    );
    let fields = [("tier", "wasm.tier"), ("cost", "int(filter_state['wasm.cost']) * 2")];
    let settings = AccessLog {
        filter: Some("wasm.tier == 'gold' && request.url_path != '/quiet'".to_owned()),
        fields: fields.map(|(name, source)| (name.to_owned(), source.to_owned())).into(),
        ..AccessLog::default()
    };
    let world = start_with(vec![Arc::new(storing)], settings);
    assert_eq!((world.get("/quiet"), world.get("/loud")), (200, 200));
    let log = world.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0]["path"], "/loud");
    assert_eq!(log[0]["fields"], serde_json::json!({"tier": "gold", "cost": 14}));
}

#[test]
fn a_filter_that_floods_metrics_is_bounded_and_its_status_says_so() {
    let mut flooding = guests::filter(
        "flooding",
        &[("m", "flood{n=\"00000\"}")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (local $n i32)
             (loop $next
               (call $digits (local.get $n) (i32.const 29))
               (drop (call $define (i32.const 0) $m$ (i32.const 4)))
               (drop (call $increment (i32.load (i32.const 4)) (i64.const 1)))
               (local.set $n (i32.add (local.get $n) (i32.const 1)))
               (br_if $next (i32.lt_u (local.get $n) (i32.const 1500))))
             (i32.const 0))
           (func $digits (param $n i32) (param $at i32)
             (loop $digit
               (i32.store8 (local.get $at)
                 (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
               (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
               (local.set $at (i32.sub (local.get $at) (i32.const 1)))
               (br_if $digit (local.get $n))))"#,
    );
    Arc::make_mut(&mut flooding.plugin).limits.callback = Duration::from_secs(5);
    let world = start(vec![Arc::new(flooding)]);
    assert_eq!(world.get("/"), 200);
    assert_eq!(world.proxy.status().filters[0].metrics_refused, Some(500));
    let metrics = world.proxy.metrics();
    let first = "wasmcustom_flood{filter=\"default/flooding\",n=\"00000\"} 1\n";
    let folded = "wasmcustom_flood{filter=\"default/flooding\",overflow=\"true\"} 500\n";
    assert!(metrics.contains(first) && metrics.contains(folded), "{metrics}");
}

#[test]
fn a_filter_sees_in_the_log_phase_how_the_exchange_went() {
    let paths = [
        ("host", "xds\0virtual_host_name"),
        ("listener", "xds\0filter_chain_name"),
        ("backend", "xds\0cluster_name"),
        ("node", "node\0id"),
        ("attempts", "upstream\0request_attempt_count"),
        ("endpoints", "upstream\0num_endpoints"),
        ("waited", "upstream\0cx_pool_ready_duration"),
        ("latency", "response\0backend_latency"),
        ("trouble", "upstream\0transport_failure_reason"),
    ];
    let names: Vec<_> = (0..paths.len()).map(|at| (format!("p{at}"), format!("n{at}"))).collect();
    let mut strings = Vec::new();
    let mut body = String::new();
    for ((name, path), (p, n)) in paths.iter().zip(&names) {
        strings.extend([(p.as_str(), *path), (n.as_str(), *name)]);
        body += &format!(
            "(if (i32.eqz (call $get_property ${p}$ (i32.const 0) (i32.const 4))) (then
               (drop (call $set_property ${n}$ (i32.load (i32.const 0)) (i32.load (i32.const 4))))))"
        );
    }
    let body = format!(r#"(func (export "proxy_on_log") (param i32) {body})"#);
    let mut noting = guests::filter("noting", &strings, &body);
    let (name, namespace) = ("web".to_owned(), "shop".to_owned());
    noting.node = Arc::new(Node { name, namespace, ..Node::default() });
    let field = |(name, _): &(&str, &str)| ((*name).to_owned(), format!("wasm.{name}"));
    let fields = paths.iter().map(field).collect();
    let world = start_with(vec![Arc::new(noting)], AccessLog { fields, ..AccessLog::default() });
    assert_eq!(world.get("/"), 200);
    let log = world.log();
    let noted = &log[0]["fields"];
    for (name, expected) in [
        ("host", "*"),
        ("listener", "web"),
        ("backend", "default/app"),
        ("node", "shop/web"),
        ("attempts", "\u{1}\0\0\0\0\0\0\0"),
        ("endpoints", "\u{1}\0\0\0\0\0\0\0"),
        ("trouble", ""),
    ] {
        assert_eq!(noted[name], expected, "{noted}");
    }
    assert!(noted["waited"].is_string() && noted["latency"].is_string(), "{noted}");
}
