//! `imagePullSecret` with a Secret that `kubectl` makes on a real API server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::program::PROXY;
use crate::registry::images::{compat, mark};
use crate::registry::server::{Answer, Contents, Server as Registry};
use crate::server::shared;
use crate::sidecar::{Presence, config_map};
use crate::stories::{populate, sidecar, until_event};

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
