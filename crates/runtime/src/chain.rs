//! How the operators of one subtask are linked: each hands its batches to the next by one virtual call.
//!
//! ```text
//!   head ──▶ Chained<map> ──▶ Chained<filter> ──▶ Exit (result partition)
//!                        └──▶ Chained<sink>
//! ```
//!
//! Data and control take the same way, so whatever an operator emits on a control event is in front of it.

use std::any::Any;
use std::sync::Arc;

use streamd_core::barrier::Barrier;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId, SubtaskId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{ListState, OperatorSubtaskState};
use streamd_core::state::Key;
use streamd_core::time::{Clock, EventTime, WallTime, Watermark};
use streamd_exchange::Batch;
use streamd_state::{FrozenState, KeyedStateBackend, Restoring, SlotBackend};

use crate::alarm::Alarm;
use crate::at_hand::AtHand;
use crate::completions::{Calls, Completions};
use crate::error::TaskError;
use crate::late::LateCounter;
use crate::side_output::{SideLink, SideOutputs};
use crate::source_progress::SourceProgress;
use crate::watermark::AlignmentGroups;

mod chained;

pub use chained::Chained;

/// What follows an operator within its subtask.
#[derive(Default)]
pub struct Outputs {
    /// The consumers of its main output.
    pub main: Vec<AnyLink>,
    /// The consumers of its side outputs.
    pub sides: Vec<Box<dyn SideLink>>,
}

/// A step of a chain that takes batches of `T`.
pub trait Link<T>: Send {
    /// Takes all records out of the batch.
    fn process(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError>;

    /// Handles a control event, and passes it on.
    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError>;

    /// Goes on with a watermark that is not through yet. Answers whether more is left to do: until it is not, the step is
    /// given nothing else.
    fn resume(&mut self) -> Result<bool, TaskError>;

    /// Whether every exit behind this step has room for what a batch may become.
    fn has_room(&self) -> bool;

    /// How many calls of this step, and of those behind it, have not come back.
    fn calls(&self) -> Calls;
}

/// A `Box<dyn Link<T>>` whose `T` is known to whoever asks for it back.
pub struct AnyLink(Box<dyn Any + Send>);

impl AnyLink {
    /// Hides the type.
    pub fn new<T: 'static>(link: Box<dyn Link<T>>) -> Self {
        Self(Box::new(link))
    }

    /// The link, if it takes batches of `T`.
    pub fn downcast<T: 'static>(self) -> Result<Box<dyn Link<T>>, TaskError> {
        self.0.downcast::<Box<dyn Link<T>>>().map(|link| *link).map_err(|_| {
            TaskError::internal(format!(
                "an operator that takes `{}` was linked to one that does not emit it",
                std::any::type_name::<T>()
            ))
        })
    }
}

/// What an operator is told besides records.
pub enum ControlEvent<'a> {
    /// Take over state, and get ready. The first event.
    Open(&'a mut OpenContext),
    /// Nothing more to read for now: hand on whatever is held back.
    Flush,
    /// A snapshot cuts the stream here: freeze state into the list, and pass the barrier on.
    Barrier(&'a Barrier, &'a mut Vec<OperatorSnapshot>),
    /// The event time has come this far. Sets the flag where what it sets free is too much for one turn: see
    /// [`Link::resume`].
    Watermark(Watermark, &'a mut bool),
    /// The alarm has gone off: an operator has asked for it.
    ProcessingTime(WallTime),
    /// Nothing to do for now: restore more of the state. Set to how far that is, if that is behind.
    Restore(&'a mut Restoring),
    /// Calls have come back: some operator's.
    Completed,
    /// The input has ended: emit what is left.
    EndOfData,
    /// The checkpoint is complete: commit.
    CheckpointComplete(CheckpointId),
    /// No snapshot follows: commit everything. The last event of a subtask that ends well.
    Finish,
}

/// What an operator needs to begin.
pub struct OpenContext {
    /// The job.
    pub job_id: JobId,
    /// How often the job was started, this time included.
    pub attempt: Attempt,
    /// The subtask that the chain runs in.
    pub subtask: SubtaskId,
    /// How many subtasks there are.
    pub parallelism: u32,
    /// The key groups that the subtask owns.
    pub key_groups: KeyGroupRange,
    /// How many key groups there are.
    pub max_parallelism: u32,
    /// A random name of this subtask's execution.
    pub nonce: String,
    /// The state to restore, by operator; each operator takes its own.
    pub state: std::collections::BTreeMap<OperatorId, OperatorSubtaskState>,
    /// Where keyed state lives.
    pub backend: SlotBackend,
    /// Stored bytes of each keyed state that are restored before the first record.
    pub restored_at_once: u64,
    /// Where blocking reads of snapshots run their I/O.
    pub io: tokio::runtime::Handle,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Wakes the subtask for [`ControlEvent::ProcessingTime`].
    pub alarm: Alarm,
    /// Wakes the subtask for [`ControlEvent::Completed`].
    pub completions: Completions,
    /// Where the records at hand come from.
    pub at_hand: AtHand,
    /// Counts the records that came too late, and were dropped.
    pub late_dropped: LateCounter,
    /// The source at the head of the chain, where records come from it straight.
    pub source: Option<SourceProgress>,
    /// How far the sources of the job have come that wait for each other.
    pub alignment: AlignmentGroups,
}

impl OpenContext {
    /// The state of an operator, if it restores any.
    pub fn take_state(&mut self, operator: OperatorId) -> OperatorSubtaskState {
        self.state.remove(&operator).unwrap_or_default()
    }
}

/// The frozen state of one operator, not yet written.
pub struct OperatorSnapshot {
    /// Whose.
    pub operator: OperatorId,
    /// The uid or name, for file names and messages.
    pub label: Arc<str>,
    /// Keyed state.
    pub keyed: Vec<FrozenState>,
    /// Operator state.
    pub lists: Vec<ListState>,
}

impl OperatorSnapshot {
    /// The keyed state of an operator, frozen now, as the barrier wants it.
    pub fn keyed<K: Key>(identity: &OperatorIdentity, backend: &mut KeyedStateBackend<K>, barrier: &Barrier) -> Self {
        Self {
            operator: identity.id,
            label: Arc::clone(&identity.label),
            keyed: backend.freeze_at(barrier),
            lists: Vec::new(),
        }
    }

    /// The operator state of an operator.
    pub fn lists(identity: &OperatorIdentity, lists: Vec<ListState>) -> Self {
        Self {
            operator: identity.id,
            label: Arc::clone(&identity.label),
            keyed: Vec::new(),
            lists,
        }
    }
}

/// Who an operator is, inside its chain.
#[derive(Debug, Clone)]
pub struct OperatorIdentity {
    /// The id that its state goes by.
    pub id: OperatorId,
    /// The uid or name.
    pub label: Arc<str>,
}

/// A step of an application. One value per subtask, used by one thread.
pub trait Operator<In, Out>: Send + 'static {
    /// Takes over state.
    fn open(&mut self, _identity: &OperatorIdentity, _context: &mut OpenContext) -> Result<(), TaskError> {
        Ok(())
    }

    /// There is time: restores a little of what [`open`](Self::open) has left in the snapshot.
    fn restore_more(&mut self) -> Result<Restoring, TaskError> {
        Ok(Restoring::Done)
    }

    /// Takes records out of `input`, the first ones first, and appends what it emits to `output`. An operator that emits many
    /// records for one may leave some for the next call, which follows at once: batches are to stay in the cache.
    fn process(&mut self, input: &mut Batch<In>, output: &mut Batch<Out>) -> Result<(), TaskError>;

    /// The event time has come to `time`: emits what waited for it, a batch of output at a time. Called again until it answers
    /// `true`: all is out.
    fn event_time(&mut self, _time: EventTime, _output: &mut Batch<Out>) -> Result<bool, TaskError> {
        Ok(true)
    }

    /// What the consumers are told of a watermark, when everything that it set free is out: the same, unless the operator has
    /// a notion of event time of its own.
    fn forward(&mut self, watermark: Watermark) -> Option<Watermark> {
        Some(watermark)
    }

    /// What the operator has to say of the event time of its own output, by and by: asked until there is nothing.
    fn own_watermark(&mut self) -> Option<Watermark> {
        None
    }

    /// An [`Alarm`] has gone off; perhaps another operator's.
    fn processing_time(&mut self, _now: WallTime, _output: &mut Batch<Out>) -> Result<(), TaskError> {
        Ok(())
    }

    /// How many calls it has made elsewhere that have not come back, or are not emitted yet. It gets no more records while they
    /// are [as many as may be](Calls::Full), and is told of the end of the input when there are none.
    fn calls(&self) -> Calls {
        Calls::None
    }

    /// Calls have come back; perhaps another operator's. Emits some of what is there.
    fn completed(&mut self, _output: &mut Batch<Out>) -> Result<(), TaskError> {
        Ok(())
    }

    /// Whether [`process`](Self::process) may emit what came of earlier records: then nobody knows where its output comes from.
    fn holds_back(&self) -> bool {
        false
    }

    /// Records for other streams than the main one, to be taken out after every call.
    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        None
    }

    /// Nothing more to read for now.
    fn flush(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    /// Freezes state; `None` where there is none. Must be quick: the stream stands still.
    fn snapshot(
        &mut self,
        _identity: &OperatorIdentity,
        _barrier: &Barrier,
    ) -> Result<Option<OperatorSnapshot>, TaskError> {
        Ok(None)
    }

    /// The input has ended: emit what is left.
    fn end_of_data(&mut self, _output: &mut Batch<Out>) -> Result<(), TaskError> {
        Ok(())
    }

    /// The checkpoint is complete.
    fn checkpoint_complete(&mut self, _checkpoint: CheckpointId) -> Result<(), TaskError> {
        Ok(())
    }

    /// No snapshot follows.
    fn finish(&mut self) -> Result<(), TaskError> {
        Ok(())
    }
}
