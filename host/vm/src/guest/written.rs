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
    /// The header that these bytes spell.
    pub(crate) fn header(
        &mut self,
        name: &[u8],
        value: &[u8],
    ) -> Result<(HeaderName, HeaderValue), Malformed> {
        if name.len() > LENGTH || value.len() > LENGTH {
            return Ok((self.name(name)?, read_value(value)?));
        }
        let hash = hash(name).wrapping_mul(MIX) ^ hash(value);
        if let Some((known, text)) = self.headers.at(hash)
            && known.as_str().as_bytes() == name
            && text.as_bytes() == value
        {
            return Ok((known.clone(), text.clone()));
        }
        let header = (self.name(name)?, read_value(value)?);
        self.headers.keep(hash, &header);
        Ok(header)
    }

    fn name(&mut self, bytes: &[u8]) -> Result<HeaderName, Malformed> {
        let read = || HeaderName::from_bytes(bytes).map_err(|_| Malformed::Name);
        if bytes.len() > LENGTH {
            return read();
        }
        let hash = hash(bytes);
        if let Some(known) = self.names.at(hash)
            && known.as_str().as_bytes() == bytes
        {
            return Ok(known.clone());
        }
        let name = read()?;
        self.names.keep(hash, &name);
        Ok(name)
    }
}

fn read_value(bytes: &[u8]) -> Result<HeaderValue, Malformed> {
    HeaderValue::from_bytes(bytes).map_err(|_| Malformed::Value)
}

/// Odd, so that what it multiplies loses nothing.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

fn hash(bytes: &[u8]) -> u64 {
    FixedState::default().hash_one(bytes)
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
