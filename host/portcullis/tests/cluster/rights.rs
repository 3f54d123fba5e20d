//! The proxy needs each right that `deploy/kubernetes/rbac.yaml` gives it, and says which one it lacks.

use serde_json::Value;

use crate::server::{Server, shared};
use crate::sidecar::{Sidecar, config_map};
use crate::stories::populate;

/// A verb of a rule of a Role.
struct Right {
    /// What ends the namespace of the Role.
    place: &'static str,
    resource: &'static str,
    verb: &'static str,
}

const RIGHTS: [Right; 7] = [
    Right { place: "", resource: "configmaps", verb: "list" },
    Right { place: "", resource: "configmaps", verb: "watch" },
    Right { place: "", resource: "events", verb: "create" },
    Right { place: "", resource: "secrets", verb: "get" },
    Right { place: "-mesh", resource: "configmaps", verb: "list" },
    Right { place: "-mesh", resource: "configmaps", verb: "watch" },
    Right { place: "-mesh", resource: "events", verb: "create" },
];

/// A filter whose module nobody has, and no traffic has to pass.
const PRIVATE: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {name: private}\n\
    spec: {url: \"oci://registry.test/acme/private:1\", imagePullSecret: pull, failStrategy: FAIL_OPEN}\n";

/// Takes the right out of its Role; how many rights there were.
fn take_away(server: &Server, namespace: &str, right: &Right) -> usize {
    let place = format!("{namespace}{}", right.place);
    let read = ["-n", &place, "get", "role", "portcullis", "-o", "json"];
    let mut role: Value = serde_json::from_str(&server.kubectl(&read, "")).unwrap();
    let (mut count, mut taken) = (0, 0);
    for rule in role["rules"].as_array_mut().unwrap() {
        let here = rule["resources"] == serde_json::json!([right.resource]);
        let verbs = rule["verbs"].as_array_mut().unwrap();
        count += verbs.len();
        verbs.retain(|verb| !here || verb != right.verb);
        taken += usize::from(here);
    }
    role["rules"].as_array_mut().unwrap().retain(|rule| rule["verbs"] != serde_json::json!([]));
    assert_eq!(taken, 1, "{} {} in {place}", right.verb, right.resource);
    server.kubectl(&["replace", "-f", "-"], &role.to_string());
    count
}

#[test]
fn a_proxy_without_any_one_of_its_rights_says_which_one_it_lacks_where_and_as_whom() {
    let Some(server) = shared() else { return };
    for (number, right) in RIGHTS.iter().enumerate() {
        let namespace = format!("rights-{number}");
        let home = tempfile::tempdir().unwrap();
        populate(server, &namespace);
        let private = config_map(&namespace, "private", &[("private.yaml", PRIVATE)]);
        server.kubectl(&["apply", "-f", "-"], &private.to_string());
        let rights = take_away(server, &namespace, right);
        assert_eq!(rights, RIGHTS.iter().filter(|other| other.place == right.place).count());
        let account = server.account(&namespace, "portcullis");
        let mesh = format!("{namespace}-mesh");
        let mut process = Sidecar::spawn(&account, &namespace, &mesh, home.path());
        let who = format!("system:serviceaccount:{namespace}:portcullis");
        let place = format!("\"{namespace}{}\"", right.place);
        let words = [right.verb, right.resource, &who, &place];
        let said = process.until(|said| {
            said.lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned)
        });
        println!("without {} {} in {place}: {said:?}", right.verb, right.resource);
        assert!(said.is_some(), "{words:?}: it ended:\n{}", process.last_lines());
    }
}
