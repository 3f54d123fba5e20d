//! TLS on both sides of a whole proxy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_proxy::snapshot::*;
use portcullis_proxy::tls::{Alpn, ClientTls, ServerTls, accept, connect};
use portcullis_proxy::{Proxy, Snapshot};
use tokio::net::{TcpListener, TcpStream};

use super::snapshot;
use crate::harness::{Client, Upstream, address, runtime, start};
use crate::tls_material::{Authority, Pair};

const LIMIT: Duration = Duration::from_secs(10);

fn server(pair: &Pair, client_ca: Option<&[u8]>) -> Arc<ServerTls> {
    Arc::new(ServerTls::from_pem(&pair.cert, &pair.key, client_ca).unwrap())
}

fn secured(mut snapshot: Snapshot, tls: Arc<ServerTls>) -> Snapshot {
    let mut web = (*snapshot.listeners[0]).clone();
    web.tls = Some(tls);
    snapshot.listeners[0] = Arc::new(web);
    snapshot
}

/// A client, and the names in the certificate that it was shown.
async fn dial(
    proxy: &Proxy,
    tls: &ClientTls,
    alpn: Alpn,
) -> std::io::Result<(Client, Vec<String>)> {
    let stream = TcpStream::connect(address(proxy)).await?;
    let connected = connect(tls, stream, alpn, LIMIT).await?;
    let names = connected.attributes.peer_uris.clone();
    let io = TokioIo::new(connected.stream);
    let other = std::io::Error::other;
    let client = if connected.http2 {
        let executor = TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.map_err(other)?;
        tokio::spawn(connection);
        Client::Http2(sender)
    } else {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(other)?;
        tokio::spawn(connection);
        Client::Http1(sender)
    };
    Ok((client, names))
}

/// An upstream with TLS that answers with the HTTP version it was asked in.
fn secure_upstream(tls: Arc<ServerTls>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(accepted) = accept(&tls, stream, LIMIT).await else { continue };
                let service =
                    service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                        let text = format!("{:?}", request.version());
                        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(text)))
                    });
                let io = TokioIo::new(accepted.stream);
                tokio::spawn(async move {
                    if accepted.http2 {
                        let builder =
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        drop(builder.serve_connection(io, service).await);
                    } else {
                        let builder = hyper::server::conn::http1::Builder::new();
                        drop(builder.serve_connection(io, service).await);
                    }
                });
            }
        });
    });
    address
}

#[test]
fn clients_agree_on_http2_or_http1_by_tls() {
    let upstream = Upstream::echo();
    let authority = Authority::new();
    let tls = server(&authority.issue("web.test"), None);
    let plain = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(secured(plain, tls));
    let client = ClientTls::from_pem("web.test", Some(&authority.pem()), None).unwrap();
    runtime().block_on(async {
        for alpn in [Alpn::Any, Alpn::H2, Alpn::Http1] {
            let (mut client, _) = dial(&proxy, &client, alpn).await.unwrap();
            assert_eq!(matches!(client, Client::Http2(_)), alpn != Alpn::Http1);
            assert_eq!(client.get("/").await.body, "GET /");
            assert_eq!(upstream.next().head.headers["x-forwarded-proto"], "https");
        }
    });
}

#[test]
fn a_client_without_the_certificate_that_is_demanded_gets_no_answer() {
    let upstream = Upstream::echo();
    let authority = Authority::new();
    let ca = authority.pem();
    let tls = server(&authority.issue("web.test"), Some(&ca));
    let plain = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(secured(plain, tls));
    let own = authority.issue("app.test");
    let identity = Some((own.cert.as_slice(), own.key.as_slice()));
    let known = ClientTls::from_pem("web.test", Some(&ca), identity).unwrap();
    let nameless = ClientTls::from_pem("web.test", Some(&ca), None).unwrap();
    runtime().block_on(async {
        let (mut client, _) = dial(&proxy, &known, Alpn::Any).await.unwrap();
        assert_eq!(client.get("/").await.status, 200);
        // With TLS 1.3 the client learns of it only when it reads.
        if let Ok((mut client, _)) = dial(&proxy, &nameless, Alpn::Http1).await {
            let request = crate::harness::request("GET", "/").body(Full::default()).unwrap();
            assert!(client.open(request).await.is_err());
        }
    });
    let counted = "portcullis_downstream_tls_failures_total{listener=\"web\"} 1\n";
    crate::harness::eventually("the refusal is counted", || proxy.metrics().contains(counted));
    assert_eq!(upstream.pending(), 1);
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let upstream = Upstream::echo();
    let authority = Authority::new();
    let (first, second) = (authority.issue("web.test"), authority.issue("web.test"));
    let plain = || snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(secured(plain(), server(&first, None)));
    let client = ClientTls::from_pem("web.test", Some(&authority.pem()), None).unwrap();
    let other = Authority::new();
    let stranger = ClientTls::from_pem("web.test", Some(&other.pem()), None).unwrap();
    runtime().block_on(async {
        let (mut http1, _) = dial(&proxy, &client, Alpn::Http1).await.unwrap();
        let (mut http2, _) = dial(&proxy, &client, Alpn::H2).await.unwrap();
        for client in [&mut http1, &mut http2] {
            assert_eq!(client.get("/").await.status, 200);
        }
        assert!(dial(&proxy, &stranger, Alpn::Any).await.is_err());
        for pair in [second, other.issue("web.test")] {
            let next = Snapshot { generation: 2, ..secured(plain(), server(&pair, None)) };
            let publishing = proxy.clone();
            tokio::task::spawn_blocking(move || publishing.publish(next)).await.unwrap().unwrap();
            for client in [&mut http1, &mut http2] {
                assert_eq!(client.get("/").await.status, 200);
            }
        }
        let (mut late, names) = dial(&proxy, &stranger, Alpn::Any).await.unwrap();
        assert_eq!(names, ["spiffe://test/web.test"]);
        assert_eq!(late.get("/").await.status, 200);
        assert!(dial(&proxy, &client, Alpn::Any).await.is_err(), "the old one is gone");
    });
}

#[test]
fn backends_are_reached_by_tls_in_their_version_of_http() {
    let authority = Authority::new();
    let upstream = secure_upstream(server(&authority.issue("app.internal"), None));
    let trusting = ClientTls::from_pem("app.internal", Some(&authority.pem()), None).unwrap();
    let misled = ClientTls::from_pem("other.internal", Some(&authority.pem()), None).unwrap();
    for (protocol, tls, expected) in [
        (BackendProtocol::Https, &trusting, (200, "HTTP/2.0")),
        (BackendProtocol::H2, &trusting, (200, "HTTP/2.0")),
        (BackendProtocol::Https, &misled, (503, "P0704")),
    ] {
        let mut snapshot = snapshot(protocol, upstream, |_| {});
        let mut backend = (*snapshot.backends[0]).clone();
        backend.tls = Some(Arc::new(tls.clone()));
        snapshot.backends[0] = Arc::new(backend);
        let proxy = start(snapshot);
        runtime().block_on(async {
            let answer = Client::http1(address(&proxy)).await.get("/").await;
            assert_eq!(answer.status, expected.0);
            assert!(answer.body.starts_with(expected.1.as_bytes()), "{:?}", answer.body);
        });
    }
}
