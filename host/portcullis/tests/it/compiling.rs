//! Who compiles modules: a process of its own, and what becomes of a document when that one fails.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use portcullis::app::{App, Settings};
use portcullis::fetch::Compiler;

use crate::program::{
    House, PATIENCE, PROXY, ROUTE, backend, eventually, fetch, replace, upstream,
};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const FILTER: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\n\
    metadata: {name: mark}\nspec: {url: \"file://mark.wasm\"}\n";

/// A module whose responses carry `x-mark: {letter}`.
fn mark(letter: char) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "env" "proxy_add_header_map_value"
            (func $add (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "x-mark{letter}")
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            i32.const 2 i32.const 0 i32.const 6 i32.const 6 i32.const 1
            call $add drop
            i32.const 0))"#
    );
    wat::parse_str(text).unwrap()
}

/// The program's own compiler, behind a script that does otherwise when a file of that name lies in the folder.
fn moody(patience: Duration) -> Compiler {
    let script = format!(
        r#"[ -e "$1/../die" ] && kill -9 $$; [ -e "$1/../hang" ] && exec /bin/sleep 1000;
           exec {BINARY} compile --cache "$1""#
    );
    let command = ["/bin/sh", "-c", &script].map(Into::into).to_vec();
    Compiler { command, patience }
}

fn start(folder: tempfile::TempDir, cache: &str, compiler: Compiler) -> House {
    let settings = Settings {
        paths: vec![folder.path().to_owned()],
        cache: Some(folder.path().join(cache)),
        compiler: Some(compiler),
        ..Settings::default()
    };
    House { app: App::start(settings).unwrap(), folder }
}

fn house(cache: &str, compiler: Compiler) -> House {
    let folder = tempfile::tempdir().unwrap();
    replace(folder.path(), "proxy.yaml", PROXY.as_bytes());
    replace(folder.path(), "app.yaml", backend(upstream("one")).as_bytes());
    replace(folder.path(), "route.yaml", ROUTE.as_bytes());
    replace(folder.path(), "filter.yaml", FILTER.as_bytes());
    replace(folder.path(), "mark.wasm", &mark('a'));
    start(folder, cache, compiler)
}

fn marked(house: &House, letter: char) -> bool {
    fetch(house.address(), "/").0.contains(&format!("x-mark: {letter}\r\n"))
}

/// Of the status: compiled, of these in the process that serves, and taken from the cache.
fn tally(house: &House) -> (u64, u64, u64) {
    let status = house.status();
    let read = |name: &str| status["modules"][name].as_u64().unwrap();
    (read("compiled_total"), read("compiled_in_this_process_total"), read("cached_total"))
}

fn compiled_files(folder: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_process_of_its_own_compiles_once_and_again_when_the_file_is_damaged() {
    let first = house("cache", moody(PATIENCE));
    assert!(marked(&first, 'a'));
    assert_eq!(tally(&first), (1, 0, 0));
    assert_eq!(first.status()["modules"]["own_process"], true);

    let House { app, folder } = first;
    drop(app);
    let second = start(folder, "cache", moody(PATIENCE));
    assert!(marked(&second, 'a'));
    assert_eq!(tally(&second), (0, 0, 1));

    let House { app, folder } = second;
    drop(app);
    let files = compiled_files(&folder.path().join("cache"));
    let mut bytes = fs::read(&files[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&files[0], bytes).unwrap();
    let third = start(folder, "cache", moody(PATIENCE));
    assert!(marked(&third, 'a'));
    assert_eq!(tally(&third), (1, 0, 0));
}

#[test]
fn a_compiler_that_dies_or_hangs_refuses_the_module_and_the_last_good_one_serves() {
    // Long enough for a small module on a busy machine.
    let house = house("cache", moody(Duration::from_secs(20)));
    let flag = |name: &str| house.folder.path().join(name);
    fs::write(flag("die"), "").unwrap();
    assert_eq!(house.spoil("mark.wasm", &mark('b')), "P0212");
    let cause = house.app.board().problems()[0].cause.clone().unwrap();
    assert!(cause.contains("signal: 9"), "{cause}");
    assert!(marked(&house, 'a'));

    fs::remove_file(flag("die")).unwrap();
    house.app.reload();
    eventually(|| house.app.board().problems().is_empty());
    assert!(marked(&house, 'b'));
    assert_eq!(house.status()["modules"]["refused_total"], 1);
}

#[test]
fn a_compiler_that_takes_too_long_is_ended() {
    let house = house("cache", moody(Duration::from_secs(5)));
    fs::write(house.folder.path().join("hang"), "").unwrap();
    assert_eq!(house.spoil("mark.wasm", &mark('b')), "P0212");
    let cause = house.app.board().problems()[0].cause.clone().unwrap();
    assert!(cause.contains("took longer than 5s"), "{cause}");
    assert!(marked(&house, 'a'));
}

/// The kernel ends everything in a container that is full, the process that serves included.
#[test]
fn a_container_that_would_be_full_refuses_the_module_and_the_last_good_one_serves() {
    let group = tempfile::tempdir().unwrap();
    let set = |name: &str, text: &str| fs::write(group.path().join(name), text).unwrap();
    set("memory.max", "536870912\n");
    set("memory.current", "104857600\n");
    let mut command = [BINARY, "compile", "--cgroup"].map(Into::into).to_vec();
    command.push(group.path().into());
    let house = house("cache", Compiler { command, patience: PATIENCE });
    assert!(marked(&house, 'a'));

    set("memory.current", "524288000\n");
    assert_eq!(house.spoil("mark.wasm", &mark('b')), "P0212");
    let cause = house.app.board().problems()[0].cause.clone().unwrap();
    assert!(cause.contains("512 MiB of memory 12 are left, and 64 are for"), "{cause}");
    assert!(marked(&house, 'a'));

    // What the kernel may take back is free.
    set("memory.stat", "anon 1\nfile 420000000\nactive_file 1\ninactive_file 419430400\n");
    house.app.reload();
    eventually(|| house.app.board().problems().is_empty());
    assert!(marked(&house, 'b'));
}

/// A module that compresses to nothing and whose compiler needs a thousand times as much memory as that.
#[test]
fn a_module_that_takes_more_and_more_memory_is_given_up_on_the_way() {
    let (cache, group) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let set = |name: &str, text: &str| fs::write(group.path().join(name), text).unwrap();
    set("memory.max", "536870912\n");
    set("memory.current", "104857600\n");
    let steps = "local.get 0 i32.mul i32.const 7 i32.add local.get 0 i32.xor\n".repeat(200_000);
    let module = format!(
        "(module (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\"))
         (func (export \"long\") (param i32) (result i32) local.get 0 {steps}))"
    );
    let file = cache.path().join("long.wasm");
    fs::write(&file, wat::parse_str(module).unwrap()).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["compile", "--cache"]).arg(cache.path().join("compiled"));
    command.arg("--cgroup").arg(group.path());
    let mut child = command
        .stdin(fs::File::open(&file).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It is on its way as soon as memory of its own grows.
    let resident = || {
        let text = fs::read_to_string(format!("/proc/{}/statm", child.id())).unwrap_or_default();
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default()
    };
    eventually(|| resident() > 10_000);
    set("memory.current", "524288000\n");
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(69));
}

#[test]
fn without_a_cache_folder_what_is_compiled_lies_in_a_passing_one() {
    // A document is no folder.
    let house = house("proxy.yaml", moody(PATIENCE));
    assert!(marked(&house, 'a'));
    assert_eq!(tally(&house), (1, 0, 0));
}

#[test]
fn where_no_process_can_be_started_the_program_compiles_itself_and_says_so() {
    let missing = Compiler { command: vec!["/nowhere/portcullis".into()], patience: PATIENCE };
    let house = house("cache", missing);
    assert!(marked(&house, 'a'));
    assert_eq!(tally(&house), (1, 1, 0));
}

#[test]
fn the_compiling_process_says_why_a_module_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(BINARY)
        .arg("compile")
        .arg("--cache")
        .arg(folder.path().join("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"no module").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(65));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("not a valid Wasm module"), "{said}");
}
