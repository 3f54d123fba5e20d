//! Callouts of one filter on one worker: they are made in tasks of their own, and each ends with exactly one completion, in
//! the instance that made it, unless that is gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use portcullis_vm::{
    CallId, Fields, GrpcCall, GrpcEvent, HttpCall, Plugin, RedisCall, RedisSettings, Streams, Trap,
};
use tokio::select;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::body::Body;
use crate::chain::local::Signal;
use crate::chain::slot::Slot;
use crate::chain::stores::Stores;
use crate::services::Upstreams;
use crate::upstream::grpc::{self, Outbox, Waiting, outbox};

/// Whom the filter calls, and the gRPC calls of its instances that are on the way.
#[derive(Debug)]
pub(super) struct Callouts {
    upstreams: RefCell<Rc<Upstreams>>,
    /// By the number of the instance.
    grpc: RefCell<HashMap<(u64, CallId), Running>>,
    waiting: Rc<Waiting>,
    stores: Stores,
}

/// A gRPC call or stream. Dropped, it is over.
#[derive(Debug)]
struct Running {
    task: AbortHandle,
    outbox: Option<Outbox>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Callouts {
    /// What waits to be sent on streams is at most `limit` bytes.
    pub(super) fn new(upstreams: Rc<Upstreams>, limit: usize) -> Callouts {
        Callouts {
            upstreams: RefCell::new(upstreams),
            grpc: RefCell::default(),
            waiting: Waiting::new(limit),
            stores: Stores::default(),
        }
    }

    /// Calls that begin from now on go to these.
    pub(super) fn set_upstreams(&self, upstreams: Rc<Upstreams>) {
        *self.upstreams.borrow_mut() = upstreams;
    }

    /// How the filter uses a Redis.
    pub(super) fn use_store(&self, upstream: String, settings: RedisSettings) {
        self.stores.set(upstream, settings);
    }

    /// The instance sends a message on a stream.
    pub(super) fn send(&self, number: u64, id: CallId, message: Bytes) {
        self.with_outbox(number, id, |outbox| outbox.push(message));
    }

    /// The instance sends no more on a stream.
    pub(super) fn close(&self, number: u64, id: CallId) {
        self.with_outbox(number, id, Outbox::close);
    }

    /// Nobody waits for this call or stream any more.
    pub(super) fn cancel(&self, number: u64, id: CallId) {
        let ended = self.grpc.borrow_mut().remove(&(number, id));
        drop(ended);
    }

    /// The instance is gone, and nobody waits for what it has asked for.
    pub(super) fn abandon(&self, number: u64) {
        let all = std::mem::take(&mut *self.grpc.borrow_mut());
        let (ended, others): (HashMap<_, _>, _) =
            all.into_iter().partition(|(key, _)| key.0 == number);
        *self.grpc.borrow_mut() = others;
        drop(ended);
    }

    fn with_outbox(&self, number: u64, id: CallId, run: impl FnOnce(&Outbox)) {
        let grpc = self.grpc.borrow();
        if let Some(outbox) = grpc.get(&(number, id)).and_then(|running| running.outbox.as_ref()) {
            run(outbox);
        }
    }
}

impl Slot {
    /// Makes an HTTP call that the instance with this number asked for.
    pub(super) fn start_call(self: &Rc<Slot>, call: HttpCall, number: u64) {
        let slot = self.clone();
        let upstreams = self.callouts.upstreams.borrow().clone();
        self.local.spawn(async move {
            let id = call.id;
            let outcome = upstreams.call(call).await;
            slot.deliver(number, id, |plugin, streams| {
                plugin.http_call_response(streams, id, outcome)
            });
        });
    }

    /// Sends a Redis command that the instance with this number asked for.
    pub(super) fn start_redis(self: &Rc<Slot>, call: RedisCall, number: u64) {
        let slot = self.clone();
        let upstreams = self.callouts.upstreams.borrow().clone();
        let cluster = upstreams.cluster(&call.upstream);
        let client =
            cluster.and_then(|cluster| self.callouts.stores.client(&call.upstream, cluster));
        self.local.spawn(async move {
            let RedisCall { id, upstream, query } = call;
            let reply = match client {
                Some(client) => client.call(query).await,
                None => Err("there is no such upstream".to_owned()),
            };
            let reply = reply.inspect_err(|reason| {
                tracing::info!(upstream, "a filter's command failed: {reason}")
            });
            slot.deliver(number, id, |plugin, streams| {
                plugin.redis_call_response(streams, id, reply.ok())
            });
        });
    }

    /// Makes a gRPC call, or opens a stream, that the instance with this number asked for.
    pub(super) fn start_grpc(self: &Rc<Slot>, call: GrpcCall, number: u64) {
        let key = (number, call.id);
        let (task, outbox) = match call.message {
            Some(_) => (self.local.spawn(self.clone().call_unary(call, number)), None),
            None => {
                let (outbox, body) = outbox(self.callouts.waiting.clone());
                let overflow = outbox.overflow();
                let stream = self.clone().run_stream(call, body, overflow, number);
                (self.local.spawn(stream), Some(outbox))
            }
        };
        if let Some(task) = task {
            self.callouts.grpc.borrow_mut().insert(key, Running { task, outbox });
        }
    }

    async fn call_unary(self: Rc<Slot>, call: GrpcCall, number: u64) {
        let upstreams = self.callouts.upstreams.borrow().clone();
        let answer = upstreams.grpc_call(&call).await;
        self.came_back(number, call.id, answer);
        self.callouts.cancel(number, call.id);
    }

    async fn run_stream(
        self: Rc<Slot>,
        call: GrpcCall,
        body: Body,
        overflow: Rc<Notify>,
        number: u64,
    ) {
        let upstreams = self.callouts.upstreams.borrow().clone();
        let mut tell = |event| self.came_back(number, call.id, event);
        let closed = select! {
            biased;
            () = overflow.notified() => {
                self.came_back(number, call.id, GrpcEvent::TrailingMetadata(Fields::default()));
                grpc::overflow()
            }
            closed = upstreams.grpc_stream(&call, body, &mut tell) => closed,
        };
        self.came_back(number, call.id, closed);
        self.callouts.cancel(number, call.id);
    }

    fn came_back(self: &Rc<Slot>, number: u64, id: CallId, event: GrpcEvent) {
        self.deliver(number, id, |plugin, streams| plugin.grpc_event(streams, id, event));
    }

    /// Tells the instance with this number what has become of a callout.
    fn deliver(
        self: &Rc<Slot>,
        number: u64,
        id: CallId,
        run: impl FnOnce(&mut Plugin, &mut Streams) -> Result<(), Trap>,
    ) {
        let stream = self.made_for(number, id);
        let told = match stream {
            Some(stream) => self.local.with_held(stream, self.id, || self.call(number, run)),
            None => self.call(number, run),
        };
        if told.is_err() {
            tracing::debug!(filter = %self.filter.name, "a callout ended after its instance");
        }
        if let Some(stream) = stream {
            self.local.post(stream, Signal::Answered(self.id));
        }
    }
}
