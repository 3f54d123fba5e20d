//! Expressions over exchanges, in CEL: which of them the access log records, and what it says of them besides. Compiled
//! and checked once; never run on a worker.
//!
//! The attributes are those of [`ATTRIBUTES`], and what filters have stored (`filter_state["NAME"]`, `wasm.NAME`); no
//! others. An absent value is a missing key (`has(...)` is false), and an expression that fails on an exchange is false,
//! or absent.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cel::objects::{Key, Map};
use cel::{Context, Env, ExecutionError, Program, Value};
use http::{Method, StatusCode};
use portcullis_vm::PROPERTY_PREFIX;

use super::references::{self, References};
use crate::facts::{Flags, Record, Request, Text};

/// What filters stored, by whole names.
const STATE: &str = "filter_state";
/// What filters stored with `proxy_set_property`, by the names they used.
const PROPERTIES: &str = "wasm";

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
    ("request", "host", |record| text(Some(&record.request.as_ref()?.authority))),
    ("request", "id", |record| text(record.request_id.as_ref())),
    ("request", "method", |record| string(record.request.as_ref()?.method.to_string())),
    ("request", "path", |record| text(Some(&record.request.as_ref()?.path))),
    ("request", "protocol", |record| string(record.request.as_ref()?.protocol.to_owned())),
    ("request", "query", |record| string(split_path(record)?.1)),
    ("request", "scheme", |record| string(record.request.as_ref()?.scheme.to_owned())),
    ("request", "size", |record| number(record.request_bytes)),
    ("request", "url_path", |record| string(split_path(record)?.0)),
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

/// An expression whose value is true or false.
pub struct Condition(Expression);

impl Condition {
    /// Compiles a condition, and tries it on an example in which every attribute has a value.
    ///
    /// # Errors
    /// It is no CEL, names an attribute that does not exist, compares what cannot be compared, or its value is no
    /// boolean; in words.
    pub fn compile(source: &str) -> Result<Condition, String> {
        let expression = Expression::compile(source)?;
        match expression.example()? {
            Some(Value::Bool(_)) | None => Ok(Condition(expression)),
            Some(other) => Err(format!("the value is of type {}, expected bool", other.type_of())),
        }
    }

    /// Whether it is true of an exchange.
    pub fn holds(&self, record: &Record) -> bool {
        matches!(self.0.evaluate(record), Ok(Value::Bool(true)))
    }

    /// What it reads of that which filters stored; whole names.
    pub fn stored(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.references.stored.iter()
    }
}

/// What an expression makes of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// There is none.
    Absent,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any number; perhaps not finite.
    Float(f64),
    /// A text, or bytes.
    Bytes(Vec<u8>),
}

/// An expression whose value is a text, a number or a truth value.
pub struct Field(Expression);

impl Field {
    /// Compiles it, and tries it on an example in which every attribute has a value.
    ///
    /// # Errors
    /// As [`Condition::compile`], and when the value is something else.
    pub fn compile(source: &str) -> Result<Field, String> {
        let expression = Expression::compile(source)?;
        match expression.example()?.map(|value| (value.type_of(), scalar(value))) {
            Some((kind, None)) => Err(format!("the value is of type {kind}, which is no field")),
            _ => Ok(Field(expression)),
        }
    }

    /// Its value for an exchange; absent also where it cannot be computed.
    pub fn value(&self, record: &Record) -> Scalar {
        self.0.evaluate(record).ok().and_then(scalar).unwrap_or(Scalar::Absent)
    }

    /// As [`Condition::stored`].
    pub fn stored(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.references.stored.iter()
    }
}

fn scalar(value: Value) -> Option<Scalar> {
    Some(match value {
        Value::Null => Scalar::Absent,
        Value::Bool(truth) => Scalar::Bool(truth),
        Value::Int(number) => Scalar::Int(number.into()),
        Value::UInt(number) => Scalar::Int(number.into()),
        Value::Float(number) => Scalar::Float(number),
        Value::String(text) => Scalar::Bytes(text.as_bytes().to_vec()),
        Value::Bytes(bytes) => Scalar::Bytes(bytes.to_vec()),
        _ => return None,
    })
}

/// A compiled expression.
struct Expression {
    program: Program,
    environment: Arc<Env>,
    references: References,
}

impl Expression {
    fn compile(source: &str) -> Result<Expression, String> {
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
        let references = references::of(&program, &Known)?;
        Ok(Expression { program, environment, references })
    }

    /// Its value in an exchange that lacks nothing; `None` where that cannot be said, because of what is computed.
    fn example(&self) -> Result<Option<Value>, String> {
        let stored = self.references.stored.iter();
        let stored = stored.map(|name| (name.clone(), Text::from("text"))).collect();
        match self.evaluate(&Record { stored, ..example() }) {
            Ok(value) => Ok(Some(value)),
            Err(ExecutionError::FunctionError { .. } | ExecutionError::DivisionByZero(_)) => {
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn evaluate(&self, record: &Record) -> Result<Value, ExecutionError> {
        let mut context = Context::with_env(Arc::clone(&self.environment));
        for variable in &self.references.variables {
            let alone = ATTRIBUTES.iter().find(|at| at.0.is_empty() && at.1 == &**variable);
            let value = match alone {
                Some((_, _, value)) => value(record).unwrap_or(Value::Null),
                None => Value::Map(Map { map: Arc::new(fields(variable, record)) }),
            };
            context.add_variable_from_value(&**variable, value);
        }
        self.program.execute(&context)
    }
}

/// The parts of an object that exist in this exchange.
fn fields(object: &str, record: &Record) -> HashMap<Key, Value> {
    let key = |name: &str| Key::String(Arc::new(name.to_owned()));
    let stored = record.stored.iter();
    match object {
        STATE => stored.map(|(name, value)| (key(name), state(value))).collect(),
        PROPERTIES => stored
            .filter_map(|(name, value)| Some((key(name.strip_prefix(PROPERTY_PREFIX)?), value)))
            .map(|(key, value)| (key, state(value)))
            .collect(),
        _ => ATTRIBUTES
            .iter()
            .filter(|attribute| attribute.0 == object)
            .filter_map(|(_, field, value)| Some((key(field), value(record)?)))
            .collect(),
    }
}

/// Text where it is text.
fn state(value: &Text) -> Value {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Value::String(Arc::new(text.to_owned())),
        Err(_) => Value::Bytes(Arc::new(value.as_bytes().to_vec())),
    }
}

/// What expressions may name.
struct Known;

impl references::Names for Known {
    fn is_object(&self, name: &str) -> bool {
        ATTRIBUTES.iter().any(|attribute| attribute.0 == name)
    }

    fn has(&self, object: &str, field: &str) -> bool {
        ATTRIBUTES.iter().any(|attribute| (attribute.0, attribute.1) == (object, field))
    }

    fn stored(&self, object: &str, name: &str) -> Option<Arc<str>> {
        match object {
            STATE => Some(name.into()),
            PROPERTIES => Some(format!("{PROPERTY_PREFIX}{name}").into()),
            _ => None,
        }
    }
}

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
fn split_path(record: &Record) -> Option<(String, String)> {
    let path = String::from_utf8_lossy(record.request.as_ref()?.path.as_bytes());
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    Some((path.to_owned(), query.to_owned()))
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
        request: Some(Request {
            protocol: "HTTP/1.1",
            scheme: "http",
            method: Method::GET,
            authority: Text::from("host"),
            path: Text::from("/path?query"),
        }),
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
        stored: Vec::new(),
    }
}
