//! `portcullis status` at the addresses of proxies.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::thread;

use serde_json::Value;

use super::program::{House, PROXY, ROUTE, backend, replace, upstream};

/// Exit code, stdout, stderr.
pub fn status(args: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("status").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn house() -> House {
    let app = backend(upstream("one"));
    let files = [("proxy.yaml", PROXY), ("app.yaml", &*app), ("route.yaml", ROUTE)];
    House::new(&files.map(|(name, text)| (name, text.as_bytes())))
}

fn url(house: &House) -> String {
    format!("http://{}", house.app.admin().unwrap())
}

#[test]
fn a_proxy_that_runs_everything_is_shown_so_and_proxies_that_agree_are_shown_together() {
    let one = house();
    let (code, text, words) = status(&[&url(&one)]);
    assert_eq!((code, words.as_str()), (0, ""), "{text}");
    assert!(text.starts_with(&format!("1 proxy: ready\n  {}", url(&one))), "{text}");
    assert!(text.contains("  generation 1, since 20"), "{text}");
    let live = text.lines().filter(|line| line.contains("  live  version "));
    assert_eq!(live.count(), 3, "{text}");

    // Without scheme, with the path, and with a port that differs.
    let plain = one.app.admin().unwrap().to_string();
    let (code, text, _) = status(&[&plain, &format!("{}/status", url(&one))]);
    assert_eq!(code, 0);
    assert!(text.starts_with("2 proxies: ready\n"), "{text}");
    assert_eq!(text.matches("route.yaml").count(), 1, "{text}");
}

#[test]
fn what_is_refused_is_shown_with_code_place_and_reason_and_ends_with_1() {
    let house = house();
    house.spoil("route.yaml", ROUTE.replace("rules:", "rulez:").as_bytes());
    let (code, text, _) = status(&[&url(&house)]);
    assert_eq!(code, 1, "{text}");
    assert!(text.starts_with("1 proxy: ready, 1 refused\n"), "{text}");
    assert!(text.contains("a version before it serves\n    P0102 "), "{text}");
    assert!(text.contains("route.yaml:4:8 "), "{text}");

    let (code, json, _) = status(&["-o", "json", &url(&house)]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["schema"]), (1, &"portcullis.proxies/1".into()));
    assert_eq!(json["proxies"][0]["fine"], false);
    let mut problems =
        json["proxies"][0]["status"]["sources"].as_array().unwrap().iter().map(|it| &it["problem"]);
    assert!(problems.any(|problem| problem["code"] == "P0102"), "{json}");

    replace(house.folder.path(), "route.yaml", ROUTE.as_bytes());
    super::program::eventually(|| status(&[&url(&house)]).0 == 0);
}

#[test]
fn a_proxy_that_does_not_answer_ends_with_69_and_the_others_are_shown() {
    let house = house();
    // It takes the connection and says something else.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let deaf = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(drop));
    let app = upstream("{}");
    let addresses = [url(&house), format!("http://{deaf}"), format!("http://{app}")];
    let (code, text, words) = status(&addresses.each_ref().map(|address| &**address));
    assert_eq!(code, 69, "{text}{words}");
    assert!(text.starts_with("1 proxy: ready\n"), "{text}");
    assert!(text.contains("2 proxies: unknown\n"), "{text}");
    assert!(text.contains(&format!("P0425 nothing is known of http://{deaf}: ")), "{text}");
    assert!(text.contains("P0425 what answers is no proxy of ours: its schema is \"\""), "{text}");
}

#[test]
fn what_is_no_address_or_does_not_go_together_is_wrong_usage() {
    for args in [
        &["https://127.0.0.1:19000"][..],
        &["http://127.0.0.1:19000/metrics"],
        &["http://127.0.0.1:19000", "-n", "shop"],
        &["--wait"],
        &["-n", "a/b"],
        &["-n", "shop", "--wait", "--timeout", "soon"],
    ] {
        assert_eq!(status(args).0, 2, "{args:?}");
    }
}
