//! The law of acceptance: which version of each source object is live after a change.

mod house;
mod starts;

use std::fs;

use portcullis::control::Eagerness;
use portcullis_vm::Digest;
use serde_json::{Value, json};

use house::{House, LOUD, PROXY, QUIET, STRANGE, backend, filter, route};

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
    house.join(&conf);
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
    assert_eq!(house.board.status()["needs_restart"], json!([]));
    house.edit("proxy.yaml", &format!("{PROXY}  workers: 2\n"));
    house.check(2, &[]);
    assert_eq!(house.board.status()["needs_restart"], json!(["workers"]));
}

#[test]
fn a_changed_drain_is_what_the_documents_say_now() {
    let mut house = House::living(&[("proxy.yaml", PROXY)]);
    house.edit("proxy.yaml", &format!("{PROXY}  drain: {{delay: 0s, timeout: 7s}}\n"));
    let settings = house.board.settings().unwrap();
    assert_eq!((settings.drain_delay.as_secs(), settings.drain_timeout.as_secs()), (0, 7));
    assert_eq!(house.board.status()["needs_restart"], json!([]));
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
