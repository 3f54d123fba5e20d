//! Routes of the Gateway API (`gateway.networking.k8s.io`), field by field: `HTTPRoute` and `GRPCRoute`, `TCPRoute` and
//! `TLSRoute`.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::values::Duration;

/// `HTTPRoute.spec`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct HttpRouteSpec {
    pub parent_refs: Option<Vec<ParentRef>>,
    #[serde(default)]
    pub hostnames: Vec<String>,
    pub rules: Option<Vec<HttpRule>>,
}

/// `GRPCRoute.spec`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct GrpcRouteSpec {
    pub parent_refs: Option<Vec<ParentRef>>,
    #[serde(default)]
    pub hostnames: Vec<String>,
    pub rules: Option<Vec<GrpcRule>>,
}

/// `TCPRoute.spec`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct TcpRouteSpec {
    pub parent_refs: Option<Vec<ParentRef>>,
    #[serde(default)]
    pub rules: Vec<TcpRule>,
}

/// `TLSRoute.spec`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct TlsRouteSpec {
    pub parent_refs: Option<Vec<ParentRef>>,
    #[serde(default)]
    pub hostnames: Vec<String>,
    #[serde(default)]
    pub rules: Vec<TcpRule>,
}

/// The rule of a TCPRoute or TLSRoute.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct TcpRule {
    pub name: Option<String>,
    #[serde(default)]
    pub backend_refs: Vec<PlainBackendRef>,
}

/// An element of a TCPRoute's or TLSRoute's `backendRefs`.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct PlainBackendRef {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub port: Option<u16>,
    pub weight: Option<u32>,
}

impl From<PlainBackendRef> for BackendRef {
    fn from(plain: PlainBackendRef) -> BackendRef {
        let PlainBackendRef { group, kind, namespace, name, port, weight } = plain;
        BackendRef { group, kind, namespace, name, port, weight, filters: Vec::new() }
    }
}

/// A parent of a route, or a target of a filter.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct ParentRef {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub section_name: Option<String>,
    pub port: Option<u16>,
}

/// A rule of an HTTPRoute.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct HttpRule {
    pub name: Option<String>,
    #[serde(default)]
    pub matches: Vec<HttpMatch>,
    #[serde(default)]
    pub filters: Vec<Filter>,
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
    pub timeouts: Option<Timeouts>,
    pub retry: Option<Retry>,
    pub session_persistence: Option<IgnoredAny>,
}

/// A rule of a GRPCRoute.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct GrpcRule {
    pub name: Option<String>,
    #[serde(default)]
    pub matches: Vec<GrpcMatch>,
    #[serde(default)]
    pub filters: Vec<Filter>,
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
    pub session_persistence: Option<IgnoredAny>,
}

/// An element of `matches`; all parts must hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct HttpMatch {
    pub path: Option<PathMatch>,
    #[serde(default)]
    pub headers: Vec<ValueMatch>,
    #[serde(default)]
    pub query_params: Vec<ValueMatch>,
    pub method: Option<HttpMethod>,
}

/// An element of a GRPCRoute's `matches`.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct GrpcMatch {
    pub method: Option<MethodMatch>,
    #[serde(default)]
    pub headers: Vec<ValueMatch>,
}

/// `path`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct PathMatch {
    #[serde(default)]
    pub r#type: PathType,
    pub value: Option<String>,
}

/// `type` of a path match
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the document")]
pub enum PathType {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
}

/// `type` of other matches
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the document")]
pub enum MatchType {
    #[default]
    Exact,
    RegularExpression,
}

/// A header or query parameter.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct ValueMatch {
    #[serde(default)]
    pub r#type: MatchType,
    pub name: String,
    pub value: String,
}

/// A gRPC method.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct MethodMatch {
    #[serde(default)]
    pub r#type: MatchType,
    pub service: Option<String>,
    pub method: Option<String>,
}

/// `method`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the words of the document")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

/// An element of `filters`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct Filter {
    pub r#type: FilterType,
    pub request_header_modifier: Option<HeaderModifier>,
    pub response_header_modifier: Option<HeaderModifier>,
    pub request_redirect: Option<Redirect>,
    pub url_rewrite: Option<Rewrite>,
    pub request_mirror: Option<IgnoredAny>,
    pub cors: Option<IgnoredAny>,
    pub external_auth: Option<IgnoredAny>,
    pub extension_ref: Option<ExtensionRef>,
}

/// `type` of a filter
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the document")]
pub enum FilterType {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    RequestMirror,
    #[serde(rename = "CORS")]
    Cors,
    ExternalAuth,
    ExtensionRef,
}

/// Edits of headers.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct HeaderModifier {
    #[serde(default)]
    pub set: Vec<Header>,
    #[serde(default)]
    pub add: Vec<Header>,
    #[serde(default)]
    pub remove: Vec<String>,
}

/// A header.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// `requestRedirect`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct Redirect {
    pub scheme: Option<Scheme>,
    pub hostname: Option<String>,
    pub path: Option<PathModifier>,
    pub port: Option<u16>,
    pub status_code: Option<u16>,
}

/// `scheme`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the document")]
pub enum Scheme {
    Http,
    Https,
}

/// `urlRewrite`
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct Rewrite {
    pub hostname: Option<String>,
    pub path: Option<PathModifier>,
}

/// `path` of a redirect or a rewrite
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct PathModifier {
    pub r#type: PathModifierType,
    pub replace_full_path: Option<String>,
    pub replace_prefix_match: Option<String>,
}

/// `type` of a path modifier
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the document")]
pub enum PathModifierType {
    ReplaceFullPath,
    ReplacePrefixMatch,
}

/// `extensionRef`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct ExtensionRef {
    pub group: String,
    pub kind: String,
    pub name: String,
}

/// An element of `backendRefs`.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct BackendRef {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub port: Option<u16>,
    pub weight: Option<u32>,
    #[serde(default)]
    pub filters: Vec<Filter>,
}

/// `timeouts`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct Timeouts {
    pub request: Option<Duration>,
    pub backend_request: Option<Duration>,
}

/// `retry`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub struct Retry {
    #[serde(default)]
    pub codes: Vec<u16>,
    pub attempts: Option<u32>,
    pub backoff: Option<Duration>,
}
