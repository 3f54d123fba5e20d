//! The contexts of an instance: which exchange each stands for, and which one host calls are about.

use std::num::NonZeroU32;

use crate::abi::numbers::ROOT_CONTEXT;
use crate::effects::ContextId;
use crate::state::StreamKey;

/// Places that a table begins with; a power of two.
const FEWEST: usize = 16;
/// The id after that of the root context.
const FIRST: NonZeroU32 = NonZeroU32::MIN.saturating_add(ROOT_CONTEXT);

struct Context {
    number: u32,
    stream: StreamKey,
    replied: bool,
}

/// Stream contexts by id; the root context is [`ROOT_CONTEXT`] and stands for no exchange.
#[derive(Default)]
pub(crate) struct Contexts {
    /// Each at its id modulo the length, which is a power of two. At least half of them are free, so that going on to the
    /// next free one takes two steps on average.
    places: Vec<Option<Context>>,
    taken: usize,
    last: Option<NonZeroU32>,
    effective: u32,
    /// The exchange of `effective`, which every host call asks for.
    effective_stream: Option<StreamKey>,
}

impl Contexts {
    /// A new id for an exchange; ids count up from 2, past those whose place is taken.
    pub(crate) fn create(&mut self, stream: StreamKey) -> ContextId {
        if self.taken * 2 >= self.places.len() {
            self.grow();
        }
        let mask = self.places.len().wrapping_sub(1);
        loop {
            let id = self.last.and_then(|last| last.checked_add(1)).unwrap_or(FIRST);
            let number = id.get();
            self.last = Some(id);
            let place = &mut self.places[number as usize & mask];
            if place.is_none() {
                *place = Some(Context { number, stream, replied: false });
                self.taken += 1;
                return ContextId::new(id, stream);
            }
        }
    }

    /// Ids that differ modulo the old length differ modulo the new one.
    #[cold]
    fn grow(&mut self) {
        let length = (self.places.len() * 2).max(FEWEST);
        let mut places = Vec::new();
        places.resize_with(length, || None);
        for context in std::mem::take(&mut self.places).into_iter().flatten() {
            let at = context.number as usize & (length - 1);
            places[at] = Some(context);
        }
        self.places = places;
    }

    /// Takes a context away, if it is there.
    pub(crate) fn delete(&mut self, id: u32) {
        if self.get(id).is_some() {
            let at = self.place(id);
            self.places[at] = None;
            self.taken -= 1;
        }
        if id == self.effective {
            self.effective_stream = None;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.taken
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        id == ROOT_CONTEXT || self.get(id).is_some()
    }

    /// The exchange that a context stands for.
    pub(crate) fn stream(&self, id: u32) -> Option<StreamKey> {
        self.get(id).map(|context| context.stream)
    }

    /// Makes host calls be about the context of the callback that begins.
    pub(crate) fn enter(&mut self, context: Option<ContextId>) {
        self.effective = context.map_or(ROOT_CONTEXT, |context| context.number());
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
        let at = self.place(self.effective);
        match self.places.get_mut(at) {
            Some(Some(context)) if context.number == self.effective => {
                !std::mem::replace(&mut context.replied, true)
            }
            _ => false,
        }
    }

    fn place(&self, id: u32) -> usize {
        id as usize & self.places.len().wrapping_sub(1)
    }

    fn get(&self, id: u32) -> Option<&Context> {
        let context = self.places.get(self.place(id))?.as_ref()?;
        (context.number == id).then_some(context)
    }
}
