//! The documents and certificates of the acceptance tests.

use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;

/// The Proxy, with one listener in plain text, `web`.
pub fn proxy() -> String {
    proxy_with("")
}

/// The Proxy, with a second listener, `secure`, that shows the certificate in `file`.
pub fn proxy_with_tls(file: &str) -> String {
    proxy_with(&format!(
        "  - name: secure\n    address: \"127.0.0.1:0\"\n    direction: GATEWAY\n    \
         protocol: HTTPS\n    tls: {{certificateFile: {file}, keyFile: {file}}}\n"
    ))
}

fn proxy_with(listeners: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Proxy\nmetadata: {{name: edge}}\nspec:\n  \
         workers: 2\n  admin: {{address: \"127.0.0.1:0\"}}\n  drain: {{delay: 0s, timeout: 5s}}\n  \
         listeners:\n  - {{name: web, address: \"127.0.0.1:0\", direction: GATEWAY, protocol: HTTP}}\n\
         {listeners}"
    )
}

/// A Backend with one endpoint.
pub fn backend(name: &str, protocol: &str, address: SocketAddr) -> String {
    format!(
        "---\napiVersion: portcullis.dev/v1alpha1\nkind: Backend\nmetadata: {{name: {name}}}\n\
         spec: {{protocol: {protocol}, endpoints: [{{address: \"{address}\"}}]}}\n"
    )
}

/// A WasmFilter with this inside of its `spec`.
pub fn filter(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: {name}}}\n\
         spec: {{{spec}}}\n"
    )
}

/// An HTTPRoute with one rule.
pub fn route(name: &str, rule: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec: {{rules: [{{{rule}}}]}}\n"
    )
}

/// The inside of a rule for one prefix, through filters that are attached to routes.
pub fn rule(prefix: &str, filters: &[&str], backend: &str) -> String {
    let reference = |name: &&str| {
        format!(
            "{{type: ExtensionRef, extensionRef: \
             {{group: portcullis.dev, kind: WasmFilter, name: {name}}}}}"
        )
    };
    let filters: Vec<String> = filters.iter().map(reference).collect();
    format!(
        "matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}], filters: [{}], \
         backendRefs: [{{name: {backend}, port: 80}}]",
        filters.join(", ")
    )
}

/// A certificate with its key, and the file that holds both.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub file: String,
}

impl Identity {
    /// For `localhost`, signed by itself.
    pub fn new() -> Identity {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let file = pair.cert.pem() + &pair.signing_key.serialize_pem();
        Identity { certificate: pair.cert.der().clone(), file }
    }
}
