//! The functions of a module that this host calls, looked up once for each instance. What a module does not export is
//! never called.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use crate::guest::Guest;
use crate::phase::{Direction, Phase, Phases};

/// A headers callback by the type it has: 0.1.0 knew no end of stream, though some of its modules do.
pub(crate) enum Headers {
    Two(TypedFunc<(u32, u32), u32>),
    Three(TypedFunc<(u32, u32, u32), u32>),
}

impl Headers {
    pub(crate) fn call(
        &self,
        store: &mut Store<Guest>,
        context: u32,
        count: u32,
        end_of_stream: bool,
    ) -> wasmtime::Result<u32> {
        match self {
            Headers::Two(callback) => callback.call(store, (context, count)),
            Headers::Three(callback) => {
                callback.call(store, (context, count, u32::from(end_of_stream)))
            }
        }
    }
}

type Body = TypedFunc<(u32, u32, u32), u32>;
type Trailers = TypedFunc<(u32, u32), u32>;
type NewConnection = TypedFunc<u32, u32>;
/// Context, who has closed.
type Closed = TypedFunc<(u32, u32), ()>;
/// Root context, callout, headers, bytes of body, trailers.
type CallResponse = TypedFunc<(u32, u32, u32, u32, u32), ()>;
/// Root context, callout, bytes of the message, entries of the metadata, or status.
pub(crate) type GrpcNews = TypedFunc<(u32, u32, u32), ()>;
/// Root context, callout, status, bytes of the reply.
type RedisReply = TypedFunc<(u32, u32, u32, u32), ()>;

/// Typed handles to the exports.
pub(crate) struct Callbacks {
    pub(crate) context_create: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) vm_start: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) configure: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) tick: Option<TypedFunc<u32, ()>>,
    pub(crate) queue_ready: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) http_call_response: Option<CallResponse>,
    pub(crate) grpc_initial_metadata: Option<GrpcNews>,
    pub(crate) grpc_receive: Option<GrpcNews>,
    pub(crate) grpc_trailing_metadata: Option<GrpcNews>,
    pub(crate) grpc_close: Option<GrpcNews>,
    pub(crate) redis_call_response: Option<RedisReply>,
    pub(crate) log: Option<TypedFunc<u32, ()>>,
    pub(crate) done: Option<TypedFunc<u32, u32>>,
    pub(crate) delete: Option<TypedFunc<u32, ()>>,
    request_headers: Option<Headers>,
    request_body: Option<Body>,
    request_trailers: Option<Trailers>,
    response_headers: Option<Headers>,
    response_body: Option<Body>,
    response_trailers: Option<Trailers>,
    new_connection: Option<NewConnection>,
    downstream_data: Option<Body>,
    upstream_data: Option<Body>,
    downstream_close: Option<Closed>,
    upstream_close: Option<Closed>,
    /// Those that have a callback here.
    pub(crate) phases: Phases,
}

impl Callbacks {
    pub(crate) fn of(instance: &Instance, store: &mut Store<Guest>) -> Callbacks {
        let mut callbacks = Callbacks {
            context_create: find(instance, store, "proxy_on_context_create"),
            vm_start: find(instance, store, "proxy_on_vm_start"),
            configure: find(instance, store, "proxy_on_configure"),
            tick: find(instance, store, "proxy_on_tick"),
            queue_ready: find(instance, store, "proxy_on_queue_ready"),
            http_call_response: find(instance, store, "proxy_on_http_call_response"),
            grpc_initial_metadata: find(instance, store, "proxy_on_grpc_receive_initial_metadata"),
            grpc_receive: find(instance, store, "proxy_on_grpc_receive"),
            // Some SDKs use the second name.
            grpc_trailing_metadata: find(
                instance,
                store,
                "proxy_on_grpc_receive_trailing_metadata",
            )
            .or_else(|| find(instance, store, "proxy_on_grpc_trailing_metadata")),
            grpc_close: find(instance, store, "proxy_on_grpc_close"),
            redis_call_response: find(instance, store, "proxy_on_redis_call_response"),
            log: find(instance, store, "proxy_on_log"),
            done: find(instance, store, "proxy_on_done"),
            delete: find(instance, store, "proxy_on_delete"),
            request_headers: headers(instance, store, "proxy_on_request_headers"),
            request_body: find(instance, store, "proxy_on_request_body"),
            request_trailers: find(instance, store, "proxy_on_request_trailers"),
            response_headers: headers(instance, store, "proxy_on_response_headers"),
            response_body: find(instance, store, "proxy_on_response_body"),
            response_trailers: find(instance, store, "proxy_on_response_trailers"),
            new_connection: find(instance, store, "proxy_on_new_connection"),
            downstream_data: find(instance, store, "proxy_on_downstream_data"),
            upstream_data: find(instance, store, "proxy_on_upstream_data"),
            downstream_close: find(instance, store, "proxy_on_downstream_connection_close"),
            upstream_close: find(instance, store, "proxy_on_upstream_connection_close"),
            phases: Phases::default(),
        };
        callbacks.phases = Phases::of(|phase| callbacks.has(phase));
        callbacks
    }

    fn has(&self, phase: Phase) -> bool {
        self.headers(phase).is_some()
            || self.body(phase).is_some()
            || self.trailers(phase).is_some()
            || self.new_connection(phase).is_some()
    }

    pub(crate) fn headers(&self, phase: Phase) -> Option<&Headers> {
        match phase {
            Phase::RequestHeaders => self.request_headers.as_ref(),
            Phase::ResponseHeaders => self.response_headers.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn body(&self, phase: Phase) -> Option<&Body> {
        match phase {
            Phase::RequestBody => self.request_body.as_ref(),
            Phase::ResponseBody => self.response_body.as_ref(),
            Phase::DownstreamData => self.downstream_data.as_ref(),
            Phase::UpstreamData => self.upstream_data.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn trailers(&self, phase: Phase) -> Option<&Trailers> {
        match phase {
            Phase::RequestTrailers => self.request_trailers.as_ref(),
            Phase::ResponseTrailers => self.response_trailers.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn new_connection(&self, phase: Phase) -> Option<&NewConnection> {
        self.new_connection.as_ref().filter(|_| phase == Phase::NewConnection)
    }

    /// The callback for the end of a connection: the client's for [`Direction::Request`], else the upstream's.
    pub(crate) fn closed(&self, direction: Direction) -> Option<&Closed> {
        match direction {
            Direction::Request => self.downstream_close.as_ref(),
            Direction::Response => self.upstream_close.as_ref(),
        }
    }
}

/// The export `name`, if it has this type.
pub(crate) fn find<Params: WasmParams, Results: WasmResults>(
    instance: &Instance,
    store: &mut Store<Guest>,
    name: &str,
) -> Option<TypedFunc<Params, Results>> {
    instance.get_typed_func(store, name).ok()
}

fn headers(instance: &Instance, store: &mut Store<Guest>, name: &str) -> Option<Headers> {
    find(instance, store, name)
        .map(Headers::Three)
        .or_else(|| find(instance, store, name).map(Headers::Two))
}
