//! The parts of lists and mappings, handed to serde one by one.

use std::cell::RefCell;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess};

use super::decode::{Decoder, Fault, Finding};
use super::dummy::{Dummy, Fields};
use super::tree::{Entry, Node};

/// The elements of a list.
pub(super) struct Elements<'n> {
    pub nodes: std::slice::Iter<'n, Node>,
    pub journal: &'n RefCell<Vec<Finding>>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.nodes.next() else { return Ok(None) };
        seed.deserialize(Decoder { node, journal: self.journal }).map(Some)
    }

    /// So that lists take no more than they need: most have one element.
    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len())
    }
}

/// The entries of a mapping with free keys.
pub(super) struct Pairs<'n> {
    pub entries: std::slice::Iter<'n, Entry>,
    pub value: Option<&'n Node>,
    pub journal: &'n RefCell<Vec<Finding>>,
}

impl<'de> MapAccess<'de> for Pairs<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(&entry.value);
        seed.deserialize(StringDeserializer::new(entry.key.clone())).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some(node) => seed.deserialize(Decoder { node, journal: self.journal }),
            None => seed.deserialize(Dummy),
        }
    }
}

/// The fields of a struct that are there, then dummies for those that are missing.
pub(super) struct Members<'n> {
    pub entries: std::vec::IntoIter<&'n Entry>,
    pub value: Option<&'n Node>,
    pub absent: Fields,
    pub journal: &'n RefCell<Vec<Finding>>,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.entries.next() else { return self.absent.next_key_seed(seed) };
        self.value = Some(&entry.value);
        seed.deserialize(StrDeserializer::new(&entry.key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some(node) => seed.deserialize(Decoder { node, journal: self.journal }),
            None => seed.deserialize(Dummy),
        }
    }
}
