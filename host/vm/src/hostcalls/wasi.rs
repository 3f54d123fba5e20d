//! WASI preview 1 as proxy-wasm-cpp-host answers it (`src/exports.cc`): stdout and stderr are log records, there are
//! clocks, randomness and an environment, and no files, sockets or arguments.

use wasmtime::{Caller, FuncType, Linker, Val, ValType};

use super::memory::{Span, slice};
use super::timer::nanoseconds;
use super::{Call, Stop};
use crate::abi::numbers::errno;
use crate::abi::signatures::{self, WASI};
use crate::error::Fault;
use crate::guest::Guest;
use crate::services::LogLevel;

/// What a function without an implementation of its own answers.
#[derive(Clone, Copy)]
enum Fixed {
    /// Always this.
    Code(u32),
    /// Success for stdout and stderr, EBADF for the rest.
    Standard,
    /// This, after a zero has been stored to the pointers at these positions.
    Zeroed(u32, &'static [usize]),
}

const FIXED: &[(&str, Fixed)] = &[
    ("fd_read", Fixed::Code(errno::NOSYS)),
    ("fd_pread", Fixed::Code(errno::NOSYS)),
    ("fd_seek", Fixed::Code(errno::SUCCESS)),
    ("fd_close", Fixed::Code(errno::SUCCESS)),
    ("fd_fdstat_set_flags", Fixed::Code(errno::NOSYS)),
    ("fd_prestat_get", Fixed::Code(errno::BADF)),
    ("fd_prestat_dir_name", Fixed::Code(errno::NOSYS)),
    ("fd_filestat_get", Fixed::Code(errno::BADF)),
    ("fd_advise", Fixed::Code(errno::SUCCESS)),
    ("fd_allocate", Fixed::Standard),
    ("fd_datasync", Fixed::Standard),
    ("fd_sync", Fixed::Standard),
    ("fd_fdstat_set_rights", Fixed::Standard),
    ("fd_filestat_set_size", Fixed::Standard),
    ("fd_filestat_set_times", Fixed::Standard),
    ("fd_readdir", Fixed::Zeroed(errno::NOTDIR, &[4])),
    ("path_open", Fixed::Code(errno::NOENT)),
    ("path_filestat_get", Fixed::Code(errno::NOTSUP)),
    ("path_create_directory", Fixed::Code(errno::NOTSUP)),
    ("path_filestat_set_times", Fixed::Code(errno::NOTSUP)),
    ("path_link", Fixed::Code(errno::NOTSUP)),
    ("path_readlink", Fixed::Zeroed(errno::NOTSUP, &[5])),
    ("path_remove_directory", Fixed::Code(errno::NOTSUP)),
    ("path_rename", Fixed::Code(errno::NOTSUP)),
    ("path_symlink", Fixed::Code(errno::NOTSUP)),
    ("path_unlink_file", Fixed::Code(errno::NOTSUP)),
    ("sock_accept", Fixed::Zeroed(errno::NOTSUP, &[2])),
    ("sock_recv", Fixed::Zeroed(errno::NOTSUP, &[4, 5])),
    ("sock_send", Fixed::Zeroed(errno::NOTSUP, &[4])),
    ("sock_shutdown", Fixed::Code(errno::NOTSUP)),
    ("proc_raise", Fixed::Code(errno::NOTSUP)),
    ("sched_yield", Fixed::Code(errno::SUCCESS)),
    ("poll_oneoff", Fixed::Zeroed(errno::SUCCESS, &[3])),
    ("args_get", Fixed::Code(errno::SUCCESS)),
    ("args_sizes_get", Fixed::Zeroed(errno::SUCCESS, &[0, 1])),
];

/// Longest run of random bytes given at once.
const MAX_RANDOM: u32 = 64 << 10;

/// What a function answers: a code, or the end of the callback.
type Answer = Result<(), Refused>;

enum Refused {
    Code(u32),
    Fault(wasmtime::Error),
}

impl From<Stop> for Refused {
    fn from(stop: Stop) -> Refused {
        match stop {
            Stop::Fault(fault) => Refused::Fault(fault),
            Stop::Pointer | Stop::Status(_) => Refused::Code(errno::FAULT),
        }
    }
}

macro_rules! hostcall {
    ($linker:ident, $module:ident, $name:literal, |$call:ident $(, $arg:ident: $type:ty)*| $body:expr) => {
        $linker.func_wrap($module, $name, |caller: Caller<'_, Guest> $(, $arg: $type)*| {
            answer(Call::new(caller, $name), |$call| $body)
        })?
    };
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in WASI {
        link_fixed(linker, module)?;
        hostcall!(linker, module, "fd_write", |call, fd: u32, list: u32, count: u32, done: u32| {
            write(call, fd, Span(list, count), done)
        });
        hostcall!(
            linker,
            module,
            "fd_pwrite",
            |call, fd: u32, list: u32, count: u32, _offset: u64, done: u32| {
                write(call, fd, Span(list, count), done)
            }
        );
        hostcall!(linker, module, "fd_fdstat_get", |call, fd: u32, out: u32| {
            standard(fd)?;
            const WRITE: u64 = 64;
            Ok([0, WRITE, 0].iter().zip([0, 8, 16]).try_for_each(|(value, offset)| {
                call.write_u64(out.checked_add(offset).ok_or(Stop::Pointer)?, *value)
            })?)
        });
        hostcall!(linker, module, "fd_tell", |call, fd: u32, out: u32| {
            standard(fd)?;
            Ok(call.write_u64(out, 0)?)
        });
        hostcall!(linker, module, "fd_renumber", |_call, from: u32, to: u32| {
            standard(from)?;
            standard(to)?;
            Err(Refused::Code(errno::NOTSUP))
        });
        hostcall!(linker, module, "clock_res_get", |call, clock: u32, out: u32| {
            time(call, clock)?;
            Ok(call.write_u64(out, 1)?)
        });
        hostcall!(
            linker,
            module,
            "clock_time_get",
            |call, clock: u32, _precision: u64, out: u32| {
                let now = time(call, clock)?;
                Ok(call.write_u64(out, now)?)
            }
        );
        hostcall!(linker, module, "random_get", |call, out: u32, size: u32| random(
            call, out, size
        ));
        hostcall!(linker, module, "environ_sizes_get", |call, count: u32, size: u32| {
            let environment = &call.guest().spec.environment;
            let bytes =
                environment.iter().map(|(key, value)| key.len() + value.len() + 2).sum::<usize>();
            let entries = environment.len() as u32;
            call.write_u32(count, entries)?;
            Ok(call.write_u32(size, bytes as u32)?)
        });
        hostcall!(linker, module, "environ_get", |call, list: u32, data: u32| {
            environment(call, list, data)
        });
        linker.func_wrap(module, "proc_exit", |code: u32| -> wasmtime::Result<()> {
            Err(Fault::Exit(code).into())
        })?;
    }
    Ok(())
}

fn link_fixed(linker: &mut Linker<Guest>, module: &'static str) -> wasmtime::Result<()> {
    for (name, fixed) in FIXED {
        let Some([signature, ..]) = signatures::import(module, name) else { continue };
        let params = signature
            .chars()
            .take_while(|letter| *letter != '>')
            .map(|letter| if letter == 'I' { ValType::I64 } else { ValType::I32 });
        let function = FuncType::new(linker.engine(), params, [ValType::I32]);
        linker.func_new(module, name, function, |caller, params, results| {
            let code = answer(Call::new(caller, name), |call| fixed.answer(call, params))?;
            results[0] = Val::I32(code as i32);
            Ok(())
        })?;
    }
    Ok(())
}

impl Fixed {
    fn answer(self, call: &mut Call<'_>, params: &[Val]) -> Answer {
        let param = |at: usize| params.get(at).and_then(Val::i32).unwrap_or_default() as u32;
        match self {
            Fixed::Code(errno::SUCCESS) => Ok(()),
            Fixed::Code(code) => Err(Refused::Code(code)),
            Fixed::Standard => standard(param(0)),
            Fixed::Zeroed(code, pointers) => {
                for at in pointers {
                    call.write_u32(param(*at), 0)?;
                }
                Fixed::Code(code).answer(call, params)
            }
        }
    }
}

fn answer(mut call: Call<'_>, run: impl FnOnce(&mut Call<'_>) -> Answer) -> wasmtime::Result<u32> {
    match run(&mut call) {
        Ok(()) => Ok(errno::SUCCESS),
        Err(Refused::Code(code)) => Ok(code),
        Err(Refused::Fault(fault)) => Err(fault),
    }
}

/// stdout or stderr.
fn standard(fd: u32) -> Answer {
    if matches!(fd, 1 | 2) { Ok(()) } else { Err(Refused::Code(errno::BADF)) }
}

/// All vectors together are one log record; a newline at its end is dropped.
fn write(call: &mut Call<'_>, fd: u32, list: Span, done: u32) -> Answer {
    standard(fd)?;
    call.write_u32(done, 0)?;
    let (memory, guest) = call.split();
    let vectors = slice(memory, Span(list.0, list.1.checked_mul(8).ok_or(Stop::Pointer)?))?;
    let mut text = Vec::new();
    for vector in vectors.chunks_exact(8) {
        let number = |at: usize| {
            u32::from_le_bytes([vector[at], vector[at + 1], vector[at + 2], vector[at + 3]])
        };
        let run = slice(memory, Span(number(0), number(4)))?;
        if !guest.quota.hold(run.len()) {
            return Err(Refused::Fault(Fault::Held("fd_write").into()));
        }
        text.extend_from_slice(run);
    }
    let written = text.len() as u32;
    print(guest, fd, text.strip_suffix(b"\n").unwrap_or(&text));
    Ok(call.write_u32(done, written)?)
}

fn print(guest: &mut Guest, fd: u32, text: &[u8]) {
    if text.is_empty() {
        return;
    }
    guest.log(if fd == 1 { LogLevel::Info } else { LogLevel::Error }, text);
    // What Rust without a panic hook, and Go, print before they stop.
    let has = |words: &[u8]| text.windows(words.len()).any(|run| run == words);
    if fd == 2 && (text.starts_with(b"panic: ") || has(b"panicked at")) {
        guest.notes.panicked();
    }
}

fn time(call: &Call<'_>, clock: u32) -> Result<u64, Refused> {
    let services = &call.guest().services;
    match clock {
        0 => Ok(nanoseconds(services.now())),
        1 => Ok(u64::try_from(services.monotonic().as_nanos()).unwrap_or(u64::MAX)),
        _ => Err(Refused::Code(errno::NOTSUP)),
    }
}

fn random(call: &mut Call<'_>, out: u32, size: u32) -> Answer {
    if size > MAX_RANDOM {
        return Err(Refused::Code(errno::INVAL));
    }
    let mut bytes = vec![0; size as usize];
    call.guest().services.random(&mut bytes);
    if !bytes.is_empty() {
        call.write(out, &bytes)?;
    }
    Ok(())
}

fn environment(call: &mut Call<'_>, list: u32, data: u32) -> Answer {
    let spec = call.guest().spec.clone();
    let (mut entry, mut at) = (list, data);
    for (key, value) in &spec.environment {
        let text = format!("{key}={value}\0");
        call.write_u32(entry, at)?;
        call.write(at, text.as_bytes())?;
        entry = entry.checked_add(4).ok_or(Stop::Pointer)?;
        at = at.checked_add(text.len() as u32).ok_or(Stop::Pointer)?;
    }
    Ok(())
}
