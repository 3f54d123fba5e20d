//! The API server's no to who asks, or to what is asked for, in words that say what to do.

use super::api::Failure;
use crate::diagnose::{Code, Problem};

/// May not do `what`. `None`: that is not why it failed. `grant`: the rights that are needed.
pub fn denial(failure: &Failure, what: &str, grant: &str) -> Option<Problem> {
    let hint = match failure.status()? {
        401 => {
            "it does not know who asks: the token or certificate is wrong, expired, or of another cluster"
        }
        403 => grant,
        _ => return None,
    };
    let problem = Problem::new(Code::P0422, format!("may not {what}"));
    Some(problem.because(failure.to_string()).hint(hint))
}
