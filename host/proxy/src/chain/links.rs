//! One filter in the chain of one exchange: how it is entered, called and left, and what its failure means.

use std::rc::Rc;
use std::sync::Arc;

use portcullis_vm::{Action, Direction, Peer, Phase, StreamKey};

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
    pub(super) seat: Option<Seat>,
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

    /// The first end counts.
    fn end(&mut self, terminal: Terminal) {
        self.terminal.get_or_insert(terminal);
    }
}
