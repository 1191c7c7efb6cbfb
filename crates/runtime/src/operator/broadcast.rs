//! A stream beside a broadcast one, whose elements every subtask sees.

use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::time::EventTime;
use streamd_exchange::Batch;
use streamd_state::OperatorStateBackend;

use super::process::{failed, snapshot_of};
use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::connected::Either;
use crate::error::TaskError;
use crate::operator_state::OperatorStateStore;
use crate::process_function::{BroadcastContext, BroadcastProcessFunction, ProcessContext, ProcessScope};
use crate::record::{Collector, Record};
use crate::side_output::SideOutputs;

/// A [`BroadcastProcessFunction`] with its state.
pub struct BroadcastProcess<F, In, B> {
    label: String,
    function: F,
    scope: ProcessScope,
    subtask: u32,
    types: std::marker::PhantomData<fn(In, B)>,
}

impl<F, In, B> BroadcastProcess<F, In, B> {
    /// The operator of this function.
    pub fn new(function: F) -> Self {
        Self {
            label: String::new(),
            function,
            scope: ProcessScope::default(),
            subtask: 0,
            types: std::marker::PhantomData,
        }
    }

    /// The state that a function registers.
    pub fn states<Out>(mut function: F) -> Result<Vec<StateDescriptor>, TaskError>
    where
        F: BroadcastProcessFunction<In, B, Out>,
    {
        let mut states = OperatorStateBackend::new();
        let opened = function.open(&mut OperatorStateStore::new(&mut states));
        opened.map_err(|error| TaskError::user("`open` failed", &*error))?;
        Ok(states.descriptors())
    }
}

impl<F, In, B, Out> Operator<Either<In, B>, Out> for BroadcastProcess<F, In, B>
where
    In: Record,
    B: Record,
    Out: Record,
    F: BroadcastProcessFunction<In, B, Out>,
{
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.label = identity.label.to_string();
        self.subtask = context.subtask.index;
        self.scope = ProcessScope::open(identity, context, |store| self.function.open(store))?;
        Ok(())
    }

    fn process(&mut self, input: &mut Batch<Either<In, B>>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        for (record, timestamp) in input.drain(input.len()) {
            let mut out = Collector::new(output, timestamp);
            let done = match record {
                Either::First(value) => {
                    let mut context = ProcessContext::new(&mut self.scope, timestamp);
                    self.function.process_element(value, &mut context, &mut out)
                }
                Either::Second(value) => {
                    let mut context = BroadcastContext::new(&mut self.scope, timestamp);
                    self.function.process_broadcast_element(value, &mut context, &mut out)
                }
            };
            done.map_err(|error| failed("", &self.label, &*error))?;
        }
        Ok(())
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
        Ok(snapshot_of(identity, &self.scope.states, self.subtask))
    }

    fn end_of_data(&mut self, output: &mut Batch<Out>) -> Result<(), TaskError> {
        let mut context = ProcessContext::new(&mut self.scope, EventTime::MIN);
        let mut out = Collector::new(output, EventTime::MIN);
        let done = self.function.end_of_input(&mut context, &mut out);
        done.map_err(|error| failed("`end_of_input` of ", &self.label, &*error))
    }
}
