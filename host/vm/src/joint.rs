//! Functions that are added to a module before it is compiled. Each makes callbacks that always come one right after the
//! other, so that the guest is entered once for all of them: to enter costs as much as what most callbacks do.
//!
//! What the module has stays as it is. How far one of these functions has come stands in a global of theirs.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, Module, RawSection, TypeSection, ValType,
};
use wasmparser::{CompositeInnerType, ExternalKind, Parser, Payload, TypeRef};

use crate::abi::numbers::ROOT_CONTEXT;

/// `proxy_on_context_create`, `proxy_on_request_headers`. Parameters: context, number of headers, whether nothing follows.
/// The second callback is left out, and the result means nothing, if [`STEP`] is not 0 after the first one.
pub(crate) const OPEN: &str = "portcullis:open";
/// `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`. Parameter: context.
pub(crate) const FINISH: &str = "portcullis:finish";
/// The running callback's number among those of its function.
pub(crate) const STEP: &str = "portcullis:step";

type Failure = wasm_encoder::reencode::Error;

/// A valid module with these functions; `None`: it lacks one of the callbacks, or has something that is called so.
pub(crate) fn added(module: &[u8]) -> Option<Vec<u8>> {
    let counts = Counts::of(module).ok().filter(|counts| counts.defined > 0)?;
    let callbacks = Callbacks::of(module, &counts).ok()??;
    Joints { module, counts, callbacks }.write().ok()
}

/// What the module has, imports included.
#[derive(Default)]
struct Counts {
    /// Of each type how many parameters it has.
    types: Vec<usize>,
    /// Of each function its type.
    functions: Vec<u32>,
    /// How many of the functions are not imported.
    defined: u32,
    globals: u32,
}

impl Counts {
    fn of(module: &[u8]) -> wasmparser::Result<Counts> {
        let mut counts = Counts::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        counts.types.extend(group?.types().map(
                            |of| match &of.composite_type.inner {
                                CompositeInnerType::Func(function) => function.params().len(),
                                _ => 0,
                            },
                        ));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(of) | TypeRef::FuncExact(of) => counts.functions.push(of),
                            TypeRef::Global(_) => counts.globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    counts.defined = section.count();
                    for of in section {
                        counts.functions.push(of?);
                    }
                }
                Payload::GlobalSection(section) => counts.globals += section.count(),
                _ => {}
            }
        }
        Ok(counts)
    }

    fn parameters(&self, function: u32) -> usize {
        let of = self.functions.get(function as usize);
        of.and_then(|of| self.types.get(*of as usize)).copied().unwrap_or_default()
    }
}

/// The callbacks that are made together, by their numbers.
struct Callbacks {
    create: u32,
    request_headers: u32,
    /// ABI 0.1.0 knew no end of stream.
    knows_end: bool,
    log: u32,
    done: u32,
    delete: u32,
}

impl Callbacks {
    fn of(module: &[u8], counts: &Counts) -> wasmparser::Result<Option<Callbacks>> {
        let mut found = [None; 5];
        let names = [
            "proxy_on_context_create",
            "proxy_on_request_headers",
            "proxy_on_log",
            "proxy_on_done",
            "proxy_on_delete",
        ];
        for payload in Parser::new(0).parse_all(module) {
            let Payload::ExportSection(section) = payload? else { continue };
            for export in section {
                let export = export?;
                if [OPEN, FINISH, STEP].contains(&export.name) {
                    return Ok(None);
                }
                let place = names.iter().position(|name| *name == export.name);
                if let (Some(place), ExternalKind::Func) = (place, export.kind) {
                    found[place] = Some(export.index);
                }
            }
        }
        let [Some(create), Some(request_headers), Some(log), Some(done), Some(delete)] = found
        else {
            return Ok(None);
        };
        let knows_end = counts.parameters(request_headers) == 3;
        Ok(Some(Callbacks { create, request_headers, knows_end, log, done, delete }))
    }

    fn open(&self, step: u32) -> Function {
        const CONTEXT: u32 = 0;
        const HEADERS: u32 = 1;
        const END_OF_STREAM: u32 = 2;
        let mut open = Function::new([]);
        let mut code = open.instructions();
        code.i32_const(0).global_set(step);
        code.local_get(CONTEXT).i32_const(ROOT_CONTEXT as i32).call(self.create);
        code.global_get(step).if_(BlockType::Empty).i32_const(0).return_().end();
        code.i32_const(1).global_set(step);
        code.local_get(CONTEXT).local_get(HEADERS);
        if self.knows_end {
            code.local_get(END_OF_STREAM);
        }
        code.call(self.request_headers).end();
        open
    }

    fn finish(&self, step: u32) -> Function {
        let mut finish = Function::new([]);
        let mut code = finish.instructions();
        code.i32_const(0).global_set(step).local_get(0).call(self.log);
        code.i32_const(1).global_set(step).local_get(0).call(self.done).drop();
        code.i32_const(2).global_set(step).local_get(0).call(self.delete).end();
        finish
    }
}

struct Joints<'a> {
    module: &'a [u8],
    counts: Counts,
    callbacks: Callbacks,
}

impl Joints<'_> {
    /// Sections that get something more are written anew, all others as they were. Who has functions and exports them has all
    /// of the former, but for globals.
    fn write(&self) -> Result<Vec<u8>, Failure> {
        let mut out = Module::new();
        let mut code = CodeSection::new();
        let mut has_globals = false;
        for payload in Parser::new(0).parse_all(self.module) {
            match payload? {
                Payload::TypeSection(section) => {
                    let mut types = TypeSection::new();
                    RoundtripReencoder.parse_type_section(&mut types, section)?;
                    types.ty().function([ValType::I32; 3], [ValType::I32]);
                    types.ty().function([ValType::I32], []);
                    out.section(&types);
                }
                Payload::FunctionSection(section) => {
                    let mut functions = FunctionSection::new();
                    RoundtripReencoder.parse_function_section(&mut functions, section)?;
                    let open = self.counts.types.len() as u32;
                    functions.function(open).function(open + 1);
                    out.section(&functions);
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
                    let open = self.counts.functions.len() as u32;
                    exports.export(OPEN, ExportKind::Func, open);
                    exports.export(FINISH, ExportKind::Func, open + 1);
                    exports.export(STEP, ExportKind::Global, self.counts.globals);
                    out.section(&exports);
                }
                Payload::CodeSectionStart { .. } => {}
                Payload::CodeSectionEntry(body) => {
                    code.raw(&self.module[body.range()]);
                    if code.len() == self.counts.defined {
                        code.function(&self.callbacks.open(self.counts.globals));
                        code.function(&self.callbacks.finish(self.counts.globals));
                        out.section(&code);
                    }
                }
                other => {
                    if let Some((id, range)) = other.as_section() {
                        out.section(&RawSection { id, data: &self.module[range] });
                    }
                }
            }
        }
        Ok(out.finish())
    }
}

fn add_step(globals: &mut GlobalSection) -> &GlobalSection {
    let of = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
    globals.global(of, &ConstExpr::i32_const(0))
}
