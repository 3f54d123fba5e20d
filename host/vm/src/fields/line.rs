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
    pub(super) name: u32,
    pub(super) value: u32,
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
        Field { at: at as u32, name: name.len() as u32, value: value.len() as u32 }
    }

    #[inline]
    pub(super) fn bytes(self) -> usize {
        (self.name + self.value) as usize
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
        self.at as usize + self.name as usize + BETWEEN.len()
    }

    /// Name and value.
    pub(super) fn split(self, text: &[u8]) -> (&[u8], &[u8]) {
        let (name, value) = text[self.range()].split_at(self.name as usize);
        (name, &value[BETWEEN.len()..][..self.value as usize])
    }

    pub(super) fn range(self) -> Range<usize> {
        let at = self.at as usize;
        at..at + self.length()
    }
}
