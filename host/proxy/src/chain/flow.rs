//! One direction of an exchange on its way through the filters: what each filter holds back, and what has come out at
//! the end. Knows no guest; `chain` calls the guests and tells this module what they answered.

use std::collections::VecDeque;

use portcullis_vm::{Buffer, Fields};

/// Bytes of body that are read while a filter holds everything: whoever never reads does not learn that the sender has
/// gone.
const READ_AHEAD: usize = 16 << 10;

/// What has passed all filters, in order.
#[derive(Debug)]
pub enum Passed {
    /// The head, which stands in the stream; `end` when nothing follows.
    Headers {
        /// Nothing follows.
        end: bool,
    },
    /// A part of the body; may be empty when `end`.
    Data {
        /// The bytes.
        data: Buffer,
        /// Nothing follows.
        end: bool,
    },
    /// The end of the stream.
    Trailers(Box<Fields>),
}

/// One direction of an exchange.
#[derive(Debug, Default)]
pub struct Flow {
    /// What has passed all filters and was not taken yet.
    pub passed: VecDeque<Passed>,
    /// The source has given its last piece.
    pub source_ended: bool,
    /// Nobody waits for what passes.
    pub abandoned: bool,
    /// Bytes of body that came in and that went out, to notice that guests changed the length.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
    /// The length that the head has left with.
    pub promised: Option<u64>,
}

/// What one filter holds back of one direction.
#[derive(Debug, Default)]
pub struct Held {
    /// The head.
    pub head: Head,
    /// Body bytes, held or about to be shown.
    pub body: HeldBody,
    /// The guest has seen `body` and said pause.
    pub paused: Option<Full>,
    /// `body` ends the stream.
    pub end: bool,
    /// Trailers that wait; there hardly ever are any.
    pub trailers: Option<Box<Trailers>>,
    /// The filter has ended the stream early; what still comes is dropped.
    pub drop_rest: bool,
    /// The guest took the last of a body while its callout was on the way: the end goes when that is answered.
    pub lets_go: bool,
}

/// A part of a body that waits; takes little room where there is none, as with most filters of most exchanges.
#[derive(Debug, Default)]
pub struct HeldBody(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    bytes: Buffer,
    /// How much of it is lent to a callback of the root context.
    lent: Option<usize>,
}

impl HeldBody {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes.len())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What waits does so no longer.
    pub fn take(&mut self) -> Buffer {
        self.0.take().map(|waiting| waiting.bytes).unwrap_or_default()
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// More waits.
    pub fn append(&mut self, data: &mut Buffer) {
        if !data.is_empty() {
            self.0.get_or_insert_default().bytes.append(data);
        }
    }

    /// What waits, to be exchanged for something else.
    pub fn as_mut(&mut self) -> &mut Buffer {
        &mut self.0.get_or_insert_default().bytes
    }

    /// Notes that it is lent, or not any more; how much had been lent.
    pub fn note_lent(&mut self) -> Option<usize> {
        let waiting = self.0.get_or_insert_default();
        let lent = waiting.lent.take();
        if lent.is_none() {
            waiting.lent = Some(waiting.bytes.len());
        }
        lent
    }
}

/// Where a filter stands with the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Head {
    /// It has not come this far.
    #[default]
    Before,
    /// The filter waits for an instance; `end` as in [`Passed::Headers`].
    AwaitsInstance {
        /// Nothing follows.
        end: bool,
    },
    /// The guest holds everything.
    HeldAll {
        /// Nothing follows.
        end: bool,
    },
    /// The guest holds the head and goes on seeing the body.
    HeldOnly,
    /// It was passed on.
    Passed,
}

/// What too much held body does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// An error.
    Fails,
    /// No more is read until the guest lets go.
    Waits,
}

/// Trailers that a filter holds.
#[derive(Debug)]
pub struct Trailers {
    /// The fields.
    pub map: Box<Fields>,
    /// Whether the guest has seen them, and what it said.
    pub shown: Shown,
}

/// Whether a guest has seen trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It has not.
    No,
    /// It paused on them.
    Paused,
    /// It let them pass while it waited for the answer to a callout about what it holds.
    BeforeAnswer,
}

impl Held {
    /// Whether nothing may reach this filter at the moment.
    pub fn blocks(&self, limit: usize) -> bool {
        match self.holds_all() {
            true => self.body.len() >= READ_AHEAD,
            false => self.paused == Some(Full::Waits) && self.body.len() >= limit,
        }
    }

    /// Whether the filter is shown nothing more until it lets go.
    pub fn holds_all(&self) -> bool {
        matches!(self.head, Head::AwaitsInstance { .. } | Head::HeldAll { .. })
    }

    /// Whether the filter holds anything back.
    pub fn holds(&self) -> bool {
        !matches!(self.head, Head::Before | Head::Passed)
            || self.paused.is_some()
            || self.trailers.is_some()
    }

    /// Whether the end of the stream has come this far and no further.
    pub fn holds_end(&self) -> bool {
        let head =
            matches!(self.head, Head::AwaitsInstance { end: true } | Head::HeldAll { end: true });
        head || self.end || self.trailers.is_some()
    }

    /// Whether it keeps a part of the body, or its end.
    pub fn keeps(&self) -> bool {
        self.end || !self.body.is_empty()
    }

    /// Keeps a part of the body for later.
    pub fn keep(&mut self, data: &mut Buffer, end: bool) {
        self.body.append(data);
        self.end |= end;
    }
}
