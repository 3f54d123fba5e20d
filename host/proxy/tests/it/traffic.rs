//! Requests through a whole proxy, in every combination of protocols.

use bytes::Bytes;
use http_body_util::Full;
use portcullis_proxy::snapshot::BackendProtocol;

use crate::harness::{Client, Upstream, address, raw, request, runtime, simple, start};

#[test]
fn a_request_passes_in_every_combination_of_protocols() {
    let upstream = Upstream::echo();
    for protocol in [BackendProtocol::Http, BackendProtocol::H2c] {
        let proxy = start(simple(protocol, &upstream));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let answer = client.get("/a?b=c").await;
                assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"GET /a?b=c"[..]));
                let body = Full::from(Bytes::from(vec![7; 100_000]));
                let answer = client.send(request("POST", "/up").body(body).unwrap()).await;
                assert_eq!(answer.body.len(), 100_000);
            }
        });
    }
}

#[test]
fn a_client_is_told_of_forwarding_and_connection_headers_stay_behind() {
    let upstream = Upstream::echo();
    let proxy = start(simple(BackendProtocol::Http, &upstream));
    let answer = raw(
        address(&proxy),
        b"GET / HTTP/1.1\r\nhost: app.test\r\nx-forwarded-for: 1.2.3.4\r\nx-request-id: mine\r\n\
          connection: close, x-secret\r\nx-secret: 1\r\nte: gzip\r\nkeep-alive: 5\r\n\r\n",
        "",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let seen = upstream.next().head.headers;
    assert_eq!(seen["x-forwarded-for"], "1.2.3.4, 127.0.0.1");
    assert_eq!(seen["x-forwarded-proto"], "http");
    assert_ne!(seen["x-request-id"], "mine");
    assert_eq!(seen["host"], "app.test");
    for name in ["connection", "x-secret", "te", "keep-alive"] {
        assert!(!seen.contains_key(name), "{name} was passed on");
    }
}
