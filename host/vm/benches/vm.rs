//! What the vm costs, one thing at a time: `cargo bench -p portcullis-vm`, with a word behind it only what has that word
//! in its name. Host calls are made in a loop by a guest, so that their figures are those of one call, loop included.
//! The allocator is the program's; the services are those of the tests: a mutex and a map where the proxy has atomics and
//! shards.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a measurement fails by panicking")]

#[allow(dead_code, unused_imports, reason = "made for the tests, which need more of it")]
#[path = "../tests/it/host/mod.rs"]
mod host;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use portcullis_vm::{Buffer, Cache, Module, Phase, Plugin};

use host::{Host, Record, Recorder, callback, engine, pairs, response, spec, stream, wat};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A host call, and how often a guest makes it in one callback.
struct HostCall {
    name: &'static str,
    calls: u64,
    phase: Phase,
    /// Before the loop.
    first: String,
    code: String,
}

/// A call that succeeds.
fn call(name: &'static str, call: &str) -> HostCall {
    HostCall {
        name,
        calls: 1000,
        phase: Phase::RequestHeaders,
        first: String::new(),
        code: format!("(if {call} (then unreachable))"),
    }
}

/// A call that finds nothing.
fn absent(name: &'static str, code: &str) -> HostCall {
    call(name, &format!("(i32.eqz {code})"))
}

fn headers() -> Vec<HostCall> {
    let get =
        |name: &str| format!(r#"(call $proxy_get_header_map_value (i32.const 0) "{name}"S OUT)"#);
    let write = |function: &str, name: &str| {
        format!(r#"(call ${function}_header_map_value (i32.const 0) "{name}"S "value"S)"#)
    };
    let remove =
        |name: &str| format!(r#"(call $proxy_remove_header_map_value (i32.const 0) "{name}"S)"#);
    let both = format!("(i32.or {} {})", write("proxy_add", "x-new"), remove("x-new"));
    let map = pairs(&[(":path", "/set"), ("x-one", "1"), ("x-two", "2"), ("x-three", "3")]);
    let set = format!(r#"(call $proxy_set_header_map_pairs (i32.const 0) "{map}"S)"#);
    vec![
        call("get header", &get("x-one")),
        call("get :path", &get(":path")),
        absent("get absent header", &get("x-no")),
        call("get all headers", "(call $proxy_get_header_map_pairs (i32.const 0) OUT)"),
        call("replace header", &write("proxy_replace", "x-new")),
        call("add and remove header", &both),
        call("remove absent header", &remove("x-no")),
        call("set all headers", &set),
    ]
}

const BODY: usize = 4096;

/// On a body of [`BODY`] bytes.
fn buffers() -> Vec<HostCall> {
    let on_body = |call: HostCall| HostCall { phase: Phase::RequestBody, ..call };
    let get = "(call $proxy_get_buffer_bytes (i32.const 0) (i32.const 0) (i32.const -1) OUT)";
    let set = format!(
        "(call $proxy_set_buffer_bytes (i32.const 0)
            (i32.const 0) (i32.const -1) (i32.const 65536) (i32.const {BODY}))"
    );
    vec![on_body(call("get buffer of 4 KiB", get)), on_body(call("set buffer of 4 KiB", &set))]
}

fn properties() -> Vec<HostCall> {
    let get = |path: &str| format!(r#"(call $proxy_get_property "{path}"S OUT)"#);
    let set = r#"(call $proxy_set_property "stored"S "value"S)"#;
    vec![
        call("get property request.path", &get("request\\00path")),
        call("get property source.address", &get("source\\00address")),
        HostCall { first: format!("(drop {set})"), ..call("get stored property", &get("stored")) },
        absent("get property of nobody", &get("no\\00such")),
        call("set property", set),
    ]
}

fn shared() -> Vec<HostCall> {
    let define = r#"(drop (call $proxy_define_metric (i32.const 0) "calls"S (i32.const 24)))"#;
    let increment = "(call $proxy_increment_metric (i32.load (i32.const 24)) (i64.const 1))";
    let set = r#"(call $proxy_set_shared_data "key"S "value"S (i32.const 0))"#;
    let get = r#"(call $proxy_get_shared_data "key"S OUT (i32.const 28))"#;
    vec![
        HostCall { first: define.to_owned(), ..call("increment metric", increment) },
        call("set shared data", set),
        HostCall { first: format!("(drop {set})"), ..call("get shared data", get) },
    ]
}

fn others() -> Vec<HostCall> {
    let log =
        |level: u32| format!(r#"(call $proxy_log (i32.const {level}) "a line of a filter"S)"#);
    let clock = "(call $proxy_get_current_time_nanoseconds (i32.const 24))";
    let reply = r#"(call $proxy_send_local_response (i32.const 403) "denied"S "no entry"S
        (i32.const 0) (i32.const 0) (i32.const -1))"#;
    let head = pairs(&[(":method", "GET"), (":path", "/check"), (":authority", "auth")]);
    let http = format!(
        r#"(call $proxy_http_call "backend"S "{head}"S (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 24))"#
    );
    vec![
        call("clock", clock),
        call("log", &log(2)),
        call("log below the level", &log(1)),
        HostCall { calls: 1, ..call("local reply, with its callback", reply) },
        HostCall { calls: 100, ..call("http call", &http) },
    ]
}

impl HostCall {
    fn guest(&self) -> Host {
        let HostCall { calls, first, code, .. } = self;
        let looped = callback(&format!(
            r#"(local $left i32) {first} (local.set $left (i32.const {calls}))
               (loop $again (global.set $heap (i32.const 65536)) {code}
                 (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"#
        ));
        match self.phase {
            Phase::RequestBody => Host::new(&looped.replace("request_headers", "request_body")),
            _ => Host::new(&looped),
        }
    }

    /// Time for so many calls. Each callback has a context of its own, and what it leaves behind is cleared away.
    fn time(&self, host: &mut Host, calls: u64) -> Duration {
        let callbacks = calls.div_ceil(self.calls);
        let mut spent = Duration::ZERO;
        for _ in 0..callbacks {
            let mut fresh = stream();
            fresh.request_body = Buffer::from(bytes::Bytes::from(vec![b'b'; BODY]));
            *host.stream() = *fresh;
            host.context = host.plugin.create_context(&mut host.streams, host.key).unwrap();
            let begun = Instant::now();
            host.run(self.phase).unwrap();
            spent += begun.elapsed();
            host.plugin.finish(&mut host.streams, host.context).unwrap();
            host.plugin.fail_calls(&mut host.streams).unwrap();
            host.effects();
            host.said();
        }
        spent.mul_f64(calls as f64 / (callbacks * self.calls) as f64)
    }
}

fn host_calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("host call");
    for call in [headers(), buffers(), properties(), shared(), others()].into_iter().flatten() {
        let mut host = call.guest();
        group.bench_function(call.name, |bencher| {
            bencher.iter_custom(|calls| call.time(&mut host, calls));
        });
    }
}

/// Sets a header each way, and has every callback that the Rust SDK exports.
fn small() -> String {
    let set = |map: u32| {
        format!(
            r#"(drop (call $proxy_replace_header_map_value (i32.const {map}) "x-filter"S "seen"S))"#
        )
    };
    callback(&set(0))
        + &callback(&set(2)).replace("request_headers", "response_headers")
        + r#"(func (export "proxy_on_context_create") (param i32 i32))
             (func (export "proxy_on_log") (param i32))
             (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
             (func (export "proxy_on_delete") (param i32))"#
}

fn streams(criterion: &mut Criterion) {
    let mut host = Host::new(&callback(""));
    criterion.bench_function("callback that does nothing", |bencher| {
        bencher.iter(|| host.run(Phase::RequestHeaders).unwrap());
    });
    let mut host = Host::new(&small());
    criterion.bench_function("life of a stream", |bencher| {
        let prepare = || (stream(), response(200, &[("server", "backend")]));
        let live = |(stream, response)| {
            let key = host.streams.insert(stream);
            let context = host.plugin.create_context(&mut host.streams, key).unwrap();
            host.plugin.run(&mut host.streams, context, Phase::RequestHeaders, true).unwrap();
            host.streams.get_mut(key).unwrap().response = Some(response);
            host.plugin.run(&mut host.streams, context, Phase::ResponseHeaders, true).unwrap();
            host.plugin.finish(&mut host.streams, context).unwrap();
            host.streams.remove(key)
        };
        bencher.iter_batched(prepare, live, BatchSize::SmallInput);
    });
}

/// A guest with as much code as a filter in Rust has, of which little runs.
fn large() -> Vec<u8> {
    let sum = "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 12345)) (local.get 0)))";
    let unused = format!("(func (param i32) (result i32) {} (local.get 0))", sum.repeat(20));
    ::wat::parse_str(wat(&(small() + &unused.repeat(730)))).unwrap()
}

fn modules(criterion: &mut Criterion) {
    let bytes = large();
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("modules")).unwrap();
    let module = Module::load(engine(), &bytes, Some(&cache)).unwrap();
    criterion.bench_function("load a module of 180 KB from the cache", |bencher| {
        bencher.iter_with_large_drop(|| {
            let module = Module::load(engine(), &bytes, Some(&cache)).unwrap();
            assert!(module.from_cache());
            module
        });
    });
    let spec = Arc::new(spec());
    criterion.bench_function("make an instance and start it", |bencher| {
        bencher.iter_with_large_drop(|| {
            let services = Box::new(Recorder(Arc::new(Record::default())));
            black_box(Plugin::start(&module, spec.clone(), services).unwrap())
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .without_plots();
    targets = streams, host_calls, modules
}
criterion_main!(benches);
