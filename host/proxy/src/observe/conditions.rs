//! Conditions on exchanges, in CEL: which of them the access log records. Compiled and checked once; never run on a
//! worker.
//!
//! The attributes are those of [`ATTRIBUTES`] and no others. An absent value is a missing key (`has(...)` is false), and
//! a condition that fails on an exchange counts as false.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::objects::{Key, Map};
use cel::{Context, Env, ExecutionError, Program, Value};
use http::{Method, StatusCode};

use crate::facts::{Flags, Record, Text};

type Attribute = (&'static str, &'static str, fn(&Record) -> Option<Value>);

/// Object, field, and where it comes from; no object for names that stand alone. Names and meanings are Envoy's, but
/// for `request.duration_ms`, `response.code_name`, `listener_name` and `generation`, which are ours.
const ATTRIBUTES: &[Attribute] = &[
    ("", "cluster_name", |record| name(record.backend.as_ref())),
    ("", "generation", |record| number(record.generation)),
    ("", "listener_name", |record| name(Some(&record.listener))),
    ("", "route_name", |record| name(record.route.as_ref())),
    ("connection", "mtls", |record| Some(Value::Bool(record.mutual_tls))),
    ("connection", "requested_server_name", |record| text(record.server_name.as_ref())),
    ("destination", "address", |record| string(record.local.to_string())),
    ("request", "duration_ms", |record| number(record.duration.as_millis())),
    ("request", "host", |record| text(Some(&record.authority))),
    ("request", "id", |record| text(record.request_id.as_ref())),
    ("request", "method", |record| string(record.method.to_string())),
    ("request", "path", |record| text(Some(&record.path))),
    ("request", "protocol", |record| string(record.protocol.to_owned())),
    ("request", "query", |record| string(split_path(record).1)),
    ("request", "scheme", |record| string(record.scheme.to_owned())),
    ("request", "size", |record| number(record.request_bytes)),
    ("request", "url_path", |record| string(split_path(record).0)),
    ("request", "useragent", |record| text(record.user_agent.as_ref())),
    ("response", "code", |record| number(record.status?.as_u16())),
    ("response", "code_details", |record| text(record.details.as_ref())),
    ("response", "code_name", |record| string(record.code?.to_owned())),
    ("response", "flags", |record| number(record.flags.bits())),
    ("response", "grpc_status", |record| number(record.grpc_status?)),
    ("response", "size", |record| number(record.response_bytes)),
    ("source", "address", |record| string(record.client.to_string())),
    ("upstream", "address", |record| string(record.upstream_peer?.to_string())),
    ("upstream", "local_address", |record| string(record.upstream_local?.to_string())),
    ("upstream", "request_attempt_count", |record| number(record.attempts)),
    ("upstream", "transport_failure_reason", |record| text(record.upstream_failure.as_ref())),
];

/// A compiled condition.
pub struct Condition {
    program: Program,
    environment: Arc<Env>,
    used: BTreeSet<&'static str>,
}

impl Condition {
    /// Compiles a condition, and tries it on an example in which every attribute has a value.
    ///
    /// # Errors
    /// It is no CEL, names an attribute that does not exist, compares what cannot be compared, or its value is no
    /// boolean; in words.
    pub fn compile(source: &str) -> Result<Condition, String> {
        let environment = Arc::new(Env::stdlib());
        let program = environment.compile(source).map_err(|problems| {
            let problems: Vec<_> = problems
                .errors
                .iter()
                .map(|problem| {
                    format!("{} at line {}, column {}", problem.msg, problem.pos.0, problem.pos.1)
                })
                .collect();
            problems.join("; ")
        })?;
        check_attributes(&program)?;
        let used = program
            .references()
            .variables()
            .into_iter()
            .flat_map(|variable| ATTRIBUTES.iter().filter(move |at| root(at) == variable).map(root))
            .collect();
        let condition = Condition { program, environment, used };
        match condition.evaluate(&example()) {
            Ok(Value::Bool(_)) => Ok(condition),
            Ok(other) => Err(format!("the value is of type {}, expected bool", other.type_of())),
            Err(ExecutionError::FunctionError { .. } | ExecutionError::DivisionByZero(_)) => {
                Ok(condition)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether it is true of an exchange.
    pub fn holds(&self, record: &Record) -> bool {
        matches!(self.evaluate(record), Ok(Value::Bool(true)))
    }

    fn evaluate(&self, record: &Record) -> Result<Value, ExecutionError> {
        let mut context = Context::with_env(Arc::clone(&self.environment));
        for variable in &self.used {
            let of_root = ATTRIBUTES.iter().filter(|at| root(at) == *variable);
            let mut fields = HashMap::new();
            for (object, field, value) in of_root {
                match (value(record), *object) {
                    (Some(value), "") => context.add_variable_from_value(*field, value),
                    (Some(value), _) => {
                        fields.insert(Key::String(Arc::new((*field).to_owned())), value);
                    }
                    (None, "") => context.add_variable_from_value(*field, Value::Null),
                    (None, _) => {}
                }
            }
            if !ATTRIBUTES.iter().any(|(object, field, _)| object.is_empty() && field == variable) {
                context
                    .add_variable_from_value(*variable, Value::Map(Map { map: Arc::new(fields) }));
            }
        }
        self.program.execute(&context)
    }
}

/// The variable through which an attribute is reached.
fn root(attribute: &Attribute) -> &'static str {
    if attribute.0.is_empty() { attribute.1 } else { attribute.0 }
}

/// Every name that is neither an attribute nor bound by a macro is an error, also where evaluation never gets to.
fn check_attributes(program: &Program) -> Result<(), String> {
    let mut unknown = BTreeSet::new();
    visit(program.expression(), &mut Vec::new(), &mut unknown);
    if unknown.is_empty() {
        return Ok(());
    }
    let unknown: Vec<_> = unknown.into_iter().collect();
    Err(format!("unknown attribute {}", unknown.join(", ")))
}

fn visit<'e>(node: &'e IdedExpr, bound: &mut Vec<&'e str>, unknown: &mut BTreeSet<String>) {
    match &node.expr {
        Expr::Ident(name) => {
            let known = name.starts_with('@')
                || bound.contains(&name.as_str())
                || TYPES.contains(&name.as_str())
                || ATTRIBUTES.iter().any(|attribute| root(attribute) == name);
            if !known {
                unknown.insert(name.clone());
            }
        }
        Expr::Select(select) => {
            if let Expr::Ident(object) = &select.operand.expr
                && !bound.contains(&object.as_str())
                && ATTRIBUTES.iter().any(|attribute| attribute.0 == object)
                && !ATTRIBUTES
                    .iter()
                    .any(|(root, field, _)| root == object && *field == select.field)
            {
                unknown.insert(format!("{object}.{}", select.field));
            }
            visit(&select.operand, bound, unknown);
        }
        Expr::Call(call) => {
            for part in call.target.iter().map(Box::as_ref).chain(&call.args) {
                visit(part, bound, unknown);
            }
        }
        Expr::Comprehension(fold) => {
            visit(&fold.iter_range, bound, unknown);
            let before = bound.len();
            bound.push(&fold.iter_var);
            bound.extend(fold.iter_var2.as_deref());
            bound.push(&fold.accu_var);
            for part in [&fold.accu_init, &fold.loop_cond, &fold.loop_step, &fold.result] {
                visit(part, bound, unknown);
            }
            bound.truncate(before);
        }
        Expr::List(list) => list.elements.iter().for_each(|part| visit(part, bound, unknown)),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    visit(&entry.key, bound, unknown);
                    visit(&entry.value, bound, unknown);
                }
            }
        }
        Expr::Struct(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

/// Names that CEL itself defines.
const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

fn string(text: String) -> Option<Value> {
    Some(Value::String(Arc::new(text)))
}

fn text(text: Option<&Text>) -> Option<Value> {
    string(String::from_utf8_lossy(text?.as_bytes()).into_owned())
}

fn name(name: Option<&Arc<str>>) -> Option<Value> {
    string(name?.to_string())
}

/// CEL's literals are `int`, so every number is one.
fn number(value: impl TryInto<i64>) -> Option<Value> {
    Some(Value::Int(value.try_into().unwrap_or(i64::MAX)))
}

/// Path without query, and query.
fn split_path(record: &Record) -> (String, String) {
    let path = String::from_utf8_lossy(record.path.as_bytes());
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    (path.to_owned(), query.to_owned())
}

fn example() -> Record {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    let some = |text: &str| Some(Text::from(text));
    Record {
        started: SystemTime::UNIX_EPOCH,
        duration: Duration::from_millis(1),
        upstream_duration: Some(Duration::from_millis(1)),
        generation: 1,
        listener: "listener".into(),
        route: Some("route".into()),
        backend: Some("backend".into()),
        upstream_peer: Some(address),
        upstream_local: Some(address),
        upstream_failure: some("reason"),
        attempts: 1,
        peer: address,
        local: address,
        client: address,
        server_name: some("name"),
        mutual_tls: true,
        protocol: "HTTP/1.1",
        scheme: "http",
        method: Method::GET,
        authority: Text::from("host"),
        path: Text::from("/path?query"),
        user_agent: some("agent"),
        forwarded_for: some("address"),
        request_id: some("id"),
        request_bytes: 1,
        status: Some(StatusCode::OK),
        grpc_status: Some(0),
        response_bytes: 1,
        flags: Flags::none(),
        details: some("via_upstream"),
        code: Some("P0701"),
        filters: Vec::new(),
    }
}
