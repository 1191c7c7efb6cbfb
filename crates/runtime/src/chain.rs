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
use streamd_core::id::{CheckpointId, JobId, OperatorId, SubtaskId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{ListState, OperatorSubtaskState};
use streamd_core::state::Key;
use streamd_exchange::element::Element;
use streamd_exchange::partition::{ResultPartition, SendError};
use streamd_state::{FrozenState, KeyedStateBackend, SlotBackend};

use crate::error::TaskError;
use crate::record::Record;

/// A step of a chain that takes batches of `T`.
pub trait Link<T>: Send {
    /// Takes all records out of the batch.
    fn process(&mut self, batch: &mut Vec<T>) -> Result<(), TaskError>;

    /// Handles a control event, and passes it on.
    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError>;

    /// Whether every exit behind this step has room for what a batch may become.
    fn has_room(&self) -> bool;
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
    /// The input has ended: emit what is left.
    EndOfData,
    /// The checkpoint is complete: commit.
    CheckpointComplete(CheckpointId),
    /// No snapshot follows: commit everything. The last event of a subtask that ends well.
    Finish,
}

/// What an operator needs to begin.
#[derive(Debug)]
pub struct OpenContext {
    /// The job.
    pub job_id: JobId,
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
    /// Where blocking reads of snapshots run their I/O.
    pub io: tokio::runtime::Handle,
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

    /// Takes records out of `input`, the first ones first, and appends what it emits to `output`. An operator that emits many
    /// records for one may leave some for the next call, which follows at once: batches are to stay in the cache.
    fn process(&mut self, input: &mut Vec<In>, output: &mut Vec<Out>) -> Result<(), TaskError>;

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
    fn end_of_data(&mut self, _output: &mut Vec<Out>) -> Result<(), TaskError> {
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

/// An operator with what follows it.
pub struct Chained<O, Out> {
    identity: OperatorIdentity,
    operator: O,
    output: Vec<Out>,
    next: Fan<Out>,
}

impl<O, Out> Chained<O, Out> {
    /// Links an operator to its consumers.
    pub fn new(identity: OperatorIdentity, operator: O, next: Fan<Out>) -> Self {
        Self {
            identity,
            operator,
            output: Vec::new(),
            next,
        }
    }
}

impl<In, Out, O> Link<In> for Chained<O, Out>
where
    In: Send + 'static,
    Out: Record,
    O: Operator<In, Out>,
{
    fn process(&mut self, batch: &mut Vec<In>) -> Result<(), TaskError> {
        loop {
            self.operator.process(batch, &mut self.output)?;
            self.next.process(&mut self.output)?;
            if batch.is_empty() {
                return Ok(());
            }
        }
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        match event {
            ControlEvent::Open(context) => self.operator.open(&self.identity, context)?,
            ControlEvent::Flush => self.operator.flush()?,
            ControlEvent::Barrier(barrier, snapshots) => {
                snapshots.extend(self.operator.snapshot(&self.identity, barrier)?);
            }
            ControlEvent::EndOfData => {
                self.operator.end_of_data(&mut self.output)?;
                self.next.process(&mut self.output)?;
            }
            ControlEvent::CheckpointComplete(checkpoint) => self.operator.checkpoint_complete(*checkpoint)?,
            ControlEvent::Finish => self.operator.finish()?,
        }
        self.next.control(event)
    }

    fn has_room(&self) -> bool {
        self.next.has_room()
    }
}

/// The consumers of one operator's output within the subtask: none for a sink, one as a rule, several where the stream forks.
pub struct Fan<T> {
    links: Vec<Box<dyn Link<T>>>,
    copy: Vec<T>,
}

impl<T: Record> Fan<T> {
    /// The consumers, given without their type.
    pub fn new(links: Vec<AnyLink>) -> Result<Self, TaskError> {
        let links = links.into_iter().map(AnyLink::downcast).collect::<Result<_, _>>()?;
        Ok(Self {
            links,
            copy: Vec::new(),
        })
    }

    /// Hands the batch to every consumer; it is empty afterwards.
    #[inline]
    pub fn process(&mut self, batch: &mut Vec<T>) -> Result<(), TaskError> {
        if batch.is_empty() {
            return Ok(());
        }
        if let Some((last, others)) = self.links.split_last_mut() {
            for link in others {
                self.copy.clone_from(batch);
                link.process(&mut self.copy)?;
            }
            last.process(batch)?;
        }
        batch.clear();
        Ok(())
    }

    /// Passes a control event to every consumer.
    pub fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        self.links.iter_mut().try_for_each(|link| link.control(event))
    }

    /// Whether every consumer has room.
    pub fn has_room(&self) -> bool {
        self.links.iter().all(|link| link.has_room())
    }
}

/// The end of a chain: an edge of the graph, to the subtasks of another vertex.
pub struct Exit<T> {
    partition: ResultPartition<T>,
}

impl<T: Record> Exit<T> {
    /// The exit into this partition.
    pub fn new(partition: ResultPartition<T>) -> Self {
        Self { partition }
    }
}

impl<T: Record> Link<T> for Exit<T> {
    fn process(&mut self, batch: &mut Vec<T>) -> Result<(), TaskError> {
        self.partition.emit(batch).map_err(send_failed)
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        let sent = match event {
            ControlEvent::Flush => self.partition.flush(),
            ControlEvent::Barrier(barrier, _) => self.partition.control(Element::Barrier(barrier.clone())),
            ControlEvent::EndOfData => self.partition.control(Element::EndOfData),
            ControlEvent::Open(_) | ControlEvent::CheckpointComplete(_) | ControlEvent::Finish => Ok(()),
        };
        sent.map_err(send_failed)
    }

    fn has_room(&self) -> bool {
        self.partition.has_room()
    }
}

fn send_failed(error: SendError) -> TaskError {
    match &error {
        SendError::Lost { .. } => TaskError::neighbour_lost(format!(
            "records cannot be sent on: {}",
            streamd_core::error::chain(&error)
        )),
        SendError::Encode(_) => TaskError::user("records cannot be sent on", &error),
    }
}
