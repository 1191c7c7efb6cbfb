use streamd_core::state::{Key, State};
use streamd_state::{KeyedStateBackend, StateError};

use super::context::KeyedContext;
use super::store::StateHandle;
use super::time_to_live::StateTtlConfig;
use super::value::ValueState;
use crate::window::AggregateFunction;

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

    /// Lets values live only so long since something was added.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.value = self.value.enable_time_to_live(ttl);
        self
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

impl<V: State, F> StateHandle for ReducingState<V, F> {
    fn name(&self) -> &'static str {
        self.value.name()
    }

    fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError> {
        self.value.bind(backend)
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

    /// Lets accumulators live only so long since something was added.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.accumulator = self.accumulator.enable_time_to_live(ttl);
        self
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

impl<In, A: AggregateFunction<In>> StateHandle for AggregatingState<In, A> {
    fn name(&self) -> &'static str {
        self.accumulator.name()
    }

    fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError> {
        self.accumulator.bind(backend)
    }
}
