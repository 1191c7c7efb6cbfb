use streamd_core::state::{Key, State};
use streamd_core::time::{EventTime, WallTime};
use streamd_state::{OperatorStateBackend, StateError};

use super::value::ValueState;
use crate::error::BoxError;
use crate::keyed_scope::KeyedScope;
use crate::operator_state::OperatorStateContext;
use crate::record::Record;
use crate::runtime_context::RuntimeContext;
use crate::side_output::OutputTag;
use crate::timer::{Timer, Timers};

/// The key of the record or timer at hand, the way to its state, its timers, and what time it is.
pub struct KeyedContext<'a, K: Key> {
    pub(crate) scope: &'a mut KeyedScope<K>,
    pub(crate) key: &'a K,
    pub(crate) hash: u64,
    timestamp: EventTime,
}

impl<'a, K: Key> KeyedContext<'a, K> {
    /// The context of a key with this hash.
    pub(crate) fn new(scope: &'a mut KeyedScope<K>, key: &'a K, hash: u64, timestamp: EventTime) -> Self {
        Self {
            scope,
            key,
            hash,
            timestamp,
        }
    }

    /// The key of the record or timer.
    pub fn key(&self) -> &'a K {
        self.key
    }

    /// The timestamp of the record, or of the event-time timer; `None` where the stream has no event time.
    pub fn timestamp(&self) -> Option<EventTime> {
        (self.timestamp != EventTime::MIN).then_some(self.timestamp)
    }

    /// The job, and which of its subtasks this is.
    pub fn runtime_context(&self) -> RuntimeContext {
        self.scope.runtime.expect("an operator is opened before it is called")
    }

    /// The time, and the timers of the key.
    pub fn timer_service(&mut self) -> TimerService<'_, K> {
        TimerService {
            scope: self.scope,
            key: self.key,
            hash: self.hash,
        }
    }

    /// Emits a record to a side output, with the timestamp of the record at hand.
    pub fn output<T: Record>(&mut self, tag: &OutputTag<T>, record: T) -> Result<(), BoxError> {
        Ok(self.scope.sides.emit(tag, record, self.timestamp)?)
    }
}

impl<K: Key> Drop for KeyedContext<'_, K> {
    #[inline]
    fn drop(&mut self) {
        self.scope.settle(self.hash, self.key);
    }
}

/// The time, and the timers of the key at hand. Flink's noun.
///
/// A timer fires once, however often it was registered, and is kept in snapshots like any state. To register one the function
/// says [`use_timers`](KeyedStateStore::use_timers) in `open`.
pub struct TimerService<'a, K: Key> {
    pub(crate) scope: &'a mut KeyedScope<K>,
    key: &'a K,
    pub(crate) hash: u64,
}

impl<K: Key> TimerService<'_, K> {
    /// How far the event time has come: no record up to it is expected any more. [`EventTime::MIN`] before the first watermark.
    pub fn current_watermark(&self) -> EventTime {
        self.scope.watermark()
    }

    /// What the clock of the machine says.
    pub fn current_processing_time(&self) -> WallTime {
        self.scope.time().now()
    }

    /// Calls `on_timer` for this key when the watermark has come to this time; at the next watermark if it has already.
    pub fn register_event_time_timer(&mut self, time: EventTime) {
        self.register(Timer::EventTime(time));
    }

    /// Calls `on_timer` for this key when the clock has come to this time; soon if it has already.
    pub fn register_processing_time_timer(&mut self, time: WallTime) {
        self.register(Timer::ProcessingTime(time));
    }

    /// Forgets a timer. One that was never registered is no error.
    pub fn delete_event_time_timer(&mut self, time: EventTime) {
        self.delete(Timer::EventTime(time));
    }

    /// Forgets a timer. One that was never registered is no error.
    pub fn delete_processing_time_timer(&mut self, time: WallTime) {
        self.delete(Timer::ProcessingTime(time));
    }

    fn register(&mut self, timer: Timer) {
        let KeyedScope {
            backend, timers, time, ..
        } = &mut *self.scope;
        let time = time.as_ref().expect("an operator is opened before it is called");
        timers_of(timers).add(backend, (self.hash, self.key), timer, time);
    }

    fn delete(&mut self, timer: Timer) {
        let KeyedScope { backend, timers, .. } = &mut *self.scope;
        timers_of(timers).remove(backend, (self.hash, self.key), timer);
    }
}

fn timers_of<K>(timers: &mut Option<Timers<K>>) -> &mut Timers<K> {
    timers
        .as_mut()
        .unwrap_or_else(|| panic!("timers are used but were not announced: call `state.use_timers()` in `open`"))
}

impl<K: Key> OperatorStateContext for KeyedContext<'_, K> {
    fn states(&self) -> &OperatorStateBackend {
        &self.scope.states
    }

    fn states_mut(&mut self) -> &mut OperatorStateBackend {
        &mut self.scope.states
    }
}

/// The state of every key of a subtask, for the end of the input.
pub struct AllKeys<'a, K: Key> {
    scope: &'a mut KeyedScope<K>,
    failure: Option<StateError>,
}

impl<'a, K: Key> AllKeys<'a, K> {
    pub(crate) fn new(scope: &'a mut KeyedScope<K>) -> Self {
        scope.read_clock();
        Self { scope, failure: None }
    }

    /// Calls `visit` with every key that has a value in this state, in no particular order. State on disk that cannot be read
    /// fails the subtask when the function returns.
    pub fn for_each<V: State>(&mut self, state: &ValueState<V>, visit: impl FnMut(&K, &V)) {
        if let Err(error) = state.for_each(self.scope, visit) {
            self.failure.get_or_insert(error);
        }
    }

    /// Why not every key was there, if so.
    pub(crate) fn into_failure(self) -> Option<StateError> {
        self.failure
    }
}

impl<K: Key> OperatorStateContext for AllKeys<'_, K> {
    fn states(&self) -> &OperatorStateBackend {
        &self.scope.states
    }

    fn states_mut(&mut self) -> &mut OperatorStateBackend {
        &mut self.scope.states
    }
}
