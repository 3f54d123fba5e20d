//! Getting in: tokens, passwords, certificates.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use portcullis::fetch::http::{Origin, Proxies};
use portcullis::plan::{PullSecret, Registry};

use super::images::{compat, mark};
use super::server::{Answer, Contents, Request, Server};
use super::{Order, bring, image, named, refused};

/// `user` with the password `pass` for every registry on loopback.
fn config(server: &Server, user: &str) -> Bytes {
    let auth = format!(r#"{{"username": "{user}", "password": "pass"}}"#);
    format!(r#"{{"auths": {{"{}": {auth}}}}}"#, server.address).into()
}

const BASIC: &str = "Basic dXNlcjpwYXNz";

fn holding(tag: &str) -> Contents {
    let mut contents = Contents::default();
    compat(&mut contents, tag, &mark('a'));
    contents
}

/// Lets in who has the token that it hands out to `user`, or to anybody where `open`.
fn with_tokens(open: &'static str) -> Server {
    let contents = holding("1");
    Server::start(move |request| match request.path.starts_with("/token") {
        true if open == "everybody" || request.header("authorization") == BASIC => {
            Answer::new(200, r#"{"token": "t0ken"}"#)
        }
        true => Answer::new(401, "{}"),
        false if request.header("authorization") == "Bearer t0ken" => contents.answer(request),
        false => challenge(request),
    })
}

fn challenge(request: &Request) -> Answer {
    let host = request.header("host");
    let text = format!(
        r#"Bearer realm="http://{host}/token",service="acme",scope="repository:acme/mark:pull""#
    );
    Answer::new(401, "{}").with("www-authenticate", text)
}

#[test]
fn a_token_is_fetched_from_the_service_that_the_registry_names() {
    let server = with_tokens("everybody");
    assert!(bring(&image(&server, "acme/mark:1")).is_ok());
    let token = "GET /token?scope=repository%3Aacme%2Fmark%3Apull&service=acme";
    assert_eq!(server.asked().iter().filter(|asked| *asked == token).count(), 1);
}

#[test]
fn a_pull_secret_goes_before_the_hosts_own_credentials() {
    let server = with_tokens("user");
    let host = |user: &str| Registry { credentials: Some(config(&server, user)), ..named(&server) };
    let order =
        |user: &str| Order { registries: [host(user)].into(), ..image(&server, "acme/mark:1") };
    assert!(bring(&order("user")).is_ok());
    let (code, text) = refused(&order("other"));
    assert_eq!(code, "P0405");
    assert!(text.contains("token service") && !text.contains("pass"), "{text}");
    let own = PullSecret::Config(config(&server, "user"));
    let secret = Order { secret: Some(own), ..order("other") };
    assert!(bring(&secret).is_ok());
    assert_eq!(refused(&image(&server, "acme/mark:1")).0, "P0405");
}

#[test]
fn an_identity_token_is_traded_for_one() {
    let contents = holding("1");
    let server = Server::start(move |request| {
        let asked = String::from_utf8_lossy(&request.body);
        match request.path.as_str() {
            "/token" if request.method == "POST" && asked.contains("refresh_token=long") => {
                Answer::new(200, r#"{"access_token": "t0ken"}"#)
            }
            _ if request.header("authorization") == "Bearer t0ken" => contents.answer(request),
            _ => challenge(request),
        }
    });
    let config = format!(r#"{{"auths": {{"{}": {{"identitytoken": "long"}}}}}}"#, server.address);
    let secret = Some(PullSecret::Config(config.into()));
    let order = Order { secret, ..image(&server, "acme/mark:1") };
    assert!(bring(&order).is_ok());
}

#[test]
fn a_password_is_shown_to_its_registry_only() {
    let elsewhere = Server::start({
        let contents = holding("1");
        move |request| contents.answer(request)
    });
    let (contents, other) = (holding("1"), elsewhere.address);
    let server = Server::start(move |request| match request.header("authorization") {
        BASIC if request.path.contains("/blobs/") => {
            let target = format!("http://{other}{}", request.path);
            Answer::new(307, "").with("location", target)
        }
        BASIC => contents.answer(request),
        _ => Answer::new(401, "").with("www-authenticate", "Basic realm=\"acme\""),
    });
    let registries = [named(&server), named(&elsewhere)];
    let order = Order {
        registries: registries.into(),
        secret: Some(PullSecret::Config(config(&server, "user"))),
        ..image(&server, "acme/mark:1")
    };
    assert!(bring(&order).is_ok());
    let seen = elsewhere.seen();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|request| request.header("authorization").is_empty()), "{seen:?}");
    assert_eq!(refused(&image(&server, "acme/mark:1")).0, "P0405");
}

#[test]
fn a_registry_in_trouble_is_asked_again() {
    let (contents, tried) = (holding("1"), std::sync::atomic::AtomicUsize::new(0));
    let server = Server::start(move |request| {
        match tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Answer::new(503, ""),
            1 => Answer::new(429, ""),
            _ => contents.answer(request),
        }
    });
    assert!(bring(&image(&server, "acme/mark:1")).is_ok());
}

#[test]
fn a_registry_with_a_certificate_of_ones_own_is_trusted_if_it_is_named_so() {
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let contents = holding("1");
    let server = Server::start_tls(&own, move |request| contents.answer(request));
    let named = |ca: Option<String>| Registry {
        ca: ca.map(Bytes::from),
        ..Registry::new(server.address.to_string())
    };
    let order = |ca| Order { registries: [named(ca)].into(), ..image(&server, "acme/mark:1") };
    assert_eq!(bring(&order(Some(own.cert.pem()))).unwrap().bytes, mark('a'));
    let (code, text) = refused(&order(None));
    assert_eq!(code, "P0404", "{text}");
    assert!(text.contains("certificate"), "{text}");
}

/// A forward proxy that connects everybody to `target`, wherever they want to go.
fn forward_proxy(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = move |client: TcpStream| -> io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head)?;
        }
        assert!(head.starts_with("CONNECT registry.test:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nproxy-authorization: {BASIC}\r\n")), "{head}");
        (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let server = TcpStream::connect(target)?;
        let (mut up, mut back) = (server.try_clone()?, client.try_clone()?);
        thread::spawn(move || io::copy(&mut &server, &mut back));
        io::copy(&mut reader, &mut up).map(|_| ())
    };
    thread::spawn(move || {
        let clients = listener.incoming().flatten();
        clients.for_each(|client| drop(thread::spawn(move || connect(client))));
    });
    address
}

#[test]
fn a_forward_proxy_of_the_environment_is_asked_with_and_without_tls() {
    let own = rcgen::generate_simple_self_signed(vec!["registry.test".to_owned()]).unwrap();
    let (contents, same) = (holding("1"), holding("1"));
    let secure = Server::start_tls(&own, move |request| contents.answer(request));
    let plain = Server::start(move |request| same.answer(request));
    let folder = tempfile::tempdir().unwrap();
    let (ca, module) = (folder.path().join("ca.pem"), folder.path().join("mark.wasm"));
    std::fs::write(&ca, own.cert.pem()).unwrap();
    let pull = |user: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["pull", "registry.test/acme/mark:1", "--cache"])
            .arg(folder.path().join(format!("{user}{}", more[0])))
            .arg("--output")
            .arg(&module)
            .args(more)
            .env("HOME", folder.path())
            .env("HTTPS_PROXY", format!("http://user:p%61ss@{}", forward_proxy(secure.address)))
            .env("http_proxy", format!("{user}{}", plain.address))
            .env_remove("HTTP_PROXY")
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read(&module).unwrap(), mark('a'));
        std::fs::remove_file(&module).unwrap();
        said.lines().last().unwrap().to_owned()
    };
    let mut known = Contents::default();
    let pinned = format!("registry.test/acme/mark:1@{}", compat(&mut known, "1", &mark('a')));
    assert_eq!(pull("", &["--ca-file", ca.to_str().unwrap()]), pinned);
    assert!(secure.seen().iter().all(|one| one.header("proxy-authorization").is_empty()));
    for (user, pass) in [("", ""), ("user:pass@", BASIC)] {
        let before = plain.seen().len();
        assert_eq!(pull(user, &["--plain-http"]), pinned);
        for one in plain.seen().split_off(before) {
            assert!(one.path.starts_with("http://registry.test/v2/"), "{one:?}");
            assert_eq!(one.header("proxy-authorization"), pass);
        }
    }
    assert!(!plain.seen().is_empty() && !secure.seen().is_empty());
}

#[test]
fn who_wants_to_be_left_alone_for_a_while_is() {
    let (contents, first) = (holding("1"), std::sync::OnceLock::new());
    let server = Server::start(move |request| {
        let mut answer = None;
        let since = first.get_or_init(|| {
            answer = Some(Answer::new(429, "").with("retry-after", "2"));
            Instant::now()
        });
        let early = || since.elapsed() < Duration::from_secs(2);
        answer.unwrap_or_else(|| match early() {
            true => Answer::new(403, "too early"),
            false => contents.answer(request),
        })
    });
    assert!(bring(&image(&server, "acme/mark:1")).is_ok());
}

#[test]
fn who_wants_to_be_left_alone_for_long_is_not_asked_again_at_once() {
    let server = Server::start(|_| Answer::new(503, "").with("retry-after", "600"));
    let web = super::order(&format!("http://{}/mark.wasm", server.address), &[named(&server)]);
    for order in [image(&server, "acme/mark:1"), web] {
        let before = server.asked().len();
        let (code, text) = refused(&order);
        assert_eq!(code, "P0404");
        assert!(text.contains("after 600 s"), "{text}");
        assert_eq!(server.asked().len(), before + 1);
    }
}

#[test]
fn no_proxy_names_hosts_domains_addresses_and_networks() {
    let of = |no_proxy: &'static str| {
        Proxies::of(move |name| match name {
            "HTTPS_PROXY" => Some("http://proxy.test:3128".to_owned()),
            "no_proxy" => Some(no_proxy.to_owned()),
            _ => None,
        })
    };
    let direct = |no_proxy: &'static str, url: &str| {
        of(no_proxy).before(&Origin::of(&url.parse().unwrap()).unwrap()).is_none()
    };
    for (no_proxy, reached, not) in [
        ("ghcr.io", "https://ghcr.io/", "https://ghcr.io.evil.test/"),
        (".acme.test", "https://a.acme.test/", "https://bacme.test/"),
        ("a.test, 10.0.0.0/8", "https://10.255.1.1/", "https://11.0.0.1/"),
        ("192.168.4.0/22", "https://192.168.7.255:5000/", "https://192.168.8.0/"),
        ("10.1.2.3/32", "https://10.1.2.3/", "https://10.1.2.2/"),
        ("fd00:1::/32", "https://[fd00:1:2::3]/", "https://[fd00:2::3]/"),
        ("0.0.0.0/0", "https://1.1.1.1/", "https://[2606:4700::1111]/"),
    ] {
        assert!(direct(no_proxy, reached), "{no_proxy} {reached}");
        assert!(!direct(no_proxy, not), "{no_proxy} {not}");
    }
    for nonsense in ["10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "/8", "x/8"] {
        assert!(!direct(nonsense, "https://10.0.0.1/"), "{nonsense}");
    }
}

#[test]
fn a_password_in_a_url_is_refused_and_not_told() {
    for url in [
        "https://user:secret@acme.test/mark.wasm?token=secret",
        "https://user:secret@acme test/mark.wasm",
        "oci://user:secret@acme.test/mark:1",
    ] {
        let (code, text) = refused(&super::order(url, &[]));
        assert_eq!(code, "P0403", "{text}");
        assert!(text.contains("acme") && !text.contains("secret"), "{text}");
    }
}
