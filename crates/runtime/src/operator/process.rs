use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::time::EventTime;
use streamd_exchange::Batch;
use streamd_state::OperatorStateBackend;

use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;
use crate::operator_state::OperatorStateStore;
use crate::process_function::{ProcessContext, ProcessFunction, ProcessScope};
use crate::record::{BATCH_RECORDS, Collector};
use crate::side_output::SideOutputs;

/// A [`ProcessFunction`] with its state.
pub struct Process<F> {
    label: String,
    function: F,
    scope: ProcessScope,
    subtask: u32,
}

impl<F> Process<F> {
    /// The operator of this function.
    pub fn new(function: F) -> Self {
        Self {
            label: String::new(),
            function,
            scope: ProcessScope::default(),
            subtask: 0,
        }
    }

    /// The state that a function registers.
    pub fn states<In, Out>(mut function: F) -> Result<Vec<StateDescriptor>, TaskError>
    where
        F: ProcessFunction<In, Out>,
    {
        let mut states = OperatorStateBackend::new();
        let opened = function.open(&mut OperatorStateStore::new(&mut states));
        opened.map_err(|error| TaskError::user("`open` failed", &*error))?;
        Ok(states.descriptors())
    }
}

impl<In, Out, F> Operator<In, Out> for Process<F>
where
    In: Send + 'static,
    Out: Send + 'static,
    F: ProcessFunction<In, Out>,
{
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.label = identity.label.to_string();
        self.subtask = context.subtask.index;
        self.scope = ProcessScope::open(identity, context, |store| self.function.open(store))?;
        let taken_up = self
            .function
            .initialize_state(&mut ProcessContext::new(&mut self.scope, EventTime::MIN));
        taken_up.map_err(|error| failed("`initialize_state` of ", &self.label, &*error))
    }

    fn process(&mut self, input: &mut Batch<In>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        input.take_until(|record, timestamp| {
            let mut context = ProcessContext::new(&mut self.scope, timestamp);
            let mut out = Collector::new(output, timestamp);
            let done = self.function.process_element(record, &mut context, &mut out);
            done.map_err(|error| failed("", &self.label, &*error))?;
            Ok(output.len() >= BATCH_RECORDS)
        })
    }

    fn event_time(&mut self, time: EventTime, _output: &mut Batch<Out>) -> Result<bool, TaskError> {
        self.scope.advance(time);
        Ok(true)
    }

    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        Some(&mut self.scope.sides)
    }

    fn snapshot(
        &mut self,
        identity: &OperatorIdentity,
        _barrier: &Barrier,
    ) -> Result<Option<OperatorSnapshot>, TaskError> {
        let told = self
            .function
            .snapshot_state(&mut ProcessContext::new(&mut self.scope, EventTime::MIN));
        told.map_err(|error| failed("`snapshot_state` of ", &self.label, &*error))?;
        Ok(snapshot_of(identity, &self.scope.states, self.subtask))
    }

    fn end_of_data(&mut self, output: &mut Batch<Out>) -> Result<(), TaskError> {
        let mut context = ProcessContext::new(&mut self.scope, EventTime::MIN);
        let mut out = Collector::new(output, EventTime::MIN);
        let done = self.function.end_of_input(&mut context, &mut out);
        done.map_err(|error| failed("`end_of_input` of ", &self.label, &*error))
    }
}

/// The part that operator state has in a snapshot; none if there is nothing.
pub(super) fn snapshot_of(
    identity: &OperatorIdentity,
    states: &OperatorStateBackend,
    subtask: u32,
) -> Option<OperatorSnapshot> {
    let lists = states.snapshot(subtask);
    (!lists.is_empty()).then(|| OperatorSnapshot::lists(identity, lists))
}

pub(super) fn failed(what: &str, label: &str, error: &(dyn std::error::Error + 'static)) -> TaskError {
    TaskError::user(format_args!("{what}operator `{label}` failed"), error)
}
