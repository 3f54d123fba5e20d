//! The way of heads, bodies and trailers from filter to filter: what each is shown, what it holds, and what goes on when
//! it lets go. Never waits; a filter that holds is left for a signal or for the next piece.

use portcullis_vm::{Action, Buffer, Direction, Fields};

use super::Chain;
use super::flow::{Full, Head, Passed, Shown, Trailers};
use super::links::Entry;
use super::slot::SlotId;

impl Chain {
    pub(super) fn head(&mut self, direction: Direction, from: usize, mut end: bool) {
        let phase = self.kind.head(direction);
        for position in from..self.links.len() {
            if !self.goes_on(direction) {
                return;
            }
            let index = self.index(direction, position);
            let action = match self.links[index].enter(direction, self.key, phase, end) {
                Entry::Open => match phase {
                    Some(phase) => self.run(index, phase, end),
                    None => Some(Action::Continue),
                },
                Entry::Answered(action) => {
                    self.take_end();
                    Some(action)
                }
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
            };
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

    pub(super) fn data(
        &mut self,
        direction: Direction,
        from: usize,
        mut data: Buffer,
        mut end: bool,
    ) {
        let phase = self.kind.body(direction);
        for position in from..self.links.len() {
            if !self.goes_on(direction) {
                return;
            }
            let index = self.index(direction, position);
            let link = &mut self.links[index];
            if link.is_bypassed() {
                continue;
            }
            let sees = link.sees(phase);
            let held = link.held(direction);
            if held.drop_rest {
                return;
            }
            if held.holds_all() {
                held.keep(&mut data, end);
                return;
            }
            let waits = held.head == Head::HeldOnly || held.paused.is_some();
            if !waits && !sees {
                continue;
            }
            if waits || held.keeps() {
                held.keep(&mut data, end);
                if held.paused == Some(Full::Fails) && link.over_limit(direction) {
                    return self.too_large(index, direction);
                }
                let held = link.held(direction);
                (data, end) = (held.body.take(), std::mem::take(&mut held.end));
            }
            let before = data.len();
            let action = self.run_with_body(index, direction, &mut data, end);
            let passes = !waits && action == Some(Action::Continue);
            let calm = self.terminal.is_none() && self.mailbox.is_empty();
            if passes && calm && !(end && self.has_trailers(direction)) {
                continue;
            }
            self.links[index].held(direction).keep(&mut data, end);
            let Some(passed_on) = self.shown_body(index, position, direction, action, before)
            else {
                return;
            };
            (data, end) = passed_on;
        }
        self.flows[direction as usize].bytes_out += data.len() as u64;
        if end || !data.is_empty() {
            self.flows[direction as usize].passed.push_back(Passed::Data { data, end });
        }
        self.check_length(direction, end);
    }

    /// What comes of a filter's answer to all that it holds, of which there were so many bytes before; `Some` is what goes
    /// on to the next filter.
    fn shown_body(
        &mut self,
        index: usize,
        position: usize,
        direction: Direction,
        action: Option<Action>,
        before: usize,
    ) -> Option<(Buffer, bool)> {
        if !self.mailbox.is_empty() {
            self.pass_injected(index, direction, position);
        }
        if self.terminal.is_some() || self.links[index].held(direction).drop_rest {
            return None;
        }
        let added = self.take_added_trailers(index, direction);
        let held = self.links[index].held(direction);
        match action {
            Some(pause @ (Action::Pause | Action::PauseWatermark)) => {
                let fails = pause == Action::Pause;
                held.paused = Some(if fails { Full::Fails } else { Full::Waits });
                held.lets_go = false;
                if let Some(map) = added {
                    held.end = false;
                    held.trailers = Some(Box::new(Trailers { map, shown: Shown::Paused }));
                }
                // Nobody can keep the sender from sending what the guest itself has added.
                let grown = held.body.len() > before;
                if (fails || grown) && self.links[index].over_limit(direction) {
                    self.too_large(index, direction);
                }
                None
            }
            Some(Action::Drop) => {
                held.body.clear();
                held.paused = None;
                if held.head == Head::HeldOnly {
                    // The end waits for the head.
                    return None;
                }
                if held.end && self.links[index].awaits_call(self.key) {
                    let held = self.links[index].held(direction);
                    held.paused = Some(Full::Waits);
                    held.lets_go = true;
                    return None;
                }
                let end = std::mem::take(&mut self.links[index].held(direction).end);
                end.then(|| (Buffer::default(), true))
            }
            _ => self.let_pass(index, position, direction, added),
        }
    }

    /// What a filter lets go on to the next one: its head, if it held that, then what it has seen of the body, then
    /// trailers that it has added.
    fn let_pass(
        &mut self,
        index: usize,
        position: usize,
        direction: Direction,
        added: Option<Box<Fields>>,
    ) -> Option<(Buffer, bool)> {
        let held = self.links[index].held(direction);
        let head_held = held.head == Head::HeldOnly;
        held.paused = None;
        let mut passed_on = (held.body.take(), std::mem::take(&mut held.end));
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

    pub(super) fn trailers(&mut self, direction: Direction, from: usize, mut map: Box<Fields>) {
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
            if held.holds_all() {
                held.trailers = Some(Box::new(Trailers { map, shown: Shown::No }));
                return;
            }
            let (action, shown) = self.run_with_trailers(index, direction, map);
            self.pass_injected(index, direction, position);
            if self.terminal.is_some() || self.links[index].held(direction).drop_rest {
                return;
            }
            map = shown;
            let shown = match action {
                Some(Action::Pause | Action::PauseWatermark | Action::PauseHeaders) => {
                    Some(Shown::Paused)
                }
                Some(_) if self.waits_for_verdict(index, direction) => Some(Shown::BeforeAnswer),
                _ => None,
            };
            if let Some(shown) = shown {
                self.links[index].held(direction).trailers =
                    Some(Box::new(Trailers { map, shown }));
                return;
            }
            self.release(direction, position);
        }
        self.flows[direction as usize].passed.push_back(Passed::Trailers(map));
        self.check_length(direction, true);
    }

    /// A filter lets go: what it holds goes on to the next one, what it has not seen yet is shown to it first.
    pub(super) fn resume(&mut self, direction: Direction, position: usize) {
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

    /// A guest that let trailers pass while its callout was on the way has had the answer. Unless it ended the exchange,
    /// or asked again, what it holds goes on now.
    pub(super) fn call_answered(&mut self, slot: SlotId) {
        for direction in [Direction::Request, Direction::Response] {
            let Some(position) = self.position(slot, direction) else { return };
            let index = self.index(direction, position);
            let held = self.links[index].held(direction);
            let trailers = held.trailers.as_ref();
            let passes = held.lets_go
                || trailers.is_some_and(|trailers| trailers.shown == Shown::BeforeAnswer);
            if passes && self.goes_on(direction) && !self.waits_for_verdict(index, direction) {
                self.release(direction, position);
            }
        }
    }

    /// Whether a filter holds a head or a body until a callout is answered: nothing of that passes with the trailers.
    fn waits_for_verdict(&mut self, index: usize, direction: Direction) -> bool {
        let link = &mut self.links[index];
        let held = link.held(direction);
        (held.paused.is_some() || held.head == Head::HeldOnly) && link.awaits_call(self.key)
    }

    /// Passes on what the guest has already seen.
    fn release(&mut self, direction: Direction, position: usize) {
        let index = self.index(direction, position);
        let held = self.links[index].held(direction);
        let head_held = held.head == Head::HeldOnly;
        held.paused = None;
        held.lets_go = false;
        let (body, end) = (held.body.take(), std::mem::take(&mut held.end));
        let trailers = held.trailers.take();
        if head_held {
            held.head = Head::Passed;
            self.head(direction, position + 1, false);
        }
        if end || !body.is_empty() {
            self.data(direction, position + 1, body, end);
        }
        match trailers.map(|trailers| *trailers) {
            Some(Trailers { map, shown: Shown::No }) => self.trailers(direction, position, map),
            Some(Trailers { map, .. }) => self.trailers(direction, position + 1, map),
            None => {}
        }
    }

    /// Shows a filter what came while its head was held.
    pub(super) fn show_rest(&mut self, direction: Direction, position: usize) {
        let index = self.index(direction, position);
        let held = self.links[index].held(direction);
        let (body, end) = (held.body.take(), std::mem::take(&mut held.end));
        let trailers = held.trailers.take();
        if end || !body.is_empty() {
            self.data(direction, position, body, end);
        }
        if let Some(Trailers { map, .. }) = trailers.map(|trailers| *trailers) {
            self.trailers(direction, position, map);
        }
    }
}
