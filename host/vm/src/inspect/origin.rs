//! Where a module comes from: language, SDK and tools, as far as it carries their marks.
//!
//! Guesses nothing: what leaves no mark stays unknown. Reads the sections that compilers write about themselves, names of
//! functions, and constants that SDKs leave in the data; it is for people, and nothing may depend on it.

use wasmparser::{KnownCustom, Name, Parser, Payload};

use super::{Inspection, inspect};
use crate::error::LoadError;

/// What a module says of its making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `Rust`, `Go`, `Go (TinyGo)`, `C++`, `C`, `AssemblyScript`.
    pub language: Option<String>,
    /// The Proxy-Wasm SDK, with its version where that stands in the module.
    pub sdk: Option<String>,
    /// Compilers and tools with their versions, in the module's order.
    pub tools: Vec<String>,
}

/// Looks for marks.
///
/// # Errors
/// It is no valid module.
pub fn origin(bytes: &[u8]) -> Result<Origin, LoadError> {
    let module = inspect(bytes)?;
    let marks = Marks::read(bytes).map_err(|problem| LoadError::Invalid(problem.to_string()))?;
    let language = marks.language(&module);
    let sdk = marks.sdk(&module, language);
    Ok(Origin { language: language.map(str::to_owned), sdk, tools: marks.tools })
}

#[derive(Default)]
struct Marks<'a> {
    /// Of the producers section.
    languages: Vec<&'a str>,
    tools: Vec<String>,
    custom: Vec<&'a str>,
    functions: Vec<&'a str>,
    data: Vec<&'a [u8]>,
}

impl<'a> Marks<'a> {
    fn read(bytes: &'a [u8]) -> wasmparser::Result<Marks<'a>> {
        let mut marks = Marks::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::DataSection(section) => {
                    for segment in section {
                        marks.data.push(segment?.data);
                    }
                }
                Payload::CustomSection(section) => {
                    marks.custom.push(section.name());
                    // What is broken in a section that nothing depends on is no mark, and no error.
                    let _ = marks.section(section.as_known());
                }
                _ => {}
            }
        }
        Ok(marks)
    }

    fn section(&mut self, section: KnownCustom<'a>) -> wasmparser::Result<()> {
        match section {
            KnownCustom::Producers(fields) => {
                for field in fields {
                    let field = field?;
                    for value in field.values {
                        let value = value?;
                        match field.name {
                            "language" => self.languages.push(value.name),
                            _ => self.tools.push(format!("{} {}", value.name, value.version)),
                        }
                    }
                }
            }
            KnownCustom::Name(names) => {
                for name in names {
                    let Name::Function(functions) = name? else { continue };
                    for function in functions {
                        self.functions.push(function?.name);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn language(&self, module: &Inspection) -> Option<&'static str> {
        let imports = |name: &str| module.imports.iter().any(|import| import.name == name);
        let exports = |name: &str| module.exports.iter().any(|export| export.name == name);
        let says = |wanted: &str| self.languages.iter().any(|found| found.starts_with(wanted));
        // The order matters: modules in Rust and in TinyGo's Go carry pieces in C, and then say both.
        let marks: [(bool, &'static str); 7] = [
            (
                self.tool("TinyGo") || self.function(|name| name.starts_with("tinygo_")),
                "Go (TinyGo)",
            ),
            (self.custom("go:buildid") || self.custom("go.buildid") || says("Go"), "Go"),
            (says("Rust") || module.rust_sdk, "Rust"),
            (self.function(|name| name.starts_with("~lib/")) || exports("__pin"), "AssemblyScript"),
            (imports("abort") || exports("proxy_on_grpc_trailing_metadata"), "AssemblyScript"),
            (says("C_plus_plus") || imports("emscripten_notify_memory_growth"), "C++"),
            (says("C"), "C"),
        ];
        marks.into_iter().find(|mark| mark.0).map(|mark| mark.1)
    }

    fn sdk(&self, module: &Inspection, language: Option<&str>) -> Option<String> {
        let exports = |name: &str| module.exports.iter().any(|export| export.name == name);
        match language? {
            "Rust" => self.rust_sdk(module),
            "Go" | "Go (TinyGo)" => self.go_sdk(),
            "AssemblyScript" if exports("proxy_on_grpc_trailing_metadata") => {
                Some("proxy-runtime".to_owned())
            }
            "C++" if exports("proxy_validate_configuration") => {
                Some("proxy-wasm-cpp-sdk".to_owned())
            }
            _ => None,
        }
    }

    /// The crate's version stands in the paths of its panics: `…/proxy-wasm-0.2.5/src/dispatcher.rs`.
    fn rust_sdk(&self, module: &Inspection) -> Option<String> {
        let ours = self.function(|name| name.contains("portcullis_sdk"));
        let stock = match self.after(b"/proxy-wasm-") {
            Some(version) => Some(format!("proxy-wasm {version}")),
            None => (module.rust_sdk && self.imports_of_the_crate(module))
                .then(|| "proxy-wasm".to_owned()),
        };
        match (ours, stock) {
            (true, Some(stock)) => Some(format!("portcullis-sdk on {stock}")),
            (true, None) => Some("portcullis-sdk".to_owned()),
            (false, stock) => stock,
        }
    }

    fn imports_of_the_crate(&self, module: &Inspection) -> bool {
        self.function(|name| name.contains("proxy_wasm"))
            || super::RUST_SDK_IMPORTS
                .iter()
                .all(|name| module.imports.iter().any(|import| import.name == *name))
    }

    /// Go lists what a program is made of in its data: `dep⇥github.com/…/proxy-wasm-go-sdk⇥v0.24.0`.
    fn go_sdk(&self) -> Option<String> {
        const SDKS: [&str; 3] = [
            "github.com/proxy-wasm/proxy-wasm-go-sdk",
            "github.com/higress-group/proxy-wasm-go-sdk",
            "github.com/tetratelabs/proxy-wasm-go-sdk",
        ];
        SDKS.into_iter().find_map(|sdk| match self.after(format!("{sdk}\t").as_bytes()) {
            Some(version) => Some(format!("{sdk} {version}")),
            None => self.function(|name| name.contains(sdk)).then(|| sdk.to_owned()),
        })
    }

    fn tool(&self, wanted: &str) -> bool {
        self.tools.iter().any(|tool| tool.starts_with(wanted))
    }

    fn custom(&self, wanted: &str) -> bool {
        self.custom.contains(&wanted)
    }

    fn function(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.functions.iter().any(|name| fits(name))
    }

    /// The version that follows `mark` in the data.
    fn after(&self, mark: &[u8]) -> Option<String> {
        self.data.iter().find_map(|data| {
            let at = data.windows(mark.len()).position(|window| window == mark)? + mark.len();
            let part = |byte: &&u8| byte.is_ascii_alphanumeric() || b".-+".contains(byte);
            let version: Vec<u8> =
                data.get(at..)?.iter().take(80).take_while(part).copied().collect();
            let version = String::from_utf8(version).ok()?;
            version.contains('.').then_some(version)
        })
    }
}
