//! `portcullis status -n …`: the proxies of a namespace, asked through the API server.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::pods::{Answers, Pod};
use super::{Cluster, judged, status};
use crate::program::{ROUTE, backend, eventually, upstream};

fn command(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["status", "-n", "shop"]).args(args);
    command.arg("--kubeconfig").arg(cluster.api.kubeconfig());
    command
}

/// Exit code, stdout, stderr.
fn ask(cluster: &Cluster, args: &[&str]) -> (i32, String, String) {
    let output = command(cluster, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Waits for the newest version, in the background.
fn wait(cluster: &Cluster) -> Child {
    let mut command = command(cluster, &["--wait", "--timeout", "2m"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn pods(cluster: &Cluster, pods: &[(&str, &Answers)]) {
    let pods = pods.iter().map(|(name, answers)| Pod::new(name, (*answers).clone()));
    cluster.api.lock().pods = pods.collect();
}

fn refused(cluster: &Cluster) -> String {
    let bad = ROUTE.replace("rules:", "rulez:").replace("name: app}\n", "name: bad}\n");
    cluster.api.put("shop", "route", &[("route.yaml", &bad)])
}

#[test]
fn pods_that_agree_are_shown_together_and_the_others_say_what_differs() {
    let cluster = Cluster::new();
    let app = cluster.app();
    let fine = Answers::From(app.admin().unwrap());
    pods(&cluster, &[("web-1", &fine), ("web-2", &fine)]);
    // No proxy of ours, and one that has ended.
    let other = Pod { labels: json!({"app": "other"}), ..Pod::new("other", Answers::Nothing) };
    let ended = Pod { phase: "Succeeded", ..Pod::new("ended", Answers::Nothing) };
    cluster.api.lock().pods.extend([other, ended]);
    let (code, text, words) = ask(&cluster, &[]);
    assert_eq!((code, &*words), (0, ""), "{text}");
    assert!(text.starts_with("2 proxies: ready\n  web-1  generation 1, since "), "{text}");
    assert!(text.contains("  configmap://shop/app    live  resourceVersion 2\n"), "{text}");

    // One of them has an older account, in which all was well.
    let old = Answers::Said(status(&app));
    pods(&cluster, &[("web-1", &fine), ("web-2", &old), ("web-3", &Answers::Nothing)]);
    judged(&app, "shop/route", &refused(&cluster));
    let (code, text, _) = ask(&cluster, &[]);
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("1 proxy: ready, 1 refused\n  web-1 "), "{text}");
    assert!(text.contains("    P0102 configmap://shop/route/route.yaml:4:8 "), "{text}");
    assert!(text.contains("1 proxy: ready\n  web-2 "), "{text}");
    let unknown = "1 proxy: unknown\n  web-3  P0425 nothing is known of pod web-3: the API server answers 503: \
        error trying to reach service";
    assert!(text.contains(unknown), "{text}");

    pods(&cluster, &[("web-1", &fine), ("web-2", &old)]);
    let (code, json, _) = ask(&cluster, &["-o", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, 1, "{json}");
    let found = json["proxies"].as_array().unwrap().iter();
    let found: Vec<_> = found.map(|proxy| (&proxy["name"], &proxy["fine"])).collect();
    assert_eq!(found, [(&json!("web-1"), &json!(false)), (&json!("web-2"), &json!(true))]);
}

#[test]
fn a_missing_right_is_named_with_its_verb_and_resource() {
    let cluster = Cluster::new();
    let no = "pods \"web-1:19001\" is forbidden: User \"jane\" cannot get resource \"pods/proxy\"";
    pods(&cluster, &[("web-1", &Answers::Refusal(403, no))]);
    let (code, text, _) = ask(&cluster, &[]);
    assert_eq!(code, 1, "{text}");
    let named =
        format!("P0422 may not get pods/proxy in namespace shop: the API server answers 403: {no}");
    assert!(text.contains(&named), "{text}");

    cluster.api.lock().pods_refusal = Some((403, "User \"jane\" cannot list resource \"pods\""));
    let (code, _, words) = ask(&cluster, &[]);
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("P0422") && words.contains("may not list pods in namespace shop"));
}

#[test]
fn no_pod_no_port_and_no_api_server_are_told() {
    let cluster = Cluster::new();
    let (code, _, words) = ask(&cluster, &["--selector", "app=nobody"]);
    assert_eq!(code, 69, "{words}");
    assert!(words.contains("no pod in namespace shop has the label app=nobody"), "{words}");

    pods(&cluster, &[("web-1", &Answers::Nothing)]);
    let (code, text, _) = ask(&cluster, &["--port", "admin"]);
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("P0425 pod web-1 has no port admin"), "{text}");
    assert_eq!(cluster.api.count("/proxy/"), 0);
    ask(&cluster, &["--port", "7"]);
    assert_eq!(cluster.api.count("GET /api/v1/namespaces/shop/pods/web-1:7/proxy/status"), 1);

    cluster.api.go_down();
    let (code, _, words) = ask(&cluster, &[]);
    assert_eq!(code, 69, "{words}");
    assert!(words.contains("P0421"), "{words}");
}

#[test]
fn waiting_ends_when_the_last_pod_runs_the_newest_version() {
    let cluster = Cluster::new();
    let extra = backend(upstream("extra")).replace("name: app", "name: extra");
    cluster.api.put("shop", "extra", &[("extra.yaml", &extra)]);
    let app = cluster.app();
    pods(&cluster, &[("web-1", &Answers::From(app.admin().unwrap()))]);
    let (code, text, words) = ask(&cluster, &["--wait"]);
    assert_eq!((code, &*words), (0, ""), "{text}");

    eventually(|| cluster.api.watches() == 2);
    cluster.api.lock().mute = true;
    let other = ROUTE.replace("name: app}\n", "name: other}\n");
    let version = cluster.api.put("shop", "other", &[("route.yaml", &other)]);
    cluster.api.delete("shop", "extra");
    let (code, _, words) = ask(&cluster, &["--wait", "--timeout", "0s"]);
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("error[P0426]: web-1 does not run what the cluster holds"), "{words}");
    assert!(
        words.contains(
            "shop/other: it has not seen it; shop/extra: it has not seen that it is gone"
        )
    );

    let polled = cluster.api.count("/proxy/status");
    let mut waiting = wait(&cluster);
    eventually(|| cluster.api.count("/proxy/status") > polled + 1);
    assert!(waiting.try_wait().unwrap().is_none());
    cluster.api.lock().mute = false;
    cluster.api.break_watches("");
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(status(&app)["kubernetes"]["config_maps"]["shop/other"], version);
}

#[test]
fn waiting_for_what_is_refused_ends_with_1_and_the_reason() {
    let cluster = Cluster::new();
    let app = cluster.app();
    let version = refused(&cluster);
    judged(&app, "shop/route", &version);
    pods(&cluster, &[("web-1", &Answers::From(app.admin().unwrap()))]);
    let (code, _, words) = ask(&cluster, &["--wait", "--timeout", "1ms"]);
    assert_eq!(code, 1, "{words}");
    let reason =
        format!("shop/route: {version} is refused: P0102 configmap://shop/route/route.yaml:4:8");
    assert!(words.contains(&reason), "{words}");
}

#[test]
fn waiting_goes_on_while_a_proxy_is_without_news() {
    let cluster = Cluster::new();
    let app = cluster.app();
    eventually(|| cluster.api.watches() == 2);
    // It runs the newest version, and does not know that.
    let mut deaf = status(&app);
    deaf["kubernetes"]["stale_since"] = json!("2026-11-26T03:12:09.114Z");
    pods(&cluster, &[("web-1", &Answers::Said(deaf))]);
    let (code, _, words) = ask(&cluster, &["--wait", "--timeout", "0s"]);
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("without news of the API server since 2026-11-26T03:12:09"), "{words}");
    let waiting = wait(&cluster);
    let polled = cluster.api.count("/proxy/status");
    eventually(|| cluster.api.count("/proxy/status") > polled);
    pods(&cluster, &[("web-1", &Answers::From(app.admin().unwrap()))]);
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn waiting_survives_an_api_server_that_is_gone_for_a_while_and_a_pod_that_is_not_there_yet() {
    let cluster = Cluster::new();
    let app = cluster.app();
    eventually(|| cluster.api.watches() == 2);
    pods(&cluster, &[("web-1", &Answers::Nothing)]);
    let mut waiting = wait(&cluster);
    eventually(|| cluster.api.count("/proxy/status") > 1);
    cluster.api.go_down();
    pods(&cluster, &[("web-1", &Answers::From(app.admin().unwrap()))]);
    assert!(waiting.try_wait().unwrap().is_none());
    cluster.api.come_back();
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
