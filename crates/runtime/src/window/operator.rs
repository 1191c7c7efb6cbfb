//! Windows of any shape, with any trigger.

use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::state::Key;
use streamd_core::time::{EventTime, WallTime};
use streamd_exchange::Batch;
use streamd_state::Restoring;

use super::assigner::TimeDomain;
use super::keyed_windows::KeyedWindows;
use super::trigger::WindowTimers;
use super::window_state::{END, EVENT_TIMER, PROCESSING_TIMER, WindowState, Windows};
use super::{
    Lateness, TimeWindow, Trigger, TriggerContext, TriggerResult, WindowAssigner, WindowContents, WindowContext,
};
use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;
use crate::keyed_scope::KeyedScope;
use crate::record::{BATCH_RECORDS, Collector, Record};
use crate::side_output::SideOutputs;
use crate::snapshot::state_failed;
use crate::timer::{Timer, TimerQueue};

/// Cuts a keyed stream into windows and emits their results.
pub struct WindowOperator<K: Key, T, Out, C: WindowContents<K, T, Out>, G: Trigger<T>, S> {
    assigner: WindowAssigner,
    trigger: G,
    contents: C,
    keyed: KeyedWindows<K, T, Windows<C::Accumulator, G::State>, S>,
    event_queue: TimerQueue<K>,
    processing_queue: TimerQueue<K>,
    /// The windows of the record at hand.
    assigned: Vec<TimeWindow>,
    /// Timers that the trigger has just set.
    registered: Vec<Timer>,
    output: std::marker::PhantomData<fn() -> Out>,
}

/// How a window operator cuts, fires, and treats what is late.
#[derive(Debug, Clone)]
pub struct WindowOptions<T, G> {
    /// Which windows a record is in.
    pub assigner: WindowAssigner,
    /// When they fire.
    pub trigger: G,
    /// What becomes of late records.
    pub lateness: Lateness<T>,
}

impl<K, T, Out, C, G, S> WindowOperator<K, T, Out, C, G, S>
where
    K: Key,
    T: Record,
    C: WindowContents<K, T, Out>,
    G: Trigger<T>,
{
    /// The operator over records whose key `key_of` takes.
    pub fn new(options: WindowOptions<T, G>, contents: C, key_of: S) -> Self {
        Self {
            assigner: options.assigner,
            trigger: options.trigger,
            contents,
            keyed: KeyedWindows::new(options.lateness, key_of),
            event_queue: TimerQueue::new(),
            processing_queue: TimerQueue::new(),
            assigned: Vec::new(),
            registered: Vec::new(),
            output: std::marker::PhantomData,
        }
    }

    /// The state that the operator keeps.
    pub fn states() -> Vec<StateDescriptor> {
        KeyedWindows::<K, T, Windows<C::Accumulator, G::State>, S>::states()
    }

    fn is_over(&self, window: TimeWindow) -> bool {
        self.assigner.domain == TimeDomain::Event
            && window != TimeWindow::GLOBAL
            && self.keyed.lateness.is_over(window.end, self.keyed.scope.watermark())
    }

    fn on_record(
        &mut self,
        (hash, key): &(u64, K),
        record: T,
        timestamp: EventTime,
        output: &mut Batch<Out>,
    ) -> Result<(), TaskError> {
        let time = match self.assigner.domain {
            TimeDomain::Processing => self.keyed.scope.time().now().0,
            TimeDomain::Event if timestamp == EventTime::MIN && self.assigner.needs_timestamps() => {
                return Err(no_timestamp(&self.keyed.label));
            }
            TimeDomain::Event => timestamp.0,
        };
        self.assigner.assign(time, &mut self.assigned);
        match self.assigned[..] {
            // The usual case, and the cheapest.
            [window] if !self.assigner.is_merging() => match self.is_over(window) {
                false => self.add((*hash, key), window, (record, timestamp), output),
                true => self.keyed.on_late(record, timestamp),
            },
            _ => self.add_to_all((*hash, key), (record, timestamp), output),
        }
    }

    /// Adds a record to the windows that it was assigned to, or to what they become by it.
    fn add_to_all(
        &mut self,
        (hash, key): (u64, &K),
        (record, timestamp): (T, EventTime),
        output: &mut Batch<Out>,
    ) -> Result<(), TaskError> {
        let assigned = std::mem::take(&mut self.assigned);
        let mut record = Some(record);
        let mut taken = false;
        let count = assigned.len();
        for (position, window) in assigned.iter().enumerate() {
            let window = if self.assigner.is_merging() {
                self.merged(hash, key, *window)
            } else {
                *window
            };
            if self.is_over(window) {
                continue;
            }
            taken = true;
            let last = position + 1 == count;
            let element = if last { record.take() } else { record.clone() };
            if let Some(element) = element {
                self.add((hash, key), window, (element, timestamp), output)?;
            }
        }
        self.assigned = assigned;
        if !taken && let Some(record) = record {
            self.keyed.on_late(record, timestamp)?;
        }
        Ok(())
    }

    /// Adds a record to a window, and asks the trigger.
    fn add(
        &mut self,
        (hash, key): (u64, &K),
        window: TimeWindow,
        (record, timestamp): (T, EventTime),
        output: &mut Batch<Out>,
    ) -> Result<(), TaskError> {
        let (domain, lateness) = (self.assigner.domain, &self.keyed.lateness);
        let KeyedScope {
            backend, time, sides, ..
        } = &mut self.keyed.scope;
        let time = time.as_ref().expect("an operator is opened before it is called");
        let windows = backend
            .table_mut(self.keyed.state)
            .get_or_insert_with(hash, key, Windows::new);
        let (entry, is_new) = windows.of(window);
        let mut context = TriggerContext {
            state: &mut entry.trigger,
            timers: &mut entry.timers,
            registered: &mut self.registered,
            time,
        };
        let result = self.trigger.on_element(&record, timestamp, window, &mut context);
        if is_new
            && let Some(cleanup) = cleanup_of(domain, lateness, window)
            && !self.registered.contains(&cleanup)
        {
            self.registered.push(cleanup);
        }
        self.contents.add(&mut entry.contents, record, timestamp);
        let mut context = WindowContext {
            key,
            window,
            watermark: time.watermark,
            sides,
        };
        let done = act(&mut self.contents, result, &mut context, &mut entry.contents, output);
        done.map_err(|error| user_error(&self.keyed.label, &*error))?;
        // Most records find their window, with its timers.
        if !self.registered.is_empty() {
            self.queue_registered((hash, key));
        }
        Ok(())
    }

    /// Puts the timers that the trigger has just set into the queues.
    fn queue_registered(&mut self, (hash, key): (u64, &K)) {
        for timer in self.registered.drain(..) {
            match timer {
                Timer::EventTime(at) => self.event_queue.push(at.0, hash, key.clone()),
                Timer::ProcessingTime(at) => {
                    self.processing_queue.push(at.0, hash, key.clone());
                    self.keyed.scope.time().alarm.set(at);
                }
            }
        }
    }

    /// Makes one window of this one and all that it touches, if there are any.
    fn merged(&mut self, hash: u64, key: &K, window: TimeWindow) -> TimeWindow {
        let KeyedScope { backend, time, .. } = &mut self.keyed.scope;
        let time = time.as_ref().expect("an operator is opened before it is called");
        let Some(windows) = backend.table_mut(self.keyed.state).get_mut(hash, key) else {
            return window;
        };
        let known = windows.iter().map(|entry| entry.window);
        let touched = known.filter(|known| known.intersects(&window));
        // What touches the cover touched the window itself: sessions of one key lie apart.
        let cover = touched.clone().fold(window, |cover, known| cover.cover(&known));
        if touched.eq([cover]) {
            return cover;
        }
        let mut merging = windows.take_if(|entry| entry.window.intersects(&window));
        merging.sort_by_key(|entry| entry.window);
        let mut merging = merging.into_iter();
        let Some(mut whole) = merging.next() else {
            return window;
        };
        whole.window = cover;
        whole.timers = WindowTimers::default();
        // The first is merged with nothing, so that its timers are set for the window that it is now.
        let others =
            std::iter::once((None, G::State::default())).chain(merging.map(|entry| (entry.contents, entry.trigger)));
        for (contents, state) in others {
            if let Some(contents) = contents {
                self.contents.merge(&mut whole.contents, contents);
            }
            let mut context = TriggerContext {
                state: &mut whole.trigger,
                timers: &mut whole.timers,
                registered: &mut self.registered,
                time,
            };
            self.trigger.on_merge(state, cover, &mut context);
        }
        windows.push(whole);
        let cleanup = cleanup_of(self.assigner.domain, &self.keyed.lateness, cover);
        self.registered.extend(cleanup);
        self.queue_registered((hash, key));
        cover
    }

    /// Calls the windows of these keys that have such a timer, and forgets those that are over.
    fn fire(&mut self, timer: Timer, keys: &[(u64, K)], output: &mut Batch<Out>) -> Result<(), TaskError> {
        self.keyed.touch(keys)?;
        for (hash, key) in keys {
            self.fire_key((*hash, key), timer, output)?;
        }
        Ok(())
    }

    fn fire_key(&mut self, (hash, key): (u64, &K), timer: Timer, output: &mut Batch<Out>) -> Result<(), TaskError> {
        let (domain, lateness) = (self.assigner.domain, self.keyed.lateness);
        let KeyedScope {
            backend, time, sides, ..
        } = &mut self.keyed.scope;
        let time = time.as_ref().expect("an operator is opened before it is called");
        let table = backend.table_mut(self.keyed.state);
        let Some(windows) = table.get_mut(hash, key) else {
            return Ok(());
        };
        for entry in windows.iter_mut() {
            let WindowState {
                window,
                contents,
                trigger: state,
                timers,
            } = entry;
            let set = match timer {
                Timer::EventTime(at) => timers.event.remove(at.0),
                Timer::ProcessingTime(at) => timers.processing.remove(at.0),
            };
            if !set {
                continue;
            }
            let mut context = TriggerContext {
                state,
                timers,
                registered: &mut self.registered,
                time,
            };
            let result = match timer {
                Timer::EventTime(at) => self.trigger.on_event_time(at, *window, &mut context),
                Timer::ProcessingTime(at) => self.trigger.on_processing_time(at, *window, &mut context),
            };
            let mut context = WindowContext {
                key,
                window: *window,
                watermark: time.watermark,
                sides,
            };
            let done = act(&mut self.contents, result, &mut context, contents, output);
            done.map_err(|error| user_error(&self.keyed.label, &*error))?;
        }
        windows.retain(|entry| match (cleanup_of(domain, &lateness, entry.window), timer) {
            (Some(Timer::EventTime(last)), Timer::EventTime(at)) => last > at,
            (Some(Timer::ProcessingTime(last)), Timer::ProcessingTime(at)) => last > at,
            (Some(Timer::EventTime(_)), Timer::ProcessingTime(_))
            | (Some(Timer::ProcessingTime(_)), Timer::EventTime(_))
            | (None, _) => true,
        });
        if windows.is_empty() {
            table.remove(hash, key);
        }
        self.queue_registered((hash, key));
        Ok(())
    }

    /// Has what is due until then come out of the snapshot into the queues.
    #[cold]
    fn restore_queue(&mut self, until: Timer) -> Result<(), TaskError> {
        let (domain, lateness) = (self.assigner.domain, self.keyed.lateness);
        let due = |kind, time| match (until, timer_of((domain, &lateness), kind, time)) {
            (Timer::EventTime(_), Some(Timer::EventTime(at))) => at.0,
            (Timer::ProcessingTime(_), Some(Timer::ProcessingTime(at))) => at.0,
            _of_the_other_clock => i64::MAX,
        };
        let (queue, until) = match until {
            Timer::EventTime(until) => (&mut self.event_queue, until.0),
            Timer::ProcessingTime(until) => (&mut self.processing_queue, until.0),
        };
        let left = self.keyed.scope.backend.restore_due(self.keyed.state, until, &due);
        queue.set_stored(left.map_err(|error| state_failed(&self.keyed.label, &error))?);
        self.collect();
        Ok(())
    }

    /// Puts what has come out of the snapshot into the queues.
    fn collect(&mut self) {
        let (domain, lateness) = (self.assigner.domain, self.keyed.lateness);
        for moment in self.keyed.scope.backend.take_arrived(self.keyed.state) {
            match timer_of((domain, &lateness), moment.kind, moment.time) {
                Some(Timer::EventTime(at)) => self.event_queue.push(at.0, moment.hash, moment.key),
                Some(Timer::ProcessingTime(at)) => self.processing_queue.push(at.0, moment.hash, moment.key),
                None => {}
            }
        }
    }

    fn set_alarm(&self) {
        if let (Some(next), Some(time)) = (self.processing_queue.next(), &self.keyed.scope.time) {
            time.alarm.set(WallTime(next));
        }
    }
}

/// When a window is forgotten, on the clock that it goes by; `None` for the global window.
fn cleanup_of<T>(domain: TimeDomain, lateness: &Lateness<T>, window: TimeWindow) -> Option<Timer> {
    (window != TimeWindow::GLOBAL).then(|| cleanup_at(domain, lateness, window.end))
}

/// When a window that ends there is forgotten.
fn cleanup_at<T>(domain: TimeDomain, lateness: &Lateness<T>, end: i64) -> Timer {
    match domain {
        TimeDomain::Event => Timer::EventTime(EventTime(lateness.last_moment(end))),
        TimeDomain::Processing => Timer::ProcessingTime(WallTime(end.saturating_sub(1))),
    }
}

/// When a key is called for one of the [moments](streamd_state::Timed) of its windows.
fn timer_of<T>((domain, lateness): (TimeDomain, &Lateness<T>), kind: usize, time: i64) -> Option<Timer> {
    match kind {
        EVENT_TIMER => Some(Timer::EventTime(EventTime(time))),
        PROCESSING_TIMER => Some(Timer::ProcessingTime(WallTime(time))),
        END => Some(cleanup_at(domain, lateness, time)),
        _unknown => None,
    }
}

/// Does to a window what its trigger has decided.
fn act<K, T, Out, C: WindowContents<K, T, Out>>(
    function: &mut C,
    result: TriggerResult,
    context: &mut WindowContext<'_, K>,
    contents: &mut Option<C::Accumulator>,
    output: &mut Batch<Out>,
) -> Result<(), crate::error::BoxError> {
    if result.fires()
        && let Some(accumulator) = contents
    {
        let mut collector = Collector::new(output, context.window.max_timestamp());
        function.emit(context, accumulator, &mut collector)?;
    }
    if result.purges() {
        *contents = None;
    }
    Ok(())
}

/// The user's function has failed.
pub(super) fn user_error(label: &str, error: &(dyn std::error::Error + 'static)) -> TaskError {
    TaskError::user(format_args!("the window function of operator `{label}` failed"), error)
}

/// A record without a timestamp has come to windows of event time.
pub(super) fn no_timestamp(label: &str) -> TaskError {
    #[derive(Debug, thiserror::Error)]
    #[error(
        "a record without a timestamp cannot be put into a window of event time: call `assign_timestamps_and_watermarks` on the stream \
         before it; `i64::MIN` stands for no timestamp"
    )]
    struct NoTimestamp;
    TaskError::user(format_args!("operator `{label}` failed"), &NoTimestamp)
}

impl<K, T, Out, C, G, S> Operator<T, Out> for WindowOperator<K, T, Out, C, G, S>
where
    K: Key,
    T: Record,
    Out: Send + 'static,
    C: WindowContents<K, T, Out>,
    G: Trigger<T>,
    S: FnMut(&T) -> K + Send + 'static,
{
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.keyed.open(identity, context)?;
        self.restore_queue(Timer::EventTime(EventTime::MIN))?;
        self.restore_queue(Timer::ProcessingTime(WallTime(i64::MIN)))?;
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
        if self.event_queue.lacks(time.0) {
            self.restore_queue(Timer::EventTime(time))?;
        }
        while output.len() < BATCH_RECORDS {
            let Some((at, keys)) = self.event_queue.take_due(time.0) else {
                return Ok(true);
            };
            self.fire(Timer::EventTime(EventTime(at)), &keys, output)?;
        }
        Ok(false)
    }

    fn processing_time(&mut self, now: WallTime, output: &mut Batch<Out>) -> Result<(), TaskError> {
        if self.processing_queue.lacks(now.0) {
            self.restore_queue(Timer::ProcessingTime(now))?;
        }
        while output.len() < BATCH_RECORDS {
            let Some((at, keys)) = self.processing_queue.take_due(now.0) else {
                break;
            };
            self.fire(Timer::ProcessingTime(WallTime(at)), &keys, output)?;
        }
        self.set_alarm();
        Ok(())
    }

    /// Windows of the clock that wait for their time will get no more records: they give their results now, rather than never.
    fn end_of_data(&mut self, output: &mut Batch<Out>) -> Result<(), TaskError> {
        self.restore_queue(Timer::ProcessingTime(WallTime(i64::MAX)))?;
        // A trigger may ask to be called again and again: not beyond what is asked for now.
        let last = self.processing_queue.last().unwrap_or(i64::MIN);
        while let Some((at, keys)) = self.processing_queue.take_due(last) {
            self.fire(Timer::ProcessingTime(WallTime(at)), &keys, output)?;
        }
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
