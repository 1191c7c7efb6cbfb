//! Keyed state as user functions see it: handles that are registered once, and read through the context of a record.
//!
//! ```
//! # use streamd_runtime::error::BoxError;
//! # use streamd_runtime::keyed::{KeyedContext, KeyedProcessFunction, KeyedStateStore, ValueState};
//! # use streamd_runtime::record::Collector;
//! #[derive(Clone)]
//! struct Count {
//!     seen: ValueState<u64>,
//! }
//!
//! impl KeyedProcessFunction<String, String, (String, u64)> for Count {
//!     fn open(&mut self, state: &mut KeyedStateStore<'_, String>) -> Result<(), BoxError> {
//!         state.register(&mut self.seen)
//!     }
//!
//!     fn process_element(
//!         &mut self,
//!         word: String,
//!         context: &mut KeyedContext<'_, String>,
//!         out: &mut Collector<'_, (String, u64)>,
//!     ) -> Result<(), BoxError> {
//!         let seen = self.seen.get_or_default(context);
//!         *seen += 1;
//!         out.collect((word, *seen));
//!         Ok(())
//!     }
//! }
//! # let _ = Count { seen: ValueState::new("seen") };
//! ```

use std::collections::BTreeMap;

use streamd_core::state::{Key, State};
use streamd_core::time::{EventTime, WallTime};
use streamd_state::{KeyedStateBackend, StateError, StateId};

use crate::error::BoxError;
use crate::keyed_scope::KeyedScope;
use crate::record::{Collector, Record};
use crate::side_output::OutputTag;
use crate::timer::{Timer, Timers};
use crate::window::AggregateFunction;

/// A function over a keyed stream, with state per key. Flink's noun.
pub trait KeyedProcessFunction<K: Key, In, Out>: Clone + Send + 'static {
    /// Registers the state that the function keeps. Called where the application is described, and in every subtask before
    /// the first record: no other effects belong here.
    fn open(&mut self, state: &mut KeyedStateStore<'_, K>) -> Result<(), BoxError>;

    /// Handles a record. `context` gives the record's key and its state. An error fails the job's attempt.
    fn process_element(
        &mut self,
        value: In,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// A timer of a key has come due: see [`TimerService`]. `context` gives that key and its state.
    fn on_timer(
        &mut self,
        _timer: Timer,
        _context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        Ok(())
    }

    /// The input has ended: emits what the function still owes, for whatever key.
    fn end_of_input(&mut self, _state: &mut AllKeys<'_, K>, _out: &mut Collector<'_, Out>) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Where a function registers its state.
pub struct KeyedStateStore<'a, K: Key> {
    backend: &'a mut KeyedStateBackend<K>,
    timers: Option<Timers<K>>,
}

impl<'a, K: Key> KeyedStateStore<'a, K> {
    /// The store of this backend.
    pub fn new(backend: &'a mut KeyedStateBackend<K>) -> Self {
        Self { backend, timers: None }
    }

    /// Says that the function registers timers: they are state, and need a place. Calling it again changes nothing.
    pub fn use_timers(&mut self) -> Result<(), BoxError> {
        if self.timers.is_none() {
            self.timers = Some(Timers::register(self.backend)?);
        }
        Ok(())
    }

    /// The timers, if the function uses any.
    pub(crate) fn into_timers(self) -> Option<Timers<K>> {
        self.timers
    }

    /// Registers a state under the name that its handle carries. Errors if the function has one of that name already.
    pub fn register<V: State>(&mut self, state: &mut impl StateHandle<V>) -> Result<(), BoxError> {
        let id = self.backend.register::<V>(state.name())?;
        state.bind(id);
        Ok(())
    }
}

/// A handle that [`KeyedStateStore::register`] binds to its state.
pub trait StateHandle<V: State> {
    /// The name of the state.
    fn name(&self) -> &'static str;

    /// Remembers where the state is.
    fn bind(&mut self, id: StateId<V>);
}

/// The key of the record or timer at hand, the way to its state, its timers, and what time it is.
pub struct KeyedContext<'a, K: Key> {
    scope: &'a mut KeyedScope<K>,
    key: &'a K,
    hash: u64,
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

/// The time, and the timers of the key at hand. Flink's noun.
///
/// A timer fires once, however often it was registered, and is kept in snapshots like any state. To register one the function
/// says [`use_timers`](KeyedStateStore::use_timers) in `open`.
pub struct TimerService<'a, K: Key> {
    scope: &'a mut KeyedScope<K>,
    key: &'a K,
    hash: u64,
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

/// The state of every key of a subtask, for the end of the input.
pub struct AllKeys<'a, K: Key> {
    backend: &'a mut KeyedStateBackend<K>,
    failure: Option<StateError>,
}

impl<'a, K: Key> AllKeys<'a, K> {
    pub(crate) fn new(backend: &'a mut KeyedStateBackend<K>) -> Self {
        Self { backend, failure: None }
    }

    /// Calls `visit` with every key that has a value in this state, in no particular order. State on disk that cannot be read
    /// fails the subtask when the function returns.
    pub fn for_each<V: State>(&mut self, state: &ValueState<V>, mut visit: impl FnMut(&K, &V)) {
        if let Err(error) = self.backend.table_mut(state.id()).for_each(&mut visit) {
            self.failure.get_or_insert(error);
        }
    }

    /// Why not every key was there, if so.
    pub(crate) fn into_failure(self) -> Option<StateError> {
        self.failure
    }
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($param:ident $(: $bound:path)?),+> holds $value:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<$($param $(: $bound)?),+> {
            name: &'static str,
            id: Option<StateId<$value>>,
        }

        impl<$($param $(: $bound)?),+> Clone for $name<$($param),+> {
            fn clone(&self) -> Self {
                Self { name: self.name, id: self.id }
            }
        }

        impl<$($param $(: $bound)?),+> $name<$($param),+> {
            /// A handle to the state of this name, to be registered in `open`.
            pub const fn new(name: &'static str) -> Self {
                Self { name, id: None }
            }

            #[inline]
            fn id(&self) -> StateId<$value> {
                self.id.unwrap_or_else(|| {
                    panic!("state `{0}` is used but was not registered: call `state.register(&mut self.{0})` in `open`", self.name)
                })
            }
        }
    };
}

handle! {
    /// One value per key.
    ValueState<V: State> holds V
}

handle! {
    /// A list of values per key.
    ListState<V: State> holds Vec<V>
}

handle! {
    /// A map per key.
    MapState<M: OrderedState, V: State> holds BTreeMap<M, V>
}

/// What the keys of a [`MapState`] are.
pub trait OrderedState: State + Ord {}

impl<T: State + Ord> OrderedState for T {}

impl<V: State> StateHandle<V> for ValueState<V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn bind(&mut self, id: StateId<V>) {
        self.id = Some(id);
    }
}

impl<V: State> StateHandle<Vec<V>> for ListState<V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn bind(&mut self, id: StateId<Vec<V>>) {
        self.id = Some(id);
    }
}

impl<M: OrderedState, V: State> StateHandle<BTreeMap<M, V>> for MapState<M, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn bind(&mut self, id: StateId<BTreeMap<M, V>>) {
        self.id = Some(id);
    }
}

impl<V: State> ValueState<V> {
    /// The value of the key, if it has one.
    #[inline]
    pub fn get<'c, K: Key>(&self, context: &'c KeyedContext<'_, K>) -> Option<&'c V> {
        context.scope.backend.table(self.id()).get(context.hash, context.key)
    }

    /// The value of the key, to be changed in place, if it has one.
    #[inline]
    pub fn get_mut<'c, K: Key>(&self, context: &'c mut KeyedContext<'_, K>) -> Option<&'c mut V> {
        context
            .scope
            .backend
            .table_mut(self.id())
            .get_mut(context.hash, context.key)
    }

    /// The value of the key, to be changed in place; the type's default where it has none.
    #[inline]
    pub fn get_or_default<'c, K: Key>(&self, context: &'c mut KeyedContext<'_, K>) -> &'c mut V
    where
        V: Default,
    {
        self.get_or_insert_with(context, V::default)
    }

    /// The value of the key, to be changed in place; what `initial` returns where it has none.
    #[inline]
    pub fn get_or_insert_with<'c, K: Key>(
        &self,
        context: &'c mut KeyedContext<'_, K>,
        initial: impl FnOnce() -> V,
    ) -> &'c mut V {
        context
            .scope
            .backend
            .table_mut(self.id())
            .get_or_insert_with(context.hash, context.key, initial)
    }

    /// Sets the value of the key.
    pub fn update<K: Key>(&self, context: &mut KeyedContext<'_, K>, value: V) {
        context
            .scope
            .backend
            .table_mut(self.id())
            .insert(context.hash, context.key, value);
    }

    /// Removes the value of the key, and returns it.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) -> Option<V> {
        context
            .scope
            .backend
            .table_mut(self.id())
            .remove(context.hash, context.key)
    }
}

/// One value per key that every added value is folded into. Flink's noun.
#[derive(Debug, Clone)]
pub struct ReducingState<V: State, F> {
    value: ValueState<V>,
    reduce: F,
}

impl<V: State, F: FnMut(&mut V, V)> ReducingState<V, F> {
    /// A handle to the state of this name, to be registered in `open`.
    pub const fn new(name: &'static str, reduce: F) -> Self {
        Self {
            value: ValueState::new(name),
            reduce,
        }
    }

    /// The value of the key, if any was added.
    pub fn get<'c, K: Key>(&self, context: &'c KeyedContext<'_, K>) -> Option<&'c V> {
        self.value.get(context)
    }

    /// Folds a value into that of the key; the first is the first value.
    pub fn add<K: Key>(&mut self, context: &mut KeyedContext<'_, K>, value: V) {
        let mut first = Some(value);
        let known = self
            .value
            .get_or_insert_with(context, || first.take().expect("it is taken once"));
        if let Some(value) = first {
            (self.reduce)(known, value);
        }
    }

    /// Removes the value of the key, and returns it.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) -> Option<V> {
        self.value.clear(context)
    }
}

impl<V: State, F> StateHandle<V> for ReducingState<V, F> {
    fn name(&self) -> &'static str {
        self.value.name
    }

    fn bind(&mut self, id: StateId<V>) {
        self.value.id = Some(id);
    }
}

/// One accumulator per key, whose result is read instead of it. Flink's noun.
#[derive(Debug)]
pub struct AggregatingState<In, A: AggregateFunction<In>> {
    accumulator: ValueState<A::Accumulator>,
    function: A,
    input: std::marker::PhantomData<fn(In)>,
}

impl<In, A: AggregateFunction<In>> Clone for AggregatingState<In, A> {
    fn clone(&self) -> Self {
        Self {
            accumulator: self.accumulator.clone(),
            function: self.function.clone(),
            input: std::marker::PhantomData,
        }
    }
}

impl<In, A: AggregateFunction<In>> AggregatingState<In, A> {
    /// A handle to the state of this name, to be registered in `open`.
    pub const fn new(name: &'static str, function: A) -> Self {
        Self {
            accumulator: ValueState::new(name),
            function,
            input: std::marker::PhantomData,
        }
    }

    /// The result for the values of the key, if any was added.
    pub fn get<K: Key>(&self, context: &KeyedContext<'_, K>) -> Option<A::Output> {
        let accumulator = self.accumulator.get(context)?;
        Some(self.function.get_result(accumulator))
    }

    /// Takes a value in.
    pub fn add<K: Key>(&self, context: &mut KeyedContext<'_, K>, value: In) {
        let function = &self.function;
        let accumulator = self
            .accumulator
            .get_or_insert_with(context, || function.create_accumulator());
        function.add(value, accumulator);
    }

    /// Forgets the values of the key.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) {
        self.accumulator.clear(context);
    }
}

impl<In, A: AggregateFunction<In>> StateHandle<A::Accumulator> for AggregatingState<In, A> {
    fn name(&self) -> &'static str {
        self.accumulator.name
    }

    fn bind(&mut self, id: StateId<A::Accumulator>) {
        self.accumulator.id = Some(id);
    }
}

impl<V: State> ListState<V> {
    /// The elements of the key, in the order in which they were added.
    pub fn get<'c, K: Key>(&self, context: &'c KeyedContext<'_, K>) -> &'c [V] {
        context
            .scope
            .backend
            .table(self.id())
            .get(context.hash, context.key)
            .map_or(&[], Vec::as_slice)
    }

    /// Adds an element.
    pub fn add<K: Key>(&self, context: &mut KeyedContext<'_, K>, value: V) {
        context
            .scope
            .backend
            .table_mut(self.id())
            .get_or_insert_with(context.hash, context.key, Vec::new)
            .push(value);
    }

    /// Replaces all elements.
    pub fn update<K: Key>(&self, context: &mut KeyedContext<'_, K>, values: Vec<V>) {
        context
            .scope
            .backend
            .table_mut(self.id())
            .insert(context.hash, context.key, values);
    }

    /// Removes all elements.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) {
        context
            .scope
            .backend
            .table_mut(self.id())
            .remove(context.hash, context.key);
    }
}

impl<M: OrderedState, V: State> MapState<M, V> {
    /// The entry of the key's map.
    pub fn get<'c, K: Key>(&self, context: &'c KeyedContext<'_, K>, entry: &M) -> Option<&'c V> {
        context
            .scope
            .backend
            .table(self.id())
            .get(context.hash, context.key)?
            .get(entry)
    }

    /// The entry of the key's map, to be changed in place; the type's default where there is none.
    pub fn get_or_default<'c, K: Key>(&self, context: &'c mut KeyedContext<'_, K>, entry: M) -> &'c mut V
    where
        V: Default,
    {
        context
            .scope
            .backend
            .table_mut(self.id())
            .get_or_insert_with(context.hash, context.key, BTreeMap::new)
            .entry(entry)
            .or_default()
    }

    /// Sets an entry.
    pub fn put<K: Key>(&self, context: &mut KeyedContext<'_, K>, entry: M, value: V) {
        context
            .scope
            .backend
            .table_mut(self.id())
            .get_or_insert_with(context.hash, context.key, BTreeMap::new)
            .insert(entry, value);
    }

    /// Removes an entry, and returns it. The last entry takes the map with it.
    pub fn remove<K: Key>(&self, context: &mut KeyedContext<'_, K>, entry: &M) -> Option<V> {
        let map = context
            .scope
            .backend
            .table_mut(self.id())
            .get_mut(context.hash, context.key)?;
        let value = map.remove(entry);
        if map.is_empty() {
            self.clear(context);
        }
        value
    }

    /// The entries of the key's map, in order.
    pub fn entries<'c, K: Key>(
        &self,
        context: &'c KeyedContext<'_, K>,
    ) -> impl Iterator<Item = (&'c M, &'c V)> + use<'c, K, M, V> {
        context
            .scope
            .backend
            .table(self.id())
            .get(context.hash, context.key)
            .into_iter()
            .flatten()
    }

    /// Removes the key's map.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) {
        context
            .scope
            .backend
            .table_mut(self.id())
            .remove(context.hash, context.key);
    }
}
