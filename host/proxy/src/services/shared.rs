//! What plugins share across workers: keys with versions, and queues. Sharded maps and atomics, no lock of ours that two
//! workers hold for longer than a map operation.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use dashmap::Entry;
use portcullis_vm::{CasMismatch, QueueError, QueueId};
use tokio::sync::Notify;

/// Bytes of keys, values and names of queues that the plugins of one `vm_id` may share; more is refused.
const MAX_SHARED: usize = 64 << 20;
/// What a key costs beyond its bytes, about.
const ENTRY: usize = 128;
/// Elements in one queue; past it the oldest is dropped.
const MAX_QUEUE_ELEMENTS: usize = 65_536;
/// Bytes of elements in one queue; past it the oldest are dropped.
const MAX_QUEUE_BYTES: usize = 16 << 20;
/// Bytes of elements in all queues of one `vm_id`; past it a queue drops what it has, the newcomer too.
const MAX_QUEUED: usize = 64 << 20;

/// Shared data and shared queues of the process.
#[derive(Debug, Default)]
pub struct Shared {
    data: DashMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    /// Bytes of each `vm_id`.
    held: DashMap<String, usize>,
    versions: AtomicU32,
    names: DashMap<(String, Vec<u8>), QueueId>,
    queues: DashMap<u32, Queue>,
    /// Bytes of elements in all queues of each `vm_id`.
    queued: DashMap<String, Arc<AtomicUsize>>,
    last_queue: AtomicU32,
}

#[derive(Debug, Default)]
struct Queue {
    elements: VecDeque<Vec<u8>>,
    bytes: usize,
    /// That of its `vm_id`.
    queued: Arc<AtomicUsize>,
    inbox: Option<Arc<Inbox>>,
}

impl Queue {
    fn push(&mut self, element: &[u8]) {
        self.bytes += element.len();
        self.queued.fetch_add(cost(element), Ordering::Relaxed);
        self.elements.push_back(element.to_vec());
        while self.is_over() && self.pop().is_some() {}
    }

    fn is_over(&self) -> bool {
        self.elements.len() > MAX_QUEUE_ELEMENTS
            || self.bytes > MAX_QUEUE_BYTES
            || self.queued.load(Ordering::Relaxed) > MAX_QUEUED
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let element = self.elements.pop_front()?;
        self.bytes -= element.len();
        self.queued.fetch_sub(cost(&element), Ordering::Relaxed);
        Some(element)
    }
}

fn cost(element: &[u8]) -> usize {
    element.len() + size_of::<Vec<u8>>()
}

/// Where a plugin instance learns that elements have arrived in its queues.
#[derive(Debug)]
pub struct Inbox {
    filter: Arc<str>,
    generation: u64,
    ready: Mutex<VecDeque<QueueId>>,
    /// Queues that were registered before the plugin went into service, which it may never do.
    registered: Mutex<Option<Vec<QueueId>>>,
    /// Woken after each arrival.
    pub arrived: Notify,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new(Arc::default(), 0)
    }
}

impl Inbox {
    /// Of a filter that this generation brings.
    pub fn new(filter: Arc<str>, generation: u64) -> Inbox {
        Inbox {
            filter,
            generation,
            ready: Mutex::default(),
            registered: Mutex::new(Some(Vec::new())),
            arrived: Notify::new(),
        }
    }

    /// Whether `other` is that of the same filter in an older generation, which may still start instances.
    fn succeeds(&self, other: &Inbox) -> bool {
        self.filter == other.filter && self.generation > other.generation
    }

    /// The next queue that got an element.
    pub fn next(&self) -> Option<QueueId> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Whether the plugin has registered a queue while it started; to be asked before it goes into service.
    pub fn has_queues(&self) -> bool {
        let registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        registered.as_ref().is_some_and(|registered| !registered.is_empty())
    }

    /// Whether `queue` waits for the plugin to go into service.
    fn postpones(&self, queue: QueueId) -> bool {
        let mut registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        registered.as_mut().map(|registered| registered.push(queue)).is_some()
    }

    fn push(&self, queue: QueueId) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.len() < MAX_QUEUE_ELEMENTS {
            ready.push_back(queue);
        }
        drop(ready);
        self.arrived.notify_one();
    }
}

impl Shared {
    /// Value and version of a key.
    pub fn get(&self, vm_id: &str, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.data.get(&(vm_id.to_owned(), key.to_vec())).map(|entry| entry.value().clone())
    }

    /// Writes a key; a `cas` of 0 is unconditional, and so is the first write of a key.
    ///
    /// # Errors
    /// The key has another version, or the plugins of this `vm_id` share too much already: there is no other status for
    /// it that a stock SDK takes.
    pub fn set(&self, vm_id: &str, key: &[u8], value: &[u8], cas: u32) -> Result<(), CasMismatch> {
        let entry = self.data.entry((vm_id.to_owned(), key.to_vec()));
        let (before, version) = match &entry {
            Entry::Occupied(known) => (known.get().0.len() + key.len() + ENTRY, known.get().1),
            Entry::Vacant(_) => (0, 0),
        };
        if cas != 0 && version != 0 && version != cas {
            return Err(CasMismatch);
        }
        if !self.reserve(vm_id, before, value.len() + key.len() + ENTRY) {
            return Err(CasMismatch);
        }
        entry.insert((value.to_vec(), self.next_version()));
        Ok(())
    }

    /// What took `before` bytes takes `after`; false if the plugins of this `vm_id` share too much already.
    fn reserve(&self, vm_id: &str, before: usize, after: usize) -> bool {
        let mut held = self.held.entry(vm_id.to_owned()).or_default();
        let total = *held - before + after;
        if total > MAX_SHARED.max(*held) {
            tracing::warn!(vm_id, "what plugins share is full; something was not stored");
            return false;
        }
        *held = total;
        true
    }

    /// Finds or creates a queue; its arrivals are told to `inbox` from now on, or from when it is
    /// [opened](Self::open) on. `None`: the plugins of this `vm_id` share too much already.
    pub fn register(&self, vm_id: &str, name: &[u8], inbox: &Arc<Inbox>) -> Option<QueueId> {
        let id = match self.names.entry((vm_id.to_owned(), name.to_vec())) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                // Its name, and what it is itself.
                if !self.reserve(vm_id, 0, name.len() + 2 * ENTRY) {
                    return None;
                }
                let queued = self.queued.entry(vm_id.to_owned()).or_default().clone();
                let id = self.last_queue.fetch_add(1, Ordering::Relaxed) + 1;
                self.queues.insert(id, Queue { queued, ..Queue::default() });
                *free.insert(QueueId(id))
            }
        };
        if !inbox.postpones(id) {
            self.tell(id, inbox);
        }
        Some(id)
    }

    /// A plugin goes into service: the queues that it has registered are its own from now on.
    pub fn open(&self, inbox: &Arc<Inbox>) {
        let registered = inbox.registered.lock().unwrap_or_else(PoisonError::into_inner).take();
        registered.into_iter().flatten().for_each(|queue| self.tell(queue, inbox));
    }

    /// Elements that nobody has been told of yet are announced at once.
    fn tell(&self, id: QueueId, inbox: &Arc<Inbox>) {
        let Some(mut queue) = self.queues.get_mut(&id.0) else { return };
        if queue.inbox.as_ref().is_some_and(|known| known.succeeds(inbox)) {
            return;
        }
        let unannounced = if queue.inbox.is_none() { queue.elements.len() } else { 0 };
        queue.inbox = Some(inbox.clone());
        drop(queue);
        (0..unannounced).for_each(|_| inbox.push(id));
    }

    /// Finds a queue.
    pub fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<QueueId> {
        self.names.get(&(vm_id.to_owned(), name.to_vec())).map(|entry| *entry.value())
    }

    /// Adds an element; false when there is no such queue.
    pub fn enqueue(&self, id: QueueId, element: &[u8]) -> bool {
        let Some(mut queue) = self.queues.get_mut(&id.0) else { return false };
        queue.push(element);
        let inbox = queue.inbox.clone();
        drop(queue);
        if let Some(inbox) = inbox {
            inbox.push(id);
        }
        true
    }

    /// Takes the oldest element.
    ///
    /// # Errors
    /// No such queue, or nothing in it.
    pub fn dequeue(&self, id: QueueId) -> Result<Vec<u8>, QueueError> {
        let mut queue = self.queues.get_mut(&id.0).ok_or(QueueError::NotFound)?;
        queue.pop().ok_or(QueueError::Empty)
    }

    /// Versions are never 0.
    fn next_version(&self) -> u32 {
        loop {
            let version = self.versions.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if version != 0 {
                return version;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ENTRY, Inbox, MAX_QUEUE_BYTES, MAX_QUEUED, MAX_SHARED, Shared};

    #[test]
    fn what_plugins_share_is_bounded_for_each_vm_id() {
        let shared = Shared::default();
        let quarter = vec![0; MAX_SHARED / 4 - ENTRY - 1];
        for key in [b"a", b"b", b"c", b"d"] {
            assert!(shared.set("one", key, &quarter, 0).is_ok());
        }
        assert!(shared.set("one", b"e", b"", 0).is_err());
        assert!(shared.set("one", b"a", b"", 0).is_ok());
        assert!(shared.set("one", b"e", b"", 0).is_ok());
        assert!(shared.set("two", b"a", &quarter, 0).is_ok());
        assert_eq!(shared.get("one", b"b").map(|(value, _)| value.len()), Some(quarter.len()));
    }

    #[test]
    fn a_full_queue_drops_its_oldest_elements() {
        let shared = Shared::default();
        let queue = shared.register("one", b"q", &Default::default()).unwrap();
        for number in 0..3 {
            assert!(shared.enqueue(queue, &vec![number; MAX_QUEUE_BYTES / 2]));
        }
        let first = shared.dequeue(queue).map(|element| element[0]);
        assert_eq!(first, Ok(1));
    }

    #[test]
    fn names_of_queues_count_as_what_is_shared() {
        let shared = Shared::default();
        let name = |number: u8| vec![number; MAX_SHARED / 4 - 2 * ENTRY];
        let register = |number| shared.register("one", &name(number), &Default::default());
        for number in 0..4 {
            assert!(register(number).is_some());
        }
        assert_eq!(register(4), None);
        assert_eq!(register(3), shared.resolve("one", &name(3)));
        assert!(shared.register("two", b"q", &Default::default()).is_some());
    }

    #[test]
    fn all_queues_of_a_vm_id_together_are_bounded() {
        let shared = Shared::default();
        let element = vec![0; MAX_QUEUE_BYTES];
        let queues = [b"a", b"b", b"c", b"d", b"e"]
            .map(|name| shared.register("one", name, &Default::default()).unwrap());
        for queue in queues {
            assert!(shared.enqueue(queue, &element));
        }
        let left = queues.map(|queue| shared.dequeue(queue).is_ok());
        assert_eq!(left.iter().filter(|left| **left).count(), MAX_QUEUED / MAX_QUEUE_BYTES - 1);
        assert!(shared.enqueue(queues[4], &element) && shared.dequeue(queues[4]).is_ok());
    }

    #[test]
    fn an_old_generation_that_goes_on_starting_instances_takes_no_queue_from_the_new_one() {
        let shared = Shared::default();
        let inbox = |generation| {
            let inbox = Arc::new(Inbox::new("f".into(), generation));
            shared.open(&inbox);
            inbox
        };
        let (old, new) = (inbox(1), inbox(2));
        for inbox in [&old, &new, &old] {
            assert!(shared.register("one", b"q", inbox).is_some());
        }
        let queue = shared.resolve("one", b"q").unwrap();
        assert!(shared.enqueue(queue, b"element"));
        assert_eq!((old.next(), new.next()), (None, Some(queue)));
    }
}
