//! Values that configurations are made of: checked when they are parsed, and written as people
//! write them in YAML.

use std::time::Duration;

use serde::Deserialize;

use crate::random::{mix, random};

/// A share of 0 to 100 percent, fractions allowed: `12.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Percent(f64);

impl Percent {
    /// Whether this share of all keys holds `key`: the same key always gets the same answer, on
    /// every instance and after every restart (FNV-1a), and a larger share holds all that a
    /// smaller one holds.
    #[must_use]
    pub fn covers(self, key: &str) -> bool {
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.holds(mix(hash))
    }

    /// Draws lots: true for this share of calls.
    #[must_use]
    pub fn draw(self) -> bool {
        self.holds(random())
    }

    /// The share as a number from 0 to 100.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }

    fn holds(self, bits: u64) -> bool {
        // 53 bits: all that a double can hold exactly.
        let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        unit * 100.0 < self.0
    }
}

impl TryFrom<f64> for Percent {
    type Error = String;

    fn try_from(value: f64) -> Result<Percent, String> {
        match value {
            _ if value > 100.0 => Err(format!("{value} is above 100")),
            _ if value >= 0.0 => Ok(Percent(value)),
            _ => Err(format!("{value} is below 0")),
        }
    }
}

/// A duration as GEP-2257 writes it: `250ms`, `1m30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct DurationText(Duration);

impl From<DurationText> for Duration {
    fn from(text: DurationText) -> Duration {
        text.0
    }
}

impl TryFrom<String> for DurationText {
    type Error = String;

    fn try_from(text: String) -> Result<DurationText, String> {
        gep_2257(&text)
            .map(|milliseconds| DurationText(Duration::from_millis(milliseconds)))
            .ok_or_else(|| format!("`{text}` is not a duration such as 250ms or 1m30s"))
    }
}

/// `([0-9]{1,5}(h|m|s|ms)){1,4}`, in milliseconds.
fn gep_2257(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let unit = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(unit);
        let milliseconds = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        parts += 1;
        if digits > 5 || parts > 4 {
            return None;
        }
        total += number.parse::<u64>().ok()? * milliseconds;
        rest = after;
    }
    (parts > 0).then_some(total)
}

/// An HTTP status that a final response may have: 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub struct Status(u16);

impl From<Status> for u16 {
    fn from(status: Status) -> u16 {
        status.0
    }
}

impl TryFrom<u16> for Status {
    type Error = String;

    fn try_from(status: u16) -> Result<Status, String> {
        match status {
            200..=599 => Ok(Status(status)),
            _ => Err(format!("{status} is not a final HTTP status (200 to 599)")),
        }
    }
}
