//! Fires by the number of records.

use streamd_core::time::EventTime;

use super::{Trigger, TriggerContext, TriggerResult};
use crate::window::TimeWindow;

/// Fires at every so many records of a window.
#[derive(Debug, Clone, Copy)]
pub struct CountTrigger {
    count: u64,
}

impl CountTrigger {
    /// Fires at every `count` records, at least 1.
    pub fn of(count: u64) -> Self {
        Self { count }
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

    fn check(&self) -> Result<(), String> {
        match self.count {
            0 => Err("a trigger that fires at every 0 records: at least 1 is needed".to_owned()),
            _ => Ok(()),
        }
    }

    fn on_merge(&mut self, other: u64, _window: TimeWindow, context: &mut TriggerContext<'_, u64>) {
        *context.state += other;
    }
}
