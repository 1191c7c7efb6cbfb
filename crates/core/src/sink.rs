//! The contract of a sink, in two phases: write and prepare with the checkpoint, commit once it is complete.
//!
//! ```text
//!   write … write │ barrier │ prepare_commit ──▶ committables ──▶ kept in the checkpoint's state
//!                                                                    │ checkpoint complete (or restored)
//!                                                                    ▼
//!                                                                  commit (idempotent, by the committable's identity)
//! ```
//!
//! A sink that keeps nothing back (`print`) has no committables: its `Committable` is [`NoCommit`].

use crate::graph::{Guarantee, StateDescriptor};
use crate::id::{JobId, SubtaskId};
use crate::row::{DataType, RowError, RowReader};
use crate::snapshot::ListState;
use crate::source::ConnectorError;
use crate::state::State;
use crate::time::EventTime;

/// Where records go. Cloned into every process that builds the graph; does no I/O until asked.
pub trait Sink: Clone + Send + 'static {
    /// The records.
    type In: Send + 'static;
    /// Output that is prepared and waits for its checkpoint: state, and so readable for ever. Carries all that a commit
    /// needs, and the identity by which a second commit is seen to be one.
    type Committable: State;
    /// What writes for one subtask.
    type Writer: SinkWriter<In = Self::In, Committable = Self::Committable>;

    /// What the sink promises.
    fn guarantee(&self) -> Guarantee;

    /// Looks at what can be known before the job runs, and changes nothing: called once wherever the graph is built, so that a
    /// mistake is told to whoever submits and not to the first attempt.
    fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// The state that writers keep beside committables: lists, dealt out when the parallelism changes, and union lists. None unless said
    /// otherwise.
    fn writer_states(&self) -> Vec<StateDescriptor> {
        Vec::new()
    }

    /// A writer for one subtask.
    fn writer(&self, context: &SinkContext) -> Result<Self::Writer, ConnectorError>;

    /// Makes prepared output visible. Called after the checkpoint that holds the committables is complete, and again after
    /// a restore of it: must succeed without effect for output that is committed already.
    ///
    /// Errors if prepared output is gone: that is lost data, and fails the job.
    fn commit(&self, committables: &[Self::Committable]) -> Result<(), ConnectorError>;
}

/// Who a writer writes for. Together the fields are unique over all writers that ever were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkContext {
    /// The job.
    pub job_id: JobId,
    /// The operator's uid or name, fit for a file name.
    pub operator: String,
    /// The subtask.
    pub subtask: SubtaskId,
    /// A random name of this writer: a superseded writer can never be taken for its successor.
    pub nonce: String,
}

/// What a writer is told of the records that it is given. Flink's `SinkWriter.Context`.
#[derive(Debug, Clone, Copy)]
pub struct WriteContext<'a> {
    timestamps: &'a [EventTime],
    watermark: EventTime,
}

impl<'a> WriteContext<'a> {
    /// For records with a timestamp each, or with none at all.
    pub const fn new(timestamps: &'a [EventTime], watermark: EventTime) -> Self {
        Self { timestamps, watermark }
    }

    /// The timestamp of the record at this position of the batch; `None` where it has none.
    pub fn timestamp(&self, position: usize) -> Option<EventTime> {
        let timestamp = self.timestamps.get(position).copied();
        timestamp.filter(|timestamp| *timestamp != EventTime::MIN)
    }

    /// How far the event time has come: no record up to it is expected any more. [`EventTime::MIN`] before the first watermark.
    pub fn current_watermark(&self) -> EventTime {
        self.watermark
    }
}

/// Writes for one subtask, on the slot's thread.
pub trait SinkWriter: Send + 'static {
    /// See [`Sink::In`].
    type In;
    /// See [`Sink::Committable`].
    type Committable;

    /// Takes up the subtask's share of what writers had in state. Called before the first record, where a snapshot is restored.
    fn restore_state(&mut self, _lists: &[ListState]) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// The state beside committables, in lists of the [names that were declared](Sink::writer_states). Called at each barrier, after
    /// [`prepare_commit`](Self::prepare_commit).
    fn snapshot_state(&mut self) -> Vec<ListState> {
        Vec::new()
    }

    /// Takes all records out of the batch.
    fn write(&mut self, batch: &mut Vec<Self::In>) -> Result<(), ConnectorError>;

    /// As [`write`](Self::write), which it calls unless a writer has its own: with what is known of the records' time.
    fn write_in_time(&mut self, batch: &mut Vec<Self::In>, _context: &WriteContext<'_>) -> Result<(), ConnectorError> {
        self.write(batch)
    }

    /// Called at the end of each turn in which records were written: hand buffered output on where latency matters.
    fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// The next [`prepare_commit`](Self::prepare_commit) is to return everything, and nothing may stay [`unfinished`](Self::unfinished):
    /// the input has ended, or the job stops with the savepoint that comes. If that fails, records may follow all the same.
    fn leave_nothing_unfinished(&mut self) {}

    /// Makes everything written so far durable, and returns what is to be committed. Nothing written later belongs to it.
    fn prepare_commit(&mut self) -> Result<Vec<Self::Committable>, ConnectorError>;

    /// Asked right after [`prepare_commit`](Self::prepare_commit): output that is durable so far and goes on to grow, such as a file
    /// that is large enough only after several checkpoints. It is kept in this one snapshot, and [`Sink::commit`] sees it only
    /// where that snapshot is restored: then the writer that would have gone on is no more, and what there was must become visible.
    fn unfinished(&mut self) -> Result<Vec<Self::Committable>, ConnectorError> {
        Ok(Vec::new())
    }
}

/// The committable of sinks that have none: it cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCommit {}

impl State for NoCommit {
    fn data_type() -> DataType {
        DataType::structure("NoCommit", [])
    }

    fn encode(&self, _row: &mut Vec<u8>) {
        match *self {}
    }

    fn decode(_row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Err(RowError::Invalid {
            what: "a commit of a sink that has none",
            value: 0,
        })
    }
}
