//! A function that is added to a module before it is compiled: it makes the last callbacks of an exchange, which always come
//! one right after the other, so that the guest is entered once for all of them. To enter costs as much as what most callbacks do.
//!
//! What the module has stays as it is. How far the function has come stands in a global of its own.

use wasm_encoder::reencode::{Error, Reencode, RoundtripReencoder};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, Module, RawSection, ValType,
};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

/// `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`. Parameter: context.
pub(crate) const FINISH: &str = "portcullis:finish";
/// Number of the running one among these, from 0.
pub(crate) const STEP: &str = "portcullis:step";
/// Stored in [`STEP`] during a callback, it ends the function after that one.
pub(crate) const STOP: i32 = -1;

/// A valid module with this function; `None`: it lacks one of the callbacks, or has something that is called so.
pub(crate) fn added(module: &[u8]) -> Option<Vec<u8>> {
    let contents = Contents::of(module).ok()?;
    let callbacks = contents.callbacks()?;
    write(module, &contents, &callbacks).ok()
}

/// What the module has, imports included.
#[derive(Default)]
struct Contents {
    /// Of each function its type.
    functions: Vec<u32>,
    /// How many of the functions are not imported.
    defined: u32,
    globals: u32,
    log: Option<u32>,
    done: Option<u32>,
    delete: Option<u32>,
    is_taken: bool,
}

/// By their numbers.
struct Callbacks {
    log: u32,
    done: u32,
    delete: u32,
    /// That of `log`: a context, and nothing back.
    of_type: u32,
}

impl Contents {
    fn of(module: &[u8]) -> wasmparser::Result<Contents> {
        let mut contents = Contents::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(of) => contents.functions.push(of),
                            TypeRef::Global(_) => contents.globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    contents.defined = section.count();
                    for of in section {
                        contents.functions.push(of?);
                    }
                }
                Payload::GlobalSection(section) => contents.globals += section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let function = (export.kind == ExternalKind::Func).then_some(export.index);
                        match export.name {
                            "proxy_on_log" => contents.log = function,
                            "proxy_on_done" => contents.done = function,
                            "proxy_on_delete" => contents.delete = function,
                            FINISH | STEP => contents.is_taken = true,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    fn callbacks(&self) -> Option<Callbacks> {
        if self.is_taken || self.defined == 0 {
            return None;
        }
        let (log, done, delete) = (self.log?, self.done?, self.delete?);
        Some(Callbacks { log, done, delete, of_type: *self.functions.get(log as usize)? })
    }
}

/// Sections that get something more are written anew, all others as they were. Who defines and exports functions has all of the
/// former, but for globals.
fn write(module: &[u8], contents: &Contents, callbacks: &Callbacks) -> Result<Vec<u8>, Error> {
    let (finish, step) = (contents.functions.len() as u32, contents.globals);
    let mut out = Module::new();
    let mut code = CodeSection::new();
    let mut has_globals = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::FunctionSection(section) => {
                let mut functions = FunctionSection::new();
                RoundtripReencoder.parse_function_section(&mut functions, section)?;
                out.section(functions.function(callbacks.of_type));
            }
            Payload::GlobalSection(section) => {
                let mut globals = GlobalSection::new();
                RoundtripReencoder.parse_global_section(&mut globals, section)?;
                out.section(add_step(&mut globals));
                has_globals = true;
            }
            Payload::ExportSection(section) => {
                if !has_globals {
                    out.section(add_step(&mut GlobalSection::new()));
                }
                let mut exports = ExportSection::new();
                RoundtripReencoder.parse_export_section(&mut exports, section)?;
                exports.export(FINISH, ExportKind::Func, finish);
                out.section(exports.export(STEP, ExportKind::Global, step));
            }
            Payload::CodeSectionStart { .. } => {}
            Payload::CodeSectionEntry(body) => {
                code.raw(&module[body.range()]);
                if code.len() == contents.defined {
                    out.section(code.function(&callbacks.one_by_one(step)));
                }
            }
            other => {
                if let Some((id, range)) = other.as_section() {
                    out.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    Ok(out.finish())
}

fn add_step(globals: &mut GlobalSection) -> &GlobalSection {
    let of = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
    globals.global(of, &ConstExpr::i32_const(0))
}

impl Callbacks {
    fn one_by_one(&self, step: u32) -> Function {
        const CONTEXT: u32 = 0;
        let mut finish = Function::new([]);
        let mut code = finish.instructions();
        code.local_get(CONTEXT).call(self.log);
        code.global_get(step).if_(BlockType::Empty);
        code.i32_const(0).global_set(step).return_().end();
        code.i32_const(1).global_set(step).local_get(CONTEXT).call(self.done).drop();
        code.global_get(step).i32_const(1).i32_ne().if_(BlockType::Empty);
        code.i32_const(0).global_set(step).return_().end();
        code.i32_const(2).global_set(step).local_get(CONTEXT).call(self.delete);
        // A tick may come before the next run has done anything.
        code.i32_const(0).global_set(step).end();
        finish
    }
}
