//! A test harness for operators: one subtask without a job around it, driven by hand.
//!
//! Feed records, watermarks and time; look at what comes out; take a snapshot, and go on from it in other subtasks. State is
//! really written and really read, to and from a folder that goes with the harness's snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use streamd_core::backend::{Inlining, StateBackendOptions};
use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::graph::{StateDescriptor, StateKind};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId, SubtaskId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::OperatorSubtaskState;
use streamd_core::time::{Clock, EventTime, ManualClock, WallTime, Watermark};
use streamd_exchange::Batch;
use streamd_exchange::wake::{Parker, Waker};
use streamd_state::{BackendChoice, SlotBackend};

use crate::alarm::Alarm;
use crate::at_hand::AtHand;
use crate::chain::{OpenContext, Operator, OperatorIdentity};
use crate::completions::{Calls, Completions};
use crate::error::TaskError;
use crate::late::LateCounter;
use crate::record::Record;
use crate::side_output::OutputTag;
use crate::snapshot::{Cut, write_cut};
use crate::source_progress::SourceProgress;
use crate::watermark::AlignmentGroups;

/// How many key groups there are in a harness.
const KEY_GROUPS: u32 = 128;

/// One subtask of an operator, driven by hand. Flink's noun.
pub struct OperatorTestHarness<Op, In, Out> {
    operator: Op,
    identity: OperatorIdentity,
    subtask: (u32, u32),
    backend: SlotBackend,
    state: OperatorSubtaskState,
    /// The lists whose elements are dealt out at a restore.
    split: BTreeSet<String>,
    clock: Arc<ManualClock>,
    alarm: Alarm,
    completions: Completions,
    /// Woken when calls have come back.
    parker: Parker,
    late: LateCounter,
    source: Option<SourceProgress>,
    alignment: AlignmentGroups,
    io: Arc<tokio::runtime::Runtime>,
    input: Batch<In>,
    output: Batch<Out>,
    emitted: Vec<(Out, EventTime)>,
    watermarks: Vec<Watermark>,
    opened: bool,
}

/// What a harness's subtask had in state.
#[derive(Debug, Clone)]
pub struct OperatorSnapshotHandle {
    state: OperatorSubtaskState,
}

impl<Op, In, Out> OperatorTestHarness<Op, In, Out>
where
    In: Record,
    Out: Record,
    Op: Operator<In, Out>,
{
    /// The only subtask of this operator, at the beginning of time.
    ///
    /// # Panics
    ///
    /// If the threads for its I/O cannot be started.
    pub fn new(operator: Op) -> Self {
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread can be started");
        let (waker, parker) = Waker::new();
        Self {
            operator,
            identity: OperatorIdentity {
                id: OperatorId::from_uid("under test"),
                label: Arc::from("under test"),
            },
            subtask: (0, 1),
            backend: SlotBackend::default(),
            state: OperatorSubtaskState::default(),
            split: BTreeSet::new(),
            clock: Arc::default(),
            alarm: Alarm::default(),
            completions: Completions::waking(waker),
            parker,
            late: LateCounter::default(),
            source: None,
            alignment: AlignmentGroups::default(),
            io: Arc::new(io),
            input: Batch::new(),
            output: Batch::new(),
            emitted: Vec::new(),
            watermarks: Vec::new(),
            opened: false,
        }
    }

    /// Keeps keyed state in this backend; local files are below the machine's temporary directory, and go with the harness.
    ///
    /// # Panics
    ///
    /// If the program was built without the backend.
    #[must_use]
    pub fn state_backend(mut self, options: StateBackendOptions) -> Self {
        let chosen = BackendChoice::new(options, 1, std::env::temp_dir());
        self.backend = chosen.expect("the program has the backend").slot();
        self
    }

    /// Is subtask `index` of so many: it owns the keys of its key groups, and must be given no others.
    #[must_use]
    pub fn subtask(mut self, index: u32, parallelism: u32) -> Self {
        self.subtask = (index, parallelism);
        self
    }

    /// Stands in the chain of this source, which says whose split the records are that are fed.
    #[must_use]
    pub fn behind_source(mut self, source: &SourceProgress) -> Self {
        self.source = Some(source.clone());
        self
    }

    /// Whether a key with this hash is the subtask's.
    pub fn owns(&self, hash: u64) -> bool {
        let (index, parallelism) = self.subtask;
        let group = streamd_core::key_group::key_group_of(hash, KEY_GROUPS);
        KeyGroupRange::of_subtask(index, parallelism, KEY_GROUPS).contains(group)
    }

    /// Says what state the operator declares: list state is then dealt out at a restore, as a job does.
    #[must_use]
    pub fn declare(mut self, states: &[StateDescriptor]) -> Self {
        let lists = states.iter().filter(|state| state.kind == StateKind::List);
        self.split = lists.map(|state| state.name.clone()).collect();
        self
    }

    /// Begins with what these subtasks, all that there were, had in state. Operator state goes to every subtask as a whole, but
    /// for lists that were [declared](Self::declare).
    #[must_use]
    pub fn restore(mut self, snapshots: &[OperatorSnapshotHandle]) -> Self {
        for snapshot in snapshots {
            self.state.keyed.extend(snapshot.state.keyed.iter().cloned());
            self.state.lists.extend(snapshot.state.lists.iter().cloned());
        }
        let (index, parallelism) = (self.subtask.0 as usize, self.subtask.1 as usize);
        for name in &self.split {
            let mut items = Vec::new();
            for list in self.state.lists.iter_mut().filter(|list| list.name == *name) {
                items.append(&mut list.items);
            }
            let block = items.len() * index / parallelism..items.len() * (index + 1) / parallelism;
            if let Some(list) = self.state.lists.iter_mut().find(|list| list.name == *name) {
                list.items = items.drain(block).collect();
            }
        }
        self
    }

    /// Feeds a record, without a timestamp if it has none.
    pub fn process_element(&mut self, record: In, timestamp: impl Into<Option<i64>>) -> Result<(), TaskError> {
        self.open()?;
        let timestamp = timestamp.into().map_or(EventTime::MIN, EventTime);
        self.input.push(record, timestamp);
        while !self.input.is_empty() {
            self.operator.process(&mut self.input, &mut self.output)?;
            self.collect();
        }
        self.input.clear();
        self.tell_own();
        Ok(())
    }

    /// Feeds a watermark, in milliseconds.
    pub fn process_watermark(&mut self, time: i64) -> Result<(), TaskError> {
        self.open()?;
        while !self.operator.event_time(EventTime(time), &mut self.output)? {
            self.collect();
        }
        self.collect();
        self.watermarks
            .extend(self.operator.forward(Watermark::Time(EventTime(time))));
        Ok(())
    }

    /// Turns the clock, and lets the operator do what was due on the way, as often as it asks.
    pub fn set_processing_time(&mut self, time: i64) -> Result<(), TaskError> {
        self.open()?;
        while let Some(due) = self.alarm.due().filter(|due| due.0 <= time) {
            self.clock.turn_to(due.max(self.clock.wall()));
            self.alarm.clear();
            self.operator.processing_time(self.clock.wall(), &mut self.output)?;
            self.collect();
            self.tell_own();
        }
        self.clock.turn_to(WallTime(time));
        Ok(())
    }

    /// Lets time pass in which the subtask does nothing: there is no room for what it emits.
    pub fn stand_still_until(&mut self, time: i64) {
        self.clock.turn_to(WallTime(time));
    }

    /// How far the streams of the job have come that wait for each other.
    pub fn alignment(&self) -> AlignmentGroups {
        self.alignment.clone()
    }

    /// Says that there is nothing more to read for now.
    pub fn flush(&mut self) -> Result<(), TaskError> {
        self.open()?;
        self.operator.flush()?;
        self.tell_own();
        Ok(())
    }

    /// How many calls of the operator have not come back.
    pub fn calls(&mut self) -> Result<Calls, TaskError> {
        self.open()?;
        Ok(self.operator.calls())
    }

    /// Has the operator emit what it can if a call has come back, and answers whether any has.
    pub fn process_completions(&mut self) -> Result<bool, TaskError> {
        self.open()?;
        if !self.completions.take() {
            return Ok(false);
        }
        self.operator.completed(&mut self.output)?;
        self.collect();
        self.tell_own();
        Ok(true)
    }

    /// Waits until a call has come back, and has the operator emit what it then can.
    pub fn await_call(&mut self) -> Result<(), TaskError> {
        while !self.process_completions()? {
            self.parker.park();
        }
        Ok(())
    }

    /// Waits until every call has come back.
    pub fn await_calls(&mut self) -> Result<(), TaskError> {
        while self.calls()? != Calls::None {
            self.await_call()?;
        }
        Ok(())
    }

    /// Ends the input: the watermark goes to the end of time, every call comes back, and the operator emits what it still owes.
    pub fn end_of_input(&mut self) -> Result<(), TaskError> {
        self.process_watermark(i64::MAX)?;
        self.await_calls()?;
        self.operator.end_of_data(&mut self.output)?;
        self.collect();
        Ok(())
    }

    /// What was emitted since the last call, in order, with timestamps.
    pub fn extract_output(&mut self) -> Vec<(Out, EventTime)> {
        std::mem::take(&mut self.emitted)
    }

    /// What was emitted to a side output since the last call.
    pub fn extract_side_output<T: Record>(&mut self, tag: &OutputTag<T>) -> Vec<T> {
        let outputs = self.operator.side_outputs();
        outputs.map_or_else(Vec::new, |outputs| outputs.take(tag))
    }

    /// What consumers were told of the event time since the last call.
    pub fn extract_watermarks(&mut self) -> Vec<Watermark> {
        std::mem::take(&mut self.watermarks)
    }

    /// How many records came too late and were dropped.
    pub fn late_records(&self) -> u64 {
        self.late.read()
    }

    /// A checkpoint of the subtask: what it has in state now, written to memory.
    pub fn snapshot(&mut self, checkpoint: u64) -> Result<OperatorSnapshotHandle, TaskError> {
        self.snapshot_as(SnapshotKind::Checkpoint, checkpoint)
    }

    /// A savepoint of the subtask: as [`snapshot`](Self::snapshot), in the open format.
    pub fn savepoint(&mut self, checkpoint: u64) -> Result<OperatorSnapshotHandle, TaskError> {
        self.snapshot_as(SnapshotKind::Savepoint, checkpoint)
    }

    /// Tells the operator that a checkpoint is complete: sinks commit.
    pub fn notify_of_completed_checkpoint(&mut self, checkpoint: u64) -> Result<(), TaskError> {
        self.operator.checkpoint_complete(CheckpointId(checkpoint))
    }

    fn snapshot_as(&mut self, kind: SnapshotKind, checkpoint: u64) -> Result<OperatorSnapshotHandle, TaskError> {
        self.open()?;
        let options = Arc::new(SnapshotOptions {
            kind,
            location: format!("memory:///harness/{}", streamd_snapshot::random_nonce()),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment: Increment::Off,
            compression: Compression::None,
        });
        let barrier = Barrier {
            checkpoint: CheckpointId(checkpoint),
            options: Arc::clone(&options),
        };
        let frozen = self.operator.snapshot(&self.identity, &barrier)?;
        let cut = Cut {
            job_id: JobId::from_bytes([0; 16]),
            attempt: Attempt(1),
            subtask: self.subtask_id(),
            options: Arc::clone(&options),
            inlining: Inlining::Off,
            copies: None,
            operators: frozen.into_iter().collect(),
        };
        let failed = |error| TaskError::external("the snapshot cannot be written", &error);
        let mut written = write_cut(cut, self.io.handle()).map_err(failed)?;
        let mut state = written.operators.remove(&self.identity.id).unwrap_or_default();
        for handle in &mut state.keyed {
            *handle = streamd_snapshot::absolute(handle, &options.location).map_err(failed)?;
        }
        Ok(OperatorSnapshotHandle { state })
    }

    pub(crate) fn subtask_id(&self) -> SubtaskId {
        SubtaskId {
            vertex: 0,
            index: self.subtask.0,
        }
    }

    fn open(&mut self) -> Result<(), TaskError> {
        if std::mem::replace(&mut self.opened, true) {
            return Ok(());
        }
        let (index, parallelism) = self.subtask;
        let mut context = OpenContext {
            job_id: JobId::from_bytes([0; 16]),
            attempt: Attempt(1),
            subtask: self.subtask_id(),
            parallelism,
            key_groups: KeyGroupRange::of_subtask(index, parallelism, KEY_GROUPS),
            max_parallelism: KEY_GROUPS,
            nonce: streamd_snapshot::random_nonce(),
            state: BTreeMap::from([(self.identity.id, std::mem::take(&mut self.state))]),
            backend: self.backend.clone(),
            restored_at_once: streamd_state::AT_ONCE_BYTES,
            io: self.io.handle().clone(),
            clock: Arc::<ManualClock>::clone(&self.clock),
            at_hand: AtHand::default(),
            alarm: self.alarm.clone(),
            completions: self.completions.clone(),
            late_dropped: self.late.clone(),
            source: self.source.clone(),
            alignment: self.alignment.clone(),
        };
        self.operator.open(&self.identity, &mut context)
    }

    fn collect(&mut self) {
        let count = self.output.len();
        self.emitted.extend(self.output.drain(count));
    }

    fn tell_own(&mut self) {
        while let Some(watermark) = self.operator.own_watermark() {
            self.watermarks.push(watermark);
        }
    }
}
