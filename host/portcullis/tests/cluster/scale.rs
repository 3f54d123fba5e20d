//! What many watching proxies cost one API server: the figures of docs/scale.md.
//!
//! The proxies are the program's real watcher, each with a copy of its own, on connections of its own that pass a relay which
//! counts bytes. Nobody else uses the API server meanwhile, but whoever changes the module.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portcullis::cluster::{Access, Herald, Mirror, Notice, Patience, SELECTOR, follow};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use crate::api::Connection;
use crate::outage::base64;
use crate::program::ROUTE;
use crate::server::Server;
use crate::sidecar::{config_map, noise};
use crate::stories::populate;

const PROXIES: usize = 200;
const MODULE_BYTES: usize = 300 << 10;
const CHANGES: u32 = 10;
const STEADY: Duration = Duration::from_secs(60);
/// Of `/proc/ID/stat`.
const TICKS_EACH_SECOND: f64 = 100.0;

/// Bytes that have passed the relay: to clients, and from them.
#[derive(Default)]
struct Passed {
    down: AtomicU64,
    up: AtomicU64,
}

/// Lets connections through to `server`.
async fn relay(listener: std::net::TcpListener, server: SocketAddr, passed: Arc<Passed>) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((client, _)) = listener.accept().await {
        let passed = passed.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let up = count(from_client, to_server, |bytes| {
                passed.up.fetch_add(bytes, Ordering::Relaxed)
            });
            let down = count(from_server, to_client, |bytes| {
                passed.down.fetch_add(bytes, Ordering::Relaxed)
            });
            tokio::join!(up, down);
        });
    }
}

async fn count(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    passed: impl Fn(u64) -> u64,
) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut piece).await {
        passed(bytes as u64);
        if to.write_all(&piece[..bytes]).await.is_err() {
            return;
        }
    }
}

/// Everything that has been used up to a moment.
#[derive(Clone, Copy)]
struct Reading {
    when: Instant,
    apiserver: f64,
    etcd: f64,
    resident: u64,
    requests: f64,
    down: u64,
    up: u64,
}

struct Meter<'a> {
    server: &'a Server,
    api: Connection,
    passed: Arc<Passed>,
}

impl Meter<'_> {
    fn read(&mut self) -> Reading {
        let (apiserver, etcd) = self.server.ids();
        Reading {
            when: Instant::now(),
            apiserver: cpu(apiserver),
            etcd: cpu(etcd),
            resident: resident(apiserver),
            requests: self.requests(),
            down: self.passed.down.load(Ordering::Relaxed),
            up: self.passed.up.load(Ordering::Relaxed),
        }
    }

    /// What proxies ask: lists that were answered, watches that are open or were, events.
    fn requests(&mut self) -> f64 {
        let lists = self.count(&["apiserver_request_total{", "\"LIST\"", "\"configmaps\""]);
        let open = self.count(&["apiserver_longrunning_requests{", "\"WATCH\"", "\"configmaps\""]);
        let ended = self.count(&["apiserver_request_total{", "\"WATCH\"", "\"configmaps\""]);
        lists + open + ended + self.events()
    }

    fn events(&mut self) -> f64 {
        self.count(&["apiserver_request_total{", "\"POST\"", "\"events\""])
    }

    /// The sum of all metrics in whose line all of this stands.
    fn count(&mut self, words: &[&str]) -> f64 {
        let metrics = self.api.ask("GET", "/metrics", None).unwrap().body;
        let wanted = metrics.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        wanted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

fn cpu(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS_EACH_SECOND
}

/// KiB.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn tell(what: &str, from: Reading, to: Reading, times: u32) {
    let each = f64::from(times);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20) / each;
    println!(
        "| {what} | {:.1} s | {:.0} | {:.2} MiB | {:.2} MiB | {:.2} s | {:.2} s | {} MiB |",
        (to.when - from.when).as_secs_f64() / each,
        (to.requests - from.requests) / each,
        mib(to.down - from.down),
        mib(to.up - from.up),
        (to.apiserver - from.apiserver) / each,
        (to.etcd - from.etcd) / each,
        to.resident >> 10,
    );
}

fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "measures for some minutes"]
fn two_hundred_watching_proxies_on_one_api_server() {
    let Some(server) = Server::start("scale") else { return };
    populate(&server, "scale");
    let mut map = config_map("scale", "module", &[]);
    map["binaryData"] = json!({"filter.wasm": base64(&noise(0, MODULE_BYTES))});
    let mut api = server.api().connect().unwrap();
    api.ask("POST", "/api/v1/namespaces/scale/configmaps", Some(&map)).unwrap().json();

    let runtime = runtime();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let through = listener.local_addr().unwrap();
    let passed = Arc::new(Passed::default());
    runtime.spawn(relay(listener, server.address(), passed.clone()));
    let access = Access { kubeconfig: Some(server.account_at("scale", "portcullis", through)) };
    let mut meter = Meter { server: &server, api: server.api().connect().unwrap(), passed };

    println!(
        "\n{PROXIES} proxies, each watching two namespaces; a module of {} KiB\n",
        MODULE_BYTES >> 10
    );
    println!(
        "| | elapsed | requests | to proxies | from proxies | CPU kube-apiserver | CPU etcd | memory kube-apiserver |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let before = meter.read();
    let proxies: Vec<Watching> = (0..PROXIES).map(|_| Watching::start(&runtime, &access)).collect();
    until(|| proxies.iter().all(Watching::follows));
    let started = meter.read();
    tell("start", before, started, 1);

    thread::sleep(STEADY);
    let steady = meter.read();
    tell("a minute without changes", started, steady, 1);

    // Until every proxy has it, and has said so.
    let mut changes = 0;
    let mut change = |meter: &mut Meter<'_>, name: &str, patch: Value| {
        let path = format!("/api/v1/namespaces/scale/configmaps/{name}");
        let map = api.ask("PATCH", &path, Some(&patch)).unwrap().json();
        let version = text(&map["metadata"]["resourceVersion"]);
        until(|| proxies.iter().all(|proxy| proxy.has(name, version)));
        changes += 1;
        until(|| meter.events() >= f64::from(changes) * PROXIES as f64);
    };
    for number in 1..=CHANGES {
        let changed =
            json!({"binaryData": {"filter.wasm": base64(&noise(number.into(), MODULE_BYTES))}});
        change(&mut meter, "module", changed);
    }
    let modules = meter.read();
    tell("a change of the module", steady, modules, CHANGES);
    for number in 1..=CHANGES {
        let changed = json!({"data": {"route.yaml": ROUTE.replace("name: app", &format!("name: app-{number}"))}});
        change(&mut meter, "app", changed);
    }
    tell("a change of a document", modules, meter.read(), CHANGES);
}

/// A thread on which all proxies wait, for as long as the process lives.
fn runtime() -> Handle {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

/// What a proxy has to do with the API server.
struct Watching {
    mirror: Arc<Mirror>,
    herald: Arc<Herald>,
}

impl Watching {
    fn start(runtime: &Handle, access: &Access) -> Watching {
        let namespaces: [Arc<str>; 2] = ["scale".into(), "scale-mesh".into()];
        let mirror = Arc::new(Mirror::new(namespaces.clone(), || {}));
        for namespace in namespaces {
            let (access, selector, mirror) = (access.clone(), SELECTOR.into(), mirror.clone());
            runtime.spawn(follow(access, Patience::default(), namespace, selector, mirror));
        }
        let herald = Arc::new(Herald::default());
        let (speaking, access) = (herald.clone(), access.clone());
        runtime.spawn(async move { speaking.speak(access, Patience::default()).await });
        Watching { mirror, herald }
    }

    fn follows(&self) -> bool {
        let all = self.mirror.read();
        all.values().all(|(listed, standing)| listed.is_some() && standing.stale_since.is_none())
    }

    /// Whether it has this version of the ConfigMap; then it says so, as a proxy does.
    fn has(&self, name: &str, version: &str) -> bool {
        let maps = self.mirror.read();
        let Some(about) = maps["scale"].0.as_ref().and_then(|maps| maps.get(name)) else {
            return false;
        };
        let (about, message) = (about.clone(), "this version is live".to_owned());
        let has = about.resource_version == version;
        if has {
            self.herald.say(Notice { about, reason: "Applied", warning: false, message });
        }
        has
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
