//! Two streams of different types, processed together.

use streamd_core::state::Key;
use streamd_runtime::connected::Either;
use streamd_runtime::error::BoxError;
use streamd_runtime::keyed::{AllKeys, KeyedContext, KeyedProcessFunction, KeyedStateStore};
use streamd_runtime::operator::{BroadcastProcess, KeyedBroadcastProcess, KeyedBroadcastProcessFunction};
use streamd_runtime::operator_state::OperatorStateStore;
use streamd_runtime::process_function::{BroadcastProcessFunction, ProcessContext, ProcessFunction};
use streamd_runtime::record::{Collector, Record};
use streamd_runtime::timer::Timer;

use crate::data_stream::DataStream;
use crate::keyed_stream::KeyedStream;

/// Two streams that a function sees together. Flink's noun.
pub struct ConnectedStreams<A, B> {
    stream: DataStream<Either<A, B>>,
}

impl<A: Record, B: Record> ConnectedStreams<A, B> {
    pub(crate) fn new(first: &DataStream<A>, second: &DataStream<B>) -> Self {
        Self {
            stream: DataStream::either(first, second),
        }
    }

    /// Turns each record into one of a common type: those of the first stream by one function, those of the second by another.
    pub fn map<O, F, G>(&self, mut first: F, mut second: G) -> DataStream<O>
    where
        O: Record,
        F: FnMut(A) -> O + Clone + Send + 'static,
        G: FnMut(B) -> O + Clone + Send + 'static,
    {
        let map = move |record| match record {
            Either::First(record) => first(record),
            Either::Second(record) => second(record),
        };
        self.stream.map(map).name("co-map")
    }

    /// Turns each record into any number of others of a common type.
    pub fn flat_map<O, F, G>(&self, mut first: F, mut second: G) -> DataStream<O>
    where
        O: Record,
        F: FnMut(A, &mut Collector<'_, O>) + Clone + Send + 'static,
        G: FnMut(B, &mut Collector<'_, O>) + Clone + Send + 'static,
    {
        let flat_map = move |record, out: &mut Collector<'_, O>| match record {
            Either::First(record) => first(record, out),
            Either::Second(record) => second(record, out),
        };
        self.stream.flat_map(flat_map).name("co-flat-map")
    }

    /// Applies a function that may keep operator state, which both streams share.
    pub fn process<O, F>(&self, function: F) -> DataStream<O>
    where
        O: Record,
        F: CoProcessFunction<A, B, O>,
    {
        let function = CoProcess {
            function,
            types: std::marker::PhantomData,
        };
        self.stream.process(function).name("co-process")
    }

    /// Groups the records of both streams by keys of one type: records of one key meet in one subtask.
    pub fn key_by<K, F, G>(
        &self,
        first: F,
        second: G,
    ) -> KeyedConnectedStreams<A, B, impl KeyOf<K, A, B> + use<K, A, B, F, G>, K>
    where
        K: Key,
        F: Fn(&A) -> K + Clone + Send + 'static,
        G: Fn(&B) -> K + Clone + Send + 'static,
    {
        let key_of = move |record: &Either<A, B>| match record {
            Either::First(record) => first(record),
            Either::Second(record) => second(record),
        };
        KeyedConnectedStreams {
            stream: self.stream.key_by(key_of),
        }
    }
}

/// Takes the key of a record of either stream.
pub trait KeyOf<K, A, B>: Fn(&Either<A, B>) -> K + Clone + Send + 'static {}

impl<K, A, B, F: Fn(&Either<A, B>) -> K + Clone + Send + 'static> KeyOf<K, A, B> for F {}

/// Two streams that are grouped by the same keys.
pub struct KeyedConnectedStreams<A, B, S, K> {
    stream: KeyedStream<K, Either<A, B>, S>,
}

impl<A, B, S, K> KeyedConnectedStreams<A, B, S, K>
where
    A: Record,
    B: Record,
    K: Key,
    S: KeyOf<K, A, B>,
{
    /// Applies a function with state per key, which both streams share.
    pub fn process<O, F>(&self, function: F) -> DataStream<O>
    where
        O: Record,
        F: KeyedCoProcessFunction<K, A, B, O>,
    {
        self.stream.process(CoProcess {
            function,
            types: std::marker::PhantomData,
        })
    }

    pub(crate) fn keyed(self) -> KeyedStream<K, Either<A, B>, S> {
        self.stream
    }
}

/// A function over two streams that are not keyed, with operator state. Flink's noun.
pub trait CoProcessFunction<A, B, Out>: Clone + Send + 'static {
    /// Registers state, as in [`ProcessFunction`].
    fn open(&mut self, _state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    /// Handles a record of the first stream.
    fn process_element1(
        &mut self,
        value: A,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// Handles a record of the second stream.
    fn process_element2(
        &mut self,
        value: B,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// Both inputs have ended, as in [`ProcessFunction`].
    fn end_of_input(
        &mut self,
        _context: &mut ProcessContext<'_>,
        _out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A function over two keyed streams with the same keys, and with state and timers per key. Flink's noun.
pub trait KeyedCoProcessFunction<K: Key, A, B, Out>: Clone + Send + 'static {
    /// Registers state, as in [`KeyedProcessFunction`].
    fn open(&mut self, state: &mut KeyedStateStore<'_, K>) -> Result<(), BoxError>;

    /// Handles a record of the first stream.
    fn process_element1(
        &mut self,
        value: A,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// Handles a record of the second stream.
    fn process_element2(
        &mut self,
        value: B,
        context: &mut KeyedContext<'_, K>,
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

    /// Both inputs have ended.
    fn end_of_input(&mut self, _state: &mut AllKeys<'_, K>, _out: &mut Collector<'_, Out>) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A function over two streams, as one over records of either.
struct CoProcess<F, A, B> {
    function: F,
    types: std::marker::PhantomData<fn(A, B)>,
}

impl<F: Clone, A, B> Clone for CoProcess<F, A, B> {
    fn clone(&self) -> Self {
        Self {
            function: self.function.clone(),
            types: std::marker::PhantomData,
        }
    }
}

impl<K, A, B, Out, F> KeyedProcessFunction<K, Either<A, B>, Out> for CoProcess<F, A, B>
where
    K: Key,
    A: Record,
    B: Record,
    F: KeyedCoProcessFunction<K, A, B, Out>,
{
    fn open(&mut self, state: &mut KeyedStateStore<'_, K>) -> Result<(), BoxError> {
        self.function.open(state)
    }

    fn process_element(
        &mut self,
        value: Either<A, B>,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        match value {
            Either::First(value) => self.function.process_element1(value, context, out),
            Either::Second(value) => self.function.process_element2(value, context, out),
        }
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        self.function.on_timer(timer, context, out)
    }

    fn end_of_input(&mut self, state: &mut AllKeys<'_, K>, out: &mut Collector<'_, Out>) -> Result<(), BoxError> {
        self.function.end_of_input(state, out)
    }
}

impl<A, B, Out, F> ProcessFunction<Either<A, B>, Out> for CoProcess<F, A, B>
where
    A: Record,
    B: Record,
    F: CoProcessFunction<A, B, Out>,
{
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
        self.function.open(state)
    }

    fn process_element(
        &mut self,
        value: Either<A, B>,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        match value {
            Either::First(value) => self.function.process_element1(value, context, out),
            Either::Second(value) => self.function.process_element2(value, context, out),
        }
    }

    fn end_of_input(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<'_, Out>) -> Result<(), BoxError> {
        self.function.end_of_input(context, out)
    }
}

/// A stream beside one that every subtask sees.
pub struct BroadcastStreams<A, B> {
    stream: DataStream<Either<A, B>>,
}

impl<A: Record, B: Record> BroadcastStreams<A, B> {
    pub(crate) fn new(first: &DataStream<A>, second: &DataStream<B>) -> Self {
        Self {
            stream: DataStream::either(first, second).and_broadcast(first),
        }
    }

    /// Applies a function with state that the broadcast stream alone changes and every subtask knows.
    pub fn process<O, F>(&self, function: F) -> DataStream<O>
    where
        O: Record,
        F: BroadcastProcessFunction<A, B, O>,
    {
        let states = BroadcastProcess::states(function.clone()).unwrap_or_else(|error| {
            self.stream.environment().fail(error);
            Vec::new()
        });
        let make = move || BroadcastProcess::new(function.clone());
        self.stream.transform("broadcast process", states, make)
    }
}

/// A keyed stream beside one that every subtask sees.
pub struct KeyedBroadcastStreams<K, A, B, S> {
    stream: DataStream<Either<A, B>>,
    key_of: S,
    key: std::marker::PhantomData<fn() -> K>,
}

impl<K, A, B, S> KeyedBroadcastStreams<K, A, B, S>
where
    K: Key,
    A: Record,
    B: Record,
    S: Fn(&A) -> K + Clone + Send + 'static,
{
    pub(crate) fn new(first: &DataStream<A>, key_of: S, second: &DataStream<B>) -> Self {
        Self {
            stream: DataStream::either(first, second).keyed_and_broadcast(first, key_of.clone()),
            key_of,
            key: std::marker::PhantomData,
        }
    }

    /// Applies a function with state per key, and with state that the broadcast stream alone changes and every subtask knows.
    pub fn process<O, F>(&self, function: F) -> DataStream<O>
    where
        O: Record,
        F: KeyedBroadcastProcessFunction<K, A, B, O>,
    {
        type Process<K, A, B, F, S> = KeyedBroadcastProcess<K, A, B, F, S>;
        let states = Process::<K, A, B, F, S>::states(function.clone()).unwrap_or_else(|error| {
            self.stream.environment().fail(error);
            Vec::new()
        });
        let key_of = self.key_of.clone();
        self.stream.transform("broadcast process", states, move || {
            Process::<K, A, B, F, S>::new(function.clone(), key_of.clone())
        })
    }
}
