//! The filters of one exchange: calls the guests phase by phase, in order on the way to the upstream and in reverse on
//! the way back, and holds what they hold. Guests answer at once, so nothing here is async: whoever drives the exchange
//! feeds pieces in, takes what has passed, and waits at the [`Mailbox`] when a filter pauses.
//!
//! Pausing follows Envoy (`proxy_wasm` filter): see [`portcullis_vm::Action`].

mod builder;
mod flow;
mod links;
mod local;
mod slot;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use portcullis_vm::{Action, Buffer, Direction, LocalReply, Phase, StreamKey};

pub use builder::Builder;
pub use flow::Passed;
pub use local::{Local, Mailbox, Party, Signal};
pub use slot::{Slot, SlotId};

use crate::facts::Verdict;
use flow::{Flow, Full, Head, Trailers};
use links::{Entry, Link};

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
}

const fn phases(direction: Direction) -> [Phase; 3] {
    match direction {
        Direction::Request => [Phase::RequestHeaders, Phase::RequestBody, Phase::RequestTrailers],
        Direction::Response => {
            [Phase::ResponseHeaders, Phase::ResponseBody, Phase::ResponseTrailers]
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
        Chain {
            links: slots.iter().cloned().map(Link::new).collect(),
            flows: [Flow::default(), Flow::default()],
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

    /// Adds filters behind the last one and sends what has already passed in the request direction through them.
    pub fn extend(&mut self, slots: &[Rc<Slot>]) {
        let first = self.links.len();
        self.links.extend(slots.iter().cloned().map(Link::new));
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
    pub fn feed_trailers(&mut self, direction: Direction, map: HeaderMap) {
        self.flows[direction as usize].source_ended = true;
        self.trailers(direction, 0, map);
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
                Signal::Ready(slot) => self.instance_ready(slot),
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

    /// Whether a filter wants to see the body.
    pub fn sees_body(&self, direction: Direction) -> bool {
        self.links.iter().any(|link| link.sees(phases(direction)[1]))
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

    /// The end of the exchange: each guest logs, and its context is deleted.
    pub fn finish(&mut self) {
        self.links.iter_mut().for_each(Link::finish);
    }

    fn head(&mut self, direction: Direction, from: usize, mut end: bool) {
        for position in from..self.links.len() {
            if !self.goes_on(direction) {
                return;
            }
            let index = self.index(direction, position);
            match self.links[index].enter(direction, self.key) {
                Entry::Open => {}
                Entry::Skip => {
                    self.links[index].held(direction).head = Head::Passed;
                    continue;
                }
                Entry::Wait => {
                    self.links[index].held(direction).head = Head::AwaitsInstance { end };
                    return;
                }
                Entry::Failed => {
                    self.fail(index);
                    self.links[index].held(direction).head = Head::Passed;
                    continue;
                }
            }
            let action = self.run(index, phases(direction)[0], end);
            if self.terminal.is_some() {
                return;
            }
            let held = self.links[index].held(direction);
            match action {
                Some(Action::Pause | Action::PauseWatermark) => {
                    held.head = Head::HeldAll { end };
                    return;
                }
                Some(Action::PauseHeaders) => {
                    held.head = if end { Head::HeldAll { end } } else { Head::HeldOnly };
                    return;
                }
                Some(Action::EndStream) => {
                    held.head = Head::Passed;
                    held.drop_rest = true;
                    end = true;
                }
                Some(Action::Continue | Action::Drop) | None => held.head = Head::Passed,
            }
        }
        let flow = &mut self.flows[direction as usize];
        flow.source_ended |= end;
        flow.passed.push_back(Passed::Headers { end });
    }

    fn data(&mut self, direction: Direction, from: usize, mut data: Buffer, mut end: bool) {
        for position in from..self.links.len() {
            if !self.goes_on(direction) {
                return;
            }
            let index = self.index(direction, position);
            let link = &mut self.links[index];
            if link.is_bypassed() {
                continue;
            }
            if link.held(direction).drop_rest {
                return;
            }
            if matches!(
                link.held(direction).head,
                Head::AwaitsInstance { .. } | Head::HeldAll { .. }
            ) {
                link.held(direction).keep(&mut data, end);
                return;
            }
            let waits = link.held(direction).head == Head::HeldOnly
                || link.held(direction).paused.is_some();
            if !waits && !link.sees(phases(direction)[1]) {
                continue;
            }
            link.held(direction).keep(&mut data, end);
            if link.over_limit(direction) && link.held(direction).paused == Some(Full::Fails) {
                return self.too_large(index, direction);
            }
            let Some(passed_on) = self.show_body(index, position, direction) else { return };
            (data, end) = passed_on;
        }
        let flow = &mut self.flows[direction as usize];
        flow.bytes_out += data.len() as u64;
        if end || !data.is_empty() {
            flow.passed.push_back(Passed::Data { data, end });
        }
    }

    /// Shows a filter all that it holds; `Some` is what goes on to the next filter.
    fn show_body(
        &mut self,
        index: usize,
        position: usize,
        direction: Direction,
    ) -> Option<(Buffer, bool)> {
        let end = self.links[index].held(direction).end;
        let action = self.run_with_body(index, direction, end);
        if self.terminal.is_some() {
            return None;
        }
        let added = self.take_added_trailers(index, direction);
        let held = self.links[index].held(direction);
        match action {
            Some(Action::Pause) => {
                held.paused = Some(Full::Fails);
                if self.links[index].over_limit(direction) {
                    self.too_large(index, direction);
                }
                None
            }
            Some(Action::PauseWatermark) => {
                held.paused = Some(Full::Waits);
                None
            }
            Some(Action::Drop) => {
                held.body.clear();
                held.paused = None;
                let end = std::mem::take(&mut held.end);
                end.then(|| (Buffer::default(), true))
            }
            _ => {
                let head_held = held.head == Head::HeldOnly;
                held.paused = None;
                let mut passed_on = (std::mem::take(&mut held.body), std::mem::take(&mut held.end));
                if head_held {
                    held.head = Head::Passed;
                    self.head(direction, position + 1, false);
                }
                if let Some(map) = added {
                    self.data(direction, position + 1, std::mem::take(&mut passed_on.0), false);
                    self.trailers(direction, position + 1, map);
                    return None;
                }
                Some(passed_on)
            }
        }
    }

    fn trailers(&mut self, direction: Direction, from: usize, mut map: HeaderMap) {
        for position in from..self.links.len() {
            if !self.goes_on(direction) {
                return;
            }
            let index = self.index(direction, position);
            let link = &mut self.links[index];
            if link.is_bypassed() {
                continue;
            }
            let held = link.held(direction);
            if held.drop_rest {
                return;
            }
            if matches!(held.head, Head::AwaitsInstance { .. } | Head::HeldAll { .. }) {
                held.trailers = Some(Trailers { map, seen: false });
                return;
            }
            let (action, shown) = self.run_with_trailers(index, direction, map);
            if self.terminal.is_some() {
                return;
            }
            map = shown;
            let held = self.links[index].held(direction);
            if matches!(action, Some(Action::Pause | Action::PauseWatermark | Action::PauseHeaders))
            {
                held.trailers = Some(Trailers { map, seen: true });
                return;
            }
            self.release(direction, position);
        }
        self.flows[direction as usize].passed.push_back(Passed::Trailers(map));
    }

    /// A filter lets go: what it holds goes on to the next one, what it has not seen yet is shown to it first.
    fn resume(&mut self, direction: Direction, position: usize) {
        let index = self.index(direction, position);
        let held = self.links[index].held(direction);
        match held.head {
            Head::Before | Head::AwaitsInstance { .. } => {}
            Head::HeldAll { end } => {
                held.head = Head::Passed;
                self.head(direction, position + 1, end);
                self.show_rest(direction, position);
            }
            Head::HeldOnly | Head::Passed => self.release(direction, position),
        }
    }

    /// Passes on what the guest has already seen.
    fn release(&mut self, direction: Direction, position: usize) {
        let index = self.index(direction, position);
        let held = self.links[index].held(direction);
        let head_held = held.head == Head::HeldOnly;
        held.paused = None;
        let (body, end) = (std::mem::take(&mut held.body), std::mem::take(&mut held.end));
        let trailers = held.trailers.take();
        if head_held {
            held.head = Head::Passed;
            self.head(direction, position + 1, false);
        }
        if end || !body.is_empty() {
            self.data(direction, position + 1, body, end);
        }
        match trailers {
            Some(Trailers { map, seen: true }) => self.trailers(direction, position + 1, map),
            Some(Trailers { map, seen: false }) => self.trailers(direction, position, map),
            None => {}
        }
    }

    /// Shows a filter what came while its head was held.
    fn show_rest(&mut self, direction: Direction, position: usize) {
        let index = self.index(direction, position);
        let held = self.links[index].held(direction);
        let (body, end) = (std::mem::take(&mut held.body), std::mem::take(&mut held.end));
        let trailers = held.trailers.take();
        if end || !body.is_empty() {
            self.data(direction, position, body, end);
        }
        if let Some(Trailers { map, .. }) = trailers {
            self.trailers(direction, position, map);
        }
    }

    fn index(&self, direction: Direction, position: usize) -> usize {
        match direction {
            Direction::Request => position,
            Direction::Response => self.links.len() - 1 - position,
        }
    }
}
