//! Fields that were written before: who writes the same ones into each head has them checked once.

use super::line::{BETWEEN, Field};
use super::{Fields, Refused};

/// Lines that are kept: few fields of a filter are always the same.
const KEPT: usize = 8;
/// Length of the longest one.
const LONGEST: usize = 128;

/// Lines that have been written lately, each at a place that depends on its lengths. Names are in lower case, as whoever wrote
/// them had them.
#[derive(Default)]
pub(crate) struct Known([Line; KEPT]);

#[derive(Default)]
struct Line {
    text: Vec<u8>,
    name: usize,
}

impl Line {
    fn is_of(&self, name: &[u8], value: &[u8]) -> bool {
        self.name == name.len()
            && self.text.len() == Field::line_length(name, value)
            && self.text.starts_with(name)
            && self.text[name.len() + BETWEEN.len()..].starts_with(value)
    }
}

impl Known {
    fn place(name: &[u8], value: &[u8]) -> usize {
        (name.len() * 3 + value.len()) % KEPT
    }
}

impl Fields {
    /// As [`append`](Self::append).
    pub(crate) fn append_known(
        &mut self,
        name: &[u8],
        value: &[u8],
        known: &mut Known,
    ) -> Result<(), Refused> {
        let line = &mut known.0[Known::place(name, value)];
        if line.is_of(name, value) {
            return self.append_line(name, value, &line.text);
        }
        let field = self.write(name, value)?;
        self.add(field, name);
        let text = &self.text[field.range()];
        if text.len() <= LONGEST && text.starts_with(name) {
            line.text.clear();
            line.text.extend_from_slice(text);
            line.name = name.len();
        }
        Ok(())
    }

    /// As [`insert`](Self::insert).
    pub(crate) fn insert_known(
        &mut self,
        name: &[u8],
        value: &[u8],
        known: &mut Known,
    ) -> Result<(), Refused> {
        match self.find(name, 0) {
            None => self.append_known(name, value, known),
            Some(first) => self.replace(first, name, value),
        }
    }

    fn append_line(&mut self, name: &[u8], value: &[u8], line: &[u8]) -> Result<(), Refused> {
        self.tidy_if_wasteful();
        let field = Field::at(self.text.len(), name, value)?;
        self.text.extend_from_slice(line);
        self.add(field, name);
        Ok(())
    }
}
