//! `portcullis status -n …` on a real API server, which passes its requests on to a proxy: as somebody whose rights grow.

use std::env;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::cluster::program;
use crate::program::{PROXY, ROUTE, eventually};
use crate::server::Server;
use crate::sidecar::config_map;
use crate::stories::{populate, sidecar};

const NAMESPACE: &str = "status";

/// An API server passes no requests on to the loopback. This address exists in the network namespace of the test alone.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
/// Set in that namespace.
const INSIDE: &str = "PORTCULLIS_TEST_INSIDE";
const TEST: &str = "status::status_names_each_right_that_is_missing_and_with_all_of_them_waits_for_what_was_applied";

/// A pod that no kubelet runs.
fn pod(server: &Server, port: u16) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": NAMESPACE, "labels": {"portcullis.dev/proxy": "true"}},
        "spec": {
            "serviceAccountName": "portcullis", "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "proxy", "image": "portcullis",
                "ports": [{"name": "health", "containerPort": port}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    server.kubectl(&["apply", "-f", "-"], &pod.to_string());
    let ip = ADDRESS.to_string();
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
    let patch = ["-n", NAMESPACE, "patch", "pod", "web", "--subresource=status", "--type=merge"];
    server.kubectl(&[&patch[..], &["-p", &status.to_string()]].concat(), "");
}

/// Lets `jane` do this in the namespace.
fn grant(server: &Server, namespace: &str, name: &str, (verb, resource): (&str, &str)) {
    let jane = format!("--serviceaccount={NAMESPACE}:jane");
    let (verb, resource) = (format!("--verb={verb}"), format!("--resource={resource}"));
    server.kubectl(&["-n", namespace, "create", "role", name, &verb, &resource], "");
    let role = format!("--role={name}");
    server.kubectl(&["-n", namespace, "create", "rolebinding", name, &role, &jane], "");
}

/// Exit code and everything that is said.
fn ask(account: &Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["status", "-n", NAMESPACE, "--kubeconfig"]).arg(account).args(args);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn status_names_each_right_that_is_missing_and_with_all_of_them_waits_for_what_was_applied() {
    if env::var_os(INSIDE).is_some() {
        return rights_grow(&Server::start("status").unwrap());
    }
    if program().is_none() {
        return;
    }
    let own = format!("ip link set lo up && ip address add {ADDRESS}/32 dev lo && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", &own, "sh"]);
    command.arg(env::current_exe().unwrap()).args(["--exact", "--nocapture", TEST]);
    let output = command.env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(" 1 passed"), "{said}\n{problems}");
}

fn rights_grow(server: &Server) {
    let (home, mesh) = (tempfile::tempdir().unwrap(), format!("{NAMESPACE}-mesh"));
    populate(server, NAMESPACE);
    let own = format!("admin: {{address: \"{ADDRESS}");
    let open = PROXY.replace("admin: {address: \"127.0.0.1", &own);
    let apply = |namespace: &str, name: &str, files: &[(&str, &str)]| {
        let map = config_map(namespace, name, files).to_string();
        server.kubectl(&["apply", "-f", "-"], &map);
    };
    apply(&mesh, "proxy", &[("proxy.yaml", &open)]);
    let sidecar = sidecar(server, NAMESPACE, home.path());
    pod(server, sidecar.admin.port());
    server.kubectl(&["-n", NAMESPACE, "create", "serviceaccount", "jane"], "");
    let jane = server.account(NAMESPACE, "jane");

    // Rights take effect a moment after they were granted.
    let lacks = |args: &[&str], verb: &str, resource: &str| {
        let own = format!("P0422]: may not {verb} {resource} in namespace {NAMESPACE}");
        let own = [own.clone(), own.replace("]:", "")];
        let theirs = format!("cannot {verb} resource \"{resource}\"");
        eventually(|| {
            let (code, said) = ask(&jane, args);
            code == 1 && own.iter().any(|own| said.contains(own)) && said.contains(&theirs)
        });
    };
    lacks(&[], "list", "pods");
    grant(server, NAMESPACE, "pods", ("list", "pods"));
    lacks(&[], "get", "pods/proxy");
    grant(server, NAMESPACE, "proxy", ("get", "pods/proxy"));
    eventually(|| ask(&jane, &[]).0 == 0);
    assert!(ask(&jane, &[]).1.starts_with("1 proxy: ready\n  web  generation "));
    lacks(&["--wait"], "list", "configmaps");
    grant(server, NAMESPACE, "maps", ("list", "configmaps"));
    grant(server, &mesh, "maps", ("list", "configmaps"));
    eventually(|| ask(&jane, &["--wait"]).0 == 0);

    let other = ROUTE.replace("name: app}\n", "name: other}\n");
    apply(NAMESPACE, "other", &[("other.yaml", &other)]);
    let (code, said) = ask(&jane, &["--wait"]);
    assert!(code == 0 && said.contains(&format!("configmap://{NAMESPACE}/other ")), "{said}");
    apply(NAMESPACE, "other", &[("other.yaml", &other.replace("rules:", "rulez:"))]);
    let (code, said) = ask(&jane, &["--wait", "--timeout", "5s"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is refused: P0102 configmap://status/other/other.yaml:4:8"), "{said}");
}
