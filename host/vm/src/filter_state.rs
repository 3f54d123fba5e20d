//! What filters store with an exchange for each other, for the access log and for routing: named values, bounded, each
//! with what was declared of it.
//!
//! Names are those of Envoy's filter state: what `proxy_set_property` stores stands under `wasm.` and the raw path,
//! what foreign functions store under its plain name. This module knows neither guests nor who may write.

/// Prefix of the names that `proxy_set_property` writes.
pub const PROPERTY_PREFIX: &str = "wasm.";

/// What a stored value is, for those who read it as more than bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateKind {
    /// Raw bytes; so is whatever nobody declared.
    #[default]
    Bytes,
    /// Text.
    String,
    /// A FlatBuffers message.
    FlatBuffers,
    /// A Protobuf message.
    Protobuf,
}

/// What a filter declares of a property before it stores it (`declare_property`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declaration {
    /// What the value is.
    pub kind: StateKind,
    /// It can be stored once and not changed.
    pub read_only: bool,
}

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It was declared read-only and is there already.
    #[error("the property is read-only")]
    ReadOnly,
    /// Together with the others it is more than [`FilterState::MAX_BYTES`].
    #[error("the exchange holds too many properties")]
    Full,
}

/// One stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    name: Box<[u8]>,
    value: Vec<u8>,
    declaration: Declaration,
}

impl State {
    /// The whole name, prefix included.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The value as it was stored.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// What was declared when it was stored first.
    pub fn declaration(&self) -> Declaration {
        self.declaration
    }

    /// The path under which `proxy_set_property` stored it, if that did.
    pub fn property(&self) -> Option<&[u8]> {
        self.name.strip_prefix(PROPERTY_PREFIX.as_bytes())
    }
}

/// The values stored with one exchange, oldest first. Empty, it holds no memory of its own.
#[derive(Clone, Debug, Default)]
pub struct FilterState {
    // Few and short-lived: searching a vector is cheaper than hashing.
    states: Vec<State>,
    bytes: usize,
}

impl FilterState {
    /// Most bytes that are kept: names, values, and [`FilterState::OVERHEAD`] for each.
    pub const MAX_BYTES: usize = 64 << 10;
    /// What a value costs beyond its bytes and those of its name.
    pub const OVERHEAD: usize = 64;

    /// The value of that whole name.
    pub fn get(&self, name: &[u8]) -> Option<&State> {
        self.states.iter().find(|state| *state.name == *name)
    }

    /// What `proxy_set_property` stored under this path (segments joined by NUL).
    pub fn property(&self, path: &[u8]) -> Option<&State> {
        self.states.iter().find(|state| state.property() == Some(path))
    }

    /// Stores a value under its whole name. `declaration` counts only if there is no such value yet.
    ///
    /// # Errors
    /// It is read-only, or there is no room; then nothing has changed.
    pub fn set(
        &mut self,
        name: &[u8],
        value: &[u8],
        declaration: Declaration,
    ) -> Result<(), StateError> {
        let known = self.states.iter_mut().find(|state| *state.name == *name);
        if known.as_ref().is_some_and(|state| state.declaration.read_only) {
            return Err(StateError::ReadOnly);
        }
        let size = name.len().saturating_add(FilterState::OVERHEAD);
        let released = known.as_ref().map_or(0, |state| size + state.value.len());
        let bytes = (self.bytes - released).saturating_add(size).saturating_add(value.len());
        if bytes > FilterState::MAX_BYTES {
            return Err(StateError::Full);
        }
        self.bytes = bytes;
        match known {
            Some(state) => state.value = value.to_vec(),
            None => {
                self.states.push(State { name: name.into(), value: value.to_vec(), declaration });
            }
        }
        Ok(())
    }

    /// Stores a value as `proxy_set_property` does: under `wasm.` and `path`.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_property(
        &mut self,
        path: &[u8],
        value: &[u8],
        declaration: Declaration,
    ) -> Result<(), StateError> {
        self.set(&[PROPERTY_PREFIX.as_bytes(), path].concat(), value, declaration)
    }

    /// All values, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &State> {
        self.states.iter()
    }

    /// Whether nothing was stored.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}
