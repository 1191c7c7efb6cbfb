//! What comes out, and where it goes.

use clap::ValueEnum;
use streamd::RuntimeContext;
use streamd::prelude::*;

/// One result. What the fields mean beyond their names is the topology's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub key: u64,
    /// The how-manieth of its key.
    pub ordinal: u64,
    /// Of all that it is made from.
    pub digest: u64,
    /// Which record set it off; the start of a window.
    pub split: u32,
    pub seq: i64,
    /// How far event time had come; `None` before there was any.
    pub watermark: Option<i64>,
    /// In which attempt of which job; `None` from windows, which do not say.
    pub attempt: Option<String>,
}

/// Sinks that write exactly once.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SinkKind {
    /// Files in a folder
    File2pc,
    /// Transactions of a ledger
    Ledger,
}

impl SinkKind {
    /// Writes the results there.
    pub fn add(self, outputs: &DataStream<Output>, place: &str, uid: &str) {
        match self {
            Self::File2pc => outputs.sink_to(FileSink::json_lines(place)).uid(uid),
            // Both sinks of a job may write to the same ledger: transactions carry the uid.
            Self::Ledger => outputs
                .sink_to(LedgerSink::json_lines(place.trim_end_matches("-again")))
                .uid(uid),
        };
    }
}

/// A watermark as it is written.
pub fn watermark(time: EventTime) -> Option<i64> {
    (time > EventTime::MIN).then_some(time.0)
}

/// An attempt as it is written: a job that is resumed is another one.
pub fn attempt(context: RuntimeContext) -> Option<String> {
    Some(format!("{}-{}", context.job_id(), context.attempt_number()))
}
