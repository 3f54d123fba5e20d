//! What the exchanges and filters of one worker share: the table of streams that is lent to guests, and a mailbox for
//! each exchange, through which callbacks of other streams and of root contexts reach it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

use bytes::Bytes;
use portcullis_vm::{Direction, HttpStream, LocalReply, Stream, StreamKey, Streams, TcpStream};
use tokio::task::{AbortHandle, spawn_local};

use crate::chain::flow::Passed;
use crate::chain::links::Link;
use crate::chain::slot::SlotId;

/// Most bytes that wait in a mailbox to be put into a body.
const MAX_INJECTED: usize = 4 << 20;

/// The streams of one worker. Borrowed for the time of a callback, never across an await.
#[derive(Debug, Default)]
pub struct Local {
    streams: RefCell<Streams>,
    mailboxes: RefCell<Vec<Option<Rc<Mailbox>>>>,
    ending: Cell<bool>,
    spares: RefCell<Vec<Spare>>,
}

/// What chains that have ended leave to those that begin: empty, with its room.
#[derive(Debug, Default)]
pub(super) struct Spare {
    pub(super) links: Vec<Link>,
    pub(super) passed: [VecDeque<Passed>; 2],
}

/// Spares that a worker keeps.
const MOST_SPARES: usize = 128;
/// Pieces that a spare has room for at the most.
const SPARE_PIECES: usize = 16;

/// What happened to an exchange outside its own callbacks.
#[derive(Debug)]
pub enum Signal {
    /// A guest resumed one direction.
    Continue(SlotId, Direction),
    /// A guest answers the client.
    Reply(SlotId, LocalReply),
    /// A guest resets the exchange.
    Close(SlotId),
    /// A guest puts bytes into the response's body behind its own filter; true: they are the last.
    Inject(SlotId, Bytes, bool),
    /// A callout that a guest made for the exchange was answered, and the guest has been told.
    Answered(SlotId),
    /// A plugin has an instance again.
    Ready(SlotId),
    /// A new instance of a plugin could not be started.
    Unready(SlotId),
    /// The numbered instance of a plugin died.
    Trapped(SlotId, u64),
}

/// The part of an exchange that waits.
#[derive(Clone, Copy, Debug)]
pub enum Party {
    /// Whoever works towards the response head.
    Head,
    /// The body on its way to the upstream.
    Request,
    /// The body on its way to the client.
    Response,
}

/// Signals for one exchange, and who waits for them.
#[derive(Default)]
pub struct Mailbox {
    signals: RefCell<VecDeque<Signal>>,
    waiting: RefCell<[Option<Waker>; 3]>,
    lender: RefCell<Option<Weak<dyn Lender>>>,
}

/// Lends what a paused filter holds to the callbacks of its root context.
pub trait Lender {
    /// Exchanges the body that the filter holds with that of its stream; the second call takes it back.
    fn swap_held(&self, slot: SlotId);
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("signals", &self.signals).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// Whom to ask for held bodies.
    pub fn set_lender(&self, lender: Weak<dyn Lender>) {
        *self.lender.borrow_mut() = Some(lender);
    }

    fn lender(&self) -> Option<Rc<dyn Lender>> {
        self.lender.borrow().as_ref()?.upgrade()
    }

    /// Whether no signal waits. To be asked after every callback, since there hardly ever is one.
    pub fn is_empty(&self) -> bool {
        self.signals.borrow().is_empty()
    }

    /// Takes the oldest signal.
    pub fn take(&self) -> Option<Signal> {
        self.signals.borrow_mut().pop_front()
    }

    /// Takes the oldest signal that ends the exchange.
    pub fn take_end(&self) -> Option<Signal> {
        self.take_first(|signal| matches!(signal, Signal::Reply(..) | Signal::Close(_)))
    }

    /// Has `party` woken by the next signal or [`wake`](Self::wake).
    pub fn wait(&self, party: Party, context: &Context<'_>) {
        let slot = &mut self.waiting.borrow_mut()[party as usize];
        match slot {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => *slot = Some(context.waker().clone()),
        }
    }

    /// Wakes one of those who wait.
    pub fn wake_one(&self, party: Party) {
        let woken = self.waiting.borrow_mut()[party as usize].take();
        woken.into_iter().for_each(Waker::wake);
    }

    /// Wakes everybody who waits.
    pub fn wake(&self) {
        let woken = std::mem::take(&mut *self.waiting.borrow_mut());
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    /// Takes what the guest of a filter has injected first.
    pub fn take_injected(&self, slot: SlotId) -> Option<(Bytes, bool)> {
        let injected =
            |signal: &Signal| matches!(signal, Signal::Inject(from, ..) if *from == slot);
        match self.take_first(injected)? {
            Signal::Inject(_, data, end) => Some((data, end)),
            _ => None,
        }
    }

    fn take_first(&self, wanted: impl Fn(&Signal) -> bool) -> Option<Signal> {
        let mut signals = self.signals.borrow_mut();
        let at = signals.iter().position(wanted)?;
        signals.remove(at)
    }

    /// Going on twice is going on once: an exchange that does not move collects no signals, and only so many bytes.
    fn post(&self, signal: Signal) {
        let mut signals = self.signals.borrow_mut();
        let signal = match signal {
            Signal::Inject(slot, data, _) if injected(&signals) + data.len() > MAX_INJECTED => {
                tracing::warn!(
                    "a filter injects more than the client takes; the exchange is reset"
                );
                Signal::Close(slot)
            }
            signal => signal,
        };
        if !is_repeated(&signals, &signal) {
            signals.push_back(signal);
        }
        drop(signals);
        self.wake();
    }
}

/// Whether `signal` says nothing that does not wait already. What has an order with others is not looked past.
fn is_repeated(signals: &VecDeque<Signal>, signal: &Signal) -> bool {
    let passable = |signal: &&Signal| matches!(signal, Signal::Continue(..) | Signal::Answered(_));
    let mut latest = signals.iter().rev().take_while(passable);
    match signal {
        Signal::Continue(slot, way) => {
            latest.any(|known| matches!(known, Signal::Continue(same, same_way) if same == slot && same_way == way))
        }
        Signal::Answered(slot) => {
            latest.any(|known| matches!(known, Signal::Answered(same) if same == slot))
        }
        Signal::Close(slot) => matches!(signals.back(), Some(Signal::Close(same)) if same == slot),
        _ => false,
    }
}

/// Injected bytes that wait.
fn injected(signals: &VecDeque<Signal>) -> usize {
    let bytes = |signal: &Signal| match signal {
        Signal::Inject(_, data, _) => data.len(),
        _ => 0,
    };
    signals.iter().map(bytes).sum()
}

impl Local {
    /// Adds an exchange or a connection.
    pub fn insert(&self, stream: impl Into<Stream>) -> (StreamKey, Rc<Mailbox>) {
        let key = self.streams.borrow_mut().insert(stream);
        let mailbox = Rc::new(Mailbox::default());
        let mut mailboxes = self.mailboxes.borrow_mut();
        if mailboxes.len() <= key.0 {
            mailboxes.resize(key.0 + 1, None);
        }
        mailboxes[key.0] = Some(mailbox.clone());
        (key, mailbox)
    }

    /// Takes an exchange out, once no instance holds a context of it.
    pub fn remove(&self, key: StreamKey) -> Option<Stream> {
        if let Some(mailbox) = self.mailboxes.borrow_mut().get_mut(key.0) {
            *mailbox = None;
        }
        self.streams.borrow_mut().remove(key)
    }

    /// What a chain begins with.
    pub(super) fn take_spare(&self) -> Spare {
        self.spares.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes what a chain has ended with.
    pub(super) fn keep_spare(&self, mut spare: Spare) {
        spare.links.clear();
        spare.passed.iter_mut().for_each(VecDeque::clear);
        let fits = spare.passed.iter().all(|passed| passed.capacity() <= SPARE_PIECES);
        let mut spares = self.spares.borrow_mut();
        if fits && spares.len() < MOST_SPARES {
            spares.push(spare);
        }
    }

    /// Runs a task on this worker. While the worker itself is ending, nothing new begins.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> Option<AbortHandle> {
        (!self.ending.get()).then(|| spawn_local(task).abort_handle())
    }

    /// The worker is about to end.
    pub fn end(&self) {
        self.ending.set(true);
    }

    /// Lends all streams, for a callback.
    pub fn with_streams<T>(&self, run: impl FnOnce(&mut Streams) -> T) -> T {
        run(&mut self.streams.borrow_mut())
    }

    /// Reads or edits one stream; `None` when it is gone.
    pub fn with<T>(&self, key: StreamKey, run: impl FnOnce(&mut HttpStream) -> T) -> Option<T> {
        self.streams.borrow_mut().get_mut(key).map(run)
    }

    /// Reads or edits one connection without HTTP; `None` when it is gone.
    pub fn with_tcp<T>(&self, key: StreamKey, run: impl FnOnce(&mut TcpStream) -> T) -> Option<T> {
        self.streams.borrow_mut().tcp_mut(key).map(run)
    }

    /// Leaves a signal for one exchange.
    pub fn post(&self, key: StreamKey, signal: Signal) {
        if let Some(mailbox) = self.mailbox(key) {
            mailbox.post(signal);
        }
    }

    /// Leaves a signal for every exchange; those it does not concern ignore it.
    pub fn post_all(&self, signal: impl Fn() -> Signal) {
        let mailboxes: Vec<_> = self.mailboxes.borrow().iter().flatten().cloned().collect();
        mailboxes.iter().for_each(|mailbox| mailbox.post(signal()));
    }

    /// Runs a callback of a root context that concerns an exchange: the guest reaches the body that it holds of it.
    pub fn with_held<T>(&self, key: StreamKey, slot: SlotId, run: impl FnOnce() -> T) -> T {
        lending(self.mailbox(key).and_then(|mailbox| mailbox.lender()).as_slice(), slot, run)
    }

    /// Runs a callback of a root context that concerns none: the guest reaches all bodies that it holds.
    pub fn with_all_held<T>(&self, slot: SlotId, run: impl FnOnce() -> T) -> T {
        let mailboxes = self.mailboxes.borrow();
        let lenders = mailboxes.iter().flatten().filter_map(|mailbox| mailbox.lender());
        let lenders: Vec<_> = lenders.collect();
        drop(mailboxes);
        lending(&lenders, slot, run)
    }

    fn mailbox(&self, key: StreamKey) -> Option<Rc<Mailbox>> {
        self.mailboxes.borrow().get(key.0).cloned().flatten()
    }
}

fn lending<T>(lenders: &[Rc<dyn Lender>], slot: SlotId, run: impl FnOnce() -> T) -> T {
    lenders.iter().for_each(|lender| lender.swap_held(slot));
    let result = run();
    lenders.iter().for_each(|lender| lender.swap_held(slot));
    result
}
