//! Ways to break what a cluster stands on, each of which must be found: a test that cannot fail is none.

use std::fmt;
use std::str::FromStr;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The store forgets some writes of job managers that it has confirmed.
    LosesWrites,
    /// Channels between workers deliver some elements out of order.
    Reorders,
    /// Workers that are told to end do not, and nobody kills them.
    Lingers,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LosesWrites, Self::Reorders, Self::Lingers];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::LosesWrites => "loses-writes",
            Self::Reorders => "reorders",
            Self::Lingers => "lingers",
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|sabotage| sabotage.name() == text);
        let names = Self::ALL.map(Self::name).join(", ");
        named.ok_or_else(|| format!("sabotage `{text}` is unknown: there are {names}"))
    }
}
