//! `certificateRefs` and `caCertificateRefs` of documents in ConfigMaps: Secrets of the cluster, followed by name.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::app::{App, Settings};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::process::{after, command};
use super::{Cluster, PROXY, answer, source, status};
use crate::program::{ROUTE, backend, eventually, fetch, get, replace, upstream};
use crate::tls::{Authority, Pair};

const REFS: &str = "certificateRefs: [{kind: Secret, name: web}]";

fn https(tls: &str) -> String {
    PROXY.replace("protocol: HTTP", &format!("protocol: HTTPS, tls: {{{tls}}}"))
}

/// A Proxy with this `tls`, and a route to a server that answers `one`.
fn cluster(tls: &str) -> Cluster {
    let cluster = Cluster::new();
    cluster.api.put("shop", "proxy", &[("proxy.yaml", &https(tls))]);
    cluster
}

fn secret(values: &[(&str, &str)]) -> Option<Value> {
    let encoded = |(key, text): &(&str, &str)| ((*key).to_owned(), json!(STANDARD.encode(text)));
    let data: serde_json::Map<_, _> = values.iter().map(encoded).collect();
    let metadata = json!({"name": "any", "namespace": "any"});
    Some(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata,
        "type": "kubernetes.io/tls", "data": data}))
}

fn of(pair: &Pair) -> Option<Value> {
    secret(&[("tls.crt", &pair.certificate), ("tls.key", &pair.key)])
}

fn keep(cluster: &Cluster, name: &str, secret: Option<Value>) {
    cluster.api.lock().secrets.insert(name.to_owned(), secret);
}

fn asked(cluster: &Cluster, name: &str) -> usize {
    cluster.api.count(&format!("GET /api/v1/namespaces/{name}"))
}

fn web(app: &App) -> SocketAddr {
    app.addresses()[0].1
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Ends the clients, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_renewed_certificate_is_taken_without_a_restart_and_no_request_fails() {
    let authority = Authority::new();
    let pairs: Vec<Pair> = (0..4).map(|_| authority.pair()).collect();
    let cluster = cluster(REFS);
    keep(&cluster, "shop/web", of(&pairs[0]));
    let app = cluster.app();
    let web = web(&app);
    assert_eq!(authority.presented(web), pairs[0].der);
    let (end, sent, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let count = |good: bool| {
        sent.fetch_add(1, Ordering::Relaxed);
        failed.fetch_add(u64::from(!good), Ordering::Relaxed);
    };
    let good = |answer: Option<(String, String)>| answer.is_some_and(|(_, body)| body == "one");
    thread::scope(|scope| {
        let _end = End(&end);
        scope.spawn(|| {
            let mut kept = authority.connect(web, None).unwrap();
            while !end.load(Ordering::Relaxed) {
                count(good(get(&mut kept, "/", &[])));
            }
        });
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                let new = authority.connect(web, None).ok();
                count(new.is_some_and(|mut new| good(get(&mut new, "/", &[]))));
            }
        });
        for pair in &pairs[1..] {
            keep(&cluster, "shop/web", of(pair));
            eventually(|| authority.presented(web) == pair.der);
        }
    });
    assert_eq!(failed.into_inner(), 0, "of {}", sent.load(Ordering::Relaxed));
    assert!(asked(&cluster, "shop/secrets/web") >= 4);
    let shown = status(&app)["modules"]["secrets"][0].clone();
    assert_eq!((&shown["name"], &shown["state"]), (&json!("shop/web"), &json!("here")), "{shown}");
}

#[test]
fn a_secret_that_cannot_be_used_is_refused_by_name_and_the_certificate_before_it_serves() {
    let authority = Authority::new();
    let (first, second) = (authority.pair(), authority.pair());
    let cluster = cluster(REFS);
    keep(&cluster, "shop/web", of(&first));
    let app = cluster.app();
    let refused = |code: &str, title: &str, cause: &str| {
        let problem = || source(&app, "configmap://shop/proxy")["problem"].clone();
        eventually(|| {
            let shown = problem();
            let says = |field: &str, words: &str| {
                words.is_empty() || shown[field].as_str().is_some_and(|text| text.contains(words))
            };
            shown["code"] == code && says("title", title) && says("cause", cause)
        });
        let shown = problem();
        assert_eq!(shown["place"]["field"], "spec.listeners[0].tls.certificateRefs[0]", "{shown}");
        assert!(shown["title"].as_str().unwrap().contains("the Secret shop/web"), "{shown}");
        assert_eq!(authority.presented(web(&app)), first.der);
    };
    let mixed = secret(&[("tls.crt", &second.certificate), ("tls.key", &first.key)]);
    let cases = [
        (mixed, "P0602", "tls.key of the Secret shop/web: the private key does not belong", ""),
        (secret(&[("tls.crt", &second.certificate)]), "P0424", "has no tls.key", ""),
        (
            secret(&[("tls.crt", "none"), ("tls.key", &second.key)]),
            "P0601",
            "tls.crt of the Secret shop/web: there is no certificate",
            "",
        ),
        (
            None,
            "P0422",
            "cannot read",
            "User \"system:serviceaccount:shop:web\" cannot get resource \"secrets\" in API group \"\" in the \
             namespace \"shop\"",
        ),
        (Some(json!({"kind": "Secret", "data": "open-sesame"})), "P0422", "", ""),
    ];
    for (secret, code, title, cause) in cases {
        keep(&cluster, "shop/web", secret);
        refused(code, title, cause);
    }
    // What is no Secret at all is trouble of the server, and says nothing new.
    let trouble = || status(&app)["modules"]["secrets"][0]["problem"].to_string();
    eventually(|| trouble().contains("no Secret (line 1"));
    assert!(!trouble().contains("open-sesame"));
    cluster.api.lock().secrets.remove("shop/web");
    refused("P0424", "cannot read", "secrets \"web\" not found");
    let events = || cluster.api.lock().events.iter().map(Value::to_string).collect::<String>();
    eventually(|| events().contains("the Secret shop/web"));

    keep(&cluster, "shop/web", of(&second));
    eventually(|| authority.presented(web(&app)) == second.der);
    eventually(|| app.board().problems().is_empty());

    // What was read stays while the server is in trouble, and SIGHUP reads what is there now.
    keep(&cluster, "shop/web", Some(json!({"kind": "Secret", "data": "open-sesame"})));
    eventually(|| trouble().contains("no Secret (line 1"));
    assert!(app.board().problems().is_empty());
    assert_eq!(authority.presented(web(&app)), second.der);
    keep(&cluster, "shop/web", of(&first));
    app.reload();
    eventually(|| authority.presented(web(&app)) == first.der);
    eventually(|| trouble() == "null");
}

#[test]
fn a_secret_that_is_not_there_at_the_first_start_is_waited_for() {
    let authority = Authority::new();
    let pair = authority.pair();
    let cluster = cluster(REFS);
    let app = cluster.app();
    assert!(app.addresses().is_empty());
    let (_, ready) = fetch(app.admin().unwrap(), "/healthz/ready");
    assert!(ready.contains("P0424") && ready.contains("the Secret shop/web"), "{ready}");
    keep(&cluster, "shop/web", of(&pair));
    eventually(|| !app.addresses().is_empty());
    assert_eq!(authority.presented(web(&app)), pair.der);
}

#[test]
fn a_start_without_the_api_server_has_the_certificate_from_disk_and_then_the_renewed_one() {
    let authority = Authority::new();
    let (first, second) = (authority.pair(), authority.pair());
    let cluster = cluster(REFS);
    keep(&cluster, "shop/web", of(&first));
    drop(cluster.app());
    let kept = files(&cluster.cache.path().join("modules/last-good"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::metadata(&kept[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(String::from_utf8_lossy(&fs::read(&kept[0]).unwrap()).contains(&first.key));

    cluster.api.go_down();
    let app = cluster.app();
    assert_eq!(authority.presented(web(&app)), first.der);
    assert!(!status(&app)["restored_from"].is_null());
    keep(&cluster, "shop/web", of(&second));
    cluster.api.come_back();
    eventually(|| authority.presented(web(&app)) == second.der);
    // What was renewed is what is kept.
    let key = || String::from_utf8_lossy(&fs::read(&kept[0]).unwrap()).into_owned();
    eventually(|| key().contains(&second.key));
    assert!(!key().contains(&first.key));
}

#[test]
fn what_is_in_a_secret_is_shown_nowhere() {
    let authority = Authority::new();
    let (pair, other) = (authority.pair(), authority.pair());
    let cluster = cluster(REFS);
    let root = "apiVersion: portcullis.dev/v1alpha1\nkind: Backend\nmetadata: {name: tls}\nspec: {protocol: HTTPS, \
        endpoints: [{address: \"127.0.0.1:1\"}], tls: {hostname: localhost, certificateRefs: [{name: client}]}}\n";
    cluster.api.put("shop", "tls", &[("tls.yaml", root)]);
    keep(&cluster, "shop/web", of(&pair));
    keep(&cluster, "shop/client", of(&other));
    let mut command = command(&cluster);
    command.arg("--kubeconfig").arg(cluster.api.kubeconfig()).args(["--admin", "127.0.0.1:0"]);
    let mut child = command.env("PORTCULLIS_LOG", "trace").spawn().unwrap();
    let mut said = Vec::new();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.inspect(|line| said.push(line.as_ref().unwrap().clone()));
    let web = after(&mut lines, "listening https://");
    let web: SocketAddr = web.strip_suffix(" (web)").unwrap().parse().unwrap();
    let admin: SocketAddr = after(&mut lines, "admin http://").parse().unwrap();
    let mut shown = String::new();
    thread::scope(|scope| {
        let rest = scope.spawn(move || lines.for_each(drop));
        assert_eq!(authority.presented(web), pair.der);
        // A key that is refused is shown as little as one that serves.
        let mixed = secret(&[("tls.crt", &pair.certificate), ("tls.key", &other.key)]);
        keep(&cluster, "shop/web", mixed);
        kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
        eventually(|| fetch(admin, "/status").1.contains("P0602"));
        for page in ["/status", "/config", "/metrics"] {
            shown.push_str(&fetch(admin, page).1);
        }
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        rest.join().unwrap();
    });
    assert!(shown.contains("certificateRefs"));
    assert!(said.iter().any(|line| line.contains("P0602")), "{said:#?}");
    shown.push_str(&said.join("\n"));
    shown.extend(cluster.api.lock().events.iter().map(Value::to_string));
    for key in [&pair.key, &other.key] {
        let lines = key.lines().filter(|line| !line.starts_with("--"));
        for line in lines.chain([STANDARD.encode(key).as_str()]) {
            assert!(!shown.contains(line));
        }
    }
}

#[test]
fn both_sides_of_a_connection_prove_who_they_are_with_secrets() {
    let authority = Authority::new();
    let (server, client) = (authority.pair(), authority.pair());
    let inner = cluster(&format!("{REFS}, caCertificateRefs: [{{kind: Secret, name: web}}]"));
    let with_ca =
        [("tls.crt", &*server.certificate), ("tls.key", &*server.key), ("ca.crt", &*authority.pem)];
    keep(&inner, "shop/web", secret(&with_ca));
    let inner = inner.app();
    let nobody = authority.connect(web(&inner), None);
    assert!(nobody.is_err() || nobody.is_ok_and(|mut one| get(&mut one, "/", &[]).is_none()));

    let outer = Cluster::new();
    let tls = "{hostname: localhost, certificateRefs: [{kind: Secret, name: client}], \
        caCertificateRefs: [{group: \"\", kind: ConfigMap, name: authority}]}";
    let app =
        backend(web(&inner)).replace("protocol: HTTP,", &format!("protocol: HTTPS, tls: {tls},"));
    keep(&outer, "shop/client", of(&client));
    outer.api.put("shop", "authority", &[("ca.crt", &authority.pem)]);
    outer.api.put("shop", "app", &[("app.yaml", &app), ("route.yaml", ROUTE)]);
    let outer = outer.app();
    assert_eq!(answer(&outer), "one");
}

#[test]
fn a_mesh_wide_proxy_has_the_secret_of_the_mesh_wide_namespace_and_no_other() {
    let authority = Authority::new();
    let pair = authority.pair();
    let cluster = Cluster::new();
    cluster.api.delete("shop", "proxy");
    let root = "portcullis-system";
    cluster.api.put(root, "proxy", &[("proxy.yaml", &https(REFS))]);
    keep(&cluster, "portcullis-system/web", of(&pair));
    let app = cluster.app();
    assert_eq!(authority.presented(web(&app)), pair.der);
    assert_eq!(asked(&cluster, "shop/secrets"), 0);

    let other = https("certificateRefs: [{kind: Secret, name: web, namespace: shop}]");
    cluster.api.put(root, "proxy", &[("proxy.yaml", &other)]);
    let problem = || source(&app, "configmap://portcullis-system/proxy")["problem"].clone();
    eventually(|| problem()["code"] == "P0111");
    assert!(problem()["cause"].as_str().unwrap().contains("portcullis-system"));
    assert_eq!(asked(&cluster, "shop/secrets"), 0);
    assert_eq!(authority.presented(web(&app)), pair.der);
}

#[test]
fn beside_a_file_a_secret_is_the_folder_of_its_name_as_kubernetes_mounts_it() {
    let authority = Authority::new();
    let (first, second) = (authority.pair(), authority.pair());
    let folder = tempfile::tempdir().unwrap();
    let mounted = folder.path().join("web");
    fs::create_dir(&mounted).unwrap();
    let write = |pair: &Pair| {
        replace(&mounted, "tls.key", pair.key.as_bytes());
        replace(&mounted, "tls.crt", pair.certificate.as_bytes());
    };
    write(&first);
    replace(folder.path(), "proxy.yaml", https(REFS).as_bytes());
    replace(folder.path(), "app.yaml", backend(upstream("one")).as_bytes());
    let settings = Settings {
        paths: vec![folder.path().to_owned()],
        cache: Some(folder.path().join("cache")),
        ..Settings::default()
    };
    let app = App::start(settings).unwrap();
    assert_eq!(authority.presented(web(&app)), first.der);
    write(&second);
    eventually(|| authority.presented(web(&app)) == second.der);
}
