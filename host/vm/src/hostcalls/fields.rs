//! Fields of a head or of trailers, as guests change them: no map grows longer than one that a guest could hand over in one piece.
//! Knows no pseudo headers and checks no names; `edit` does.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::abi::pairs::{MAX_BYTES, MAX_PAIRS};

/// Why a change was left out.
pub(super) type Ignored = &'static str;

const FULL: Ignored = "there are too many headers";

/// A map, and what is known of its length.
pub(super) struct Fields<'a> {
    map: &'a mut HeaderMap,
    /// Bytes of all names and values, once they have been counted.
    length: &'a mut Option<usize>,
}

impl<'a> Fields<'a> {
    /// `length`: what the last change left there, if nobody else has changed the map since.
    pub(super) fn new(map: &'a mut HeaderMap, length: &'a mut Option<usize>) -> Fields<'a> {
        Fields { map, length }
    }

    /// Adds an entry.
    pub(super) fn append(&mut self, name: &HeaderName, value: HeaderValue) -> Result<(), Ignored> {
        let length = self.length() + bytes(name, &value);
        check(self.map.len() + 1, length)?;
        self.map.try_append(name, value).map_err(|_| FULL)?;
        *self.length = Some(length);
        Ok(())
    }

    /// Removes all entries of a name and sets one.
    pub(super) fn insert(&mut self, name: &HeaderName, value: HeaderValue) -> Result<(), Ignored> {
        let count = self.map.len();
        let (before, added) = (self.length(), bytes(name, &value));
        let fits = check(count + 1, before + added).is_ok() || self.fits_instead(name, added);
        if !fits {
            return Err(FULL);
        }
        let added_value = value.len();
        let replaced = self.map.try_insert(name, value).map_err(|_| FULL)?;
        *self.length = match replaced {
            None => Some(before + added),
            Some(old) if self.map.len() == count => Some(before - old.len() + added_value),
            // There were several.
            Some(_) => None,
        };
        Ok(())
    }

    /// Whether there is room for so many bytes once the entries of this name are gone.
    #[cold]
    fn fits_instead(&self, name: &HeaderName, added: usize) -> bool {
        let (mut count, mut length) = (self.map.len() + 1, self.length() + added);
        for old in self.map.get_all(name) {
            count -= 1;
            length -= bytes(name, old);
        }
        check(count, length).is_ok()
    }

    /// Removes all entries of a name.
    pub(super) fn remove(&mut self, name: &str) {
        if self.map.remove(name).is_some() {
            *self.length = None;
        }
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) {
        self.map.clear();
        *self.length = Some(0);
    }

    fn length(&self) -> usize {
        let count = || self.map.iter().map(|(name, value)| bytes(name, value)).sum();
        self.length.unwrap_or_else(count)
    }
}

fn bytes(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len()
}

fn check(count: usize, length: usize) -> Result<(), Ignored> {
    match count <= MAX_PAIRS && length <= MAX_BYTES {
        true => Ok(()),
        false => Err(FULL),
    }
}
