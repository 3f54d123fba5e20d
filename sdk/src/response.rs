//! The response's head, as a filter reads and edits it. Nothing here can wait: not every host can
//! hold a response back.

use proxy_wasm::types::MapType;

use crate::host;

const MAP: MapType = MapType::HttpResponseHeaders;

/// The response that is being filtered.
#[derive(Debug)]
pub struct Response(());

impl Response {
    pub(crate) fn of_stream() -> Response {
        Response(())
    }

    /// The status code; 0 where the host gives none.
    pub fn status(&self) -> u16 {
        self.header(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// A header's first value as text; bytes that are not UTF-8 become U+FFFD.
    pub fn header(&self, name: &str) -> Option<String> {
        self.header_bytes(name).map(host::text)
    }

    /// A header's first value.
    pub fn header_bytes(&self, name: &str) -> Option<Vec<u8>> {
        host::header(MAP, name)
    }

    /// All values of a header, in order, as text; bytes that are not UTF-8 become U+FFFD.
    pub fn headers(&self, name: &str) -> Vec<String> {
        host::header_values(MAP, name).into_iter().map(host::text).collect()
    }

    /// Replaces all values of a header.
    pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) {
        host::set_header(MAP, name, value.as_ref());
    }

    /// Adds a value beside those that are there.
    pub fn append_header(&mut self, name: &str, value: impl AsRef<[u8]>) {
        host::append_header(MAP, name, value.as_ref());
    }

    /// Removes all values of a header.
    pub fn remove_header(&mut self, name: &str) {
        host::remove_header(MAP, name);
    }

    /// A property by its path, in the host's encoding.
    pub fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        host::property(path)
    }
}
