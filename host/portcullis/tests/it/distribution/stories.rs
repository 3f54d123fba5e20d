//! Filters from a registry under the whole program: what serves while a module is on its way, refused, or gone.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use portcullis::app::{App, Settings};
use portcullis::fetch::Reach;
use portcullis_vm::Digest;

use super::images::{compat, mark};
use super::server::{Answer, Contents, Server};
use crate::program::{House, PROXY, ROUTE, backend, eventually, fetch, replace, upstream};

/// A registry whose contents a test changes.
struct Registry {
    server: Server,
    contents: Arc<Mutex<Contents>>,
    down: Arc<AtomicBool>,
}

impl Registry {
    fn new() -> Registry {
        let (contents, down) =
            (Arc::<Mutex<Contents>>::default(), Arc::new(AtomicBool::new(false)));
        let (inside, sick) = (contents.clone(), down.clone());
        let server = Server::start(move |request| match sick.load(Ordering::Relaxed) {
            true => Answer::new(501, ""),
            false => inside.lock().unwrap().answer(request),
        });
        Registry { server, contents, down }
    }

    /// The digest of the manifest.
    fn push(&self, tag: &str, module: &[u8]) -> String {
        compat(&mut self.contents.lock().unwrap(), tag, module)
    }

    fn proxy(&self) -> String {
        proxy(&self.server)
    }

    fn filter(&self, image: &str, more: &str) -> String {
        let spec = format!("url: \"oci://{}/{image}\"{more}", self.server.address);
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: mark}}\n\
             spec: {{{spec}}}\n"
        )
    }

    fn house(&self, filter: &str) -> House {
        House::new(&[
            ("proxy.yaml", self.proxy().as_bytes()),
            ("app.yaml", backend(upstream("one")).as_bytes()),
            ("route.yaml", ROUTE.as_bytes()),
            ("filter.yaml", filter.as_bytes()),
        ])
    }
}

fn proxy(server: &Server) -> String {
    let registries = format!("registries: [{{host: \"{}\", plainHttp: true}}]", server.address);
    PROXY.replace("  drain:", &format!("  {registries}\n  drain:"))
}

fn marked(house: &House, letter: char) -> bool {
    fetch(house.address(), "/").0.contains(&format!("x-mark: {letter}\r\n"))
}

#[test]
fn a_filter_from_a_registry_serves_and_status_says_which_it_is() {
    let registry = Registry::new();
    let digest = registry.push("1", &mark('a'));
    let house = registry.house(&registry.filter("acme/mark:1", ""));
    assert!(marked(&house, 'a'));
    let pinned = format!("oci://{}/acme/mark:1@{digest}", registry.server.address);
    let status = house.status();
    let remote = &status["modules"]["remote"][0];
    assert_eq!(remote["state"], "here");
    assert_eq!(remote["pinned"], pinned.as_str());
    assert_eq!(remote["module"], format!("sha256:{}", Digest::of(&mark('a'))));
    assert_eq!(status["proxy"]["filters"][0]["url"], pinned.as_str(), "{}", status["proxy"]);
}

#[test]
fn a_tag_is_looked_up_when_the_document_changes_and_says_always() {
    let registry = Registry::new();
    registry.push("1", &mark('a'));
    let filter = |more: &str| registry.filter("acme/mark:1", more);
    let house = registry.house(&filter(", imagePullPolicy: Always"));
    registry.push("1", &mark('b'));
    house.edit("app.yaml", backend(upstream("two")).as_bytes());
    assert!(marked(&house, 'a'), "no document that names it has changed");
    house.edit("filter.yaml", filter(", imagePullPolicy: Always, priority: 1").as_bytes());
    assert!(marked(&house, 'b'));
    registry.push("1", &mark('c'));
    house.edit("filter.yaml", filter(", imagePullPolicy: IfNotPresent, priority: 2").as_bytes());
    assert!(marked(&house, 'b'));
}

#[test]
fn what_cannot_be_had_leaves_the_last_good_filter_serving_and_heals_by_itself() {
    let registry = Registry::new();
    registry.push("1", &mark('a'));
    let house = registry.house(&registry.filter("acme/mark:1", ""));
    assert_eq!(house.spoil_by(&registry.filter("acme/mark:2", "")), "P0406");
    assert!(marked(&house, 'a'));
    let (_, metrics) = fetch(house.app.admin().unwrap(), "/metrics");
    assert!(metrics.contains("\nportcullis_module_fetches_total{result=\"success\"} 1\n"));
    let refused = house.status()["refused_total"].clone();
    registry.push("2", &mark('b'));
    eventually(|| marked(&house, 'b'));
    assert_eq!(house.status()["refused_total"], refused);
    eventually(|| house.app.board().problems().is_empty());
}

#[test]
fn a_registry_that_is_back_is_asked_at_once_on_a_reload() {
    let registry = Registry::new();
    registry.push("1", &mark('a'));
    registry.push("2", &mark('b'));
    let house = registry.house(&registry.filter("acme/mark:1", ""));
    registry.down.store(true, Ordering::Relaxed);
    assert_eq!(house.spoil_by(&registry.filter("acme/mark:2", "")), "P0404");
    assert!(marked(&house, 'a'));
    registry.down.store(false, Ordering::Relaxed);
    house.app.reload();
    eventually(|| marked(&house, 'b'));
}

#[test]
fn none_of_ten_hostile_registries_disturbs_what_serves() {
    let registry = Registry::new();
    registry.push("1", &mark('a'));
    let ten = super::hostile::ten();
    let named = ten.iter().map(|(name, server, ..)| {
        let timeout = if *name == "slow drip" { "300ms" } else { "30s" };
        format!("{{host: \"{}\", plainHttp: true, timeout: {timeout}}}, ", server.address)
    });
    let all = registry
        .proxy()
        .replace("registries: [", &format!("registries: [{}", named.collect::<String>()));
    let house = registry.house(&registry.filter("acme/mark:1", ""));
    house.edit("proxy.yaml", all.as_bytes());
    for (name, server, code, words) in ten {
        let image = format!("oci://{}/acme/mark:1", server.address);
        let own = format!("oci://{}/acme/mark:1", registry.server.address);
        let filter = registry.filter("acme/mark:1", "").replace(&own, &image);
        replace(house.folder.path(), "filter.yaml", filter.as_bytes());
        let refused = || {
            let problems = house.app.board().problems();
            problems.into_iter().find(|problem| {
                let here = |place: &portcullis::diagnose::Place| place.text.contains(&image);
                problem.code.to_string() != "P0413" && problem.place.as_ref().is_some_and(here)
            })
        };
        eventually(|| refused().is_some());
        let problem = refused().unwrap();
        assert_eq!(problem.code.to_string(), code, "{name}: {problem}");
        assert!(problem.to_string().contains(words), "{name}: {problem}");
        assert!(marked(&house, 'a'), "{name}");
    }
}

impl House {
    /// Replaces the filter and waits until it is refused for good; the code.
    fn spoil_by(&self, filter: &str) -> String {
        replace(self.folder.path(), "filter.yaml", filter.as_bytes());
        let code = || {
            let problems = self.app.board().problems();
            problems.first().map(|problem| problem.code.to_string())
        };
        eventually(|| code().is_some_and(|code| code != "P0413"));
        code().unwrap()
    }
}

#[test]
fn other_documents_go_live_while_a_module_is_on_its_way() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (mut contents, waiting) = (Contents::default(), gate.clone());
    compat(&mut contents, "1", &mark('a'));
    compat(&mut contents, "slow", &mark('b'));
    let server = Server::start(move |request| {
        if request.path.ends_with("/manifests/slow") {
            let (open, changed) = &*waiting;
            let closed = changed.wait_while(open.lock().unwrap(), |open| !*open);
            drop(closed.unwrap());
        }
        contents.answer(request)
    });
    let registry = Registry { server, ..Registry::new() };
    let house = registry.house(&registry.filter("acme/mark:1", ""));
    replace(house.folder.path(), "filter.yaml", registry.filter("acme/mark:slow", "").as_bytes());
    eventually(|| {
        let problems = house.app.board().problems();
        problems.iter().any(|problem| problem.code.to_string() == "P0413")
    });
    house.edit("app.yaml", backend(upstream("two")).as_bytes());
    let (head, body) = fetch(house.address(), "/");
    assert_eq!(body, "two");
    assert!(head.contains("x-mark: a"), "{head}");
    assert_eq!(house.status()["refused_total"], 0, "what is on its way is not refused");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    eventually(|| marked(&house, 'b'));
}

#[test]
fn a_cache_that_is_wiped_under_the_program_is_filled_again() {
    let registry = Registry::new();
    registry.push("1", &mark('a'));
    let house = registry.house(&registry.filter("acme/mark:1", ""));
    let modules = house.folder.path().join("cache/fetched/modules");
    for entry in fs::read_dir(&modules).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(marked(&house, 'a'), "what serves needs no file");
    house.edit("filter.yaml", registry.filter("acme/mark:1", ", priority: 1").as_bytes());
    assert!(marked(&house, 'a'));
    assert_eq!(fs::read_dir(&modules).unwrap().count(), 1);
}

fn settings(house: &House, reach: Reach) -> Settings {
    let folder = house.folder.path();
    Settings {
        paths: vec![folder.to_owned()],
        cache: Some(folder.join("cache")),
        reach,
        ..Settings::default()
    }
}

#[test]
fn a_restart_needs_no_registry() {
    let registry = Registry::new();
    registry.push("1", &mark('a'));
    registry.push("latest", &mark('a'));
    let house = registry.house(&registry.filter("acme/mark:1", ""));
    registry.down.store(true, Ordering::Relaxed);
    let asked = registry.server.asked().len();
    let again = App::start(settings(&house, Reach::Network)).unwrap();
    assert!(fetch(again.addresses()[0].1, "/").0.contains("x-mark: a"));
    drop(again);

    registry.down.store(false, Ordering::Relaxed);
    house.edit("filter.yaml", registry.filter("acme/mark", "").as_bytes());
    registry.down.store(true, Ordering::Relaxed);
    let again = App::start(settings(&house, Reach::Network)).unwrap();
    let latest = fetch(again.addresses()[0].1, "/").0;
    assert!(latest.contains("x-mark: a"), "latest, as it was last looked up: {latest}");
    drop(again);
    registry.down.store(false, Ordering::Relaxed);

    let looked_up = registry.server.asked().len();
    assert!(looked_up > asked);
    let again = App::start(settings(&house, Reach::Offline)).unwrap();
    assert!(fetch(again.addresses()[0].1, "/").0.contains("x-mark: a"));
    assert_eq!(registry.server.asked().len(), looked_up);
}

#[test]
fn without_its_filter_nothing_starts() {
    let registry = Registry::new();
    registry.push("1", &mark('a'));
    let house = registry.house(&registry.filter("acme/mark:1", ""));
    let codes = |reach, filter: &str| {
        replace(house.folder.path(), "filter.yaml", filter.as_bytes());
        let problems = App::start(settings(&house, reach)).map(|_| ()).unwrap_err();
        problems.iter().map(|problem| problem.code.to_string()).collect::<Vec<_>>()
    };
    registry.down.store(true, Ordering::Relaxed);
    assert_eq!(codes(Reach::Network, &registry.filter("acme/mark:2", "")), ["P0404", "P0209"]);
    assert_eq!(codes(Reach::Offline, &registry.filter("acme/mark:2", "")), ["P0412", "P0209"]);
}

#[test]
fn credentials_take_effect_when_their_file_changes() {
    let mut contents = Contents::default();
    compat(&mut contents, "1", &mark('a'));
    compat(&mut contents, "2", &mark('b'));
    let server = Server::start(move |request| match request.header("authorization") {
        "Basic dXNlcjpwYXNz" => contents.answer(request),
        _ => Answer::new(401, "").with("www-authenticate", "Basic realm=\"acme\""),
    });
    let config = |password: &str| {
        let entry = format!(r#"{{"username": "user", "password": "{password}"}}"#);
        format!(r#"{{"auths": {{"{}": {entry}}}}}"#, server.address)
    };
    let (good, bad) = (config("pass"), config("wrong"));
    let registry = Registry { server, ..Registry::new() };
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("pull");
    fs::create_dir(&secret).unwrap();
    let filter =
        |tag: &str| registry.filter(&format!("acme/mark:{tag}"), ", imagePullSecret: pull");
    replace(&secret, ".dockerconfigjson", good.as_bytes());
    replace(folder.path(), "proxy.yaml", registry.proxy().as_bytes());
    replace(folder.path(), "app.yaml", backend(upstream("one")).as_bytes());
    replace(folder.path(), "route.yaml", ROUTE.as_bytes());
    replace(folder.path(), "filter.yaml", filter("1").as_bytes());
    let settings = Settings {
        paths: vec![folder.path().to_owned()],
        cache: Some(folder.path().join("cache")),
        ..Settings::default()
    };
    let house = House { app: App::start(settings).unwrap(), folder };
    assert!(marked(&house, 'a'));
    replace(&secret, ".dockerconfigjson", bad.as_bytes());
    assert_eq!(house.spoil_by(&filter("2")), "P0405");
    assert!(marked(&house, 'a'));
    replace(&secret, ".dockerconfigjson", good.as_bytes());
    eventually(|| marked(&house, 'b'));
}
