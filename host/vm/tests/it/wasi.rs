//! WASI: every function links under both names and answers the code of the reference.

use portcullis_vm::{LogLevel, Phase, TrapReason};

use crate::host::{Host, bare, callback, spec};

/// Name, parameters (`i` i32, `I` i64), arguments, code.
const CODES: &[(&str, &str, &[i64], u32)] = &[
    ("args_get", "ii", &[0, 0], 0),
    ("args_sizes_get", "ii", &[64, 68], 0),
    ("clock_res_get", "ii", &[0, 64], 0),
    ("clock_res_get", "ii", &[5, 64], 58),
    ("clock_time_get", "iIi", &[0, 0, 64], 0),
    ("clock_time_get", "iIi", &[1, 0, 64], 0),
    ("clock_time_get", "iIi", &[2, 0, 64], 58),
    ("clock_time_get", "iIi", &[0, 0, -4], 21),
    ("environ_sizes_get", "ii", &[64, 68], 0),
    ("environ_get", "ii", &[64, 128], 0),
    ("fd_advise", "iIIi", &[9, 0, 0, 0], 0),
    ("fd_allocate", "iII", &[1, 0, 0], 0),
    ("fd_allocate", "iII", &[3, 0, 0], 8),
    ("fd_close", "i", &[3], 0),
    ("fd_datasync", "i", &[2], 0),
    ("fd_fdstat_get", "ii", &[1, 64], 0),
    ("fd_fdstat_get", "ii", &[0, 64], 8),
    ("fd_fdstat_set_flags", "ii", &[1, 0], 52),
    ("fd_fdstat_set_rights", "iII", &[0, 0, 0], 8),
    ("fd_filestat_get", "ii", &[1, 64], 8),
    ("fd_filestat_set_size", "iI", &[1, 0], 0),
    ("fd_filestat_set_times", "iIIi", &[1, 0, 0, 0], 0),
    ("fd_pread", "iiiIi", &[0, 0, 0, 0, 64], 52),
    ("fd_prestat_dir_name", "iii", &[3, 0, 0], 52),
    ("fd_prestat_get", "ii", &[3, 64], 8),
    ("fd_pwrite", "iiiIi", &[5, 0, 0, 0, 64], 8),
    ("fd_read", "iiii", &[0, 0, 0, 64], 52),
    ("fd_readdir", "iiiIi", &[3, 0, 0, 0, 64], 20),
    ("fd_renumber", "ii", &[1, 2], 58),
    ("fd_renumber", "ii", &[1, 3], 8),
    ("fd_seek", "iIii", &[1, 0, 0, 64], 0),
    ("fd_sync", "i", &[0], 8),
    ("fd_tell", "ii", &[1, 64], 0),
    ("fd_tell", "ii", &[3, 64], 8),
    ("fd_write", "iiii", &[3, 0, 0, 64], 8),
    ("fd_write", "iiii", &[1, 0, 0, 64], 0),
    ("fd_write", "iiii", &[1, -8, 2, 64], 21),
    ("path_create_directory", "iii", &[3, 0, 0], 58),
    ("path_filestat_get", "iiiii", &[3, 0, 0, 0, 64], 58),
    ("path_filestat_set_times", "iiiiIIi", &[3, 0, 0, 0, 0, 0, 0], 58),
    ("path_link", "iiiiiii", &[0, 0, 0, 0, 0, 0, 0], 58),
    ("path_open", "iiiiiIIii", &[3, 0, 0, 0, 0, 0, 0, 0, 64], 44),
    ("path_readlink", "iiiiii", &[3, 0, 0, 0, 0, 64], 58),
    ("path_remove_directory", "iii", &[3, 0, 0], 58),
    ("path_rename", "iiiiii", &[3, 0, 0, 3, 0, 0], 58),
    ("path_symlink", "iiiii", &[0, 0, 3, 0, 0], 58),
    ("path_unlink_file", "iii", &[3, 0, 0], 58),
    ("poll_oneoff", "iiii", &[0, 0, 0, 64], 0),
    ("proc_raise", "i", &[6], 58),
    ("random_get", "ii", &[0, 0], 0),
    ("random_get", "ii", &[64, 65537], 28),
    ("random_get", "ii", &[-4, 8], 21),
    ("sched_yield", "", &[], 0),
    ("sock_accept", "iii", &[3, 0, 64], 58),
    ("sock_recv", "iiiiii", &[3, 0, 0, 0, 64, 68], 58),
    ("sock_send", "iiiii", &[3, 0, 0, 0, 64], 58),
    ("sock_shutdown", "ii", &[3, 0], 58),
];

fn guest(module: &str, imports: &str, code: &str) -> Host {
    let text = bare(&format!(
        r#"{imports}
           (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
           (import "{module}" "proc_exit" (func $proc_exit (param i32)))
           (memory (export "memory") 1)
           (func (export "proxy_abi_version_0_2_1"))
           (func $say (param i32 i32) (drop (call $proxy_log (i32.const 2) (local.get 0) (local.get 1))))
           {}"#,
        callback(code)
    ));
    Host::start(&text, spec()).unwrap()
}

fn import(module: &str, name: &str, params: &str) -> String {
    let params: Vec<_> = params.chars().map(|one| if one == 'I' { "i64" } else { "i32" }).collect();
    let params = params.join(" ");
    format!(r#"(import "{module}" "{name}" (func $f (param {params}) (result i32)))"#)
}

#[test]
fn every_function_answers_the_code_of_the_reference_under_both_names() {
    for (name, params, arguments, code) in CODES {
        for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
            let arguments: String = params
                .chars()
                .zip(*arguments)
                .map(|(one, value)| {
                    format!("(i{}.const {value})", if one == 'I' { 64 } else { 32 })
                })
                .collect();
            let code = format!(
                "(if (i32.ne (i32.const {code}) (call $f {arguments})) (then unreachable))"
            );
            let mut host = guest(module, &import(module, name, params), &code);
            let result = host.run(Phase::RequestHeaders);
            assert!(result.is_ok(), "{name} {arguments}: {result:?}");
        }
    }
}

const PREVIEW1: &str = "wasi_snapshot_preview1";

#[test]
fn what_is_printed_is_one_log_record() {
    let print = |fd: u32, vectors: u32| {
        format!(
            "(drop (call $f (i32.const {fd}) (i32.const 0) (i32.const {vectors}) (i32.const 64)))"
        )
    };
    let vectors = r#"
        (i32.store (i32.const 0) (i32.const 200)) (i32.store (i32.const 4) (i32.const 4))
        (i32.store (i32.const 8) (i32.const 300)) (i32.store (i32.const 12) (i32.const 3))"#;
    let text = r#"(data (i32.const 200) "one ") (data (i32.const 300) "two\0a")"#;
    let written = |count: u32| {
        format!("(if (i32.ne (i32.const {count}) (i32.load (i32.const 64))) (then unreachable))")
    };
    let code = [print(1, 2), written(7), print(2, 1), written(4), print(1, 0), written(0)].concat();
    let imports = import(PREVIEW1, "fd_write", "iiii") + text;
    let mut host = guest(PREVIEW1, &imports, &(vectors.to_owned() + &code));
    host.run(Phase::RequestHeaders).unwrap();
    let log = host.record.take_log();
    assert_eq!(log[0], (LogLevel::Info, true, "one two".to_owned()));
    assert_eq!(log[1], (LogLevel::Error, true, "one ".to_owned()));
    assert_eq!(log.len(), 2);
}

#[test]
fn the_environment_is_the_one_of_the_configuration() {
    let mut host = guest(
        PREVIEW1,
        &import(PREVIEW1, "environ_get", "ii"),
        "(drop (call $f (i32.const 0) (i32.const 100)))
         (call $say (i32.load (i32.const 0)) (i32.const 9)) (call $say (i32.load (i32.const 4)) (i32.const 3))",
    );
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["MODE=test", "A=1"]);
}

#[test]
fn randomness_comes_from_the_embedder() {
    let mut host = guest(
        PREVIEW1,
        &import(PREVIEW1, "random_get", "ii"),
        "(drop (call $f (i32.const 0) (i32.const 4))) (call $say (i32.const 0) (i32.const 4))",
    );
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["rrrr"]);
}

#[test]
fn an_exit_in_a_callback_is_a_trap() {
    let mut host = guest(PREVIEW1, "", "(call $proc_exit (i32.const 0))");
    let trap = host.run(Phase::RequestHeaders).unwrap_err();
    assert_eq!(trap.reason, TrapReason::Trap);
    assert_eq!(trap.message, "proxy_on_request_headers: proc_exit(0)");
}

#[test]
fn a_panic_that_is_printed_to_stderr_is_a_panic() {
    let text = "thread 'main' panicked at src/lib.rs:3:5: boom";
    let mut host = guest(
        PREVIEW1,
        &format!(r#"{} (data (i32.const 200) "{text}")"#, import(PREVIEW1, "fd_write", "iiii")),
        &format!(
            "(i32.store (i32.const 0) (i32.const 200)) (i32.store (i32.const 4) (i32.const {}))
             (drop (call $f (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 64))) unreachable",
            text.len()
        ),
    );
    let trap = host.run(Phase::RequestHeaders).unwrap_err();
    assert_eq!(trap.reason, TrapReason::Panic);
    assert!(trap.message.ends_with(text), "{trap}");
}
