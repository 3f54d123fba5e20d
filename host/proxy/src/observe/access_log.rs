//! The access log: one line for each exchange, written off the request path.
//!
//! Workers hand over a [`Record`] and go on; filtering, formatting and writing happen on the writer's thread. The field
//! names are a contract, listed in [`json`].

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_vm::FilterState;

use super::conditions::{Condition, Field, Scalar};
use super::families::LOG_DROPPED;
use super::metrics::Registry;
use super::sink::{Capacity, Entry, Sink, Target};
use super::time::rfc3339;
use crate::facts::{Record, Text};
use crate::snapshot::{AccessLog, AccessLogFormat};

/// An open access log. Share it in an `Arc`.
#[derive(Debug)]
pub struct AccessLogger {
    settings: AccessLog,
    stored: Vec<Arc<str>>,
    sink: Sink<Boxed>,
}

/// The queue has a place for every entry it may ever hold, so entries are small.
#[derive(Debug)]
struct Boxed(Box<Record>);

impl Entry for Boxed {
    fn weight(&self) -> usize {
        self.0.weight()
    }
}

impl AccessLogger {
    /// Compiles filter and fields, opens the target and starts the writer. Dropped records are counted in `registry`.
    ///
    /// # Errors
    /// In words: what is wrong with the filter or a field, or why the file cannot be opened.
    pub fn open(settings: &AccessLog, registry: &Registry) -> Result<AccessLogger, String> {
        let filter = settings.filter.as_deref().map(Condition::compile).transpose();
        let filter = filter.map_err(|problem| format!("access log filter: {problem}"))?;
        let field = |(name, source): (&String, &String)| match Field::compile(source) {
            Ok(field) => Ok((name.clone(), field)),
            Err(problem) => Err(format!("access log field {name}: {problem}")),
        };
        let fields: Vec<_> = settings.fields.iter().map(field).collect::<Result<_, _>>()?;
        let filtered = filter.iter().flat_map(Condition::stored);
        let stored = filtered.chain(fields.iter().flat_map(|(_, field)| field.stored()));
        let stored: BTreeSet<_> = stored.cloned().collect();
        let write = match settings.format {
            AccessLogFormat::Json => json,
            AccessLogFormat::Text => text,
        };
        let encode = move |Boxed(record): &Boxed, line: &mut Vec<u8>| {
            if filter.as_ref().is_none_or(|filter| filter.holds(record)) {
                write(record, &fields, line);
            }
        };
        let dropped = registry.series(&LOG_DROPPED, ["access"]);
        let target = Target::named(&settings.path);
        let sink = Sink::start(&target, Capacity::default(), dropped, encode)
            .map_err(|error| format!("access log {}: {error}", settings.path))?;
        Ok(AccessLogger { settings: settings.clone(), stored: stored.into_iter().collect(), sink })
    }

    /// Compiles a filter and throws it away.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check_filter(filter: &str) -> Result<(), String> {
        Condition::compile(filter).map(drop)
    }

    /// Whether a field may have this name: letters, digits, `_` and `-`, at least one of them.
    pub fn is_field_name(name: &str) -> bool {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        !name.is_empty() && name.bytes().all(fits)
    }

    /// Compiles a field and throws it away.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check_field(name: &str, source: &str) -> Result<(), String> {
        if !AccessLogger::is_field_name(name) {
            return Err("its name may have letters, digits, _ and -".to_owned());
        }
        Field::compile(source).map(drop)
    }

    /// What it reads of that which filters stored: whole names and values.
    pub fn stored(&self, state: &FilterState) -> Vec<(Arc<str>, Text)> {
        let value =
            |name: &Arc<str>| Some((name.clone(), Text::of(state.get(name.as_bytes())?.value())));
        self.stored.iter().filter_map(value).collect()
    }

    /// What it was opened with; a logger of equal settings need not be opened anew.
    pub fn settings(&self) -> &AccessLog {
        &self.settings
    }

    /// Records an exchange. Never waits: when the queue is full the record is dropped and counted.
    pub fn log(&self, record: Record) {
        self.sink.push(Boxed(Box::new(record)));
    }

    /// Waits until what was logged is written, at most for `patience`; answers whether it was. Blocks: not for workers.
    pub fn flush(&self, patience: Duration) -> bool {
        self.sink.flush(patience)
    }

    /// Opens the file again, after it was moved away. Blocks while the queue is full: not for workers.
    pub fn reopen(&self) {
        self.sink.reopen();
    }
}

/// One JSON object. The configuration's own fields stand in `fields`, if there are any. Names follow Envoy's command operators as Istio's JSON access log spells them; `null` for what does
/// not exist. Bytes that are no UTF-8 become U+FFFD.
fn json(record: &Record, fields: &[(String, Field)], line: &mut Vec<u8>) {
    let mut object = Object::open(line);
    object.string("start_time", Some(rfc3339(record.started).as_bytes()));
    let request = record.request.as_ref();
    object.string("method", request.map(|request| request.method.as_str().as_bytes()));
    object.text("path", request.map(|request| &request.path));
    object.text("authority", request.map(|request| &request.authority));
    object.string("scheme", request.map(|request| request.scheme.as_bytes()));
    object.string("protocol", request.map(|request| request.protocol.as_bytes()));
    object.number("response_code", Some(record.status.map_or(0, |status| status.as_u16())));
    object.string("response_flags", Some(record.flags.to_string().as_bytes()));
    object.text("response_code_details", record.details.as_ref());
    object.number("grpc_status", record.grpc_status);
    object.number("bytes_received", Some(record.request_bytes));
    object.number("bytes_sent", Some(record.response_bytes));
    object.number("duration", Some(record.duration.as_millis()));
    object.number("upstream_service_time", record.upstream_duration.map(|time| time.as_millis()));
    object.address("upstream_host", record.upstream_peer);
    object.string("upstream_cluster", record.backend.as_ref().map(|name| name.as_bytes()));
    object.address("upstream_local_address", record.upstream_local);
    object.text("upstream_transport_failure_reason", record.upstream_failure.as_ref());
    object.number("upstream_request_attempt_count", Some(record.attempts));
    object.string("route_name", record.route.as_ref().map(|name| name.as_bytes()));
    object.text("request_id", record.request_id.as_ref());
    object.text("user_agent", record.user_agent.as_ref());
    object.text("x_forwarded_for", record.forwarded_for.as_ref());
    object.address("downstream_remote_address", Some(record.client));
    object.address("downstream_direct_remote_address", Some(record.peer));
    object.address("downstream_local_address", Some(record.local));
    object.text("requested_server_name", record.server_name.as_ref());
    object.string("listener_name", Some(record.listener.as_bytes()));
    object.string("portcullis_code", record.code.map(str::as_bytes));
    object.number("generation", Some(record.generation));
    object.key("filters");
    object.line.push(b'[');
    for (index, (filter, verdict)) in record.filters.iter().enumerate() {
        if index > 0 {
            object.line.push(b',');
        }
        let mut entry = Object::open(object.line);
        entry.string("filter", Some(filter.as_bytes()));
        entry.string("verdict", Some(verdict.as_str().as_bytes()));
        entry.close();
    }
    object.line.push(b']');
    if !fields.is_empty() {
        object.key("fields");
        let mut values = Object::open(object.line);
        fields.iter().for_each(|(name, field)| values.scalar(name, field.value(record)));
        values.close();
    }
    object.close();
    line.push(b'\n');
}

/// An object under construction.
struct Object<'l> {
    line: &'l mut Vec<u8>,
    first: bool,
}

impl<'l> Object<'l> {
    fn open(line: &'l mut Vec<u8>) -> Object<'l> {
        line.push(b'{');
        Object { line, first: true }
    }

    fn close(self) {
        self.line.push(b'}');
    }

    fn key(&mut self, name: &str) {
        if !self.first {
            self.line.push(b',');
        }
        self.first = false;
        let _ = write!(self.line, "\"{name}\":");
    }

    fn string(&mut self, name: &str, value: Option<&[u8]>) {
        self.key(name);
        let Some(value) = value else { return self.line.extend_from_slice(b"null") };
        self.line.push(b'"');
        for chunk in value.utf8_chunks() {
            chunk.valid().chars().for_each(|character| escape(self.line, character));
            if !chunk.invalid().is_empty() {
                escape(self.line, char::REPLACEMENT_CHARACTER);
            }
        }
        self.line.push(b'"');
    }

    fn text(&mut self, name: &str, value: Option<&Text>) {
        self.string(name, value.map(Text::as_bytes));
    }

    fn number(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        self.key(name);
        let _ = match value {
            Some(value) => write!(self.line, "{value}"),
            None => write!(self.line, "null"),
        };
    }

    fn scalar(&mut self, name: &str, value: Scalar) {
        match value {
            Scalar::Bool(truth) => self.number(name, Some(truth)),
            Scalar::Int(number) => self.number(name, Some(number)),
            Scalar::Float(number) => self.number(name, number.is_finite().then_some(number)),
            Scalar::Bytes(bytes) => self.string(name, Some(&bytes)),
            Scalar::Absent => self.string(name, None),
        }
    }

    fn address(&mut self, name: &str, address: Option<SocketAddr>) {
        let address = address.map(|address| address.to_string());
        self.string(name, address.as_ref().map(|address| address.as_bytes()));
    }
}

/// As JSON wants it, and nothing that a terminal would take for a command.
fn escape(line: &mut Vec<u8>, character: char) {
    match character {
        '"' | '\\' => line.extend([b'\\', character as u8]),
        control if control.is_control() => {
            let _ = write!(line, "\\u{:04x}", u32::from(control));
        }
        other => line.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// One line: Envoy's default format, then cluster, route, listener, client, our code, the filters, and the
/// configuration's own fields as `name="value"`. Absent is `-`;
/// inside quotes, everything but printable ASCII and the quote and backslash themselves is `\xNN`, as nginx does it.
fn text(record: &Record, fields: &[(String, Field)], line: &mut Vec<u8>) {
    let mut out = String::new();
    let request = record.request.as_ref();
    let _ = write!(
        out,
        "[{}] \"{} {} {}\" {} {} {} {} {} {} {}",
        rfc3339(record.started),
        or_dash(request.map(|request| &request.method)),
        printable(request.map(|request| &request.path)),
        or_dash(request.map(|request| request.protocol)),
        record.status.map_or(0, |status| status.as_u16()),
        record.flags,
        plain(record.details.as_ref()),
        record.request_bytes,
        record.response_bytes,
        record.duration.as_millis(),
        or_dash(record.upstream_duration.map(|time| time.as_millis())),
    );
    let quoted = [
        record.forwarded_for.as_ref(),
        record.user_agent.as_ref(),
        record.request_id.as_ref(),
        request.map(|request| &request.authority),
    ];
    for value in quoted {
        let _ = write!(out, " \"{}\"", printable(value));
    }
    let _ = write!(
        out,
        " \"{}\" {} {} {} {} {} {}",
        or_dash(record.upstream_peer),
        or_dash(record.backend.as_ref()),
        or_dash(record.route.as_ref()),
        record.listener,
        record.client,
        or_dash(record.code),
        record.generation,
    );
    let mut separator = ' ';
    for (filter, verdict) in &record.filters {
        let _ = write!(out, "{separator}{filter}={}", verdict.as_str());
        separator = ',';
    }
    if record.filters.is_empty() {
        out.push_str(" -");
    }
    for (name, field) in fields {
        let value = match field.value(record) {
            Scalar::Bool(truth) => truth.to_string(),
            Scalar::Int(number) => number.to_string(),
            Scalar::Float(number) => number.to_string(),
            Scalar::Bytes(bytes) => printable(Some(&Text::of(&bytes))),
            Scalar::Absent => "-".to_owned(),
        };
        let _ = write!(out, " {name}=\"{value}\"");
    }
    line.extend_from_slice(out.as_bytes());
    line.push(b'\n');
}

fn or_dash(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// For a field that stands without quotes.
fn plain(value: Option<&Text>) -> String {
    printable(value).replace(' ', "_")
}

fn printable(value: Option<&Text>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let mut out = String::with_capacity(value.as_bytes().len());
    for byte in value.as_bytes() {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            printable => out.push(char::from(*printable)),
        }
    }
    out
}
