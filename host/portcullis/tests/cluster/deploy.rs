//! `deploy/kubernetes` against a real API server: it is accepted as it stands, its account may do what its Roles say and
//! nothing else, and the proxy can do without none of that.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::api::{Api, Connection};
use crate::server::{Server, shared};

/// Namespace, group, resource, verb, and the only object that it is about, or nothing.
type Right = [String; 5];

/// What is not found among the verbs of resources.
const SPECIAL: [&str; 6] = ["bind", "escalate", "impersonate", "approve", "sign", "use"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes")
}

/// The namespaces have to be there, or nothing in them can be tried.
fn with_namespaces() -> Option<&'static Server> {
    let server = shared()?;
    let file = folder().join("namespaces.yaml").display().to_string();
    server.kubectl(&["apply", "--server-side", "-f", &file], "");
    Some(server)
}

#[test]
fn the_manifests_are_accepted_by_the_api_server() {
    let Some(server) = with_namespaces() else { return };
    let folder = folder().display().to_string();
    let said = server.kubectl(&["apply", "--server-side", "--dry-run=server", "-k", &folder], "");
    for object in [
        "deployment.apps/reviews-v1",
        "poddisruptionbudget.policy/reviews-v1",
        "role.rbac.authorization.k8s.io/portcullis",
        "configmap/canary",
    ] {
        assert!(said.contains(object), "{said}");
    }
    // The field is known, and strictly: a typing error would be one.
    let wrong = include_str!("../../../../deploy/kubernetes/reviews.yaml")
        .replace("replicas: 2", "replica: 2");
    let refused =
        server.try_kubectl(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &wrong);
    assert!(refused.unwrap_err().contains("replica"));
}

/// The API server's defaults included.
#[test]
fn no_container_but_the_proxy_has_the_token_and_the_application_outlives_the_news_that_it_ends() {
    let Some(server) = with_namespaces() else { return };
    let file = folder().join("reviews.yaml").display().to_string();
    let dry = ["apply", "--server-side", "--dry-run=server", "-o", "json", "-f", &file];
    let objects: Value = serde_json::from_str(&server.kubectl(&dry, "")).unwrap();
    let objects = objects["items"].as_array().unwrap().iter();
    let pods: Vec<&Value> = objects
        .filter(|object| object["kind"] == "Deployment")
        .map(|deployment| &deployment["spec"]["template"]["spec"])
        .collect();
    assert_eq!(pods.len(), 2);
    let tokens = |container: &&Value| container.to_string().contains("/serviceaccount");
    let containers = |pod: &Value, kind: &str| pod[kind].as_array().cloned().unwrap_or_default();
    for pod in &pods {
        assert_eq!(pod["automountServiceAccountToken"], json!(false));
        assert_eq!(containers(pod, "containers").iter().filter(tokens).count(), 0);
    }
    let [proxy] = &*containers(pods[0], "initContainers") else { panic!("one sidecar") };
    assert!(tokens(&proxy));
    // The application ends first, and the proxy serves for as long as it drains after that.
    let pause = &pods[0]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
    let grace = &pods[0]["terminationGracePeriodSeconds"];
    let documents = include_str!("../../../../deploy/kubernetes/configuration.yaml");
    assert!(documents.contains("drain: {delay: 5s, timeout: 30s}"));
    assert!(grace.as_u64().unwrap() > pause.as_u64().unwrap() + 5 + 30, "{pods:?}");
}

#[test]
fn the_account_may_do_what_the_committed_roles_say_and_nothing_else() {
    let Some(server) = with_namespaces() else { return };
    let file = folder().join("rbac.yaml").display().to_string();
    server.kubectl(&["apply", "--server-side", "-f", &file], "");
    let bare = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: bare, namespace: reviews}\n";
    server.kubectl(&["apply", "-f", "-"], bare);

    let committed = server.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", &file], "");
    let committed = rights(&committed);
    let mut asked = matrix(server);
    asked.extend(committed.iter().flat_map(|right| named(&asked, right)).collect::<Vec<_>>());
    let allowed = |account: &str| {
        let api = server.api().with_token(&server.token("reviews", account));
        allowed(&api, &asked)
    };
    let mut granted = allowed("portcullis");
    // Whoever has a name may ask what he may do.
    allowed("bare").iter().for_each(|right| assert!(granted.remove(right)));
    assert!(committed.iter().all(|right| asked.contains(right)), "{committed:?}");
    assert_eq!(granted, committed, "of {} that were asked", asked.len());
}

/// Every verb on every resource of the API server, in the namespaces of the manifests and in another one.
fn matrix(server: &Server) -> BTreeSet<Right> {
    let mut resources = BTreeSet::new();
    let mut verbs: BTreeSet<String> = SPECIAL.map(str::to_owned).into();
    let api = server.api();
    let groups = api.get("/apis").unwrap().json();
    let groups = groups["groups"].as_array().unwrap().iter().flat_map(|group| {
        let versions = group["versions"].as_array().unwrap().iter();
        versions.map(|version| format!("/apis/{}", text(&version["groupVersion"])))
    });
    for path in groups.chain(["/api/v1".to_owned()]) {
        let list = api.get(&path).unwrap().json();
        let group = text(&list["groupVersion"]).split_once('/').map_or("", |(group, _)| group);
        for resource in list["resources"].as_array().unwrap() {
            resources.insert((group.to_owned(), text(&resource["name"]).to_owned()));
            verbs.extend(
                resource["verbs"].as_array().unwrap().iter().map(|verb| text(verb).to_owned()),
            );
        }
    }
    let namespaces = ["reviews", "portcullis-system", "default"];
    let pairs = resources
        .iter()
        .flat_map(|(group, resource)| verbs.iter().map(move |verb| (group, resource, verb)));
    pairs
        .flat_map(|(group, resource, verb)| {
            namespaces.map(|namespace| [namespace, group, resource, verb, ""].map(str::to_owned))
        })
        .collect()
}

/// What may be asked of the object that `right` is about, if it is about one.
fn named(asked: &BTreeSet<Right>, right: &Right) -> Vec<Right> {
    let [_, group, resource, _, name] = right;
    let same = |other: &&Right| !name.is_empty() && (&other[1], &other[2]) == (group, resource);
    let of = |other: &Right| {
        let mut named = other.clone();
        named[4].clone_from(name);
        named
    };
    asked.iter().filter(same).map(of).collect()
}

fn allowed(api: &Api, asked: &BTreeSet<Right>) -> BTreeSet<Right> {
    let mut connection = api.connect().unwrap();
    asked.iter().filter(|right| is_allowed(&mut connection, right)).cloned().collect()
}

fn is_allowed(connection: &mut Connection, right: &Right) -> bool {
    let [namespace, group, resource, verb, name] = right;
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "namespace": namespace, "group": group, "resource": resource, "subresource": subresource, "verb": verb,
            "name": name,
        }},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = connection.ask("POST", path, Some(&review)).unwrap().json();
    answer["status"]["allowed"].as_bool().unwrap()
}

/// What the Roles among these objects allow.
fn rights(objects: &str) -> BTreeSet<Right> {
    let objects =
        serde_json::Deserializer::from_str(objects).into_iter::<Value>().map(Result::unwrap);
    let objects = objects.flat_map(|object| match object["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![object],
    });
    let mut rights = BTreeSet::new();
    let any = vec![json!("")];
    for role in objects.filter(|object| object["kind"] == "Role") {
        for rule in role["rules"].as_array().unwrap() {
            let names = rule["resourceNames"].as_array().unwrap_or(&any);
            for group in rule["apiGroups"].as_array().unwrap() {
                for resource in rule["resources"].as_array().unwrap() {
                    for verb in rule["verbs"].as_array().unwrap() {
                        for name in names {
                            let namespace = &role["metadata"]["namespace"];
                            let parts = [namespace, group, resource, verb, name];
                            rights.insert(parts.map(|part| text(part).to_owned()));
                        }
                    }
                }
            }
        }
    }
    rights
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
