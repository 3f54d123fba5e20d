//! Has the program's relative relocations stored in packed form: they are 2 MiB less to map and to read at every start.
//! The C library must know the form (glibc 2.36); where this machine's does not, or it cannot be asked, nothing is changed.

use std::env;
use std::process::Command;

const KNOWN_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    if target == "x86_64-unknown-linux-gnu"
        && env::var("HOST").is_ok_and(|host| host == target)
        && glibc().is_some_and(|version| version >= KNOWN_SINCE)
    {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// `getconf` says `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?.stdout;
    let said = String::from_utf8(said).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
