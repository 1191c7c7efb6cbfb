//! A keyed stream beside a broadcast one, whose elements every subtask sees.

use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::state::{Key, State};
use streamd_core::time::{EventTime, WallTime};
use streamd_exchange::Batch;
use streamd_state::{KeyedStateBackend, OperatorStateBackend, Restoring};

use super::process::failed;
use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::connected::Either;
use crate::error::{BoxError, TaskError};
use crate::keyed::{KeyedContext, KeyedStateStore, ValueState};
use crate::keyed_scope::KeyedScope;
use crate::operator_state::{BroadcastSide, OperatorStateContext};
use crate::record::{Collector, Record};
use crate::side_output::{OutputTag, SideOutputs};
use crate::timer::{FIRED_TOGETHER, TimeService, Timer};

/// A function over a keyed stream and a broadcast one. Flink's noun.
///
/// `process_broadcast_element` must do the same to broadcast state in every subtask: each sees the same elements, those of
/// one sender in the same order, and nothing else may matter.
pub trait KeyedBroadcastProcessFunction<K: Key, In, B, Out>: Clone + Send + 'static {
    /// Registers state: broadcast state with [`operator_state`](KeyedStateStore::operator_state), keyed state as in
    /// [`KeyedProcessFunction`](crate::keyed::KeyedProcessFunction).
    fn open(&mut self, state: &mut KeyedStateStore<'_, K>) -> Result<(), BoxError>;

    /// Handles a record of the keyed stream. Broadcast state can be read here.
    fn process_element(
        &mut self,
        value: In,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// Handles an element of the broadcast stream: the one place where broadcast state changes.
    fn process_broadcast_element(
        &mut self,
        value: B,
        context: &mut KeyedBroadcastContext<'_, K>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// A timer of a key has come due.
    fn on_timer(
        &mut self,
        _timer: Timer,
        _context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The way from an element of the broadcast stream to the state of the subtask: broadcast state, and that of every key.
pub struct KeyedBroadcastContext<'a, K: Key> {
    scope: &'a mut KeyedScope<K>,
    timestamp: EventTime,
}

impl<K: Key> KeyedBroadcastContext<'_, K> {
    /// The timestamp of the element; `None` where the stream has no event time.
    pub fn timestamp(&self) -> Option<EventTime> {
        (self.timestamp != EventTime::MIN).then_some(self.timestamp)
    }

    /// How far the event time has come.
    pub fn current_watermark(&self) -> EventTime {
        self.scope.watermark()
    }

    /// What the clock of the machine says. Other subtasks read another clock: nothing in broadcast state may follow from it.
    pub fn current_processing_time(&self) -> WallTime {
        self.scope.time().now()
    }

    /// Emits a record to a side output, with the timestamp of the element at hand.
    pub fn output<T: Record>(&mut self, tag: &OutputTag<T>, record: T) -> Result<(), BoxError> {
        Ok(self.scope.sides.emit(tag, record, self.timestamp)?)
    }

    /// Calls `apply` for every key of the subtask that has a value in this state, in no particular order. The function may
    /// change any state of the key.
    pub fn apply_to_keyed_state<V: State>(
        &mut self,
        state: &ValueState<V>,
        mut apply: impl FnMut(&mut KeyedContext<'_, K>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        self.scope.read_clock();
        let mut keys = Vec::new();
        state.for_each_key(self.scope, |key| keys.push((key.stable_hash(), key.clone())))?;
        for some in keys.chunks(FIRED_TOGETHER) {
            self.scope.backend.touch(some)?;
            for (hash, key) in some {
                apply(&mut KeyedContext::new(self.scope, key, *hash, self.timestamp))?;
            }
        }
        Ok(())
    }
}

impl<K: Key> OperatorStateContext for KeyedBroadcastContext<'_, K> {
    fn states(&self) -> &OperatorStateBackend {
        &self.scope.states
    }

    fn states_mut(&mut self) -> &mut OperatorStateBackend {
        &mut self.scope.states
    }
}

impl<K: Key> BroadcastSide for KeyedBroadcastContext<'_, K> {}

/// A [`KeyedBroadcastProcessFunction`] with its state.
pub struct KeyedBroadcastProcess<K: Key, In, B, F, S> {
    label: String,
    function: F,
    key_of: S,
    scope: KeyedScope<K>,
    types: std::marker::PhantomData<fn(In, B)>,
}

impl<K: Key, In, B, F, S> KeyedBroadcastProcess<K, In, B, F, S> {
    /// The operator of this function, over records of the first stream whose key `key_of` takes.
    pub fn new(function: F, key_of: S) -> Self {
        Self {
            label: String::new(),
            function,
            key_of,
            scope: KeyedScope::new(KeyedStateBackend::new(KeyGroupRange::all(1), 1)),
            types: std::marker::PhantomData,
        }
    }

    /// The state that a function keeps.
    pub fn states<Out>(mut function: F) -> Result<Vec<StateDescriptor>, TaskError>
    where
        F: KeyedBroadcastProcessFunction<K, In, B, Out>,
    {
        let (mut states, _timers) = KeyedScope::<K>::describe(|store| function.open(store))?;
        states.push(TimeService::descriptor());
        Ok(states)
    }

    /// The time has come to here: calls the timers that are due.
    fn come_to<Out>(&mut self, until: Timer, output: &mut Batch<Out>) -> Result<bool, TaskError>
    where
        F: KeyedBroadcastProcessFunction<K, In, B, Out>,
    {
        let function = &mut self.function;
        self.scope.come_to(until, &self.label, output, |timer, context, out| {
            function.on_timer(timer, context, out)
        })
    }
}

impl<K, In, B, Out, F, S> Operator<Either<In, B>, Out> for KeyedBroadcastProcess<K, In, B, F, S>
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
        let restored = context.take_state(identity.id);
        self.scope = KeyedScope::open(identity, context, &restored, |store| self.function.open(store))?;
        Ok(())
    }

    fn restore_more(&mut self) -> Result<Restoring, TaskError> {
        self.scope.restore_more(&self.label)
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
                    self.function.process_element(value, &mut context, &mut out)
                }
                Either::Second(value) => {
                    let scope = &mut self.scope;
                    let mut context = KeyedBroadcastContext { scope, timestamp };
                    self.function.process_broadcast_element(value, &mut context, &mut out)
                }
            };
            done.map_err(|error| failed("", &self.label, &*error))?;
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
        snapshot.lists.push(self.scope.time().to_list());
        Ok(Some(snapshot))
    }
}
