//! The functions of a module that this host calls, looked up once for each instance. What a module does not export is
//! never called.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use crate::guest::Guest;
use crate::joint;
use crate::phase::{Direction, Phase, Phases};

/// The callback of a phase by the type it has. All answer with a number.
pub(crate) enum Callback {
    /// Context.
    One(TypedFunc<u32, u32>),
    /// Context, size.
    Two(TypedFunc<(u32, u32), u32>),
    /// Context, size, whether nothing follows.
    Three(TypedFunc<(u32, u32, u32), u32>),
}

impl Callback {
    pub(crate) fn call(
        &self,
        store: &mut Store<Guest>,
        context: u32,
        size: u32,
        end_of_stream: bool,
    ) -> wasmtime::Result<u32> {
        match self {
            Callback::One(callback) => callback.call(store, context),
            Callback::Two(callback) => callback.call(store, (context, size)),
            Callback::Three(callback) => {
                callback.call(store, (context, size, u32::from(end_of_stream)))
            }
        }
    }

    fn of(instance: &Instance, store: &mut Store<Guest>, phase: Phase) -> Option<Callback> {
        let name = phase.callback();
        match phase {
            // 0.1.0 knew no end of stream, though some of its modules do.
            Phase::RequestHeaders | Phase::ResponseHeaders => find(instance, store, name)
                .map(Callback::Three)
                .or_else(|| find(instance, store, name).map(Callback::Two)),
            Phase::RequestTrailers | Phase::ResponseTrailers => {
                find(instance, store, name).map(Callback::Two)
            }
            Phase::NewConnection => find(instance, store, name).map(Callback::One),
            Phase::RequestBody
            | Phase::ResponseBody
            | Phase::DownstreamData
            | Phase::UpstreamData => find(instance, store, name).map(Callback::Three),
        }
    }
}

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
    /// The three above at one entry ([`joint`]).
    pub(crate) finish: Option<TypedFunc<u32, ()>>,
    /// By [`Phase`].
    of_phase: [Option<Callback>; Phase::ALL.len()],
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
            finish: find(instance, store, joint::FINISH),
            of_phase: Phase::ALL.map(|phase| Callback::of(instance, store, phase)),
            downstream_close: find(instance, store, "proxy_on_downstream_connection_close"),
            upstream_close: find(instance, store, "proxy_on_upstream_connection_close"),
            phases: Phases::default(),
        };
        callbacks.phases = Phases::of(|phase| callbacks.phase(phase).is_some());
        callbacks
    }

    pub(crate) fn phase(&self, phase: Phase) -> Option<&Callback> {
        self.of_phase[phase as usize].as_ref()
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
