//! The contexts of an instance: which exchange each stands for, and which one host calls are about.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::fast::FixedState;

use crate::abi::numbers::ROOT_CONTEXT;
use crate::effects::ContextId;
use crate::state::StreamKey;

struct Context {
    stream: StreamKey,
    replied: bool,
}

/// Stream contexts by id; the root context is [`ROOT_CONTEXT`] and stands for no exchange.
#[derive(Default)]
pub(crate) struct Contexts {
    /// The ids are ours: nobody can choose such that they collide.
    streams: HashMap<u32, Context, FixedState>,
    last: u32,
    effective: u32,
    /// The exchange of `effective`, which every host call asks for.
    effective_stream: Option<StreamKey>,
}

impl Contexts {
    /// A new id for an exchange; ids count up from 2.
    pub(crate) fn create(&mut self, stream: StreamKey) -> u32 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(0).max(ROOT_CONTEXT + 1);
            if let Entry::Vacant(place) = self.streams.entry(self.last) {
                place.insert(Context { stream, replied: false });
                return self.last;
            }
        }
    }

    pub(crate) fn delete(&mut self, id: u32) {
        self.streams.remove(&id);
        if id == self.effective {
            self.effective_stream = None;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        id == ROOT_CONTEXT || self.streams.contains_key(&id)
    }

    /// The exchange that a context stands for.
    pub(crate) fn stream(&self, id: u32) -> Option<StreamKey> {
        self.streams.get(&id).map(|context| context.stream)
    }

    /// Makes host calls be about the context of the callback that begins.
    pub(crate) fn enter(&mut self, context: Option<ContextId>) {
        self.effective = context.map_or(ROOT_CONTEXT, |context| context.number);
        self.effective_stream = context.map(|context| context.stream);
    }

    /// Makes host calls be about this context.
    pub(crate) fn select(&mut self, id: u32) {
        self.effective = id;
        self.effective_stream = self.stream(id);
    }

    /// Whether host calls are about the root context.
    pub(crate) fn is_root(&self) -> bool {
        self.effective == ROOT_CONTEXT
    }

    pub(crate) fn effective_stream(&self) -> Option<StreamKey> {
        self.effective_stream
    }

    /// Notes that the effective exchange has been answered; false if it had been already.
    pub(crate) fn reply(&mut self) -> bool {
        match self.streams.get_mut(&self.effective) {
            Some(context) => !std::mem::replace(&mut context.replied, true),
            None => false,
        }
    }
}
