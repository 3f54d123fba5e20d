//! That every proxy did the same work: responses compared in full while the load runs, and requests counted in four places afterwards.

mod counts;
mod probe;

pub use counts::{Counts, agree};
pub use probe::{Expected, Probing, dialect, every, expected};
