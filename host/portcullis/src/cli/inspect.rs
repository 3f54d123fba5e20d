//! `portcullis inspect`: what a module is, needs and claims, and which hosts it loads on. Reads the file, or fetches the
//! image, and nothing else; never runs or compiles the module.

use std::path::PathBuf;

use bytes::Bytes;
use portcullis_vm::{
    Abi, Digest, Export, Import, Inspection, LoadError, Origin, Suitability, WrongType, inspect,
    origin,
};
use serde_json::{Value, json};

use super::{Exit, Outcome, pull, registry};
use crate::diagnose::{Code, Problem};
use crate::fetch::oci::Reference;
use crate::fetch::{Brought, Downloads, Order, open_downloads, stored_bytes};
use crate::term::{Paint, Style, Term, clean, table};

/// As large as the data plane takes.
const LARGEST: u64 = 64 << 20;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A Wasm module: a file, or oci://IMAGE
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to speak to a registry.
    #[command(flatten)]
    pub registry: registry::Args,
}

/// Reads the module and describes it. A module that Portcullis does not take is described too, and ends with 65.
pub fn run(args: &Args, term: &Term) -> Outcome {
    let (file, bytes) = match read(args) {
        Ok(read) => read,
        Err(outcome) => return outcome,
    };
    let report = inspect(&bytes).and_then(|module| {
        let hosts = module.hosts();
        let digest = Digest::of(&bytes);
        Ok(Report {
            file: &file,
            size: bytes.len(),
            digest,
            origin: origin(&bytes)?,
            module,
            hosts,
        })
    });
    match report {
        Err(error) => {
            let problem = refusal(&file, &error);
            let text = str::from_utf8(&bytes).is_ok_and(|text| text.contains("(module"));
            let hint = match text {
                true => "this is the text form: wat2wasm or wasm-tools make a module of it",
                false => "is this the right file, and all of it?",
            };
            Outcome::failed(Exit::Invalid, problem.hint(hint))
        }
        Ok(report) => {
            let problems: Vec<Problem> = report
                .module
                .verdict()
                .err()
                .map(|error| refusal(&file, &error))
                .into_iter()
                .collect();
            let exit = if problems.is_empty() { Exit::Fine } else { Exit::Invalid };
            Outcome {
                exit,
                text: report.text(term.out),
                data: Some(report.data()),
                problems,
                next: None,
            }
        }
    }
}

/// The module, and where it is from: with the digest, if that is an image.
fn read(args: &Args) -> Result<(String, Bytes), Outcome> {
    let file = args.file.display().to_string();
    if !file.starts_with("oci://") {
        return match stored_bytes(&args.file, LARGEST) {
            Ok(bytes) => Ok((file, bytes.into())),
            Err(error) => {
                let problem = Problem::new(Code::P0401, format!("cannot read {file}"));
                let problem = problem.because(error.to_string());
                let problem = match file.contains(':') {
                    true => problem.hint("an image is written oci://HOST/REPOSITORY:TAG"),
                    false => problem,
                };
                Err(Outcome::failed(Exit::Invalid, problem))
            }
        };
    }
    let image: Reference = file.parse().map_err(pull::failed)?;
    let registries = args.registry.registries(&image);
    let registries = registries.map_err(|problem| Outcome::failed(Exit::Invalid, *problem))?;
    let downloads = open_downloads(None).or_else(|_| Downloads::passing()).map_err(pull::failed)?;
    let order = Order { registries, ..pull::order(&file) };
    let Brought { delivery, bytes } = order.bring(&downloads).map_err(pull::failed)?;
    Ok((delivery.pinned, bytes))
}

/// Why Portcullis does not take a module.
pub(super) fn refusal(file: &str, error: &LoadError) -> Problem {
    let (code, title) = match error {
        LoadError::UnknownImports(_) => {
            (Code::P0201, format!("{file} imports what Portcullis does not provide"))
        }
        LoadError::NoAbi { .. } => (Code::P0202, format!("{file} is no Proxy-Wasm module")),
        _ => (Code::P0203, format!("{file} cannot be used")),
    };
    let cause = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    Problem::new(code, title).because(cause)
}

struct Report<'a> {
    file: &'a str,
    size: usize,
    digest: Digest,
    origin: Origin,
    module: Inspection,
    hosts: Vec<Suitability>,
}

/// Callbacks in words: when a host calls them, and what for.
const PHASES: [(&str, &[(&str, &str)]); 8] = [
    (
        "start",
        &[
            ("proxy_on_vm_start", "start"),
            ("proxy_on_configure", "configuration"),
            ("proxy_validate_configuration", "validation"),
        ],
    ),
    (
        "request",
        &[
            ("proxy_on_request_headers", "headers"),
            ("proxy_on_request_body", "body"),
            ("proxy_on_request_trailers", "trailers"),
            ("proxy_on_request_metadata", "metadata"),
        ],
    ),
    (
        "response",
        &[
            ("proxy_on_response_headers", "headers"),
            ("proxy_on_response_body", "body"),
            ("proxy_on_response_trailers", "trailers"),
            ("proxy_on_response_metadata", "metadata"),
        ],
    ),
    (
        "connection",
        &[
            ("proxy_on_new_connection", "opening"),
            ("proxy_on_downstream_data", "client's data"),
            ("proxy_on_upstream_data", "upstream's data"),
            ("proxy_on_downstream_connection_close", "client's close"),
            ("proxy_on_upstream_connection_close", "upstream's close"),
        ],
    ),
    (
        "answers",
        &[
            ("proxy_on_http_call_response", "HTTP calls"),
            ("proxy_on_grpc_receive_initial_metadata", "gRPC metadata"),
            ("proxy_on_grpc_receive", "gRPC messages"),
            ("proxy_on_grpc_receive_trailing_metadata", "gRPC trailers"),
            ("proxy_on_grpc_trailing_metadata", "gRPC trailers"),
            ("proxy_on_grpc_close", "gRPC close"),
            ("proxy_on_redis_call_response", "Redis calls"),
            ("proxy_on_foreign_function", "foreign functions"),
        ],
    ),
    ("timer", &[("proxy_on_tick", "ticks")]),
    ("queue", &[("proxy_on_queue_ready", "items")]),
    ("end", &[("proxy_on_log", "log"), ("proxy_on_done", "done"), ("proxy_on_delete", "delete")]),
];

const MARKER: &str = "proxy_abi_version_";

impl Report<'_> {
    fn text(&self, style: Style) -> String {
        let heading = |text: &str| style.paint(Paint::Strong, text);
        let mut text = format!("{}\n{}", heading(&clean(self.file)), indented(&self.facts()));
        text += &format!("\n{}\n{}", heading("phases"), indented(&self.phase_rows()));
        if self.origin.sdk.as_deref().is_some_and(|sdk| sdk.contains("proxy-wasm ")) {
            text += "  This SDK exports every callback and imports every call, used or not.\n";
        }
        text +=
            &format!("\n{}\n{}", heading(&self.imports_heading()), indented(&self.import_rows()));
        let exports: Vec<Vec<String>> = self
            .wrong_exports()
            .map(|wrong| {
                vec![wrong.name.clone(), format!("{}, expected {}", wrong.found, wrong.expected)]
            })
            .collect();
        if !exports.is_empty() {
            text += &format!("\n{}\n{}", heading("exports with a wrong type"), indented(&exports));
        }
        let hosts: Vec<Vec<String>> =
            self.hosts.iter().flat_map(|host| host_rows(host, style)).collect();
        text + &format!("\n{}\n{}", heading("hosts"), indented(&hosts))
    }

    fn facts(&self) -> Vec<Vec<String>> {
        let unknown = || "unknown".to_owned();
        let mut language = self.origin.language.clone().unwrap_or_else(unknown);
        if !self.origin.tools.is_empty() {
            language += &format!(", made with {}", self.origin.tools.join(", "));
        }
        let row =
            |name: &str, value: String| vec![name.to_owned(), clean(&value).replace('\n', " ")];
        vec![
            row("size", bytes(self.size as u64)),
            row("digest", format!("sha256:{}", self.digest)),
            row("language", language),
            row("SDK", self.origin.sdk.clone().unwrap_or_else(unknown)),
            row("ABI", self.abi()),
            row("memory", self.memory()),
        ]
    }

    fn markers(&self) -> Vec<&str> {
        let names = self.module.exports.iter().map(|export| export.name.as_str());
        names.filter_map(|name| name.strip_prefix(MARKER)).collect()
    }

    fn abi(&self) -> String {
        let claimed: Vec<String> = self.markers().iter().map(|one| one.replace('_', ".")).collect();
        match (self.module.abi, claimed.as_slice()) {
            (Some(abi), [_]) => version(abi).to_owned(),
            (Some(abi), _) => format!("{}, of {}", version(abi), claimed.join(", ")),
            (None, []) => "none: no proxy_abi_version_… is exported".to_owned(),
            (None, _) => format!("{}, which is not known here", claimed.join(", ")),
        }
    }

    fn memory(&self) -> String {
        let maximum = match self.module.memory_maximum {
            Some(maximum) => format!("at most {}", bytes(maximum)),
            None => "no bound of its own".to_owned(),
        };
        format!("{} at start, {maximum}", bytes(self.module.memory_bytes))
    }

    fn phases(&self) -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
        let exports = |name: &str| self.module.exports.iter().any(|export| export.name == name);
        PHASES.iter().filter_map(move |(phase, callbacks)| {
            let mut words: Vec<&str> =
                callbacks.iter().filter(|row| exports(row.0)).map(|row| row.1).collect();
            words.dedup();
            (!words.is_empty()).then_some((*phase, words))
        })
    }

    fn phase_rows(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> =
            self.phases().map(|(phase, words)| vec![phase.to_owned(), words.join(", ")]).collect();
        if rows.is_empty() {
            rows.push(vec!["none: no host would ever call it".to_owned()]);
        }
        rows
    }

    fn imports_heading(&self) -> String {
        let all = self.module.imports.len();
        match self.module.imports.iter().filter(|import| !import.supported).count() {
            _ if all == 0 => "imports: none".to_owned(),
            0 => format!("imports: {all}, all supported"),
            without => format!("imports: {all}, {without} not supported"),
        }
    }

    fn import_rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for import in self.module.imports.iter().filter(|import| !import.supported) {
            let problem = match self.expected(import) {
                Some(expected) => format!("wrong type {}, expected {expected}", import.signature),
                None if import.stand_in => {
                    format!("unknown, as {}: answers that it is not implemented", import.signature)
                }
                None => format!("unknown, as {}", import.signature),
            };
            rows.push(vec![clean(&format!("{}.{}", import.module, import.name)), problem]);
        }
        let mut modules: Vec<&str> = Vec::new();
        for import in self.module.imports.iter().filter(|import| import.supported) {
            if !modules.contains(&import.module.as_str()) {
                modules.push(&import.module);
            }
        }
        for module in modules {
            let of = self
                .module
                .imports
                .iter()
                .filter(|import| import.supported && import.module == module);
            let names: Vec<&str> = of.map(|import| import.name.as_str()).collect();
            for (index, line) in names.chunks(3).enumerate() {
                let first = if index == 0 { module } else { "" };
                rows.push(vec![first.to_owned(), line.join(", ")]);
            }
        }
        rows
    }

    fn expected(&self, import: &Import) -> Option<&str> {
        let name = format!("{}.{}", import.module, import.name);
        let wrong = self.module.wrong_types.iter().find(|wrong| wrong.name == name)?;
        Some(&wrong.expected)
    }

    fn wrong_exports(&self) -> impl Iterator<Item = &WrongType> {
        let exported = |name: &str| self.module.exports.iter().any(|export| export.name == name);
        self.module.wrong_types.iter().filter(move |wrong| exported(&wrong.name))
    }

    fn data(&self) -> Value {
        let import = |import: &Import| {
            let expected = self.expected(import);
            let problem = match (import.supported, expected) {
                (true, _) => None,
                (false, Some(_)) => Some("wrong type"),
                (false, None) if import.stand_in => Some("not implemented"),
                (false, None) => Some("unknown"),
            };
            json!({
                "module": import.module, "name": import.name, "type": import.signature,
                "supported": import.supported, "problem": problem, "expected": expected,
            })
        };
        let host = |host: &Suitability| json!({"host": host.host, "runs": host.runs(), "obstacles": host.obstacles, "notes": host.notes});
        let wrong = |wrong: &WrongType| json!({"name": wrong.name, "type": wrong.found, "expected": wrong.expected});
        let export = |export: &Export| json!({"name": export.name, "type": export.signature});
        let phases: serde_json::Map<String, Value> =
            self.phases().map(|(phase, words)| (phase.to_owned(), words.into())).collect();
        json!({
            "schema": "portcullis.inspect/1",
            "file": self.file,
            "size": self.size,
            "sha256": self.digest.to_string(),
            "language": self.origin.language,
            "sdk": self.origin.sdk,
            "tools": self.origin.tools,
            "abi": {"version": self.module.abi.map(version), "markers": self.markers()},
            "memory": {"initial": self.module.memory_bytes, "maximum": self.module.memory_maximum},
            "phases": phases,
            "exports": self.module.exports.iter().map(export).collect::<Vec<_>>(),
            "wrongExports": self.wrong_exports().map(wrong).collect::<Vec<_>>(),
            "imports": self.module.imports.iter().map(import).collect::<Vec<_>>(),
            "hosts": self.hosts.iter().map(host).collect::<Vec<_>>(),
        })
    }
}

fn version(abi: Abi) -> &'static str {
    match abi {
        Abi::V0_1_0 => "0.1.0",
        Abi::V0_2_0 => "0.2.0",
        Abi::V0_2_1 => "0.2.1",
        Abi::V0_2_100 => "0.2.100",
    }
}

fn host_rows(host: &Suitability, style: Style) -> Vec<Vec<String>> {
    let (word, paint) = if host.runs() { ("yes", Paint::Good) } else { ("no", Paint::Error) };
    let mut lines: Vec<&String> = host.obstacles.iter().collect();
    if host.runs() {
        lines.extend(&host.notes);
    }
    // Padded before it is painted: a table counts the bytes of colours too.
    let word = style.paint(paint, &format!("{word:3}"));
    let mut rows = vec![vec![host.host.to_owned(), word, String::new()]];
    for (index, line) in lines.into_iter().enumerate() {
        if index > 0 {
            rows.push(vec![String::new(); 3]);
        }
        if let Some(cell) = rows.last_mut().and_then(|row| row.last_mut()) {
            *cell = clean(line);
        }
    }
    rows
}

fn indented(rows: &[Vec<String>]) -> String {
    table(rows).lines().map(|line| format!("  {line}\n")).collect()
}

fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        1024..0x10_0000 => format!("{} KiB", count >> 10),
        _ => format!("{:.1} MiB", count as f64 / f64::from(1 << 20)),
    }
}
