//! Why a list of fields stays as it is.

use std::fmt;

/// Why a field is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its name is none.
    Name,
    /// Its value is none.
    Value,
    /// There would be more than 4 GiB of text. Tighter limits are up to those who let others add fields.
    Full,
}

impl Refused {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Refused::Name => "the header name is invalid",
            Refused::Value => "the header value is invalid",
            Refused::Full => "there are too many headers",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refused {}
