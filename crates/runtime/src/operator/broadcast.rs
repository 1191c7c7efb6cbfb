//! Broadcast state: what a second, broadcast stream says is known in every subtask.

use streamd_core::barrier::Barrier;
use streamd_core::evolution::Evolution;
use streamd_core::graph::{StateDescriptor, StateKind};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::migration::read_items;
use streamd_core::snapshot::ListState;
use streamd_core::state::{Key, State, to_row};
use streamd_core::time::{EventTime, WallTime};
use streamd_exchange::Batch;
use streamd_state::KeyedStateBackend;

use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::connected::Either;
use crate::error::{BoxError, TaskError};
use crate::keyed::{KeyedContext, KeyedStateStore};
use crate::keyed_scope::KeyedScope;
use crate::record::{Collector, Record};
use crate::side_output::SideOutputs;
use crate::snapshot::descriptors;
use crate::timer::{TimeService, Timer};

/// The name of the union list that holds broadcast state. Only subtask 0 writes it: it is the same in all.
const BROADCAST: &str = "~broadcast";

/// A function over a keyed stream and a broadcast one. Flink's noun; the broadcast state is any type with a default, such as a map of
/// rules.
///
/// `process_broadcast_element` must do the same in every subtask: it sees the same elements in the same order, and nothing
/// else may matter.
pub trait KeyedBroadcastProcessFunction<K: Key, In, B, Out>: Clone + Send + 'static {
    /// What every subtask knows.
    type Broadcast: State + Default;

    /// Registers keyed state, as in [`KeyedProcessFunction`](crate::keyed::KeyedProcessFunction).
    fn open(&mut self, _state: &mut KeyedStateStore<'_, K>) -> Result<(), BoxError> {
        Ok(())
    }

    /// Handles a record of the keyed stream.
    fn process_element(
        &mut self,
        value: In,
        broadcast: &Self::Broadcast,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// Handles an element of the broadcast stream: the one place where the broadcast state changes.
    fn process_broadcast_element(
        &mut self,
        value: B,
        broadcast: &mut Self::Broadcast,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// A timer of a key has come due.
    fn on_timer(
        &mut self,
        _timer: Timer,
        _broadcast: &Self::Broadcast,
        _context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A [`KeyedBroadcastProcessFunction`] with its state.
pub struct KeyedBroadcastProcess<K: Key, In, B, Out, F, S>
where
    F: KeyedBroadcastProcessFunction<K, In, B, Out>,
{
    label: String,
    function: F,
    key_of: S,
    scope: KeyedScope<K>,
    broadcast: F::Broadcast,
    subtask: u32,
    types: std::marker::PhantomData<fn(In, B) -> Out>,
}

impl<K, In, B, Out, F, S> KeyedBroadcastProcess<K, In, B, Out, F, S>
where
    K: Key,
    F: KeyedBroadcastProcessFunction<K, In, B, Out>,
{
    /// The operator of this function, over records of the first stream whose key `key_of` takes.
    pub fn new(function: F, key_of: S) -> Self {
        Self {
            label: String::new(),
            function,
            key_of,
            scope: KeyedScope::new(KeyedStateBackend::new(KeyGroupRange::all(1), 1)),
            broadcast: F::Broadcast::default(),
            subtask: 0,
            types: std::marker::PhantomData,
        }
    }

    /// The state that a function keeps.
    pub fn states(mut function: F) -> Result<Vec<StateDescriptor>, TaskError> {
        let mut backend = KeyedStateBackend::<K>::new(KeyGroupRange::all(1), 1);
        let opened = function.open(&mut KeyedStateStore::new(&mut backend));
        opened.map_err(|error| TaskError::user("`open` failed", &*error))?;
        let broadcast = StateDescriptor {
            name: BROADCAST.to_owned(),
            kind: StateKind::Union,
            value: F::Broadcast::data_type(),
            evolution: Evolution::of::<F::Broadcast>(),
        };
        let keyed = descriptors(&backend).into_iter();
        Ok(keyed.chain([broadcast, TimeService::descriptor()]).collect())
    }

    fn fire(&mut self, until: Timer, output: &mut Batch<Out>) -> Result<bool, TaskError> {
        let Self {
            function, broadcast, ..
        } = self;
        self.scope
            .fire_timers(until, &self.label, output, |timer, context, out| {
                function.on_timer(timer, broadcast, context, out)
            })
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> TaskError {
        TaskError::user(format_args!("operator `{}` failed", self.label), error)
    }
}

impl<K, In, B, Out, F, S> Operator<Either<In, B>, Out> for KeyedBroadcastProcess<K, In, B, Out, F, S>
where
    K: Key,
    In: Record,
    B: Record,
    Out: Record,
    F: KeyedBroadcastProcessFunction<K, In, B, Out>,
    S: FnMut(&In) -> K + Send + 'static,
{
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.label = identity.label.to_string();
        self.subtask = context.subtask.index;
        let restored = context.take_state(identity.id);
        let known = restored.lists.iter().filter(|list| list.name == BROADCAST);
        let known = known.map(read_items::<F::Broadcast>).collect::<Result<Vec<_>, _>>();
        let known = known.map_err(|error| {
            TaskError::external(
                format_args!("the broadcast state of operator `{}` cannot be read", self.label),
                &error,
            )
        })?;
        self.broadcast = known.concat().pop().unwrap_or_default();
        self.scope = KeyedScope::open(identity, context, &restored, |store| self.function.open(store))?;
        Ok(())
    }

    fn process(&mut self, input: &mut Batch<Either<In, B>>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        for (record, timestamp) in input.drain(input.len()) {
            let mut out = Collector::new(output, timestamp);
            let done = match record {
                Either::First(value) => {
                    let key = (self.key_of)(&value);
                    let keys = [(key.stable_hash(), key)];
                    self.scope.touch(&keys, &self.label)?;
                    let [(hash, key)] = &keys;
                    let mut context = KeyedContext::new(&mut self.scope, key, *hash, timestamp);
                    self.function
                        .process_element(value, &self.broadcast, &mut context, &mut out)
                }
                Either::Second(value) => self
                    .function
                    .process_broadcast_element(value, &mut self.broadcast, &mut out),
            };
            done.map_err(|error| self.failed(&*error))?;
        }
        Ok(())
    }

    fn event_time(&mut self, time: EventTime, output: &mut Batch<Out>) -> Result<bool, TaskError> {
        self.scope.advance(time);
        self.fire(Timer::EventTime(time), output)
    }

    fn processing_time(&mut self, now: WallTime, output: &mut Batch<Out>) -> Result<(), TaskError> {
        self.fire(Timer::ProcessingTime(now), output)?;
        self.scope.set_alarm();
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
        snapshot.lists.push(self.scope.time().to_list());
        if self.subtask == 0 {
            snapshot.lists.push(ListState {
                name: BROADCAST.to_owned(),
                data_type: F::Broadcast::data_type(),
                items: vec![to_row(&self.broadcast)],
            });
        }
        Ok(Some(snapshot))
    }
}
