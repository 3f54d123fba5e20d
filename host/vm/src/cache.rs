//! Compiled modules on disk.

use std::path::Path;

use crate::error::LoadError;

/// A folder of compiled modules (0700, owner checked, no symlinks).
#[derive(Clone, Debug)]
pub struct Cache;

#[allow(unused_variables, missing_docs, reason = "stub")]
impl Cache {
    pub fn open(folder: &Path) -> Result<Cache, LoadError> {
        todo!()
    }
}
