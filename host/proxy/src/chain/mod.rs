//! The filters of one exchange, or of one TCP connection: calls the guests phase by phase, in order on the way to the
//! upstream and in reverse on the way back, and holds what they hold. A connection is an exchange whose head is that it
//! is new, and whose bodies are its bytes. Guests answer at once, so nothing here is async: whoever drives the exchange
//! feeds pieces in, takes what has passed, and waits at the [`Mailbox`] when a filter pauses.
//!
//! Pausing follows Envoy (`proxy_wasm` filter): see [`portcullis_vm::Action`].

mod builder;
mod call;
mod callouts;
mod effects;
mod exclusive;
mod flow;
mod inject;
mod instance;
mod links;
mod local;
mod pass;
mod pool;
mod renewal;
mod root;
mod slot;
mod stores;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_vm::{Buffer, Direction, Fields, LocalReply, Peer, Phase, StreamKey};

pub use builder::Builder;
pub use flow::Passed;
pub use local::{Lender, Local, Mailbox, Party, Signal};
pub use slot::{Slot, SlotId};

use crate::facts::Verdict;
use flow::Flow;
use links::Link;
use local::Spare;

/// Why the filters end the exchange.
#[derive(Debug)]
pub enum Terminal {
    /// A guest answers the client.
    Reply(Arc<str>, Box<LocalReply>),
    /// A guest resets the exchange.
    Close(Arc<str>),
    /// A filter with `failStrategy: FAIL_CLOSE` cannot run.
    Failed(Arc<str>),
    /// A filter holds more body than `limits.body`.
    TooLarge(Arc<str>, Direction),
}

impl Terminal {
    /// Whose doing it is.
    pub fn filter(&self) -> &str {
        match self {
            Terminal::Reply(filter, _)
            | Terminal::Close(filter)
            | Terminal::Failed(filter)
            | Terminal::TooLarge(filter, _) => filter,
        }
    }
}

/// The filters of one exchange.
#[derive(Debug)]
pub struct Chain {
    links: Vec<Link>,
    flows: [Flow; 2],
    local: Rc<Local>,
    key: StreamKey,
    mailbox: Rc<Mailbox>,
    terminal: Option<Terminal>,
    kind: Kind,
}

/// What passes through the filters.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Http,
    Tcp,
}

impl Kind {
    /// An upstream's connection is not announced to filters.
    const fn head(self, direction: Direction) -> Option<Phase> {
        match (self, direction) {
            (Kind::Http, Direction::Request) => Some(Phase::RequestHeaders),
            (Kind::Http, Direction::Response) => Some(Phase::ResponseHeaders),
            (Kind::Tcp, Direction::Request) => Some(Phase::NewConnection),
            (Kind::Tcp, Direction::Response) => None,
        }
    }

    const fn body(self, direction: Direction) -> Phase {
        match (self, direction) {
            (Kind::Http, Direction::Request) => Phase::RequestBody,
            (Kind::Http, Direction::Response) => Phase::ResponseBody,
            (Kind::Tcp, Direction::Request) => Phase::DownstreamData,
            (Kind::Tcp, Direction::Response) => Phase::UpstreamData,
        }
    }
}

impl Chain {
    /// The filters that `slots` run, in request order.
    pub fn new(
        slots: &[Rc<Slot>],
        local: Rc<Local>,
        key: StreamKey,
        mailbox: Rc<Mailbox>,
    ) -> Chain {
        Chain::of(Kind::Http, slots, local, key, mailbox)
    }

    /// The filters of a TCP connection. Its heads are [fed](Self::feed_head) when it is new and when the upstream's is
    /// there; it has no trailers.
    pub fn tcp(
        slots: &[Rc<Slot>],
        local: Rc<Local>,
        key: StreamKey,
        mailbox: Rc<Mailbox>,
    ) -> Chain {
        Chain::of(Kind::Tcp, slots, local, key, mailbox)
    }

    fn of(
        kind: Kind,
        slots: &[Rc<Slot>],
        local: Rc<Local>,
        key: StreamKey,
        mailbox: Rc<Mailbox>,
    ) -> Chain {
        let Spare { mut links, passed: [request, response] } = local.take_spare();
        links.extend(slots.iter().cloned().map(Link::new));
        let flow = |passed| Flow { passed, ..Flow::default() };
        Chain {
            kind,
            links,
            flows: [flow(request), flow(response)],
            local,
            key,
            mailbox,
            terminal: None,
        }
    }

    /// Whether no filter is there.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether this filter is among them.
    pub fn runs(&self, slot: SlotId) -> bool {
        self.links.iter().any(|link| link.slot.id == slot)
    }

    /// Adds filters behind the last one and sends what has already passed in the request direction through them.
    pub fn extend(&mut self, slots: &[Rc<Slot>]) {
        let first = self.links.len();
        self.links.extend(slots.iter().cloned().map(Link::new));
        self.flows[0].bytes_out = 0;
        for piece in std::mem::take(&mut self.flows[0].passed) {
            match piece {
                Passed::Headers { end } => self.head(Direction::Request, first, end),
                Passed::Data { data, end } => self.data(Direction::Request, first, data, end),
                Passed::Trailers(map) => self.trailers(Direction::Request, first, map),
            }
        }
    }

    /// Feeds the head, which stands in the stream; `end` when nothing follows.
    pub fn feed_head(&mut self, direction: Direction, end: bool) {
        self.flows[direction as usize].source_ended = end;
        self.head(direction, 0, end);
    }

    /// Feeds a part of the body; empty with `end` when the source has ended without trailers.
    pub fn feed_data(&mut self, direction: Direction, bytes: Bytes, end: bool) {
        let flow = &mut self.flows[direction as usize];
        flow.bytes_in += bytes.len() as u64;
        flow.source_ended = end;
        self.data(direction, 0, Buffer::from(bytes), end);
    }

    /// Feeds the trailers, which end the stream.
    pub fn feed_trailers(&mut self, direction: Direction, map: Fields) {
        self.flows[direction as usize].source_ended = true;
        self.trailers(direction, 0, Box::new(map));
    }

    /// One direction goes no further: its filters are not called any more.
    pub fn abandon(&mut self, direction: Direction) {
        self.flows[direction as usize].abandoned = true;
        self.flows[direction as usize].passed.clear();
    }

    /// Whether the filters of one direction may still be called.
    fn goes_on(&self, direction: Direction) -> bool {
        self.terminal.is_none() && !self.flows[direction as usize].abandoned
    }

    /// Handles what other callbacks did to this exchange.
    pub fn pump(&mut self) {
        while let Some(signal) = self.mailbox.take() {
            match signal {
                Signal::Continue(slot, direction) => {
                    if let Some(position) = self.position(slot, direction) {
                        self.resume(direction, position);
                    }
                }
                Signal::Reply(slot, reply) => {
                    self.end_by(slot, |filter| Terminal::Reply(filter, Box::new(reply)))
                }
                Signal::Close(slot) => self.end_by(slot, Terminal::Close),
                Signal::Inject(slot, data, end) => self.inject(slot, data, end),
                Signal::Answered(slot) => self.call_answered(slot),
                Signal::Ready(slot) => self.instance_ready(slot),
                Signal::Unready(slot) => self.instance_unready(slot),
                Signal::Trapped(slot, number) => self.instance_died(slot, number),
            }
        }
    }

    /// Takes the oldest piece that has passed all filters.
    pub fn take_passed(&mut self, direction: Direction) -> Option<Passed> {
        self.flows[direction as usize].passed.pop_front()
    }

    /// The oldest piece that has passed all filters.
    pub fn passed(&self, direction: Direction) -> Option<&Passed> {
        self.flows[direction as usize].passed.front()
    }

    /// Whether the source should be read: everything fed has been passed on or fits a filter's buffer.
    pub fn wants_input(&self, direction: Direction) -> bool {
        let flow = &self.flows[direction as usize];
        self.goes_on(direction)
            && !flow.source_ended
            && !self.has_body(direction)
            && !self.links.iter().any(|link| link.blocks(direction))
    }

    /// The length of the whole body if it has passed already, head included.
    pub fn whole_length(&self, direction: Direction) -> Option<u64> {
        let flow = &self.flows[direction as usize];
        let ended = flow.passed.iter().any(|piece| match piece {
            Passed::Headers { end } | Passed::Data { end, .. } => *end,
            Passed::Trailers(_) => true,
        });
        ended.then_some(flow.bytes_out)
    }

    /// Whether a guest has changed how many bytes the body has, as far as it has passed.
    pub fn length_changed(&self, direction: Direction) -> bool {
        let flow = &self.flows[direction as usize];
        flow.bytes_in != flow.bytes_out
    }

    /// The head leaves with this length, or without one.
    pub fn promise(&mut self, direction: Direction, length: Option<u64>) {
        self.flows[direction as usize].promised = length;
        self.check_length(direction, false);
    }

    /// The length that the head has left with.
    pub fn promised(&self, direction: Direction) -> Option<u64> {
        self.flows[direction as usize].promised
    }

    /// Whether a filter wants to see the body.
    pub fn sees_body(&self, direction: Direction) -> bool {
        self.links.iter().any(|link| link.sees(self.kind.body(direction)))
    }

    /// Whether a part of the body has passed.
    pub fn has_body(&self, direction: Direction) -> bool {
        let mut passed = self.flows[direction as usize].passed.iter();
        passed.any(|piece| matches!(piece, Passed::Data { .. } | Passed::Trailers(_)))
    }

    /// Why the filters end the exchange, if they do. Taken once.
    pub fn take_terminal(&mut self) -> Option<Terminal> {
        self.terminal.take()
    }

    /// Whether the filters end the exchange.
    pub fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// What each filter that took part did, for the access log.
    pub fn verdicts(&self) -> Vec<(Arc<str>, Verdict)> {
        let took_part = self.links.iter().filter(|link| link.took_part());
        took_part.map(|link| (link.slot.filter.name.clone(), link.verdict)).collect()
    }

    /// Tells the filters that the client's connection ([`Direction::Request`]) or the upstream's has ended.
    pub fn closed(&mut self, direction: Direction, by: Peer) {
        for position in 0..self.links.len() {
            let index = self.index(direction, position);
            if self.links[index].closed(direction, by).is_err() {
                self.fail(index);
            }
        }
    }

    /// The end of the exchange: each guest logs, also one that has not seen it, and its context is deleted.
    pub fn finish(&mut self) {
        for link in &mut self.links {
            if matches!(self.kind, Kind::Http) {
                link.enter_late(self.key);
            }
            link.finish(self.key);
        }
    }

    fn index(&self, direction: Direction, position: usize) -> usize {
        match direction {
            Direction::Request => position,
            Direction::Response => self.links.len() - 1 - position,
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let passed = self.flows.each_mut().map(|flow| std::mem::take(&mut flow.passed));
        self.local.keep_spare(Spare { links: std::mem::take(&mut self.links), passed });
    }
}
