//! Callouts on the way: their numbers, the exchange that each was made for, and what the host keeps for them.

use std::collections::{BTreeMap, BTreeSet};

use crate::effects::CallId;
use crate::state::StreamKey;

/// Callouts of one instance that may be on the way at the same time.
const MAX_CALLS: usize = 1024;
/// gRPC streams that may wait for the guest to close its side after the other one has.
const MAX_HALF_CLOSED: usize = 1024;
/// Numbers of one kind; the two bits below tell the kinds apart.
const NUMBERS: u32 = 1 << 30;

/// What a callout is, as the two low bits of its number say (the numbering of proxy-wasm-cpp-host).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Http,
    Grpc,
    GrpcStream,
    Redis,
}

impl CallKind {
    pub(crate) fn of(call: CallId) -> CallKind {
        match call.0 & 3 {
            0 => CallKind::Http,
            1 => CallKind::Grpc,
            2 => CallKind::GrpcStream,
            _ => CallKind::Redis,
        }
    }
}

/// A callout without a completion yet.
struct Pending {
    made_for: Option<StreamKey>,
    bytes: usize,
    /// Of a gRPC stream: the guest sends no more.
    closed: bool,
}

/// Callouts without a completion yet.
#[derive(Default)]
pub(crate) struct Calls {
    pending: BTreeMap<u32, Pending>,
    bytes: usize,
    /// gRPC streams that the other side has closed and the guest has not.
    half_closed: BTreeSet<u32>,
    last: [u32; 4],
}

impl Calls {
    /// A new callout, made for an exchange or for none, for which the host keeps so many bytes; `None` when too many are on
    /// the way, or all of them together would be longer than `limit` bytes.
    pub(crate) fn begin(
        &mut self,
        kind: CallKind,
        made_for: Option<StreamKey>,
        bytes: usize,
        limit: usize,
    ) -> Option<CallId> {
        let all = self.bytes.saturating_add(bytes);
        if self.pending.len() >= MAX_CALLS || all > limit {
            return None;
        }
        self.bytes = all;
        let last = &mut self.last[kind as usize];
        loop {
            *last = last.wrapping_add(1) % NUMBERS;
            let number = *last << 2 | kind as u32;
            if *last != 0 && !self.pending.contains_key(&number) {
                self.half_closed.remove(&number);
                self.pending.insert(number, Pending { made_for, bytes, closed: false });
                return Some(CallId(number));
            }
        }
    }

    /// Takes a callout that is complete off the list; false if it is not on it.
    pub(crate) fn end(&mut self, call: CallId) -> bool {
        let Some(ended) = self.remove(call) else { return false };
        if CallKind::of(call) == CallKind::GrpcStream && !ended.closed {
            if self.half_closed.len() >= MAX_HALF_CLOSED {
                self.half_closed.pop_first();
            }
            self.half_closed.insert(call.0);
        }
        true
    }

    /// The guest wants to hear no more of a callout; false if it is not on the list.
    pub(crate) fn cancel(&mut self, call: CallId) -> bool {
        self.remove(call).is_some()
    }

    /// The guest sends no more on a gRPC stream; false if that was so already, or there is no such stream on the list.
    pub(crate) fn close(&mut self, call: CallId) -> bool {
        self.pending
            .get_mut(&call.0)
            .is_some_and(|stream| !std::mem::replace(&mut stream.closed, true))
    }

    /// Whether the guest may still send on a gRPC stream.
    pub(crate) fn is_open(&self, call: CallId) -> bool {
        self.pending.get(&call.0).is_some_and(|stream| !stream.closed)
    }

    /// Whether a gRPC stream has been closed by the other side only.
    pub(crate) fn is_half_closed(&self, call: CallId) -> bool {
        self.half_closed.contains(&call.0)
    }

    /// The guest closes a gRPC stream that the other side has closed; false if there is none.
    pub(crate) fn close_half(&mut self, call: CallId) -> bool {
        self.half_closed.remove(&call.0)
    }

    pub(crate) fn contains(&self, call: CallId) -> bool {
        self.pending.contains_key(&call.0)
    }

    /// Nobody waits for any of them any more.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.bytes = 0;
    }

    /// An exchange is over: its key will name another one.
    pub(crate) fn forget(&mut self, stream: StreamKey) {
        for call in self.pending.values_mut() {
            call.made_for = call.made_for.filter(|made_for| *made_for != stream);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn ids(&self) -> Vec<CallId> {
        self.pending.keys().copied().map(CallId).collect()
    }

    /// The exchange that a callout was made for, while there is one.
    pub(crate) fn made_for(&self, call: CallId) -> Option<StreamKey> {
        self.pending.get(&call.0)?.made_for
    }

    /// Whether an answer for an exchange is on the way. A gRPC stream is none: it may be open for as long as the exchange.
    pub(crate) fn any_for(&self, stream: StreamKey) -> bool {
        self.pending.iter().any(|(number, call)| {
            call.made_for == Some(stream) && CallKind::of(CallId(*number)) != CallKind::GrpcStream
        })
    }

    fn remove(&mut self, call: CallId) -> Option<Pending> {
        let removed = self.pending.remove(&call.0)?;
        self.bytes -= removed.bytes;
        Some(removed)
    }
}
