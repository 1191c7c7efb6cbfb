//! When a window gives its result.

use std::time::Duration;

use streamd_core::state::State;
use streamd_core::time::{EventTime, WallTime};

use super::TimeWindow;
use crate::timer::{TimeService, Timer};

/// What a trigger decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// The window gives its result and keeps its contents.
    Fire,
    /// The window drops its contents without a result.
    Purge,
    /// The window gives its result and drops its contents.
    FireAndPurge,
}

impl TriggerResult {
    pub(super) fn fires(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    pub(super) fn purges(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// Decides when a window gives its result: asked at every record, and at the timers that it sets itself. Flink's noun.
pub trait Trigger<T>: Clone + Send + 'static {
    /// What it remembers of one window of one key: kept in snapshots with the window.
    type State: State + Default;

    /// A record has come into the window.
    fn on_element(
        &mut self,
        record: &T,
        timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult;

    /// The watermark has come to an event-time timer that the trigger has set for this window.
    fn on_event_time(
        &mut self,
        _time: EventTime,
        _window: TimeWindow,
        _context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// The clock has come to a processing-time timer that the trigger has set for this window.
    fn on_processing_time(
        &mut self,
        _time: WallTime,
        _window: TimeWindow,
        _context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// Whether it does nothing but fire where the watermark passes the end of the window, and at late records: overlapping windows
    /// may then share what they keep.
    #[doc(hidden)]
    fn fires_at_end(&self) -> bool {
        false
    }

    /// A window has become one with another, whose state this is: `window` is what both are now. Timers of both are gone, and are
    /// to be set anew.
    fn on_merge(&mut self, other: Self::State, window: TimeWindow, context: &mut TriggerContext<'_, Self::State>);
}

/// The timers of one window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WindowTimers {
    /// Sorted.
    pub(super) event: Vec<i64>,
    /// Sorted.
    pub(super) processing: Vec<i64>,
}

/// What a trigger may know and do.
pub struct TriggerContext<'a, S> {
    /// What the trigger remembers of the window.
    pub state: &'a mut S,
    pub(super) timers: &'a mut WindowTimers,
    /// Timers that were not set before.
    pub(super) registered: &'a mut Vec<Timer>,
    pub(super) time: &'a TimeService,
}

impl<S> TriggerContext<'_, S> {
    /// How far the event time has come.
    pub fn current_watermark(&self) -> EventTime {
        self.time.watermark
    }

    /// What the clock of the machine says.
    pub fn current_processing_time(&self) -> WallTime {
        self.time.now()
    }

    /// Asks for [`Trigger::on_event_time`] at this time.
    pub fn register_event_time_timer(&mut self, time: EventTime) {
        if insert(&mut self.timers.event, time.0) {
            self.registered.push(Timer::EventTime(time));
        }
    }

    /// Asks for [`Trigger::on_processing_time`] at this time.
    pub fn register_processing_time_timer(&mut self, time: WallTime) {
        if insert(&mut self.timers.processing, time.0) {
            self.registered.push(Timer::ProcessingTime(time));
        }
    }

    /// Forgets an event-time timer of the window.
    pub fn delete_event_time_timer(&mut self, time: EventTime) {
        remove(&mut self.timers.event, time.0);
    }

    /// Forgets a processing-time timer of the window.
    pub fn delete_processing_time_timer(&mut self, time: WallTime) {
        remove(&mut self.timers.processing, time.0);
    }
}

fn insert(times: &mut Vec<i64>, time: i64) -> bool {
    match times.binary_search(&time) {
        Ok(_) => false,
        Err(position) => {
            times.insert(position, time);
            true
        }
    }
}

/// Takes a time out; `false` if it was not in.
pub(super) fn remove(times: &mut Vec<i64>, time: i64) -> bool {
    times.binary_search(&time).is_ok_and(|position| {
        times.remove(position);
        true
    })
}

/// Fires when the watermark passes the end of the window, and again at every late record. The default in event time.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventTimeTrigger;

impl<T> Trigger<T> for EventTimeTrigger {
    type State = ();

    fn on_element(
        &mut self,
        _record: &T,
        _timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        if window.max_timestamp() <= context.current_watermark() {
            return TriggerResult::Fire;
        }
        context.register_event_time_timer(window.max_timestamp());
        TriggerResult::Continue
    }

    fn on_event_time(&mut self, time: EventTime, window: TimeWindow, _: &mut TriggerContext<'_, ()>) -> TriggerResult {
        if time == window.max_timestamp() {
            TriggerResult::Fire
        } else {
            TriggerResult::Continue
        }
    }

    fn fires_at_end(&self) -> bool {
        true
    }

    fn on_merge(&mut self, _other: (), window: TimeWindow, context: &mut TriggerContext<'_, ()>) {
        // Behind the watermark there is nothing to wait for: the next late record fires.
        if window.max_timestamp() > context.current_watermark() {
            context.register_event_time_timer(window.max_timestamp());
        }
    }
}

/// Fires when the clock passes the end of the window. The default in processing time.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessingTimeTrigger;

impl<T> Trigger<T> for ProcessingTimeTrigger {
    type State = ();

    fn on_element(
        &mut self,
        _record: &T,
        _timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        context.register_processing_time_timer(WallTime(window.max_timestamp().0));
        TriggerResult::Continue
    }

    fn on_processing_time(&mut self, _: WallTime, _: TimeWindow, _: &mut TriggerContext<'_, ()>) -> TriggerResult {
        TriggerResult::Fire
    }

    fn on_merge(&mut self, _other: (), window: TimeWindow, context: &mut TriggerContext<'_, ()>) {
        context.register_processing_time_timer(WallTime(window.max_timestamp().0));
    }
}

/// Never fires: global windows without a trigger of their own.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverTrigger;

impl<T> Trigger<T> for NeverTrigger {
    type State = ();

    fn on_element(
        &mut self,
        _record: &T,
        _timestamp: EventTime,
        _window: TimeWindow,
        _context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    fn on_merge(&mut self, _other: (), _window: TimeWindow, _context: &mut TriggerContext<'_, ()>) {}
}

/// The trigger of windows that were given none: by the end of the window on the clock that it goes by; never for the global
/// window.
#[derive(Debug, Clone, Copy)]
pub enum DefaultTrigger {
    /// As [`EventTimeTrigger`].
    EventTime,
    /// As [`ProcessingTimeTrigger`].
    ProcessingTime,
    /// As [`NeverTrigger`].
    Never,
}

impl<T> Trigger<T> for DefaultTrigger {
    type State = ();

    fn on_element(
        &mut self,
        record: &T,
        timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        match self {
            Self::EventTime => EventTimeTrigger.on_element(record, timestamp, window, context),
            Self::ProcessingTime => ProcessingTimeTrigger.on_element(record, timestamp, window, context),
            Self::Never => TriggerResult::Continue,
        }
    }

    fn on_event_time(
        &mut self,
        time: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        Trigger::<T>::on_event_time(&mut EventTimeTrigger, time, window, context)
    }

    fn on_processing_time(&mut self, _: WallTime, _: TimeWindow, _: &mut TriggerContext<'_, ()>) -> TriggerResult {
        TriggerResult::Fire
    }

    fn fires_at_end(&self) -> bool {
        matches!(self, Self::EventTime)
    }

    fn on_merge(&mut self, other: (), window: TimeWindow, context: &mut TriggerContext<'_, ()>) {
        match self {
            Self::EventTime => Trigger::<T>::on_merge(&mut EventTimeTrigger, other, window, context),
            Self::ProcessingTime => Trigger::<T>::on_merge(&mut ProcessingTimeTrigger, other, window, context),
            Self::Never => {}
        }
    }
}

/// Fires at every so many records of a window.
#[derive(Debug, Clone, Copy)]
pub struct CountTrigger {
    count: u64,
}

impl CountTrigger {
    /// Fires at every `count` records; 0 counts as 1.
    pub fn of(count: u64) -> Self {
        Self { count: count.max(1) }
    }
}

impl<T> Trigger<T> for CountTrigger {
    type State = u64;

    fn on_element(
        &mut self,
        _record: &T,
        _timestamp: EventTime,
        _window: TimeWindow,
        context: &mut TriggerContext<'_, u64>,
    ) -> TriggerResult {
        *context.state += 1;
        if *context.state < self.count {
            return TriggerResult::Continue;
        }
        *context.state = 0;
        TriggerResult::Fire
    }

    fn on_merge(&mut self, other: u64, _window: TimeWindow, context: &mut TriggerContext<'_, u64>) {
        *context.state += other;
    }
}

/// Fires again and again while the window is open, each time the watermark passes a multiple of an interval, and at its end.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousEventTimeTrigger {
    interval: i64,
}

impl ContinuousEventTimeTrigger {
    /// With this interval; less than a millisecond counts as one.
    pub fn of(interval: Duration) -> Self {
        Self {
            interval: interval_ms(interval),
        }
    }

    fn register_next(self, after: i64, window: TimeWindow, context: &mut TriggerContext<'_, Option<i64>>) {
        let next = next_multiple(after, self.interval).min(window.max_timestamp().0);
        *context.state = Some(next);
        context.register_event_time_timer(EventTime(next));
    }
}

impl<T> Trigger<T> for ContinuousEventTimeTrigger {
    /// The next time to fire before the end.
    type State = Option<i64>;

    fn on_element(
        &mut self,
        _record: &T,
        timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        if window.max_timestamp() <= context.current_watermark() {
            return TriggerResult::Fire;
        }
        context.register_event_time_timer(window.max_timestamp());
        if context.state.is_none() {
            self.register_next(timestamp.0, window, context);
        }
        TriggerResult::Continue
    }

    fn on_event_time(
        &mut self,
        time: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        if time == window.max_timestamp() {
            return TriggerResult::Fire;
        }
        if *context.state != Some(time.0) {
            return TriggerResult::Continue;
        }
        self.register_next(time.0, window, context);
        TriggerResult::Fire
    }

    fn on_merge(&mut self, other: Option<i64>, window: TimeWindow, context: &mut TriggerContext<'_, Option<i64>>) {
        if window.max_timestamp() > context.current_watermark() {
            context.register_event_time_timer(window.max_timestamp());
        }
        let next = [*context.state, other].into_iter().flatten().min();
        *context.state = next;
        if let Some(next) = next {
            context.register_event_time_timer(EventTime(next));
        }
    }
}

/// Fires again and again, at every multiple of an interval on the clock, as long as the window has records.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousProcessingTimeTrigger {
    interval: i64,
}

impl ContinuousProcessingTimeTrigger {
    /// With this interval; less than a millisecond counts as one.
    pub fn of(interval: Duration) -> Self {
        Self {
            interval: interval_ms(interval),
        }
    }
}

impl<T> Trigger<T> for ContinuousProcessingTimeTrigger {
    /// The next time to fire.
    type State = Option<i64>;

    fn on_element(
        &mut self,
        _record: &T,
        _timestamp: EventTime,
        _window: TimeWindow,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        if context.state.is_none() {
            let next = next_multiple(context.current_processing_time().0, self.interval);
            *context.state = Some(next);
            context.register_processing_time_timer(WallTime(next));
        }
        TriggerResult::Continue
    }

    fn on_processing_time(
        &mut self,
        time: WallTime,
        _window: TimeWindow,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        let next = next_multiple(time.0, self.interval);
        *context.state = Some(next);
        context.register_processing_time_timer(WallTime(next));
        TriggerResult::Fire
    }

    fn on_merge(&mut self, other: Option<i64>, _window: TimeWindow, context: &mut TriggerContext<'_, Option<i64>>) {
        let next = [*context.state, other].into_iter().flatten().min();
        *context.state = next;
        if let Some(next) = next {
            context.register_processing_time_timer(WallTime(next));
        }
    }
}

fn interval_ms(interval: Duration) -> i64 {
    i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// The first multiple of an interval after a time.
fn next_multiple(time: i64, interval: i64) -> i64 {
    time.saturating_sub(time.rem_euclid(interval)).saturating_add(interval)
}

/// Another trigger, whose every firing drops the contents as well.
#[derive(Debug, Clone, Copy)]
pub struct PurgingTrigger<G> {
    trigger: G,
}

impl<G> PurgingTrigger<G> {
    /// Purges whenever this trigger fires.
    pub fn of(trigger: G) -> Self {
        Self { trigger }
    }
}

fn purging(result: TriggerResult) -> TriggerResult {
    if result.fires() {
        TriggerResult::FireAndPurge
    } else {
        result
    }
}

impl<T, G: Trigger<T>> Trigger<T> for PurgingTrigger<G> {
    type State = G::State;

    fn on_element(
        &mut self,
        record: &T,
        timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, G::State>,
    ) -> TriggerResult {
        purging(self.trigger.on_element(record, timestamp, window, context))
    }

    fn on_event_time(
        &mut self,
        time: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, G::State>,
    ) -> TriggerResult {
        purging(self.trigger.on_event_time(time, window, context))
    }

    fn on_processing_time(
        &mut self,
        time: WallTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, G::State>,
    ) -> TriggerResult {
        purging(self.trigger.on_processing_time(time, window, context))
    }

    fn on_merge(&mut self, other: G::State, window: TimeWindow, context: &mut TriggerContext<'_, G::State>) {
        self.trigger.on_merge(other, window, context);
    }
}
