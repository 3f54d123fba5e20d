//! The host's functions, behind doors that never panic on what traffic brings: values are bytes,
//! and a value that is not there is `None`. Natively, a mock stands in for the host.
//!
//! It never uses the `proxy-wasm` crate's trait methods or its text getters: they unwrap.

use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod world;

/// The host's wall clock: time since 1970.
pub fn now() -> Duration {
    let now = hostcalls::get_current_time().unwrap_or(UNIX_EPOCH);
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The plugin's configuration; only while it is being configured.
pub(crate) fn configuration() -> Vec<u8> {
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, i32::MAX as usize)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// The first value of a header.
pub(crate) fn header(map: MapType, name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(map, name).ok().flatten()
}

/// Every value of a header, in order, read through the whole map: the single getter shows only
/// the first, or joins them, depending on the host.
pub(crate) fn header_values(map: MapType, name: &str) -> Vec<Vec<u8>> {
    let pairs = hostcalls::get_map_bytes(map).unwrap_or_default();
    let named = pairs.into_iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value).collect()
}

/// Replaces every value of a header.
pub(crate) fn set_header(map: MapType, name: &str, value: &[u8]) {
    let _ = hostcalls::set_map_value_bytes(map, name, Some(value));
}

/// Adds a value beside those that are there.
pub(crate) fn append_header(map: MapType, name: &str, value: &[u8]) {
    let _ = hostcalls::add_map_value_bytes(map, name, value);
}

/// Removes every value of a header.
pub(crate) fn remove_header(map: MapType, name: &str) {
    let _ = hostcalls::remove_map_value(map, name);
}

/// A property, in the host's encoding.
pub(crate) fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// A property that is a number: eight bytes, little-endian.
pub(crate) fn integer(path: &[&str]) -> Option<i64> {
    Some(i64::from_le_bytes(property(path)?.try_into().ok()?))
}

/// As text; bytes that are not UTF-8 become U+FFFD.
pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
