//! One generation after the other, under traffic.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use portcullis_proxy::snapshot::*;
use portcullis_proxy::{Options, Proxy, Refusal, Snapshot};

use super::{Scripted, connect, filtered, generations, read_head, read_rest, snapshot, status};
use crate::guests::{filter, marker};
use crate::harness::{Client, Upstream, address, engine, eventually, request, runtime, start};

/// Adds `value` to each body when it ends, and marks the response.
fn signing(value: &str) -> Filter {
    filter(
        "signing",
        &[("k", "x-mark"), ("v", value)],
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (drop (call $add (i32.const 2) $k$ $v$)) (i32.const 0))
           (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (if (local.get 2) (then
               (drop (call $set_body (i32.const 1) (i32.const 0x7fffffff) (i32.const 0) $v$))))
             (i32.const 0))"#,
    )
}

/// Numbers the responses of one instance.
fn counting() -> Filter {
    filter(
        "counting",
        &[("v", "0"), ("k", "x-count")],
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (i32.store8 (i32.const 16) (i32.add (i32.load8_u (i32.const 16)) (i32.const 1)))
             (drop (call $add (i32.const 2) $k$ $v$)) (i32.const 0))"#,
    )
}

fn next(generation: u64, mut snapshot: Snapshot, filters: Vec<Filter>) -> Snapshot {
    snapshot.generation = generation;
    filtered(snapshot, filters)
}

#[test]
fn an_exchange_ends_with_the_generation_it_began_with() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let upstream = Scripted::new(move |stream| {
        while !read_head(stream).is_empty() {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
                .unwrap();
            wait.lock().unwrap().recv().unwrap();
            stream.write_all(b"5\r\n more\r\n0\r\n\r\n").unwrap();
        }
    });
    let plain = || snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(filtered(plain(), vec![signing("one")]));
    let get = b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n";
    let mut old = connect(address(&proxy));
    old.write_all(get).unwrap();
    let head = read_head(&mut old);
    assert!(head.contains("x-mark: one\r\n"), "{head}");

    proxy.publish(next(2, plain(), vec![signing("two")])).unwrap();
    assert_eq!(generations(&proxy), [1, 2]);
    let mut new = connect(address(&proxy));
    new.write_all(get).unwrap();
    let head = read_head(&mut new);
    assert!(head.contains("x-mark: two\r\n"), "{head}");
    let instances = |generation: u64| {
        let name = "portcullis_filter_instances{filter=\"default/signing\"";
        proxy.metrics().contains(&format!("{name},generation=\"{generation}\"}} 1\n"))
    };
    assert!(instances(1) && instances(2), "{}", proxy.metrics());

    for _ in 0..2 {
        go.send(()).unwrap();
    }
    assert!(read_rest(&mut old).contains("one"));
    assert!(read_rest(&mut new).contains("two"));
    eventually("the old generation ends", || generations(&proxy) == [2]);
    eventually("its instance ends", || !instances(1));
    assert!(instances(2));
}

#[test]
fn an_unchanged_filter_keeps_its_instance_and_a_changed_one_gets_a_new_one() {
    let upstream = Upstream::echo();
    let plain = || snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(filtered(plain(), vec![counting()]));
    let count = || {
        let mut answer = None;
        runtime().block_on(async {
            answer = Some(
                Client::http1(address(&proxy)).await.get("/").await.headers["x-count"].clone(),
            );
        });
        answer.unwrap()
    };
    assert_eq!((count(), count()), ("1".parse().unwrap(), "2".parse().unwrap()));
    proxy.publish(next(2, plain(), vec![marker("new", "1"), counting()])).unwrap();
    assert_eq!(count(), "3");
    let mut changed = counting();
    let mut plugin = (*changed.plugin).clone();
    plugin.configuration = Bytes::from_static(b"changed");
    changed.plugin = Arc::new(plugin);
    proxy.publish(next(3, plain(), vec![changed])).unwrap();
    assert_eq!(count(), "1");
    eventually("old generations end", || generations(&proxy) == [3]);
}

#[test]
fn a_filter_that_cannot_start_is_refused_and_nothing_changes() {
    let upstream = Upstream::echo();
    let plain = || snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(filtered(plain(), vec![counting()]));
    let trapping =
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (unreachable))"#;
    let refusing =
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 0))"#;
    for (body, code) in [(trapping, "P0206"), (refusing, "P0205")] {
        let bad = filter("bad", &[], body);
        let refusal = proxy.publish(next(2, plain(), vec![counting(), bad])).unwrap_err();
        assert!(matches!(&refusal, Refusal::Filter { name, .. } if &**name == "default/bad"));
        assert_eq!(refusal.code(), code);
    }
    let seen = status(&proxy);
    assert_eq!((&seen["generation"], &seen["filters"][0]["instances"]), (&1.into(), &1.into()));
    assert_eq!(generations(&proxy), [1]);
    runtime().block_on(async {
        let answer = Client::http1(address(&proxy)).await.get("/").await;
        assert_eq!(answer.headers["x-count"], "1");
    });
}

#[test]
fn nothing_fails_while_generations_change_under_load() {
    let upstream = Upstream::answering(|seen| http::Response::new(seen.body.clone()));
    let upstream_address = upstream.address;
    let plain = move || snapshot(BackendProtocol::Http, upstream_address, |_| {});
    let options = Options::new(2, engine());
    let first = filtered(plain(), vec![signing("1")]);
    let proxy = Proxy::start(options, first).unwrap();
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let web = address(&proxy);
    let clients: Vec<_> = (0..4)
        .map(|kind| {
            let (stop, served) = (stop.clone(), served.clone());
            thread::spawn(move || {
                runtime().block_on(async {
                    let mut kept = match kind % 2 {
                        0 => Client::http1(web).await,
                        _ => Client::http2(web).await,
                    };
                    while !stop.load(Ordering::SeqCst) {
                        let post = request("POST", "/").body(Full::from("body")).unwrap();
                        let answer = match kind {
                            0 | 1 => kept.send(post).await,
                            _ => Client::http1(web).await.send(post).await,
                        };
                        assert_eq!(answer.status, 200);
                        let mark = answer.headers["x-mark"].to_str().unwrap();
                        assert_eq!(answer.body, format!("body{mark}"), "of one generation");
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            })
        })
        .collect();
    for generation in 2..52 {
        let before = served.load(Ordering::SeqCst);
        let filters = match generation % 10 {
            0 => vec![filter(
                "bad",
                &[],
                r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (unreachable))"#,
            )],
            _ => vec![signing(["1", "2"][(generation % 2) as usize])],
        };
        let published = proxy.publish(next(generation, plain(), filters));
        assert_eq!(published.is_err(), generation % 10 == 0);
        eventually("traffic goes on", || served.load(Ordering::SeqCst) > before);
    }
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    eventually("old generations end", || generations(&proxy) == [51]);
    assert_eq!(status(&proxy)["filters"][0]["instances"], 2, "one for each worker");
}
