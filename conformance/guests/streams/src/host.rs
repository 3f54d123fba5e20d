//! The host's functions as far as scripts need them.

pub const REQUEST_HEADERS: u32 = 0;
pub const REQUEST_TRAILERS: u32 = 1;
pub const RESPONSE_HEADERS: u32 = 2;
pub const RESPONSE_TRAILERS: u32 = 3;
pub const REQUEST_BODY: u32 = 0;
pub const RESPONSE_BODY: u32 = 1;
pub const CONFIGURATION: u32 = 7;

const INFO: u32 = 2;
const PATIENCE: u32 = 5000;

mod raw {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub fn proxy_log(level: u32, text: *const u8, size: usize) -> u32;
        pub fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub fn proxy_set_effective_context(context: u32) -> u32;
        pub fn proxy_continue_stream(stream: u32) -> u32;
        pub fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            length: usize,
            value: *mut *const u8,
            size: *mut usize,
        ) -> u32;
        pub fn proxy_add_header_map_value(
            map: u32,
            name: *const u8,
            length: usize,
            value: *const u8,
            size: usize,
        ) -> u32;
        pub fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            length: usize,
            value: *const u8,
            size: usize,
        ) -> u32;
        pub fn proxy_remove_header_map_value(map: u32, name: *const u8, length: usize) -> u32;
        pub fn proxy_get_buffer_bytes(
            buffer: u32,
            start: u32,
            length: u32,
            data: *mut *const u8,
            size: *mut usize,
        ) -> u32;
        pub fn proxy_set_buffer_bytes(
            buffer: u32,
            start: u32,
            length: u32,
            data: *const u8,
            size: usize,
        ) -> u32;
        pub fn proxy_get_property(
            path: *const u8,
            length: usize,
            value: *mut *const u8,
            size: *mut usize,
        ) -> u32;
        pub fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc: i32,
        ) -> u32;
        pub fn proxy_http_call(
            upstream: *const u8,
            upstream_size: usize,
            headers: *const u8,
            headers_size: usize,
            body: *const u8,
            body_size: usize,
            trailers: *const u8,
            trailers_size: usize,
            timeout: u32,
            call: *mut u32,
        ) -> u32;
    }
}

/// What a call hands out: nothing, unless its status is 0.
fn text(ask: impl FnOnce(*mut *const u8, *mut usize) -> u32) -> Option<String> {
    let (mut data, mut size) = (std::ptr::null(), 0);
    if ask(&mut data, &mut size) != 0 {
        return None;
    }
    if data.is_null() || size == 0 {
        return Some(String::new());
    }
    // SAFETY: the host wrote `size` bytes to what it got from `proxy_on_memory_allocate`, which nobody frees.
    let bytes = unsafe { std::slice::from_raw_parts(data, size) };
    Some(String::from_utf8_lossy(bytes).into_owned())
}

// SAFETY of all calls: pointers come from references that outlive the call, and the host checks them once more.

pub fn say(line: &str) {
    unsafe { raw::proxy_log(INFO, line.as_ptr(), line.len()) };
}

pub fn set_tick_period(milliseconds: u32) {
    unsafe { raw::proxy_set_tick_period_milliseconds(milliseconds) };
}

pub fn set_effective_context(context: u32) {
    unsafe { raw::proxy_set_effective_context(context) };
}

pub fn resume(stream: u32) {
    unsafe { raw::proxy_continue_stream(stream) };
}

pub fn header(map: u32, name: &str) -> Option<String> {
    text(|data, size| unsafe {
        raw::proxy_get_header_map_value(map, name.as_ptr(), name.len(), data, size)
    })
}

pub fn add(map: u32, name: &str, value: &str) {
    let (name, length, value, size) = (name.as_ptr(), name.len(), value.as_ptr(), value.len());
    unsafe { raw::proxy_add_header_map_value(map, name, length, value, size) };
}

pub fn replace(map: u32, name: &str, value: &str) {
    let (name, length, value, size) = (name.as_ptr(), name.len(), value.as_ptr(), value.len());
    unsafe { raw::proxy_replace_header_map_value(map, name, length, value, size) };
}

pub fn remove(map: u32, name: &str) {
    unsafe { raw::proxy_remove_header_map_value(map, name.as_ptr(), name.len()) };
}

/// All of it.
pub fn buffer(buffer: u32) -> String {
    let all = u32::MAX >> 1;
    let read = |data, size| unsafe { raw::proxy_get_buffer_bytes(buffer, 0, all, data, size) };
    text(read).unwrap_or_default()
}

pub fn set_buffer(buffer: u32, start: u32, length: u32, text: &str) -> u32 {
    unsafe { raw::proxy_set_buffer_bytes(buffer, start, length, text.as_ptr(), text.len()) }
}

pub fn property(path: &[&str]) -> String {
    let path = path.join("\0");
    let read =
        |data, size| unsafe { raw::proxy_get_property(path.as_ptr(), path.len(), data, size) };
    text(read).unwrap_or_default()
}

pub fn reply(status: u32, body: &str, grpc: i32) {
    let details = "scripted";
    let (details, length, body, size) =
        (details.as_ptr(), details.len(), body.as_ptr(), body.len());
    let headers = [].as_ptr();
    unsafe {
        raw::proxy_send_local_response(status, details, length, body, size, headers, 0, grpc)
    };
}

pub fn call(upstream: &str) {
    let headers = pairs(&[
        (":method", "GET"),
        (":path", "/"),
        (":authority", "aux.test"),
        (":scheme", "http"),
    ]);
    let (name, length) = (upstream.as_ptr(), upstream.len());
    let (none, mut id) = ([].as_ptr(), 0);
    let (map, size) = (headers.as_ptr(), headers.len());
    unsafe { raw::proxy_http_call(name, length, map, size, none, 0, none, 0, PATIENCE, &mut id) };
}

/// A map in the ABI's serialization.
fn pairs(entries: &[(&str, &str)]) -> Vec<u8> {
    let number = |number: usize| (number as u32).to_le_bytes();
    let mut bytes = number(entries.len()).to_vec();
    for (name, value) in entries {
        bytes.extend(number(name.len()));
        bytes.extend(number(value.len()));
    }
    for text in entries.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    bytes
}
