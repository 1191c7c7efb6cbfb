//! What goes wrong in a simulation, and how often.

use std::fmt;
use std::str::FromStr;

/// Which kinds of trouble a simulation makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultProfile {
    /// None: for the reference, and to look at an application.
    None,
    /// Everything.
    All,
    /// Processes die: workers, task managers, job managers.
    Crashes,
    /// Links and channels stall or break.
    Network,
    /// The store refuses, is slow, or says that it failed when it did not.
    Store,
}

/// What a profile comes to, in thousandths of the occasions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// Between two acts of mischief: the longest pause in milliseconds. 0: there are none.
    pub(crate) pause_ms: u64,
    /// The shares of each kind of mischief.
    pub(crate) crashes: u64,
    pub(crate) network: u64,
    /// Of store operations: refused before the fact, failed after the fact.
    pub(crate) refused: u64,
    pub(crate) applied_then_failed: u64,
    /// Of commits at the outside world: refused, or failed after the fact.
    pub(crate) commits: u64,
}

impl FaultProfile {
    /// All of them, by name.
    pub const ALL: [Self; 5] = [Self::None, Self::All, Self::Crashes, Self::Network, Self::Store];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::All => "all",
            Self::Crashes => "crashes",
            Self::Network => "network",
            Self::Store => "store",
        }
    }

    pub(crate) fn rates(self) -> Rates {
        let rates = Rates {
            pause_ms: 900,
            ..Rates::default()
        };
        match self {
            Self::None => Rates::default(),
            Self::All => Rates {
                crashes: 600,
                network: 400,
                refused: 20,
                applied_then_failed: 30,
                commits: 15,
                ..rates
            },
            Self::Crashes => Rates {
                crashes: 1_000,
                ..rates
            },
            Self::Network => Rates {
                network: 1_000,
                ..rates
            },
            Self::Store => Rates {
                pause_ms: 0,
                refused: 40,
                applied_then_failed: 60,
                commits: 40,
                ..rates
            },
        }
    }
}

impl fmt::Display for FaultProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FaultProfile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|profile| profile.name() == text);
        let names = Self::ALL.map(Self::name).join(", ");
        named.ok_or_else(|| format!("fault profile `{text}` is unknown: there are {names}"))
    }
}
