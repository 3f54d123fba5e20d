//! What a guest asked for during a callback, to be carried out by the embedder once the callback has returned.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::fields::Fields;
use crate::phase::Direction;
use crate::state::{RequestHead, StreamKey};

/// A context of one exchange inside one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextId {
    /// Ids count from 1; an absent one takes no room of its own.
    number: NonZeroU32,
    /// The exchange, so that no callback has to look for it.
    pub(crate) stream: StreamKey,
}

impl ContextId {
    pub(crate) fn new(number: NonZeroU32, stream: StreamKey) -> ContextId {
        ContextId { number, stream }
    }

    /// As guests know it.
    pub(crate) fn number(self) -> u32 {
        self.number.get()
    }
}

/// Identifies a callout within the instance that made it; never that of another outstanding callout. The two low bits tell
/// its kind (0: HTTP, 1: unary gRPC, 2: gRPC stream, 3: Redis), the others count up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u32);

/// Something a guest asked for.
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "an effect is moved once, out of its queue")]
pub enum Effect {
    /// `proxy_continue_stream`: go on with one direction of a paused exchange. Harmless if it is not paused.
    Continue(StreamKey, Direction),
    /// `proxy_close_stream`: reset the exchange, or close the connection.
    Close(StreamKey),
    /// `proxy_send_local_response`: answer the client. Beats whatever action the callback returned; a second reply for
    /// the same stream is dropped here and logged.
    Reply(StreamKey, LocalReply),
    /// `proxy_inject_encoded_data_to_filter_chain`: bytes of a response's body for whoever comes after the filter on the
    /// way to the client; true: they are the last.
    Inject(StreamKey, Bytes, bool),
    /// `proxy_http_call`: to be answered by exactly one [`Plugin::http_call_response`](crate::Plugin::http_call_response).
    HttpCall(HttpCall),
    /// `proxy_grpc_call`, `proxy_grpc_stream`: what comes back is reported by
    /// [`Plugin::grpc_event`](crate::Plugin::grpc_event), up to exactly one completion.
    GrpcCall(GrpcCall),
    /// `proxy_grpc_send`: one message more on a stream.
    GrpcSend(CallId, Bytes),
    /// The guest sends no more on a stream; it goes on receiving.
    GrpcClose(CallId),
    /// `proxy_grpc_cancel`: the guest is to hear no more of a call or stream, and the other side that it is over.
    GrpcCancel(CallId),
    /// `proxy_redis_init`: how to use the upstream of this name as a Redis.
    RedisInit(String, RedisSettings),
    /// `proxy_redis_call`: to be answered by exactly one
    /// [`Plugin::redis_call_response`](crate::Plugin::redis_call_response).
    RedisCall(RedisCall),
    /// `proxy_set_tick_period_milliseconds`: zero cancels the timer.
    TickPeriod(Duration),
    /// `proxy_done` after `proxy_on_done` of the root context had answered "not yet".
    Done,
}

/// The response a guest wants the client to get.
#[derive(Debug)]
pub struct LocalReply {
    /// A status outside 100–599 has become 500.
    pub status: StatusCode,
    /// For the access log; white space replaced by `_`.
    pub details: String,
    /// The headers of the guest; to be added after the host's own.
    pub headers: Fields,
    /// May be empty.
    pub body: Bytes,
    /// `None` when the guest left it unset (outside 0–16).
    pub grpc_status: Option<u8>,
}

/// An HTTP request that a guest wants made.
#[derive(Debug)]
pub struct HttpCall {
    /// Names the completion.
    pub id: CallId,
    /// Name of the upstream as the guest spelled it; known to [`Services::knows_upstream`](crate::Services::knows_upstream).
    pub upstream: String,
    /// `:method`, `:path` and `:authority` are present.
    pub head: RequestHead,
    /// May be empty.
    pub body: Bytes,
    /// May be empty.
    pub trailers: Fields,
    /// `None`: the guest set none (0); the embedder imposes its maximum.
    pub timeout: Option<Duration>,
}

/// A gRPC call that a guest wants made.
#[derive(Debug)]
pub struct GrpcCall {
    /// Names what comes back.
    pub id: CallId,
    /// Name of the upstream; known to [`Services::knows_upstream`](crate::Services::knows_upstream).
    pub upstream: String,
    /// As the guest wants to name the server; may be empty.
    pub authority: String,
    /// `/package.Service/Method`
    pub path: String,
    /// To be sent with the head; without framing and pseudo headers.
    pub metadata: Fields,
    /// `Some`: a unary call with this message; `None`: a stream.
    pub message: Option<Bytes>,
    /// `None`: the guest set none, or it is a stream.
    pub timeout: Option<Duration>,
}

/// How a guest wants to use a Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Empty: the default one.
    pub user: Bytes,
    /// Empty: none.
    pub password: Bytes,
    /// 0 is where connections begin.
    pub database: u32,
    /// For each command; `None`: the guest set none (0).
    pub timeout: Option<Duration>,
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("RedisSettings")
            .field("database", &self.database)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A Redis command that a guest wants sent.
#[derive(Debug)]
pub struct RedisCall {
    /// Names the completion.
    pub id: CallId,
    /// Name of the upstream; known, and named before by an [`Effect::RedisInit`].
    pub upstream: String,
    /// Exactly one command, as an array of bulk strings.
    pub query: Bytes,
}
