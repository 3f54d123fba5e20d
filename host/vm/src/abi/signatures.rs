//! The type of every function that a module may import from this host, and of every export that hosts call.
//!
//! Sources: proxy-wasm/spec v0.1.0, v0.2.0, v0.2.1; proxy-wasm-cpp-host `exports.h` for WASI and for the 0.1.0 functions
//! that real modules import with a result although the specification gives them none. A type is written as its
//! parameters, `>`, its results; `i` is i32, `I` is i64.

/// Name and the types it may have, the usual one first.
type Row = (&'static str, &'static [&'static str]);

/// Where `proxy_*` functions come from.
pub(crate) const ENV: &str = "env";
/// Where WASI functions come from; the second is what modules of the 0.1.0 era say.
pub(crate) const WASI: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// Marker exports, lowest version first.
pub(crate) const MARKERS: [&str; 4] = [
    "proxy_abi_version_0_1_0",
    "proxy_abi_version_0_2_0",
    "proxy_abi_version_0_2_1",
    "proxy_abi_version_0_2_100",
];

const ENV_FUNCTIONS: &[Row] = &[
    ("proxy_log", &["iii>i"]),
    ("proxy_get_log_level", &["i>i"]),
    ("proxy_get_current_time_nanoseconds", &["i>i"]),
    ("proxy_set_tick_period_milliseconds", &["i>i"]),
    ("proxy_set_effective_context", &["i>i"]),
    ("proxy_done", &[">i"]),
    ("proxy_get_configuration", &["ii>i"]),
    ("proxy_get_header_map_size", &["ii>i"]),
    ("proxy_get_header_map_pairs", &["iii>i"]),
    ("proxy_set_header_map_pairs", &["iii>i"]),
    ("proxy_get_header_map_value", &["iiiii>i"]),
    ("proxy_add_header_map_value", &["iiiii>i"]),
    ("proxy_replace_header_map_value", &["iiiii>i"]),
    ("proxy_remove_header_map_value", &["iii>i"]),
    ("proxy_get_buffer_bytes", &["iiiii>i"]),
    ("proxy_set_buffer_bytes", &["iiiii>i"]),
    ("proxy_get_buffer_status", &["iii>i"]),
    ("proxy_continue_stream", &["i>i"]),
    ("proxy_close_stream", &["i>i"]),
    ("proxy_continue_request", &[">i", ">"]),
    ("proxy_continue_response", &[">i", ">"]),
    ("proxy_clear_route_cache", &[">i", ">"]),
    ("proxy_send_local_response", &["iiiiiiii>i"]),
    ("proxy_get_status", &["iii>i"]),
    ("proxy_http_call", &["iiiiiiiiii>i"]),
    ("proxy_grpc_call", &["iiiiiiiiiiii>i"]),
    ("proxy_grpc_stream", &["iiiiiiiii>i"]),
    ("proxy_grpc_send", &["iiii>i"]),
    ("proxy_grpc_cancel", &["i>i"]),
    ("proxy_grpc_close", &["i>i"]),
    ("proxy_redis_init", &["iiiiiii>i"]),
    ("proxy_redis_call", &["iiiii>i"]),
    ("proxy_get_shared_data", &["iiiii>i"]),
    ("proxy_set_shared_data", &["iiiii>i"]),
    ("proxy_register_shared_queue", &["iii>i"]),
    ("proxy_resolve_shared_queue", &["iiiii>i"]),
    ("proxy_enqueue_shared_queue", &["iii>i"]),
    ("proxy_dequeue_shared_queue", &["iii>i"]),
    ("proxy_define_metric", &["iiii>i"]),
    ("proxy_increment_metric", &["iI>i"]),
    ("proxy_record_metric", &["iI>i"]),
    ("proxy_get_metric", &["ii>i"]),
    ("proxy_get_property", &["iiii>i"]),
    ("proxy_set_property", &["iiii>i"]),
    ("proxy_call_foreign_function", &["iiiiii>i"]),
    ("proxy_get_upstream_hosts", &["ii>i"]),
    ("proxy_set_upstream_override_host", &["ii>i"]),
    ("proxy_inject_encoded_data_to_filter_chain", &["iii>i"]),
    ("pthread_equal", &["ii>i"]),
    ("emscripten_notify_memory_growth", &["i>"]),
    ("abort", &["iiii>"]),
];

const WASI_FUNCTIONS: &[Row] = &[
    ("args_get", &["ii>i"]),
    ("args_sizes_get", &["ii>i"]),
    ("clock_res_get", &["ii>i"]),
    ("clock_time_get", &["iIi>i"]),
    ("environ_get", &["ii>i"]),
    ("environ_sizes_get", &["ii>i"]),
    ("fd_advise", &["iIIi>i"]),
    ("fd_allocate", &["iII>i"]),
    ("fd_close", &["i>i"]),
    ("fd_datasync", &["i>i"]),
    ("fd_fdstat_get", &["ii>i"]),
    ("fd_fdstat_set_flags", &["ii>i"]),
    ("fd_fdstat_set_rights", &["iII>i"]),
    ("fd_filestat_get", &["ii>i"]),
    ("fd_filestat_set_size", &["iI>i"]),
    ("fd_filestat_set_times", &["iIIi>i"]),
    ("fd_pread", &["iiiIi>i"]),
    ("fd_prestat_dir_name", &["iii>i"]),
    ("fd_prestat_get", &["ii>i"]),
    ("fd_pwrite", &["iiiIi>i"]),
    ("fd_read", &["iiii>i"]),
    ("fd_readdir", &["iiiIi>i"]),
    ("fd_renumber", &["ii>i"]),
    ("fd_seek", &["iIii>i"]),
    ("fd_sync", &["i>i"]),
    ("fd_tell", &["ii>i"]),
    ("fd_write", &["iiii>i"]),
    ("path_create_directory", &["iii>i"]),
    ("path_filestat_get", &["iiiii>i"]),
    ("path_filestat_set_times", &["iiiiIIi>i"]),
    ("path_link", &["iiiiiii>i"]),
    ("path_open", &["iiiiiIIii>i"]),
    ("path_readlink", &["iiiiii>i"]),
    ("path_remove_directory", &["iii>i"]),
    ("path_rename", &["iiiiii>i"]),
    ("path_symlink", &["iiiii>i"]),
    ("path_unlink_file", &["iii>i"]),
    ("poll_oneoff", &["iiii>i"]),
    ("proc_exit", &["i>"]),
    ("proc_raise", &["i>i"]),
    ("random_get", &["ii>i"]),
    ("sched_yield", &[">i"]),
    ("sock_accept", &["iii>i"]),
    ("sock_recv", &["iiiiii>i"]),
    ("sock_send", &["iiiii>i"]),
    ("sock_shutdown", &["ii>i"]),
];

/// A `main` of another type than the usual ones is simply not called, so it has no row.
const CALLBACKS: &[Row] = &[
    ("_initialize", &[">"]),
    ("_start", &[">"]),
    ("malloc", &["i>i"]),
    ("proxy_on_memory_allocate", &["i>i"]),
    ("proxy_on_context_create", &["ii>"]),
    ("proxy_on_vm_start", &["ii>i"]),
    ("proxy_on_configure", &["ii>i"]),
    ("proxy_on_tick", &["i>"]),
    ("proxy_on_queue_ready", &["ii>"]),
    ("proxy_on_new_connection", &["i>i"]),
    ("proxy_on_downstream_data", &["iii>i"]),
    ("proxy_on_upstream_data", &["iii>i"]),
    ("proxy_on_downstream_connection_close", &["ii>"]),
    ("proxy_on_upstream_connection_close", &["ii>"]),
    ("proxy_on_request_headers", &["iii>i", "ii>i"]),
    ("proxy_on_request_body", &["iii>i"]),
    ("proxy_on_request_trailers", &["ii>i"]),
    ("proxy_on_response_headers", &["iii>i", "ii>i"]),
    ("proxy_on_response_body", &["iii>i"]),
    ("proxy_on_response_trailers", &["ii>i"]),
    ("proxy_on_http_call_response", &["iiiii>"]),
    ("proxy_on_grpc_receive_initial_metadata", &["iii>"]),
    ("proxy_on_grpc_receive", &["iii>"]),
    ("proxy_on_grpc_receive_trailing_metadata", &["iii>"]),
    ("proxy_on_grpc_trailing_metadata", &["iii>"]),
    ("proxy_on_grpc_close", &["iii>"]),
    ("proxy_on_redis_call_response", &["iiii>"]),
    ("proxy_on_log", &["i>"]),
    ("proxy_on_done", &["i>i"]),
    ("proxy_on_delete", &["i>"]),
    // What some module may export and this host never calls.
    ("proxy_on_foreign_function", &["iii>"]),
    ("proxy_validate_configuration", &["ii>i"]),
    ("proxy_on_request_metadata", &["ii>i"]),
    ("proxy_on_response_metadata", &["ii>i"]),
    ("envoy_on_resolve_dns", &["iii>"]),
    ("envoy_on_stats_update", &["ii>"]),
];

/// The types that the import `module.name` may have; `None` if this host does not provide it.
pub(crate) fn import(module: &str, name: &str) -> Option<&'static [&'static str]> {
    let rows = match module {
        ENV => ENV_FUNCTIONS,
        _ if WASI.contains(&module) => WASI_FUNCTIONS,
        _ => return None,
    };
    find(rows, name)
}

/// The types that an export may have which hosts call.
pub(crate) fn callback(name: &str) -> Option<&'static [&'static str]> {
    find(CALLBACKS, name)
}

fn find(rows: &'static [Row], name: &str) -> Option<&'static [&'static str]> {
    rows.iter().find(|row| row.0 == name).map(|row| row.1)
}

/// A type as people write it: `iI>i` is `(i32, i64) -> i32`.
pub(crate) fn spell(signature: &str) -> String {
    let (params, results) = signature.split_once('>').unwrap_or((signature, ""));
    let params = names(params).join(", ");
    match names(results).as_slice() {
        [] => format!("({params})"),
        [one] => format!("({params}) -> {one}"),
        many => format!("({params}) -> ({})", many.join(", ")),
    }
}

fn names(letters: &str) -> Vec<&'static str> {
    letters
        .chars()
        .map(|letter| match letter {
            'i' => "i32",
            'I' => "i64",
            'f' => "f32",
            'F' => "f64",
            _ => "another type",
        })
        .collect()
}
