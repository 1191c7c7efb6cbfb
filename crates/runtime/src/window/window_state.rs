//! What is kept of a window, and how it lies in snapshots.

use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::state::State;

use super::TimeWindow;
use super::time_window::field;
use super::trigger::WindowTimers;

/// A window of a key.
#[derive(Debug, Clone)]
pub(super) struct WindowState<A, S> {
    pub(super) window: TimeWindow,
    /// `None` where they were purged.
    pub(super) contents: Option<A>,
    pub(super) trigger: S,
    pub(super) timers: WindowTimers,
}

impl<A: State, S: State> State for WindowState<A, S> {
    fn data_type() -> DataType {
        DataType::Struct {
            name: "Window".to_owned(),
            fields: vec![
                field::<i64>("start"),
                field::<i64>("end"),
                field::<Option<A>>("contents"),
                field::<S>("trigger"),
                field::<Vec<i64>>("event_timers"),
                field::<Vec<i64>>("processing_timers"),
            ],
        }
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.window.encode(row);
        self.contents.encode(row);
        self.trigger.encode(row);
        self.timers.event.encode(row);
        self.timers.processing.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            window: TimeWindow::decode(row)?,
            contents: Option::decode(row)?,
            trigger: S::decode(row)?,
            timers: WindowTimers {
                event: Vec::decode(row)?,
                processing: Vec::decode(row)?,
            },
        })
    }

    fn describe_evolution(evolution: &mut streamd_core::evolution::Evolution) {
        A::describe_evolution(evolution);
        S::describe_evolution(evolution);
    }
}
