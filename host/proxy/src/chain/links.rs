//! One filter in the chain of one exchange: how it is entered, called and left, and what its failure means.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use portcullis_vm::{
    Action, Buffer, Direction, HttpStream, Peer, Phase, Stream, StreamKey, Streams,
};

use crate::chain::flow::{Head, Held};
use crate::chain::local::Signal;
use crate::chain::slot::{Availability, Gone, Seat, Slot, SlotId};
use crate::chain::{Chain, Terminal};
use crate::facts::Verdict;
use crate::snapshot::FailStrategy;

/// One filter in the chain of one exchange.
#[derive(Debug)]
pub struct Link {
    /// Runs it.
    pub slot: Rc<Slot>,
    /// What it did.
    pub verdict: Verdict,
    seat: Option<Seat>,
    bypassed: bool,
    held: [Held; 2],
}

/// Whether a filter takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It has a context.
    Open,
    /// It has got a context, and has answered to the head.
    Answered(Action),
    /// It takes no part in this direction.
    Skip,
    /// It will, once it has an instance.
    Wait,
    /// It should, and cannot.
    Failed,
}

impl Link {
    /// Before its first phase.
    pub fn new(slot: Rc<Slot>) -> Link {
        Link {
            slot,
            verdict: Verdict::Continued,
            seat: None,
            bypassed: false,
            held: [Held::default(), Held::default()],
        }
    }

    /// Whether it was reached at all.
    pub fn took_part(&self) -> bool {
        self.seat.is_some() || self.verdict != Verdict::Continued
    }

    /// What it holds back.
    pub fn held(&mut self, direction: Direction) -> &mut Held {
        &mut self.held[direction as usize]
    }

    /// Whether it is skipped for the rest of the exchange.
    pub fn is_bypassed(&self) -> bool {
        self.bypassed || self.seat.is_none() && !self.waits()
    }

    /// Whether nothing may reach it at the moment.
    pub fn blocks(&self, direction: Direction) -> bool {
        !self.bypassed && self.held[direction as usize].blocks(self.slot.filter.plugin.limits.body)
    }

    /// Whether it holds more than its limit, which is inclusive.
    pub fn over_limit(&self, direction: Direction) -> bool {
        self.held[direction as usize].body.len() > self.slot.filter.plugin.limits.body
    }

    /// Whether its guest wants to be called in this phase.
    pub fn sees(&self, phase: Phase) -> bool {
        !self.bypassed && self.seat.is_some_and(|seat| seat.phases.contains(phase))
    }

    /// Gives the exchange a context, at the request's head, with which the guest is called. A filter that never saw the
    /// request sees no response.
    pub fn enter(
        &mut self,
        direction: Direction,
        key: StreamKey,
        head: Option<Phase>,
        end: bool,
    ) -> Entry {
        if self.bypassed {
            return Entry::Skip;
        }
        if self.seat.is_some() {
            return Entry::Open;
        }
        let (Direction::Request, Some(head)) = (direction, head) else { return Entry::Skip };
        match self.slot.claim(key) {
            Availability::Awaited => Entry::Wait,
            Availability::Suspended => Entry::Failed,
            Availability::Ready(number) => match self.slot.seat(number, key, head, end) {
                Ok((seat, action)) => {
                    self.seat = Some(seat);
                    Entry::Answered(action)
                }
                Err(_) => Entry::Failed,
            },
        }
    }

    /// A filter that the exchange has not reached gets a context for its end, if it has something to log and can at once.
    pub fn enter_late(&mut self, key: StreamKey) {
        if self.bypassed || self.seat.is_some() || self.waits() {
            return;
        }
        let Some(instance) = self.slot.claim_late(key) else { return };
        self.seat = self.slot.seat_late(instance, key).ok();
    }

    /// Tells the guest that a connection has ended.
    ///
    /// # Errors
    /// The instance is gone, or has trapped just now.
    pub fn closed(&self, direction: Direction, by: Peer) -> Result<(), Gone> {
        let Some(seat) = self.seat.filter(|_| !self.bypassed) else { return Ok(()) };
        self.slot.call(seat.instance, |plugin, streams| {
            plugin.closed(streams, seat.context, direction, by)
        })
    }

    /// The guest logs, and its context is deleted.
    pub fn finish(&mut self, key: StreamKey) {
        // It may wait for an instance, or have been given one that it has not taken.
        let Some(seat) = self.seat.take() else { return self.slot.leave(key) };
        if self
            .slot
            .call(seat.instance, |plugin, streams| plugin.finish(streams, seat.context))
            .is_err()
        {
            tracing::debug!(filter = %self.slot.filter.name, "no log phase: the instance is gone");
        }
        self.slot.give_back(seat.instance);
    }

    /// Whether a callout that its guest made for the exchange is on the way.
    pub fn awaits_call(&self, key: StreamKey) -> bool {
        self.seat.is_some_and(|seat| self.slot.awaits_call(seat.instance, key))
    }

    fn waits(&self) -> bool {
        self.held.iter().any(|held| matches!(held.head, Head::AwaitsInstance { .. }))
    }
}

impl Chain {
    /// Calls a guest; `None` when it could not answer, which has been dealt with.
    pub(super) fn run(&mut self, index: usize, phase: Phase, end: bool) -> Option<Action> {
        self.run_lent(index, phase, end, |_| {})
    }

    /// Calls a guest with a body, or a part of it.
    pub(super) fn run_with_body(
        &mut self,
        index: usize,
        direction: Direction,
        body: &mut Buffer,
        end: bool,
    ) -> Option<Action> {
        let (key, phase) = (self.key, self.kind.body(direction));
        let fail = self.links[index].slot.filter.fail;
        let untouched = (fail == FailStrategy::Open).then(|| body.clone());
        let lend = |streams: &mut Streams| swap_body(streams, key, direction, body);
        let action = self.run_lent(index, phase, end, lend);
        if let (None, Some(untouched)) = (action, untouched) {
            // Skipped means that it has not changed anything.
            *body = untouched;
        }
        action
    }

    /// Calls a guest; `lend` puts what it is to see into the streams before, and takes it back afterwards.
    fn run_lent(
        &mut self,
        index: usize,
        phase: Phase,
        end: bool,
        mut lend: impl FnMut(&mut Streams),
    ) -> Option<Action> {
        let link = &self.links[index];
        let seat = link.seat.as_ref()?;
        if !seat.phases.contains(phase) {
            return Some(Action::Continue);
        }
        let answer = link.slot.call(seat.instance, |plugin, streams| {
            lend(streams);
            let answer = plugin.run(streams, seat.context, phase, end);
            lend(streams);
            answer
        });
        match answer {
            Ok(action) => {
                self.take_end();
                Some(action)
            }
            Err(_) => {
                self.fail(index);
                None
            }
        }
    }

    /// Calls a guest with the trailers, and gives them back.
    pub(super) fn run_with_trailers(
        &mut self,
        index: usize,
        direction: Direction,
        map: HeaderMap,
    ) -> (Option<Action>, HeaderMap) {
        self.local.with(self.key, |stream| *trailers(stream, direction) = Some(map));
        let phase = match direction {
            Direction::Request => Phase::RequestTrailers,
            Direction::Response => Phase::ResponseTrailers,
        };
        let key = self.key;
        let mut body = std::mem::take(&mut self.links[index].held(direction).body);
        let lend = |streams: &mut Streams| swap_body(streams, key, direction, &mut body);
        let action = self.run_lent(index, phase, true, lend);
        self.links[index].held(direction).body = body;
        let map = self.local.with(self.key, |stream| trailers(stream, direction).take()).flatten();
        (action, map.unwrap_or_default())
    }

    /// Trailers that the guest has added while it saw the last of the body.
    pub(super) fn take_added_trailers(
        &mut self,
        index: usize,
        direction: Direction,
    ) -> Option<HeaderMap> {
        if !self.links[index].held(direction).end || !self.has_trailers(direction) {
            return None;
        }
        let added =
            self.local.with(self.key, |stream| trailers(stream, direction).take()).flatten();
        added.filter(|map| !map.is_empty())
    }

    /// Whether guests have trailers before them.
    pub(super) fn has_trailers(&self, direction: Direction) -> bool {
        self.local.with_streams(|streams| match (streams.get(self.key), direction) {
            (Some(stream), Direction::Request) => stream.request_trailers.is_some(),
            (Some(stream), Direction::Response) => stream.response_trailers.is_some(),
            (None, _) => false,
        })
    }

    /// A filter cannot run: its `failStrategy` decides.
    pub(super) fn fail(&mut self, index: usize) {
        let link = &mut self.links[index];
        if std::mem::replace(&mut link.bypassed, true) {
            return;
        }
        match link.slot.filter.fail {
            FailStrategy::Open => {
                link.verdict = Verdict::Skipped;
                link.slot.note_unavailable("skipped");
            }
            FailStrategy::Close => {
                link.verdict = Verdict::Failed;
                link.slot.note_unavailable("failed");
                let name = link.slot.filter.name.clone();
                self.end(Terminal::Failed(name));
            }
        }
    }

    /// The head has left with a length; a body that is longer would be cut off by it, or be taken for another message.
    pub(super) fn check_length(&mut self, direction: Direction, end: bool) {
        let flow = &self.flows[direction as usize];
        let Some(promised) = flow.promised else { return };
        if flow.bytes_out <= promised && !(end && flow.bytes_out < promised) {
            return;
        }
        let phase = self.kind.body(direction);
        let seeing = |link: &Link| link.sees(phase);
        let name = self.links.iter().find(|link| seeing(link)).map(|link| &link.slot.filter.name);
        let name = name.cloned().unwrap_or_default();
        tracing::warn!(filter = %name, promised, "the body's length was changed after its head had left; a filter that does so has to remove content-length");
        self.end(Terminal::Failed(name));
    }

    /// A filter holds more than it may.
    pub(super) fn too_large(&mut self, index: usize, direction: Direction) {
        let link = &mut self.links[index];
        link.verdict = Verdict::Failed;
        let name = link.slot.filter.name.clone();
        self.end(Terminal::TooLarge(name, direction));
    }

    /// A guest has ended the exchange from a callback.
    pub(super) fn end_by(&mut self, slot: SlotId, terminal: impl FnOnce(Arc<str>) -> Terminal) {
        let Some(link) = self.links.iter_mut().find(|link| link.slot.id == slot) else { return };
        let terminal = terminal(link.slot.filter.name.clone());
        link.verdict = match terminal {
            Terminal::Reply(..) => Verdict::Replied,
            _ => Verdict::Closed,
        };
        self.end(terminal);
    }

    /// Where the filter of `slot` stands in `direction`.
    pub(super) fn position(&self, slot: SlotId, direction: Direction) -> Option<usize> {
        let index = self.links.iter().position(|link| link.slot.id == slot)?;
        Some(self.index(direction, index))
    }

    pub(super) fn instance_ready(&mut self, slot: SlotId) {
        let direction = Direction::Request;
        let Some(position) = self.position(slot, direction) else { return };
        let index = self.index(direction, position);
        let held = self.links[index].held(direction);
        if let Head::AwaitsInstance { end } = held.head {
            held.head = Head::Before;
            self.head(direction, position, end);
            if !self.links[index].held(direction).holds_all() {
                self.show_rest(direction, position);
            }
        }
    }

    /// Nobody waits for longer than one attempt to start an instance.
    pub(super) fn instance_unready(&mut self, slot: SlotId) {
        let direction = Direction::Request;
        let Some(position) = self.position(slot, direction) else { return };
        let index = self.index(direction, position);
        let Head::AwaitsInstance { end } = self.links[index].held(direction).head else { return };
        self.fail(index);
        self.links[index].held(direction).head = Head::Passed;
        if self.terminal.is_none() {
            self.head(direction, position + 1, end);
            self.show_rest(direction, position);
        }
    }

    pub(super) fn instance_died(&mut self, slot: SlotId, number: u64) {
        let Some(index) = self.links.iter().position(|link| link.slot.id == slot) else { return };
        let link = &mut self.links[index];
        if link.bypassed || link.seat.is_none_or(|seat| seat.instance != number) {
            return;
        }
        self.fail(index);
        for direction in [Direction::Request, Direction::Response] {
            if self.terminal.is_none() && self.links[index].held(direction).holds() {
                self.resume(direction, self.index(direction, index));
            }
        }
    }

    /// Ends the exchange if the callback that has just returned asked for it; the other signals wait for `pump`.
    pub(super) fn take_end(&mut self) {
        if !self.mailbox.is_empty() {
            self.find_end();
        }
    }

    #[inline(never)]
    fn find_end(&mut self) {
        match self.mailbox.take_end() {
            Some(Signal::Reply(slot, reply)) => {
                self.end_by(slot, |filter| Terminal::Reply(filter, Box::new(reply)))
            }
            Some(Signal::Close(slot)) => self.end_by(slot, Terminal::Close),
            _ => {}
        }
    }

    /// Exchanges what a paused filter holds with what its stream shows; called again, it takes it back.
    pub fn swap_held(&mut self, slot: SlotId) {
        let Some(index) = self.links.iter().position(|link| link.slot.id == slot) else { return };
        for direction in [Direction::Request, Direction::Response] {
            let held = self.links[index].held(direction);
            if held.paused.is_none() {
                continue;
            }
            let lent = held.lent.take();
            if lent.is_none() {
                held.lent = Some(held.body.len());
            }
            let held = &mut self.links[index].held[direction as usize].body;
            self.local.with_streams(|streams| swap_body(streams, self.key, direction, held));
            self.local.with(self.key, |stream| stream.lent[direction as usize] = lent.is_none());
            let grown =
                lent.is_some_and(|lent| self.links[index].held(direction).body.len() > lent);
            if grown && self.links[index].over_limit(direction) {
                self.too_large(index, direction);
                self.mailbox.wake();
            }
        }
    }

    /// The first end counts.
    fn end(&mut self, terminal: Terminal) {
        self.terminal.get_or_insert(terminal);
    }
}

/// Exchanges what a filter holds with what its stream shows.
fn swap_body(streams: &mut Streams, key: StreamKey, direction: Direction, held: &mut Buffer) {
    match streams.bodies_mut(key) {
        Some(Stream::Http(stream)) => std::mem::swap(body(stream, direction), held),
        Some(Stream::Tcp(stream)) => lend(stream.data_mut(direction), held),
        None => {}
    }
}

/// Puts what is held where guests see it; called again, takes it back.
fn lend(place: &mut Option<Buffer>, held: &mut Buffer) {
    match place.take() {
        Some(data) => *held = data,
        None => *place = Some(std::mem::take(held)),
    }
}

fn body(stream: &mut HttpStream, direction: Direction) -> &mut Buffer {
    match direction {
        Direction::Request => &mut stream.request_body,
        Direction::Response => &mut stream.response_body,
    }
}

fn trailers(stream: &mut HttpStream, direction: Direction) -> &mut Option<HeaderMap> {
    match direction {
        Direction::Request => &mut stream.request_trailers,
        Direction::Response => &mut stream.response_trailers,
    }
}
