//! Guest memory: reading what a guest points at, writing results, and handing out bytes through its allocator.

use wasmtime::AsContextMut;

use super::{Call, Done, Stop};
use crate::abi::numbers::Status;
use crate::guest::Guest;

/// A run of bytes that a guest names.
#[derive(Clone, Copy)]
pub(super) struct Span(pub(super) u32, pub(super) u32);

/// The bytes of `span`. An empty span is valid wherever it points.
pub(super) fn slice(memory: &[u8], span: Span) -> Result<&[u8], Stop> {
    let (start, length) = (span.0 as usize, span.1 as usize);
    if length == 0 {
        return Ok(&[]);
    }
    let end = start.checked_add(length).ok_or(Stop::Pointer)?;
    memory.get(start..end).ok_or(Stop::Pointer)
}

fn slice_mut(memory: &mut [u8], at: u32, length: usize) -> Result<&mut [u8], Stop> {
    let start = at as usize;
    let end = start.checked_add(length).ok_or(Stop::Pointer)?;
    memory.get_mut(start..end).ok_or(Stop::Pointer)
}

impl Call<'_> {
    /// The `start` section of a module runs before anybody has looked up its memory.
    pub(super) fn find_memory(&mut self) {
        if self.caller.data().memory.is_none() {
            self.look_up_memory();
        }
    }

    #[cold]
    fn look_up_memory(&mut self) {
        let memory = self.caller.get_export("memory").and_then(wasmtime::Extern::into_memory);
        self.caller.data_mut().memory = memory;
    }

    /// Guest memory and what the instance carries, at the same time.
    pub(super) fn split(&mut self) -> (&mut [u8], &mut Guest) {
        match self.caller.data().memory {
            Some(memory) => memory.data_and_store_mut(&mut self.caller),
            None => (&mut [], self.caller.data_mut()),
        }
    }

    pub(super) fn read(&self, span: Span) -> Result<&[u8], Stop> {
        let memory = self.caller.data().memory;
        slice(memory.map_or(&[], |memory| memory.data(&self.caller)), span)
    }

    pub(super) fn write(&mut self, at: u32, bytes: &[u8]) -> Done {
        let (memory, _) = self.split();
        slice_mut(memory, at, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write_u32(&mut self, at: u32, value: u32) -> Done {
        self.write(at, &value.to_le_bytes())
    }

    pub(super) fn write_u64(&mut self, at: u32, value: u64) -> Done {
        self.write(at, &value.to_le_bytes())
    }

    /// Hands `bytes` to the guest: allocates there, writes address and length to `data` and `size`.
    pub(super) fn give(&mut self, data: u32, size: u32, bytes: &[u8]) -> Done {
        self.give_with(data, size, bytes.len(), |out, _| out.copy_from_slice(bytes))
    }

    /// As [`give`](Self::give), with the bytes written straight into guest memory. Nothing is allocated for no bytes:
    /// the guest gets address 0 and length 0.
    pub(super) fn give_with(
        &mut self,
        data: u32,
        size: u32,
        length: usize,
        fill: impl FnOnce(&mut [u8], &Guest),
    ) -> Done {
        self.write_u32(data, 0)?;
        self.write_u32(size, 0)?;
        if length == 0 {
            return Ok(());
        }
        let at = self.allocate(length)?;
        let (memory, guest) = self.split();
        fill(slice_mut(memory, at, length)?, guest);
        self.write_u32(data, at)?;
        self.write_u32(size, length as u32)
    }

    fn allocate(&mut self, length: usize) -> Result<u32, Stop> {
        let size = u32::try_from(length).map_err(|_| Status::InternalFailure)?;
        let allocate = self.guest_mut().allocate.take().ok_or(Status::InternalFailure)?;
        self.guest_mut().allocating = true;
        let allocated = allocate.call(self.caller.as_context_mut(), size);
        let guest = self.guest_mut();
        guest.allocate = Some(allocate);
        guest.allocating = false;
        match allocated.map_err(Stop::Fault)? {
            0 => Err(Stop::Pointer),
            at => Ok(at),
        }
    }
}
