use streamd_core::barrier::Barrier;
use streamd_core::evolution::Evolution;
use streamd_core::graph::{StateDescriptor, StateKind};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::ListState;
use streamd_core::state::{Key, State, to_row};
use streamd_core::time::{EventTime, WallTime};
use streamd_exchange::Batch;
use streamd_state::{KeyedStateBackend, Restoring};

use super::state_batch::KeyBatch;
use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;
use crate::keyed::{AllKeys, ENDED, KeyedContext, KeyedProcessFunction};
use crate::keyed_scope::KeyedScope;
use crate::record::Collector;
use crate::side_output::SideOutputs;
use crate::snapshot::state_failed;
use crate::timer::{TimeService, Timer};

/// A [`KeyedProcessFunction`] with its state.
pub struct KeyedProcess<K: Key, F, S> {
    label: String,
    function: F,
    key_of: S,
    scope: KeyedScope<K>,
    keys: KeyBatch<K>,
    /// Whether the function was told of the end of the input: told once, over restores as well.
    ended: bool,
}

impl<K: Key, F, S> KeyedProcess<K, F, S> {
    /// The operator of this function, over records whose key `key_of` takes.
    pub fn new(function: F, key_of: S) -> Self {
        let backend = KeyedStateBackend::new(KeyGroupRange::all(1), 1);
        Self {
            label: String::new(),
            function,
            key_of,
            scope: KeyedScope::new(backend),
            keys: KeyBatch::new(),
            ended: false,
        }
    }

    /// The state that a function registers.
    pub fn states<In, Out>(mut function: F) -> Result<Vec<StateDescriptor>, TaskError>
    where
        F: KeyedProcessFunction<K, In, Out>,
    {
        let (states, has_timers) = KeyedScope::<K>::describe(|store| function.open(store))?;
        let ended = StateDescriptor {
            name: ENDED.to_owned(),
            kind: StateKind::Union,
            value: bool::data_type(),
            evolution: Evolution::default(),
        };
        let watermark = has_timers.then(TimeService::descriptor);
        Ok(states.into_iter().chain([ended]).chain(watermark).collect())
    }
}

impl<K: Key, F, S> KeyedProcess<K, F, S> {
    /// The time has come to here: calls the timers that are due.
    fn come_to<In, Out>(&mut self, until: Timer, output: &mut Batch<Out>) -> Result<bool, TaskError>
    where
        F: KeyedProcessFunction<K, In, Out>,
    {
        let function = &mut self.function;
        self.scope.come_to(until, &self.label, output, |timer, context, out| {
            function.on_timer(timer, context, out)
        })
    }
}

impl<K, In, Out, F, S> Operator<In, Out> for KeyedProcess<K, F, S>
where
    K: Key,
    In: Send + 'static,
    Out: Send + 'static,
    F: KeyedProcessFunction<K, In, Out>,
    S: FnMut(&In) -> K + Send + 'static,
{
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.label = identity.label.to_string();
        let restored = context.take_state(identity.id);
        self.ended = restored
            .lists
            .iter()
            .any(|list| list.name == ENDED && !list.items.is_empty());
        self.scope = KeyedScope::open(identity, context, &restored, |store| self.function.open(store))?;
        Ok(())
    }

    fn restore_more(&mut self) -> Result<Restoring, TaskError> {
        self.scope.restore_more(&self.label)
    }

    fn process(&mut self, input: &mut Batch<In>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        self.keys.fill(input, &mut self.key_of);
        let mut records = input.drain(input.len());
        for keys in self.keys.groups() {
            self.scope.touch(keys, &self.label)?;
            for ((hash, key), (record, timestamp)) in keys.iter().zip(records.by_ref()) {
                let mut context = KeyedContext::new(&mut self.scope, key, *hash, timestamp);
                let mut collector = Collector::new(output, timestamp);
                let done = self.function.process_element(record, &mut context, &mut collector);
                done.map_err(|error| TaskError::user(format_args!("operator `{}` failed", self.label), &*error))?;
            }
        }
        Ok(())
    }

    fn event_time(&mut self, time: EventTime, output: &mut Batch<Out>) -> Result<bool, TaskError> {
        self.come_to(Timer::EventTime(time), output)
    }

    fn processing_time(&mut self, now: WallTime, output: &mut Batch<Out>) -> Result<(), TaskError> {
        self.come_to(Timer::ProcessingTime(now), output).map(drop)
    }

    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        Some(&mut self.scope.sides)
    }

    fn snapshot(
        &mut self,
        identity: &OperatorIdentity,
        barrier: &Barrier,
    ) -> Result<Option<OperatorSnapshot>, TaskError> {
        let mut snapshot = self.scope.snapshot_all(identity, barrier);
        if self.ended {
            let items = vec![to_row(&true)];
            snapshot.lists.push(ListState {
                name: ENDED.to_owned(),
                data_type: bool::data_type(),
                items,
            });
        }
        if let (Some(_), Some(time)) = (&self.scope.timers, &self.scope.time) {
            snapshot.lists.push(time.to_list());
        }
        Ok(Some(snapshot))
    }

    fn end_of_data(&mut self, output: &mut Batch<Out>) -> Result<(), TaskError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let mut all = AllKeys::new(&mut self.scope);
        let done = self
            .function
            .end_of_input(&mut all, &mut Collector::new(output, EventTime::MIN));
        if let Some(error) = all.into_failure() {
            return Err(state_failed(&self.label, &error));
        }
        done.map_err(|error| {
            TaskError::user(
                format_args!("`end_of_input` of operator `{}` failed", self.label),
                &*error,
            )
        })
    }
}
