//! The doors through which the `proxy-wasm` crate leaves a module, defined for native builds: every
//! function that version 0.2.5 imports, answered by the mock in [`world`](super::world). Callouts,
//! queues and foreign functions answer with an error.
//!
//! The one place of the SDK with unsafe code. Only `proxy_wasm::hostcalls` calls these functions,
//! always in the same two patterns, and the three functions at the top are the only ones that
//! dereference:
//!
//! - `(data, size)` comes from a live `&[u8]` or `&str`, or is null;
//! - a returned value is written to the address of a local variable, and what `data` then points
//!   to becomes `Vec::from_raw_parts(data, size, size)`.
#![allow(unsafe_code, reason = "the symbols that proxy-wasm imports have no other form natively")]

use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType, Status, StreamType};

use super::world::{Headers, ROOT, remove, world};

/// The bytes that the caller lends.
///
/// # Safety
/// `data` is null, or valid for reads of `size` bytes while the result lives.
unsafe fn lent<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: not null, so valid for `size` bytes: the caller's promise.
    unsafe { std::slice::from_raw_parts(data, size) }
}

/// Stores a value in the caller's variable.
///
/// # Safety
/// `at` is the address of a live variable of this type.
unsafe fn store<T>(at: *mut T, value: T) -> Status {
    // SAFETY: valid for a write of `T`: the caller's promise.
    unsafe { at.write(value) };
    Status::Ok
}

/// Gives bytes away: the caller frees them as a `Vec` with equal length and capacity, which is
/// what a boxed slice is. Nothing is given as null, as hosts do.
///
/// # Safety
/// `data` and `size` are the addresses of live variables.
unsafe fn give(bytes: Vec<u8>, data: *mut *mut u8, size: *mut usize) -> Status {
    let length = bytes.len();
    let start = match length {
        0 => std::ptr::null_mut(),
        _ => Box::into_raw(bytes.into_boxed_slice()).cast::<u8>(),
    };
    // SAFETY: both are live variables: the caller's promise.
    unsafe {
        store(data, start);
        store(size, length)
    }
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_lowercase()
}

fn edit(map: MapType, change: impl FnOnce(&mut Headers)) -> Status {
    world(|world| match world.map(map) {
        Ok(headers) => {
            change(headers);
            Status::Ok
        }
        Err(status) => status,
    })
}

/// The map encoding of the ABI: count, sizes, then names and values, each ending in NUL.
pub(super) fn encode(headers: &Headers) -> Vec<u8> {
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = size(headers.len()).to_vec();
    for (name, value) in headers {
        bytes.extend(size(name.len()));
        bytes.extend(size(value.len()));
    }
    for (name, value) in headers {
        bytes.extend(name.bytes().chain([0]));
        bytes.extend(value.iter().copied().chain([0]));
    }
    bytes
}

/// The reverse of [`encode`]; what is malformed reads as empty, as in Envoy.
fn decode(bytes: &[u8]) -> Headers {
    let number = |at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let read = || {
        let count = number(0)?;
        let mut at = count.checked_mul(8)?.checked_add(4)?;
        let mut take = |length: usize| {
            let part = bytes.get(at..at.checked_add(length)?)?;
            at += length + 1;
            Some(part)
        };
        (0..count)
            .map(|entry| {
                let key = take(number(4 + entry * 8)?)?;
                Some((name(key), take(number(8 + entry * 8)?)?.to_vec()))
            })
            .collect::<Option<Headers>>()
    };
    read().unwrap_or_default()
}

/// Defines the doors. Each is called by `proxy_wasm::hostcalls` alone, with the arguments that this
/// module's opening describes; that is the safety of every `unsafe` block inside.
macro_rules! doors {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $type),*) -> Status $body
    )*};
}

/// Doors that lead nowhere natively.
macro_rules! closed {
    ($($name:ident($($type:ty),*))*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($(_: $type),*) -> Status {
            Status::InternalFailure
        }
    )*};
}

type In = *const u8;
type Out = *mut *mut u8;

doors! {
    fn proxy_log(level: LogLevel, data: In, size: usize) {
        // SAFETY: as the module's opening says.
        let text = String::from_utf8_lossy(unsafe { lent(data, size) });
        world(|world| world.logs.push(format!("{level:?}: {text}").to_lowercase()));
        Status::Ok
    }

    fn proxy_get_log_level(level: *mut LogLevel) {
        // SAFETY: as the module's opening says.
        unsafe { store(level, LogLevel::Trace) }
    }

    fn proxy_get_current_time_nanoseconds(time: *mut u64) {
        let now = world(|world| world.now.as_nanos());
        // SAFETY: as the module's opening says.
        unsafe { store(time, u64::try_from(now).unwrap_or(u64::MAX)) }
    }

    fn proxy_set_tick_period_milliseconds(period: u32) {
        let period = std::time::Duration::from_millis(period.into());
        world(|world| world.tick = (!period.is_zero()).then(|| (period, world.now + period)));
        Status::Ok
    }

    fn proxy_get_buffer_bytes(
        buffer: BufferType, start: usize, max: usize, data: Out, size: *mut usize,
    ) {
        let bytes = world(|world| match buffer {
            BufferType::PluginConfiguration => world.configuration.clone(),
            _ => Vec::new(),
        });
        let part = bytes.into_iter().skip(start).take(max).collect();
        // SAFETY: as the module's opening says.
        unsafe { give(part, data, size) }
    }

    fn proxy_get_header_map_pairs(map: MapType, data: Out, size: *mut usize) {
        match world(|world| world.map(map).map(|headers| encode(headers))) {
            // SAFETY: as the module's opening says.
            Ok(bytes) => unsafe { give(bytes, data, size) },
            Err(status) => status,
        }
    }

    fn proxy_set_header_map_pairs(map: MapType, data: In, size: usize) {
        // SAFETY: as the module's opening says.
        let headers = decode(unsafe { lent(data, size) });
        edit(map, |map| *map = headers)
    }

    fn proxy_get_header_map_value(
        map: MapType, key: In, key_size: usize, data: Out, size: *mut usize,
    ) {
        // SAFETY: as the module's opening says.
        let key = name(unsafe { lent(key, key_size) });
        let value = world(|world| {
            let headers = world.map(map)?;
            let found = headers.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value.clone()).ok_or(Status::NotFound)
        });
        match value {
            // SAFETY: as the module's opening says.
            Ok(value) => unsafe { give(value, data, size) },
            Err(status) => status,
        }
    }

    fn proxy_remove_header_map_value(map: MapType, key: In, key_size: usize) {
        // SAFETY: as the module's opening says.
        let key = name(unsafe { lent(key, key_size) });
        edit(map, |headers| remove(headers, &key))
    }

    fn proxy_replace_header_map_value(
        map: MapType, key: In, key_size: usize, value: In, value_size: usize,
    ) {
        // SAFETY: as the module's opening says.
        let (key, value) = unsafe { (name(lent(key, key_size)), lent(value, value_size).to_vec()) };
        edit(map, |headers| match headers.iter().position(|(name, _)| *name == key) {
            Some(first) => {
                headers[first].1 = value;
                let mut index = 0;
                headers.retain(|(name, _)| {
                    index += 1;
                    *name != key || index == first + 1
                });
            }
            None => headers.push((key, value)),
        })
    }

    fn proxy_add_header_map_value(
        map: MapType, key: In, key_size: usize, value: In, value_size: usize,
    ) {
        // SAFETY: as the module's opening says.
        let (key, value) = unsafe { (name(lent(key, key_size)), lent(value, value_size).to_vec()) };
        edit(map, |headers| headers.push((key, value)))
    }

    fn proxy_get_property(path: In, path_size: usize, data: Out, size: *mut usize) {
        // SAFETY: as the module's opening says.
        let path = unsafe { lent(path, path_size) };
        match world(|world| world.property(path)) {
            // SAFETY: as the module's opening says.
            Some(value) => unsafe { give(value, data, size) },
            None => Status::NotFound,
        }
    }

    fn proxy_set_property(path: In, path_size: usize, value: In, value_size: usize) {
        // SAFETY: as the module's opening says.
        let (path, value) = unsafe { (lent(path, path_size), lent(value, value_size)) };
        world(|world| match world.exchange() {
            Some(exchange) => {
                exchange.properties.insert(path.to_vec(), value.to_vec());
                Status::Ok
            }
            None => Status::NotFound,
        })
    }

    fn proxy_get_shared_data(
        key: In, key_size: usize, data: Out, size: *mut usize, cas: *mut u32,
    ) {
        // SAFETY: as the module's opening says.
        let key = unsafe { lent(key, key_size) };
        match world(|world| world.shared.get(key).cloned()) {
            // SAFETY: as the module's opening says.
            Some((value, version)) => unsafe {
                store(cas, version);
                give(value, data, size)
            },
            None => Status::NotFound,
        }
    }

    fn proxy_set_shared_data(key: In, key_size: usize, value: In, value_size: usize, cas: u32) {
        // SAFETY: as the module's opening says.
        let (key, value) = unsafe { (lent(key, key_size), lent(value, value_size)) };
        world(|world| {
            let version = world.shared.get(key).map_or(0, |(_, version)| *version);
            if cas != 0 && cas != version {
                return Status::CasMismatch;
            }
            world.shared.insert(key.to_vec(), (value.to_vec(), version + 1));
            Status::Ok
        })
    }

    fn proxy_continue_stream(_stream: StreamType) {
        world(|world| world.release());
        Status::Ok
    }

    fn proxy_send_local_response(
        status: u32, _details: In, _details_size: usize, body: In, body_size: usize,
        headers: In, headers_size: usize, grpc: i32,
    ) {
        // SAFETY: as the module's opening says.
        let (body, headers) = unsafe { (lent(body, body_size), lent(headers, headers_size)) };
        world(|world| {
            world.release();
            let Some(exchange) = world.exchange().filter(|exchange| !exchange.replied) else {
                return;
            };
            exchange.replied = true;
            exchange.response = vec![(":status".to_owned(), status.to_string().into())];
            exchange.response.extend(decode(headers));
            match grpc {
                0..=16 => exchange.response.extend([
                    ("grpc-status".to_owned(), grpc.to_string().into()),
                    ("grpc-message".to_owned(), body.to_vec()),
                ]),
                _ => exchange.body = body.to_vec(),
            }
        });
        Status::Ok
    }

    fn proxy_set_effective_context(context: u32) {
        world(|world| {
            if context != ROOT && !world.streams.contains_key(&context) {
                return Status::BadArgument;
            }
            world.current = context;
            Status::Ok
        })
    }

    fn proxy_define_metric(kind: MetricType, data: In, size: usize, id: *mut u32) {
        // SAFETY: as the module's opening says.
        let name = String::from_utf8_lossy(unsafe { lent(data, size) });
        // SAFETY: as the module's opening says.
        unsafe { store(id, world(|world| world.metric(kind, &name))) }
    }

    fn proxy_get_metric(id: u32, value: *mut u64) {
        match world(|world| world.metrics.get(id as usize).map(|metric| metric.value)) {
            // SAFETY: as the module's opening says.
            Some(current) => unsafe { store(value, current) },
            None => Status::NotFound,
        }
    }

    fn proxy_record_metric(id: u32, value: u64) {
        world(|world| match world.metrics.get_mut(id as usize) {
            Some(metric) if metric.kind == MetricType::Gauge => {
                metric.value = value;
                Status::Ok
            }
            Some(metric) => {
                metric.value = metric.value.wrapping_add(value);
                Status::Ok
            }
            None => Status::NotFound,
        })
    }

    fn proxy_increment_metric(id: u32, offset: i64) {
        world(|world| match world.metrics.get_mut(id as usize) {
            Some(metric) if metric.kind == MetricType::Histogram => Status::BadArgument,
            Some(metric) => {
                metric.value = metric.value.wrapping_add_signed(offset);
                Status::Ok
            }
            None => Status::NotFound,
        })
    }
}

closed! {
    proxy_set_buffer_bytes(BufferType, usize, usize, In, usize)
    proxy_register_shared_queue(In, usize, *mut u32)
    proxy_resolve_shared_queue(In, usize, In, usize, *mut u32)
    proxy_dequeue_shared_queue(u32, Out, *mut usize)
    proxy_enqueue_shared_queue(u32, In, usize)
    proxy_close_stream(StreamType)
    proxy_http_call(In, usize, In, usize, In, usize, In, usize, u32, *mut u32)
    proxy_grpc_call(
        In, usize, In, usize, In, usize, In, usize, In, usize, u32, *mut u32
    )
    proxy_grpc_stream(In, usize, In, usize, In, usize, In, usize, *mut u32)
    proxy_grpc_send(u32, In, usize, bool)
    proxy_grpc_cancel(u32)
    proxy_grpc_close(u32)
    proxy_get_status(*mut u32, Out, *mut usize)
    proxy_call_foreign_function(In, usize, In, usize, Out, *mut usize)
    proxy_done()
}
