//! Memory of an instance: its linear memory and tables together, and what the host holds on the guest's behalf during a
//! callback; and the work for it that the CPU time of its thread does not show.

/// Bytes that one table element takes.
const ELEMENT: usize = size_of::<usize>();
/// Most expressions that are compiled during a callback, or during the whole start of an instance.
const MAX_COMPILATIONS: usize = 64;

/// Counts memory against `limits.memory`. The engine allows one linear memory, so its size is the one last asked for.
pub(crate) struct Quota {
    limit: usize,
    memory: usize,
    tables: usize,
    held: usize,
    compilations: usize,
    denied: bool,
}

impl Quota {
    pub(crate) fn new(limit: usize) -> Quota {
        Quota { limit, memory: 0, tables: 0, held: 0, compilations: 0, denied: false }
    }

    /// Whether a growth was denied since the last [`reset`](Self::reset).
    pub(crate) fn denied(&self) -> bool {
        self.denied
    }

    /// Bytes of linear memory.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Forgets what belonged to the previous callback.
    pub(crate) fn reset(&mut self) {
        self.denied = false;
        self.held = 0;
        self.compilations = 0;
    }

    /// Goes on as if there had been no [`reset`](Self::reset) of what was denied.
    pub(crate) fn keep(&mut self, denied: bool) {
        self.denied = denied;
    }

    /// Counts bytes that the host keeps for the guest until the callback is over; false if that is too much.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        self.held = self.held.saturating_add(bytes);
        self.held <= self.limit
    }

    /// Counts an expression that is about to be compiled, on a thread of its own; false if that is too much.
    pub(crate) fn compile(&mut self) -> bool {
        self.compilations = self.compilations.saturating_add(1);
        self.compilations <= MAX_COMPILATIONS
    }

    /// Bytes that may still be kept.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.held)
    }

    fn allows(&mut self, memory: usize, tables: usize) -> bool {
        let fits = memory.saturating_add(tables) <= self.limit;
        self.denied |= !fits;
        fits
    }
}

impl wasmtime::ResourceLimiter for Quota {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) || !self.allows(desired, self.tables) {
            return Ok(false);
        }
        self.memory = desired;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current).saturating_mul(ELEMENT);
        let tables = self.tables.saturating_add(growth);
        if maximum.is_some_and(|maximum| desired > maximum) || !self.allows(self.memory, tables) {
            return Ok(false);
        }
        self.tables = tables;
        Ok(true)
    }
}
