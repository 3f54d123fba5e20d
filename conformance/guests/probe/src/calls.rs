//! Every host call by name: makes it once with arguments that mean something, and tells what came of it in words that are the
//! same in every run. A call that changes something is followed by a look at what it changed.

use crate::host::{self, Out, pairs};
use crate::state;

/// The name of a cell's call is `FUNCTION` or `FUNCTION:WHICH`; the result begins with the raw status.
pub fn make(call: &str) -> String {
    let (function, which) = call.split_once(':').unwrap_or((call, ""));
    if function.contains("header_map") {
        return header_map(function, number(MAPS, which));
    }
    if function.contains("buffer") {
        return buffer(function, number(BUFFERS, which));
    }
    if let Some(result) = others(function, which) {
        return result;
    }
    format!("unknown call {call}")
}

const MAPS: &[&str] = &[
    "request_headers",
    "request_trailers",
    "response_headers",
    "response_trailers",
    "grpc_initial_metadata",
    "grpc_trailing_metadata",
    "call_headers",
    "call_trailers",
];
const BUFFERS: &[&str] = &[
    "request_body",
    "response_body",
    "downstream_data",
    "upstream_data",
    "call_body",
    "grpc_message",
    "vm_configuration",
    "plugin_configuration",
    "call_data",
];

/// What a host makes of a number without a name is a cell too.
fn number(names: &[&str], which: &str) -> u32 {
    names.iter().position(|name| *name == which).map_or(99, |at| at as u32)
}

fn header_map(function: &str, map: u32) -> String {
    let (name, fresh) = ("x-value", "x-fresh");
    match function {
        "get_header_map_size" => {
            let mut size = 0;
            let status = host::get_map_size(map, &mut size);
            format!("{status} {}", if size > 0 { "some" } else { "0" })
        }
        "get_header_map_pairs" => {
            let mut out = Out::default();
            let status = host::get_map(map, &mut out.pointer, &mut out.size);
            let has = if out.text().contains("x-value") { "with x-value" } else { "without it" };
            format!("{status} {}", if out.size == 0 { "empty" } else { has })
        }
        "get_header_map_value" => {
            let (status, value) = host::header(map, name);
            format!("{status} {value:?}")
        }
        "set_header_map_pairs" => {
            // What routes a message has to survive.
            let keep = [":method", ":path", ":authority", ":scheme", ":status"];
            let kept: Vec<(&str, String)> =
                keep.into_iter().map(|name| (name, host::header(map, name).1)).collect();
            let mut all: Vec<(&str, &str)> = kept
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            all.push((fresh, "set"));
            let bytes = pairs(&all);
            let status = host::set_map(map, bytes.as_ptr(), bytes.len());
            let left = host::header(map, name);
            format!("{status}, then {}, {}", look(map, fresh), left.0)
        }
        "add_header_map_value" => {
            let status = host::add_value(map, fresh.as_ptr(), fresh.len(), b"added".as_ptr(), 5);
            format!("{status}, then {}", look(map, fresh))
        }
        "replace_header_map_value" => {
            let status = host::replace_value(map, name.as_ptr(), name.len(), b"new".as_ptr(), 3);
            format!("{status}, then {}", look(map, name))
        }
        _ => {
            let status = host::remove_value(map, name.as_ptr(), name.len());
            format!("{status}, then {}", look(map, name))
        }
    }
}

fn look(map: u32, name: &str) -> String {
    let (status, value) = host::header(map, name);
    format!("{status} {value:?}")
}

fn buffer(function: &str, buffer: u32) -> String {
    let read = || {
        let mut out = Out::default();
        let status = host::get_buffer(buffer, 0, u32::MAX, &mut out.pointer, &mut out.size);
        format!("{status} {:?}", out.text())
    };
    match function {
        "get_buffer_bytes" => read(),
        "set_buffer_bytes" => {
            let status = host::set_buffer(buffer, 0, u32::MAX, b"PROBED".as_ptr(), 6);
            format!("{status}, then {}", read())
        }
        _ => {
            let (mut length, mut flags) = (0, 0);
            let status = host::get_buffer_status(buffer, &mut length, &mut flags);
            format!("{status} {length} bytes, flags {flags}")
        }
    }
}

fn others(function: &str, which: &str) -> Option<String> {
    calling(function)
        .or_else(|| sharing(function))
        .or_else(|| counting(function))
        .or_else(|| flowing(function, which))
        .or_else(|| plain(function, which))
}

fn plain(function: &str, which: &str) -> Option<String> {
    Some(match function {
        "log" => {
            let message = "a line of its own";
            format!("{}", host::log(2, message.as_ptr(), message.len()))
        }
        #[cfg(feature = "abi-0-2-1")]
        "get_log_level" => {
            let mut level = 99;
            let status = host::get_log_level(&mut level);
            format!("{status} level {level}")
        }
        "get_current_time_nanoseconds" => {
            let mut time = 0;
            let status = host::get_current_time(&mut time);
            let recent = time > 1_600_000_000_000_000_000;
            format!("{status} {}", if recent { "a time of today" } else { "no time of today" })
        }
        "set_tick_period_milliseconds" => {
            format!("{}", host::set_tick_period(state::TICK))
        }
        "set_effective_context" => {
            let id = match which {
                "root" => state::root(),
                "stream" => state::stream(),
                _ => 0x7fff_0000,
            };
            let status = host::set_effective_context(id);
            let property = get_property(&["x-nothing"]);
            host::set_effective_context(state::current());
            format!("{status}, then a property {property}")
        }
        "done" => format!("{}", host::done()),
        "send_local_response" => reply(),
        "get_status" => {
            let (mut code, mut out) = (99, Out::default());
            let status = host::get_status(&mut code, &mut out.pointer, &mut out.size);
            format!("{status} code {code} {:?}", out.text())
        }
        "get_property" => {
            let path: Vec<&str> = which.split('.').collect();
            let value = get_property(&path);
            // The port is another one each time.
            match value.rsplit_once(':') {
                Some((address, _)) if which == "source.address" => format!("{address}:PORT\""),
                _ => value,
            }
        }
        "set_property" => {
            let name = "probed";
            let status = host::set_property(name.as_ptr(), name.len(), b"yes".as_ptr(), 3);
            format!("{status}, then {}", get_property(&[name]))
        }
        "call_foreign_function" => {
            let (name, arguments) = match which {
                "compress" => ("compress", "aaaa"),
                other => (other, ""),
            };
            let mut out = Out::default();
            let status = host::call_foreign_function(
                name.as_ptr(),
                name.len(),
                arguments.as_ptr(),
                arguments.len(),
                &mut out.pointer,
                &mut out.size,
            );
            format!("{status} {}", if out.size > 0 { "some bytes" } else { "nothing" })
        }
        _ => return None,
    })
}

fn get_property(path: &[&str]) -> String {
    let path = path.join("\0");
    let mut out = Out::default();
    let status = host::get_property(path.as_ptr(), path.len(), &mut out.pointer, &mut out.size);
    match out.text() {
        text if text.chars().all(|letter| letter.is_ascii_graphic()) => {
            format!("{status} {text:?}")
        }
        _ => format!("{status} bytes {:02x?}", out.bytes()),
    }
}

#[cfg(not(feature = "abi-0-1-0"))]
fn flowing(function: &str, which: &str) -> Option<String> {
    let stream = number(&["request", "response", "downstream", "upstream"], which);
    Some(match function {
        "continue_stream" => format!("{}", host::continue_stream(stream)),
        "close_stream" => format!("{}", host::close_stream(stream)),
        _ => return None,
    })
}

/// What 0.1.0 has instead.
#[cfg(feature = "abi-0-1-0")]
fn flowing(function: &str, _: &str) -> Option<String> {
    Some(match function {
        "continue_request" => format!("{}", host::continue_request()),
        "continue_response" => format!("{}", host::continue_response()),
        "clear_route_cache" => format!("{}", host::clear_route_cache()),
        "get_configuration" => {
            let mut out = Out::default();
            let status = host::get_configuration(&mut out.pointer, &mut out.size);
            format!("{status} {:?}", out.text())
        }
        _ => return None,
    })
}

fn reply() -> String {
    let (details, body) = ("probed", "from the probe");
    let headers = pairs(&[("x-reply", "yes")]);
    let status = host::send_local_response(
        418,
        details.as_ptr(),
        details.len(),
        body.as_ptr(),
        body.len(),
        headers.as_ptr(),
        headers.len(),
        -1,
    );
    format!("{status}")
}

/// What kind of call an id stands for, as Envoy numbers them.
fn kind(id: u32) -> &'static str {
    if id == 0 {
        return "no id";
    }
    ["an http id", "a call's id", "a stream's id", "an id"][id as usize & 3]
}

fn calling(function: &str) -> Option<String> {
    let (service, method, message) = ("probe.Service", "Method", "ping");
    Some(match function {
        "http_call" => {
            let mut id = 0;
            let status = state::http_call(&mut id);
            format!("{status} {}", kind(id))
        }
        "grpc_call" => {
            let mut id = 0;
            let upstream = "grpc";
            let status = host::grpc_call(
                upstream.as_ptr(),
                upstream.len(),
                service.as_ptr(),
                service.len(),
                method.as_ptr(),
                method.len(),
                [].as_ptr(),
                0,
                message.as_ptr(),
                message.len(),
                1000,
                &mut id,
            );
            format!("{status} {}", kind(id))
        }
        "grpc_stream" => {
            let mut id = 0;
            let status = state::grpc_stream(&mut id);
            format!("{status} {}", kind(id))
        }
        "grpc_send" => on_stream(|id| host::grpc_send(id, message.as_ptr(), message.len(), 0)),
        "grpc_cancel" => on_stream(host::grpc_cancel),
        "grpc_close" => on_stream(host::grpc_close),
        _ => return None,
    })
}

/// On a stream that this opens for it, and on one that nobody has.
fn on_stream(call: impl Fn(u32) -> u32) -> String {
    let mut id = 0;
    let opened = state::grpc_stream(&mut id);
    if opened != 0 {
        return format!("{} without a stream", call(0x7ffe));
    }
    let open = call(id);
    host::grpc_cancel(id);
    format!("{open}, on an unknown stream {}", call(0x7ffe))
}

fn sharing(function: &str) -> Option<String> {
    let (key, name) = ("probed", "probe-of-cells");
    let get = || {
        let (mut out, mut cas) = (Out::default(), 0);
        let status = host::get_shared_data(
            key.as_ptr(),
            key.len(),
            &mut out.pointer,
            &mut out.size,
            &mut cas,
        );
        (format!("{status} {:?}", out.text()), cas)
    };
    let set = |cas| host::set_shared_data(key.as_ptr(), key.len(), b"kept".as_ptr(), 4, cas);
    let register = || {
        let mut id = 0;
        (host::register_queue(name.as_ptr(), name.len(), &mut id), id)
    };
    let take = |id| {
        let mut out = Out::default();
        let status = host::dequeue(id, &mut out.pointer, &mut out.size);
        format!("{status} {:?}", out.text())
    };
    Some(match function {
        "get_shared_data" => {
            set(0);
            let absent = "never-stored";
            let mut out = Out::default();
            let missing = host::get_shared_data(
                absent.as_ptr(),
                absent.len(),
                &mut out.pointer,
                &mut out.size,
                &mut 0,
            );
            format!("{}, of an unknown key {missing}", get().0)
        }
        "set_shared_data" => {
            let first = set(0);
            let (value, cas) = get();
            format!("{first}, then {value}, with an old version {}", set(cas.wrapping_add(7)))
        }
        "register_shared_queue" => {
            let (status, id) = register();
            let (_, again) = register();
            format!("{status} {}", if id != 0 && id == again { "its id" } else { "no id" })
        }
        "resolve_shared_queue" => {
            let (_, registered) = register();
            let mut id = 0;
            let vm = state::vm();
            let status =
                host::resolve_queue(vm.as_ptr(), vm.len(), name.as_ptr(), name.len(), &mut id);
            let unknown =
                host::resolve_queue(vm.as_ptr(), vm.len(), key.as_ptr(), key.len(), &mut 0);
            let found = if id != 0 && id == registered { "its id" } else { "no id" };
            format!("{status} {found}, of an unknown name {unknown}")
        }
        "enqueue_shared_queue" => {
            let (_, id) = register();
            let status = host::enqueue(id, b"item".as_ptr(), 4);
            format!(
                "{status}, then {}, on an unknown queue {}",
                take(id),
                host::enqueue(999, b"x".as_ptr(), 1)
            )
        }
        "dequeue_shared_queue" => {
            let (_, id) = register();
            host::enqueue(id, b"item".as_ptr(), 4);
            format!("{}, then {}, on an unknown queue {}", take(id), take(id), take(999))
        }
        _ => return None,
    })
}

fn counting(function: &str) -> Option<String> {
    let define = |kind: u32, name: &str| {
        let mut id = 0;
        (host::define_metric(kind, name.as_ptr(), name.len(), &mut id), id)
    };
    let value = |id| {
        let mut value = 0;
        let status = host::get_metric(id, &mut value);
        format!("{status} {value}")
    };
    let gauge = |to: u64| {
        let (_, id) = define(1, "probe_gauge");
        host::record_metric(id, to);
        id
    };
    Some(match function {
        "define_metric" => {
            let (status, id) = define(0, "probe_counter");
            let (_, again) = define(0, "probe_counter");
            let (unknown, _) = define(7, "probe_strange");
            let same = if status == 0 && id == again { "its id" } else { "no id" };
            format!("{status} {same}, of an unknown kind {unknown}")
        }
        "increment_metric" => {
            let id = gauge(5);
            let status = host::increment_metric(id, 2);
            format!(
                "{status}, then {}, of an unknown one {}",
                value(id),
                host::increment_metric(0xff_fffd, 1)
            )
        }
        "record_metric" => {
            let id = gauge(5);
            let status = host::record_metric(id, 9);
            format!(
                "{status}, then {}, of an unknown one {}",
                value(id),
                host::record_metric(0xff_fffd, 1)
            )
        }
        "get_metric" => {
            let id = gauge(5);
            format!("{}, of an unknown one {}", value(id), host::get_metric(0xff_fffd, &mut 0))
        }
        _ => return None,
    })
}
