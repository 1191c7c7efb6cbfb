//! A piece of time.

use streamd_core::row::{DataType, Field, RowError, RowReader};
use streamd_core::state::State;
use streamd_core::time::EventTime;

/// The milliseconds from `start` to `end`, without `end` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct TimeWindow {
    /// The first millisecond.
    pub start: i64,
    /// The first millisecond that is not in it any more.
    pub end: i64,
}

impl TimeWindow {
    /// All of time: the window of [`GlobalWindows`](super::GlobalWindows).
    pub const GLOBAL: Self = Self {
        start: i64::MIN,
        end: i64::MAX,
    };

    /// The last millisecond in it: the timestamp of its results.
    pub fn max_timestamp(&self) -> EventTime {
        EventTime(self.end.saturating_sub(1))
    }

    /// Whether a moment is in it.
    #[inline]
    pub(super) fn contains(&self, time: i64) -> bool {
        self.start <= time && time < self.end
    }

    /// Whether the two have a moment in common, or touch.
    pub fn intersects(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The smallest window that both are in.
    #[must_use]
    pub fn cover(&self, other: &Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

impl State for TimeWindow {
    fn data_type() -> DataType {
        DataType::Struct {
            name: "TimeWindow".to_owned(),
            fields: vec![field::<i64>("start"), field::<i64>("end")],
        }
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.start.encode(row);
        self.end.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            start: i64::decode(row)?,
            end: i64::decode(row)?,
        })
    }
}

/// A field of a struct in state.
pub(super) fn field<T: State>(name: &str) -> Field {
    Field {
        name: name.to_owned(),
        data_type: T::data_type(),
    }
}
