//! What is kept of the records of a window, and what its result is made from.

use streamd_core::state::{Key, State};
use streamd_core::time::EventTime;
use streamd_exchange::Batch;

use super::{Evictor, TimeWindow};
use crate::error::BoxError;
use crate::record::{Collector, Record};
use crate::side_output::{OutputTag, SideOutputs};

/// What is kept of the records of a window, and what its result is made from.
pub trait WindowContents<K, T, Out>: Clone + Send + 'static {
    /// What is kept.
    type Accumulator: State;

    /// Takes a record in.
    fn add(&mut self, contents: &mut Option<Self::Accumulator>, record: T, timestamp: EventTime);

    /// Takes in what another window, or another piece of the window, has: it is later.
    fn merge(&mut self, contents: &mut Option<Self::Accumulator>, other: Self::Accumulator);

    /// Gives the result.
    fn emit(
        &mut self,
        context: &mut WindowContext<'_, K>,
        contents: &mut Self::Accumulator,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;
}

/// The window that gives its result.
pub struct WindowContext<'a, K> {
    pub(super) key: &'a K,
    pub(super) window: TimeWindow,
    pub(super) watermark: EventTime,
    pub(super) sides: &'a mut SideOutputs,
}

impl<K> WindowContext<'_, K> {
    /// The key whose window it is.
    pub fn key(&self) -> &K {
        self.key
    }

    /// The window.
    pub fn window(&self) -> TimeWindow {
        self.window
    }

    /// How far the event time has come.
    pub fn current_watermark(&self) -> EventTime {
        self.watermark
    }

    /// Emits a record to a side output, with the last moment of the window as its timestamp.
    pub fn output<X: Record>(&mut self, tag: &OutputTag<X>, record: X) -> Result<(), BoxError> {
        Ok(self.sides.emit(tag, record, self.window.max_timestamp())?)
    }
}

/// Folds records into an accumulator, and makes a result of it. Flink's noun.
pub trait AggregateFunction<In>: Clone + Send + 'static {
    /// What is kept: the only thing, whatever the number of records.
    type Accumulator: State;
    /// The result.
    type Output: Send;

    /// The accumulator of no records.
    fn create_accumulator(&self) -> Self::Accumulator;

    /// Takes a record in.
    fn add(&self, record: In, accumulator: &mut Self::Accumulator);

    /// The result for what was taken in so far.
    fn get_result(&self, accumulator: &Self::Accumulator) -> Self::Output;

    /// Takes in the records of another accumulator: of a later pane, or of a session that has become one with this.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: Self::Accumulator);
}

/// Makes results of a whole window. Flink's noun. Closures are such functions.
pub trait ProcessWindowFunction<K, In, Out>: Clone + Send + 'static {
    /// Called with the elements of a window that gives its result: all of its records, or the one result of a reduction or
    /// aggregation before.
    fn process(
        &mut self,
        context: &mut WindowContext<'_, K>,
        elements: &[In],
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;
}

impl<K, In, Out, F> ProcessWindowFunction<K, In, Out> for F
where
    F: FnMut(&mut WindowContext<'_, K>, &[In], &mut Collector<'_, Out>) -> Result<(), BoxError>
        + Clone
        + Send
        + 'static,
{
    fn process(
        &mut self,
        context: &mut WindowContext<'_, K>,
        elements: &[In],
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        self(context, elements, out)
    }
}

/// Records folded into one of their own kind.
#[derive(Debug, Clone)]
pub struct ReduceContents<F>(pub F);

impl<K, T, F> WindowContents<K, T, T> for ReduceContents<F>
where
    K: Key,
    T: State,
    F: FnMut(&mut T, T) + Clone + Send + 'static,
{
    type Accumulator = T;

    #[inline]
    fn add(&mut self, contents: &mut Option<T>, record: T, _timestamp: EventTime) {
        match contents {
            Some(value) => (self.0)(value, record),
            None => *contents = Some(record),
        }
    }

    fn merge(&mut self, contents: &mut Option<T>, other: T) {
        match contents {
            Some(value) => (self.0)(value, other),
            None => *contents = Some(other),
        }
    }

    fn emit(
        &mut self,
        _context: &mut WindowContext<'_, K>,
        contents: &mut T,
        out: &mut Collector<'_, T>,
    ) -> Result<(), BoxError> {
        out.collect(contents.clone());
        Ok(())
    }
}

/// Records folded into an accumulator.
#[derive(Debug, Clone)]
pub struct AggregateContents<A>(pub A);

impl<K, T, A> WindowContents<K, T, A::Output> for AggregateContents<A>
where
    K: Key,
    A: AggregateFunction<T>,
{
    type Accumulator = A::Accumulator;

    #[inline]
    fn add(&mut self, contents: &mut Option<A::Accumulator>, record: T, _timestamp: EventTime) {
        let accumulator = contents.get_or_insert_with(|| self.0.create_accumulator());
        self.0.add(record, accumulator);
    }

    fn merge(&mut self, contents: &mut Option<A::Accumulator>, other: A::Accumulator) {
        match contents {
            Some(accumulator) => self.0.merge(accumulator, other),
            None => *contents = Some(other),
        }
    }

    fn emit(
        &mut self,
        _context: &mut WindowContext<'_, K>,
        contents: &mut A::Accumulator,
        out: &mut Collector<'_, A::Output>,
    ) -> Result<(), BoxError> {
        out.collect(self.0.get_result(contents));
        Ok(())
    }
}

/// All records, for a function that wants to see each.
#[derive(Debug, Clone)]
pub struct ListContents<P>(pub P);

impl<K, T, Out, P> WindowContents<K, T, Out> for ListContents<P>
where
    K: Key,
    T: State,
    P: ProcessWindowFunction<K, T, Out>,
{
    type Accumulator = Vec<T>;

    #[inline]
    fn add(&mut self, contents: &mut Option<Vec<T>>, record: T, _timestamp: EventTime) {
        contents.get_or_insert_default().push(record);
    }

    fn merge(&mut self, contents: &mut Option<Vec<T>>, mut other: Vec<T>) {
        contents.get_or_insert_default().append(&mut other);
    }

    fn emit(
        &mut self,
        context: &mut WindowContext<'_, K>,
        contents: &mut Vec<T>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        self.0.process(context, contents, out)
    }
}

/// All records with their timestamps, for a function that sees those that an evictor leaves.
#[derive(Debug, Clone)]
pub struct EvictingContents<E, P> {
    /// What drops records.
    pub evictor: E,
    /// What sees the rest.
    pub function: P,
}

impl<K, T, Out, E, P> WindowContents<K, T, Out> for EvictingContents<E, P>
where
    K: Key,
    T: State,
    E: Evictor<T>,
    P: ProcessWindowFunction<K, T, Out>,
{
    type Accumulator = Vec<(T, i64)>;

    fn add(&mut self, contents: &mut Option<Vec<(T, i64)>>, record: T, timestamp: EventTime) {
        contents.get_or_insert_default().push((record, timestamp.0));
    }

    fn merge(&mut self, contents: &mut Option<Vec<(T, i64)>>, mut other: Vec<(T, i64)>) {
        contents.get_or_insert_default().append(&mut other);
    }

    fn emit(
        &mut self,
        context: &mut WindowContext<'_, K>,
        contents: &mut Vec<(T, i64)>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        let timed = std::mem::take(contents).into_iter();
        let mut timed: Vec<_> = timed
            .map(|(record, timestamp)| (record, EventTime(timestamp)))
            .collect();
        self.evictor.evict_before(&mut timed);
        let elements: Vec<T> = timed.iter().map(|(record, _)| record.clone()).collect();
        self.function.process(context, &elements, out)?;
        self.evictor.evict_after(&mut timed);
        contents.extend(timed.into_iter().map(|(record, timestamp)| (record, timestamp.0)));
        Ok(())
    }
}

/// A function applied to the result of other contents: a reduction or aggregation that also wants to know its window.
#[derive(Debug)]
pub struct Applied<C, P, Mid> {
    contents: C,
    function: P,
    /// Empty between two calls: its memory is used again.
    result: Batch<Mid>,
}

// By hand: a derive would ask `Mid: Clone`.
impl<C: Clone, P: Clone, Mid> Clone for Applied<C, P, Mid> {
    fn clone(&self) -> Self {
        Self::new(self.contents.clone(), self.function.clone())
    }
}

impl<C, P, Mid> Applied<C, P, Mid> {
    /// `function`, given the one result of `contents`.
    pub fn new(contents: C, function: P) -> Self {
        Self {
            contents,
            function,
            result: Batch::new(),
        }
    }
}

impl<K, T, Mid, Out, C, P> WindowContents<K, T, Out> for Applied<C, P, Mid>
where
    K: Key,
    Mid: Send + 'static,
    C: WindowContents<K, T, Mid>,
    P: ProcessWindowFunction<K, Mid, Out>,
{
    type Accumulator = C::Accumulator;

    #[inline]
    fn add(&mut self, contents: &mut Option<C::Accumulator>, record: T, timestamp: EventTime) {
        self.contents.add(contents, record, timestamp);
    }

    fn merge(&mut self, contents: &mut Option<C::Accumulator>, other: C::Accumulator) {
        self.contents.merge(contents, other);
    }

    fn emit(
        &mut self,
        context: &mut WindowContext<'_, K>,
        contents: &mut C::Accumulator,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        let mut collector = Collector::new(&mut self.result, EventTime::MIN);
        self.contents.emit(context, contents, &mut collector)?;
        let done = self.function.process(context, self.result.records(), out);
        self.result.clear();
        done
    }
}
