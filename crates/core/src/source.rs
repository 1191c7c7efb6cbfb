//! The contract of a source: splits that can be read, remembered and dealt out again.
//!
//! ```text
//!   Source::enumerate ──▶ splits ──dealt to subtasks──▶ SourceReader::add_splits
//!                            ▲                               │ poll
//!                            └──────── snapshot ◀────────────┘
//! ```
//!
//! A source's whole position is its splits. A reader's snapshot is the list of its splits, each with its own progress;
//! after a failure or at another parallelism the same splits come back, perhaps to other readers (never by subtask index).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::graph::Guarantee;
use crate::state::State;

/// Where records come from. Cloned into every process that builds the graph; does no I/O until asked.
pub trait Source: Clone + Send + 'static {
    /// The records.
    type Out: Send + 'static;
    /// A part of the input with the position in it: state, and so readable for ever.
    type Split: State;
    /// What reads splits.
    type Reader: SourceReader<Out = Self::Out, Split = Self::Split>;

    /// What the source can promise: exactly-once where a split read again from a position yields the same records.
    fn guarantee(&self) -> Guarantee;

    /// Finds the splits of a job that restores nothing. Called once, where the application is described.
    ///
    /// Errors if the input cannot be listed: the job is then refused before it takes a slot.
    fn enumerate(&self, parallelism: u32) -> Result<Vec<Self::Split>, ConnectorError>;

    /// A reader for one subtask. Splits follow by [`SourceReader::add_splits`].
    fn reader(&self) -> Result<Self::Reader, ConnectorError>;
}

/// Reads the splits of one subtask, in turns, on the slot's thread. Must not block for longer than a disk read.
pub trait SourceReader: Send + 'static {
    /// See [`Source::Out`].
    type Out;
    /// See [`Source::Split`].
    type Split;

    /// Takes over splits, each to be read on from the position it carries.
    fn add_splits(&mut self, splits: Vec<Self::Split>) -> Result<(), ConnectorError>;

    /// Appends up to `limit` records to `out` (which may hold earlier ones).
    ///
    /// Errors fail the attempt; the message names the split and the position.
    fn poll(&mut self, out: &mut Vec<Self::Out>, limit: usize) -> Result<SourceStatus, ConnectorError>;

    /// The number of the split that the records of the last [`poll`](Self::poll) are from, all of them. Splits are numbered from 0 in
    /// the order in which they were added.
    ///
    /// For readers that read their splits in turns, and then before the first poll as well: the event time of a subtask is that of
    /// its split that is least far. `None`, the default, for readers that read one split after the other.
    fn polled_split(&self) -> Option<usize> {
        None
    }

    /// Whether this split is read to its end. Asked of readers that tell their [`polled_split`](Self::polled_split).
    fn is_at_end(&self, _split: usize) -> bool {
        false
    }

    /// Where the records of the last [`poll`](Self::poll) are from, in the order in which they were read: a failure of the
    /// application tells them. Asked after every poll, so keep what there is to tell instead of making it up.
    ///
    /// Nothing, the default: a failure names the source and its subtask, and what changed in the splits where it can be told.
    fn last_read(&self) -> &[Stretch] {
        &[]
    }

    /// The splits with their positions after the last record that [`poll`](Self::poll) returned. Splits read to their end
    /// stay in the list for as long as they must not be found again. A reader that tells its
    /// [`polled_split`](Self::polled_split) lists them by number.
    fn snapshot(&self) -> Vec<Self::Split>;
}

/// What the positions of a [`Stretch`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, of the content where a file is compressed.
    Bytes,
    /// Rows of a file.
    Rows,
    /// Records by their number.
    Records,
    /// Lines, from 0.
    Lines,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Rows => "rows",
            Self::Records => "records",
            Self::Lines => "lines",
        })
    }
}

/// A stretch of a source's input: where to look for a record that the application fails on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// What was read, such as a file; `None` where positions say it all.
    pub of: Option<Arc<str>>,
    /// What the positions count.
    pub unit: Unit,
    /// The position before the first record.
    pub from: u64,
    /// The position behind the last one.
    pub to: u64,
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, unit, from, to } = self;
        write!(f, "between {unit} {from} and {to}")?;
        of.as_ref().map_or(Ok(()), |of| write!(f, " of `{of}`"))
    }
}

/// What a source is after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// There may be more at once.
    More,
    /// Nothing now; ask again after this long.
    Idle(Duration),
    /// All splits are read to their end: nothing will follow.
    End,
}

/// What went wrong in a connector: the object, the cause, and whose move it is.
#[derive(Debug)]
pub struct ConnectorError {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    is_output_lost: bool,
}

impl ConnectorError {
    /// An error that says all by itself: lower case, names the object in backticks, no full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
            is_output_lost: false,
        }
    }

    /// Output that was prepared cannot be committed any more, now or later: the transaction has expired, the file is gone. The job
    /// fails for good, whatever its restart strategy: each attempt would be told the same.
    pub fn output_lost(message: impl fmt::Display) -> Self {
        Self {
            is_output_lost: true,
            ..Self::new(format!("output is lost: {message}"))
        }
    }

    /// Whether it was made by [`output_lost`](Self::output_lost).
    pub fn is_output_lost(&self) -> bool {
        self.is_output_lost
    }

    /// An error with its cause; `message` does not repeat the cause.
    pub fn caused(message: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            message: message.into(),
            source: Some(source.into()),
            is_output_lost: false,
        }
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConnectorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}
