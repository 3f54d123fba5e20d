//! What a callback can see: the exchanges of one worker, HTTP or TCP, with their heads, bytes and attributes.
//!
//! The exchanges of a worker live in one [`Streams`] table that belongs to the embedder and is lent to an instance for
//! the time of a callback. So a guest reaches every exchange it holds a context in, also after
//! `proxy_set_effective_context`, and nothing needs a lock or a reference count.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use slab::Slab;

use crate::attributes::Attributes;
use crate::buffer::Buffer;
use crate::fields::Fields;
use crate::filter_state::FilterState;
use crate::phase::Direction;

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
    pub headers: Fields,
}

/// Head of a response; `:status` is the field.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// `:status`
    pub status: StatusCode,
    /// Everything else, hop-by-hop fields removed.
    pub headers: Fields,
}

/// One exchange as guests see it.
#[derive(Debug)]
pub struct HttpStream {
    /// Readable for the life of the stream. Shared with whoever sends it: a guest's change makes a copy then.
    pub request: Arc<RequestHead>,
    /// The part of the request body that the current body callback sees.
    pub request_body: Buffer,
    /// Present from the trailers phase on, or once a guest has added one in the last body callback. Most streams have none, which
    /// shall take little room.
    pub request_trailers: Option<Box<Fields>>,
    /// Present from the response-headers phase on.
    pub response: Option<ResponseHead>,
    /// The part of the response body that the current body callback sees.
    pub response_body: Buffer,
    /// As `request_trailers`.
    pub response_trailers: Option<Box<Fields>>,
    /// By [`Direction`]: the body stands in its place so that callbacks of the root context can read and change what the
    /// filter holds. Outside of body callbacks there is none otherwise.
    pub lent: [bool; 2],
    /// A guest may have changed the request head.
    pub request_edited: bool,
    /// A guest may have changed one of its pseudo headers.
    pub target_edited: bool,
    /// A guest wants the route selected again. The embedder takes this back when it has done so.
    pub route_cleared: bool,
    /// The host that a guest wants the request sent to, one of [`Attributes::upstream_hosts`].
    pub upstream_override: Option<Arc<str>>,
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
    #[inline]
    pub fn new(request: impl Into<Arc<RequestHead>>, attributes: Attributes) -> HttpStream {
        HttpStream {
            request: request.into(),
            request_body: Buffer::default(),
            request_trailers: None,
            response: None,
            response_body: Buffer::default(),
            response_trailers: None,
            lent: [false; 2],
            request_edited: false,
            target_edited: false,
            route_cleared: false,
            upstream_override: None,
            request_sent: false,
            response_sent: false,
            attributes,
            filter_state: FilterState::default(),
        }
    }
}

/// One TCP connection of a client as guests see it.
#[derive(Debug)]
pub struct TcpStream {
    /// Bytes from the client that the filter has at hand; `None`: there are none to be read or changed.
    pub downstream: Option<Buffer>,
    /// Bytes from the upstream, likewise.
    pub upstream: Option<Buffer>,
    /// Everything that `proxy_get_property` answers from; the bytes of a request are those from the client.
    pub attributes: Attributes,
    /// As that of an [`HttpStream`].
    pub filter_state: FilterState,
}

impl TcpStream {
    /// A connection that has just been accepted.
    pub fn new(attributes: Attributes) -> TcpStream {
        let filter_state = FilterState::default();
        TcpStream { downstream: None, upstream: None, attributes, filter_state }
    }

    /// The bytes of one direction that the filter has at hand.
    pub fn data(&self, direction: Direction) -> &Option<Buffer> {
        match direction {
            Direction::Request => &self.downstream,
            Direction::Response => &self.upstream,
        }
    }

    /// The bytes of one direction that the filter has at hand.
    pub fn data_mut(&mut self, direction: Direction) -> &mut Option<Buffer> {
        match direction {
            Direction::Request => &mut self.downstream,
            Direction::Response => &mut self.upstream,
        }
    }
}

/// What a context of a guest stands for.
#[derive(Debug)]
pub enum Stream {
    /// A request and its response.
    Http(Box<HttpStream>),
    /// A client's connection, and the upstream's that belongs to it.
    Tcp(Box<TcpStream>),
}

impl Stream {
    /// The exchange, if it is one of HTTP.
    pub fn http(&self) -> Option<&HttpStream> {
        match self {
            Stream::Http(stream) => Some(stream),
            Stream::Tcp(_) => None,
        }
    }

    /// The connection, if it is one without HTTP.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(stream),
            Stream::Http(_) => None,
        }
    }

    /// What both kinds know.
    pub fn attributes(&self) -> &Attributes {
        match self {
            Stream::Http(stream) => &stream.attributes,
            Stream::Tcp(stream) => &stream.attributes,
        }
    }

    /// What guests stored with it.
    pub fn filter_state(&self) -> &FilterState {
        match self {
            Stream::Http(stream) => &stream.filter_state,
            Stream::Tcp(stream) => &stream.filter_state,
        }
    }

    /// What guests stored with it.
    pub fn filter_state_mut(&mut self) -> &mut FilterState {
        match self {
            Stream::Http(stream) => &mut stream.filter_state,
            Stream::Tcp(stream) => &mut stream.filter_state,
        }
    }
}

impl From<Box<HttpStream>> for Stream {
    fn from(stream: Box<HttpStream>) -> Stream {
        Stream::Http(stream)
    }
}

impl From<Box<TcpStream>> for Stream {
    fn from(stream: Box<TcpStream>) -> Stream {
        Stream::Tcp(stream)
    }
}

/// The exchanges of one worker. Boxed, since they are lent and taken back for every callback.
#[derive(Debug, Default)]
pub struct Streams {
    slab: Box<Slab<Stream>>,
}

impl Streams {
    /// Adds an exchange or a connection.
    pub fn insert(&mut self, stream: impl Into<Stream>) -> StreamKey {
        StreamKey(self.slab.insert(stream.into()))
    }

    /// Of either kind, unless it was removed.
    pub fn stream(&self, key: StreamKey) -> Option<&Stream> {
        self.slab.get(key.0)
    }

    /// Of either kind, unless it was removed.
    pub fn stream_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.slab.get_mut(key.0)
    }

    /// The exchange, unless it was removed or is none of HTTP.
    pub fn get(&self, key: StreamKey) -> Option<&HttpStream> {
        self.stream(key)?.http()
    }

    /// The exchange, unless it was removed or is none of HTTP.
    pub fn get_mut(&mut self, key: StreamKey) -> Option<&mut HttpStream> {
        match self.stream_mut(key)? {
            Stream::Http(stream) => Some(stream),
            Stream::Tcp(_) => None,
        }
    }

    /// The connection, unless it was removed or is an exchange of HTTP.
    pub fn tcp(&self, key: StreamKey) -> Option<&TcpStream> {
        self.stream(key)?.tcp()
    }

    /// The connection, unless it was removed or is an exchange of HTTP.
    pub fn tcp_mut(&mut self, key: StreamKey) -> Option<&mut TcpStream> {
        match self.stream_mut(key)? {
            Stream::Tcp(stream) => Some(stream),
            Stream::Http(_) => None,
        }
    }

    /// Takes an exchange out. Its contexts must have been deleted in every plugin.
    pub fn remove(&mut self, key: StreamKey) -> Option<Stream> {
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
