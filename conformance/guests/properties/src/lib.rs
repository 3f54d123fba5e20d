//! Reads and stores properties, and logs the bytes that it gets.
//!
//! A line of its configuration is `PHASE PATH`, the path's parts joined by `/`: the value is logged, in quotes if it is printable
//! text, else in hexadecimal, or a status' number. `PHASE PATH length` logs how many bytes it has, `PHASE PATH address` text without the port at its end,
//! `PHASE PATH = TEXT` stores one. Phases are `configure`, `request`, `response` and `log`.

use std::ptr::null_mut;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Default)]
struct Root {
    lines: String,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        self.lines = String::from_utf8_lossy(&configuration).into_owned();
        in_phase("configure", &self.lines);
        true
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { lines: self.lines.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    lines: String,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        in_phase("request", &self.lines);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        in_phase("response", &self.lines);
        Action::Continue
    }

    fn on_log(&mut self) {
        in_phase("log", &self.lines);
    }
}

fn in_phase(phase: &str, lines: &str) {
    for line in lines.lines() {
        let mut parts = line.split_whitespace();
        if parts.next() != Some(phase) {
            continue;
        }
        let name = parts.next().unwrap_or_default();
        let path: Vec<&str> = name.split('/').collect();
        let how = parts.next();
        let outcome = match how {
            Some("=") => match hostcalls::set_property(path, parts.next().map(str::as_bytes)) {
                Ok(()) => "stored".to_owned(),
                Err(status) => format!("{status:?}"),
            },
            _ => match read(&path.join("\0")) {
                Ok(value) => shown(&value, how),
                Err(status) => format!("status {status}"),
            },
        };
        let _logged = hostcalls::log(LogLevel::Info, &format!("{phase} {name}: {outcome}"));
    }
}

unsafe extern "C" {
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
}

/// The host call as it is: the stock crate makes one of an empty value and of none.
fn read(path: &str) -> Result<Vec<u8>, u32> {
    let (mut value, mut size) = (null_mut(), 0);
    // SAFETY: all pointers are to live locals.
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut value, &mut size) };
    match status {
        0 if value.is_null() => Ok(Vec::new()),
        // SAFETY: the stock crate's allocator makes vectors of exactly this size, for the guest to keep.
        0 => Ok(unsafe { Vec::from_raw_parts(value, size, size) }),
        status => Err(status),
    }
}

fn shown(value: &[u8], how: Option<&str>) -> String {
    match how {
        Some("length") => format!("{} bytes", value.len()),
        Some("address") => {
            let text = String::from_utf8_lossy(value);
            let bare = text.trim_end_matches(|digit: char| digit.is_ascii_digit());
            format!("\"{bare}\"")
        }
        _ if value.iter().all(|byte| (b' '..=b'~').contains(byte)) => {
            format!("\"{}\"", String::from_utf8_lossy(value))
        }
        _ => value.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
