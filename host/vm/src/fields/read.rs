//! The fields of a head of HTTP/1, or of trailers, as lines that come in (RFC 9112, 5).
//!
//! Lines end with a line feed, mostly after a carriage return. No space precedes a colon, and no line goes on in the next:
//! recipients differ in what they make of that.

use super::line::{BETWEEN, END, Field};
use super::text::{lower_name, text_end};
use super::{Fields, MAX_NAME, SPARE};

/// So many fields need no more memory while they are read.
const USUAL: usize = 16;

/// Why there are no fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFields {
    /// More has to come.
    Incomplete,
    /// A line begins with what is no name with a colon behind it.
    Name,
    /// A value has characters that none can have.
    Value,
    /// The line behind the last field is not empty.
    NewLine,
    /// There are too many, or one has too long a name.
    TooLarge,
}

impl NoFields {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            NoFields::Incomplete => "incomplete",
            NoFields::Name => "invalid header name",
            NoFields::Value => "invalid header value",
            NoFields::NewLine => "invalid new line",
            NoFields::TooLarge => "too many headers",
        }
    }
}

/// Where the parts of a line begin and end.
struct Line {
    value: usize,
    value_end: usize,
    end: usize,
}

impl Fields {
    /// At most so many fields from the lines at the beginning of these bytes, up to an empty one; and how long the lines are.
    /// Names are made lower case where they lie. `keep` is shown names and values, and says which become fields. There is
    /// some room for what others add.
    ///
    /// # Errors
    /// That is not what the bytes begin with.
    pub fn read(
        lines: &mut [u8],
        most: usize,
        mut keep: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(Fields, usize), NoFields> {
        // Whatever is written anew takes a few bytes more.
        if lines.len() > u32::MAX as usize / 2 {
            return Err(NoFields::TooLarge);
        }
        let mut fields = Fields { list: Vec::with_capacity(USUAL), ..Fields::default() };
        // How many, where the next line begins, and how far lines have been copied.
        let (mut count, mut at, mut copied) = (0, 0, 0);
        loop {
            let colon = lower_name(lines, at);
            let ours = if colon > at { Line::as_ours(lines, colon) } else { None };
            let is_ours = ours.is_some();
            let line = match ours {
                Some(line) => line,
                None if colon > at => Line::other(lines, colon)?,
                None => break,
            };
            if count == most {
                return Err(NoFields::TooLarge);
            }
            count += 1;
            let (name, value) = (&lines[at..colon], &lines[line.value..line.value_end]);
            if keep(name, value) {
                if name.len() > MAX_NAME {
                    return Err(NoFields::TooLarge);
                }
                let mut text_at = fields.text.len() + at - copied;
                if !is_ours {
                    text_at = fields.rewrite(&lines[copied..at], name, value);
                    copied = line.end;
                }
                fields.add(Field::within(text_at, name, value), name);
            }
            at = line.end;
        }
        let end = match lines.get(at) {
            Some(b'\r' | b'\n') => line_end(lines, at, NoFields::NewLine)?,
            Some(_) => return Err(NoFields::Name),
            None => return Err(NoFields::Incomplete),
        };
        fields.complete(&lines[copied..at]);
        Ok((fields, end))
    }

    /// Copies the lines before one, and writes that one as ours; says where.
    #[cold]
    fn rewrite(&mut self, before: &[u8], name: &[u8], value: &[u8]) -> usize {
        self.text.extend_from_slice(before);
        self.copy(name, value)
    }

    /// Copies the last lines; most heads have no others.
    fn complete(&mut self, lines: &[u8]) {
        let mut text = Vec::with_capacity(self.text.len() + lines.len() + SPARE.1);
        text.extend_from_slice(&self.text);
        text.extend_from_slice(lines);
        self.text = text;
    }
}

impl Line {
    /// One as we would write it, with a value, and with its colon there.
    #[inline]
    fn as_ours(lines: &[u8], colon: usize) -> Option<Line> {
        let [b':', b' ', b'!'..=0xff, ..] = lines.get(colon..)? else { return None };
        let value = colon + BETWEEN.len();
        let value_end = text_end(lines, value);
        let [b'!'..=0xff, b'\r', b'\n', ..] = lines.get(value_end - 1..)? else { return None };
        Some(Line { value, value_end, end: value_end + END.len() })
    }

    /// Any other.
    #[cold]
    fn other(lines: &[u8], colon: usize) -> Result<Line, NoFields> {
        match lines.get(colon) {
            Some(b':') => {}
            Some(_) => return Err(NoFields::Name),
            None => return Err(NoFields::Incomplete),
        }
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let behind = &lines[colon + 1..];
        let value = colon + 1 + behind.iter().take_while(is_space).count();
        let text_end = text_end(lines, value);
        let end = line_end(lines, text_end, NoFields::Value)?;
        let spaces = lines[value..text_end].iter().rev().take_while(is_space).count();
        Ok(Line { value, value_end: text_end - spaces, end })
    }
}

/// Where the line is over that ends there.
fn line_end(lines: &[u8], at: usize, otherwise: NoFields) -> Result<usize, NoFields> {
    match lines.get(at..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(at + 2),
        [b'\n', ..] => Ok(at + 1),
        [] | [b'\r'] => Err(NoFields::Incomplete),
        _ => Err(otherwise),
    }
}
