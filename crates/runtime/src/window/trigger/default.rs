//! What a window has where nobody says more.

use streamd_core::time::{EventTime, WallTime};

use super::{EventTimeTrigger, ProcessingTimeTrigger, Trigger, TriggerContext, TriggerResult};
use crate::window::{TimeDomain, TimeWindow};

/// Never fires: global windows without a trigger of their own.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverTrigger;

impl<T> Trigger<T> for NeverTrigger {
    type State = ();

    #[inline]
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

    #[inline]
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

    fn fires_at_end(&self) -> Option<TimeDomain> {
        match self {
            Self::EventTime => Some(TimeDomain::Event),
            Self::ProcessingTime => Some(TimeDomain::Processing),
            Self::Never => None,
        }
    }

    fn on_merge(&mut self, other: (), window: TimeWindow, context: &mut TriggerContext<'_, ()>) {
        match self {
            Self::EventTime => Trigger::<T>::on_merge(&mut EventTimeTrigger, other, window, context),
            Self::ProcessingTime => Trigger::<T>::on_merge(&mut ProcessingTimeTrigger, other, window, context),
            Self::Never => {}
        }
    }
}
