//! Pauses between attempts: each twice as long as the one before, with jitter, so that proxies do not come back together.

use std::time::Duration;

use super::Patience;

/// Pauses after failures in a row.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// No failure yet.
    pub fn new(patience: &Patience) -> Backoff {
        let (first, longest) = (patience.first_pause, patience.longest_pause);
        Backoff { next: first, first, longest }
    }

    /// How long to wait now; `asked`: what the server asks for, which is believed up to a minute.
    pub fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        let asked = asked.unwrap_or_default().min(Duration::from_secs(60));
        own.max(asked + asked.mul_f64(fastrand::f64() / 4.0))
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
