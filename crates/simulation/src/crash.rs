//! Moments at which a process dies: one index of all store operations, or of all messages, of a run.

use std::fmt;
use std::str::FromStr;

/// The sighting of a process that died at its crash point.
pub const CRASHED: &str = "a process died at its crash point";

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashKind {
    /// Operations of the store, of job managers and workers.
    Store,
    /// Messages between job managers, task managers and workers.
    Message,
}

/// On which side of it the process dies that does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashSide {
    /// Nothing has happened.
    Before,
    /// It has happened: the object is stored, or the message has arrived. Whoever did it does not learn of it any more.
    After,
}

/// The moment at which a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    /// What is counted.
    pub kind: CrashKind,
    /// From 0.
    pub index: u64,
    /// Before or after it.
    pub side: CrashSide,
}

impl CrashPoint {
    /// Every moment of a run in which so many things of a kind happen.
    pub fn all(kind: CrashKind, count: u64) -> impl Iterator<Item = Self> {
        let sides = [CrashSide::Before, CrashSide::After];
        (0..count).flat_map(move |index| sides.map(|side| Self { kind, index, side }))
    }
}

impl CrashKind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Message => "message",
        }
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            CrashSide::Before => "before",
            CrashSide::After => "after",
        };
        write!(f, "{}:{}:{side}", self.kind.name(), self.index)
    }
}

impl FromStr for CrashKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "store" => Ok(Self::Store),
            "message" => Ok(Self::Message),
            _ => Err(format!("`{text}` is nothing to crash at: there are store, message")),
        }
    }
}

impl FromStr for CrashPoint {
    type Err = String;

    /// Reads what is printed: `store:17:before`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || format!("crash point `{text}` is none: one is `store:17:before`");
        let mut parts = text.split(':');
        let (Some(kind), Some(index), Some(side), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        Ok(Self {
            kind: kind.parse()?,
            index: index.parse().map_err(|_| malformed())?,
            side: match side {
                "before" => CrashSide::Before,
                "after" => CrashSide::After,
                _ => return Err(malformed()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_point_is_read_as_it_is_printed() {
        for point in CrashPoint::all(CrashKind::Store, 2).chain(CrashPoint::all(CrashKind::Message, 1)) {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        for text in [
            "store",
            "store:x:before",
            "disk:1:before",
            "store:1:amid",
            "store:1:before:",
        ] {
            assert!(text.parse::<CrashPoint>().is_err(), "{text}");
        }
    }
}
