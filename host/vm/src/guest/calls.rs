//! Callouts on the way: their numbers, and the exchange that each was made for.

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

/// Callouts without a completion yet.
#[derive(Default)]
pub(crate) struct Calls {
    made_for: BTreeMap<u32, Option<StreamKey>>,
    last: [u32; 4],
}

impl Calls {
    /// A new callout, made for an exchange or for none; `None` when too many are on the way.
    pub(crate) fn begin(&mut self, kind: CallKind, stream: Option<StreamKey>) -> Option<CallId> {
        if self.made_for.len() >= MAX_CALLS {
            return None;
        }
        let last = &mut self.last[kind as usize];
        loop {
            *last = last.wrapping_add(1) % NUMBERS;
            let number = *last << 2 | kind as u32;
            if *last != 0 && !self.made_for.contains_key(&number) {
                self.made_for.insert(number, stream);
                return Some(CallId(number));
            }
        }
    }

    /// Takes a callout off the list; false if it is not on it.
    pub(crate) fn end(&mut self, call: CallId) -> bool {
        self.made_for.remove(&call.0).is_some()
    }

    /// Nobody waits for any of them any more.
    pub(crate) fn clear(&mut self) {
        self.made_for.clear();
    }

    /// An exchange is over: its key will name another one.
    pub(crate) fn forget(&mut self, stream: StreamKey) {
        let ended = Some(stream);
        self.made_for.values_mut().filter(|made_for| **made_for == ended).for_each(|made_for| {
            *made_for = None;
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.made_for.len()
    }

    /// The oldest of each kind first.
    pub(crate) fn ids(&self) -> Vec<CallId> {
        self.made_for.keys().copied().map(CallId).collect()
    }

    /// The exchange that a callout was made for, while there is one.
    pub(crate) fn made_for(&self, call: CallId) -> Option<StreamKey> {
        self.made_for.get(&call.0).copied().flatten()
    }

    pub(crate) fn any_for(&self, stream: StreamKey) -> bool {
        self.made_for.values().any(|made_for| *made_for == Some(stream))
    }
}
