//! Who says how far the time of a stream has come.

use streamd_core::time::EventTime;

/// Watches the timestamps of a stream and says how far its time has come. Flink's noun.
pub trait WatermarkGenerator<T>: Clone + Send + 'static {
    /// A record has passed. May answer with a watermark that is sent at once, behind the record: for streams in which records
    /// themselves say how far the time has come.
    fn on_event(&mut self, record: &T, timestamp: EventTime) -> Option<EventTime>;

    /// How far the time has come; [`EventTime::MIN`] while nothing is known. Asked now and then. One that is lower than the last changes
    /// nothing.
    fn on_periodic_emit(&mut self) -> EventTime;
}

/// Records come at most so much later than records with a higher timestamp.
#[derive(Debug, Clone)]
pub struct BoundedOutOfOrderness {
    latest: EventTime,
    bound_ms: i64,
}

impl BoundedOutOfOrderness {
    /// With this bound, in milliseconds; 0: timestamps never fall.
    pub fn new(bound_ms: i64) -> Self {
        Self {
            latest: EventTime::MIN,
            bound_ms,
        }
    }
}

impl<T> WatermarkGenerator<T> for BoundedOutOfOrderness {
    #[inline]
    fn on_event(&mut self, _record: &T, timestamp: EventTime) -> Option<EventTime> {
        self.latest = self.latest.max(timestamp);
        None
    }

    fn on_periodic_emit(&mut self) -> EventTime {
        match self.latest {
            EventTime::MIN => EventTime::MIN,
            latest => latest.plus(-self.bound_ms.saturating_add(1)),
        }
    }
}

/// Says nothing: a stream whose records have timestamps, and whose time ends with its input.
#[derive(Debug, Clone)]
pub struct NoWatermarks;

impl<T> WatermarkGenerator<T> for NoWatermarks {
    fn on_event(&mut self, _record: &T, _timestamp: EventTime) -> Option<EventTime> {
        None
    }

    fn on_periodic_emit(&mut self) -> EventTime {
        EventTime::MIN
    }
}
