//! Sliding windows of event time that share their panes: what a record costs does not grow with size / slide.
//!
//! ```text
//!   slide 2, size 6     ┌──────── window ends 8 ────────┐
//!   panes               │ 2..4 │ 4..6 │ 6..8 │ 8..10 …
//!                              └──────── window ends 10 ───────┘
//! ```
//!
//! A record goes into one pane. When a window ends, its panes are put together, oldest first; a pane goes when the last of
//! its windows has.

use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::state::{Key, State};
use streamd_core::time::EventTime;
use streamd_exchange::Batch;

use super::assigner::floor_to;
use super::keyed_windows::KeyedWindows;
use super::operator::{no_timestamp, user_error};
use super::time_window::field;
use super::{Lateness, TimeWindow, WindowAssigner, WindowContents, WindowContext};
use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;
use crate::keyed_scope::KeyedScope;
use crate::record::{BATCH_RECORDS, Collector, Record};
use crate::side_output::SideOutputs;
use crate::snapshot::state_failed;
use crate::timer::TimerQueue;

/// The panes of a key.
#[derive(Debug, Clone)]
struct Panes<A> {
    /// The end of the next window that fires.
    next_end: Option<i64>,
    /// By start.
    panes: Vec<Pane<A>>,
}

/// A piece of all windows that cover it.
#[derive(Debug, Clone)]
struct Pane<A> {
    start: i64,
    contents: Option<A>,
}

impl<A: State> State for Pane<A> {
    fn data_type() -> DataType {
        DataType::Struct {
            name: "Pane".to_owned(),
            fields: vec![field::<i64>("start"), field::<Option<A>>("contents")],
        }
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.start.encode(row);
        self.contents.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            start: i64::decode(row)?,
            contents: Option::decode(row)?,
        })
    }

    fn describe_evolution(evolution: &mut streamd_core::evolution::Evolution) {
        A::describe_evolution(evolution);
    }
}

impl<A: State> State for Panes<A> {
    fn data_type() -> DataType {
        DataType::Struct {
            name: "Panes".to_owned(),
            fields: vec![field::<Option<i64>>("next_end"), field::<Vec<Pane<A>>>("panes")],
        }
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.next_end.encode(row);
        self.panes.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            next_end: Option::decode(row)?,
            panes: Vec::decode(row)?,
        })
    }

    fn describe_evolution(evolution: &mut streamd_core::evolution::Evolution) {
        A::describe_evolution(evolution);
    }
}

/// Where windows and panes begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    size: i64,
    slide: i64,
    offset: i64,
    pane: i64,
}

impl Grid {
    fn new((size, slide, offset): (i64, i64, i64)) -> Self {
        let (mut pane, mut rest) = (size, slide);
        while rest != 0 {
            (pane, rest) = (rest, pane % rest);
        }
        Self {
            size,
            slide,
            offset,
            pane,
        }
    }

    /// The start of the pane of a moment.
    fn pane_of(&self, time: i64) -> i64 {
        floor_to(time, self.pane, self.offset)
    }

    /// The end of the first window that covers a pane.
    fn first_end(&self, pane: i64) -> i64 {
        // The latest start of a window that is over when the pane begins, and one slide more.
        let over = pane
            .saturating_add(self.pane)
            .saturating_sub(self.size)
            .saturating_sub(1);
        let first = floor_to(over, self.slide, self.offset)
            .saturating_add(self.slide)
            .saturating_add(self.size);
        // Where windows would begin before time does, the last one is the first.
        first.min(self.last_end(pane))
    }

    /// The end of the last window that covers a pane.
    fn last_end(&self, pane: i64) -> i64 {
        floor_to(pane, self.slide, self.offset).saturating_add(self.size)
    }

    /// The end of the first window that covers a pane and ends after this time.
    fn end_after(&self, pane: i64, time: i64) -> Option<i64> {
        let first = self.first_end(pane);
        let later =
            floor_to(time, self.slide, self.offset.saturating_add(self.size) % self.slide).saturating_add(self.slide);
        let end = first.max(later);
        // At the end of time ends no longer grow.
        (end > time && end <= self.last_end(pane)).then_some(end)
    }
}

/// Cuts a keyed stream into sliding windows that fire when the watermark passes their end.
pub struct SlidingWindowOperator<K: Key, T, Out, C: WindowContents<K, T, Out>, S> {
    grid: Grid,
    contents: C,
    keyed: KeyedWindows<K, T, Panes<C::Accumulator>, S>,
    queue: TimerQueue<K>,
    output: std::marker::PhantomData<fn() -> Out>,
}

impl<K, T, Out, C, S> SlidingWindowOperator<K, T, Out, C, S>
where
    K: Key,
    T: Record,
    C: WindowContents<K, T, Out>,
{
    /// The operator over records whose key `key_of` takes; `None` if the windows do not overlap, or are not of event time.
    pub fn new(assigner: WindowAssigner, contents: C, lateness: Lateness<T>, key_of: S) -> Option<Self> {
        let grid = Grid::new(assigner.overlapping().filter(|_| assigner.needs_timestamps())?);
        Some(Self {
            grid,
            contents,
            keyed: KeyedWindows::new(lateness, key_of),
            queue: TimerQueue::new(),
            output: std::marker::PhantomData,
        })
    }

    /// The state that the operator keeps.
    pub fn states() -> Vec<StateDescriptor> {
        KeyedWindows::<K, T, Panes<C::Accumulator>, S>::states()
    }

    fn on_record(
        &mut self,
        (hash, key): &(u64, K),
        record: T,
        timestamp: EventTime,
        output: &mut Batch<Out>,
    ) -> Result<(), TaskError> {
        if timestamp == EventTime::MIN {
            return Err(no_timestamp(&self.keyed.label));
        }
        let (grid, watermark) = (self.grid, self.keyed.scope.watermark());
        let start = grid.pane_of(timestamp.0);
        if self.keyed.lateness.is_over(grid.last_end(start), watermark) {
            return self.keyed.on_late(record, timestamp);
        }
        let table = self.keyed.scope.backend.table_mut(self.keyed.state);
        let panes = table.get_or_insert_with(*hash, key, || Panes {
            next_end: None,
            panes: Vec::new(),
        });
        // Most records are of the latest pane.
        let before = panes.panes.iter().rposition(|pane| pane.start <= start);
        let position = match before {
            Some(position) if panes.panes[position].start == start => position,
            before => {
                let position = before.map_or(0, |before| before + 1);
                panes.panes.insert(position, Pane { start, contents: None });
                if self.keyed.lateness.allowed_ms > 0 {
                    let forgotten = self.keyed.lateness.last_moment(grid.last_end(start));
                    self.queue.push(forgotten, *hash, key.clone());
                }
                position
            }
        };
        self.contents
            .add(&mut panes.panes[position].contents, record, timestamp);
        let next = grid.end_after(start, watermark.0.saturating_add(1));
        if let Some(end) = next
            && panes.next_end.is_none_or(|known| end < known)
        {
            panes.next_end = Some(end);
            self.queue.push(end.saturating_sub(1), *hash, key.clone());
        }
        self.fire_late((*hash, key), start, output)
    }

    /// A record has come to a pane some of whose windows have fired, but still take records: those fire again.
    fn fire_late(&mut self, (hash, key): (u64, &K), pane: i64, output: &mut Batch<Out>) -> Result<(), TaskError> {
        if self.keyed.lateness.allowed_ms == 0 {
            return Ok(());
        }
        let watermark = self.keyed.scope.watermark();
        let mut end = Some(self.grid.first_end(pane));
        while let Some(at) = end.filter(|end| end.saturating_sub(1) <= watermark.0) {
            if !self.keyed.lateness.is_over(at, watermark) {
                self.emit((hash, key), at, output)?;
            }
            end = self.grid.end_after(pane, at);
        }
        Ok(())
    }

    /// Emits the result of the window of a key that ends there, if it has any contents.
    fn emit(&mut self, (hash, key): (u64, &K), end: i64, output: &mut Batch<Out>) -> Result<(), TaskError> {
        let window = TimeWindow {
            start: end.saturating_sub(self.grid.size),
            end,
        };
        let KeyedScope {
            backend, time, sides, ..
        } = &mut self.keyed.scope;
        let Some(panes) = backend.table(self.keyed.state).get(hash, key) else {
            return Ok(());
        };
        let covered = panes
            .panes
            .iter()
            .filter(|pane| (window.start..end).contains(&pane.start));
        let mut contents = None;
        for piece in covered.filter_map(|pane| pane.contents.clone()) {
            self.contents.merge(&mut contents, piece);
        }
        let Some(mut contents) = contents else { return Ok(()) };
        let mut context = WindowContext {
            key,
            window,
            watermark: time.as_ref().map_or(EventTime::MIN, |time| time.watermark),
            sides,
        };
        let mut collector = Collector::new(output, window.max_timestamp());
        let done = self.contents.emit(&mut context, &mut contents, &mut collector);
        done.map_err(|error| user_error(&self.keyed.label, &*error))
    }

    /// The time has come for this key: a window ends, or panes are of no use any more.
    fn fire(&mut self, time: i64, (hash, key): (u64, &K), output: &mut Batch<Out>) -> Result<(), TaskError> {
        let Some(panes) = self.keyed.scope.backend.table(self.keyed.state).get(hash, key) else {
            return Ok(());
        };
        let end = panes.next_end.filter(|end| end.saturating_sub(1) == time);
        if let Some(end) = end {
            self.emit((hash, key), end, output)?;
        }
        let (grid, lateness) = (self.grid, self.keyed.lateness);
        let table = self.keyed.scope.backend.table_mut(self.keyed.state);
        let Some(panes) = table.get_mut(hash, key) else {
            return Ok(());
        };
        panes
            .panes
            .retain(|pane| lateness.last_moment(grid.last_end(pane.start)) > time);
        if let Some(end) = end {
            panes.next_end = panes
                .panes
                .iter()
                .filter_map(|pane| grid.end_after(pane.start, end))
                .min();
            if let Some(next) = panes.next_end {
                self.queue.push(next.saturating_sub(1), hash, key.clone());
            }
        }
        if panes.panes.is_empty() {
            table.remove(hash, key);
        }
        Ok(())
    }

    fn restore_queue(&mut self) -> Result<(), TaskError> {
        let (grid, lateness, queue) = (self.grid, self.keyed.lateness, &mut self.queue);
        let visited = self.keyed.scope.backend.for_each(self.keyed.state, &mut |key, panes| {
            let hash = key.stable_hash();
            if let Some(end) = panes.next_end {
                queue.push(end.saturating_sub(1), hash, key.clone());
            }
            if lateness.allowed_ms > 0 {
                let forgotten = panes
                    .panes
                    .iter()
                    .map(|pane| lateness.last_moment(grid.last_end(pane.start)));
                forgotten.for_each(|time| queue.push(time, hash, key.clone()));
            }
        });
        visited.map_err(|error| state_failed(&self.keyed.label, &error))
    }
}

impl<K, T, Out, C, S> Operator<T, Out> for SlidingWindowOperator<K, T, Out, C, S>
where
    K: Key,
    T: Record,
    Out: Send + 'static,
    C: WindowContents<K, T, Out>,
    S: FnMut(&T) -> K + Send + 'static,
{
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.keyed.open(identity, context)?;
        self.restore_queue()
    }

    fn holds_back(&self) -> bool {
        true
    }

    fn process(&mut self, input: &mut Batch<T>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        let keys = self.keyed.keys_of(input.records());
        let mut records = input.drain(input.len());
        for keys in keys.groups() {
            self.keyed.touch(keys)?;
            for (key, (record, timestamp)) in keys.iter().zip(records.by_ref()) {
                self.on_record(key, record, timestamp, output)?;
            }
        }
        drop(records);
        self.keyed.done(keys);
        Ok(())
    }

    fn event_time(&mut self, time: EventTime, output: &mut Batch<Out>) -> Result<bool, TaskError> {
        self.keyed.scope.advance(time);
        while output.len() < BATCH_RECORDS {
            let Some((at, keys)) = self.queue.take_due(time.0) else {
                return Ok(true);
            };
            self.keyed.touch(&keys)?;
            for (hash, key) in &keys {
                self.fire(at, (*hash, key), output)?;
            }
        }
        Ok(false)
    }

    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        Some(&mut self.keyed.scope.sides)
    }

    fn snapshot(
        &mut self,
        identity: &OperatorIdentity,
        barrier: &Barrier,
    ) -> Result<Option<OperatorSnapshot>, TaskError> {
        Ok(Some(self.keyed.snapshot(identity, barrier)))
    }
}
