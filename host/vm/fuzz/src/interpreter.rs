//! A guest that makes any host call with any arguments: its program is its configuration.
//!
//! A program is a run of steps: the number of a function, then its arguments. Function 0 ends the callback; the byte
//! behind it is what the callback returns. See `$argument` for how arguments are written.

use std::fmt::Write as _;

/// The type of every host call, as vm itself has it.
const SIGNATURES: &str = include_str!("../../src/abi/signatures.rs");

/// What small arguments point at.
const DICTIONARY: &[(usize, &[u8])] = &[
    (0, b"backend"),
    (8, b"x-one"),
    (16, HEAD),
    (112, b":path"),
    (120, b"request\0path"),
    (136, b"\x01\0\0\0\x05\0\0\0\x03\0\0\0x-two\0new\0"),
];
/// `:method`, `:path` and `:authority`.
const HEAD: &[u8] = b"\x03\0\0\0\x07\0\0\0\x03\0\0\0\x05\0\0\0\x01\0\0\0\x0a\0\0\0\x01\0\0\0\
    :method\0GET\0:path\0/\0:authority\0a\0";
/// What arguments from 248 on are.
const EDGES: [u32; 8] =
    [u32::MAX, 1 << 31, (1 << 31) - 1, 0x1FFFF, 0x20000, 0x1FFFC, u32::MAX - 3, 0x10000];

/// Exports that do not run the program, or have one of their own.
const OWN: [&str; 5] =
    ["_initialize", "_start", "malloc", "proxy_on_memory_allocate", "proxy_on_context_create"];

/// Where the program begins, and where what the host hands out later does.
const PROGRAM: u32 = 0x10000;
const HANDED_OUT: u32 = 0x18000;

/// Name of the module, name, type.
type Import = (&'static str, &'static str, &'static str);

/// As a module of ABI `version`; `producers`: what it says that it was made with.
#[must_use]
pub fn text(version: &str, producers: &str) -> String {
    let imports = imports();
    let mut text = String::from("(module ");
    for (at, (module, name, signature)) in imports.iter().enumerate() {
        let _infallible =
            write!(text, "(import \"{module}\" \"{name}\" (func $f{at} {}))\n", types(signature));
    }
    for (at, bytes) in DICTIONARY {
        let _infallible =
            write!(text, "(data (i32.const {at}) \"{}\")", crate::host::escape(bytes));
    }
    let edges: Vec<u8> = EDGES.iter().flat_map(|edge| edge.to_le_bytes()).collect();
    let _infallible = write!(text, "(data (i32.const 0xF000) \"{}\")", crate::host::escape(&edges));
    text += &format!("(func (export \"proxy_abi_version_{version}\")) {producers} {}", frame());
    text + &step(&imports) + ")"
}

/// A part of `signatures.rs`.
fn between(from: &str, to: &str) -> &'static str {
    let (_, rest) = SIGNATURES.split_once(from).expect("signatures.rs has its tables");
    rest.split_once(to).expect("signatures.rs has its tables").0
}

/// All that vm provides.
fn imports() -> Vec<Import> {
    let env = rows(between("const ENV_FUNCTIONS", "];")).map(|(name, one)| ("env", name, one));
    let wasi = rows(between("const WASI_FUNCTIONS", "];"));
    let wasi = wasi.map(|(name, one)| ("wasi_snapshot_preview1", name, one));
    env.chain(wasi).collect()
}

/// Name and first type of each row.
fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    table.split("(\"").skip(1).filter_map(|row| {
        let mut quoted = row.split('"');
        Some((quoted.next()?, quoted.nth(1)?))
    })
}

fn types(signature: &str) -> String {
    let (params, results) = signature.split_once('>').expect("a type has an arrow");
    let name = |letter| if letter == 'I' { "i64" } else { "i32" };
    let list = |letters: &str| letters.chars().map(name).collect::<Vec<_>>().join(" ");
    let result =
        if results.is_empty() { String::new() } else { format!("(result {})", list(results)) };
    format!("(param {}) {result}", list(params))
}

/// One step: the function whose number is given, with arguments from the program.
fn step(imports: &[Import]) -> String {
    let count = imports.len();
    let mut text = String::from("(func $step (param $function i32)\n");
    text += &(0..count).rev().map(|at| format!("(block $b{at} ")).collect::<String>();
    let labels: String = (0..count).map(|at| format!("$b{at} ")).collect();
    let _infallible =
        write!(text, "(br_table {labels} (i32.rem_u (local.get $function) (i32.const {count})))");
    for (at, (_, _, signature)) in imports.iter().enumerate() {
        let (params, results) = signature.split_once('>').expect("a type has an arrow");
        let argument = |letter| match letter {
            'I' => "(i64.extend_i32_s (call $argument))",
            _ => "(call $argument)",
        };
        let call = format!("(call $f{at} {})", params.chars().map(argument).collect::<String>());
        let call = if results.is_empty() { call } else { format!("(drop {call})") };
        let _infallible = write!(text, ") {call} (return)\n");
    }
    text + ")"
}

fn frame() -> String {
    let mut text = format!(
        r#"
  (memory (export "memory") 2)
  (global $at (mut i32) (i32.const 0))
  (global $end (mut i32) (i32.const 0))
  (global $free (mut i32) (i32.const {PROGRAM}))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32)
    (global.get $free)
    (global.set $free (i32.const {HANDED_OUT})))
  (func $byte (result i32)
    (if (i32.ge_u (global.get $at) (global.get $end)) (then (return (i32.const 0))))
    (i32.load8_u (global.get $at))
    (global.set $at (i32.add (global.get $at) (i32.const 1))))
  ;; below 240 a number; below 248 the next two bytes; from 248 on an edge
  (func $argument (result i32) (local $first i32)
    (local.set $first (call $byte))
    (if (i32.lt_u (local.get $first) (i32.const 240)) (then (return (local.get $first))))
    (if (i32.lt_u (local.get $first) (i32.const 248))
      (then (return (i32.or (i32.shl (call $byte) (i32.const 8)) (call $byte)))))
    (i32.load (i32.add (i32.const 0xF000)
      (i32.shl (i32.sub (local.get $first) (i32.const 248)) (i32.const 2)))))
  (func $run (local $function i32)
    (loop $next
      (local.set $function (call $byte))
      (if (i32.eqz (local.get $function)) (then (return)))
      (call $step (local.get $function))
      (br $next)))
  (func (export "proxy_on_context_create") (param i32 i32)
    (if (i32.eqz (global.get $end)) (then
      (drop (call $f{configuration} (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 200) (i32.const 204)))
      (global.set $at (i32.load (i32.const 200)))
      (global.set $end (i32.add (global.get $at) (i32.load (i32.const 204))))))
    (call $run))
"#,
        configuration = position("proxy_get_buffer_bytes"),
    );
    let callbacks = rows(between("const CALLBACKS", "];"));
    for (name, signature) in callbacks.filter(|(name, _)| !OWN.contains(name)) {
        let answer = match name {
            // It starts.
            "proxy_on_vm_start" | "proxy_on_configure" => "(i32.const 1)",
            _ if signature.ends_with('i') => "(call $byte)",
            _ => "",
        };
        text += &format!("(func (export \"{name}\") {} (call $run) {answer})\n", types(signature));
    }
    text
}

fn position(name: &str) -> usize {
    imports().iter().position(|import| import.1 == name).expect("it is in the table")
}
