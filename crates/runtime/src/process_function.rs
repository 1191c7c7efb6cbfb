//! Functions over streams that are not keyed, with operator state.
//!
//! ```
//! # use streamd_runtime::error::BoxError;
//! # use streamd_runtime::operator_state::{OperatorListState, OperatorStateStore};
//! # use streamd_runtime::process_function::{ProcessContext, ProcessFunction};
//! # use streamd_runtime::record::Collector;
//! /// Hands records on in groups of ten.
//! #[derive(Clone)]
//! struct InTens {
//!     waiting: OperatorListState<String>,
//! }
//!
//! impl ProcessFunction<String, Vec<String>> for InTens {
//!     fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
//!         state.get_list_state(&mut self.waiting)
//!     }
//!
//!     fn process_element(
//!         &mut self,
//!         value: String,
//!         context: &mut ProcessContext<'_>,
//!         out: &mut Collector<'_, Vec<String>>,
//!     ) -> Result<(), BoxError> {
//!         self.waiting.add(context, value);
//!         if self.waiting.get(context).len() == 10 {
//!             out.collect(self.waiting.clear(context));
//!         }
//!         Ok(())
//!     }
//! }
//! # let _ = InTens { waiting: OperatorListState::new("waiting") };
//! ```

use streamd_core::snapshot::ListState;
use streamd_core::time::{EventTime, WallTime};
use streamd_state::OperatorStateBackend;

use crate::chain::{OpenContext, OperatorIdentity};
use crate::error::{BoxError, TaskError};
use crate::operator_state::{BroadcastSide, OperatorStateContext, OperatorStateStore};
use crate::record::{Collector, Record};
use crate::runtime_context::RuntimeContext;
use crate::side_output::{OutputTag, SideOutputs};
use crate::timer::TimeService;

/// A function over a stream, with operator state. Flink's noun, and its `CheckpointedFunction`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `ProcessFunction<{In}, {Out}>`, as a stream without keys needs",
    label = "this is no function over records of `{In}` without keys",
    note = "state per key, and timers, need `key_by` before `process`: there, functions are `KeyedProcessFunction`"
)]
pub trait ProcessFunction<In, Out>: Clone + Send + 'static {
    /// Registers the state that the function keeps. Called where the application is described, and in every subtask before
    /// its state is restored: no other effects belong here.
    fn open(&mut self, _state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    /// Takes up what was restored. Called in every subtask before the first record; nothing is there at a fresh start.
    fn initialize_state(&mut self, _context: &mut ProcessContext<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    /// Handles a record. An error fails the job's attempt.
    fn process_element(
        &mut self,
        value: In,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// A snapshot is taken: what is not in state now is not in it. Called at every barrier; be quick.
    fn snapshot_state(&mut self, _context: &mut ProcessContext<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    /// The input has ended: emits what the function still owes. Called again where a job is restored and its input ends
    /// again; so emit what is in state, and take it out there.
    fn end_of_input(
        &mut self,
        _context: &mut ProcessContext<'_>,
        _out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A function over a stream and a broadcast one, which every subtask sees. Flink's noun.
///
/// `process_broadcast_element` must do the same to broadcast state in every subtask: each sees the same elements, those of
/// one sender in the same order, and nothing else may matter.
pub trait BroadcastProcessFunction<In, B, Out>: Clone + Send + 'static {
    /// Registers state, broadcast state above all; as in [`ProcessFunction`].
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Result<(), BoxError>;

    /// Handles a record of the stream. Broadcast state can be read here.
    fn process_element(
        &mut self,
        value: In,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// Handles an element of the broadcast stream: the one place where broadcast state changes.
    fn process_broadcast_element(
        &mut self,
        value: B,
        context: &mut BroadcastContext<'_>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// Both inputs have ended; as in [`ProcessFunction`].
    fn end_of_input(
        &mut self,
        _context: &mut ProcessContext<'_>,
        _out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

/// What the calls of a function that is not keyed share: its state, what time it is, and the way out beside the main stream.
#[derive(Default)]
pub(crate) struct ProcessScope {
    pub(crate) states: OperatorStateBackend,
    /// `None` until the operator is opened.
    pub(crate) time: Option<TimeService>,
    pub(crate) runtime: Option<RuntimeContext>,
    pub(crate) sides: SideOutputs,
}

impl ProcessScope {
    /// The scope of an operator whose function registers its state, with what was restored.
    pub(crate) fn open(
        identity: &OperatorIdentity,
        context: &mut OpenContext,
        register: impl FnOnce(&mut OperatorStateStore<'_>) -> Result<(), BoxError>,
    ) -> Result<Self, TaskError> {
        let mut states = OperatorStateBackend::new();
        register(&mut OperatorStateStore::new(&mut states)).map_err(|error| {
            TaskError::user(format_args!("`open` of operator `{}` failed", identity.label), &*error)
        })?;
        let restored = context.take_state(identity.id).lists;
        restore_states(&mut states, &restored, &identity.label)?;
        Ok(Self {
            states,
            time: Some(TimeService::new(context)),
            runtime: Some(RuntimeContext::new(context)),
            sides: SideOutputs::default(),
        })
    }

    /// How far the event time has come. It never falls.
    pub(crate) fn advance(&mut self, to: EventTime) {
        if let Some(time) = &mut self.time {
            time.watermark = time.watermark.max(to);
        }
    }
}

/// Takes restored lists over into the operator state of an operator.
pub(crate) fn restore_states(
    states: &mut OperatorStateBackend,
    restored: &[ListState],
    label: &str,
) -> Result<(), TaskError> {
    states.restore(restored).map_err(|error| {
        TaskError::external(
            format_args!("the operator state of operator `{label}` cannot be restored"),
            &error,
        )
    })
}

/// The way from a function that is not keyed to its state, and what time it is.
pub struct ProcessContext<'a> {
    scope: &'a mut ProcessScope,
    timestamp: EventTime,
}

impl<'a> ProcessContext<'a> {
    /// The context of a record with this timestamp.
    pub(crate) fn new(scope: &'a mut ProcessScope, timestamp: EventTime) -> Self {
        Self { scope, timestamp }
    }

    /// The timestamp of the record; `None` where the stream has no event time.
    pub fn timestamp(&self) -> Option<EventTime> {
        (self.timestamp != EventTime::MIN).then_some(self.timestamp)
    }

    /// The job, and which of its subtasks this is.
    pub fn runtime_context(&self) -> RuntimeContext {
        self.scope.runtime.expect("an operator is opened before it is called")
    }

    /// How far the event time has come: no record up to it is expected any more. [`EventTime::MIN`] before the first watermark
    /// since the subtask began.
    pub fn current_watermark(&self) -> EventTime {
        self.scope.time.as_ref().map_or(EventTime::MIN, |time| time.watermark)
    }

    /// What the clock of the machine says.
    pub fn current_processing_time(&self) -> WallTime {
        let time = self.scope.time.as_ref();
        time.expect("an operator is opened before it is called").now()
    }

    /// Emits a record to a side output, with the timestamp of the record at hand.
    pub fn output<T: Record>(&mut self, tag: &OutputTag<T>, record: T) -> Result<(), BoxError> {
        Ok(self.scope.sides.emit(tag, record, self.timestamp)?)
    }
}

/// As [`ProcessContext`], for an element of the broadcast stream.
pub struct BroadcastContext<'a>(ProcessContext<'a>);

impl<'a> BroadcastContext<'a> {
    pub(crate) fn new(scope: &'a mut ProcessScope, timestamp: EventTime) -> Self {
        Self(ProcessContext::new(scope, timestamp))
    }

    /// The timestamp of the element; `None` where the stream has no event time.
    pub fn timestamp(&self) -> Option<EventTime> {
        self.0.timestamp()
    }

    /// As [`ProcessContext::current_watermark`].
    pub fn current_watermark(&self) -> EventTime {
        self.0.current_watermark()
    }

    /// What the clock of the machine says. Other subtasks read another clock: nothing in broadcast state may follow from it.
    pub fn current_processing_time(&self) -> WallTime {
        self.0.current_processing_time()
    }

    /// Emits a record to a side output, with the timestamp of the element at hand.
    pub fn output<T: Record>(&mut self, tag: &OutputTag<T>, record: T) -> Result<(), BoxError> {
        self.0.output(tag, record)
    }
}

impl OperatorStateContext for ProcessContext<'_> {
    fn states(&self) -> &OperatorStateBackend {
        &self.scope.states
    }

    fn states_mut(&mut self) -> &mut OperatorStateBackend {
        &mut self.scope.states
    }
}

impl OperatorStateContext for BroadcastContext<'_> {
    fn states(&self) -> &OperatorStateBackend {
        self.0.states()
    }

    fn states_mut(&mut self) -> &mut OperatorStateBackend {
        self.0.states_mut()
    }
}

impl BroadcastSide for BroadcastContext<'_> {}
