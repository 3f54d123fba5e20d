//! Scalars with a grammar of their own: durations (GEP-2257), sizes (Kubernetes quantities), points in time (RFC 3339).

use std::str::FromStr;
use std::time::Duration as Time;

use serde::Deserialize;

/// A span of time.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename = "$duration")]
pub struct Duration(u64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename = "$size")]
pub struct Size(u64);

/// Seconds since the epoch.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename = "$timestamp")]
pub struct Timestamp(i64);

/// What the decoder knows these three by.
pub(super) const DURATION: &str = "$duration";
pub(super) const SIZE: &str = "$size";
pub(super) const TIMESTAMP: &str = "$timestamp";

impl Duration {
    /// As the standard library has it.
    pub fn get(self) -> Time {
        Time::from_millis(self.0)
    }

    /// `None` for zero, where zero means none.
    pub fn nonzero(self) -> Option<Time> {
        (self.0 > 0).then(|| self.get())
    }
}

impl FromStr for Duration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Duration, &'static str> {
        duration(text).map(Duration).ok_or("a duration is written as in 250ms, 10s, 1m30s")
    }
}

impl Size {
    /// Bytes.
    pub fn get(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Timestamp {
    /// Seconds since the epoch.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// Milliseconds of `([0-9]{1,5}(h|m|s|ms)){1,4}`.
pub(super) fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut total, mut groups) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        if !(1..=5).contains(&digits) || groups == 4 {
            return None;
        }
        let (unit, after) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
            .into_iter()
            .find_map(|(name, unit)| Some((unit, after.strip_prefix(name)?)))?;
        total += number.parse::<u64>().ok()? * unit;
        (rest, groups) = (after, groups + 1);
    }
    (groups > 0).then_some(total)
}

/// What somebody who wrote `text` probably meant.
pub(super) fn likely_duration(text: &str) -> Option<String> {
    let text: String = text.to_lowercase().split_whitespace().collect();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
        "s" | "sec" | "secs" | "second" | "seconds" | "" => 1000.0,
        "ms" | "msec" | "millis" | "milliseconds" => 1.0,
        _ => return None,
    };
    let millis = number.parse::<f64>().ok()? * unit;
    if !(1.0..3.6e11).contains(&millis) || millis.fract() != 0.0 {
        return None;
    }
    [(3_600_000.0, "h"), (60_000.0, "m"), (1000.0, "s"), (1.0, "ms")]
        .into_iter()
        .map(|(unit, name)| (millis / unit, name))
        .find(|(count, _)| count.fract() == 0.0 && *count < 100_000.0)
        .map(|(count, name)| format!("{count}{name}"))
}

const UNITS: [(&str, u128); 14] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("e3", 1000),
    ("e6", 1_000_000),
];

/// Bytes of a Kubernetes quantity; only whole ones.
pub(super) fn size(text: &str) -> Option<u64> {
    let units = UNITS.into_iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)));
    let (number, unit) = units.unwrap_or((text, 1));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.len() <= 15 && part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let scaled = format!("{whole}{fraction}").parse::<u128>().ok()?.checked_mul(unit)?;
    (scaled % scale == 0).then(|| u64::try_from(scaled / scale).ok())?
}

/// What somebody who wrote `text` probably meant.
pub(super) fn likely_size(text: &str) -> Option<String> {
    let compact: String = text.split_whitespace().collect();
    let without = compact.strip_suffix(['B', 'b']).unwrap_or(&compact);
    let unit = without.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = without.strip_suffix(unit)?;
    let right = ["Ki", "Mi", "Gi", "Ti", "k", "M", "G", "T", ""]
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(unit))?;
    let meant = format!("{number}{right}");
    (meant != text && size(&meant).is_some()).then_some(meant)
}

/// Seconds since the epoch of `2026-01-31T12:00:00Z`; a fraction is dropped.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
    };
    let separators = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    if separators.iter().any(|(at, mark)| text.get(*at..at + 1) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (zone.get(1..3)?.parse::<i64>().ok()?, zone.get(4..6)?);
            let seconds = hours * 3600 + minutes.parse::<i64>().ok()? * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

/// Days from 1970-01-01 in the Gregorian calendar; years begin in March so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468
}
