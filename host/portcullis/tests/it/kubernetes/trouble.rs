//! An API server that forgets, stalls, lies, says no, or goes away: what is live serves on, and what changed is caught up.

use std::time::{Duration, SystemTime};

use portcullis::app::App;
use portcullis::cluster::Patience;
use portcullis_proxy::observe::rfc3339;
use serde_json::json;

use super::api::Fault;
use super::{Cluster, answer, settings, status};
use crate::program::{ROUTE, backend, eventually, fetch, upstream};

fn change(cluster: &Cluster, text: &'static str) {
    let backend = backend(upstream(text));
    cluster.api.put("shop", "app", &[("app.yaml", &backend), ("route.yaml", ROUTE)]);
}

fn problem(app: &App, namespace: &str) -> serde_json::Value {
    let status = status(app);
    let all = status["kubernetes"]["namespaces"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["namespace"] == namespace).unwrap()["problem"].clone()
}

#[test]
fn a_watch_that_is_too_old_is_followed_by_a_list() {
    let cluster = Cluster::new();
    cluster.api.put("shop", "extra", &[("b.yaml", &backend_named("extra"))]);
    let app = cluster.app();
    eventually(|| cluster.api.watches() == 2);
    let lists = status(&app)["kubernetes"]["namespaces"][1]["lists_total"].as_u64().unwrap();
    // What happens in between is in no watch.
    cluster.api.lock().mute = true;
    change(&cluster, "two");
    cluster.api.delete("shop", "extra");
    cluster.api.forget();
    cluster.api.lock().mute = false;
    cluster.api.break_watches("");
    eventually(|| answer(&app) == "two");
    eventually(|| super::source(&app, "configmap://shop/extra").is_null());
    let now = status(&app)["kubernetes"]["namespaces"][1]["lists_total"].as_u64().unwrap();
    assert_eq!(now, lists + 1);
}

/// What a watch gets from where we are, for ever.
#[test]
fn a_place_from_which_a_watch_leads_nowhere_is_left_by_a_list() {
    let failing =
        "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":500,\"message\":\"no\"}}\n";
    for words in [failing, "<html>\n"] {
        let cluster = Cluster::new();
        let app = cluster.app();
        eventually(|| cluster.api.watches() == 2);
        cluster.api.lock().mute = true;
        change(&cluster, "two");
        cluster.api.forget();
        cluster.api.lock().nowhere = Some(words);
        cluster.api.lock().mute = false;
        cluster.api.break_watches("");
        eventually(|| answer(&app) == "two");
        eventually(|| status(&app)["kubernetes"]["stale_since"].is_null());
    }
}

#[test]
fn a_place_that_the_server_takes_for_none_is_left_by_a_list() {
    let cluster = Cluster::new();
    let app = cluster.app();
    eventually(|| cluster.api.watches() == 2);
    let lists = |number: usize| {
        status(&app)["kubernetes"]["namespaces"][number]["lists_total"].as_u64().unwrap()
    };
    let before = [lists(0), lists(1)];
    cluster.api.lock().faults.extend(vec![Fault::Refusal(400, "invalid resource version"); 2]);
    cluster.api.break_watches("");
    eventually(|| [lists(0), lists(1)] == before.map(|lists| lists + 1));
}

#[test]
fn lists_that_expire_again_and_again_are_shown() {
    let cluster = Cluster::new();
    let app = cluster.app();
    eventually(|| cluster.api.watches() == 2);
    cluster.api.lock().faults.extend(vec![Fault::Refusal(410, "expired"); 100_000]);
    cluster.api.break_watches("");
    eventually(|| cluster.api.count("GET") > 10);
    eventually(|| !status(&app)["kubernetes"]["stale_since"].is_null());
    let problem = problem(&app, "shop");
    assert!(problem["cause"].as_str().unwrap().contains("410: expired"), "{problem}");
    change(&cluster, "two");
    cluster.api.lock().faults.clear();
    eventually(|| answer(&app) == "two");
    eventually(|| status(&app)["kubernetes"]["stale_since"].is_null());
}

#[test]
fn half_a_line_is_not_read_and_not_missed() {
    let cluster = Cluster::new();
    let app = cluster.app();
    eventually(|| cluster.api.watches() == 2);
    cluster.api.lock().mute = true;
    change(&cluster, "two");
    cluster.api.lock().mute = false;
    cluster.api.break_watches("{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Conf");
    eventually(|| answer(&app) == "two");
}

#[test]
fn a_line_that_is_no_event_is_shown_and_survived() {
    let cluster = Cluster::new();
    let app = cluster.app();
    eventually(|| cluster.api.watches() == 2);
    cluster.api.break_watches("<html>\n");
    eventually(|| status(&app)["kubernetes"]["namespaces"][1]["failures_total"] != 0);
    change(&cluster, "two");
    eventually(|| answer(&app) == "two");
    eventually(|| status(&app)["kubernetes"]["stale_since"].is_null());
}

#[test]
fn a_token_that_is_rotated_is_read_anew() {
    let cluster = Cluster::new();
    let app = cluster.app();
    eventually(|| cluster.api.watches() == 2);
    eventually(|| cluster.api.lock().events.len() == 2);
    cluster.api.rotate("another");
    cluster.api.break_watches("");
    change(&cluster, "two");
    eventually(|| answer(&app) == "two");
    eventually(|| status(&app)["kubernetes"]["stale_since"].is_null());
    // What was said last with the old one is said again.
    let told = |event: &serde_json::Value| event["involvedObject"]["resourceVersion"] == "3";
    eventually(|| cluster.api.lock().events.iter().any(told));
}

#[test]
fn a_watch_that_is_ended_at_once_is_shown_and_not_begun_anew_without_a_pause() {
    let cluster = Cluster::new();
    let pause = Duration::from_secs(3600);
    let patience = Patience { first_pause: pause, longest_pause: pause, ..Patience::default() };
    let app =
        App::start(settings(&cluster.api.kubeconfig(), cluster.cache.path(), patience)).unwrap();
    eventually(|| cluster.api.watches() == 2);
    let asked = cluster.api.count("GET");
    cluster.api.break_watches("");
    eventually(|| problem(&app, "shop")["cause"].to_string().contains("ended at once"));
    eventually(|| !status(&app)["kubernetes"]["stale_since"].is_null());
    assert_eq!(cluster.api.count("GET"), asked);
    assert_eq!(answer(&app), "one");
}

#[test]
fn a_watch_without_a_word_is_given_up() {
    let cluster = Cluster::new();
    let patience = Patience {
        silence: Duration::from_millis(300),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(50),
        ..Patience::default()
    };
    let app =
        App::start(settings(&cluster.api.kubeconfig(), cluster.cache.path(), patience)).unwrap();
    cluster.api.lock().mute = true;
    change(&cluster, "two");
    eventually(|| status(&app)["kubernetes"]["namespaces"][1]["failures_total"] != 0);
    cluster.api.lock().mute = false;
    eventually(|| answer(&app) == "two");
}

/// The next answers of the API server, the words that `/status` shows then, and their code.
#[test]
fn an_answer_that_is_no_answer_is_shown_and_asked_for_again_after_a_pause() {
    let forbidden = "configmaps is forbidden: User \"system:serviceaccount:shop:web\" cannot list \
        resource \"configmaps\" in API group \"\" in the namespace \"shop\"";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}});
    let cases = [
        (Fault::Refusal(403, forbidden), "P0422", forbidden),
        (Fault::Refusal(401, "Unauthorized"), "P0422", "answers 401: Unauthorized"),
        (Fault::Refusal(429, "slow down"), "P0421", "answers 429: slow down"),
        (Fault::Refusal(500, "etcdserver: leader changed"), "P0421", "leader changed"),
        (Fault::Page, "P0421", "text/html instead of JSON"),
        (Fault::Garbage, "P0421", "EOF while parsing"),
        (Fault::Status(200, pod), "P0421", "Pod"),
    ];
    for (fault, code, words) in cases {
        let cluster = Cluster::new();
        cluster.api.lock().faults.extend([fault.clone(), fault]);
        // Nobody comes again within this test.
        let pause = Duration::from_secs(3600);
        let patience = Patience { first_pause: pause, longest_pause: pause, ..Patience::default() };
        let app = App::start(settings(&cluster.api.kubeconfig(), cluster.cache.path(), patience))
            .unwrap();
        let problem = problem(&app, "shop");
        assert_eq!(problem["code"], code, "{problem}");
        assert!(problem["cause"].as_str().unwrap().contains(words), "{problem}");
        let hint = problem["hint"].as_str().unwrap();
        assert_eq!(hint.contains("does not know who asks"), words.contains("401"), "{problem}");
        assert_eq!(cluster.api.count("GET"), 2);
        let (head, body) = fetch(app.admin().unwrap(), "/healthz/ready");
        assert!(head.starts_with("http/1.1 503") && body.contains(code), "{body}");
    }
}

#[test]
fn a_list_without_an_end_is_given_up() {
    let cluster = Cluster::new();
    let page = json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": [],
        "metadata": {"resourceVersion": "1", "continue": "more"}});
    cluster.api.lock().faults.extend(vec![Fault::Status(200, page); 2500]);
    let pause = Duration::from_secs(3600);
    let patience = Patience { first_pause: pause, longest_pause: pause, ..Patience::default() };
    let app =
        App::start(settings(&cluster.api.kubeconfig(), cluster.cache.path(), patience)).unwrap();
    for namespace in ["shop", "portcullis-system"] {
        let said = || problem(&app, namespace)["cause"].as_str().unwrap_or_default().to_owned();
        eventually(|| said().contains("a list of more than 1000 pieces"));
    }
    assert_eq!(cluster.api.count("GET"), 2000);
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_given_up() {
    let cluster = Cluster::new();
    cluster.api.lock().faults.extend([Fault::Drip, Fault::Drip]);
    let pause = Duration::from_secs(3600);
    let patience = Patience {
        answer: Duration::from_secs(1),
        first_pause: pause,
        longest_pause: pause,
        ..Patience::default()
    };
    let app =
        App::start(settings(&cluster.api.kubeconfig(), cluster.cache.path(), patience)).unwrap();
    eventually(|| problem(&app, "shop")["cause"].to_string().contains("none within 1 s"));
}

/// Nothing is decided by comparing the API server's time with ours: it may be a century early or late.
#[test]
fn the_clock_of_the_api_server_does_not_matter() {
    let early = ("Thu, 01 Jan 1970 00:00:01 GMT", "1970-01-01T00:00:01Z");
    let late = ("Fri, 31 Dec 2128 23:59:59 GMT", "2128-12-31T23:59:59Z");
    for clock in [early, late] {
        let cluster = Cluster::empty();
        cluster.api.lock().clock = Some(clock);
        // A date to come again at is no time to wait for.
        cluster.api.lock().faults.extend(vec![Fault::Later(clock.0); 4]);
        cluster.api.put("shop", "proxy", &[("proxy.yaml", crate::program::PROXY)]);
        change(&cluster, "one");
        let app = cluster.app();
        eventually(|| !app.addresses().is_empty() && answer(&app) == "one");
        eventually(|| cluster.api.watches() == 2);
        let before = SystemTime::now();
        // The place is forgotten, the server away, and the proxy another one: each goes on.
        cluster.api.lock().mute = true;
        change(&cluster, "two");
        cluster.api.forget();
        cluster.api.lock().mute = false;
        cluster.api.break_watches("");
        eventually(|| answer(&app) == "two");
        cluster.api.go_down();
        eventually(|| !status(&app)["kubernetes"]["stale_since"].is_null());
        let since = status(&app)["kubernetes"]["stale_since"].as_str().unwrap().to_owned();
        // Of our own clock, which is what RFC 3339 sorts by.
        assert!((rfc3339(before)..=rfc3339(SystemTime::now())).contains(&since), "{since}");
        drop(app);
        let app = cluster.app();
        assert_eq!(answer(&app), "two");
        change(&cluster, "three");
        cluster.api.come_back();
        eventually(|| answer(&app) == "three");
        eventually(|| status(&app)["restored_from"].is_null());
        eventually(|| status(&app)["kubernetes"]["stale_since"].is_null());
    }
}

#[test]
fn a_server_that_comes_to_its_senses_is_followed() {
    let cluster = Cluster::new();
    let faults =
        [Fault::Refusal(403, "no"), Fault::Page, Fault::Garbage, Fault::Refusal(503, "no")];
    cluster.api.lock().faults.extend(faults);
    let app = cluster.app();
    eventually(|| !app.addresses().is_empty() && answer(&app) == "one");
}

#[test]
fn traffic_is_served_while_the_api_server_is_gone_and_changes_are_caught_up() {
    let cluster = Cluster::new();
    let app = cluster.app();
    eventually(|| cluster.api.watches() == 2);
    cluster.api.go_down();
    eventually(|| !status(&app)["kubernetes"]["stale_since"].is_null());
    eventually(|| {
        let (_, metrics) = fetch(app.admin().unwrap(), "/metrics");
        let name = "portcullis_kubernetes_stale_since_timestamp_seconds{namespace=\"shop\"} ";
        let since = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        since != "0"
    });
    assert_eq!(answer(&app), "one");
    let (ready, _) = fetch(app.admin().unwrap(), "/healthz/ready");
    assert!(ready.starts_with("http/1.1 200"), "{ready}");

    change(&cluster, "two");
    cluster.api.come_back();
    eventually(|| answer(&app) == "two");
    eventually(|| status(&app)["kubernetes"]["stale_since"].is_null());
}

fn backend_named(name: &str) -> String {
    backend(upstream("x")).replace("name: app", &format!("name: {name}"))
}
