//! Secrets that `kubectl` makes on a real API server: for pulling images, and with certificates.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::program::PROXY;
use crate::registry::images::{compat, mark};
use crate::registry::server::{Answer, Contents, Server as Registry};
use crate::server::{Server, shared};
use crate::sidecar::{Presence, config_map, under_load_over};
use crate::stories::{populate, sidecar, until_event};
use crate::tls::{Authority, Pair};

#[test]
fn a_filter_from_a_private_registry_waits_for_the_secret_that_kubectl_makes() {
    let Some(server) = shared() else { return };
    let home = tempfile::tempdir().unwrap();
    populate(server, "private");
    let mut contents = Contents::default();
    compat(&mut contents, "1", &mark('a'));
    let known = format!("Basic {}", STANDARD.encode("user:open-sesame"));
    let registry = Registry::start(move |request| match request.header("authorization") == known {
        true => contents.answer(request),
        false => Answer::new(401, "").with("www-authenticate", "Basic realm=\"acme\""),
    });
    let host = registry.address.to_string();
    let named = format!("  registries: [{{host: \"{host}\", plainHttp: true}}]\n  drain:");
    let filter = format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: mark}}\n\
         spec: {{url: \"oci://{host}/acme/mark:1\", imagePullSecret: pull}}\n"
    );
    let apply = |namespace: &str, name: &str, text: &str| {
        let map = config_map(namespace, name, &[("it.yaml", text)]);
        server.kubectl(&["apply", "-f", "-"], &map.to_string());
    };
    apply("private-mesh", "proxy", &PROXY.replace("  drain:", &named));
    let mut sidecar = sidecar(server, "private", home.path());
    apply("private", "mark", &filter);
    until_event(&mut sidecar, server, ("private", "mark"), &["Refused", "P0424", "not found"]);

    let address = format!("--docker-server={host}");
    let password = ["--docker-username=user", "--docker-password=open-sesame"];
    let make = ["-n", "private", "create", "secret", "docker-registry", "pull", &address];
    server.kubectl(&[&make[..], &password[..]].concat(), "");
    sidecar.until_header("x-mark: a", Presence::There);
    assert!(!sidecar.process.said().contains("open-sesame"));
    sidecar.process.stop();
}

/// Makes the Secret `certs/web` of these texts, or replaces it.
fn make(server: &Server, home: &Path, certificate: &str, key: &str) {
    let file = |name: &str, text: &str| {
        let path = home.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = format!("--cert={}", file("tls.crt", certificate));
    let key = format!("--key={}", file("tls.key", key));
    let make = ["-n", "certs", "create", "secret", "tls", "web", &certificate, &key];
    let made = server.kubectl(&[&make[..], &["--dry-run=client", "-o", "json"]].concat(), "");
    server.kubectl(&["apply", "-f", "-"], &made);
}

#[test]
fn a_certificate_that_kubectl_replaces_is_taken_under_load_and_one_that_does_not_fit_is_refused() {
    let Some(server) = shared() else { return };
    let home = tempfile::tempdir().unwrap();
    populate(server, "certs");
    let authority = Authority::new();
    let (first, second) = (authority.pair(), authority.pair());
    make(server, home.path(), &first.certificate, &first.key);
    let tls = "protocol: HTTPS, tls: {certificateRefs: [{kind: Secret, name: web}]}";
    let proxy = PROXY.replace("protocol: HTTP", tls);
    let map = config_map("certs", "proxy", &[("proxy.yaml", &proxy)]);
    server.kubectl(&["apply", "-f", "-"], &map.to_string());
    let mut sidecar = sidecar(server, "certs", home.path());
    let web = sidecar.web;
    assert_eq!(authority.presented(web), first.der);
    let until = |pair: &Pair, sidecar: &mut crate::sidecar::Sidecar| {
        let seen = sidecar.process.until(|_| (authority.presented(web) == pair.der).then_some(()));
        assert!(seen.is_some(), "it ended:\n{}", sidecar.process.last_lines());
    };
    let tally = under_load_over(
        || authority.connect(web, None).unwrap(),
        "hello",
        || {
            make(server, home.path(), &second.certificate, &second.key);
            until(&second, &mut sidecar);
            // kubectl checks what it makes a Secret of; who writes one otherwise may err.
            let wrong = json!({"stringData": {"tls.key": first.key}}).to_string();
            server.kubectl(&["-n", "certs", "patch", "secret", "web", "-p", &wrong], "");
            let words = ["Refused", "P0602", "tls.key of the Secret certs/web"];
            until_event(&mut sidecar, server, ("certs", "proxy"), &words);
            assert_eq!(authority.presented(web), second.der);
        },
    );
    println!("certificates: {tally:?}");
    assert_eq!(tally.failed.into_inner(), 0);
    sidecar.process.stop();
}
