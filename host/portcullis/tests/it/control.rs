//! The law of acceptance: which version of each source object is live after a change, with a data plane that only
//! takes notes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use portcullis::control::{Board, Control, Eagerness, Plane};
use portcullis::diagnose::Problem;
use portcullis::fetch::Store;
use portcullis::plan::ProcessSettings;
use portcullis::source::Files;
use portcullis_proxy::snapshot::Filter;
use portcullis_proxy::{Refusal, Snapshot};
use portcullis_vm::{Death, Digest, Engine, TrapReason};
use serde_json::Value;
use tempfile::TempDir;

const PROXY: &str = r#"
apiVersion: portcullis.dev/v1alpha1
kind: Proxy
metadata: {name: edge}
spec:
  listeners: [{name: web, address: "127.0.0.1:8080", direction: GATEWAY, protocol: HTTP}]
"#;

/// A module that starts, and one that does not even load.
const QUIET: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_tick") (param i32)))"#;
const LOUD: &str = r#"(module
  (memory (export "memory") 2)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 2048)
  (func (export "proxy_on_tick") (param i32)))"#;
const STRANGE: &str = r#"(module
  (import "env" "no_such_function" (func))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1")))"#;

fn backend(name: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Backend\nmetadata: {{name: {name}}}\n\
         spec: {{protocol: HTTP, endpoints: [{{address: \"127.0.0.1:9001\"}}]}}\n"
    )
}

fn route(name: &str, backend: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec: {{rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]}}\n"
    )
}

fn filter(name: &str, config: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: {name}}}\n\
         spec: {{url: \"file://{name}.wasm\", pluginConfig: {config:?}}}\n"
    )
}

#[derive(Default)]
struct Notes {
    published: Vec<Snapshot>,
    rehearsed: usize,
    taken: BTreeSet<u16>,
    /// Refuse snapshots with this backend as contradictory.
    odd: &'static str,
}

/// Refuses filters configured with `bad`, and ports that are taken.
struct Fake(Arc<Mutex<Notes>>);

impl Plane for Fake {
    fn rehearse(&mut self, filter: &Arc<Filter>, _: &ProcessSettings) -> Result<(), Refusal> {
        self.0.lock().unwrap().rehearsed += 1;
        if filter.plugin.configuration != "bad" {
            return Ok(());
        }
        let message = "it answered no in proxy_on_configure".to_owned();
        let trap = Death { reason: TrapReason::Refused, message, backtrace: Vec::new() }.into();
        Err(Refusal::Filter { name: filter.name.clone(), trap })
    }

    fn publish(&mut self, snapshot: Snapshot, _: &ProcessSettings) -> Result<(), Refusal> {
        let mut notes = self.0.lock().unwrap();
        let taken = snapshot
            .listeners
            .iter()
            .find(|listener| notes.taken.contains(&listener.address.port()));
        if let Some(listener) = taken {
            return Err(Refusal::Listener {
                name: listener.name.clone(),
                address: listener.address,
                problem: io::ErrorKind::AddrInUse.into(),
            });
        }
        let log = snapshot.access_log.as_ref().filter(|log| log.path.starts_with("/missing/"));
        if let Some(log) = log {
            let problem = "no such folder".to_owned();
            return Err(Refusal::AccessLog { path: log.path.clone(), problem });
        }
        if snapshot.backends.iter().any(|backend| *backend.name == *notes.odd) {
            return Err(Refusal::Snapshot("odd".to_owned()));
        }
        notes.published.push(snapshot);
        Ok(())
    }
}

/// A folder of documents under control.
struct House {
    folder: TempDir,
    control: Control<Fake>,
    board: Arc<Board>,
    notes: Arc<Mutex<Notes>>,
}

impl House {
    fn new(files: &[(&str, &str)]) -> House {
        let folder = tempfile::tempdir().unwrap();
        let notes = Arc::new(Mutex::new(Notes::default()));
        let store = Arc::new(Store::new(Engine::new().unwrap(), None));
        let sources = Files::new(vec![folder.path().to_owned()]);
        let control = Control::new(sources, store, None, Fake(notes.clone()));
        let house = House { folder, board: control.board(), control, notes };
        files.iter().for_each(|(name, text)| house.write(name, text));
        house
    }

    /// A house that has started.
    fn living(files: &[(&str, &str)]) -> House {
        let mut house = House::new(files);
        house.control.start().unwrap();
        house
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        let bytes = match name.ends_with(".wasm") {
            true => wat::parse_str(text).unwrap(),
            false => text.as_bytes().to_vec(),
        };
        fs::write(self.path().join(name), bytes).unwrap();
    }

    fn delete(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }

    fn edit(&mut self, name: &str, text: &str) {
        self.write(name, text);
        self.control.round(Eagerness::WhenChanged);
    }

    fn source(&self, name: &str) -> Value {
        let status = self.board.status();
        let sources = status["sources"].as_array().unwrap().clone();
        let file = format!("{}/{name}", self.path().display());
        sources.into_iter().find(|source| source["name"] == file.as_str()).unwrap()
    }

    /// Live: names of routes, backends and filters in the last snapshot; and its generation.
    fn live(&self) -> (u64, Vec<String>) {
        let notes = self.notes.lock().unwrap();
        let Some(snapshot) = notes.published.last() else { return (0, Vec::new()) };
        let short = |name: &Arc<str>| name.replace("default/", "");
        let mut names: Vec<String> =
            snapshot.routes.iter().map(|route| short(&route.name)).collect();
        names.extend(snapshot.backends.iter().map(|backend| short(&backend.name)));
        names.extend(snapshot.filters.iter().map(|filter| {
            let configuration = String::from_utf8_lossy(&filter.plugin.configuration).into_owned();
            format!("{}={configuration}", short(&filter.name))
        }));
        (snapshot.generation, names)
    }

    #[track_caller]
    fn check(&self, generation: u64, names: &[&str]) {
        let (live, found) = self.live();
        assert_eq!(
            (live, found.iter().map(String::as_str).collect()),
            (generation, names.to_vec())
        );
        assert_eq!(self.board.generation(), generation);
    }

    /// The codes of everything that is wrong now, with the file.
    fn problems(&self) -> Vec<String> {
        let status = self.board.status();
        let mut found = Vec::new();
        for source in status["sources"].as_array().unwrap() {
            let file = source["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            for problem in source["problems"].as_array().unwrap() {
                found.push(format!("{file} {}", problem["code"].as_str().unwrap()));
            }
        }
        let whole = status["problems"].as_array().unwrap();
        found.extend(whole.iter().map(|problem| problem["code"].as_str().unwrap().to_owned()));
        found
    }
}

#[test]
fn one_bad_object_of_ten_keeps_its_last_good_version_and_nine_go_live() {
    let names: Vec<String> = (0..8).map(|number| format!("b{number}")).collect();
    let mut house =
        House::new(&[("proxy.yaml", PROXY), ("z.wasm", QUIET), ("z.yaml", &filter("z", "one"))]);
    names.iter().for_each(|name| house.write(&format!("{name}.yaml"), &backend(name)));
    house.control.start().unwrap();
    let live = |names: &[String], filter: &str| -> Vec<String> {
        names.iter().cloned().chain([format!("z={filter}")]).collect()
    };
    assert_eq!(house.live(), (1, live(&names, "one")));

    let renamed: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    for (old, new) in names.iter().zip(&renamed) {
        house.write(&format!("{old}.yaml"), &backend(new));
    }
    house.edit("z.yaml", "kind: WasmFilter: oops");
    assert_eq!(house.live(), (2, live(&renamed, "one")));
    assert_eq!(house.problems(), ["z.yaml P0101"]);
    let source = house.source("z.yaml");
    assert_ne!(source["version"], source["accepted_version"]);
    assert_eq!(house.board.status()["refused_total"], 1);
}

#[test]
fn a_bad_edit_keeps_the_last_good_version_until_it_is_mended() {
    let mut house = House::living(&[("proxy.yaml", PROXY), ("b.yaml", &backend("b"))]);
    house.check(1, &["b"]);
    let bad = backend("b").replace("protocol", "colour: red, protocol");
    house.edit("b.yaml", &bad);
    house.check(1, &["b"]);
    let problem = &house.source("b.yaml")["problem"];
    assert_eq!(problem["code"], "P0102");
    assert_eq!(problem["place"]["line"], 4);
    house.edit("b.yaml", &backend("b2"));
    house.check(2, &["b2"]);
    assert_eq!(house.problems(), [""; 0]);
    assert_eq!(house.board.status()["last_problem"]["problem"]["code"], "P0102");
}

#[test]
fn the_same_bad_version_is_refused_once() {
    let mut house = House::living(&[("proxy.yaml", PROXY), ("b.yaml", &backend("b"))]);
    house.edit("b.yaml", "kind: Nonsense");
    house.control.round(Eagerness::Always);
    house.edit("c.yaml", &backend("c"));
    assert_eq!(house.board.status()["refused_total"], 1);
    assert_eq!(house.source("b.yaml")["problem"]["severity"], "error");
}

#[test]
fn a_touched_file_changes_nothing_and_a_reload_that_was_asked_for_always_does() {
    let mut house = House::living(&[("proxy.yaml", PROXY), ("b.yaml", &backend("b"))]);
    house.edit("b.yaml", &backend("b"));
    house.check(1, &["b"]);
    house.control.round(Eagerness::Always);
    house.check(2, &["b"]);
}

#[test]
fn a_filter_that_refuses_its_configuration_keeps_the_old_one() {
    let mut house =
        House::living(&[("proxy.yaml", PROXY), ("f.wasm", QUIET), ("f.yaml", &filter("f", "one"))]);
    house.write("b.yaml", &backend("b"));
    house.edit("f.yaml", &filter("f", "bad"));
    house.check(2, &["b", "f=one"]);
    let problem = house.source("f.yaml")["problem"].clone();
    assert_eq!(problem["code"], "P0205");
    assert_eq!(problem["object"], "WasmFilter default/f");
    assert_eq!(problem["place"]["field"], "spec.pluginConfig");
    assert_eq!(problem["place"]["line"], 4);
    house.edit("f.yaml", &filter("f", "two"));
    house.check(3, &["b", "f=two"]);
    assert_eq!(
        house.notes.lock().unwrap().rehearsed,
        3,
        "what runs already is not rehearsed again"
    );
}

#[test]
fn a_module_swapped_under_its_document_is_taken_or_refused_like_an_edit() {
    let mut house =
        House::living(&[("proxy.yaml", PROXY), ("f.wasm", QUIET), ("f.yaml", &filter("f", "one"))]);
    let digest = |house: &House| {
        house.notes.lock().unwrap().published.last().unwrap().filters[0].module.digest()
    };
    let quiet = digest(&house);
    house.edit("f.wasm", STRANGE);
    house.check(1, &["f=one"]);
    assert_eq!(house.problems(), ["f.yaml P0201"]);
    // The last good version is whole: its module is not the one that lies there now.
    house.edit("b.yaml", &backend("b"));
    house.check(2, &["b", "f=one"]);
    assert_eq!(digest(&house), quiet);
    house.edit("f.wasm", LOUD);
    house.check(3, &["b", "f=one"]);
    assert_ne!(digest(&house), quiet);
    assert_eq!(house.problems(), [""; 0]);
}

#[test]
fn a_module_with_another_digest_than_the_document_pins_is_refused() {
    let digest = Digest::of(&wat::parse_str(QUIET).unwrap());
    let pinned = |digest: &str| {
        filter("f", "one").replace("pluginConfig", &format!("sha256: {digest:?}, pluginConfig"))
    };
    let mut house = House::living(&[
        ("proxy.yaml", PROXY),
        ("f.wasm", QUIET),
        ("f.yaml", &pinned(&digest.to_string())),
    ]);
    house.check(1, &["f=one"]);
    house.edit("f.wasm", LOUD);
    assert_eq!(house.problems(), ["f.yaml P0204"]);
    house.edit("f.wasm", QUIET);
    assert_eq!(house.problems(), [""; 0]);
    house.edit("f.yaml", &pinned(&"0".repeat(64)));
    assert_eq!(house.problems(), ["f.yaml P0204"]);
    house.check(1, &["f=one"]);
}

#[test]
fn of_two_that_define_the_same_object_the_newcomer_is_refused() {
    let mut house = House::living(&[("proxy.yaml", PROXY), ("m.yaml", &backend("b"))]);
    // Its name sorts before that of the one that is live.
    house.edit("a.yaml", &backend("b"));
    house.check(1, &["b"]);
    assert_eq!(house.problems(), ["a.yaml P0106"]);
    assert_eq!(house.source("a.yaml")["accepted_version"], Value::Null);
    // Moved at once, it is no duplicate.
    house.delete("m.yaml");
    house.control.round(Eagerness::WhenChanged);
    house.check(2, &["b"]);
    assert_eq!(house.problems(), [""; 0]);
}

#[test]
fn an_edit_that_refers_to_nothing_is_refused() {
    let mut house = House::living(&[
        ("proxy.yaml", PROXY),
        ("b.yaml", &backend("b")),
        ("r.yaml", &route("r", "b")),
    ]);
    house.check(1, &["r", "b"]);
    house.edit("r.yaml", &route("r2", "nothing"));
    house.check(1, &["r", "b"]);
    assert_eq!(house.problems(), ["r.yaml P0105"]);
    house.edit("n.yaml", &backend("nothing"));
    house.check(2, &["r2", "b", "nothing"]);
    assert_eq!(house.problems(), [""; 0]);
}

#[test]
fn an_edit_that_takes_away_what_another_object_needs_is_refused() {
    let mut house = House::living(&[
        ("proxy.yaml", PROXY),
        ("b.yaml", &backend("b")),
        ("r.yaml", &route("r", "b")),
    ]);
    house.edit("b.yaml", &backend("renamed"));
    house.check(1, &["r", "b"]);
    assert_eq!(house.problems(), ["b.yaml P0105"]);
    house.edit("r.yaml", &route("r", "renamed"));
    house.check(2, &["r", "renamed"]);
}

#[test]
fn a_deleted_file_is_gone_and_what_dangles_stays_with_its_problem_shown() {
    let mut house = House::living(&[
        ("proxy.yaml", PROXY),
        ("b.yaml", &backend("b")),
        ("r.yaml", &route("r", "b")),
    ]);
    house.delete("b.yaml");
    house.control.round(Eagerness::WhenChanged);
    house.check(2, &["r"]);
    assert_eq!(house.problems(), ["r.yaml P0105"]);
    // The share answers 500: the reference is there and points nowhere.
    let backends = |house: &House| {
        let notes = house.notes.lock().unwrap();
        let rule = notes.published.last().unwrap().routes[0].rules[0].clone();
        (rule.backends.iter().map(|share| share.backend).collect::<Vec<_>>(), rule.broken.clone())
    };
    assert_eq!(backends(&house), (vec![None], None));
    house.edit("c.yaml", &backend("c"));
    house.check(3, &["r", "c"]);
    assert_eq!(house.problems(), ["r.yaml P0105"], "it is still shown after the next change");
}

#[test]
fn without_its_proxy_document_the_last_one_stays_and_the_rest_goes_on_changing() {
    let mut house = House::living(&[("proxy.yaml", PROXY), ("b.yaml", &backend("b"))]);
    house.delete("proxy.yaml");
    house.control.round(Eagerness::WhenChanged);
    house.check(1, &["b"]);
    assert_eq!(house.problems(), ["proxy.yaml P0114"]);
    house.edit("c.yaml", &backend("c"));
    house.check(2, &["b", "c"]);
    assert_eq!(house.problems(), ["proxy.yaml P0114"]);
    house.edit("proxy.yaml", PROXY);
    house.check(2, &["b", "c"]);
    assert_eq!(house.problems(), [""; 0]);
}

#[test]
fn what_is_live_of_a_folder_that_is_gone_stays_and_other_folders_go_on_changing() {
    let other = tempfile::tempdir().unwrap();
    let mut house = House::new(&[("proxy.yaml", PROXY)]);
    let conf = other.path().join("conf");
    fs::create_dir(&conf).unwrap();
    fs::write(conf.join("b.yaml"), backend("b")).unwrap();
    let store = Arc::new(Store::new(Engine::new().unwrap(), None));
    let sources = Files::new(vec![house.path().to_owned(), conf.clone()]);
    house.control = Control::new(sources, store, None, Fake(house.notes.clone()));
    house.board = house.control.board();
    house.control.start().unwrap();
    house.check(1, &["b"]);
    fs::rename(&conf, other.path().join("away")).unwrap();
    house.edit("c.yaml", &backend("c"));
    house.check(2, &["b", "c"]);
    assert_eq!(house.problems(), ["P0401"]);
    fs::rename(other.path().join("away"), &conf).unwrap();
    house.control.round(Eagerness::WhenChanged);
    house.check(2, &["b", "c"]);
    assert_eq!(house.problems(), [""; 0]);
}

#[test]
fn a_port_that_is_taken_refuses_the_proxy_document_alone() {
    let mut house = House::living(&[("proxy.yaml", PROXY), ("b.yaml", &backend("b"))]);
    house.notes.lock().unwrap().taken.insert(8081);
    house.write("c.yaml", &backend("c"));
    house.edit("proxy.yaml", &PROXY.replace("8080", "8081"));
    house.check(2, &["b", "c"]);
    assert_eq!(house.problems(), ["proxy.yaml P0501"]);
}

#[test]
fn an_access_log_that_cannot_be_written_refuses_the_proxy_document_alone() {
    let mut house = House::living(&[("proxy.yaml", PROXY)]);
    let logging = format!("{PROXY}  accessLog: {{path: /missing/access.log}}\n");
    house.write("c.yaml", &backend("c"));
    house.edit("proxy.yaml", &logging);
    house.check(2, &["c"]);
    assert_eq!(house.problems(), ["proxy.yaml P0502"]);
    let place = house.source("proxy.yaml")["problem"]["place"].clone();
    assert_eq!(place["field"], "spec.accessLog.path", "{place}");
    let problems = House::new(&[("proxy.yaml", &logging)]).control.start().unwrap_err();
    assert_eq!(problems[0].code.to_string(), "P0502");
}

#[test]
fn what_the_data_plane_finds_contradictory_refuses_what_has_changed() {
    let mut house = House::living(&[("proxy.yaml", PROXY), ("b.yaml", &backend("b"))]);
    house.notes.lock().unwrap().odd = "default/odd";
    house.edit("b.yaml", &backend("odd"));
    house.check(1, &["b"]);
    assert_eq!(house.problems(), ["b.yaml P0901"]);
    house.edit("b.yaml", &backend("c"));
    house.check(2, &["c"]);
}

#[test]
fn a_changed_number_of_workers_goes_live_and_is_said_to_need_a_restart() {
    let mut house = House::living(&[("proxy.yaml", &format!("{PROXY}  workers: 1\n"))]);
    assert_eq!(house.board.status()["needs_restart"], serde_json::json!([]));
    house.edit("proxy.yaml", &format!("{PROXY}  workers: 2\n"));
    house.check(2, &[]);
    assert_eq!(house.board.status()["needs_restart"], serde_json::json!(["workers"]));
}

#[test]
fn a_changed_drain_is_what_the_documents_say_now() {
    let mut house = House::living(&[("proxy.yaml", PROXY)]);
    house.edit("proxy.yaml", &format!("{PROXY}  drain: {{delay: 0s, timeout: 7s}}\n"));
    let settings = house.board.settings().unwrap();
    assert_eq!((settings.drain_delay.as_secs(), settings.drain_timeout.as_secs()), (0, 7));
    assert_eq!(house.board.status()["needs_restart"], serde_json::json!([]));
}

#[test]
fn an_object_that_is_meant_for_another_proxy_is_noted() {
    let route = route("r", "b").replace(
        "spec: {",
        "spec: {parentRefs: [{group: portcullis.dev, kind: Proxy, name: other}], ",
    );
    let house =
        House::living(&[("proxy.yaml", PROXY), ("b.yaml", &backend("b")), ("r.yaml", &route)]);
    assert_eq!(house.problems(), [""; 0]);
    let notes = house.board.status()["notes"].clone();
    assert_eq!(notes[0]["object"], "HTTPRoute default/r", "{notes}");
    assert_eq!(notes[0]["place"]["line"], 4);
}

#[test]
fn a_first_start_leaves_out_what_is_broken_and_serves_the_rest() {
    let house = House::living(&[
        ("proxy.yaml", PROXY),
        ("b.yaml", &backend("b")),
        ("r.yaml", &route("r", "b")),
        ("s.yaml", "kind: Nonsense: no"),
    ]);
    house.check(1, &["r", "b"]);
    assert_eq!(house.problems(), ["s.yaml P0101"]);
    assert_eq!(house.source("s.yaml")["accepted_version"], Value::Null);
}

#[test]
fn a_route_whose_backend_was_left_out_stays_rather_than_give_its_traffic_to_others() {
    let mut house = House::living(&[
        ("proxy.yaml", PROXY),
        ("b.yaml", "kind: Backend: no"),
        ("r.yaml", &route("r", "b")),
    ]);
    house.check(1, &["r"]);
    assert_eq!(house.problems(), ["b.yaml P0101", "r.yaml P0105"]);
    house.edit("b.yaml", &backend("b"));
    house.check(2, &["r", "b"]);
    assert_eq!(house.problems(), [""; 0]);
}

#[test]
fn a_new_route_to_nothing_goes_live_and_answers_500_rather_than_give_its_traffic_to_others() {
    let files = [("proxy.yaml", PROXY), ("r.yaml", &*route("r", "nothing"))];
    let house = House::living(&files);
    house.check(1, &["r"]);
    assert_eq!(house.problems(), ["r.yaml P0105"]);

    let mut house = House::living(&files[..1]);
    house.edit("r.yaml", &route("r", "nothing"));
    house.check(2, &["r"]);
    assert_eq!(house.problems(), ["r.yaml P0105"]);
    house.edit("n.yaml", &backend("nothing"));
    house.check(3, &["r", "nothing"]);
    assert_eq!(house.problems(), [""; 0]);
}

#[test]
fn nothing_starts_without_a_filter_that_traffic_has_to_pass() {
    let filter = |name: &str, more: &str| {
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: {name}}}\n\
             spec: {{url: 7, {more}}}\n"
        )
    };
    let start =
        |text: &str| House::new(&[("proxy.yaml", PROXY), ("guard.yaml", text)]).control.start();
    let (open, closed) = ("failStrategy: FAIL_OPEN", "priority: 1");
    let problems = start(&filter("guard", closed)).unwrap_err();
    let codes: Vec<String> = problems.iter().map(|problem| problem.code.to_string()).collect();
    assert_eq!(codes, ["P0103", "P0209"]);
    assert!(start(&filter("guard", open)).is_ok());
    // Each filter speaks for itself, words of a comment or a configuration for nobody, and what nobody can read for a guard.
    for other in [
        format!("---\n{}", filter("other", closed)),
        format!("---\n{}", filter("other", "pluginConfig: {failStrategy: FAIL_OPEN}")),
        format!("---\n{}# failStrategy: FAIL_OPEN\n", filter("other", closed)),
        format!("---\n{}", filter("other", open).replace("v1alpha1", "v7")),
        "---\nkind: [\n".to_owned(),
    ] {
        let problems = start(&format!("{}{other}", filter("guard", open))).unwrap_err();
        assert!(problems.iter().any(|problem| problem.code.to_string() == "P0209"), "{other}");
    }
}

#[test]
fn a_first_start_with_nothing_good_says_everything_that_is_wrong() {
    let codes = |files: &[(&str, &str)]| -> Vec<String> {
        let problems: Vec<Problem> = House::new(files).control.start().unwrap_err();
        problems.iter().map(|problem| problem.code.to_string()).collect()
    };
    assert_eq!(codes(&[]).len(), 1);
    let broken = PROXY.replace("spec:", "spec:\n  colour: red");
    assert_eq!(
        codes(&[("a.yaml", "kind: : no"), ("proxy.yaml", &broken)]),
        ["P0101", "P0102"].map(str::to_owned)
    );
}
