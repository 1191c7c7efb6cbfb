//! Joins: records of two streams that have a key and a stretch of time in common.

use std::collections::BTreeMap;
use std::time::Duration;

use streamd_core::state::{Key, State};
use streamd_core::time::EventTime;
use streamd_runtime::connected::Either;
use streamd_runtime::error::BoxError;
use streamd_runtime::keyed::{KeyedContext, KeyedProcessFunction, KeyedStateStore, ValueState};
use streamd_runtime::record::{Collector, Record};
use streamd_runtime::timer::Timer;
use streamd_runtime::window::{DefaultTrigger, Trigger, WindowAssigner, WindowContext};

use crate::connected_streams::KeyOf;
use crate::data_stream::DataStream;
use crate::keyed_stream::KeyedStream;
use crate::windowed_stream::WindowedStream;

/// Two streams on their way to a join by window: `where_key`, `equal_to`, `window`, `apply`.
pub struct JoinedStreams<A, B> {
    first: DataStream<A>,
    second: DataStream<B>,
}

impl<A: Record, B: Record> JoinedStreams<A, B> {
    pub(crate) fn new(first: &DataStream<A>, second: &DataStream<B>) -> Self {
        Self {
            first: first.clone(),
            second: second.clone(),
        }
    }

    /// The key of the records of the first stream.
    pub fn where_key<K, F>(self, key_of: F) -> JoinedWhere<A, B, F>
    where
        K: Key,
        F: Fn(&A) -> K + Clone + Send + 'static,
    {
        JoinedWhere { streams: self, key_of }
    }
}

/// A join whose first key is known.
pub struct JoinedWhere<A, B, F> {
    streams: JoinedStreams<A, B>,
    key_of: F,
}

impl<A: Record, B: Record, F> JoinedWhere<A, B, F> {
    /// The key of the records of the second stream: what must be equal.
    pub fn equal_to<K, G>(self, second: G) -> JoinedKeys<K, A, B, impl KeyOf<K, A, B>>
    where
        K: Key,
        F: Fn(&A) -> K + Clone + Send + 'static,
        G: Fn(&B) -> K + Clone + Send + 'static,
    {
        let first = self.key_of;
        let connected = self.streams.first.connect(&self.streams.second);
        JoinedKeys {
            stream: connected.key_by(first, second).keyed(),
        }
    }
}

/// A join whose keys are known.
pub struct JoinedKeys<K, A, B, S> {
    stream: KeyedStream<K, Either<A, B>, S>,
}

impl<K, A, B, S> JoinedKeys<K, A, B, S> {
    /// The windows that records must share.
    pub fn window(self, assigner: WindowAssigner) -> JoinedWindows<K, A, B, S>
    where
        K: Key,
        A: Record + State,
        B: Record + State,
        S: KeyOf<K, A, B>,
    {
        JoinedWindows {
            windows: self.stream.window(assigner),
        }
    }
}

/// A join by key and window.
pub struct JoinedWindows<K, A, B, S, G = DefaultTrigger> {
    windows: WindowedStream<K, Either<A, B>, S, G>,
}

impl<K, A, B, S, G> JoinedWindows<K, A, B, S, G>
where
    K: Key,
    A: Record + State,
    B: Record + State,
    S: KeyOf<K, A, B>,
    G: Trigger<Either<A, B>>,
{
    /// Has the windows fire when this trigger says so.
    #[must_use]
    pub fn trigger<H: Trigger<Either<A, B>>>(self, trigger: H) -> JoinedWindows<K, A, B, S, H> {
        JoinedWindows {
            windows: self.windows.trigger(trigger),
        }
    }

    /// Has windows take records for so much longer after their end.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self {
            windows: self.windows.allowed_lateness(lateness),
        }
    }

    /// An inner join: the function is called with every pair of records that share key and window.
    pub fn apply<O, F>(self, mut function: F) -> DataStream<O>
    where
        O: Record,
        F: FnMut(&A, &B) -> O + Clone + Send + 'static,
    {
        self.co_group(move |firsts: &[&A], seconds: &[&B], out: &mut Collector<'_, O>| {
            for first in firsts {
                for second in seconds {
                    out.collect(function(first, second));
                }
            }
        })
        .name("window join")
    }

    /// Calls the function with all records of both streams that share key and window, once for each: also where one of them has
    /// none, as an outer join wants.
    pub fn co_group<O, F>(self, mut function: F) -> DataStream<O>
    where
        O: Record,
        F: FnMut(&[&A], &[&B], &mut Collector<'_, O>) + Clone + Send + 'static,
    {
        let grouped = move |_: &mut WindowContext<'_, K>, elements: &[Either<A, B>], out: &mut Collector<'_, O>| {
            let mut firsts = Vec::new();
            let mut seconds = Vec::new();
            for element in elements {
                match element {
                    Either::First(first) => firsts.push(first),
                    Either::Second(second) => seconds.push(second),
                }
            }
            function(&firsts, &seconds, out);
            Ok(())
        };
        self.windows.process(grouped).name("co-group")
    }
}

/// Two keyed streams on their way to a join by interval.
pub struct IntervalJoin<K, A, B, S> {
    stream: KeyedStream<K, Either<A, B>, S>,
}

impl<K, A, B, S> IntervalJoin<K, A, B, S>
where
    K: Key,
    A: Record + State,
    B: Record + State,
    S: KeyOf<K, A, B>,
{
    pub(crate) fn new(stream: KeyedStream<K, Either<A, B>, S>) -> Self {
        Self { stream }
    }

    /// Joins a record of the first stream with those of the second whose timestamp is at least `lower_ms` and at most `upper_ms`
    /// milliseconds after its own; negative numbers are before it. Both ends are included.
    pub fn between(self, lower_ms: i64, upper_ms: i64) -> IntervalJoined<K, A, B, S> {
        if lower_ms > upper_ms {
            let wrong = format!("an interval join between {lower_ms} ms and {upper_ms} ms");
            self.stream.refuse(wrong, "give the lower bound first");
        }
        IntervalJoined {
            stream: self.stream,
            lower_ms,
            upper_ms,
        }
    }
}

/// A join by key and interval.
pub struct IntervalJoined<K, A, B, S> {
    stream: KeyedStream<K, Either<A, B>, S>,
    lower_ms: i64,
    upper_ms: i64,
}

impl<K, A, B, S> IntervalJoined<K, A, B, S>
where
    K: Key,
    A: Record + State,
    B: Record + State,
    S: KeyOf<K, A, B>,
{
    /// Calls the function with every pair; results carry the later of the two timestamps.
    pub fn process<O, F>(self, function: F) -> DataStream<O>
    where
        O: Record,
        F: FnMut(&A, &B) -> O + Clone + Send + 'static,
    {
        let join = IntervalJoinFunction {
            function,
            lower: self.lower_ms,
            upper: self.upper_ms,
            firsts: ValueState::new("first-buffer"),
            seconds: ValueState::new("second-buffer"),
            result: std::marker::PhantomData::<fn() -> O>,
        };
        self.stream.process(join).name("interval join")
    }
}

/// The records of one key and one stream that may still meet others, by timestamp.
type Buffer<T> = BTreeMap<i64, Vec<T>>;

struct IntervalJoinFunction<A: State, B: State, O, F> {
    function: F,
    lower: i64,
    upper: i64,
    firsts: ValueState<Buffer<A>>,
    seconds: ValueState<Buffer<B>>,
    result: std::marker::PhantomData<fn() -> O>,
}

impl<A: State, B: State, O, F: Clone> Clone for IntervalJoinFunction<A, B, O, F> {
    fn clone(&self) -> Self {
        Self {
            function: self.function.clone(),
            firsts: self.firsts.clone(),
            seconds: self.seconds.clone(),
            ..*self
        }
    }
}

impl<A: State, B: State, O, F> IntervalJoinFunction<A, B, O, F> {
    /// When a record of the first stream meets no more.
    fn first_is_over(&self, time: i64) -> i64 {
        time.saturating_add(self.upper.max(0))
    }

    /// When a record of the second stream meets no more.
    fn second_is_over(&self, time: i64) -> i64 {
        time.saturating_sub(self.lower.min(0))
    }
}

/// Whether the record is too late to be joined: what it should meet may be gone.
fn is_late<K: Key>(context: &mut KeyedContext<'_, K>, time: i64) -> bool {
    time <= context.timer_service().current_watermark().0
}

impl<K, A, B, O, F> KeyedProcessFunction<K, Either<A, B>, O> for IntervalJoinFunction<A, B, O, F>
where
    K: Key,
    A: Record + State,
    B: Record + State,
    O: Record,
    F: FnMut(&A, &B) -> O + Clone + Send + 'static,
{
    fn open(&mut self, state: &mut KeyedStateStore<'_, K>) -> Result<(), BoxError> {
        state.register(&mut self.firsts)?;
        state.register(&mut self.seconds)?;
        state.use_timers()
    }

    fn process_element(
        &mut self,
        value: Either<A, B>,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<(), BoxError> {
        let Some(EventTime(time)) = context.timestamp() else {
            return Err("a record without a timestamp cannot be joined by interval: call `assign_timestamps_and_watermarks` on both \
                        streams; `i64::MIN` stands for no timestamp"
                .into());
        };
        if is_late(context, time) {
            return Ok(());
        }
        let over = match value {
            Either::First(first) => {
                let range = time.saturating_add(self.lower)..=time.saturating_add(self.upper);
                let met = self
                    .seconds
                    .get(context)
                    .into_iter()
                    .flat_map(|buffer| buffer.range(range.clone()));
                for (other, seconds) in met {
                    let at = EventTime(time.max(*other));
                    seconds
                        .iter()
                        .for_each(|second| out.collect_with_timestamp((self.function)(&first, second), at));
                }
                self.firsts.get_or_default(context).entry(time).or_default().push(first);
                self.first_is_over(time)
            }
            Either::Second(second) => {
                let range = time.saturating_sub(self.upper)..=time.saturating_sub(self.lower);
                let met = self
                    .firsts
                    .get(context)
                    .into_iter()
                    .flat_map(|buffer| buffer.range(range.clone()));
                for (other, firsts) in met {
                    let at = EventTime(time.max(*other));
                    firsts
                        .iter()
                        .for_each(|first| out.collect_with_timestamp((self.function)(first, &second), at));
                }
                self.seconds
                    .get_or_default(context)
                    .entry(time)
                    .or_default()
                    .push(second);
                self.second_is_over(time)
            }
        };
        context.timer_service().register_event_time_timer(EventTime(over));
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<'_, O>,
    ) -> Result<(), BoxError> {
        let Timer::EventTime(EventTime(now)) = timer else {
            return Ok(());
        };
        let (upper, lower) = (self.upper.max(0), self.lower.min(0));
        if let Some(buffer) = self.firsts.get_mut(context) {
            buffer.retain(|time, _| time.saturating_add(upper) > now);
            if buffer.is_empty() {
                self.firsts.clear(context);
            }
        }
        if let Some(buffer) = self.seconds.get_mut(context) {
            buffer.retain(|time, _| time.saturating_sub(lower) > now);
            if buffer.is_empty() {
                self.seconds.clear(context);
            }
        }
        Ok(())
    }
}
