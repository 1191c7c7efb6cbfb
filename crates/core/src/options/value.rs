//! Values: how a text becomes a duration, a number or a name.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::backend::{CheckpointStorageKind, StateBackendKind};
use crate::barrier::Compression;
use crate::graph::{CheckpointingMode, ClaimMode, ExternalizedCheckpointRetention};

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

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl Setting for ByteSize {
    fn read(text: Option<&str>) -> Option<Self> {
        parse_size(text?).map(Self)
    }
}

/// A value that must reach no output, log or page.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for the one who it was meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Setting for Secret {
    fn read(text: Option<&str>) -> Option<Self> {
        text.map(|text| Self(text.to_owned()))
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

impl Setting for bool {
    fn read(text: Option<&str>) -> Option<Self> {
        text?.parse().ok()
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

impl Setting for StateBackendKind {
    fn read(text: Option<&str>) -> Option<Self> {
        match text? {
            "hashmap" | "filesystem" => Some(Self::HashMap),
            "rocksdb" => Some(Self::RocksDb),
            "memory" | "jobmanager" => Some(Self::Memory),
            _ => None,
        }
    }
}

impl Setting for CheckpointStorageKind {
    fn read(text: Option<&str>) -> Option<Self> {
        match text? {
            "filesystem" => Some(Self::FileSystem),
            "jobmanager" => Some(Self::JobManager),
            _ => None,
        }
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

impl Setting for Compression {
    fn read(text: Option<&str>) -> Option<Self> {
        match text? {
            "none" | "false" => Some(Self::None),
            "lz4" | "true" => Some(Self::Lz4),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl Setting for ClaimMode {
    fn read(text: Option<&str>) -> Option<Self> {
        match text? {
            "NO_CLAIM" => Some(Self::NoClaim),
            "CLAIM" => Some(Self::Claim),
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

/// Units with their spellings, largest first. The first spelling is the one that is printed.
type Units = [(u64, &'static [&'static str]); 5];

/// The units of a duration, in milliseconds.
const DURATION_UNITS: Units = [
    (24 * 60 * 60 * 1000, &["d", "day", "days"]),
    (60 * 60 * 1000, &["h", "hour", "hours"]),
    (60 * 1000, &["min", "m", "minute", "minutes"]),
    (1000, &["s", "sec", "secs", "second", "seconds"]),
    (1, &["ms", "milli", "millis", "millisecond", "milliseconds"]),
];

/// The units of a size, in bytes. As in Flink, all are powers of 1024.
const SIZE_UNITS: Units = [
    (1 << 40, &["tb", "t", "tebibytes"]),
    (1 << 30, &["gb", "g", "gibibytes"]),
    (1 << 20, &["mb", "m", "mebibytes"]),
    (1 << 10, &["kb", "k", "kibibytes"]),
    (1, &["bytes", "b"]),
];

/// A duration: a whole number and its unit, with or without a space (`10 s`, `5min`, `500 ms`), or `0`.
///
/// A number without a unit is refused: what is a second in one system is a millisecond in another.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse_quantity(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// A number of milliseconds in the largest unit that holds it without a fraction: `90000` is `90 s`.
pub fn format_duration(millis: u64) -> String {
    format_quantity(millis, &DURATION_UNITS)
}

/// A size: a whole number and its unit, with or without a space (`128 mb`, `64k`), or `0`.
pub fn parse_size(text: &str) -> Option<u64> {
    parse_quantity(text, &SIZE_UNITS)
}

/// A number of bytes in the largest unit that holds it without a fraction: `1048576` is `1 mb`.
pub fn format_size(bytes: u64) -> String {
    format_quantity(bytes, &SIZE_UNITS)
}

fn parse_quantity(text: &str, units: &Units) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let number = digits.parse::<u64>().ok()?;
    let unit = unit.trim_start().to_ascii_lowercase();
    if unit.is_empty() && number == 0 {
        return Some(0);
    }
    let (factor, _) = units.iter().find(|(_, spellings)| spellings.contains(&unit.as_str()))?;
    number.checked_mul(*factor)
}

fn format_quantity(number: u64, units: &Units) -> String {
    let (factor, spellings) = units
        .iter()
        .find(|(factor, _)| number != 0 && number.is_multiple_of(*factor))
        .unwrap_or(&units[units.len() - 1]);
    format!("{} {}", number / factor, spellings[0])
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
