//! The request's head, as a filter reads and edits it. Each word is one call of the host; nothing
//! is cached, so nothing goes stale.

use std::net::SocketAddr;

use proxy_wasm::types::MapType;

use crate::host;

const MAP: MapType = MapType::HttpRequestHeaders;

/// The request that is being filtered.
#[derive(Debug)]
pub struct Request {
    body: bool,
}

impl Request {
    pub(crate) fn of_stream(body: bool) -> Request {
        Request { body }
    }

    /// `GET`, `POST`, …
    pub fn method(&self) -> String {
        self.header(":method").unwrap_or_default()
    }

    /// Path and query, as received.
    pub fn path(&self) -> String {
        self.header(":path").unwrap_or_default()
    }

    /// Host and, if given, port.
    pub fn authority(&self) -> String {
        self.header(":authority").unwrap_or_default()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> String {
        self.header(":scheme").unwrap_or_default()
    }

    /// A header's first value as text; bytes that are not UTF-8 become U+FFFD. To decide about
    /// access, judge [`headers`](Request::headers): a client may repeat a header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.header_bytes(name).map(host::text)
    }

    /// A header's first value.
    pub fn header_bytes(&self, name: &str) -> Option<Vec<u8>> {
        host::header(MAP, name)
    }

    /// All values of a header, in order, as text; bytes that are not UTF-8 become U+FFFD.
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.headers_bytes(name).into_iter().map(host::text).collect()
    }

    /// All values of a header, in order.
    pub fn headers_bytes(&self, name: &str) -> Vec<Vec<u8>> {
        host::header_values(MAP, name)
    }

    /// The first cookie of that name, over all `cookie` headers.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.headers("cookie").iter().flat_map(|line| line.split(';')).find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
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

    /// Replaces path and query.
    pub fn set_path(&mut self, path: &str) {
        self.set_header(":path", path);
    }

    /// Replaces host and port.
    pub fn set_authority(&mut self, authority: &str) {
        self.set_header(":authority", authority);
    }

    /// Whether a body follows. Some hosts cannot tell and say `true`.
    pub fn has_body(&self) -> bool {
        self.body
    }

    /// The address of whoever opened the connection.
    pub fn peer(&self) -> Option<SocketAddr> {
        host::text(self.property(&["source", "address"])?).parse().ok()
    }

    /// A property by its path, in the host's encoding: text as it is, numbers as eight bytes
    /// little-endian, booleans as one.
    pub fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        host::property(path)
    }

    /// A property that is text.
    pub fn text_property(&self, path: &[&str]) -> Option<String> {
        self.property(path).map(host::text)
    }

    /// A property that is a number.
    pub fn integer_property(&self, path: &[&str]) -> Option<i64> {
        host::integer(path)
    }
}
