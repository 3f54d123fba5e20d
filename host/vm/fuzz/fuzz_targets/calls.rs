//! Every host call with any arguments in any phase: the first byte picks the guest, the second says how many events follow,
//! and the rest is the guest's program.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_vm_fuzz::driver::Life;
use portcullis_vm_fuzz::{Guest, interpreter, spec};

/// What guests claim: the Rust SDK's, whose bad pointers trap, and others of two versions, which are told of them.
const KINDS: [(&str, &str); 3] =
    [("0_2_1", "(@producers (language \"Rust\" \"1.95.0\"))"), ("0_2_1", ""), ("0_1_0", "")];
const EVENTS: u8 = 33;

static GUESTS: [Guest; 3] = [const { Guest::new() }; 3];

fuzz_target!(|input: &[u8]| {
    let [kind, count, rest @ ..] = input else { return };
    let kind = usize::from(*kind) % KINDS.len();
    let (version, producers) = KINDS[kind];
    let module = GUESTS[kind].module(|| interpreter::text(version, producers));
    let count = usize::from(count % EVENTS).min(rest.len());
    let (events, program) = rest.split_at(count);
    let Some(mut life) = Life::start(module, spec(program)) else { return };
    for event in events {
        life.step(event % EVENTS);
    }
    life.end();
});
