//! What is known of an exchange when it is over. Read through properties alone: in the log phase a
//! header map may be missing, and asking for it would trap.

use std::time::Duration;

use crate::host;

/// An exchange that has ended, however it did.
#[derive(Debug)]
pub struct Summary(());

impl Summary {
    pub(crate) fn of_stream() -> Summary {
        Summary(())
    }

    /// The response's status; `None` where there was no response.
    pub fn status(&self) -> Option<u16> {
        host::integer(&["response", "code"])
            .and_then(|code| u16::try_from(code).ok())
            .filter(|code| *code != 0)
    }

    /// From the first byte of the request to the end.
    pub fn duration(&self) -> Option<Duration> {
        let nanoseconds = host::integer(&["request", "duration"])?;
        u64::try_from(nanoseconds).ok().map(Duration::from_nanos)
    }

    /// A request header; repeated values are joined with commas.
    pub fn request_header(&self, name: &str) -> Option<String> {
        self.property(&["request", "headers", name]).map(host::text)
    }

    /// A response header; repeated values are joined with commas.
    pub fn response_header(&self, name: &str) -> Option<String> {
        self.property(&["response", "headers", name]).map(host::text)
    }

    /// A property by its path, in the host's encoding.
    pub fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        host::property(path)
    }
}
