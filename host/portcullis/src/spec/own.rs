//! Our own kinds `Proxy` and `Backend` (`portcullis.dev/v1alpha1`), as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::values::{Duration, Size};

/// `Proxy.spec`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxySpec {
    /// Absent: the CPUs that the process may use, at most 4.
    pub workers: Option<u32>,
    /// Absent: no admin server.
    pub admin: Option<Server>,
    /// Absent: no health server.
    pub health: Option<Server>,
    /// Where clients connect.
    #[serde(default)]
    pub listeners: Vec<ListenerSpec>,
    /// Limits on clients.
    #[serde(default)]
    pub limits: ClientLimits,
    /// How the process ends.
    #[serde(default)]
    pub drain: Drain,
    /// Absent: off.
    pub access_log: Option<AccessLogSpec>,
    /// Hosts that modules come from.
    pub registries: Option<Vec<RegistrySpec>>,
    /// Absent: modules need no signature, unless a filter's document asks for one.
    pub verification: Option<VerificationSpec>,
}

/// `verification` of a Proxy or a filter: whose signature a module needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSpec {
    /// PEM, beside the document; any key in any of them will do.
    pub public_key_files: Vec<String>,
    /// Default true. False: what is not signed runs, with a warning.
    pub required: Option<bool>,
}

/// An address of ours.
#[derive(Clone, Debug, Deserialize)]
pub struct Server {
    /// `IP:PORT`
    pub address: String,
}

/// A listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSpec {
    /// Unique in the Proxy.
    pub name: String,
    /// `IP:PORT`
    pub address: String,
    /// Whose traffic arrives.
    #[serde(default)]
    pub direction: Direction,
    /// What is spoken.
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// For HTTPS and TLS.
    pub tls: Option<ListenerTls>,
    /// Proxies in front of us.
    #[serde(default)]
    pub trusted_hops: u32,
}

/// `direction`
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the words of the document")]
pub enum Direction {
    Inbound,
    Outbound,
    #[default]
    Gateway,
}

/// `protocol` of a listener
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the words of the document")]
pub enum ListenerProtocol {
    #[default]
    Http,
    Https,
    Tls,
    Tcp,
}

/// `tls` of a listener; files beside the document, in PEM, or Secrets.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Who ends the TLS session.
    #[serde(default)]
    pub mode: TlsMode,
    /// Certificate and key. To terminate, these or the files are needed.
    pub certificate_refs: Option<Vec<CertificateRef>>,
    /// Leaf first.
    pub certificate_file: Option<String>,
    /// Its key.
    pub key_file: Option<String>,
    /// Present: clients need a certificate that one of these signed.
    pub client_ca_file: Option<String>,
    /// The same, from a Secret or a ConfigMap.
    pub ca_certificate_refs: Option<Vec<CertificateRef>>,
}

/// An element of `certificateRefs` and `caCertificateRefs`, as in Gateway API.
#[derive(Clone, Debug, Deserialize)]
pub struct CertificateRef {
    /// The empty one.
    pub group: Option<String>,
    /// `Secret`, which is the default; for authorities also `ConfigMap`.
    pub kind: Option<String>,
    /// That of the ConfigMap that holds the document, if it is there.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// `mode` of a listener's `tls`, as in Gateway API
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the document")]
pub enum TlsMode {
    #[default]
    Terminate,
    Passthrough,
}

/// `limits` of a Proxy
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "documented where they end up, in the snapshot")]
pub struct ClientLimits {
    pub request_header_bytes: Option<Size>,
    pub connections: Option<u32>,
    pub request_header_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
}

/// `drain`
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Drain {
    /// Not ready, still accepting. Default 5 s.
    pub delay: Option<Duration>,
    /// Then no longer accepting. Default 30 s.
    pub timeout: Option<Duration>,
}

/// An element of `registries`; files beside the document.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySpec {
    /// `HOST` or `HOST:PORT`
    pub host: String,
    /// Without TLS.
    #[serde(default)]
    pub plain_http: bool,
    /// In PEM. Default: the public authorities.
    pub ca_file: Option<String>,
    /// A docker config.
    pub credentials_file: Option<String>,
    /// For a whole module. Default 30 s.
    pub timeout: Option<Duration>,
}

/// `accessLog`
#[derive(Clone, Debug, Deserialize)]
pub struct AccessLogSpec {
    /// Form of a line.
    #[serde(default)]
    pub format: LogFormat,
    /// `stdout` (default), `stderr` or a file.
    pub path: Option<String>,
    /// CEL.
    pub filter: Option<String>,
    /// CEL by name.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
}

/// `format` of the access log
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the words of the document")]
pub enum LogFormat {
    #[default]
    Json,
    Text,
}

/// `Backend.spec`
#[derive(Clone, Debug, Deserialize)]
pub struct BackendSpec {
    /// What is spoken.
    #[serde(default)]
    pub protocol: BackendProtocol,
    /// Where it is.
    pub endpoints: Vec<EndpointSpec>,
    /// For HTTPS and H2; with TCP and REDIS, TLS is spoken if it is there.
    pub tls: Option<BackendTls>,
}

/// `protocol` of a Backend
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the words of the document")]
pub enum BackendProtocol {
    #[default]
    Http,
    H2c,
    Https,
    H2,
    Tcp,
    Redis,
}

/// An endpoint.
#[derive(Clone, Debug, Deserialize)]
pub struct EndpointSpec {
    /// `IP:PORT` or `NAME:PORT`
    pub address: String,
    /// Default 1.
    pub weight: Option<u32>,
}

/// `tls` of a Backend; files beside the document, in PEM, or Secrets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// What the certificate is verified against. Default: the host of the first endpoint.
    pub hostname: Option<String>,
    /// Default: the public authorities.
    pub ca_file: Option<String>,
    /// The same, from a Secret or a ConfigMap.
    pub ca_certificate_refs: Option<Vec<CertificateRef>>,
    /// What we present: certificate and key.
    pub certificate_refs: Option<Vec<CertificateRef>>,
    /// The same, with `key_file`.
    pub certificate_file: Option<String>,
    /// Its key.
    pub key_file: Option<String>,
}
