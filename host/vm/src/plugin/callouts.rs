//! How callouts end: what comes back of them is delivered to the root context, and each has exactly one completion.

use bytes::Bytes;
use wasmtime::Store;

use super::Plugin;
use crate::abi::numbers::ROOT_CONTEXT;
use crate::callbacks::{Callbacks, GrpcNews};
use crate::effects::CallId;
use crate::error::Trap;
use crate::fields::Fields;
use crate::guest::Entry;
use crate::guest::{CallKind, Completion, Guest};
use crate::hostcalls::View;
use crate::state::{ResponseHead, StreamKey, Streams};

/// What `proxy_get_status` says of an HTTP call that failed.
const RESET: (u32, &str) = (11, "reset");
/// gRPC's UNAVAILABLE.
const ABANDONED: (u32, &str) = (14, "abandoned");
/// Statuses of Redis commands: those of Higress.
const REDIS_OK: u32 = 0;
const REDIS_FAILED: u32 = 1;

/// How an HTTP callout ended.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "an outcome is moved once, into the plugin")]
pub enum CallOutcome {
    /// The upstream answered, whatever the status.
    Answered {
        /// Its head.
        head: ResponseHead,
        /// Its whole body.
        body: Bytes,
        /// May be empty.
        trailers: Fields,
    },
    /// Time-out, reset, refused, abandoned: the guest sees a completion with zero headers.
    Failed,
}

/// What comes back of a gRPC call. A unary one is complete with its first message or with its close; a stream with its
/// close.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "an event is moved once, into the plugin")]
pub enum GrpcEvent {
    /// Of a stream, before everything else; `None`: the answer has only trailing metadata. Nothing for a unary call.
    InitialMetadata(Option<ResponseHead>),
    /// One message, without its prefix; of a unary call, the answer.
    Message(Bytes),
    /// Of a stream, before the close; may be empty. Nothing for a unary call.
    TrailingMetadata(Fields),
    /// The other side sends no more.
    Closed {
        /// gRPC's status.
        status: u32,
        /// May be empty.
        message: String,
    },
}

/// Picks the callback for an event.
type Pick = fn(&Callbacks) -> &Option<GrpcNews>;

impl Plugin {
    /// Delivers the one completion of an HTTP callout. An id that is not outstanding is ignored.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn http_call_response(
        &mut self,
        streams: &mut Streams,
        call: CallId,
        outcome: CallOutcome,
    ) -> Result<(), Trap> {
        if !self.instance.guest_mut().calls.end(call) {
            return self.nobody_waits();
        }
        let (head, body, trailers) = match outcome {
            CallOutcome::Answered { head, body, trailers } => (Some(head), body, trailers),
            CallOutcome::Failed => {
                self.instance.guest_mut().status = (RESET.0, RESET.1.to_owned());
                (None, Bytes::new(), Fields::default())
            }
        };
        let headers = entries(head.as_ref());
        let sizes = (body.len() as u32, trailers.len() as u32);
        let completion = Completion::Http { head, body, trailers };
        let callback = "proxy_on_http_call_response";
        self.deliver(streams, callback, Some(completion), |callbacks, store| {
            let Some(response) = &callbacks.http_call_response else { return Ok(()) };
            response.call(store, (ROOT_CONTEXT, call.0, headers, sizes.0, sizes.1))
        })
    }

    /// Delivers what has come back of a gRPC call. An id that is not outstanding is ignored.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn grpc_event(
        &mut self,
        streams: &mut Streams,
        call: CallId,
        event: GrpcEvent,
    ) -> Result<(), Trap> {
        let calls = &mut self.instance.guest_mut().calls;
        let unary = CallKind::of(call) == CallKind::Grpc;
        let known = match event {
            GrpcEvent::Closed { .. } => calls.end(call),
            GrpcEvent::Message(_) if unary => calls.end(call),
            GrpcEvent::Message(_) => calls.contains(call),
            GrpcEvent::InitialMetadata(_) | GrpcEvent::TrailingMetadata(_) => {
                !unary && calls.contains(call)
            }
        };
        if !known {
            return self.nobody_waits();
        }
        let (callback, pick): (_, Pick) = match event {
            GrpcEvent::InitialMetadata(_) => {
                ("proxy_on_grpc_receive_initial_metadata", |all| &all.grpc_initial_metadata)
            }
            GrpcEvent::Message(_) => ("proxy_on_grpc_receive", |all| &all.grpc_receive),
            GrpcEvent::TrailingMetadata(_) => {
                ("proxy_on_grpc_receive_trailing_metadata", |all| &all.grpc_trailing_metadata)
            }
            GrpcEvent::Closed { .. } => ("proxy_on_grpc_close", |all| &all.grpc_close),
        };
        let (number, completion) = self.unpack(event);
        self.deliver(streams, callback, completion, |callbacks, store| {
            let Some(news) = pick(callbacks) else { return Ok(()) };
            news.call(store, (ROOT_CONTEXT, call.0, number))
        })
    }

    /// The number that the callback is told, and what it may read; the status is noted.
    fn unpack(&mut self, event: GrpcEvent) -> (u32, Option<Completion>) {
        match event {
            GrpcEvent::InitialMetadata(head) => {
                (entries(head.as_ref()), head.map(Completion::InitialMetadata))
            }
            GrpcEvent::Message(message) => {
                (message.len() as u32, Some(Completion::GrpcMessage(message)))
            }
            GrpcEvent::TrailingMetadata(trailers) => {
                (trailers.len() as u32, Some(Completion::TrailingMetadata(trailers)))
            }
            GrpcEvent::Closed { status, message } => {
                self.instance.guest_mut().status = (status, message);
                (status, None)
            }
        }
    }

    /// Delivers the reply to a Redis command, or that there is none. An id that is not outstanding is ignored.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn redis_call_response(
        &mut self,
        streams: &mut Streams,
        call: CallId,
        reply: Option<Bytes>,
    ) -> Result<(), Trap> {
        if !self.instance.guest_mut().calls.end(call) {
            return self.nobody_waits();
        }
        let (status, size) = match &reply {
            Some(reply) => (REDIS_OK, reply.len() as u32),
            None => (REDIS_FAILED, 0),
        };
        let completion = reply.map(Completion::RedisReply);
        let callback = "proxy_on_redis_call_response";
        self.deliver(streams, callback, completion, |callbacks, store| {
            let Some(response) = &callbacks.redis_call_response else { return Ok(()) };
            response.call(store, (ROOT_CONTEXT, call.0, status, size))
        })
    }

    /// Completes every callout that is on the way as failed: nothing will come of them any more.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn fail_calls(&mut self, streams: &mut Streams) -> Result<(), Trap> {
        for call in self.instance.guest().calls.ids() {
            match CallKind::of(call) {
                CallKind::Grpc | CallKind::GrpcStream => {
                    let (status, message) = (ABANDONED.0, ABANDONED.1.to_owned());
                    self.grpc_event(streams, call, GrpcEvent::Closed { status, message })?;
                }
                CallKind::Http => self.http_call_response(streams, call, CallOutcome::Failed)?,
                CallKind::Redis => self.redis_call_response(streams, call, None)?,
            }
        }
        Ok(())
    }

    /// Callouts without a completion yet; none once the instance is dead.
    pub fn outstanding_calls(&self) -> usize {
        self.instance.guest().calls.len()
    }

    /// Whether a callout that was made for this exchange has no completion yet.
    pub fn awaits_call(&self, stream: StreamKey) -> bool {
        self.instance.guest().calls.any_for(stream)
    }

    /// The exchange in whose callback an outstanding callout was made; `None` for root callbacks, and once the exchange has
    /// ended.
    pub fn made_for(&self, call: CallId) -> Option<StreamKey> {
        self.instance.guest().calls.made_for(call)
    }

    fn nobody_waits(&self) -> Result<(), Trap> {
        self.trap().map_or(Ok(()), |trap| Err(trap.clone()))
    }

    /// Runs a callback for whose time the guest may read `completion` and the status.
    fn deliver(
        &mut self,
        streams: &mut Streams,
        callback: &'static str,
        completion: Option<Completion>,
        run: impl FnOnce(&Callbacks, &mut Store<Guest>) -> wasmtime::Result<()>,
    ) -> Result<(), Trap> {
        self.instance.guest_mut().completion = completion;
        let delivered = self.instance.call(streams, Entry::root(callback), run);
        let guest = self.instance.guest_mut();
        guest.completion = None;
        guest.status = (0, String::new());
        delivered
    }
}

fn entries(head: Option<&ResponseHead>) -> u32 {
    head.map_or(0, |head| View::Response(head).len()) as u32
}
