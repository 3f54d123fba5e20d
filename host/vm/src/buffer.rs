//! A body, or the part of it that is held: a rope of chunks that is copied only when a guest reads or writes it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Bytes in order, without a copy for what passes through.
#[derive(Clone, Debug)]
pub struct Buffer(Rope);

/// Most bodies are there in one piece, or are not there: these take nothing from the heap, and little to be moved and dropped.
#[derive(Clone, Debug)]
enum Rope {
    /// May be empty.
    One(Bytes),
    Many(Box<Many>),
}

/// No chunk is empty.
#[derive(Clone, Debug)]
struct Many {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer(Rope::One(Bytes::new()))
    }
}

impl Buffer {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Rope::One(chunk) => chunk.len(),
            Rope::Many(many) => many.len,
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a chunk without copying it.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        match &mut self.0 {
            Rope::One(only) if only.is_empty() => *only = chunk,
            Rope::One(only) => {
                let len = only.len() + chunk.len();
                let chunks = VecDeque::from([std::mem::take(only), chunk]);
                self.0 = Rope::Many(Box::new(Many { chunks, len }));
            }
            Rope::Many(many) => {
                many.len += chunk.len();
                many.chunks.push_back(chunk);
            }
        }
    }

    /// Moves everything of `other` to the end of this buffer.
    pub fn append(&mut self, other: &mut Buffer) {
        if self.is_empty() {
            return std::mem::swap(self, other);
        }
        while let Some(chunk) = other.pop() {
            self.push(chunk);
        }
    }

    /// Takes the first chunk.
    pub fn pop(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Rope::One(chunk) => Some(std::mem::take(chunk)).filter(|chunk| !chunk.is_empty()),
            Rope::Many(many) => {
                let chunk = many.chunks.pop_front()?;
                many.len -= chunk.len();
                Some(chunk)
            }
        }
    }

    /// All bytes, if they lie in one piece.
    pub fn whole(&self) -> Option<Bytes> {
        match &self.0 {
            Rope::One(chunk) => Some(chunk.clone()),
            Rope::Many(_) => None,
        }
    }

    /// The chunks in order; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many) = match &self.0 {
            Rope::One(chunk) => (Some(chunk).filter(|chunk| !chunk.is_empty()), None),
            Rope::Many(many) => (None, Some(many.chunks.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten()).map(Bytes::as_ref)
    }

    /// Drops the first `count` bytes, of which there are as many.
    pub fn advance(&mut self, mut count: usize) {
        let many = match &mut self.0 {
            Rope::One(chunk) => return chunk.advance(count),
            Rope::Many(many) => many,
        };
        many.len -= count;
        while let Some(chunk) = many.chunks.front_mut() {
            if count < chunk.len() {
                chunk.advance(count);
                return;
            }
            count -= chunk.len();
            many.chunks.pop_front();
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Buffer::default();
    }

    /// Calls `copy` with each run of bytes in `start..start + length`; what lies past the end is left out.
    pub fn read(&self, start: usize, length: usize, mut copy: impl FnMut(&[u8])) {
        let mut skip = start;
        let mut left = length.min(self.len().saturating_sub(start));
        for chunk in self.chunks() {
            if left == 0 {
                return;
            }
            if skip >= chunk.len() {
                skip -= chunk.len();
                continue;
            }
            let run = &chunk[skip..chunk.len().min(skip + left)];
            copy(run);
            left -= run.len();
            skip = 0;
        }
    }

    /// Replaces `length` bytes at `start` by `bytes`, as the specification's `set_buffer` does: a start past the end
    /// appends, a length of zero inserts, a length past the end drops the rest.
    pub fn splice(&mut self, start: usize, length: usize, bytes: Bytes) {
        let start = start.min(self.len());
        let mut tail = self.split_off(start);
        tail.advance(length.min(tail.len()));
        self.push(bytes);
        self.append(&mut tail);
    }

    /// Keeps the first `at` bytes, of which there are as many.
    fn split_off(&mut self, at: usize) -> Buffer {
        let mut tail = std::mem::take(self);
        while self.len() < at {
            let Some(mut chunk) = tail.pop() else { break };
            if self.len() + chunk.len() > at {
                let mut rest = Buffer::from(chunk.split_off(at - self.len()));
                rest.append(&mut tail);
                tail = rest;
            }
            self.push(chunk);
        }
        tail
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.push(bytes);
        buffer
    }
}
