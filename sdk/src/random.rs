//! Random numbers, good for drawing lots and for nothing secret. Seeded from WASI's randomness
//! where there is any, and from the host's clock everywhere.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use crate::host::now;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A random number, evenly distributed.
pub fn random() -> u64 {
    let state = STATE.get().unwrap_or_else(entropy).wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(Some(state));
    mix(state)
}

/// Spreads a number's bits evenly (the finaliser of SplitMix64): FNV alone leaves the high bits of
/// similar keys alike.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// On wasip1 and natively the keys of a `RandomState` are random; on wasm32-unknown-unknown they
/// are fixed, and the clock's nanoseconds tell instances apart.
fn entropy() -> u64 {
    RandomState::new().hash_one(now().as_nanos())
}

/// Starts the sequence anew, for tests that must repeat.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn seed(seed: u64) {
    STATE.set(Some(seed));
}
