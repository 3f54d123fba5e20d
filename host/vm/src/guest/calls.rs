//! Callouts on the way: their numbers, the exchange that each was made for, and what the host keeps for them.

use std::collections::BTreeMap;

use crate::effects::CallId;
use crate::state::StreamKey;

/// Callouts of one instance that may be on the way at the same time.
const MAX_CALLS: usize = 1024;
/// Numbers of one kind; the two bits below tell the kinds apart.
const NUMBERS: u32 = 1 << 30;

/// What a callout is, as the two low bits of its number say (the numbering of proxy-wasm-cpp-host).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Http,
}

struct Callout {
    made_for: Option<StreamKey>,
    bytes: usize,
}

/// Callouts without a completion yet.
#[derive(Default)]
pub(crate) struct Calls {
    outstanding: BTreeMap<u32, Callout>,
    bytes: usize,
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
        if self.outstanding.len() >= MAX_CALLS || all > limit {
            return None;
        }
        self.bytes = all;
        let last = &mut self.last[kind as usize];
        loop {
            *last = last.wrapping_add(1) % NUMBERS;
            let number = *last << 2 | kind as u32;
            if *last != 0 && !self.outstanding.contains_key(&number) {
                self.outstanding.insert(number, Callout { made_for, bytes });
                return Some(CallId(number));
            }
        }
    }

    /// Takes a callout off the list; false if it is not on it.
    pub(crate) fn end(&mut self, call: CallId) -> bool {
        let ended = self.outstanding.remove(&call.0);
        self.bytes -= ended.as_ref().map_or(0, |callout| callout.bytes);
        ended.is_some()
    }

    /// Nobody waits for any of them any more.
    pub(crate) fn clear(&mut self) {
        self.outstanding.clear();
        self.bytes = 0;
    }

    /// An exchange is over: its key will name another one.
    pub(crate) fn forget(&mut self, stream: StreamKey) {
        for callout in self.outstanding.values_mut() {
            callout.made_for = callout.made_for.filter(|made_for| *made_for != stream);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.outstanding.len()
    }

    /// The oldest of each kind first.
    pub(crate) fn ids(&self) -> Vec<CallId> {
        self.outstanding.keys().copied().map(CallId).collect()
    }

    /// The exchange that a callout was made for, while there is one.
    pub(crate) fn made_for(&self, call: CallId) -> Option<StreamKey> {
        self.outstanding.get(&call.0)?.made_for
    }

    pub(crate) fn any_for(&self, stream: StreamKey) -> bool {
        self.outstanding.values().any(|callout| callout.made_for == Some(stream))
    }
}
