//! Names of headers that the guest has written lately. A filter writes the same few for every exchange; from here a name
//! costs a comparison instead of being checked and copied again.

use http::HeaderName;
use http::header::InvalidHeaderName;

const MOST: usize = 16;
/// Longer ones are not kept, so that a guest cannot make the host hold on to much.
const LENGTH: usize = 64;

/// The last names, in no order.
#[derive(Default)]
pub(crate) struct Names {
    known: Vec<HeaderName>,
    oldest: usize,
}

impl Names {
    /// The name that these bytes spell.
    pub(crate) fn of(&mut self, key: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
        if let Some(known) = self.known.iter().find(|known| known.as_str().as_bytes() == key) {
            return Ok(known.clone());
        }
        let name = HeaderName::from_bytes(key)?;
        // One in capitals would never be found.
        if key.len() <= LENGTH && name.as_str().as_bytes() == key {
            self.keep(name.clone());
        }
        Ok(name)
    }

    fn keep(&mut self, name: HeaderName) {
        match self.known.get_mut(self.oldest) {
            Some(oldest) => *oldest = name,
            None => self.known.push(name),
        }
        self.oldest = (self.oldest + 1) % MOST;
    }
}
