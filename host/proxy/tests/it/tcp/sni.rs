//! TLS on listeners without HTTP: terminated, or passed on by the name that the client asks for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portcullis_proxy::snapshot::*;
use portcullis_proxy::tls::{Alpn, ClientTls, ServerTls, Stream, accept, connect};
use portcullis_proxy::{Proxy, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{echo, named, rest, route, share, snapshot, until_metric};
use crate::harness::{address, backend, raw, runtime, start};
use crate::tls_material::Authority;

const LIMIT: Duration = Duration::from_secs(10);

/// A TLS server that says its name to everybody.
fn secure(authority: &Authority, name: &'static str, certificate: &str) -> SocketAddr {
    let pair = authority.issue(certificate);
    let tls = ServerTls::from_pem(&pair.cert, &pair.key, None).unwrap().for_bytes();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut accepted) = accept(&tls, stream, LIMIT).await {
                    drop(accepted.stream.write_all(name.as_bytes()).await);
                    drop(accepted.stream.shutdown().await);
                }
            }
        });
    });
    address
}

async fn dial(address: SocketAddr, authority: &Authority, name: &str) -> std::io::Result<Stream> {
    let tls = ClientTls::from_pem(name, Some(&authority.pem()), None).unwrap();
    let stream = TcpStream::connect(address).await?;
    Ok(connect(&tls, stream, Alpn::Nothing, LIMIT).await?.stream)
}

/// What the server says that a client reaches by asking for `name`; `None` if it reaches none.
fn reach(proxy: &Proxy, authority: &Authority, name: &str) -> Option<String> {
    runtime().block_on(async {
        let mut stream = dial(address(proxy), authority, name).await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    })
}

/// A listener that passes TLS on, with these routes.
fn passthrough(routes: &[(&[&str], SocketAddr)]) -> Snapshot {
    let mut snapshot = snapshot(routes[0].1, Vec::new());
    let mut tls = (*snapshot.listeners[0]).clone();
    tls.protocol = ListenerProtocol::Passthrough;
    snapshot.listeners = vec![Arc::new(tls)];
    let numbered = || routes.iter().enumerate();
    snapshot.tcp_routes = numbered()
        .map(|(index, (names, _))| route(&format!("default/{index}"), names, index))
        .collect();
    snapshot.backends = numbered()
        .map(|(index, (_, at))| backend(&format!("default/{index}"), BackendProtocol::Tcp, *at))
        .collect();
    snapshot
}

#[test]
fn the_most_specific_name_that_a_client_asks_for_decides_where_its_tls_goes() {
    let authority = Authority::new();
    let exact = secure(&authority, "exact", "a.example.com");
    let wildcard = secure(&authority, "wildcard", "*.example.com");
    let any = secure(&authority, "any", "other.test");
    let proxy = start(passthrough(&[
        (&["*.example.com"], wildcard),
        (&["a.example.com"], exact),
        (&[], any),
    ]));
    for (name, server) in
        [("a.example.com", "exact"), ("b.example.com", "wildcard"), ("other.test", "any")]
    {
        assert_eq!(reach(&proxy, &authority, name).as_deref(), Some(server), "{name}");
    }
}

#[test]
fn a_name_without_a_route_is_closed_and_so_is_what_is_no_tls() {
    let authority = Authority::new();
    let upstream = secure(&authority, "exact", "a.example.com");
    let proxy = start(passthrough(&[(&["a.example.com"], upstream)]));
    assert_eq!(reach(&proxy, &authority, "b.example.com"), None);
    assert_eq!(raw(address(&proxy), b"GET / HTTP/1.1\r\n\r\n", ""), "");
    until_metric(&proxy, r#"portcullis_downstream_tls_failures_total{listener="tcp"} 1"#);
    assert_eq!(reach(&proxy, &authority, "a.example.com").as_deref(), Some("exact"));
}

/// The first bytes that a TLS client with this name would send.
fn hello(name: &str) -> Vec<u8> {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let name = name.to_owned();
    thread::spawn(move || {
        runtime().block_on(async {
            drop(dial(address, &Authority::new(), &name).await);
        });
    });
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut body).unwrap();
    [head.to_vec(), body].concat()
}

#[test]
fn a_hello_that_comes_byte_by_byte_and_in_many_records_is_read_and_passed_on_unchanged() {
    let whole = hello("a.example.com");
    // The same message in records of 7 bytes.
    let records: Vec<u8> = whole[5..]
        .chunks(7)
        .flat_map(|part| [&[22, 3, 1, 0, part.len() as u8], part].concat())
        .collect();
    let proxy = start(passthrough(&[(&["a.example.com"], echo())]));
    for sent in [whole, records] {
        let mut client = super::connect(&proxy);
        client.set_nodelay(true).unwrap();
        for byte in &sent {
            std::io::Write::write_all(&mut client, &[*byte]).unwrap();
        }
        let mut back = vec![0; sent.len()];
        std::io::Read::read_exact(&mut client, &mut back).unwrap();
        assert_eq!(back, sent);
    }
}

#[test]
fn a_hello_without_end_is_given_up() {
    let mut slow = passthrough(&[(&[], echo())]);
    slow.limits.request_header_timeout = Duration::from_millis(50);
    let proxy = start(slow);
    let mut client = super::connect(&proxy);
    std::io::Write::write_all(&mut client, &[22, 3, 1]).unwrap();
    assert_eq!(rest(&mut client), "");
    // One record after the other of a message that says it has 64 KiB.
    let mut endless = vec![22, 3, 1, 64, 0, 1, 0, 255, 255];
    endless.resize(5 + (64 << 8), 0);
    let mut all = endless.clone();
    for _ in 0..4 {
        all.extend_from_slice(&[22, 3, 1, 64, 0]);
        all.extend(std::iter::repeat_n(0, 64 << 8));
    }
    assert_eq!(raw(address(&proxy), &all, ""), "");
}

#[test]
fn terminated_tls_is_bytes_for_filters_and_upstream() {
    let authority = Authority::new();
    let pair = authority.issue("db.example.com");
    let tls = ServerTls::from_pem(&pair.cert, &pair.key, None).unwrap().for_bytes();
    let mut snapshot = snapshot(named("plain"), vec![super::filters::tagging("t")]);
    let mut listener = (*snapshot.listeners[0]).clone();
    listener.tls = Some(Arc::new(tls));
    snapshot.listeners = vec![Arc::new(listener)];
    snapshot.tcp_routes = vec![route("default/tls", &["*.example.com"], 0)];
    let proxy = start(snapshot);
    runtime().block_on(async {
        let mut stream = dial(address(&proxy), &authority, "db.example.com").await.unwrap();
        let mut greeting = [0; 6];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"tplain");
        stream.write_all(b"x").await.unwrap();
        let mut back = [0; 3];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"ttx");
    });
}

#[test]
fn an_upstream_with_tls_has_to_prove_its_name() {
    let authority = Authority::new();
    let upstream = secure(&authority, "secret", "db.internal");
    for (name, expected) in [("db.internal", "secret"), ("other.internal", "")] {
        let mut snapshot = snapshot(upstream, Vec::new());
        let mut backend = (*snapshot.backends[0]).clone();
        let tls = ClientTls::from_pem(name, Some(&authority.pem()), None).unwrap();
        backend.tls = Some(Arc::new(tls));
        snapshot.backends = vec![Arc::new(backend)];
        assert_eq!(rest(&mut super::connect(&start(snapshot))), expected, "{name}");
    }
}

#[test]
fn shares_of_a_route_are_by_weight() {
    let mut snapshot = snapshot(named("a"), Vec::new());
    snapshot.backends.push(backend("default/b", BackendProtocol::Tcp, named("b")));
    let mut weighted = (*snapshot.tcp_routes[0]).clone();
    weighted.backends = vec![WeightedBackend { weight: 0, ..share(0) }, share(1)];
    snapshot.tcp_routes = vec![Arc::new(weighted)];
    let proxy = start(snapshot);
    for _ in 0..8 {
        assert_eq!(super::take(&mut super::connect(&proxy), 1), "b");
    }
}
