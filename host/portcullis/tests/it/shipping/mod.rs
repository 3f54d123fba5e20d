//! Modules on their way through a registry that is not ours, with a client that is not ours: what `push` writes, what
//! `pull` reads, and whose signature is asked for.

mod push;
mod registry;
mod signed;

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A module whose responses carry `x-version: {version}`, one letter.
fn stamp(version: char) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "env" "proxy_add_header_map_value"
            (func $add (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "x-version{version}")
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 4096)
          (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            i32.const 2 i32.const 0 i32.const 9 i32.const 9 i32.const 1
            call $add drop
            i32.const 0))"#
    );
    wat::parse_str(text).unwrap()
}

/// Runs the program in `folder`, in which there is no docker config unless a test puts one there.
fn portcullis(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(arguments).current_dir(folder).env("DOCKER_CONFIG", folder);
    command.env("XDG_CACHE_HOME", folder.join("cache")).stdin(Stdio::null());
    command.output().unwrap()
}

/// What it said, and how it ended.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
