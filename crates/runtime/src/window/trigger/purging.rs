//! Fires and drops the contents.

use streamd_core::time::{EventTime, WallTime};

use super::{Trigger, TriggerContext, TriggerResult};
use crate::window::TimeWindow;

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

    fn check(&self) -> Result<(), String> {
        self.trigger.check()
    }

    fn on_merge(&mut self, other: G::State, window: TimeWindow, context: &mut TriggerContext<'_, G::State>) {
        self.trigger.on_merge(other, window, context);
    }
}
