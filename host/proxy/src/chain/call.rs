//! Calls of the guests of one exchange, and what they are lent for as long: bodies and trailers, taken back afterwards.

use portcullis_vm::{
    Action, Buffer, Direction, Fields, HttpStream, Phase, Stream, StreamKey, Streams,
};

use crate::chain::Chain;
use crate::chain::slot::SlotId;
use crate::snapshot::FailStrategy;

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
        map: Box<Fields>,
    ) -> (Option<Action>, Box<Fields>) {
        self.local.with(self.key, |stream| *trailers(stream, direction) = Some(map));
        let phase = match direction {
            Direction::Request => Phase::RequestTrailers,
            Direction::Response => Phase::ResponseTrailers,
        };
        let key = self.key;
        let mut body = self.links[index].held(direction).body.take();
        let lend = |streams: &mut Streams| swap_body(streams, key, direction, &mut body);
        let action = self.run_lent(index, phase, true, lend);
        self.links[index].held(direction).body.append(&mut body);
        let map = self.local.with(self.key, |stream| trailers(stream, direction).take()).flatten();
        (action, map.unwrap_or_default())
    }

    /// Trailers that the guest has added while it saw the last of the body.
    pub(super) fn take_added_trailers(
        &mut self,
        index: usize,
        direction: Direction,
    ) -> Option<Box<Fields>> {
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

    /// Exchanges what a paused filter holds with what its stream shows; called again, it takes it back.
    pub fn swap_held(&mut self, slot: SlotId) {
        let Some(index) = self.links.iter().position(|link| link.slot.id == slot) else { return };
        for direction in [Direction::Request, Direction::Response] {
            let held = self.links[index].held(direction);
            if held.paused.is_none() {
                continue;
            }
            let lent = held.body.note_lent();
            let held = held.body.as_mut();
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
}

/// Exchanges what a filter holds with what its stream shows.
fn swap_body(streams: &mut Streams, key: StreamKey, direction: Direction, held: &mut Buffer) {
    match streams.stream_mut(key) {
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

fn trailers(stream: &mut HttpStream, direction: Direction) -> &mut Option<Box<Fields>> {
    match direction {
        Direction::Request => &mut stream.request_trailers,
        Direction::Response => &mut stream.response_trailers,
    }
}
