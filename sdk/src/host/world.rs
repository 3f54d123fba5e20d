//! What the mock host knows: one world for each thread, so that tests run side by side. It answers
//! as Envoy does, and knows nothing of filters; the doors in `native` and the harness in `test` are
//! its only users.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use proxy_wasm::types::{MapType, MetricType, Status};

/// The context of the plugin itself.
pub(crate) const ROOT: u32 = 1;

/// Names in lower case, in order, repeated where they are.
pub(crate) type Headers = Vec<(String, Vec<u8>)>;

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// Looks at this thread's world, or changes it.
pub(crate) fn world<R>(look: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(look)
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) alive: bool,
    pub(crate) now: Duration,
    /// Period, and when it fires next.
    pub(crate) tick: Option<(Duration, Duration)>,
    pub(crate) configuration: Vec<u8>,
    pub(crate) logs: Vec<String>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) shared: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    pub(crate) streams: BTreeMap<u32, Exchange>,
    /// The context in effect.
    pub(crate) current: u32,
}

pub(crate) struct Metric {
    pub(crate) kind: MetricType,
    pub(crate) name: String,
    /// A histogram's sum.
    pub(crate) value: u64,
}

#[derive(Default)]
pub(crate) struct Exchange {
    pub(crate) request: Headers,
    pub(crate) response: Headers,
    /// By path, its parts joined by NUL.
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) body: Vec<u8>,
    pub(crate) replied: bool,
    /// When it went on, or was answered.
    pub(crate) released: Option<Duration>,
}

impl World {
    pub(crate) fn exchange(&mut self) -> Option<&mut Exchange> {
        self.streams.get_mut(&self.current)
    }

    /// The header map of the stream in effect.
    ///
    /// # Errors
    /// As Envoy: there is no such map now.
    pub(crate) fn map(&mut self, map: MapType) -> Result<&mut Headers, Status> {
        let exchange = self.exchange().ok_or(Status::BadArgument)?;
        match map {
            MapType::HttpRequestHeaders => Ok(&mut exchange.request),
            MapType::HttpResponseHeaders if !exchange.response.is_empty() => {
                Ok(&mut exchange.response)
            }
            _ => Err(Status::BadArgument),
        }
    }

    pub(crate) fn property(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        let exchange = self.exchange()?;
        if let Some(value) = exchange.properties.get(path) {
            return Some(value.clone());
        }
        let parts: Vec<&str> = std::str::from_utf8(path).ok()?.split('\0').collect();
        let joined = |map: &Headers, name: &str| {
            let values: Vec<&[u8]> =
                map.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value).collect();
            (!values.is_empty()).then(|| values.join(&b','))
        };
        match parts.as_slice() {
            ["request", "headers", name] => joined(&exchange.request, name),
            ["response", "headers", name] => joined(&exchange.response, name),
            ["request", "path"] => joined(&exchange.request, ":path"),
            ["request", "method"] => joined(&exchange.request, ":method"),
            ["request", "host"] => joined(&exchange.request, ":authority"),
            ["response", "code"] => {
                let status = joined(&exchange.response, ":status")?;
                let status: i64 = std::str::from_utf8(&status).ok()?.parse().ok()?;
                Some(status.to_le_bytes().to_vec())
            }
            _ => None,
        }
    }

    /// The number of a metric, made when it is new.
    pub(crate) fn metric(&mut self, kind: MetricType, name: &str) -> u32 {
        let known = self.metrics.iter().position(|metric| metric.name == name);
        let index = known.unwrap_or_else(|| {
            self.metrics.push(Metric { kind, name: name.to_owned(), value: 0 });
            self.metrics.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// The exchange in effect goes on, or has its answer.
    pub(crate) fn release(&mut self) {
        let now = self.now;
        if let Some(exchange) = self.exchange() {
            exchange.released.get_or_insert(now);
        }
    }
}

/// Removes every value of a header.
pub(crate) fn remove(headers: &mut Headers, name: &str) {
    headers.retain(|(key, _)| key != name);
}
