//! The line of one field, as in a head of HTTP/1.

use std::ops::Range;

use super::Refused;

/// What stands in a line beside name and value (RFC 9112, 5).
pub(super) const BETWEEN: &[u8] = b": ";
pub(super) const END: &[u8] = b"\r\n";
pub(super) const BESIDE: usize = BETWEEN.len() + END.len();

/// Where a line lies in the text, and how long its name and its value are.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) at: u32,
    pub(super) name: Outline,
    pub(super) value: u32,
}

/// How long a name is, in 24 bits, and its last byte without regard to case: names of one length mostly end differently, and
/// need not be read to be told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Outline(u32);

impl Outline {
    const LENGTH: u32 = (1 << 24) - 1;

    /// Of a name that is no longer than [`MAX_NAME`](super::MAX_NAME).
    #[inline]
    pub(super) fn of(name: &[u8]) -> Outline {
        // The bit tells upper from lower case.
        let last = name.last().map_or(0, |last| last | 0x20);
        Outline(name.len() as u32 & Self::LENGTH | u32::from(last) << 24)
    }

    #[inline]
    fn length(self) -> u32 {
        self.0 & Self::LENGTH
    }
}

impl Field {
    /// A field whose text begins there. There is none in more than 4 GiB of text.
    pub(super) fn at(at: usize, name: &[u8], value: &[u8]) -> Result<Field, Refused> {
        match u32::try_from(at + name.len() + value.len() + BESIDE) {
            Ok(_) => Ok(Field::within(at, name, value)),
            Err(_) => Err(Refused::Full),
        }
    }

    /// A field whose text begins there, in text that is not too long.
    #[inline]
    pub(super) fn within(at: usize, name: &[u8], value: &[u8]) -> Field {
        Field { at: at as u32, name: Outline::of(name), value: value.len() as u32 }
    }

    #[inline]
    pub(super) fn bytes(self) -> usize {
        (self.name.length() + self.value) as usize
    }

    /// Of the line of a field.
    pub(super) fn line_length(name: &[u8], value: &[u8]) -> usize {
        name.len() + value.len() + BESIDE
    }

    /// Of its line.
    pub(super) fn length(self) -> usize {
        self.bytes() + BESIDE
    }

    pub(super) fn value_at(self) -> usize {
        self.at as usize + self.name.length() as usize + BETWEEN.len()
    }

    /// Name and value.
    pub(super) fn split(self, text: &[u8]) -> (&[u8], &[u8]) {
        let (name, value) = text[self.range()].split_at(self.name.length() as usize);
        (name, &value[BETWEEN.len()..][..self.value as usize])
    }

    pub(super) fn range(self) -> Range<usize> {
        let at = self.at as usize;
        at..at + self.length()
    }
}
