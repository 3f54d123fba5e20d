//! What a module imports, exports and claims, without compiling it; where it comes from and where it would run.
//!
//! Validates the bytes and compares every function type with `abi::signatures`; never runs anything.

mod hosts;
mod origin;

use wasmparser::types::{CoreTypeId, Types};
use wasmparser::{
    Export as RawExport, ExternalKind, Import as RawImport, KnownCustom, MemoryType, Parser,
    Payload, TypeRef, ValType, ValidPayload, Validator, WasmFeatures,
};

use crate::abi::signatures;
use crate::error::LoadError;

pub use hosts::Suitability;
pub use origin::{Origin, origin};

/// ABI version by marker export; of several, the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abi {
    /// `proxy_abi_version_0_1_0`
    V0_1_0,
    /// `proxy_abi_version_0_2_0`
    V0_2_0,
    /// `proxy_abi_version_0_2_1`
    V0_2_1,
    /// `proxy_abi_version_0_2_100`: Higress's name for 0.2.1 with functions of its own, which every module may import here.
    V0_2_100,
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// `env`, `wasi_snapshot_preview1`, …
    pub module: String,
    /// Function's name.
    pub name: String,
    /// The type that the module asks for, as people write it: `(i32, i64) -> i32`, `a memory`.
    pub signature: String,
    /// Whether this host provides it with the type that the module asks for.
    pub supported: bool,
    /// This host does not know the function and stands in for it: it answers that it is not implemented.
    pub stand_in: bool,
}

/// One exported function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// Its type, as people write it.
    pub signature: String,
}

/// An import or export that this host knows under another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongType {
    /// Import (`env.proxy_log`) or export (`proxy_on_tick`).
    pub name: String,
    /// The module's type.
    pub found: String,
    /// The ABI's type.
    pub expected: String,
}

/// What a module claims.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// `None`: no marker that we know.
    pub abi: Option<Abi>,
    /// In the module's order.
    pub imports: Vec<Import>,
    /// Exported functions, in the module's order.
    pub exports: Vec<Export>,
    /// Imports and exports of a known name and a type that the ABI does not allow.
    pub wrong_types: Vec<WrongType>,
    /// Carries the Rust SDK's marks (statuses outside its enum are undefined behaviour there): the producers section
    /// names Rust, or, where that was stripped, the module imports the gRPC and foreign-function calls all together,
    /// which only that SDK's trait objects bring about.
    pub rust_sdk: bool,
    /// Bytes of memory at start.
    pub memory_bytes: u64,
    /// Bytes of memory that the module itself allows; `None`: it sets no bound.
    pub memory_maximum: Option<u64>,
}

impl Inspection {
    /// Whether [`Module::load`](crate::Module::load) would take the module, as far as that shows without compiling it.
    ///
    /// # Errors
    /// The first of: no marker, unknown imports (all of them), a wrong type.
    pub fn verdict(&self) -> Result<(), LoadError> {
        if self.abi.is_none() {
            return Err(LoadError::NoAbi { expected: signatures::MARKERS.join(", ") });
        }
        let unknown = self.unknown_imports();
        if !unknown.is_empty() {
            return Err(LoadError::UnknownImports(unknown));
        }
        match self.wrong_types.first() {
            Some(WrongType { name, found, expected }) => Err(LoadError::WrongType {
                name: name.clone(),
                found: found.clone(),
                expected: expected.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Names of imports that this host stands in for; they are no obstacle, and do nothing.
    pub fn stand_ins(&self) -> Vec<String> {
        let stand_ins = self.imports.iter().filter(|import| import.stand_in);
        stand_ins.map(|import| format!("{}.{}", import.module, import.name)).collect()
    }

    /// Imports whose name this host does not know.
    fn unknown_imports(&self) -> Vec<String> {
        self.imports
            .iter()
            .filter(|import| !import.supported && !import.stand_in)
            .map(|import| format!("{}.{}", import.module, import.name))
            .filter(|name| self.wrong_types.iter().all(|wrong| wrong.name != *name))
            .collect()
    }
}

const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::BULK_MEMORY_OPT)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG);

const RUST_SDK_IMPORTS: [&str; 6] = [
    "proxy_grpc_call",
    "proxy_grpc_stream",
    "proxy_grpc_send",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_call_foreign_function",
];

/// Reads a module without compiling it.
///
/// # Errors
/// It is no valid module. A missing marker or an unknown import is no error here but in
/// [`Inspection::verdict`] and [`Module::load`](crate::Module::load).
pub fn inspect(bytes: &[u8]) -> Result<Inspection, LoadError> {
    inspect_with(bytes, Bodies::Checked)
}

/// Whether the bodies of functions are validated: most of the work, and all of it done where the module was compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bodies {
    Checked,
    Known,
}

pub(crate) fn inspect_with(bytes: &[u8], bodies: Bodies) -> Result<Inspection, LoadError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::Invalid("it does not begin as a Wasm file does".to_owned()));
    }
    read(bytes, bodies).map_err(|problem| LoadError::Invalid(problem.to_string()))
}

fn types(bytes: &[u8], bodies: Bodies) -> wasmparser::Result<Types> {
    let mut validator = Validator::new_with_features(FEATURES);
    if bodies == Bodies::Known {
        for payload in Parser::new(0).parse_all(bytes) {
            if let ValidPayload::End(types) = validator.payload(&payload?)? {
                return Ok(types);
            }
        }
    }
    validator.validate_all(bytes)
}

fn read(bytes: &[u8], bodies: Bodies) -> wasmparser::Result<Inspection> {
    let types = types(bytes, bodies)?;
    let mut found = Inspection {
        abi: None,
        imports: Vec::new(),
        exports: Vec::new(),
        wrong_types: Vec::new(),
        rust_sdk: false,
        memory_bytes: 0,
        memory_maximum: None,
    };
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    found.import(&types, &import?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    found.export(&types, &export?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    found.memory(&memory?);
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(producers) = section.as_known() {
                    found.rust_sdk |= names_rust(producers).unwrap_or(false);
                }
            }
            _ => {}
        }
    }
    found.rust_sdk |=
        RUST_SDK_IMPORTS.iter().all(|name| found.imports.iter().any(|import| import.name == *name));
    Ok(found)
}

impl Inspection {
    fn import(&mut self, types: &Types, import: &RawImport<'_>) {
        let (module, name) = (import.module, import.name);
        let asked = match import.ty {
            TypeRef::Func(index) => letters(types, types.as_ref().core_type_at_in_module(index)),
            _ => None,
        };
        let signature = match import.ty {
            TypeRef::Memory(_) => "a memory".to_owned(),
            TypeRef::Table(_) => "a table".to_owned(),
            TypeRef::Global(_) => "a global".to_owned(),
            _ => spell(asked.as_deref()),
        };
        let offered = signatures::import(module, name);
        let supported = matches!((&asked, offered), (Some(asked), Some(offered)) if offered.contains(&asked.as_str()));
        if let (Some(offered), false) = (offered, supported) {
            self.wrong(format!("{module}.{name}"), signature.clone(), offered);
        }
        let status = asked.as_deref().is_some_and(|asked| asked.ends_with(">i"));
        let stand_in = module == signatures::ENV && offered.is_none() && status;
        let (module, name) = (module.to_owned(), name.to_owned());
        self.imports.push(Import { module, name, signature, supported, stand_in });
    }

    fn export(&mut self, types: &Types, export: &RawExport<'_>) {
        if export.kind != ExternalKind::Func {
            return;
        }
        let versions = [Abi::V0_1_0, Abi::V0_2_0, Abi::V0_2_1, Abi::V0_2_100];
        for (marker, version) in signatures::MARKERS.into_iter().zip(versions) {
            if export.name == marker {
                self.abi = self.abi.max(Some(version));
            }
        }
        let found = letters(types, types.as_ref().core_function_at(export.index));
        let signature = spell(found.as_deref());
        if let Some(allowed) = signatures::callback(export.name)
            && !found.as_deref().is_some_and(|found| allowed.contains(&found))
        {
            self.wrong(export.name.to_owned(), signature.clone(), allowed);
        }
        self.exports.push(Export { name: export.name.to_owned(), signature });
    }

    fn memory(&mut self, memory: &MemoryType) {
        const PAGE: u64 = 64 << 10;
        self.memory_bytes = self.memory_bytes.saturating_add(memory.initial.saturating_mul(PAGE));
        self.memory_maximum = memory.maximum.map(|pages| pages.saturating_mul(PAGE));
    }

    fn wrong(&mut self, name: String, found: String, allowed: &[&str]) {
        let expected = allowed.iter().map(|one| signatures::spell(one)).collect::<Vec<_>>();
        self.wrong_types.push(WrongType { name, found, expected: expected.join(" or ") });
    }
}

fn spell(letters: Option<&str>) -> String {
    letters.map_or_else(|| "no function type".to_owned(), signatures::spell)
}

fn letters(types: &Types, id: CoreTypeId) -> Option<String> {
    let wasmparser::CompositeInnerType::Func(function) = &types[id].composite_type.inner else {
        return None;
    };
    let letter = |value: &ValType| match value {
        ValType::I32 => 'i',
        ValType::I64 => 'I',
        ValType::F32 => 'f',
        ValType::F64 => 'F',
        _ => '?',
    };
    let mut text: String = function.params().iter().map(letter).collect();
    text.push('>');
    text.extend(function.results().iter().map(letter));
    Some(text)
}

fn names_rust(producers: wasmparser::ProducersSectionReader<'_>) -> wasmparser::Result<bool> {
    for field in producers {
        for value in field?.values {
            if matches!(value?.name, "Rust" | "rustc") {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
