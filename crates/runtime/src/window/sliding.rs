//! Sliding windows of event time that share their panes: what a record costs does not grow with size / slide.
//!
//! ```text
//!   slide 2, size 6     ┌──────── window ends 8 ────────┐
//!   panes               │ 2..4 │ 4..6 │ 6..8 │ 8..10 …
//!                              └──────── window ends 10 ───────┘
//! ```
//!
//! A record goes into one pane. When a window ends, its panes are put together, oldest first; a pane goes when the last of
//! its windows has. Where a window has many panes, partial sums of them are kept.
//!
//! Reading order: `grid`, `panes`, `sums`, then the operator.

mod grid;
mod panes;
mod sums;

use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::state::Key;
use streamd_core::time::EventTime;
use streamd_exchange::Batch;

use self::grid::Grid;
use self::panes::Panes;
use super::keyed_windows::KeyedWindows;
use super::operator::{no_timestamp, user_error};
use super::{Lateness, TimeWindow, WindowAssigner, WindowContents, WindowContext};
use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;
use crate::keyed_scope::KeyedScope;
use crate::record::{BATCH_RECORDS, Collector, Record};
use crate::side_output::SideOutputs;
use crate::snapshot::state_failed;
use crate::timer::TimerQueue;

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
        let panes = table.get_or_insert_with(*hash, key, Panes::new);
        let (contents, is_new) = panes.pane_at(start);
        self.contents.add(contents, record, timestamp);
        if is_new && self.keyed.lateness.allowed_ms > 0 {
            let forgotten = self.keyed.lateness.last_moment(grid.last_end(start));
            self.queue.push(forgotten, *hash, key.clone());
        }
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
                let window = self.grid.window(at);
                let panes = self.keyed.scope.backend.table(self.keyed.state).get(hash, key);
                let contents = panes.and_then(|panes| panes.window(window, |to, piece| self.contents.merge(to, piece)));
                self.emit(key, window, contents, output)?;
            }
            end = self.grid.end_after(pane, at);
        }
        Ok(())
    }

    /// The time has come for this key: a window ends, or panes are of no use any more.
    fn fire(&mut self, time: i64, (hash, key): (u64, &K), output: &mut Batch<Out>) -> Result<(), TaskError> {
        let (grid, lateness) = (self.grid, self.keyed.lateness);
        let table = self.keyed.scope.backend.table_mut(self.keyed.state);
        let Some(panes) = table.get_mut(hash, key) else {
            return Ok(());
        };
        let ended = panes.next_end.filter(|end| end.saturating_sub(1) == time);
        let ended = ended.map(|end| grid.window(end));
        let contents =
            ended.and_then(|window| panes.next_window(&grid, window, |to, piece| self.contents.merge(to, piece)));
        panes.forget_while(|start| lateness.last_moment(grid.last_end(start)) <= time);
        if let Some(window) = ended {
            panes.next_end = panes.end_after(&grid, window.end);
            if let Some(next) = panes.next_end {
                self.queue.push(next.saturating_sub(1), hash, key.clone());
            }
        }
        if panes.is_empty() {
            table.remove(hash, key);
        }
        ended.map_or(Ok(()), |window| self.emit(key, window, contents, output))
    }

    /// Emits the result of a window of a key, if there is anything in it.
    fn emit(
        &mut self,
        key: &K,
        window: TimeWindow,
        contents: Option<C::Accumulator>,
        output: &mut Batch<Out>,
    ) -> Result<(), TaskError> {
        let Some(mut contents) = contents else { return Ok(()) };
        let KeyedScope { time, sides, .. } = &mut self.keyed.scope;
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

    fn restore_queue(&mut self) -> Result<(), TaskError> {
        let (grid, lateness, queue) = (self.grid, self.keyed.lateness, &mut self.queue);
        let visited = self.keyed.scope.backend.for_each(self.keyed.state, &mut |key, panes| {
            let hash = key.stable_hash();
            if let Some(end) = panes.next_end {
                queue.push(end.saturating_sub(1), hash, key.clone());
            }
            if lateness.allowed_ms > 0 {
                let forgotten = panes.starts().map(|start| lateness.last_moment(grid.last_end(start)));
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
