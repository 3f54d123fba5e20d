use std::io;
use std::time::Duration;

use portcullis_proxy::TlsError;
use portcullis_proxy::tls::{Accepted, Alpn, ClientTls, Connected, ServerTls, accept, connect};
use tokio::net::{TcpListener, TcpStream};

use crate::tls_material::{Authority, Pair};

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn errors_name_what_is_wrong() {
    let authority = Authority::new();
    let (ours, other) = (authority.issue("a.test"), authority.issue("b.test"));
    let broken = b"-----BEGIN CERTIFICATE-----\nno base64!\n-----END CERTIFICATE-----\n";
    let cut = &ours.cert[..ours.cert.len() / 2];
    let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let ca = authority.pem();
    type Case<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>, &'a str, &'a str);
    let cases: [Case<'_>; 9] = [
        (b"", &ours.key, None, "P0601", "there is no certificate in the certificate"),
        (&ours.key, &ours.key, None, "P0601", "there is no certificate in the certificate"),
        (broken, &ours.key, None, "P0601", "the certificate is not valid PEM"),
        (cut, &ours.key, None, "P0601", "the certificate is not valid PEM"),
        (nonsense, &ours.key, None, "P0603", "the certificate cannot be used"),
        (&ours.cert, b"", None, "P0601", "there is no private key in the key"),
        (
            &ours.cert,
            &other.key,
            None,
            "P0602",
            "the private key does not belong to the certificate",
        ),
        (
            &ours.cert,
            &ours.key,
            Some(b""),
            "P0601",
            "there is no certificate in the CA certificate",
        ),
        (&ours.cert, &ours.key, Some(nonsense), "P0603", "the CA certificate cannot be used"),
    ];
    for (cert, key, client_ca, code, message) in cases {
        let error = ServerTls::from_pem(cert, key, client_ca).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().starts_with(message), "{error}");
    }
    let error = ClientTls::from_pem("not a name", Some(&ca), None).unwrap_err();
    assert_eq!(error, TlsError::Hostname("not a name".into()));
    let error = ClientTls::from_pem("a.test", Some(&ca), Some((&ours.cert, &other.key)));
    assert_eq!(error.unwrap_err(), TlsError::KeyMismatch);
    assert!(ClientTls::from_pem("a.test", None, None).is_ok());
    assert!(ClientTls::from_pem("127.0.0.1", None, None).is_ok());
}

#[test]
fn the_same_texts_are_the_same_material() {
    let authority = Authority::new();
    let (ca, pair, other) = (authority.pem(), authority.issue("a.test"), authority.issue("a.test"));
    let server =
        |pair: &Pair, ca: Option<&[u8]>| ServerTls::from_pem(&pair.cert, &pair.key, ca).unwrap();
    assert!(server(&pair, None).same_material(&server(&pair, None)));
    assert!(!server(&pair, None).same_material(&server(&other, None)));
    assert!(!server(&pair, None).same_material(&server(&pair, Some(&ca))));
    let client = |name: &str, ca: Option<&[u8]>| ClientTls::from_pem(name, ca, None).unwrap();
    assert!(client("a.test", Some(&ca)).same_material(&client("a.test", Some(&ca))));
    assert!(!client("a.test", Some(&ca)).same_material(&client("b.test", Some(&ca))));
    assert!(!client("a.test", Some(&ca)).same_material(&client("a.test", None)));
}

#[test]
fn the_expiry_is_that_of_the_leaf() {
    let pair = Authority::new().issue("a.test");
    let server = ServerTls::from_pem(&pair.cert, &pair.key, None).unwrap();
    assert_eq!(server.expires_at(), 3_818_361_600, "2090-12-31T00:00:00Z");
    let client = ClientTls::from_pem("a.test", None, Some((&pair.cert, &pair.key))).unwrap();
    assert_eq!(client.expires_at(), Some(3_818_361_600));
    assert_eq!(ClientTls::from_pem("a.test", None, None).unwrap().expires_at(), None);
}

async fn shake(
    server: &ServerTls,
    client: &ClientTls,
    alpn: Alpn,
) -> (io::Result<Accepted>, io::Result<Connected>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async { accept(server, listener.accept().await.unwrap().0, LIMIT).await };
    let dial = async {
        let stream = TcpStream::connect(address).await.unwrap();
        connect(client, stream, alpn, LIMIT).await
    };
    tokio::join!(serve, dial)
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let authority = Authority::new();
    let ca = authority.pem();
    let (web, app) = (authority.issue("web.test"), authority.issue("app.test"));
    let server = ServerTls::from_pem(&web.cert, &web.key, Some(&ca)).unwrap();
    let identity = Some((app.cert.as_slice(), app.key.as_slice()));
    let client = ClientTls::from_pem("web.test", Some(&ca), identity).unwrap();
    let (accepted, connected) = shake(&server, &client, Alpn::Any).await;
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());

    let seen = accepted.attributes;
    assert_eq!(seen.version, "TLSv1.3");
    assert_eq!(seen.server_name.as_deref(), Some("web.test"));
    assert!(seen.mutual && connected.attributes.mutual);
    assert_eq!(seen.peer_subject.as_deref(), Some("O=Acme\\, Inc.,CN=app.test"));
    assert_eq!(seen.peer_dns_names, ["app.test"]);
    assert_eq!(seen.peer_uris, ["spiffe://test/app.test"]);
    assert_eq!(seen.peer_digest.as_ref().map(String::len), Some(64));
    assert_eq!(seen.local_uris, ["spiffe://test/web.test"]);
    assert_eq!(connected.attributes.peer_dns_names, ["web.test"]);
    assert_eq!(connected.attributes.local_dns_names, ["app.test"]);
    assert!(accepted.http2 && connected.http2);
}

#[tokio::test]
async fn the_http_version_is_agreed_upon() {
    let authority = Authority::new();
    let (ca, pair) = (authority.pem(), authority.issue("web.test"));
    let server = ServerTls::from_pem(&pair.cert, &pair.key, None).unwrap();
    let client = ClientTls::from_pem("web.test", Some(&ca), None).unwrap();
    for (alpn, http2) in [(Alpn::Any, true), (Alpn::H2, true), (Alpn::Http1, false)] {
        let (accepted, connected) = shake(&server, &client, alpn).await;
        assert_eq!((accepted.unwrap().http2, connected.unwrap().http2), (http2, http2), "{alpn:?}");
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (ca, pair) = (authority.pem(), authority.issue("web.test"));
    let strict = ServerTls::from_pem(&pair.cert, &pair.key, Some(&ca)).unwrap();
    let nameless = ClientTls::from_pem("web.test", Some(&ca), None).unwrap();
    assert!(shake(&strict, &nameless, Alpn::Any).await.0.is_err(), "no certificate");

    let theirs = stranger.issue("app.test");
    let identity = Some((theirs.cert.as_slice(), theirs.key.as_slice()));
    let foreign = ClientTls::from_pem("web.test", Some(&ca), identity).unwrap();
    assert!(
        shake(&strict, &foreign, Alpn::Any).await.0.is_err(),
        "another authority's certificate"
    );

    let open = ServerTls::from_pem(&pair.cert, &pair.key, None).unwrap();
    let misled = ClientTls::from_pem("other.test", Some(&ca), None).unwrap();
    assert!(shake(&open, &misled, Alpn::Any).await.1.is_err(), "another name");
    let distrustful = ClientTls::from_pem("web.test", None, None).unwrap();
    assert!(shake(&open, &distrustful, Alpn::Any).await.1.is_err(), "an unknown authority");
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let pair = Authority::new().issue("web.test");
    let server = ServerTls::from_pem(&pair.cert, &pair.key, None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let error = accept(&server, stream, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
