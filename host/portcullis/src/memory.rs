//! The allocator of the program, and giving back what was needed for a while only: pieces that are free and that the
//! allocator keeps, and pages of the program itself that only a start or a change goes through.
//!
//! This is the only `unsafe` of this ring, and the only module that names the allocator.

use std::alloc::{GlobalAlloc, Layout};
use std::fs;
use std::ops::Range;

use libmimalloc_sys::{mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned};
use libmimalloc_sys::{mi_zalloc, mi_zalloc_aligned};
use rustix::mm::{Advice, madvise};

/// mimalloc. The crate of that name asks for every piece by its alignment, which takes it the long way for most sizes above
/// one KiB and makes them a little larger; what every piece is aligned to anyway is not asked for here.
#[derive(Debug)]
pub struct Heap;

impl Heap {
    /// Every piece of at least this size is aligned to it (`MI_MAX_ALIGN_SIZE`, which is that of C's `max_align_t`).
    const ALIGNED: usize = 16;

    /// Whether any piece of this size is aligned well enough.
    const fn fits(size: usize, align: usize) -> bool {
        align <= Heap::ALIGNED && align <= size
    }
}

#[allow(unsafe_code, reason = "an allocator is one; the proof stands inside")]
// SAFETY: every piece comes from mimalloc and goes back to it, whichever of its functions it came from: they share one heap.
// They return null where there is no memory, and otherwise at least `size` bytes that nobody else has. They are aligned as
// asked for, or, where `fits` holds, as C's malloc has to align them. None of them unwinds.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        unsafe {
            match Heap::fits(size, align) {
                true => mi_malloc(size).cast(),
                false => mi_malloc_aligned(size, align).cast(),
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        unsafe {
            match Heap::fits(size, align) {
                true => mi_zalloc(size).cast(),
                false => mi_zalloc_aligned(size, align).cast(),
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: as above; the caller hands over a piece of ours.
        unsafe {
            match Heap::fits(size, align) {
                true => mi_realloc(piece.cast(), size).cast(),
                false => mi_realloc_aligned(piece.cast(), size, align).cast(),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, piece: *mut u8, _: Layout) {
        // SAFETY: the caller hands over a piece of ours, once.
        unsafe { mi_free(piece.cast()) }
    }
}

/// Has the allocator give back what this thread has freed, and what any thread freed longer than a second ago. To be called
/// by each thread now and then: by itself the allocator does so only while much is allocated.
pub fn tidy() {
    collect(Free::ForASecond);
}

/// The same at once, for whoever has freed much: what is kept would be taken in small pieces by others, and stay resident.
pub fn release() {
    collect(Free::Now);
}

/// As [`release`], and takes the pages of the program's file out of this process. Those that are needed come back as they
/// are touched, without a disk being read: they stay in the system's cache, where they are the first to go if memory is short.
pub fn settle() {
    release();
    let Ok(smaps) = fs::read_to_string("/proc/self/smaps") else { return };
    for range in pages_of_program(&smaps, settle as *const () as usize) {
        let_go(range);
    }
}

/// Since when something has been free.
#[derive(PartialEq)]
enum Free {
    ForASecond,
    Now,
}

#[allow(unsafe_code, reason = "a function of the allocator; the proof stands inside")]
fn collect(free: Free) {
    // SAFETY: it asks nothing of its caller, may be called by any thread at any time, and gives back only what is free: what
    // it looks at are this thread's own lists, and lists of the process behind the allocator's own locks.
    unsafe { libmimalloc_sys::mi_collect(free == Free::Now) }
}

#[allow(
    unsafe_code,
    reason = "the kernel drops pages that it can read again; the proof stands inside"
)]
fn let_go(range: Range<usize>) {
    for advice in [Advice::LinuxCold, Advice::LinuxDontNeed] {
        // SAFETY: what the range holds afterwards is what the file holds. It is a mapping of the program's own file, which
        // is there as long as the process is; this process cannot write to it, and has not: none of its pages differs
        // from the file's. The file cannot be written to while it runs (ETXTBSY). Where the kernel refuses, nothing happens.
        let _refused = unsafe { madvise(range.start as *mut _, range.len(), advice) };
    }
}

/// Mappings of the file that holds the code at `inside` which nobody can write to and nobody has written to, by
/// `/proc/self/smaps`; proc(5). Those that the loader has filled in and then closed have pages of their own.
fn pages_of_program(smaps: &str, inside: usize) -> Vec<Range<usize>> {
    let mappings: Vec<Mapping> = mappings(smaps);
    let own = mappings.iter().find(|mapping| mapping.range.contains(&inside));
    let Some(own) = own.filter(|own| own.file.1 != "0").map(|own| own.file) else {
        return Vec::new();
    };
    let unchanged = |mapping: &Mapping| {
        mapping.file == own && mapping.is_read_only && mapping.changed == Some(0)
    };
    mappings.into_iter().filter(unchanged).map(|mapping| mapping.range).collect()
}

struct Mapping<'a> {
    range: Range<usize>,
    is_read_only: bool,
    /// Device and inode.
    file: (&'a str, &'a str),
    /// KiB of pages that are not the file's.
    changed: Option<usize>,
}

fn mappings(smaps: &str) -> Vec<Mapping<'_>> {
    let mut mappings: Vec<Mapping<'_>> = Vec::new();
    for line in smaps.lines() {
        match (line.strip_prefix("Anonymous:"), mappings.last_mut()) {
            (Some(size), Some(last)) => {
                last.changed = size.trim().strip_suffix(" kB").and_then(|size| size.parse().ok());
            }
            _ => mappings.extend(mapping(line)),
        }
    }
    mappings
}

/// `start-end perms offset device inode path`
fn mapping(line: &str) -> Option<Mapping<'_>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |digits| usize::from_str_radix(digits, 16).ok();
    let range = address(start)?..address(end)?;
    let is_read_only = matches!(words.next()?, "r-xp" | "r--p");
    let file = (words.nth(1)?, words.next()?);
    Some(Mapping { range, is_read_only, file, changed: None })
}
