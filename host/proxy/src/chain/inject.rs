//! Bytes that guests put into a response's body from outside of it (`proxy_inject_encoded_data_to_filter_chain`): they
//! pass the filters that come after the guest's own on the way to the client.
//!
//! What a guest injects from a callback goes before what the callback lets pass.

use bytes::Bytes;
use portcullis_vm::{Buffer, Direction};

use super::Chain;
use super::flow::{Head, Passed};
use super::slot::SlotId;

const RESPONSE: Direction = Direction::Response;

impl Chain {
    /// Injects from outside of the body's own callbacks. A head that the filter holds goes first, as on Envoy.
    pub(super) fn inject(&mut self, slot: SlotId, data: Bytes, end: bool) {
        let Some(position) = self.position(slot, RESPONSE) else { return };
        let index = self.index(RESPONSE, position);
        if !self.goes_on(RESPONSE) || self.links[index].is_bypassed() || self.is_past(position) {
            tracing::debug!(filter = %self.links[index].slot.filter.name, "bytes were injected where no body is");
            return;
        }
        let held = self.links[index].held(RESPONSE);
        match held.head {
            Head::Before | Head::AwaitsInstance { .. } => return,
            Head::HeldAll { end: last } => {
                held.head = Head::Passed;
                held.end |= last;
                self.head(RESPONSE, position + 1, false);
                self.put(position, data, end);
                if !last && self.goes_on(RESPONSE) {
                    self.show_rest(RESPONSE, position);
                }
                return;
            }
            Head::HeldOnly => {
                held.head = Head::Passed;
                self.head(RESPONSE, position + 1, false);
            }
            Head::Passed => {}
        }
        self.put(position, data, end);
    }

    /// Injects what the callback that has just returned asked for.
    pub(super) fn pass_injected(&mut self, index: usize, direction: Direction, position: usize) {
        if direction != RESPONSE {
            return;
        }
        let slot = self.links[index].slot.id;
        while self.goes_on(RESPONSE)
            && !self.links[index].held(RESPONSE).drop_rest
            && let Some((data, end)) = self.mailbox.take_injected(slot)
        {
            if self.links[index].held(RESPONSE).head == Head::HeldOnly {
                self.links[index].held(RESPONSE).head = Head::Passed;
                self.head(RESPONSE, position + 1, false);
            }
            self.put(position, data, end);
        }
    }

    fn put(&mut self, position: usize, data: Bytes, end: bool) {
        if !self.goes_on(RESPONSE) {
            return;
        }
        let index = self.index(RESPONSE, position);
        if end {
            let held = self.links[index].held(RESPONSE);
            held.body.clear();
            (held.paused, held.trailers) = (None, None);
            (held.end, held.lets_go) = (false, false);
            held.drop_rest = true;
            self.flows[RESPONSE as usize].source_ended = true;
        }
        self.data(RESPONSE, position + 1, Buffer::from(data), end);
        if self.terminal.is_none()
            && self.waiting(position) > self.links[index].slot.filter.plugin.limits.body
        {
            self.too_large(index, RESPONSE);
        }
    }

    /// Bytes of body that have passed the filter and not yet left for the client.
    fn waiting(&mut self, position: usize) -> usize {
        let passed = self.flows[RESPONSE as usize].passed.iter();
        let passed: usize = passed
            .map(|piece| match piece {
                Passed::Data { data, .. } => data.len(),
                Passed::Headers { .. } | Passed::Trailers(_) => 0,
            })
            .sum();
        let behind =
            (position + 1..self.links.len()).map(|position| self.index(RESPONSE, position));
        let held: usize = behind
            .collect::<Vec<_>>()
            .into_iter()
            .map(|index| self.links[index].held(RESPONSE).body.len())
            .sum();
        passed + held
    }

    /// Whether the end of the response has passed the filter.
    fn is_past(&mut self, position: usize) -> bool {
        let index = self.index(RESPONSE, position);
        if self.links[index].held(RESPONSE).drop_rest {
            return true;
        }
        let ahead: Vec<usize> =
            (0..=position).map(|position| self.index(RESPONSE, position)).collect();
        self.flows[RESPONSE as usize].source_ended
            && !ahead.into_iter().any(|index| self.links[index].held(RESPONSE).holds_end())
    }
}
