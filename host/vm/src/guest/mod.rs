//! What an instance carries through its callbacks: the lent streams, its contexts, what it asked for, and its accounts.
//!
//! This is the data of the wasmtime store. Host calls read and change it; it never calls into the guest.

mod budget;
mod calls;
mod contexts;
mod entry;
mod expressions;
mod notes;
mod quota;
mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::effects::Effect;
use crate::fields::{Fields, Known};
use crate::filter_state::Declaration;
use crate::inspect::Abi;
use crate::phase::Phase;
use crate::services::{LogLevel, Metric, Services, Violation};
use crate::spec::PluginSpec;
use crate::state::{HttpStream, ResponseHead, Stream, StreamKey, Streams, TcpStream};

pub(crate) use budget::Budget;
pub(crate) use calls::{CallKind, Calls};
pub(crate) use contexts::Contexts;
pub(crate) use entry::Entry;
pub(crate) use expressions::Expressions;
pub(crate) use notes::Notes;
pub(crate) use quota::Quota;
pub(crate) use steps::{Occasion, Steps, look};

/// Longest log record of a guest, in bytes; the rest of a longer one is dropped.
const MAX_MESSAGE: usize = 64 << 10;

/// Where in its life the instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// `_initialize`, `_start`, `main`: no context exists yet.
    StartUp,
    /// `proxy_on_vm_start`
    VmStart,
    /// `proxy_on_configure`
    Configure,
    /// Any other callback of the root context.
    Root,
    /// A phase of an exchange.
    Stream { phase: Phase, end_of_stream: bool },
    /// A connection of a TCP stream has ended; what a guest holds can still be read.
    Closed,
    /// `proxy_on_log`, `proxy_on_done`, `proxy_on_delete` of an exchange: nothing can be changed any more.
    Finish,
}

/// What has come back of a callout, for the time of the callback that tells of it.
pub(crate) enum Completion {
    /// `None`: the call has failed.
    Http {
        head: Option<ResponseHead>,
        body: Bytes,
        trailers: Fields,
    },
    InitialMetadata(ResponseHead),
    GrpcMessage(Bytes),
    TrailingMetadata(Fields),
    RedisReply(Bytes),
}

/// Metrics by kind, in the order in which the guest defined them.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) by_kind: [Vec<Metric>; 3],
    numbers: [HashMap<Metric, usize>; 3],
}

impl Metrics {
    /// Where the metric stands among those of its kind, from now on.
    pub(crate) fn number(&mut self, kind: usize, metric: Metric) -> usize {
        let known = &mut self.by_kind[kind];
        *self.numbers[kind].entry(metric).or_insert_with(|| {
            known.push(metric);
            known.len() - 1
        })
    }
}

/// Properties that a plugin may declare.
const MAX_DECLARED: usize = 1000;

/// What the plugin has declared of properties, by path.
#[derive(Default)]
pub(crate) struct Declared(BTreeMap<Box<[u8]>, Declaration>);

impl Declared {
    /// Notes a declaration; false if there is one already, or no room for it.
    pub(crate) fn declare(&mut self, path: &[u8], declaration: Declaration) -> bool {
        if self.0.len() >= MAX_DECLARED || self.0.contains_key(path) {
            return false;
        }
        self.0.insert(path.into(), declaration);
        true
    }

    /// What holds for a property that is about to be stored.
    pub(crate) fn of(&self, path: &[u8]) -> Declaration {
        self.0.get(path).copied().unwrap_or_default()
    }
}

/// What an instance carries. In this order, what every callback needs lies side by side: with many filters, memory that has to
/// come from behind the first cache costs as much as what is done with it.
#[repr(C)]
pub(crate) struct Guest {
    /// The running callback, by the name that the guest exports.
    pub(crate) callback: &'static str,
    /// How many effects there were before it.
    pub(crate) effects_before: usize,
    pub(crate) moment: Moment,
    /// The guest is inside its allocator, on behalf of a host call.
    pub(crate) allocating: bool,
    pub(crate) abi: Abi,
    pub(crate) rust_sdk: bool,
    pub(crate) streams: Streams,
    pub(crate) contexts: Contexts,
    pub(crate) quota: Quota,
    pub(crate) budget: Budget,
    pub(crate) memory: Option<wasmtime::Memory>,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) notes: Notes,
    /// The callbacks that the guest was entered for, where these are several.
    pub(crate) steps: Option<Steps>,
    /// Where it says how far it has come with them.
    pub(crate) step: Option<wasmtime::Global>,
    pub(crate) allocate: Option<wasmtime::TypedFunc<u32, u32>>,
    /// Fields that the guest has written.
    pub(crate) known: Known,
    pub(crate) spec: Arc<PluginSpec>,
    pub(crate) services: Box<dyn Services>,
    pub(crate) calls: Calls,
    /// Upstreams that the guest uses as a Redis.
    pub(crate) stores: BTreeSet<String>,
    pub(crate) completion: Option<Completion>,
    /// What `proxy_get_status` answers: a code and a message, of the callout whose completion callback runs.
    pub(crate) status: (u32, String),
    pub(crate) metrics: Metrics,
    pub(crate) declared: Declared,
    /// What `expr_create` has compiled.
    pub(crate) expressions: Expressions,
    pub(crate) tick_period: Option<Duration>,
    /// `proxy_on_done` of the root context is running, or has answered "not yet"; `proxy_done` has not come yet.
    pub(crate) awaiting_done: bool,
}

impl Guest {
    pub(crate) fn new(spec: Arc<PluginSpec>, services: Box<dyn Services>, abi: Abi) -> Guest {
        Guest {
            budget: Budget::new(spec.limits.start),
            quota: Quota::new(spec.limits.memory),
            spec,
            services,
            abi,
            rust_sdk: false,
            memory: None,
            allocate: None,
            allocating: false,
            callback: "start_up",
            moment: Moment::StartUp,
            effects_before: 0,
            step: None,
            steps: None,
            streams: Streams::default(),
            contexts: Contexts::default(),
            known: Known::default(),
            effects: VecDeque::new(),
            calls: Calls::default(),
            stores: BTreeSet::new(),
            completion: None,
            status: (0, String::new()),
            metrics: Metrics::default(),
            declared: Declared::default(),
            expressions: Expressions::default(),
            tick_period: None,
            awaiting_done: false,
            notes: Notes::default(),
        }
    }

    /// The exchange that host calls are about at the moment.
    pub(crate) fn stream_key(&self) -> Option<StreamKey> {
        self.contexts.effective_stream()
    }

    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.streams.stream(self.stream_key()?)
    }

    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        self.streams.stream_mut(self.contexts.effective_stream()?)
    }

    pub(crate) fn http(&self) -> Option<&HttpStream> {
        self.streams.get(self.stream_key()?)
    }

    pub(crate) fn http_mut(&mut self) -> Option<&mut HttpStream> {
        self.streams.get_mut(self.contexts.effective_stream()?)
    }

    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        self.streams.tcp(self.stream_key()?)
    }

    pub(crate) fn tcp_mut(&mut self) -> Option<&mut TcpStream> {
        self.streams.tcp_mut(self.contexts.effective_stream()?)
    }

    /// Records a message of the guest.
    pub(crate) fn log(&mut self, level: LogLevel, message: &[u8]) {
        let message = String::from_utf8_lossy(&message[..message.len().min(MAX_MESSAGE)]);
        let message = message.as_ref();
        self.notes.add(level, message);
        self.forward(level, message);
    }

    /// A call that has no meaning here and is therefore ignored: counted, and said in the log.
    pub(crate) fn violation(&self, call: &'static str, why: &str) {
        let phase = self.callback.strip_prefix("proxy_on_").unwrap_or(self.callback);
        self.services.phase_violation(Violation { call, phase });
        self.forward(LogLevel::Warn, &format!("{call} ignored: {why}"));
    }

    fn forward(&self, level: LogLevel, message: &str) {
        if level >= self.services.log_level() {
            self.services.log(level, self.stream(), message);
        }
    }
}
