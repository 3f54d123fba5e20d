//! Text → documents: the only place where configuration is deserialised.
//!
//! A source is parsed to trees that keep positions, and each tree is decoded into the plain types of its kind. Everything
//! that is wrong is reported, not only the first. This module looks at one document at a time: whether a name leads
//! anywhere is for `plan` to say.

mod access;
mod decode;
mod dummy;
mod scalar;
pub mod filter;
pub mod own;
pub mod route;
mod tree;
mod values;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::diagnose::{Code, Place, Problem, nearest};
use decode::{Finding, decode};
use filter::{WasmFilterSpec, WasmPluginSpec};
use own::{BackendSpec, ProxySpec};
use route::{GrpcRouteSpec, HttpRouteSpec, TcpRouteSpec, TlsRouteSpec};
use tree::{At, Node, Value};

pub use values::{Duration, Size, Timestamp};

/// What a document without a namespace lies in.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Where a source comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The namespace of documents that name none.
    pub namespace: Arc<str>,
    /// Whom it concerns.
    pub reach: Reach,
}

impl Default for Home {
    fn default() -> Home {
        Home { namespace: DEFAULT_NAMESPACE.into(), reach: Reach::Near }
    }
}

/// Whom a source concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This proxy, or those of its namespace.
    Near,
    /// Every proxy, unless something near has the same kind and name.
    Mesh,
}

/// One document of a source.
#[derive(Clone, Debug)]
pub struct Document {
    /// Index of its source.
    pub source: usize,
    /// Name of its source.
    pub file: Arc<str>,
    /// `HTTPRoute`, …
    pub kind: &'static str,
    /// That of its source's [`Home`] if the document has none.
    pub namespace: String,
    /// Whom its source concerns.
    pub reach: Reach,
    /// Its name; empty if it has none.
    pub name: String,
    /// `None`: there are problems.
    pub object: Option<Object>,
    /// Seconds since the epoch.
    pub created: Option<i64>,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    text: Rc<Text>,
    /// Among those of its source.
    number: usize,
}

/// The text of a source, without its trees: they take a dozen times as much, and thousands of sources are read before the
/// first is planned. Where a place is asked for later, it is parsed once more.
#[derive(Debug)]
struct Text {
    text: Arc<str>,
    trees: OnceCell<Vec<Node>>,
}

/// What a document says.
#[derive(Clone, Debug)]
pub enum Object {
    /// Proxy
    Proxy(Box<ProxySpec>),
    /// Backend
    Backend(BackendSpec),
    /// WasmFilter
    WasmFilter(Box<WasmFilterSpec>),
    /// Istio's WasmPlugin
    WasmPlugin(Box<WasmPluginSpec>),
    /// HTTPRoute
    HttpRoute(HttpRouteSpec),
    /// GRPCRoute
    GrpcRoute(GrpcRouteSpec),
    /// TCPRoute
    TcpRoute(TcpRouteSpec),
    /// TLSRoute
    TlsRoute(TlsRouteSpec),
}

/// What a source holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Those of a kind that we know, in order, right or not.
    pub documents: Vec<Document>,
    /// By place.
    pub problems: Vec<Problem>,
    /// Whether there is a document of which not even the name is known.
    pub incomplete: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "fields that the API server adds are known, and ignored")]
struct Envelope<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
    status: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "fields that the API server adds are known, and ignored")]
struct Metadata {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    annotations: Option<IgnoredAny>,
    creation_timestamp: Option<Timestamp>,
    deletion_grace_period_seconds: Option<IgnoredAny>,
    deletion_timestamp: Option<IgnoredAny>,
    finalizers: Option<IgnoredAny>,
    generate_name: Option<IgnoredAny>,
    generation: Option<IgnoredAny>,
    managed_fields: Option<IgnoredAny>,
    owner_references: Option<IgnoredAny>,
    resource_version: Option<IgnoredAny>,
    self_link: Option<IgnoredAny>,
    uid: Option<IgnoredAny>,
}

const OURS: &str = "portcullis.dev/v1alpha1";
const GATEWAY: &str = "gateway.networking.k8s.io/v1";
const GATEWAY_ALPHA2: &str = "gateway.networking.k8s.io/v1alpha2";
const GATEWAY_ALPHA3: &str = "gateway.networking.k8s.io/v1alpha3";
const ISTIO: &str = "extensions.istio.io/v1alpha1";

/// Versions, the usual one first, and kind.
const KINDS: [(&[&str], &str); 8] = [
    (&[OURS], "Proxy"),
    (&[OURS], "Backend"),
    (&[OURS], "WasmFilter"),
    (&[GATEWAY], "HTTPRoute"),
    (&[GATEWAY], "GRPCRoute"),
    (&[GATEWAY_ALPHA2, GATEWAY_ALPHA3], "TCPRoute"),
    (&[GATEWAY, GATEWAY_ALPHA3, GATEWAY_ALPHA2], "TLSRoute"),
    (&[ISTIO], "WasmPlugin"),
];

/// Reads the source `file` with the index `source`.
pub fn read(source: usize, file: &Arc<str>, text: &Arc<str>, home: &Home) -> Contents {
    let forest = tree::parse(text);
    let mut contents = Contents { incomplete: forest.incomplete, ..Contents::default() };
    for flaw in forest.flaws {
        let place = place(file, text, flaw.at, String::new());
        let problem = Problem::new(flaw.code, flaw.title).at(place).hint(flaw.hint);
        contents.problems.push(problem.in_source(source));
    }
    let text = Rc::new(Text { text: text.clone(), trees: OnceCell::new() });
    for (number, root) in forest.documents.iter().enumerate() {
        let reading = Reading { source, file, text: &text, home, number, root };
        match reading.kind() {
            Ok(kind) => reading.document(kind, &mut contents),
            Err(problem) => contents.problems.push(problem.in_source(source)),
        }
    }
    let position = |problem: &Problem| problem.place.as_ref().map(|at| (at.line, at.column));
    contents.problems.sort_by_key(position);
    contents
}

fn place(file: &str, text: &str, at: At, field: String) -> Place {
    let line = text.lines().nth(at.line - 1).unwrap_or_default();
    let left = line.chars().count().saturating_sub(at.column - 1);
    let width = at.width.min(left).max(1);
    let (file, text) = (file.to_owned(), line.to_owned());
    Place { file, line: at.line, column: at.column, field, text, width }
}

/// One tree on its way to become a document.
struct Reading<'a> {
    source: usize,
    file: &'a Arc<str>,
    text: &'a Rc<Text>,
    home: &'a Home,
    number: usize,
    root: &'a Node,
}

impl Reading<'_> {
    fn problem(&self, code: Code, node: &Node, field: &str, title: String) -> Problem {
        Problem::new(code, title).at(place(self.file, &self.text.text, node.at, field.to_owned()))
    }

    fn kind(&self) -> Result<&'static str, Box<Problem>> {
        let field = |name: &str| self.root.get(name).filter(|node| !node.is_null());
        let missing = |name: &str| {
            let title = format!("the field `{name}` is missing");
            let problem = self.problem(Code::P0108, self.root, name, title);
            problem.hint(format!("add `{name}:` here"))
        };
        let (Some(version), Some(kind)) = (field("apiVersion"), field("kind")) else {
            let name = if field("apiVersion").is_none() { "apiVersion" } else { "kind" };
            return Err(Box::new(missing(name)));
        };
        let (version_text, kind_text) =
            (version.text().unwrap_or_default(), kind.text().unwrap_or_default());
        if let Some((versions, known)) = KINDS.iter().find(|(_, known)| *known == kind_text) {
            if versions.contains(&version_text) {
                return Ok(known);
            }
            let right = versions.first().copied().unwrap_or_default();
            let title = format!("{kind_text} of {version_text:?} is not known");
            let problem = self.problem(Code::P0107, version, "apiVersion", title);
            return Err(Box::new(problem.hint(format!("did you mean {right}?"))));
        }
        let title = format!("the kind {kind_text:?} is not known");
        let names = KINDS.map(|(_, kind)| kind);
        let problem = self.problem(Code::P0107, kind, "kind", title);
        Err(Box::new(problem.hint(match nearest(kind_text, names) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known kinds: {}", names.join(", ")),
        })))
    }

    fn document(&self, kind: &'static str, contents: &mut Contents) {
        let found = contents.problems.len();
        let metadata = |name: &str| {
            self.root.get("metadata").and_then(|node| node.get(name)).and_then(Node::text)
        };
        let mut document = Document {
            source: self.source,
            file: self.file.clone(),
            kind,
            namespace: metadata("namespace").unwrap_or(&self.home.namespace).to_owned(),
            reach: self.home.reach,
            name: metadata("name").unwrap_or_default().to_owned(),
            object: None,
            created: None,
            labels: BTreeMap::new(),
            text: self.text.clone(),
            number: self.number,
        };
        let object = match kind {
            "Proxy" => document.open(self.root, |spec| Object::Proxy(Box::new(spec))),
            "Backend" => document.open(self.root, Object::Backend),
            "WasmFilter" => document.open(self.root, |spec| Object::WasmFilter(Box::new(spec))),
            "WasmPlugin" => document.open(self.root, |spec| Object::WasmPlugin(Box::new(spec))),
            "HTTPRoute" => document.open(self.root, Object::HttpRoute),
            "TCPRoute" => document.open(self.root, Object::TcpRoute),
            "TLSRoute" => document.open(self.root, Object::TlsRoute),
            _ => document.open(self.root, Object::GrpcRoute),
        };
        match object {
            Ok(object) => document.object = Some(object),
            Err(findings) => {
                let problem = |finding: Finding| document.found(finding, self.root);
                contents.problems.extend(findings.into_iter().map(problem));
            }
        }
        self.check_names(&document, &mut contents.problems);
        let flawed = contents.problems[..found].iter().any(|flaw| self.covers(flaw));
        if flawed || contents.problems.len() > found {
            document.object = None;
        }
        contents.documents.push(document);
    }

    fn check_names(&self, document: &Document, problems: &mut Vec<Problem>) {
        let fields =
            [("metadata.name", &document.name), ("metadata.namespace", &document.namespace)];
        for (field, value) in fields {
            if !value.is_empty() && !is_name(value) {
                let title = format!("{value:?} is not a name");
                let hint = "use lower case letters, digits, `-` and `.`, at most 253 of them";
                let problem = self.problem(Code::P0111, at_field(self.root, field), field, title);
                problems.push(problem.of(document.title()).in_source(self.source).hint(hint));
            }
        }
    }

    /// Whether a flaw of the text lies between the first and the last line of this document.
    fn covers(&self, flaw: &Problem) -> bool {
        fn last(node: &Node) -> usize {
            node.children().map(last).max().unwrap_or_default().max(node.at.line)
        }
        let lines = self.root.at.line..=last(self.root);
        flaw.object.is_none() && flaw.place.as_ref().is_some_and(|at| lines.contains(&at.line))
    }
}

impl Document {
    fn open<S: DeserializeOwned>(
        &mut self,
        root: &Node,
        wrap: impl FnOnce(S) -> Object,
    ) -> Result<Object, Vec<Finding>> {
        let envelope: Envelope<S> = decode(root)?;
        self.created = envelope.metadata.creation_timestamp.map(Timestamp::get);
        self.labels = envelope.metadata.labels;
        Ok(wrap(envelope.spec))
    }

    fn found(&self, finding: Finding, root: &Node) -> Problem {
        let field = finding.field(root);
        let place = place(&self.file, &self.text.text, finding.at, field);
        let problem = Problem::new(finding.code, finding.title).at(place);
        let problem = problem.of(self.title()).in_source(self.source);
        match finding.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }

    /// `Kind namespace/name`
    pub fn title(&self) -> String {
        format!("{} {}", self.kind, self.key())
    }

    /// `namespace/name`
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The whole document, as it was written; null where it cannot be told.
    pub fn json(&self) -> serde_json::Value {
        self.root().and_then(|root| decode(root).ok()).unwrap_or_default()
    }

    /// Where `field` stands, such as `spec.rules[0].backendRefs[1].name`; if it is not there, what would hold it.
    pub fn place(&self, field: &str) -> Place {
        let at = self.root().map_or(At::START, |root| at_field(root, field).at);
        place(&self.file, &self.text.text, at, field.to_owned())
    }

    /// A problem of this object at `field`.
    pub fn problem(&self, code: Code, field: &str, title: impl Into<String>) -> Problem {
        let problem = Problem::new(code, title).at(self.place(field));
        problem.of(self.title()).in_source(self.source)
    }

    fn root(&self) -> Option<&Node> {
        let Text { text, trees } = &*self.text;
        trees.get_or_init(|| tree::parse(text).documents).get(self.number)
    }
}

/// What stands at `field`, such as `spec.rules[0].backendRefs[1].name`; if it is not there, what would hold it.
fn at_field<'n>(root: &'n Node, field: &str) -> &'n Node {
    let mut node = root;
    for step in field.split(['.', '[']).map(|step| step.trim_end_matches(']')) {
        let next = match (&node.value, step.parse::<usize>()) {
            (Value::Sequence(nodes), Ok(index)) => nodes.get(index),
            _ => node.get(step),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

/// A DNS subdomain, as Kubernetes wants names to be.
pub(crate) fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty()
            && part.bytes().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}
