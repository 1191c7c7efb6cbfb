use streamd_core::barrier::Barrier;
use streamd_core::evolution::Evolution;
use streamd_core::graph::{StateDescriptor, StateKind};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::ListState;
use streamd_core::state::{Key, State, to_row};
use streamd_core::time::{EventTime, WallTime};
use streamd_exchange::Batch;
use streamd_state::KeyedStateBackend;

use super::state_batch::KeyBatch;
use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;
use crate::keyed::{AllKeys, KeyedContext, KeyedProcessFunction, KeyedScope, KeyedStateStore};
use crate::record::{BATCH_RECORDS, Collector};
use crate::side_output::SideOutputs;
use crate::snapshot::{descriptors, open_backend, restore_keyed, state_failed};
use crate::timer::{TimeService, Timer};

/// The union list that is not empty once the function was told of the end of the input. What it emitted then is in front of
/// the barrier, so that a job restored behind it must not emit it again.
const ENDED: &str = "end-of-input";

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
        let mut backend = KeyedStateBackend::<K>::new(KeyGroupRange::all(1), 1);
        let mut store = KeyedStateStore::new(&mut backend);
        let opened = function.open(&mut store);
        opened.map_err(|error| TaskError::user("`open` failed", &*error))?;
        let watermark = store.into_timers().map(|_| TimeService::descriptor());
        let ended = StateDescriptor {
            name: ENDED.to_owned(),
            kind: StateKind::Union,
            value: bool::data_type(),
            evolution: Evolution::default(),
        };
        Ok(descriptors(&backend)
            .into_iter()
            .chain([ended])
            .chain(watermark)
            .collect())
    }
}

impl<K: Key, F, S> KeyedProcess<K, F, S> {
    /// Calls the keys whose timer this is, those that still want it.
    fn fire<In, Out>(&mut self, timer: Timer, keys: &[(u64, K)], output: &mut Batch<Out>) -> Result<(), TaskError>
    where
        F: KeyedProcessFunction<K, In, Out>,
    {
        let timestamp = match timer {
            Timer::EventTime(time) => time,
            Timer::ProcessingTime(_) => EventTime::MIN,
        };
        let touched = self.scope.backend.touch(keys);
        touched.map_err(|error| state_failed(&self.label, &error))?;
        for (hash, key) in keys {
            let KeyedScope { backend, timers, .. } = &mut self.scope;
            let wanted = timers
                .as_ref()
                .is_some_and(|timers| timers.take(backend, (*hash, key), timer));
            if wanted {
                let mut context = KeyedContext::new(&mut self.scope, key, *hash, timestamp);
                let done = self
                    .function
                    .on_timer(timer, &mut context, &mut Collector::new(output, timestamp));
                done.map_err(|error| {
                    TaskError::user(format_args!("`on_timer` of operator `{}` failed", self.label), &*error)
                })?;
            }
        }
        Ok(())
    }
}

/// The time of an operator that is opened, from where it had come to.
pub(crate) fn restored_time(
    identity: &OperatorIdentity,
    context: &OpenContext,
    lists: &[ListState],
) -> Result<TimeService, TaskError> {
    let mut time = TimeService::new(context);
    time.restore(lists).map_err(|error| {
        TaskError::external(
            format_args!("the event time of operator `{}` cannot be restored", identity.label),
            &error,
        )
    })?;
    Ok(time)
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
        let mut backend = open_backend(identity, context)?;
        let mut store = KeyedStateStore::new(&mut backend);
        let opened = self.function.open(&mut store);
        opened.map_err(|error| TaskError::user(format_args!("`open` of operator `{}` failed", self.label), &*error))?;
        let mut timers = store.into_timers();
        let restored = context.take_state(identity.id);
        self.ended = restored
            .lists
            .iter()
            .any(|list| list.name == ENDED && !list.items.is_empty());
        restore_keyed(&mut backend, &restored.keyed, identity, context)?;
        let time = restored_time(identity, context, &restored.lists)?;
        if let Some(timers) = &mut timers {
            let filled = timers.restore(&mut backend, &time);
            filled.map_err(|error| state_failed(&self.label, &error))?;
        }
        self.scope = KeyedScope {
            timers,
            time: Some(time),
            ..KeyedScope::new(backend)
        };
        Ok(())
    }

    fn process(&mut self, input: &mut Batch<In>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        self.keys.fill(input.records(), &mut self.key_of);
        let mut records = input.drain(input.len());
        for keys in self.keys.groups() {
            self.scope
                .backend
                .touch(keys)
                .map_err(|error| state_failed(&self.label, &error))?;
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
        if let Some(known) = &mut self.scope.time {
            known.watermark = known.watermark.max(time);
        }
        while output.len() < BATCH_RECORDS {
            let due = self
                .scope
                .timers
                .as_mut()
                .and_then(|timers| timers.due_in_event_time(time));
            let Some((timer, keys)) = due else {
                return Ok(true);
            };
            self.fire(timer, &keys, output)?;
        }
        Ok(false)
    }

    fn processing_time(&mut self, now: WallTime, output: &mut Batch<Out>) -> Result<(), TaskError> {
        while output.len() < BATCH_RECORDS {
            let due = self
                .scope
                .timers
                .as_mut()
                .and_then(|timers| timers.due_in_processing_time(now));
            let Some((timer, keys)) = due else { break };
            self.fire(timer, &keys, output)?;
        }
        // What is due and was not called, is called in the next turn.
        if let (Some(timers), Some(time)) = (&self.scope.timers, &self.scope.time) {
            timers.set_alarm(time);
        }
        Ok(())
    }

    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        Some(&mut self.scope.sides)
    }

    fn snapshot(
        &mut self,
        identity: &OperatorIdentity,
        barrier: &Barrier,
    ) -> Result<Option<OperatorSnapshot>, TaskError> {
        let mut snapshot = OperatorSnapshot::keyed(identity, &mut self.scope.backend, barrier);
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
        let mut all = AllKeys::new(&mut self.scope.backend);
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
