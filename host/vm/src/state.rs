//! What a callback can see: the exchanges of one worker, their heads, bodies and attributes.
//!
//! The exchanges of a worker live in one [`Streams`] table that belongs to the embedder and is lent to an instance for
//! the time of a callback. So a guest reaches every exchange it holds a context in, also after
//! `proxy_set_effective_context`, and nothing needs a lock or a reference count.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use slab::Slab;

use crate::attributes::Attributes;
use crate::buffer::Buffer;
use crate::filter_state::FilterState;

/// Names an exchange within its worker. Reused only after the exchange was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey(pub usize);

/// Head of a request. The pseudo headers of the ABI (`:method`, `:scheme`, `:authority`, `:path`) are the fields; `host`
/// never stands in `headers`. The fields hold what the client sent and guests wrote, so they may be no valid URI parts.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// `:method`
    pub method: Method,
    /// `:scheme`
    pub scheme: Bytes,
    /// `:authority`
    pub authority: Bytes,
    /// `:path`, with the query
    pub path: Bytes,
    /// Everything else, hop-by-hop fields removed.
    pub headers: HeaderMap,
}

/// Head of a response; `:status` is the field.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// `:status`
    pub status: StatusCode,
    /// Everything else, hop-by-hop fields removed.
    pub headers: HeaderMap,
}

/// One exchange as guests see it.
#[derive(Debug)]
pub struct HttpStream {
    /// Readable for the life of the stream.
    pub request: RequestHead,
    /// The part of the request body that the current body callback sees.
    pub request_body: Buffer,
    /// Present from the trailers phase on, or once a guest has added one in the last body callback.
    pub request_trailers: Option<HeaderMap>,
    /// Present from the response-headers phase on.
    pub response: Option<ResponseHead>,
    /// The part of the response body that the current body callback sees.
    pub response_body: Buffer,
    /// As `request_trailers`.
    pub response_trailers: Option<HeaderMap>,
    /// A guest may have changed the request head.
    pub request_edited: bool,
    /// The request head has left for the upstream: guests may read it, and writes are ignored and counted.
    pub request_sent: bool,
    /// The response head has left for the client: guests may read it, and writes are ignored and counted.
    pub response_sent: bool,
    /// Everything else that `proxy_get_property` answers from.
    pub attributes: Attributes,
    /// What guests stored with it, visible to every filter.
    pub filter_state: FilterState,
}

impl HttpStream {
    /// A stream at the start of its request.
    pub fn new(request: RequestHead, attributes: Attributes) -> HttpStream {
        HttpStream {
            request,
            request_body: Buffer::default(),
            request_trailers: None,
            response: None,
            response_body: Buffer::default(),
            response_trailers: None,
            request_edited: false,
            request_sent: false,
            response_sent: false,
            attributes,
            filter_state: FilterState::default(),
        }
    }
}

/// The exchanges of one worker.
#[derive(Debug, Default)]
pub struct Streams {
    slab: Slab<Box<HttpStream>>,
}

impl Streams {
    /// Adds an exchange.
    pub fn insert(&mut self, stream: Box<HttpStream>) -> StreamKey {
        StreamKey(self.slab.insert(stream))
    }

    /// The exchange, unless it was removed.
    pub fn get(&self, key: StreamKey) -> Option<&HttpStream> {
        self.slab.get(key.0).map(Box::as_ref)
    }

    /// The exchange, unless it was removed.
    pub fn get_mut(&mut self, key: StreamKey) -> Option<&mut HttpStream> {
        self.slab.get_mut(key.0).map(Box::as_mut)
    }

    /// Takes an exchange out. Its contexts must have been deleted in every plugin.
    pub fn remove(&mut self, key: StreamKey) -> Option<Box<HttpStream>> {
        self.slab.try_remove(key.0)
    }

    /// Number of exchanges.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is no exchange.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}
