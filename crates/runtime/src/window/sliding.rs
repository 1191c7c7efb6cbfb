//! Sliding windows that share their panes: what a record costs does not grow with size / slide.
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
//! Reading order: `grid`, `panes`, `firing`, `sums`, then the operator.

mod firing;
mod grid;
mod panes;
mod sums;

use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::state::Key;
use streamd_core::time::{EventTime, WallTime};
use streamd_exchange::Batch;
use streamd_state::Restoring;

use self::firing::Firing;
use self::grid::{Grid, PaneEnds};
use self::panes::{NEXT_END, PANE, Panes};
use super::assigner::TimeDomain;
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

/// Cuts a keyed stream into sliding windows that fire when the watermark, or the clock, passes their end.
pub struct SlidingWindowOperator<K: Key, T, Out, C: WindowContents<K, T, Out>, S> {
    domain: TimeDomain,
    grid: Grid,
    contents: C,
    keyed: KeyedWindows<K, T, Panes<C::Accumulator>, S>,
    queue: TimerQueue<K>,
    /// The pane of the last record.
    pane: Option<PaneEnds>,
    /// By the clock: the last moment of the latest windows that have fired.
    fired: i64,
    /// By the clock: the time of the records at hand.
    now: i64,
    output: std::marker::PhantomData<fn() -> Out>,
}

impl<K, T, Out, C, S> SlidingWindowOperator<K, T, Out, C, S>
where
    K: Key,
    T: Record,
    C: WindowContents<K, T, Out>,
{
    /// The operator over records whose key `key_of` takes; `None` if the windows do not overlap.
    pub fn new(assigner: WindowAssigner, contents: C, mut lateness: Lateness<T>, key_of: S) -> Option<Self> {
        let grid = Grid::new(assigner.overlapping()?);
        if assigner.domain == TimeDomain::Processing {
            // By the clock nothing is late.
            lateness.allowed_ms = 0;
        }
        Some(Self {
            domain: assigner.domain,
            grid,
            contents,
            keyed: KeyedWindows::new(lateness, key_of),
            queue: TimerQueue::new(),
            pane: None,
            fired: i64::MIN,
            now: i64::MIN,
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
        let grid = self.grid;
        // The time of the record, and until when all windows have fired.
        let (time, passed) = match self.domain {
            TimeDomain::Event if timestamp == EventTime::MIN => return Err(no_timestamp(&self.keyed.label)),
            TimeDomain::Event => (timestamp.0, self.keyed.scope.watermark().0.saturating_add(1)),
            TimeDomain::Processing => (self.now, self.now),
        };
        let pane = grid.pane_ends(time, passed, self.pane);
        self.pane = Some(pane);
        let lateness = self.keyed.lateness;
        if self.domain == TimeDomain::Event && lateness.is_over(pane.last, self.keyed.scope.watermark()) {
            return self.keyed.on_late(record, timestamp);
        }
        let table = self.keyed.scope.backend.table_mut(self.keyed.state);
        let panes = table.get_or_insert_with(*hash, key, Panes::new);
        let (contents, is_new) = panes.pane_at(pane.start());
        self.contents.add(contents, record, timestamp);
        let next = pane.next.filter(|end| panes.next_end.is_none_or(|known| *end < known));
        if let Some(end) = next {
            panes.next_end = Some(end);
            self.call_at(end.saturating_sub(1), (*hash, key));
        }
        if is_new && lateness.allowed_ms > 0 {
            self.call_at(lateness.last_moment(pane.last), (*hash, key));
        }
        self.fire_late((*hash, key), pane.start(), output)
    }

    /// What the clock says, but never that it is a time whose windows have fired. Where it has been put back by a slide or more,
    /// all windows fire, and time begins anew.
    fn read_clock(&mut self, output: &mut Batch<Out>) -> Result<(), TaskError> {
        if self.domain == TimeDomain::Event {
            return Ok(());
        }
        let now = self.keyed.scope.time().now().0;
        let slide = self.grid.slide();
        // What waits the longest waits for a slide at most.
        if self
            .queue
            .stored()
            .is_some_and(|first| now < first.saturating_sub(slide))
        {
            self.restore_queue(i64::MAX)?;
        }
        let waits = self.queue.last().map_or(i64::MIN, |last| last.saturating_sub(slide));
        if now <= self.fired.max(waits).saturating_sub(slide) {
            while self.fire_next(i64::MAX, output)? {}
            self.fired = now.saturating_sub(1);
        }
        self.now = now.max(self.fired.saturating_add(1));
        Ok(())
    }

    /// Has [`fire`](Self::fire) called for a key at this time.
    fn call_at(&mut self, time: i64, (hash, key): (u64, &K)) {
        self.queue.push(time, hash, key.clone());
        if self.domain == TimeDomain::Processing {
            self.keyed.scope.time().alarm.set(WallTime(time));
        }
    }

    /// Calls the keys whose time is up to `until`, the earliest first, until a batch of output is full. Answers whether all were called.
    fn fire_until(&mut self, until: i64, output: &mut Batch<Out>) -> Result<bool, TaskError> {
        while output.len() < BATCH_RECORDS {
            if !self.fire_next(until, output)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Calls some of the keys of the earliest time up to `until`. Answers whether there were any.
    fn fire_next(&mut self, until: i64, output: &mut Batch<Out>) -> Result<bool, TaskError> {
        if self.queue.lacks(until) {
            self.restore_queue(until)?;
        }
        let Some((at, keys)) = self.queue.take_due(until) else {
            return Ok(false);
        };
        self.keyed.touch(&keys)?;
        let firing = Firing::new(at, &self.grid, self.keyed.lateness.allowed_ms);
        for (hash, key) in &keys {
            self.fire(&firing, (*hash, key), output)?;
        }
        self.fired = self.fired.max(at);
        Ok(true)
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
    fn fire(&mut self, firing: &Firing, (hash, key): (u64, &K), output: &mut Batch<Out>) -> Result<(), TaskError> {
        let grid = self.grid;
        let table = self.keyed.scope.backend.table_mut(self.keyed.state);
        let Some(panes) = table.get_mut(hash, key) else {
            return Ok(());
        };
        let ended = panes.next_end.filter(|end| end.saturating_sub(1) == firing.time);
        let ended = ended.map(|end| grid.window(end));
        let contents =
            ended.and_then(|window| panes.next_window(&grid, window, |to, piece| self.contents.merge(to, piece)));
        panes.forget_before(firing.useful_from);
        if ended.is_some() {
            panes.next_end = firing.end_after(panes, &grid);
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

    /// Has what is due up to `until` come out of the snapshot into the queue.
    #[cold]
    fn restore_queue(&mut self, until: i64) -> Result<(), TaskError> {
        let (grid, lateness) = (self.grid, self.keyed.lateness);
        let due = |kind, time| call_of((&grid, &lateness), kind, time).unwrap_or(i64::MAX);
        let backend = &mut self.keyed.scope.backend;
        let left = backend.restore_due(self.keyed.state, until, &due);
        self.queue
            .set_stored(left.map_err(|error| state_failed(&self.keyed.label, &error))?);
        self.collect();
        Ok(())
    }

    /// Puts what has come out of the snapshot into the queue.
    fn collect(&mut self) {
        for moment in self.keyed.scope.backend.take_arrived(self.keyed.state) {
            if let Some(time) = call_of((&self.grid, &self.keyed.lateness), moment.kind, moment.time) {
                self.queue.push(time, moment.hash, moment.key);
            }
        }
    }

    fn set_alarm(&self) {
        if let (TimeDomain::Processing, Some(next)) = (self.domain, self.queue.next()) {
            self.keyed.scope.time().alarm.set(WallTime(next));
        }
    }
}

/// When a key is called for one of the [moments](streamd_state::Timed) of its panes, if it is.
fn call_of<T>((grid, lateness): (&Grid, &Lateness<T>), kind: usize, time: i64) -> Option<i64> {
    match kind {
        NEXT_END => Some(time.saturating_sub(1)),
        PANE if lateness.allowed_ms > 0 => Some(lateness.last_moment(grid.last_end(time))),
        _of_no_use => None,
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
        self.restore_queue(i64::MIN)?;
        self.set_alarm();
        Ok(())
    }

    fn restore_more(&mut self) -> Result<Restoring, TaskError> {
        let restoring = self.keyed.scope.restore_more(&self.keyed.label)?;
        self.collect();
        Ok(restoring)
    }

    fn holds_back(&self) -> bool {
        true
    }

    fn process(&mut self, input: &mut Batch<T>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        self.read_clock(output)?;
        let keys = self.keyed.keys_of(input);
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
        match self.domain {
            TimeDomain::Event => self.fire_until(time.0, output),
            TimeDomain::Processing => Ok(true),
        }
    }

    fn processing_time(&mut self, now: WallTime, output: &mut Batch<Out>) -> Result<(), TaskError> {
        if self.domain == TimeDomain::Processing {
            self.fire_until(now.0, output)?;
            self.set_alarm();
        }
        Ok(())
    }

    /// Windows of the clock that wait for their time will get no more records: they give their results now, rather than never.
    fn end_of_data(&mut self, output: &mut Batch<Out>) -> Result<(), TaskError> {
        while self.domain == TimeDomain::Processing && self.fire_next(i64::MAX, output)? {}
        Ok(())
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
