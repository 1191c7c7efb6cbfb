//! Values: how a text becomes a duration, a number or a name.

use std::path::PathBuf;
use std::time::Duration;

use crate::graph::{CheckpointingMode, ExternalizedCheckpointRetention};

/// A Rust type that an option can have. Reads texts that the option's [`Kind`](super::Kind) has already accepted.
pub trait Setting: Sized {
    /// The value, or `None` if the text is none.
    fn read(text: Option<&str>) -> Option<Self>;
}

impl<T: Setting> Setting for Option<T> {
    fn read(text: Option<&str>) -> Option<Self> {
        match text {
            None => Some(None),
            Some(text) => T::read(Some(text)).map(Some),
        }
    }
}

impl Setting for Duration {
    fn read(text: Option<&str>) -> Option<Self> {
        parse_duration(text?)
    }
}

impl Setting for u32 {
    fn read(text: Option<&str>) -> Option<Self> {
        text?.parse().ok()
    }
}

impl Setting for u16 {
    fn read(text: Option<&str>) -> Option<Self> {
        text?.parse().ok()
    }
}

impl Setting for f64 {
    fn read(text: Option<&str>) -> Option<Self> {
        parse_float(text?)
    }
}

impl Setting for String {
    fn read(text: Option<&str>) -> Option<Self> {
        text.map(str::to_owned)
    }
}

impl Setting for PathBuf {
    fn read(text: Option<&str>) -> Option<Self> {
        text.map(Self::from)
    }
}

impl Setting for CheckpointingMode {
    fn read(text: Option<&str>) -> Option<Self> {
        match text? {
            "EXACTLY_ONCE" => Some(Self::ExactlyOnce),
            "AT_LEAST_ONCE" => Some(Self::AtLeastOnce),
            _ => None,
        }
    }
}

impl Setting for ExternalizedCheckpointRetention {
    fn read(text: Option<&str>) -> Option<Self> {
        match text? {
            "NO_EXTERNALIZED_CHECKPOINTS" => Some(Self::NoExternalizedCheckpoints),
            "DELETE_ON_CANCELLATION" => Some(Self::DeleteOnCancellation),
            "RETAIN_ON_CANCELLATION" => Some(Self::RetainOnCancellation),
            _ => None,
        }
    }
}

/// The units of a duration, in milliseconds, with Flink's spellings of each. The first spelling is the one that is printed.
const UNITS: [(u64, &[&str]); 5] = [
    (24 * 60 * 60 * 1000, &["d", "day", "days"]),
    (60 * 60 * 1000, &["h", "hour", "hours"]),
    (60 * 1000, &["min", "m", "minute", "minutes"]),
    (1000, &["s", "sec", "secs", "second", "seconds"]),
    (1, &["ms", "milli", "millis", "millisecond", "milliseconds"]),
];

/// A duration: a whole number and its unit, with or without a space (`10 s`, `5min`, `500 ms`), or `0`.
///
/// A number without a unit is refused: what is a second in one system is a millisecond in another.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = (
        text[..digits].parse::<u64>().ok()?,
        text[digits..].trim_start().to_ascii_lowercase(),
    );
    if unit.is_empty() && number == 0 {
        return Some(Duration::ZERO);
    }
    let (millis, _) = UNITS.iter().find(|(_, spellings)| spellings.contains(&unit.as_str()))?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

/// A number of milliseconds in the largest unit that holds it without a fraction: `90000` is `90 s`.
pub fn format_duration(millis: u64) -> String {
    if millis == 0 {
        return "0 ms".to_owned();
    }
    let (unit, spellings) = UNITS
        .iter()
        .find(|(unit, _)| millis % unit == 0)
        .expect("every number of milliseconds is divisible by one");
    format!("{} {}", millis / unit, spellings[0])
}

pub(super) fn parse_integer(text: &str) -> Option<u64> {
    // `u64::from_str` accepts a plus sign.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

pub(super) fn parse_float(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

pub(super) fn parse_host(text: &str) -> Option<&str> {
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    let is_name = text.len() <= 253
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    (is_address || is_name).then_some(text)
}
