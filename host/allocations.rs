//! What work takes from the heap, against ceilings: a test fails when somebody adds an allocation to a path that is
//! walked for each request.
//!
//! Included by `#[path]`, as `layers.rs` is, into test binaries of their own, since it brings the global allocator that
//! counts. All threads are counted: whatever drives the work from outside must not allocate.

use std::alloc::System;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What grows now and then, such as a table, does not show in so many rounds.
const ROUNDS: usize = 1000;
/// The test harness may allocate meanwhile. It can only add, so one of so many counts that holds will do.
const COUNTS: usize = 3;

/// What one round takes from the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Allocations, with those that only make something larger.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Taken {
    fn is_within(self, ceiling: Taken) -> bool {
        self.blocks <= ceiling.blocks && self.bytes <= ceiling.bytes
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} allocations of {} bytes", self.blocks, self.bytes)
    }
}

/// Keeps the other tests of the binary from allocating meanwhile: to be made first.
pub struct Alone {
    _turn: MutexGuard<'static, ()>,
}

impl Alone {
    pub fn new() -> Alone {
        static TURN: Mutex<()> = Mutex::new(());
        Alone { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Fails if `work`, on average over [`ROUNDS`] rounds, takes more than `ceiling`. Each round is given what `prepare`
    /// makes for it; that is not counted.
    pub fn check<T>(
        &self,
        what: &str,
        ceiling: Taken,
        mut prepare: impl FnMut() -> T,
        mut work: impl FnMut(T),
    ) {
        let mut count = || {
            let rounds: Vec<T> = (0..ROUNDS).map(|_| prepare()).collect();
            let region = Region::new(ALLOCATOR);
            rounds.into_iter().for_each(&mut work);
            let change = region.change();
            let average = |sum: usize| (sum + ROUNDS / 2) / ROUNDS;
            Taken {
                blocks: average(change.allocations + change.reallocations),
                bytes: average(change.bytes_allocated),
            }
        };
        // What is made once and kept is there from now on.
        count();
        let mut taken = count();
        for _ in 1..COUNTS {
            if taken.is_within(ceiling) {
                break;
            }
            taken = count();
        }
        println!("{what}: {taken}");
        assert!(taken.is_within(ceiling), "{what}: {taken}, the ceiling is {ceiling}");
    }
}
