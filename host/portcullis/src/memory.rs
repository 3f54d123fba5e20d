//! Gives back what was needed for a while only: pieces that are free and that the allocator keeps, and pages of the
//! program itself that only a start or a change goes through.
//!
//! Nothing here changes what memory holds. This is the only `unsafe` of this ring, and the only module that names the
//! allocator.

use std::fs;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

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
