//! What the guest writes again and again: a filter sets the same few headers for every exchange, mostly to the same values. From the
//! third time on such a text costs a comparison, instead of being checked, copied and given back to the allocator.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use http::header::{HeaderName, HeaderValue};

/// A power of two.
const PLACES: usize = 32;
/// Longer texts are not kept, so that a guest cannot make the host hold on to much.
const LENGTH: usize = 64;

/// Headers, and names whose values change.
#[derive(Default)]
pub(crate) struct Written {
    headers: Kept<(HeaderName, HeaderValue)>,
    names: Kept<HeaderName>,
}

/// Why bytes are no header.
pub(crate) enum Malformed {
    Name,
    Value,
}

impl Written {
    /// Runs `run` with the header that these bytes spell.
    pub(crate) fn header<R>(
        &mut self,
        name: &[u8],
        value: &[u8],
        run: impl FnOnce(&HeaderName, HeaderValue) -> R,
    ) -> Result<R, Malformed> {
        let hash = hash(name).wrapping_mul(MIX) ^ hash(value);
        let read;
        let (name, value) = match self.headers.at(hash) {
            Some((known, text)) if known.as_str().as_bytes() == name && text == value => {
                (known, text.clone())
            }
            _ => {
                read = self.read(name, value, hash)?;
                (&read.0, read.1)
            }
        };
        Ok(run(name, value))
    }

    /// Bytes that are not known, or not yet.
    #[inline(never)]
    fn read(
        &mut self,
        name: &[u8],
        value: &[u8],
        hash: u64,
    ) -> Result<(HeaderName, HeaderValue), Malformed> {
        let text = HeaderValue::from_bytes(value).map_err(|_| Malformed::Value);
        let header = (self.name(name)?, text?);
        if name.len() <= LENGTH && value.len() <= LENGTH {
            self.headers.keep(hash, &header);
        }
        Ok(header)
    }

    fn name(&mut self, bytes: &[u8]) -> Result<HeaderName, Malformed> {
        let hash = hash(bytes);
        match self.names.at(hash) {
            Some(known) if known.as_str().as_bytes() == bytes => return Ok(known.clone()),
            _ => {}
        }
        let name = HeaderName::from_bytes(bytes).map_err(|_| Malformed::Name)?;
        if bytes.len() <= LENGTH {
            self.names.keep(hash, &name);
        }
        Ok(name)
    }
}

/// Odd, so that what it multiplies loses nothing.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

fn hash(bytes: &[u8]) -> u64 {
    FixedState::default().hash_one(&bytes[..bytes.len().min(LENGTH)])
}

/// Texts by their hashes. What is written once only leaves its hash behind.
struct Kept<T>([Place<T>; PLACES]);

struct Place<T> {
    hash: u64,
    text: Option<T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept([const { Place { hash: 0, text: None } }; PLACES])
    }
}

impl<T: Clone> Kept<T> {
    /// What is kept where this hash belongs.
    fn at(&self, hash: u64) -> Option<&T> {
        self.0[hash as usize % PLACES].text.as_ref()
    }

    fn keep(&mut self, hash: u64, text: &T) {
        let place = &mut self.0[hash as usize % PLACES];
        let again = std::mem::replace(&mut place.hash, hash) == hash;
        place.text = again.then(|| text.clone());
    }
}
