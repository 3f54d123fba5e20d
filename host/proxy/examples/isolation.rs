//! What `isolation` costs with a module, on this machine, with one worker, client and upstream in the same process:
//!
//! ```sh
//! cargo run [--release] -p portcullis-proxy --example isolation -- FILTER.wasm [CONFIGURATION]
//! ```

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use portcullis_proxy::snapshot::*;
use portcullis_proxy::{Proxy, Snapshot};
use portcullis_vm::{Limits, LogLevel, Module, PluginSpec};
use tokio::sync::Semaphore;

use harness::{Client, Upstream, address, listener, runtime, simple, start};

#[allow(dead_code, reason = "made for the tests, which need more of it")]
#[path = "../tests/it/harness.rs"]
mod harness;

/// Exchanges that are in flight at once.
const FLIGHT: usize = 400;
/// Exchanges one after the other.
const RUN: usize = 20_000;

struct Measured {
    name: &'static str,
    /// The middle one of [`RUN`].
    exchange: Duration,
    /// Until [`FLIGHT`] exchanges, begun at once, have passed the filter's request head.
    flight: Duration,
    /// Resident, with [`FLIGHT`] exchanges in flight more than before, in KiB.
    resident: i64,
    instances: usize,
    /// Linear memory of all instances.
    linear: usize,
}

fn filter(module: &Arc<Module>, configuration: &Bytes, isolation: Isolation) -> Filter {
    let name: Arc<str> = "default/measured".into();
    Filter {
        url: "file://measured.wasm".to_owned(),
        module: module.clone(),
        plugin: Arc::new(PluginSpec {
            root_id: String::new(),
            vm_id: name.to_string(),
            vm_configuration: Bytes::new(),
            configuration: configuration.clone(),
            environment: Vec::new(),
            limits: Limits::default(),
            allow_on_headers_stop_iteration: false,
            name: name.clone(),
        }),
        name,
        fail: FailStrategy::Close,
        isolation,
        allow_calls: AllowCalls::Everything,
        log_level: LogLevel::Warn,
        node: Arc::default(),
    }
}

fn resident() -> i64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn with(filter: Option<Filter>, upstream: &Upstream) -> Snapshot {
    let mut web = listener("web");
    web.filters = (0..filter.iter().count()).collect();
    Snapshot {
        listeners: vec![Arc::new(web)],
        filters: filter.into_iter().map(Arc::new).collect(),
        ..simple(BackendProtocol::Http, upstream)
    }
}

async fn one_after_the_other(proxy: &Proxy) -> Duration {
    let mut client = Client::http1(address(proxy)).await;
    let mut times = Vec::with_capacity(RUN);
    for _ in 0..RUN {
        let began = Instant::now();
        assert_eq!(client.get("/free").await.status, 200);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[RUN / 2]
}

fn measure(name: &'static str, filter: Option<Filter>) -> Measured {
    let (arrived, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (ours, closed) = (arrived.clone(), gate.clone());
    let upstream = Upstream::serving(move |request, _| {
        let (arrived, gate) = (ours.clone(), closed.clone());
        async move {
            if request.uri().path() != "/free" {
                arrived.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
            }
            Response::new(Full::from("measured").boxed())
        }
    });
    let proxy = start(with(filter, &upstream));
    runtime().block_on(async {
        let exchange = one_after_the_other(&proxy).await;
        let (before, began) = (resident(), Instant::now());
        let address = address(&proxy);
        let sent: Vec<_> = (0..FLIGHT)
            .map(|_| tokio::spawn(async move { Client::http1(address).await.get("/").await }))
            .collect();
        while arrived.load(Ordering::SeqCst) < FLIGHT {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (flight, resident) = (began.elapsed(), resident() - before);
        let filters = proxy.status().filters;
        let first = filters.first();
        let measured = Measured {
            name,
            exchange,
            flight,
            resident,
            instances: first.map_or(0, |filter| filter.instances),
            linear: first.map_or(0, |filter| filter.memory_bytes),
        };
        gate.add_permits(FLIGHT);
        for answer in sent {
            assert_eq!(answer.await.unwrap().status, 200);
        }
        measured
    })
}

fn main() {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().expect("the path of a module");
    let configuration = Bytes::from(arguments.next().unwrap_or_default());
    let bytes = fs::read(path).unwrap();
    let module = Arc::new(Module::load(&harness::engine(), &bytes, None).unwrap());
    let exclusive = InstanceLimits { instances: FLIGHT, wait: Duration::from_secs(60) };
    let modes = [
        ("no filter", None),
        ("SHARED", Some(Isolation::Shared)),
        ("EXCLUSIVE", Some(Isolation::Exclusive(exclusive))),
    ];
    println!("{} bytes of module, {FLIGHT} exchanges in flight", bytes.len());
    for (name, isolation) in modes {
        let filter = isolation.map(|isolation| filter(&module, &configuration, isolation));
        let Measured { name, exchange, flight, resident, instances, linear } =
            measure(name, filter);
        println!(
            "{name:>9}: {:6.1} us an exchange, all in flight after {:4} ms, {resident:6} KiB more, \
             {instances} instances, {} KiB of linear memory",
            exchange.as_secs_f64() * 1e6,
            flight.as_millis(),
            linear >> 10
        );
    }
}
