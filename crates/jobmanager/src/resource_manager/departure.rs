//! How a task manager went: some of it is news for an operator, some is what he asked for.

/// Why a task manager is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It said goodbye: somebody stopped it.
    Goodbye,
    /// This job manager shuts down.
    ShuttingDown,
    /// Its link broke, or it was given up before.
    LinkBroken,
    /// It gave no sign of life for so many milliseconds.
    Silent(u64),
    /// It registered once more.
    Replaced,
}

impl Departure {
    /// Whether this is what somebody asked for.
    pub(super) fn is_orderly(self) -> bool {
        match self {
            Self::Goodbye | Self::ShuttingDown => true,
            Self::LinkBroken | Self::Silent(_) | Self::Replaced => false,
        }
    }

    /// The reason, in words.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Goodbye => "it was stopped".to_owned(),
            Self::ShuttingDown => "the job manager shuts down".to_owned(),
            Self::LinkBroken => "its link is closed".to_owned(),
            Self::Silent(millis) => format!("it gave no sign of life for {millis} ms"),
            Self::Replaced => "another registration replaces it".to_owned(),
        }
    }
}
