//! Replies of a Redis (RESP2): where one ends and the next begins. What they say is the guest's to read.

use bytes::{Bytes, BytesMut};

/// Bytes of one reply.
const MAX_REPLY: usize = 1 << 20;
/// Bytes of a line: a status, an error or a number.
const MAX_LINE: usize = 64 << 10;

/// Takes replies out of what arrives. Each byte is looked at once, however small the pieces are.
#[derive(Debug)]
pub(super) struct Replies {
    arrived: BytesMut,
    /// Bytes of the reply in progress that are understood.
    at: usize,
    /// Bytes behind `at` in which no line ends.
    searched: usize,
    /// Values that the reply in progress still has.
    values: u64,
}

impl Default for Replies {
    fn default() -> Replies {
        Replies { arrived: BytesMut::new(), at: 0, searched: 0, values: 1 }
    }
}

impl Replies {
    /// Where to put what arrives.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        &mut self.arrived
    }

    /// The next reply that is complete.
    ///
    /// # Errors
    /// What arrives is no reply, or too long a one.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, String> {
        while self.values > 0 {
            if !self.step()? {
                return Ok(None);
            }
        }
        let reply = self.arrived.split_to(self.at).freeze();
        (self.at, self.searched, self.values) = (0, 0, 1);
        Ok(Some(reply))
    }

    /// Goes past one value, or past the head of an array; false if it has not arrived yet.
    fn step(&mut self) -> Result<bool, String> {
        let Some(line) = self.line()? else { return Ok(false) };
        let text = &self.arrived[self.at..line];
        let kind = text.first().copied();
        let (mut length, mut values) = (line + 2 - self.at, 0);
        match kind {
            Some(b'+' | b'-' | b':') => {}
            Some(b'$') => length += number(text)?.map_or(0, |size| size as usize + 2),
            Some(b'*') => values = number(text)?.unwrap_or(0),
            _ => return Err("it does not speak Redis".to_owned()),
        }
        if self.at + length > MAX_REPLY || values > MAX_REPLY as u64 {
            return Err(format!("a reply is longer than {MAX_REPLY} bytes"));
        }
        if self.arrived.len() < self.at + length {
            return Ok(false);
        }
        self.at += length;
        self.searched = 0;
        self.values = self.values - 1 + values;
        Ok(true)
    }

    /// Where the line ends that begins at `at`.
    fn line(&mut self) -> Result<Option<usize>, String> {
        let from = self.at + self.searched;
        let found = self.arrived[from..].windows(2).position(|two| two == b"\r\n");
        if let Some(found) = found {
            self.searched += found;
            return Ok(Some(from + found));
        }
        self.searched = (self.arrived.len() - self.at).saturating_sub(1);
        if self.searched > MAX_LINE {
            return Err(format!("a line is longer than {MAX_LINE} bytes"));
        }
        Ok(None)
    }
}

/// The number of a line; `None` for one below 0, which stands for nothing at all.
fn number(line: &[u8]) -> Result<Option<u64>, String> {
    let text = line.get(1..).and_then(|digits| std::str::from_utf8(digits).ok());
    let number: i64 = text.and_then(|text| text.parse().ok()).ok_or("a length is no number")?;
    Ok(u64::try_from(number).ok().map(|number| number.min(u64::from(u32::MAX))))
}
