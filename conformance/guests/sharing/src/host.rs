//! The host calls of this guest as they are, since the stock crate's wrappers panic on statuses that they do not know.

use std::ptr::null_mut;

use proxy_wasm::types::Status;

unsafe extern "C" {
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_register_shared_queue(name: *const u8, size: usize, id: *mut u32) -> u32;
    fn proxy_resolve_shared_queue(
        vm: *const u8,
        vm_size: usize,
        name: *const u8,
        size: usize,
        id: *mut u32,
    ) -> u32;
    fn proxy_enqueue_shared_queue(id: u32, value: *const u8, size: usize) -> u32;
    fn proxy_dequeue_shared_queue(id: u32, value: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
}

/// What a call answers, its status as a number where it is not ok.
pub type Answer<T> = Result<T, u32>;

const OK: u32 = Status::Ok as u32;

fn answer<T>(status: u32, value: T) -> Answer<T> {
    if status == OK { Ok(value) } else { Err(status) }
}

/// What the host has put into memory that it got from this guest's allocator.
fn taken(value: *mut u8, size: usize) -> String {
    if value.is_null() {
        return String::new();
    }
    // SAFETY: the stock crate's allocator makes vectors of exactly this size, for the guest to keep.
    let bytes = unsafe { Vec::from_raw_parts(value, size, size) };
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn get(key: &str) -> Answer<(String, u32)> {
    let (mut value, mut size, mut cas) = (null_mut(), 0, 0);
    // SAFETY: all pointers are to live locals.
    let status =
        unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), &mut value, &mut size, &mut cas) };
    answer(status, ())?;
    Ok((taken(value, size), cas))
}

pub fn set(key: &str, value: &str, cas: u32) -> Answer<()> {
    // SAFETY: as above.
    let status =
        unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
    answer(status, ())
}

pub fn register(name: &str) -> Answer<u32> {
    let mut id = 0;
    // SAFETY: as above.
    let status = unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &mut id) };
    answer(status, id)
}

pub fn resolve(vm: &str, name: &str) -> Answer<u32> {
    let mut id = 0;
    // SAFETY: as above.
    let status = unsafe {
        proxy_resolve_shared_queue(vm.as_ptr(), vm.len(), name.as_ptr(), name.len(), &mut id)
    };
    answer(status, id)
}

pub fn enqueue(id: u32, value: &str) -> Answer<()> {
    // SAFETY: as above.
    answer(unsafe { proxy_enqueue_shared_queue(id, value.as_ptr(), value.len()) }, ())
}

pub fn dequeue(id: u32) -> Answer<String> {
    let (mut value, mut size) = (null_mut(), 0);
    // SAFETY: as above.
    answer(unsafe { proxy_dequeue_shared_queue(id, &mut value, &mut size) }, ())?;
    Ok(taken(value, size))
}

pub fn define(kind: u32, name: &str) -> Answer<u32> {
    let mut id = 0;
    // SAFETY: as above.
    let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
    answer(status, id)
}

pub fn increment(id: u32, by: i64) -> Answer<()> {
    // SAFETY: it takes no pointers.
    answer(unsafe { proxy_increment_metric(id, by) }, ())
}

pub fn record(id: u32, value: u64) -> Answer<()> {
    // SAFETY: it takes no pointers.
    answer(unsafe { proxy_record_metric(id, value) }, ())
}

pub fn value(id: u32) -> Answer<u64> {
    let mut value = 0;
    // SAFETY: as above.
    answer(unsafe { proxy_get_metric(id, &mut value) }, value).map(|_| value)
}
