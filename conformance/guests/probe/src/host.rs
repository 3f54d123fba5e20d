//! The host's functions as the specification declares them, without an SDK in between: statuses arrive as they are.

/// Where a call may write two results.
#[derive(Default)]
pub struct Out {
    pub pointer: u32,
    pub size: u32,
}

impl Out {
    /// What the host allocated here.
    pub fn bytes(&self) -> &[u8] {
        if self.pointer == 0 || self.size == 0 {
            return &[];
        }
        // SAFETY: the host wrote `size` bytes to what it got from `proxy_on_memory_allocate`, which nobody frees.
        unsafe { std::slice::from_raw_parts(self.pointer as *const u8, self.size as usize) }
    }

    /// As text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

macro_rules! functions {
    ($($(#[$cfg:meta])* fn $name:ident($($argument:ident: $type:ty),*) = $import:literal;)*) => {
        mod raw {
            #[link(wasm_import_module = "env")]
            unsafe extern "C" {
                $($(#[$cfg])* #[link_name = $import] pub fn $name($($argument: $type),*) -> u32;)*
            }
        }
        $($(#[$cfg])* pub fn $name($($argument: $type),*) -> u32 {
            // SAFETY: pointers come from references that outlive the call; the host checks them once more.
            unsafe { raw::$name($($argument),*) }
        })*
    };
}

functions! {
    fn log(level: u32, message: *const u8, size: usize) = "proxy_log";
    #[cfg(feature = "abi-0-2-1")]
    fn get_log_level(level: *mut u32) = "proxy_get_log_level";
    fn get_current_time(time: *mut u64) = "proxy_get_current_time_nanoseconds";
    fn set_tick_period(period: u32) = "proxy_set_tick_period_milliseconds";
    fn set_effective_context(context: u32) = "proxy_set_effective_context";
    fn done() = "proxy_done";
    fn get_map_size(map: u32, size: *mut u32) = "proxy_get_header_map_size";
    fn get_map(map: u32, data: *mut u32, size: *mut u32) = "proxy_get_header_map_pairs";
    fn set_map(map: u32, data: *const u8, size: usize) = "proxy_set_header_map_pairs";
    fn get_value(map: u32, key: *const u8, length: usize, data: *mut u32, size: *mut u32) = "proxy_get_header_map_value";
    fn add_value(map: u32, key: *const u8, length: usize, value: *const u8, size: usize) = "proxy_add_header_map_value";
    fn replace_value(map: u32, key: *const u8, length: usize, value: *const u8, size: usize) = "proxy_replace_header_map_value";
    fn remove_value(map: u32, key: *const u8, length: usize) = "proxy_remove_header_map_value";
    fn get_buffer(buffer: u32, start: u32, max: u32, data: *mut u32, size: *mut u32) = "proxy_get_buffer_bytes";
    fn set_buffer(buffer: u32, start: u32, length: u32, data: *const u8, size: usize) = "proxy_set_buffer_bytes";
    fn get_buffer_status(buffer: u32, length: *mut u32, flags: *mut u32) = "proxy_get_buffer_status";
    fn send_local_response(status: u32, details: *const u8, details_size: usize, body: *const u8, body_size: usize, headers: *const u8, headers_size: usize, grpc: i32) = "proxy_send_local_response";
    fn get_status(code: *mut u32, data: *mut u32, size: *mut u32) = "proxy_get_status";
    fn http_call(upstream: *const u8, upstream_size: usize, headers: *const u8, headers_size: usize, body: *const u8, body_size: usize, trailers: *const u8, trailers_size: usize, timeout: u32, call: *mut u32) = "proxy_http_call";
    fn grpc_call(upstream: *const u8, upstream_size: usize, service: *const u8, service_size: usize, method: *const u8, method_size: usize, metadata: *const u8, metadata_size: usize, message: *const u8, message_size: usize, timeout: u32, call: *mut u32) = "proxy_grpc_call";
    fn grpc_stream(upstream: *const u8, upstream_size: usize, service: *const u8, service_size: usize, method: *const u8, method_size: usize, metadata: *const u8, metadata_size: usize, stream: *mut u32) = "proxy_grpc_stream";
    fn grpc_send(call: u32, message: *const u8, size: usize, end: u32) = "proxy_grpc_send";
    fn grpc_cancel(call: u32) = "proxy_grpc_cancel";
    fn grpc_close(call: u32) = "proxy_grpc_close";
    fn get_shared_data(key: *const u8, length: usize, data: *mut u32, size: *mut u32, cas: *mut u32) = "proxy_get_shared_data";
    fn set_shared_data(key: *const u8, length: usize, value: *const u8, size: usize, cas: u32) = "proxy_set_shared_data";
    fn register_queue(name: *const u8, length: usize, queue: *mut u32) = "proxy_register_shared_queue";
    fn resolve_queue(vm: *const u8, vm_size: usize, name: *const u8, length: usize, queue: *mut u32) = "proxy_resolve_shared_queue";
    fn enqueue(queue: u32, data: *const u8, size: usize) = "proxy_enqueue_shared_queue";
    fn dequeue(queue: u32, data: *mut u32, size: *mut u32) = "proxy_dequeue_shared_queue";
    fn define_metric(kind: u32, name: *const u8, length: usize, metric: *mut u32) = "proxy_define_metric";
    fn increment_metric(metric: u32, by: i64) = "proxy_increment_metric";
    fn record_metric(metric: u32, value: u64) = "proxy_record_metric";
    fn get_metric(metric: u32, value: *mut u64) = "proxy_get_metric";
    fn get_property(path: *const u8, length: usize, data: *mut u32, size: *mut u32) = "proxy_get_property";
    fn set_property(path: *const u8, length: usize, value: *const u8, size: usize) = "proxy_set_property";
    #[cfg(not(feature = "abi-0-1-0"))]
    fn continue_stream(stream: u32) = "proxy_continue_stream";
    #[cfg(not(feature = "abi-0-1-0"))]
    fn close_stream(stream: u32) = "proxy_close_stream";
    fn call_foreign_function(name: *const u8, length: usize, arguments: *const u8, arguments_size: usize, data: *mut u32, size: *mut u32) = "proxy_call_foreign_function";
    #[cfg(feature = "abi-0-1-0")]
    fn get_configuration(data: *mut u32, size: *mut u32) = "proxy_get_configuration";
    #[cfg(feature = "abi-0-1-0")]
    fn continue_request() = "proxy_continue_request";
    #[cfg(feature = "abi-0-1-0")]
    fn continue_response() = "proxy_continue_response";
    #[cfg(feature = "abi-0-1-0")]
    fn clear_route_cache() = "proxy_clear_route_cache";
}

/// A line at level info.
pub fn say(message: &str) {
    log(2, message.as_ptr(), message.len());
}

/// `(status, value)` of a header.
pub fn header(map: u32, name: &str) -> (u32, String) {
    let mut out = Out::default();
    let status = get_value(map, name.as_ptr(), name.len(), &mut out.pointer, &mut out.size);
    (status, out.text())
}

/// A map in the ABI's serialization.
pub fn pairs(entries: &[(&str, &str)]) -> Vec<u8> {
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
