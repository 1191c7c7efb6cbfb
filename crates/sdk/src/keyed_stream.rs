//! Streams grouped by key: the only ones with keyed state.

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::state::{Key, State};
use streamd_runtime::keyed::KeyedProcessFunction;
use streamd_runtime::operator::{KeyedProcess, Reduce};
use streamd_runtime::record::Record;
use streamd_runtime::window::{CountEvictor, CountTrigger, GlobalWindows, PurgingTrigger, WindowAssigner};

use crate::connected_streams::{KeyOf, KeyedBroadcastStreams, KeyedConnectedStreams};
use crate::data_stream::DataStream;
use crate::joined_streams::IntervalJoin;
use crate::windowed_stream::{EvictingWindowedStream, WindowedStream};

/// A stream whose records are grouped by a key of type `K`, which `S` takes from each record.
pub struct KeyedStream<K, T, S> {
    stream: DataStream<T>,
    key_of: S,
    key: std::marker::PhantomData<fn() -> K>,
}

impl<K, T, S> KeyedStream<K, T, S>
where
    K: Key,
    T: Record,
    S: Fn(&T) -> K + Clone + Send + 'static,
{
    pub(crate) fn new(stream: DataStream<T>, key_of: S) -> Self {
        Self {
            stream,
            key_of,
            key: std::marker::PhantomData,
        }
    }

    pub(crate) fn stream(&self) -> &DataStream<T> {
        &self.stream
    }

    pub(crate) fn key_of(&self) -> &S {
        &self.key_of
    }

    /// Has `execute` refuse the job.
    pub(crate) fn refuse(&self, wrong: String, hint: &str) {
        let error = CodedError::new(ErrorCode::InvalidJobGraph, wrong);
        self.stream.environment().fail(error.with_hint(hint));
    }

    /// This stream, and one that every subtask sees: rules, rates, settings.
    pub fn connect_broadcast<B: Record>(&self, broadcast: &DataStream<B>) -> KeyedBroadcastStreams<K, T, B, S> {
        KeyedBroadcastStreams::new(&self.stream, self.key_of.clone(), broadcast)
    }

    /// This stream and another with the same keys, for functions with state that both share.
    pub fn connect<B, R>(
        &self,
        other: &KeyedStream<K, B, R>,
    ) -> KeyedConnectedStreams<T, B, impl KeyOf<K, T, B> + use<K, T, B, S, R>, K>
    where
        B: Record,
        R: Fn(&B) -> K + Clone + Send + 'static,
    {
        let connected = self.stream.connect(&other.stream);
        connected.key_by(self.key_of.clone(), other.key_of.clone())
    }

    /// This stream and another with the same keys, to be joined by the distance of their timestamps.
    pub fn interval_join<B, R>(
        &self,
        other: &KeyedStream<K, B, R>,
    ) -> IntervalJoin<K, T, B, impl KeyOf<K, T, B> + use<K, T, B, S, R>>
    where
        T: State,
        B: Record + State,
        R: Fn(&B) -> K + Clone + Send + 'static,
    {
        IntervalJoin::new(self.connect(other).keyed())
    }

    /// Cuts the records of each key into windows.
    pub fn window(self, assigner: WindowAssigner) -> WindowedStream<K, T, S> {
        WindowedStream::new(self, assigner)
    }

    /// Cuts the records of each key into windows of so many.
    pub fn count_window(self, count: u64) -> WindowedStream<K, T, S, PurgingTrigger<CountTrigger>> {
        self.window(GlobalWindows::create())
            .trigger(PurgingTrigger::of(CountTrigger::of(count)))
    }

    /// Windows of the last `size` records of each key, one every `slide` records.
    pub fn sliding_count_window(
        self,
        size: usize,
        slide: u64,
    ) -> EvictingWindowedStream<K, T, S, CountTrigger, CountEvictor> {
        self.window(GlobalWindows::create())
            .trigger(CountTrigger::of(slide))
            .evictor(CountEvictor::of(size))
    }

    /// A running reduction: folds each record into the key's value (the first record of a key is its first value), and emits
    /// the new value.
    pub fn reduce<F>(&self, function: F) -> DataStream<T>
    where
        T: State,
        F: FnMut(&mut T, T) + Clone + Send + 'static,
    {
        let key_of = self.key_of.clone();
        let states = Reduce::<K, T, F, S>::states();
        self.stream.transform("reduce", states, move || {
            Reduce::<K, T, F, S>::new(function.clone(), key_of.clone())
        })
    }

    /// Applies a function with state per key.
    pub fn process<O, F>(&self, function: F) -> DataStream<O>
    where
        O: Record,
        F: KeyedProcessFunction<K, T, O>,
    {
        let states = KeyedProcess::<K, F, S>::states::<T, O>(function.clone()).unwrap_or_else(|error| {
            self.stream.environment().fail(error);
            Vec::new()
        });
        let key_of = self.key_of.clone();
        self.stream.transform("process", states, move || {
            KeyedProcess::<K, F, S>::new(function.clone(), key_of.clone())
        })
    }
}
