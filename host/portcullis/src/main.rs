//! The command. Everything lies in the library, where tests reach it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: portcullis::memory::Heap = portcullis::memory::Heap;

fn main() -> ExitCode {
    // What a few connections and small guests touch here and there would be rounded up to 2 MiB each. Where the system
    // insists on huge pages, more is resident and nothing else is different.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    portcullis::cli::main()
}
