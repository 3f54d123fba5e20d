//! What the guest writes again and again: a filter sets the same few headers for every exchange, mostly to the same values. From the
//! third time on such a text costs a comparison, instead of being checked, copied and given back to the allocator.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use http::header::{HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};

/// A power of two.
const PLACES: usize = 32;
/// Longer texts are not kept, so that a guest cannot make the host hold on to much.
const LENGTH: usize = 64;

/// Names and values of headers.
#[derive(Default)]
pub(crate) struct Written {
    names: Kept<HeaderName>,
    values: Kept<HeaderValue>,
}

impl Written {
    /// The name that these bytes spell.
    pub(crate) fn name(&mut self, bytes: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
        self.names.of(bytes, HeaderName::from_bytes)
    }

    /// The value that these bytes spell.
    pub(crate) fn value(&mut self, bytes: &[u8]) -> Result<HeaderValue, InvalidHeaderValue> {
        self.values.of(bytes, HeaderValue::from_bytes)
    }
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

impl<T: Clone + AsRef<[u8]>> Kept<T> {
    fn of<E>(&mut self, bytes: &[u8], read: impl FnOnce(&[u8]) -> Result<T, E>) -> Result<T, E> {
        if bytes.len() > LENGTH {
            return read(bytes);
        }
        let hash = FixedState::default().hash_one(bytes);
        let place = &mut self.0[hash as usize % PLACES];
        if let Some(text) = place.text.as_ref().filter(|text| text.as_ref() == bytes) {
            return Ok(text.clone());
        }
        let text = read(bytes)?;
        let again = std::mem::replace(&mut place.hash, hash) == hash;
        place.text = again.then(|| text.clone());
        Ok(text)
    }
}
