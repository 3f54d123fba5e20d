//! The module of a filter: where it comes from, and in which words it is missing.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_vm::{Digest, LoadError, Module};

use super::desk::Desk;
use super::filter::Host;
use super::trust::Demands;
use super::{CONFIG_MAP, ModuleError, ModuleRequest, beside, module_path, words};
use crate::diagnose::{Code, Problem};
use crate::spec::filter::WasmFilterSpec;
use crate::spec::{Document, is_name};

/// The docker config that a filter names for its module. What it holds is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum PullSecret {
    /// The config itself.
    Config(Bytes),
    /// A Secret of the cluster, looked up whenever it is needed.
    Held {
        /// Where it lies.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PullSecret::Config(_) => f.write_str("Config"),
            PullSecret::Held { namespace, name } => write!(f, "Held({namespace}/{name})"),
        }
    }
}

/// Whether a module comes from a registry or a server. An address without a scheme is an image, as in Istio.
pub(super) fn is_remote(url: &str) -> bool {
    matches!(scheme(url), "oci" | "http" | "https")
}

fn scheme(url: &str) -> &str {
    url.split_once("://").map_or("oci", |(scheme, _)| scheme)
}

/// The module, and its address with a digest where it has none of its own.
pub(super) fn find(
    document: &Document,
    spec: &WasmFilterSpec,
    (mut sha256, host, demands): (Option<Digest>, &Host<'_>, &Demands),
    desk: &mut Desk<'_>,
) -> Option<(Arc<Module>, String)> {
    let mut url = spec.url.as_str();
    if url.starts_with(CONFIG_MAP) {
        (url, sha256) = pinned_key(document, url, sha256)
            .map_err(|problem| desk.problems.push(*problem))
            .ok()?;
    }
    let shown = place(document, url, desk)?;
    let secret = match spec.image_pull_secret.as_deref().filter(|name| !name.is_empty()) {
        Some(name) if is_remote(url) => Some(secret(document, name, desk)?),
        _ => None,
    };
    let none = Arc::default();
    let registries = match &host.registries {
        Some(registries) => registries,
        // What is wrong with the Proxy is said elsewhere.
        None if is_remote(url) => return None,
        None => &none,
    };
    if demands.are_incomplete() {
        return None;
    }
    let request = ModuleRequest {
        url,
        source: &document.file,
        sha256,
        policy: spec.image_pull_policy.unwrap_or_default(),
        secret: secret.as_ref(),
        registries,
        trust: &[],
    };
    match demands.fetch(document, request, desk) {
        Ok((module, pinned)) => Some((module, pinned.unwrap_or_else(|| spec.url.clone()))),
        Err(error) => desk.refuse(module_problem(document, &shown, error)),
    }
}

/// Where it is, for people; `None`: nowhere that we know.
fn place(document: &Document, url: &str, desk: &mut Desk<'_>) -> Option<String> {
    match scheme(url) {
        "file" => {
            let path = url.trim_start_matches("file://");
            desk.uses(document, path);
            Some(beside(&document.file, path).display().to_string())
        }
        "oci" | "http" | "https" => Some(url.to_owned()),
        "configmap" => Some(module_path(&document.file, url)?.display().to_string()),
        scheme => {
            let title = format!("{scheme}:// is not where modules come from");
            let problem = document.problem(Code::P0111, "spec.url", title);
            let hint =
                "use file://PATH, relative to this document, configmap://, oci:// or https://";
            desk.refuse(problem.hint(hint))
        }
    }
}

/// `configmap://NAMESPACE/NAME/KEY` with the digest that may follow it, as `@sha256:…`.
fn pinned_key<'a>(
    document: &Document,
    url: &'a str,
    sha256: Option<Digest>,
) -> Result<(&'a str, Option<Digest>), Box<Problem>> {
    let wrong = |title: &str| document.problem(Code::P0111, "spec.url", title);
    let (key, pin) = match url.split_once("@sha256:") {
        Some((key, pin)) => (key, Some(words::digest(pin))),
        None => (url, None),
    };
    let pin = pin.transpose().map_err(|hint| wrong("this is not a SHA-256 digest").hint(hint))?;
    if pin.is_some() && sha256.is_some() && pin != sha256 {
        let problem = wrong("the digest in this URL is not the one of `sha256`");
        return Err(Box::new(problem.hint("one of them is enough")));
    }
    if module_path(&document.file, key).is_none() {
        let problem = wrong("this document lies in no ConfigMap whose namespace could be meant");
        return Err(Box::new(problem.hint("write configmap://NAMESPACE/NAME/KEY")));
    }
    Ok((key, sha256.or(pin)))
}

fn secret(document: &Document, name: &str, desk: &mut Desk<'_>) -> Option<PullSecret> {
    if !is_name(name) {
        let title = format!("{name:?} is not the name of a Secret");
        let problem = document.problem(Code::P0111, "spec.imagePullSecret", title);
        return desk.refuse(problem.hint("use lower case letters, digits, `-` and `.`"));
    }
    let found = desk.modules.pull_secret(&document.file, name);
    found
        .map_err(|reason| {
            let title = format!("cannot read the pull secret {name}");
            let problem = document.problem(Code::P0401, "spec.imagePullSecret", title);
            let hint =
                format!("put a docker config at {name}/.dockerconfigjson beside this document");
            desk.problems.push(problem.because(reason).hint(hint));
        })
        .ok()
}

fn module_problem(document: &Document, path: &str, error: ModuleError) -> Problem {
    let at = |code, title: String| document.problem(code, "spec.url", title);
    match error {
        ModuleError::Unreadable { problem, .. } => at(Code::P0401, format!("cannot read {path}"))
            .because(problem)
            .hint(match path.starts_with(CONFIG_MAP) {
                true => "a ConfigMap with the label that is watched, and a key of it",
                false => "names are relative to the folder of this document",
            }),
        ModuleError::TooLarge { size, limit, .. } => {
            at(Code::P0402, format!("{path} has {size} bytes, more than {limit}"))
                .hint("strip debug information; `portcullis build` does")
        }
        ModuleError::WrongDigest { found, .. } => document
            .problem(Code::P0204, "spec.sha256", format!("{path} is not the expected module"))
            .because(format!("its digest is {found}"))
            .hint("if this is the module you want, put its digest here"),
        ModuleError::Compiler { problem } => at(Code::P0212, format!("{path} was not compiled"))
            .because(format!("the process that compiles it gave up: {problem}"))
            .hint("make the module smaller; SIGHUP tries again"),
        ModuleError::Pending { url } => at(Code::P0413, format!("{url} is being fetched"))
            .hint("it goes live by itself when it is here"),
        ModuleError::Fetch { code, title, cause, hint } => {
            // Of all that is fetched, only the Secret comes from the API server.
            let field = match code {
                Code::P0421 | Code::P0422 | Code::P0424 => "spec.imagePullSecret",
                _ => "spec.url",
            };
            document.problem(code, field, title).because(cause).hint(hint)
        }
        ModuleError::Load(LoadError::UnknownImports(names)) => {
            let plural = if names.len() == 1 { "" } else { "s" };
            at(Code::P0201, format!("{path}: unknown import{plural} {}", names.join(", ")))
                .because("no Proxy-Wasm host function has this name and type")
                .hint(
                    "build for wasm32-wasip1 with a Proxy-Wasm SDK, without the code that needs it",
                )
        }
        ModuleError::Load(error @ LoadError::NoAbi { .. }) => {
            at(Code::P0202, format!("{path} is no Proxy-Wasm module"))
                .because(error.to_string())
                .hint("is this the right file? A Rust filter is a cdylib with proxy_wasm::main!")
        }
        ModuleError::Load(error @ LoadError::Cache { .. }) => {
            at(Code::P0901, error.to_string()).hint("make the folder writable for this user only")
        }
        ModuleError::Load(error) => at(Code::P0203, format!("{path} cannot be used"))
            .because(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
            .hint("build the module again, and look at what was copied"),
    }
}
