//! Identifiers. Each is its own type, parsed where it enters the system, so that none is ever a joined string.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

/// A string that is not 32 lower-case or upper-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot parse `{text}` as {kind}: the expected format is 32 hexadecimal digits, like fd72014d4c864993a2e5a9287b4a9c5d"
)]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self).ok_or_else(|| ParseIdError { kind: $kind, text: shown(text) })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id! {
    /// A job: 32 hexadecimal digits, as Flink prints them.
    JobId, "a job id"
}

hex_id! {
    /// An operator, and with it the state that it owns. Derived from the operator's uid, or generated from the shape of the graph.
    OperatorId, "an operator id"
}

hex_id! {
    /// A long-running request of a user (a savepoint, a stop), so that it can be asked after and repeated without doing it twice.
    OperationId, "an operation id"
}

impl OperatorId {
    /// The id that a uid names for ever: the 128-bit XXH3 of its UTF-8 bytes, big endian.
    pub fn from_uid(uid: &str) -> Self {
        Self(xxh3_128(uid.as_bytes()).to_be_bytes())
    }
}

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

/// At most 64 characters of hostile input, without control characters, for an error message.
fn shown(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .take(64)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if text.chars().nth(64).is_some() {
        clean.push('…');
    }
    clean
}

/// A checkpoint or savepoint of a job. Rises strictly over the life of a job, restarts included, and is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The how-manieth deployment of a job this is: 1 for the first, one more at each restart. Messages of older attempts are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The attempt of a job that was never deployed.
    pub const NONE: Self = Self(0);

    /// The attempt after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One parallel instance of a job vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubtaskId {
    /// The position of the vertex in [`JobGraph::vertices`](crate::graph::JobGraph::vertices).
    pub vertex: u32,
    /// The index of the subtask, from 0 to the vertex's parallelism (exclusive).
    pub index: u32,
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vertex, self.index)
    }
}

/// A task manager process: a name that is new at every start of the process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskManagerId(pub String);

impl fmt::Display for TaskManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A worker process: a number that the job manager gives out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_is_32_hexadecimal_digits_and_nothing_else() {
        let id: JobId = "FD72014d4c864993a2e5a9287b4a9c5d".parse().unwrap();
        assert_eq!(id.to_string(), "fd72014d4c864993a2e5a9287b4a9c5d");
        for bad in [
            "",
            "../x",
            "fd72014d4c864993a2e5a9287b4a9c5",
            "fd72014d4c864993a2e5a9287b4a9c5dd",
            "zd72014d4c864993a2e5a9287b4a9c5d",
        ] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hostile_id_is_shown_short_and_without_control_characters() {
        let error = format!("\u{1b}[2J{}", "x".repeat(1 << 20))
            .parse::<JobId>()
            .unwrap_err()
            .to_string();
        assert!(error.len() < 300 && !error.contains('\u{1b}'));
    }

    #[test]
    fn a_uid_names_the_same_operator_for_ever() {
        assert_eq!(
            OperatorId::from_uid("flights-by-airport").to_string(),
            OperatorId::from_uid("flights-by-airport").to_string()
        );
        assert_ne!(OperatorId::from_uid("a"), OperatorId::from_uid("A"));
    }
}
