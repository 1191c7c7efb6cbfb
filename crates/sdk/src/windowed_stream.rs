//! Keyed streams cut into windows.

use std::time::Duration;

use streamd_core::state::{Key, State};
use streamd_runtime::record::Record;
use streamd_runtime::side_output::OutputTag;
use streamd_runtime::window::{
    AggregateContents, AggregateFunction, Applied, DefaultTrigger, EvictingContents, Evictor, Lateness, ListContents,
    ProcessWindowFunction, ReduceContents, SlidingWindowOperator, Trigger, WindowAssigner, WindowContents,
    WindowOperator, WindowOptions,
};

use crate::data_stream::DataStream;
use crate::keyed_stream::KeyedStream;

/// A keyed stream whose records are cut into windows; `G` says when those fire.
///
/// Without a trigger of its own, a window of event time fires when the watermark passes its end, one of processing time when
/// the clock does, and the global window never. Results carry the last millisecond of their window as timestamp.
pub struct WindowedStream<K, T, S, G = DefaultTrigger> {
    stream: KeyedStream<K, T, S>,
    options: WindowOptions<T, G>,
    /// `None`: as the environment says.
    parallelism: Option<u32>,
}

impl<K, T, S> WindowedStream<K, T, S>
where
    K: Key,
    T: Record,
    S: Fn(&T) -> K + Clone + Send + 'static,
{
    pub(crate) fn new(stream: KeyedStream<K, T, S>, assigner: WindowAssigner) -> Self {
        if let Err(wrong) = assigner.check() {
            stream.refuse(
                wrong,
                "give the window a length of at least 1 ms; parts of a millisecond do not count",
            );
        }
        Self {
            stream,
            options: WindowOptions {
                assigner,
                trigger: assigner.default_trigger(),
                lateness: Lateness::default(),
            },
            parallelism: None,
        }
    }
}

impl<K, T, S, G> WindowedStream<K, T, S, G>
where
    K: Key,
    T: Record,
    S: Fn(&T) -> K + Clone + Send + 'static,
    G: Trigger<T>,
{
    /// Has the windows fire when this trigger says so.
    #[must_use]
    pub fn trigger<H: Trigger<T>>(self, trigger: H) -> WindowedStream<K, T, S, H> {
        if let Err(wrong) = trigger.check() {
            self.stream.refuse(
                wrong,
                "give the trigger, or the window by number of records, at least 1",
            );
        }
        WindowedStream {
            stream: self.stream,
            options: WindowOptions {
                assigner: self.options.assigner,
                trigger,
                lateness: self.options.lateness,
            },
            parallelism: self.parallelism,
        }
    }

    /// Has windows of event time take records for so much longer after the watermark has passed their end; each of these fires
    /// the window again.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.options.lateness.allowed_ms = i64::try_from(lateness.as_millis()).unwrap_or(i64::MAX);
        self
    }

    /// Sends records that come too late to a side output. Without it they are dropped, and counted.
    #[must_use]
    pub fn side_output_late_data(mut self, tag: &OutputTag<T>) -> Self {
        self.options.lateness.output = Some(*tag);
        self
    }

    /// Has an evictor drop records before the function sees the window, and after. Such windows keep all of their records.
    pub fn evictor<E: Evictor<T>>(self, evictor: E) -> EvictingWindowedStream<K, T, S, G, E> {
        if let Err(wrong) = evictor.check() {
            self.stream.refuse(
                wrong,
                "give the evictor, or the window by number of records, at least 1",
            );
        }
        EvictingWindowedStream { windows: self, evictor }
    }

    /// Folds the records of each window: the first is the first value, and each of the others is folded into it. Also used to put two
    /// values together: it must not matter in which groups neighbours are folded.
    pub fn reduce<F>(self, function: F) -> DataStream<T>
    where
        T: State,
        F: FnMut(&mut T, T) + Clone + Send + 'static,
    {
        self.run("window reduce", ReduceContents(function))
    }

    /// As [`reduce`](Self::reduce), with a function that makes the result out of the window and its one value.
    pub fn reduce_with<F, O, P>(self, function: F, result: P) -> DataStream<O>
    where
        T: State,
        O: Record,
        F: FnMut(&mut T, T) + Clone + Send + 'static,
        P: ProcessWindowFunction<K, T, O>,
    {
        self.run(
            "window reduce",
            Applied::<_, _, T>::new(ReduceContents(function), result),
        )
    }

    /// Folds the records of each window into an accumulator, and emits what the function makes of it.
    pub fn aggregate<A>(self, function: A) -> DataStream<A::Output>
    where
        A: AggregateFunction<T>,
        A::Output: Record,
    {
        self.run("window aggregate", AggregateContents(function))
    }

    /// As [`aggregate`](Self::aggregate), with a function that makes the result out of the window and its one aggregate.
    pub fn aggregate_with<A, O, P>(self, function: A, result: P) -> DataStream<O>
    where
        A: AggregateFunction<T>,
        A::Output: 'static,
        O: Record,
        P: ProcessWindowFunction<K, A::Output, O>,
    {
        self.run(
            "window aggregate",
            Applied::<_, _, A::Output>::new(AggregateContents(function), result),
        )
    }

    /// Keeps all records of each window for a function that sees them together.
    pub fn process<O, P>(self, function: P) -> DataStream<O>
    where
        T: State,
        O: Record,
        P: ProcessWindowFunction<K, T, O>,
    {
        self.run("window process", ListContents(function))
    }

    fn run<O, C>(self, name: &str, contents: C) -> DataStream<O>
    where
        O: Record,
        C: WindowContents<K, T, O>,
    {
        let Self {
            stream,
            options,
            parallelism,
        } = self;
        let key_of = stream.key_of().clone();
        let WindowOptions { assigner, lateness, .. } = options;
        let panes_of = key_of.clone();
        let sliding = move |contents: &C| {
            SlidingWindowOperator::<K, T, O, C, S>::new(assigner, contents.clone(), lateness, panes_of.clone())
        };
        let output = if options.trigger.fires_at_end() == Some(assigner.domain()) && sliding(&contents).is_some() {
            let states = SlidingWindowOperator::<K, T, O, C, S>::states();
            stream.stream().transform(name, states, move || {
                sliding(&contents).expect("windows that overlap once do so always")
            })
        } else {
            let states = WindowOperator::<K, T, O, C, G, S>::states();
            stream.stream().transform(name, states, move || {
                WindowOperator::<K, T, O, C, G, S>::new(options.clone(), contents.clone(), key_of.clone())
            })
        };
        match parallelism {
            Some(parallelism) => output.set_parallelism(parallelism),
            None => output,
        }
    }
}

/// A windowed stream with an evictor, which only a function that sees whole windows can follow.
pub struct EvictingWindowedStream<K, T, S, G, E> {
    windows: WindowedStream<K, T, S, G>,
    evictor: E,
}

impl<K, T, S, G, E> EvictingWindowedStream<K, T, S, G, E>
where
    K: Key,
    T: Record,
    S: Fn(&T) -> K + Clone + Send + 'static,
    G: Trigger<T>,
    E: Evictor<T>,
{
    /// Applies a function to the records of each window that the evictor leaves.
    pub fn process<O, P>(self, function: P) -> DataStream<O>
    where
        T: State,
        O: Record,
        P: ProcessWindowFunction<K, T, O>,
    {
        let contents = EvictingContents {
            evictor: self.evictor,
            function,
        };
        self.windows.run("window process", contents)
    }
}

/// Takes the one key that all records of a stream have.
#[doc(hidden)]
pub type NoKey<T> = fn(&T);

impl<T, G> WindowedStream<(), T, NoKey<T>, G> {
    /// The windows of all records, whatever their key: they are in one subtask.
    pub(crate) fn of_all(stream: &DataStream<T>, assigner: WindowAssigner) -> WindowedStream<(), T, NoKey<T>>
    where
        T: Record,
    {
        let no_key: NoKey<T> = |_| ();
        let mut windows = stream.key_by(no_key).window(assigner);
        windows.parallelism = Some(1);
        windows
    }
}
