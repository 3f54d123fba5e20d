//! Looks at what came out of the compiler: is it a Proxy-Wasm module, and does it ask for
//! nothing that hosts do not have? It reads imports and exports only, and runs nothing.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmparser::{ExternalKind, Parser, Payload};

use crate::error::BuildError;

/// The exports that mark the ABI versions hosts accept.
const MARKERS: [&str; 3] =
    ["proxy_abi_version_0_2_1", "proxy_abi_version_0_2_0", "proxy_abi_version_0_1_0"];

/// The functions of ABI 0.2.1, as Envoy's host registers them (proxy-wasm-cpp-host,
/// `include/proxy-wasm/exports.h`). A module that asks for more loads on some hosts only.
const ABI: &str = "\
    proxy_add_header_map_value proxy_call_foreign_function proxy_close_stream \
    proxy_continue_stream proxy_define_metric proxy_dequeue_shared_queue proxy_done \
    proxy_enqueue_shared_queue proxy_get_buffer_bytes proxy_get_buffer_status \
    proxy_get_current_time_nanoseconds proxy_get_header_map_pairs proxy_get_header_map_size \
    proxy_get_header_map_value proxy_get_log_level proxy_get_metric proxy_get_property \
    proxy_get_shared_data proxy_get_status proxy_grpc_call proxy_grpc_cancel proxy_grpc_close \
    proxy_grpc_send proxy_grpc_stream proxy_http_call proxy_increment_metric proxy_log \
    proxy_record_metric proxy_register_shared_queue proxy_remove_header_map_value \
    proxy_replace_header_map_value proxy_resolve_shared_queue proxy_send_local_response \
    proxy_set_buffer_bytes proxy_set_effective_context proxy_set_header_map_pairs \
    proxy_set_property proxy_set_shared_data proxy_set_tick_period_milliseconds";

/// The functions that only modules of ABI 0.1.0 may ask for.
const ONLY_0_1_0: [&str; 4] = [
    "proxy_get_configuration",
    "proxy_continue_request",
    "proxy_continue_response",
    "proxy_clear_route_cache",
];

/// A module's size in bytes and SHA-256.
pub(crate) struct Checked {
    pub(crate) size: u64,
    pub(crate) digest: String,
}

/// Reads and checks a compiled file.
pub(crate) fn check(path: &Path) -> Result<Checked, BuildError> {
    let bytes = fs::read(path).map_err(BuildError::file(path))?;
    inspect(&bytes).map_err(|problem| BuildError::Module { path: path.to_owned(), problem })?;
    let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Checked { size: bytes.len() as u64, digest })
}

fn inspect(bytes: &[u8]) -> Result<(), String> {
    let broken = |error: wasmparser::BinaryReaderError| format!("no valid module: {error}");
    let (mut imports, mut markers) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(broken)? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(broken)?;
                    imports.push((import.module, import.name));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(broken)?;
                    if export.kind == ExternalKind::Func && MARKERS.contains(&export.name) {
                        markers.push(export.name);
                    }
                }
            }
            _ => {}
        }
    }
    let oldest = markers == ["proxy_abi_version_0_1_0"];
    let old = |name: &str| oldest && ONLY_0_1_0.contains(&name);
    imports
        .iter()
        .filter(|(_, name)| !old(name))
        .try_for_each(|(module, name)| provided(module, name))?;
    if !markers.is_empty() {
        return Ok(());
    }
    Err("it exports no proxy_abi_version_*: is it a Proxy-Wasm filter? \
         (portcullis_sdk::filter! or proxy_wasm::main! makes it one)"
        .to_owned())
}

fn provided(module: &str, name: &str) -> Result<(), String> {
    match module {
        "env" if ABI.split_whitespace().any(|known| known == name) => Ok(()),
        "wasi_snapshot_preview1" => Ok(()),
        _ => Err(format!(
            "it imports {module}.{name}, which Proxy-Wasm hosts do not have: \
             a dependency expects a browser, or another runtime"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_modules_with_known_imports_pass() {
        let marker = r#"(func (export "proxy_abi_version_0_2_1"))"#;
        let check = |wat: String, expected: Result<(), &str>| {
            let result = inspect(&wat::parse_str(&wat).unwrap());
            match expected {
                Ok(()) => assert_eq!(result, Ok(()), "{wat}"),
                Err(part) => assert!(result.clone().unwrap_err().contains(part), "{result:?}"),
            }
        };
        check(format!("(module {marker})"), Ok(()));
        check(
            format!(r#"(module (import "env" "proxy_done" (func (result i32))) {marker})"#),
            Ok(()),
        );
        check(
            format!(r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func)) {marker})"#),
            Ok(()),
        );
        check(
            format!(r#"(module (import "env" "proxy_sing" (func)) {marker})"#),
            Err("env.proxy_sing"),
        );
        check(
            format!(r#"(module (import "wbg" "__wbindgen_throw" (func)) {marker})"#),
            Err("wbg.__wbindgen_throw"),
        );
        let old = r#"(import "env" "proxy_continue_request" (func (result i32)))"#;
        let marker_0_1_0 = marker.replace("0_2_1", "0_1_0");
        check(format!("(module {old} {marker_0_1_0})"), Ok(()));
        check(format!("(module {old} {marker})"), Err("env.proxy_continue_request"));
        check("(module)".to_owned(), Err("proxy_abi_version"));
        check(
            r#"(module (memory (export "proxy_abi_version_0_2_1") 1))"#.to_owned(),
            Err("proxy_abi_version"),
        );
    }

    #[test]
    fn bytes_that_are_no_module_are_refused_in_words() {
        assert!(inspect(b"hello").unwrap_err().starts_with("no valid module"));
    }
}
