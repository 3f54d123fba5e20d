//! A body, or the part of it that is held: a rope of chunks that is copied only when a guest reads or writes it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Bytes in order, without a copy for what passes through.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Buffer {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a chunk without copying it.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Moves everything of `other` to the end of this buffer.
    pub fn append(&mut self, other: &mut Buffer) {
        if self.chunks.is_empty() {
            return std::mem::swap(self, other);
        }
        self.len += std::mem::take(&mut other.len);
        self.chunks.append(&mut other.chunks);
    }

    /// Takes the first chunk.
    pub fn pop(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.len -= chunk.len();
        Some(chunk)
    }

    /// The chunks in order; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(Bytes::as_ref)
    }

    /// Drops the first `count` bytes, of which there are as many.
    pub fn advance(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(chunk) = self.chunks.front_mut() {
            if count < chunk.len() {
                chunk.advance(count);
                return;
            }
            count -= chunk.len();
            self.chunks.pop_front();
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.len = 0;
    }

    /// Calls `copy` with each run of bytes in `start..start + length`; what lies past the end is left out.
    pub fn read(&self, start: usize, length: usize, mut copy: impl FnMut(&[u8])) {
        let mut skip = start;
        let mut left = length.min(self.len.saturating_sub(start));
        for chunk in &self.chunks {
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
        let start = start.min(self.len);
        let mut tail = self.split_off(start);
        tail.advance(length.min(tail.len));
        self.push(bytes);
        self.append(&mut tail);
    }

    fn split_off(&mut self, at: usize) -> Buffer {
        let mut head = Buffer::default();
        while head.len < at {
            let Some(mut chunk) = self.pop() else { break };
            if head.len + chunk.len() > at {
                let rest = chunk.split_off(at - head.len);
                self.len += rest.len();
                self.chunks.push_front(rest);
            }
            head.push(chunk);
        }
        std::mem::replace(self, head)
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.push(bytes);
        buffer
    }
}
