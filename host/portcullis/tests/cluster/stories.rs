//! What a user does with `kubectl`, and what clients see of it, on a real API server.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::program::{PROXY, ROUTE, backend, upstream};
use crate::server::{Server, shared};
use crate::sidecar::{MARKED, Presence, Sidecar, config_map, noise, stamp, under_load};

/// A route that marks its responses.
pub fn marked(mark: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: marked}}\nspec:\n  rules:\n  \
         - matches: [{{path: {{value: {MARKED}}}}}]\n    filters:\n    - type: ResponseHeaderModifier\n      \
         responseHeaderModifier: {{set: [{{name: x-mark, value: {mark}}}]}}\n    \
         backendRefs: [{{name: app, port: 80}}]\n"
    )
}

/// A namespace with an account that has the committed rights and documents for a proxy in front of an application that says
/// `hello`, and a mesh-wide namespace of its own, where it is said how to listen.
pub fn populate(server: &Server, namespace: &str) {
    let rbac = include_str!("../../../../deploy/kubernetes/rbac.yaml");
    let namespaces = include_str!("../../../../deploy/kubernetes/namespaces.yaml");
    for text in [namespaces, rbac] {
        let text = text.replace(": reviews", &format!(": {namespace}"));
        let text = text.replace("portcullis-system", &format!("{namespace}-mesh"));
        server.kubectl(&["apply", "-f", "-"], &text);
    }
    let app = backend(upstream("hello"));
    let documents = [
        config_map(&format!("{namespace}-mesh"), "proxy", &[("proxy.yaml", PROXY)]),
        config_map(namespace, "app", &[("app.yaml", &app), ("route.yaml", ROUTE)]),
    ];
    for document in documents {
        server.kubectl(&["apply", "-f", "-"], &document.to_string());
    }
}

/// The proxy of that namespace.
pub fn sidecar(server: &Server, namespace: &str, home: &std::path::Path) -> Sidecar {
    let account = server.account(namespace, "portcullis");
    Sidecar::start(&account, namespace, &format!("{namespace}-mesh"), home)
}

/// Looks until there is an Event on this ConfigMap whose message says all of `words`.
#[track_caller]
pub fn until_event(sidecar: &mut Sidecar, server: &Server, of: (&str, &str), words: &[&str]) {
    let (namespace, name) = of;
    let selector = format!("involvedObject.kind=ConfigMap,involvedObject.name={name}");
    let list = ["-n", namespace, "get", "events", "-o", "json", "--field-selector", &selector];
    let seen = sidecar.process.until(|_| {
        let events: Value = serde_json::from_str(&server.kubectl(&list, "")).ok()?;
        let mut events = events["items"].as_array()?.iter();
        events.find(|event| words.iter().all(|word| event.to_string().contains(word)))?;
        Some(())
    });
    assert!(seen.is_some(), "it ended:\n{}", sidecar.process.last_lines());
}

#[test]
fn what_kubectl_creates_changes_breaks_and_deletes_is_live_or_refused_with_an_event_and_no_request_fails()
 {
    let Some(server) = shared() else { return };
    let home = tempfile::tempdir().unwrap();
    populate(server, "story");
    let mut sidecar = sidecar(server, "story", home.path());
    let apply = |mark: &str| {
        let map = config_map("story", "marked", &[("marked.yaml", &marked(mark))]);
        server.kubectl(&["apply", "-f", "-"], &map.to_string());
    };
    let web = sidecar.web;
    let tally = under_load(web, "hello", || {
        apply("one");
        sidecar.until_header("x-mark: one", Presence::There);
        apply("two");
        sidecar.until_header("x-mark: two", Presence::There);
        until_event(&mut sidecar, server, ("story", "marked"), &["Applied"]);

        apply("[no, text]");
        until_event(&mut sidecar, server, ("story", "marked"), &["Refused", "P0103"]);
        sidecar.until_header("x-mark: two", Presence::There);

        apply("three");
        sidecar.until_header("x-mark: three", Presence::There);
        server.kubectl(&["-n", "story", "delete", "configmap", "marked"], "");
        sidecar.until_header("x-mark: three", Presence::Gone);
    });
    println!("stories: {tally:?}");
    assert_eq!(tally.failed.into_inner(), 0);
    sidecar.process.stop();
}

/// Adds bytes that do not compress and mean nothing.
fn padded(mut module: Vec<u8>, bytes: usize) -> Vec<u8> {
    let content = [b"\x07padding".as_slice(), &noise(7, bytes)].concat();
    module.push(0);
    let mut size = content.len();
    while size > 0x7f {
        module.push(0x80 | (size & 0x7f) as u8);
        size >>= 7;
    }
    module.push(size as u8);
    module.extend(content);
    module
}

#[test]
fn a_module_that_push_writes_is_what_the_filter_runs_also_when_it_is_too_large_for_one_config_map()
{
    let Some(server) = shared() else { return };
    let home = tempfile::tempdir().unwrap();
    populate(server, "pushed");
    let push = |module: &[u8]| {
        let file = home.path().join("stamp.wasm");
        fs::write(&file, module).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["push", "configmap://pushed/mods/stamp.wasm"]).arg(file);
        let output = command.env("KUBECONFIG", server.admin()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    push(&stamp("small"));
    let filter = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {name: stamp}\n\
        spec: {url: \"configmap:///mods/stamp.wasm\"}\n";
    let map = config_map("pushed", "stamp", &[("stamp.yaml", filter)]);
    server.kubectl(&["apply", "-f", "-"], &map.to_string());
    let mut sidecar = sidecar(server, "pushed", home.path());
    let tally = under_load(sidecar.web, "hello", || {
        sidecar.until_header("x-version: small", Presence::There);
        push(&padded(stamp("large"), 2 << 20));
        sidecar.until_header("x-version: large", Presence::There);
        let uid = ["-n", "pushed", "get", "configmap", "mods", "-o", "jsonpath={.metadata.uid}"];
        let owners = "jsonpath={.items[*].metadata.ownerReferences[*].uid}";
        let owners = ["-n", "pushed", "get", "configmaps", "-o", owners];
        let (uid, owners) = (server.kubectl(&uid, ""), server.kubectl(&owners, ""));
        assert_eq!(owners.split(' ').collect::<Vec<_>>(), [&*uid; 3]);
        push(&stamp("small-again"));
        sidecar.until_header("x-version: small-again", Presence::There);
    });
    println!("pushed: {tally:?}");
    assert_eq!(tally.failed.into_inner(), 0);
}

#[test]
fn what_several_people_push_into_one_config_map_at_the_same_time_is_all_there() {
    let Some(server) = shared() else { return };
    let home = tempfile::tempdir().unwrap();
    server.kubectl(&["create", "namespace", "crowd"], "");
    let keys = ["a", "b", "c", "d", "e", "f"].map(|key| format!("{key}.wasm"));
    let push = |key: &String| {
        let file = home.path().join(key);
        fs::write(&file, stamp(key)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("push").arg(format!("configmap://crowd/mods/{key}")).arg(file);
        command.env("KUBECONFIG", server.admin()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    for pushing in keys.each_ref().map(push) {
        let output = pushing.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let read = ["-n", "crowd", "get", "configmap", "mods", "-o", "json"];
    let map: Value = serde_json::from_str(&server.kubectl(&read, "")).unwrap();
    let written = map["binaryData"].as_object().unwrap().keys().cloned();
    assert_eq!(written.collect::<Vec<_>>(), keys.map(|key| format!("{key}.gz")));
    assert_eq!(map["metadata"]["labels"]["portcullis.dev/config"], "true");
}
