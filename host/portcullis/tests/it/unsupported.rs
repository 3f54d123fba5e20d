//! What the language knows and this version does not do is refused, never ignored.

use std::sync::Arc;

use bytes::Bytes;
use portcullis::diagnose::{Code, Severity};
use portcullis::plan::{ModuleError, ModuleRequest, Modules, Source, plan};
use portcullis_vm::{Engine, Module};

struct OneModule;

impl Modules for OneModule {
    fn module(&self, _: &ModuleRequest<'_>) -> Result<Arc<Module>, ModuleError> {
        let text = r#"(module (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_tick") (param i32)))"#;
        let engine = Engine::new().unwrap();
        Ok(Arc::new(Module::load(&engine, &wat::parse_str(text).unwrap(), None)?))
    }

    fn file(&self, _: &str, path: &str) -> Result<Bytes, String> {
        Err(format!("no file {path}"))
    }
}

/// `spec` of a document of this kind, beside a usable Proxy and Backend: the problem's severity and field.
fn check(kind: &str, spec: &str, severity: Severity, field: &str) {
    let version = match kind {
        "HTTPRoute" | "GRPCRoute" => "gateway.networking.k8s.io/v1",
        _ => "portcullis.dev/v1alpha1",
    };
    let proxy = r#"{apiVersion: portcullis.dev/v1alpha1, kind: Proxy, metadata: {name: mine},
        spec: {listeners: [{name: web, address: "127.0.0.1:0"}]}}"#;
    let backend = r#"{apiVersion: portcullis.dev/v1alpha1, kind: Backend, metadata: {name: app},
        spec: {endpoints: [{address: "127.0.0.1:1"}]}}"#;
    let asked =
        format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, spec: {spec}}}");
    let text = format!("{proxy}\n---\n{backend}\n---\n{asked}\n").into();
    let name = "unsupported.yaml".into();
    let wanted = if kind == "Proxy" { "x" } else { "mine" };
    let planned = plan(&[Source { name, text, ..Source::default() }], Some(wanted), &OneModule);
    let found: Vec<_> = planned
        .problems
        .iter()
        .map(|problem| {
            let field = problem.place.as_ref().map_or("", |place| &place.field);
            (problem.code, problem.severity, field)
        })
        .collect();
    assert_eq!(found, [(Code::P0110, severity, field)], "{kind} {spec}");
}

#[test]
fn what_a_rule_asks_for_and_does_not_get_is_a_warning() {
    let backend = "backendRefs: [{name: app, port: 80}]";
    for (kind, part, field) in [
        ("HTTPRoute", "sessionPersistence: {}", "sessionPersistence"),
        ("GRPCRoute", "sessionPersistence: {}", "sessionPersistence"),
        ("HTTPRoute", "filters: [{type: RequestMirror, requestMirror: {}}]", "filters[0].type"),
        ("HTTPRoute", "filters: [{type: CORS, cors: {}}]", "filters[0].type"),
        ("HTTPRoute", "filters: [{type: ExternalAuth, externalAuth: {}}]", "filters[0].type"),
    ] {
        let spec = format!("{{rules: [{{{part}, {backend}}}]}}");
        check(kind, &spec, Severity::Warning, &format!("spec.rules[0].{field}"));
    }
}

/// Holds a certificate that ends in this year, and its key.
struct Certificate(String, String);

impl Certificate {
    fn until(year: i32) -> Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut wanted = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        wanted.not_after = rcgen::date_time_ymd(year, 1, 1);
        Certificate(wanted.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }
}

impl Modules for Certificate {
    fn module(&self, request: &ModuleRequest<'_>) -> Result<Arc<Module>, ModuleError> {
        OneModule.module(request)
    }

    fn file(&self, _: &str, path: &str) -> Result<Bytes, String> {
        Ok(if path == "tls.crt" { &self.0 } else { &self.1 }.clone().into())
    }
}

#[test]
fn a_certificate_that_has_expired_goes_in_with_a_warning() {
    let text = r#"{apiVersion: portcullis.dev/v1alpha1, kind: Proxy, metadata: {name: mine},
        spec: {listeners: [{name: web, address: "127.0.0.1:0", protocol: HTTPS,
        tls: {certificateFile: tls.crt, keyFile: tls.key}}]}}"#;
    let found = |year| {
        let (name, text) = ("expired.yaml".into(), text.into());
        let source = Source { name, text, ..Source::default() };
        let planned = plan(&[source], None, &Certificate::until(year));
        assert!(planned.snapshot.is_some());
        let found = planned.problems.into_iter().map(|problem| (problem.code, problem.severity));
        found.collect::<Vec<_>>()
    };
    assert_eq!(found(2001), [(Code::P0605, Severity::Warning)]);
    assert_eq!(found(4001), []);
}
