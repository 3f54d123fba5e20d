//! What becomes of ConfigMaps when nothing goes wrong with the API server.

use std::cell::Cell;
use std::io::BufReader;
use std::net::TcpStream;

use portcullis::app::App;
use serde_json::json;

use super::{Cluster, answer, judged, source, status};
use crate::program::{ROUTE, backend, eventually, get, upstream};

#[test]
fn a_config_map_goes_live_changes_breaks_and_heals() {
    let cluster = Cluster::new();
    let app = cluster.app();
    assert_eq!(answer(&app), "one");

    let two = backend(upstream("two"));
    let version = cluster.api.put("shop", "app", &[("app.yaml", &two), ("route.yaml", ROUTE)]);
    eventually(|| answer(&app) == "two");
    judged(&app, "shop/app", &version);

    // One bad key refuses the ConfigMap as a whole; the others move on.
    let three = backend(upstream("three"));
    let bad = ROUTE.replace("rules:", "rulez:");
    let version = cluster.api.put("shop", "app", &[("app.yaml", &three), ("route.yaml", &bad)]);
    judged(&app, "shop/app", &version);
    let shown = source(&app, "configmap://shop/app");
    assert_eq!(shown["problem"]["code"], "P0102");
    assert_eq!(shown["problem"]["place"]["file"], "configmap://shop/app/route.yaml");
    assert_ne!(shown["version"], shown["accepted_version"]);
    assert_eq!(answer(&app), "two");
    let other = ROUTE.replace("name: app}\n", "name: other}\n");
    let version = cluster.api.put("shop", "other", &[("route.yaml", &other)]);
    judged(&app, "shop/other", &version);
    assert!(!source(&app, "configmap://shop/other")["accepted_version"].is_null());

    cluster.api.put("shop", "app", &[("app.yaml", &three), ("route.yaml", ROUTE)]);
    eventually(|| answer(&app) == "three");
    cluster.api.delete("shop", "other");
    eventually(|| source(&app, "configmap://shop/other").is_null());
    assert_eq!(answer(&app), "three");
}

#[test]
fn what_is_nearer_wins_and_both_are_shown() {
    let cluster = Cluster::empty();
    cluster.api.put("portcullis-system", "proxy", &[("proxy.yaml", super::PROXY)]);
    let far = backend(upstream("far"));
    cluster.api.put("portcullis-system", "app", &[("app.yaml", &far), ("route.yaml", ROUTE)]);
    let app = cluster.app();
    assert_eq!(answer(&app), "far");

    let near = backend(upstream("near"));
    cluster.api.put("shop", "own", &[("app.yaml", &near)]);
    eventually(|| answer(&app) == "near");
    eventually(|| !source(&app, "configmap://shop/own").is_null());
    assert!(!source(&app, "configmap://portcullis-system/app").is_null());
    let notes = status(&app)["notes"].to_string();
    assert!(notes.contains("the nearer Backend app is used instead"), "{notes}");

    cluster.api.delete("shop", "own");
    eventually(|| answer(&app) == "far");
}

#[test]
fn a_config_map_without_the_label_is_nobodys() {
    let cluster = Cluster::new();
    let app = cluster.app();
    let map = json!({"metadata": {"labels": {"app": "x"}}, "data": {"x.yaml": "kind: Nonsense"}});
    cluster.api.put_map("shop", "stranger", map);
    let version =
        cluster.api.put("shop", "later", &[("route.yaml", &ROUTE.replace("app}\n", "b}\n"))]);
    judged(&app, "shop/later", &version);
    assert!(source(&app, "configmap://shop/stranger").is_null());
}

#[test]
fn what_became_of_a_config_map_is_an_event_on_it() {
    let cluster = Cluster::new();
    let _app = cluster.app();
    let said = |reason: &str, name: &str| {
        let events = &cluster.api.lock().events;
        let about = |event: &&serde_json::Value| {
            event["reason"] == reason && event["involvedObject"]["name"] == name
        };
        events.iter().find(about).cloned()
    };
    eventually(|| said("Applied", "app").is_some());
    let version =
        cluster.api.put("shop", "app", &[("route.yaml", &ROUTE.replace("rules:", "rulez:"))]);
    eventually(|| said("Refused", "app").is_some());
    let event = said("Refused", "app").unwrap();
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["involvedObject"]["resourceVersion"], *version);
    let message = event["message"].as_str().unwrap();
    assert!(message.starts_with("P0102 configmap://shop/app/route.yaml:"), "{message}");

    // Another proxy has the same to say, and says nothing new.
    let before = cluster.api.count("POST");
    let cache = tempfile::tempdir().unwrap();
    let second = App::start(cluster.settings_with(cache.path())).unwrap();
    eventually(|| cluster.api.count("POST") >= before + 2);
    eventually(|| !source(&second, "configmap://shop/app").is_null());
    let refusals =
        cluster.api.lock().events.iter().filter(|one| one["reason"] == "Refused").count();
    assert_eq!(refusals, 1);
}

#[test]
fn a_config_map_that_changes_all_the_time_keeps_no_other_from_being_told_of() {
    let cluster = Cluster::new();
    let route = |name: &str| ROUTE.replace("name: app}\n", &format!("name: {name}}}\n"));
    // As many as are told of in a row, with those that are there.
    for number in 0..18 {
        let name = format!("m{number}");
        cluster.api.put("shop", &name, &[("route.yaml", &route(&name))]);
    }
    let app = cluster.app();
    eventually(|| cluster.api.lock().events.len() == 20);
    let bad = cluster.api.put("shop", "z", &[("route.yaml", &route("z").replace("rules", "r"))]);
    let refused = || {
        let events = &cluster.api.lock().events;
        events.iter().any(|event| event["involvedObject"]["resourceVersion"] == *bad)
    };
    let number = Cell::new(0);
    eventually(|| {
        let text = format!("{}# {}\n", route("a"), number.replace(number.get() + 1));
        let version = cluster.api.put("shop", "a", &[("route.yaml", &text)]);
        judged(&app, "shop/a", &version);
        refused()
    });
}

#[test]
fn a_version_that_becomes_good_by_what_happens_elsewhere_is_told_to_be_live() {
    let cluster = Cluster::new();
    let other = ROUTE.replace("name: app}\n", "name: other}\n");
    let first = cluster.api.put("shop", "first", &[("other.yaml", &other)]);
    let app = cluster.app();
    judged(&app, "shop/first", &first);
    // A document moves: it is in both for a moment, and then where it was not before.
    let second = cluster.api.put("shop", "second", &[("other.yaml", &other)]);
    let said = |reason: &str| {
        let is_said = |event: &serde_json::Value| {
            let about = &event["involvedObject"];
            event["reason"] == reason
                && (&about["name"], &about["resourceVersion"]) == (&json!("second"), &json!(second))
        };
        cluster.api.lock().events.iter().any(is_said)
    };
    eventually(|| said("Refused"));
    assert!(!said("Applied"));
    cluster.api.delete("shop", "first");
    eventually(|| said("Applied"));
}

#[test]
fn a_proxy_runs_not_ready_until_there_is_something_to_run() {
    let cluster = Cluster::empty();
    let app = cluster.app();
    // The server moves to where the document wants it, and breaks off what it is asked meanwhile.
    let ready = || {
        let stream = TcpStream::connect(app.admin()?).ok()?;
        get(&mut BufReader::new(stream), "/healthz/ready", &[])
    };
    let (head, body) = ready().unwrap();
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert!(body.contains("no configuration yet"), "{body}");
    cluster.api.put("shop", "proxy", &[("proxy.yaml", super::PROXY)]);
    eventually(|| !app.addresses().is_empty());
    eventually(|| ready().is_some_and(|(head, _)| head.starts_with("http/1.1 200")));
}
