use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Version};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use portcullis_proxy::Body;
use portcullis_proxy::snapshot::BackendProtocol::{H2, H2c, Http, Https};
use portcullis_proxy::snapshot::{Backend, Endpoint, EndpointAddress};
use portcullis_proxy::tls::{ClientTls, ServerTls};
use portcullis_proxy::upstream::{Cluster, SendOptions, Stage, call};
use portcullis_vm::{CallOutcome, Fields, RequestHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tls_material::Authority;
use crate::upstream_origin::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_connection_is_kept_and_used_again() {
    on_worker(async {
        let cluster = cluster(Http, canned(OK).await);
        let first = send(&cluster, "/").await.unwrap();
        assert!(!first.reused);
        assert_eq!(cluster.stats().active, 1);
        let id = first.connection.id;
        assert_eq!(text(first).await, "ok");
        until(|| cluster.stats().idle == 1).await;
        let second = send(&cluster, "/").await.unwrap();
        assert!(second.reused);
        assert_eq!(second.connection.id, id);
        assert_eq!(text(second).await, "ok");
        let stats = cluster.stats();
        assert_eq!((stats.opened, stats.active, stats.connect_failures), (1, 0, 0));
    });
}

#[test]
fn a_request_is_written_in_origin_form_with_its_host() {
    on_worker(async {
        let seen = Rc::new(RefCell::new(String::new()));
        let record = seen.clone();
        let address = raw(move |mut stream| {
            let record = record.clone();
            async move {
                *record.borrow_mut() = read_head(&mut stream).await;
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        })
        .await;
        let mut head = get("/a/b?c=%20");
        head.method = Method::POST;
        head.headers.insert("x-a", "1").unwrap();
        let body = Body::from(Bytes::from_static(b"hello"));
        let cluster = cluster(Http, address);
        assert_eq!(
            text(cluster.send(&head, body, &SendOptions::default()).await.unwrap()).await,
            "ok"
        );
        assert_eq!(
            *seen.borrow(),
            "POST /a/b?c=%20 HTTP/1.1\r\nhost: app.test\r\nx-a: 1\r\ncontent-length: 5\r\n\r\n"
        );
    });
}

#[test]
fn a_head_that_no_request_can_say_is_refused_before_anything_is_sent() {
    on_worker(async {
        let cluster = cluster(Http, canned(OK).await);
        let with = |change: fn(&mut RequestHead)| {
            let mut head = get("/");
            change(&mut head);
            head
        };
        for head in [
            with(|head| head.path = Bytes::from_static(b"no slash")),
            with(|head| head.path = Bytes::from_static(b"@host/")),
            with(|head| head.path = Bytes::from_static(b"/a\r\nx: y")),
            with(|head| head.authority = Bytes::from_static(b"a\r\nb")),
            with(|head| head.method = Method::CONNECT),
        ] {
            let body = Body::from(Bytes::from_static(b"x"));
            let error = cluster.send(&head, body, &SendOptions::default()).await.unwrap_err();
            assert_eq!(error.stage, Stage::Request, "{error}");
            assert_eq!(error.failure().code(), "P0710");
            assert!(error.body.is_some() && !error.retry_safe);
        }
    });
}

#[test]
fn a_dead_connection_from_the_pool_is_replaced() {
    on_worker(async {
        let address = raw(|mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let cluster = cluster(Http, address);
        for round in 1..=5 {
            assert_eq!(fetch(&cluster, "/").await, "ok");
            assert_eq!(cluster.stats().opened, round);
            until(|| cluster.stats().idle == 0).await;
        }
    });
}

#[test]
fn a_reused_connection_that_ends_after_the_request_is_reported_as_such() {
    on_worker(async {
        let address = raw(|mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            read_head(&mut stream).await;
        })
        .await;
        let cluster = cluster(Http, address);
        assert_eq!(fetch(&cluster, "/").await, "ok");
        until(|| cluster.stats().idle == 1).await;
        let error = send(&cluster, "/").await.unwrap_err();
        assert_eq!(error.stage, Stage::Sent);
        assert!(error.reused && !error.retry_safe && error.body.is_none());
        assert_eq!(error.endpoint, Some(address));
        assert_eq!((error.failure().code(), error.flags().to_string()), ("P0705", "UC".to_owned()));
        assert_eq!(cluster.stats().active, 0);
    });
}

#[test]
fn an_answer_that_is_no_http_is_a_protocol_error() {
    on_worker(async {
        let cluster = cluster(Http, canned("SMTP ready\r\n\r\n").await);
        let error = send(&cluster, "/").await.unwrap_err();
        assert_eq!(error.stage, Stage::Protocol, "{error}");
        assert_eq!(error.failure().status(), 502);
    });
}

#[test]
fn a_refused_connection_gives_the_body_back() {
    on_worker(async {
        let (listener, address) = listen().await;
        drop(listener);
        let cluster = cluster(Http, address);
        let body = Body::from(Bytes::from_static(b"precious"));
        let error = cluster.send(&get("/"), body, &SendOptions::default()).await.unwrap_err();
        assert_eq!(error.stage, Stage::Connect);
        assert!(error.retry_safe && !error.reused);
        let body = error.body.unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(body, "precious");
        assert_eq!(cluster.stats().connect_failures, 1);
    });
}

#[test]
fn a_server_that_never_finishes_the_handshake_is_given_up() {
    on_worker(async {
        let (_silent, address) = listen().await;
        let tls = ClientTls::from_pem("app.test", None, None).unwrap();
        let connect_timeout = Duration::from_millis(5);
        let backend =
            Backend { connect_timeout, tls: Some(Arc::new(tls)), ..backend(H2, &[address]) };
        let cluster = Cluster::new(Arc::new(backend));
        let sends = [send(&cluster, "/"), send(&cluster, "/"), send(&cluster, "/")];
        let [one, two, three] = sends;
        let (one, two, three) = tokio::join!(one, two, three);
        for error in [one, two, three].map(Result::unwrap_err) {
            assert_eq!(error.stage, Stage::ConnectTimeout, "{error}");
            assert_eq!(error.flags().to_string(), "UF");
        }
        assert_eq!(cluster.stats().connect_failures, 1, "those who waited share the answer");
    });
}

#[test]
fn a_backend_without_endpoints_says_so() {
    on_worker(async {
        let cluster = Cluster::new(Arc::new(backend(Http, &[])));
        let error = send(&cluster, "/").await.unwrap_err();
        assert_eq!((error.stage, error.failure().code()), (Stage::Endpoint, "P0703"));
    });
}

fn named(host: &str, port: u16) -> Rc<Cluster> {
    let address = EndpointAddress::Dns(host.to_owned(), port);
    let endpoints = vec![Endpoint { address, weight: 1 }];
    Cluster::new(Arc::new(Backend { endpoints, ..backend(Http, &[]) }))
}

#[test]
fn names_are_resolved() {
    on_worker(async {
        let address = canned(OK).await;
        let cluster = named("localhost", address.port());
        let (one, two) = tokio::join!(fetch(&cluster, "/"), fetch(&cluster, "/"));
        assert_eq!((one.as_str(), two.as_str()), ("ok", "ok"));

        let error = send(&named("a..b", 80), "/").await.unwrap_err();
        assert_eq!((error.stage, error.flags().to_string()), (Stage::Resolve, "UH,DF".to_owned()));
    });
}

#[test]
fn endpoints_get_their_share() {
    on_worker(async {
        let counts = Rc::new([Cell::new(0), Cell::new(0), Cell::new(0)]);
        let mut endpoints = Vec::new();
        for (at, weight) in [3, 1, 2].into_iter().enumerate() {
            let counts = counts.clone();
            let address = raw(move |mut stream| {
                let counts = counts.clone();
                async move {
                    while !read_head(&mut stream).await.is_empty() {
                        counts[at].set(counts[at].get() + 1);
                        stream.write_all(OK.as_bytes()).await.unwrap();
                    }
                }
            })
            .await;
            endpoints.push(Endpoint { address: EndpointAddress::Ip(address), weight });
        }
        let cluster = Cluster::new(Arc::new(Backend { endpoints, ..backend(Http, &[]) }));
        for _ in 0..12 {
            fetch(&cluster, "/").await;
        }
        assert_eq!([&counts[0], &counts[1], &counts[2]].map(Cell::get), [6, 2, 4]);
    });
}

#[test]
fn http2_requests_share_a_connection() {
    on_worker(async {
        let address = http2(None, 100, |request| async move {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.uri(), "http://app.test/x?y");
            full("two")
        })
        .await;
        let cluster = cluster(H2c, address);
        let fetch = || fetch(&cluster, "/x?y");
        let (one, two, three) = tokio::join!(fetch(), fetch(), fetch());
        assert_eq!([one, two, three], ["two", "two", "two"]);
        let stats = cluster.stats();
        assert_eq!((stats.opened, stats.active, stats.idle), (1, 0, 1));
    });
}

#[test]
fn only_grpc_requests_say_te_trailers() {
    on_worker(async {
        let address = http2(None, 100, |request| async move {
            match request.headers().get("te") {
                Some(te) if te == "trailers" => full("trailers"),
                Some(_) => full("other"),
                None => full("none"),
            }
        })
        .await;
        let cluster = cluster(H2c, address);
        assert_eq!(fetch(&cluster, "/").await, "none");
        let mut head = get("/");
        head.headers.insert("content-type", "application/grpc").unwrap();
        let answer = cluster.send(&head, Body::Empty, &SendOptions::default()).await.unwrap();
        assert_eq!(text(answer).await, "trailers");
    });
}

#[test]
fn a_full_http2_connection_gets_company() {
    on_worker(async {
        let address = http2(None, 1, |_| async { unending() }).await;
        let cluster = cluster(H2c, address);
        let first = send(&cluster, "/").await.unwrap();
        let second = send(&cluster, "/").await.unwrap();
        assert_ne!(first.connection.id, second.connection.id);
        assert_eq!((cluster.stats().opened, cluster.stats().active), (2, 2));
        drop((first, second));
        assert_eq!((cluster.stats().active, cluster.stats().idle), (0, 2));
    });
}

#[test]
fn a_connection_that_says_goodbye_is_replaced() {
    on_worker(async {
        let address = raw(|stream| async move {
            let served = Rc::new(tokio::sync::Notify::new());
            let told = served.clone();
            let service = hyper::service::service_fn(move |_| {
                told.notify_one();
                async { Ok::<_, std::convert::Infallible>(full("bye")) }
            });
            let connection = hyper::server::conn::http2::Builder::new(Local)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = served.notified() => {
                    connection.as_mut().graceful_shutdown();
                    drop(connection.await);
                }
            }
        })
        .await;
        let cluster = cluster(H2c, address);
        for round in 1..=3 {
            assert_eq!(fetch(&cluster, "/").await, "bye");
            assert_eq!(cluster.stats().opened, round);
            until(|| cluster.stats().idle == 0).await;
        }
    });
}

#[test]
fn tls_agrees_on_the_http_version_and_proves_the_name() {
    on_worker(async {
        let authority = Authority::new();
        let (ca, pair) = (authority.pem(), authority.issue("app.test"));
        let server = ServerTls::from_pem(&pair.cert, &pair.key, None).unwrap();
        let address = http2(Some(server), 100, |_| async { full("safe") }).await;
        let client = |name: &str| ClientTls::from_pem(name, Some(&ca), None).unwrap();
        for protocol in [Https, H2] {
            let cluster = secure(protocol, address, client("app.test"));
            let answer = send(&cluster, "/").await.unwrap();
            let tls = answer.connection.tls.clone().unwrap();
            assert_eq!(tls.peer_dns_names, ["app.test"]);
            assert_eq!(text(answer).await, "safe");
        }
        let error = send(&secure(Https, address, client("other.test")), "/").await.unwrap_err();
        assert_eq!((error.stage, error.retry_safe), (Stage::Connect, true), "{error}");
    });
}

#[test]
fn an_upgrade_hands_out_the_tunnel() {
    on_worker(async {
        let address = raw(|mut stream| async move {
            let head = read_head(&mut stream).await;
            assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: echo\r\n"));
            let answer =
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        })
        .await;
        let options = SendOptions {
            upgrade: Some(Box::new(HeaderValue::from_static("echo"))),
            ..SendOptions::default()
        };
        let cluster = cluster(Http, address);
        let mut answer = cluster.send(&get("/"), Body::Empty, &options).await.unwrap();
        assert_eq!(answer.response.head.status, 101);
        let mut tunnel = answer.response.body.take_tunnel().unwrap();
        drop(answer);
        tunnel.write_all(b"ping").await.unwrap();
        let mut echoed = [0; 4];
        tunnel.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, b"ping");
        assert_eq!((cluster.stats().active, cluster.stats().idle), (0, 0));

        let error = self::cluster(H2c, address).send(&get("/"), Body::Empty, &options).await;
        assert_eq!(error.unwrap_err().stage, Stage::Request);
    });
}

#[test]
fn trailers_come_through() {
    on_worker(async {
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
        let cluster = cluster(Http, canned(answer).await);
        let mut body = send(&cluster, "/").await.unwrap().response.body;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ok");
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["x-sum"], "7");
        until(|| cluster.stats().idle == 1).await;
    });
}

#[test]
fn an_abandoned_body_closes_its_connection() {
    on_worker(async {
        let closed = Rc::new(Cell::new(false));
        let note = closed.clone();
        let address = raw(move |mut stream| {
            let note = note.clone();
            async move {
                read_head(&mut stream).await;
                let part = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
                stream.write_all(part).await.unwrap();
                assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
                note.set(true);
            }
        })
        .await;
        let cluster = cluster(Http, address);
        let mut body = send(&cluster, "/").await.unwrap().response.body;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
        drop(body);
        until(|| closed.get()).await;
        assert_eq!((cluster.stats().active, cluster.stats().idle), (0, 0));
    });
}

#[test]
fn an_idle_connection_is_closed() {
    on_worker(async {
        let closed = Rc::new(Cell::new(false));
        let note = closed.clone();
        let address = raw(move |mut stream| {
            let note = note.clone();
            async move {
                read_head(&mut stream).await;
                stream.write_all(OK.as_bytes()).await.unwrap();
                assert_eq!(read_head(&mut stream).await, "");
                note.set(true);
            }
        })
        .await;
        let idle_timeout = Duration::from_millis(10);
        let cluster = Cluster::new(Arc::new(Backend { idle_timeout, ..backend(Http, &[address]) }));
        assert_eq!(fetch(&cluster, "/").await, "ok");
        until(|| closed.get()).await;
        assert_eq!(cluster.stats().idle, 0);
    });
}

#[test]
fn a_dropped_cluster_closes_its_idle_connections_and_keeps_those_in_use() {
    on_worker(async {
        let cluster = cluster(Http, canned(OK).await);
        let answer = send(&cluster, "/").await.unwrap();
        drop(cluster);
        assert_eq!(text(answer).await, "ok");
    });
}

async fn callout(
    cluster: &Rc<Cluster>,
    body: &'static str,
    limit: usize,
) -> Result<CallOutcome, String> {
    let mut head = get("/check");
    head.headers.insert("content-length", "999").unwrap();
    let wait = Some(Duration::from_secs(30));
    call(cluster, &head, Bytes::from_static(body.as_bytes()), Fields::default(), wait, limit).await
}

#[test]
fn a_callout_gets_the_whole_answer_within_its_limits() {
    on_worker(async {
        let answer = "HTTP/1.1 403 No\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\nx-a: 1\r\n\r\n\
                      5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n";
        let cluster = cluster(Http, canned(answer).await);
        let outcome = callout(&cluster, "", 5).await.unwrap();
        let CallOutcome::Answered { head, body, trailers } = outcome else { panic!("{outcome:?}") };
        assert_eq!((head.status.as_u16(), body), (403, Bytes::from_static(b"hello")));
        let names: Vec<_> = head.headers.names().collect();
        assert_eq!(names, [b"x-a"]);
        assert_eq!(trailers.get("x-sum"), Some(&b"7"[..]));
        let problem = callout(&cluster, "", 4).await.unwrap_err();
        assert_eq!(problem, "the answer's body is longer than 4 bytes");
    });
}

#[test]
fn a_callout_sends_its_body_with_its_true_length_and_its_trailers() {
    on_worker(async {
        let address = http2(None, 100, |request| async move {
            let length = request.headers().get("content-length").cloned();
            let body = request.into_body().collect().await.unwrap();
            let sum = body.trailers().and_then(|trailers| trailers.get("x-sum").cloned());
            assert_eq!(body.to_bytes(), "question");
            let mut reply = full("answer");
            for (name, value) in [("seen-length", length), ("seen-sum", sum)] {
                if let Some(value) = value {
                    reply.headers_mut().insert(name, value);
                }
            }
            reply
        })
        .await;
        let cluster = cluster(H2c, address);
        let CallOutcome::Answered { head, .. } = callout(&cluster, "question", 9).await.unwrap()
        else {
            panic!("no answer");
        };
        assert_eq!(head.headers.get("seen-length"), Some(&b"8"[..]));
        let mut trailers = Fields::default();
        trailers.append("x-sum", "7").unwrap();
        let body = Bytes::from_static(b"question");
        let outcome = call(&cluster, &get("/"), body, trailers, None, 9).await.unwrap();
        let CallOutcome::Answered { head, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(head.headers.get("seen-sum"), Some(&b"7"[..]));
    });
}

#[test]
fn a_callout_fails_in_time() {
    on_worker(async {
        let (_silent, address) = listen().await;
        let wait = Some(Duration::from_millis(1));
        let outcome =
            call(&cluster(Http, address), &get("/"), Bytes::new(), Fields::default(), wait, 1)
                .await;
        assert_eq!(outcome.unwrap_err(), "no answer within 1ms");
        let (listener, address) = listen().await;
        drop(listener);
        let problem = callout(&cluster(Http, address), "", 1).await.unwrap_err();
        assert!(problem.starts_with(&format!("connect to {address}: ")), "{problem}");
    });
}
