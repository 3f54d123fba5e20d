//! Whoever names a module does not make us talk to what only this machine can reach.

use portcullis::fetch::http::guard::{Standing, permit};
use portcullis::plan::Registry;

use super::images::{compat, mark};
use super::server::{Answer, Contents, Server};
use super::{image, named, order, refused};

#[test]
fn addresses_are_permitted_by_who_named_them() {
    let never = [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::a9fe:a9fe",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "::ffff:0.0.0.0",
    ];
    let named_only = [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.9.9",
        "192.168.1.1",
        "100.64.0.1",
        "fc00::1",
        "fd12::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:c0a8:101::1",
        "198.18.0.1",
        "192.0.0.8",
        "240.0.0.1",
        "250.1.2.3",
        "fec0::1",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b::f000:1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ];
    let always = [
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "2606:4700::1111",
        "2001:db9::1",
        "::ffff:8.8.8.8",
    ];
    let may = |text: &str, who| permit(text.parse().unwrap(), who).is_ok();
    for text in never {
        assert!(!may(text, Standing::Named) && !may(text, Standing::Stranger), "{text}");
    }
    for text in named_only {
        assert!(may(text, Standing::Named) && !may(text, Standing::Stranger), "{text}");
    }
    for text in always {
        assert!(may(text, Standing::Named) && may(text, Standing::Stranger), "{text}");
    }
}

/// Spellings of an address of this machine.
fn spellings(target: &Server) -> [String; 4] {
    let port = target.address.port();
    [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("[::ffff:7f00:1]:{port}"),
    ]
}

#[test]
fn a_host_that_nobody_named_is_not_dialled_on_this_machine() {
    let target = Server::forbidden();
    for host in spellings(&target) {
        for url in [format!("oci://{host}/a/b:1"), format!("https://{host}/a.wasm")] {
            let (code, text) = refused(&order(&url, &[]));
            assert_eq!(code, "P0407", "{url}: {text}");
        }
    }
    assert_eq!(target.connections(), 0);
}

#[test]
fn a_redirect_to_such_a_host_is_not_followed() {
    let target = Server::forbidden();
    for host in spellings(&target).into_iter().chain(["169.254.169.254".to_owned()]) {
        for scheme in ["http", "https"] {
            let location = format!("{scheme}://{host}/latest/meta-data/");
            let server =
                Server::start(move |_| Answer::new(302, "").with("location", location.clone()));
            let (code, text) = refused(&image(&server, "a/b:1"));
            assert_eq!(code, "P0407", "{scheme} {host}: {text}");
        }
    }
    assert_eq!(target.connections(), 0);
}

#[test]
fn a_token_service_at_such_a_host_is_not_asked() {
    let target = Server::forbidden();
    for host in spellings(&target).into_iter().chain(["169.254.169.254".to_owned()]) {
        let realm = format!("Bearer realm=\"https://{host}/token\"");
        let server =
            Server::start(move |_| Answer::new(401, "").with("www-authenticate", realm.clone()));
        let (code, text) = refused(&image(&server, "a/b:1"));
        assert_eq!(code, "P0407", "{host}: {text}");
    }
    assert_eq!(target.connections(), 0);
}

#[test]
fn a_blob_at_such_a_host_is_not_fetched() {
    let target = Server::forbidden();
    let mut contents = Contents::default();
    compat(&mut contents, "1", &mark('a'));
    let host = target.address;
    let server = Server::start(move |request| match request.path.contains("/blobs/") {
        true => Answer::new(307, "").with("location", format!("//{host}/blob")),
        false => contents.answer(request),
    });
    let (code, text) = refused(&image(&server, "a/b:1"));
    assert_eq!(code, "P0407", "{text}");
    assert_eq!(target.connections(), 0);
}

#[test]
fn nobody_is_spoken_to_without_tls_unless_named_for_it() {
    let server = Server::forbidden();
    let over_tls = Registry::new(server.address.to_string());
    let url = format!("http://{}/a.wasm", server.address);
    assert_eq!(refused(&order(&url, std::slice::from_ref(&over_tls))).0, "P0407");
    assert_eq!(server.connections(), 0);
    // It does not answer like TLS; at least nothing was sent in the open.
    let url = format!("oci://{}/a/b:1", server.address);
    assert_eq!(refused(&order(&url, &[over_tls])).0, "P0404");
    assert_eq!(server.seen().len(), 0);
    let other = Registry { host: "127.0.0.1:1".to_owned(), ..named(&server) };
    let url = format!("http://{}/a.wasm", server.address);
    assert_eq!(refused(&order(&url, &[other])).0, "P0407");
}
