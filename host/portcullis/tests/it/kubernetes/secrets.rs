//! `imagePullSecret` of a filter in a ConfigMap: a Secret of the cluster, asked for when it is needed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::app::App;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::process::{after, command};
use super::{Cluster, PROXY, judged, source, status};
use crate::distribution::images::{compat, mark};
use crate::distribution::server::{Answer, Contents, Server};
use crate::program::{eventually, fetch};

const PASSWORD: &str = "open-sesame";
const TYPE: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");

/// A registry that lets in whoever knows the password, and how many it has turned away.
struct Registry {
    server: Server,
    denied: Arc<AtomicUsize>,
}

impl Registry {
    fn new() -> Registry {
        let mut contents = Contents::default();
        for (tag, letter) in [("1", 'a'), ("2", 'b'), ("3", 'c')] {
            compat(&mut contents, tag, &mark(letter));
        }
        let known = format!("Basic {}", pair(PASSWORD));
        let denied = Arc::<AtomicUsize>::default();
        let count = denied.clone();
        let server = Server::start(move |request| {
            if request.header("authorization") == known {
                return contents.answer(request);
            }
            count.fetch_add(1, Ordering::Relaxed);
            Answer::new(401, "").with("www-authenticate", "Basic realm=\"acme\"")
        });
        Registry { server, denied }
    }

    fn proxy(&self) -> String {
        let host = format!("{{host: \"{}\", plainHttp: true}}", self.server.address);
        PROXY.replace("  drain:", &format!("  registries: [{host}]\n  drain:"))
    }

    fn filter(&self, tag: &str, secret: &str) -> String {
        let url = format!("\"oci://{}/acme/mark:{tag}\"", self.server.address);
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: mark}}\n\
             spec: {{url: {url}, imagePullSecret: {secret}}}\n"
        )
    }

    fn auths(&self, password: &str) -> Value {
        json!({self.server.address.to_string(): {"auth": pair(password)}})
    }

    fn config(&self, password: &str) -> String {
        json!({"auths": self.auths(password)}).to_string()
    }

    fn cluster(&self) -> Cluster {
        let cluster = Cluster::new();
        cluster.api.put("shop", "proxy", &[("proxy.yaml", &self.proxy())]);
        cluster
    }
}

fn pair(password: &str) -> String {
    STANDARD.encode(format!("user:{password}"))
}

fn secret((kind, key): (&str, &str), content: &str) -> Option<Value> {
    let data = json!({key: STANDARD.encode(content)});
    let metadata = json!({"name": "any", "namespace": "any"});
    Some(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data}),
    )
}

fn keep(cluster: &Cluster, name: &str, secret: Option<Value>) {
    cluster.api.lock().secrets.insert(name.to_owned(), secret);
}

fn has_mark(web: SocketAddr, letter: char) -> bool {
    fetch(web, "/").0.contains(&format!("x-mark: {letter}\r\n"))
}

fn marked(app: &App, letter: char) -> bool {
    has_mark(app.addresses()[0].1, letter)
}

fn asked(cluster: &Cluster, namespace: &str, name: &str) -> usize {
    cluster.api.count(&format!("GET /api/v1/namespaces/{namespace}/secrets/{name}"))
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![fs::read(&path).unwrap()],
    };
    entries.flat_map(read).collect()
}

#[test]
fn a_private_image_is_pulled_with_the_secret_as_it_is_now_and_what_that_holds_is_shown_nowhere() {
    let registry = Registry::new();
    let cluster = registry.cluster();
    keep(&cluster, "shop/pull", secret(TYPE, &registry.config(PASSWORD)));
    cluster.api.put("shop", "mark", &[("mark.yaml", &registry.filter("1", "pull"))]);
    let mut command = command(&cluster);
    command.arg("--kubeconfig").arg(cluster.api.kubeconfig()).args(["--admin", "127.0.0.1:0"]);
    let mut child = command.env("PORTCULLIS_LOG", "trace").spawn().unwrap();
    let mut said = Vec::new();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.inspect(|line| said.push(line.as_ref().unwrap().clone()));
    let web = after(&mut lines, "listening http://");
    let web: SocketAddr = web.strip_suffix(" (web)").unwrap().parse().unwrap();
    let admin: SocketAddr = after(&mut lines, "admin http://").parse().unwrap();
    // Nobody waits for whoever reads the log.
    std::thread::scope(|scope| {
        let rest = scope.spawn(move || lines.for_each(drop));
        assert!(has_mark(web, 'a'));
        assert_eq!(asked(&cluster, "shop", "pull"), 1);

        // The password is another one, here and not yet there: what is served is served on, and it heals.
        let denied = registry.denied.load(Ordering::Relaxed);
        keep(&cluster, "shop/pull", secret(TYPE, &registry.config("open-barley")));
        cluster.api.put("shop", "mark", &[("mark.yaml", &registry.filter("2", "pull"))]);
        let shows = |page: &str| fetch(admin, page).1;
        eventually(|| registry.denied.load(Ordering::Relaxed) > denied + 1);
        eventually(|| shows("/status").contains("P0405"));
        assert!(has_mark(web, 'a'));
        let before = asked(&cluster, "shop", "pull");
        keep(&cluster, "shop/pull", secret(TYPE, &registry.config(PASSWORD)));
        eventually(|| has_mark(web, 'b'));
        assert!(asked(&cluster, "shop", "pull") > before);

        let mut shown = vec![shows("/status").into_bytes(), shows("/config").into_bytes()];
        assert!(String::from_utf8_lossy(&shown[1]).contains("imagePullSecret"));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        rest.join().unwrap();
        shown.extend(files(cluster.cache.path()));
        shown.extend(cluster.api.lock().events.iter().map(|event| event.to_string().into_bytes()));
        nothing_of_it(&registry, &shown);
    });
    assert!(said.iter().any(|line| line.contains("P0405")), "{said:#?}");
    nothing_of_it(&registry, &[said.join("\n").into_bytes()]);
}

fn nothing_of_it(registry: &Registry, shown: &[Vec<u8>]) {
    assert!(shown.iter().map(Vec::len).sum::<usize>() > 1000);
    for password in [PASSWORD, "open-barley"] {
        let secrets =
            [password.to_owned(), pair(password), STANDARD.encode(registry.config(password))];
        for (text, word) in
            shown.iter().flat_map(|text| secrets.iter().map(move |word| (text, word)))
        {
            let found = text.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!found, "{word} is in {}", String::from_utf8_lossy(text));
        }
    }
}

#[test]
fn a_secret_that_is_missing_of_another_type_empty_or_forbidden_says_so_and_heals_by_itself() {
    let registry = Registry::new();
    let cluster = registry.cluster();
    keep(&cluster, "shop/pull", secret(TYPE, &registry.config(PASSWORD)));
    cluster.api.put("shop", "mark", &[("mark.yaml", &registry.filter("1", "pull"))]);
    let app = cluster.app();
    assert!(marked(&app, 'a'));

    cluster.api.put("shop", "mark", &[("mark.yaml", &registry.filter("2", "other"))]);
    let refused = |code: &str, words: &str| {
        let problem = || source(&app, "configmap://shop/mark")["problem"].clone();
        eventually(|| {
            let shown = problem();
            shown["code"] == code && shown["cause"].as_str().unwrap().contains(words)
        });
        let shown = problem();
        assert!(shown["title"].as_str().unwrap().contains("the Secret shop/other"), "{shown}");
        assert_eq!(shown["place"]["field"], "spec.imagePullSecret", "{shown}");
        assert!(marked(&app, 'a'));
    };
    refused("P0424", "secrets \"other\" not found");
    let cases = [
        (secret(("Opaque", TYPE.1), "{}"), "P0424", "its type is Opaque"),
        (secret((TYPE.0, "other-key"), "{}"), "P0424", "it has no key .dockerconfigjson"),
        (Some(json!({"kind": "Secret", "data": {"a": PASSWORD}})), "P0421", "no Secret (line 1"),
        (
            None,
            "P0422",
            "User \"system:serviceaccount:shop:web\" cannot get resource \"secrets\" in API group \"\" in the \
             namespace \"shop\"",
        ),
    ];
    for (secret, code, words) in cases {
        keep(&cluster, "shop/other", secret);
        app.reload();
        refused(code, words);
    }
    let no_password = app.board().problems().iter().all(|one| !one.to_string().contains(PASSWORD));
    assert!(no_password);
    keep(&cluster, "shop/other", secret(TYPE, &registry.config(PASSWORD)));
    eventually(|| marked(&app, 'b'));
    eventually(|| app.board().problems().is_empty());
}

#[test]
fn a_document_that_changes_asks_anew_unless_its_module_is_here() {
    let registry = Registry::new();
    let cluster = registry.cluster();
    keep(&cluster, "shop/pull", secret(TYPE, &registry.config(PASSWORD)));
    let always = |priority: u8| {
        let more = format!("imagePullSecret: pull, imagePullPolicy: Always, priority: {priority}");
        registry.filter("1", "pull").replace("imagePullSecret: pull", &more)
    };
    cluster.api.put("shop", "mark", &[("mark.yaml", &always(1))]);
    let app = cluster.app();
    assert!(marked(&app, 'a'));
    let change = |text: &str| {
        let version = cluster.api.put("shop", "mark", &[("mark.yaml", text)]);
        judged(&app, "shop/mark", &version);
    };
    change(&always(2));
    eventually(|| asked(&cluster, "shop", "pull") == 2);
    change(&registry.filter("1", "pull"));
    change(&registry.filter("1", "pull").replace("spec: {", "spec: {priority: 3, "));
    assert!(marked(&app, 'a'));
    assert_eq!(asked(&cluster, "shop", "pull"), 2);

    // What failed is tried anew at once: it does not wait for its next turn.
    let missing = registry.filter("2", "other");
    let failed = || {
        let remote = status(&app)["modules"]["remote"].clone();
        let failed = |one: &&Value| one["problem"]["code"] == "P0424";
        remote.as_array().unwrap().iter().find(failed).cloned().unwrap_or_default()
    };
    change(&missing);
    eventually(|| failed()["attempts"].as_u64() >= Some(2));
    let since = failed()["since"].clone();
    change(&missing.replace("spec: {", "spec: {priority: 4, "));
    eventually(|| !failed().is_null() && failed()["since"] != since);
}

#[test]
fn a_mesh_wide_filter_has_the_secret_of_the_mesh_wide_namespace_and_restarts_without_it() {
    let registry = Registry::new();
    let cluster = registry.cluster();
    let legacy = ("kubernetes.io/dockercfg", ".dockercfg");
    let root = "portcullis-system";
    let content = registry.auths(PASSWORD).to_string();
    keep(&cluster, "portcullis-system/pull", secret(legacy, &content));
    // What the document says of its namespace opens no other Secret.
    let filter =
        registry.filter("3", "pull").replace("{name: mark}", "{name: mark, namespace: shop}");
    cluster.api.put(root, "mark", &[("mark.yaml", &filter)]);
    let app = cluster.app();
    assert!(marked(&app, 'c'));
    assert_eq!((asked(&cluster, root, "pull"), asked(&cluster, "shop", "pull")), (1, 0));
    drop(app);

    cluster.api.go_down();
    assert!(marked(&cluster.app(), 'c'));
}
