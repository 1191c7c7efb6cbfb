//! Where the event time of a stream comes from.

use std::time::Duration;

use streamd_core::time::EventTime;
use streamd_runtime::watermark::{BoundedOutOfOrderness, NoWatermarks, WatermarkGenerator};

/// How records get their timestamps and a stream its watermarks. Flink's noun.
///
/// ```
/// # use std::time::Duration;
/// # use streamd::WatermarkStrategy;
/// # struct Order { placed_ms: i64 }
/// let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_secs(5))
///     .with_timestamp_assigner(|order: &Order, _| order.placed_ms)
///     .with_idleness(Duration::from_secs(30));
/// # let _ = strategy;
/// ```
#[derive(Clone)]
pub struct WatermarkStrategy<G, A = KeepTimestamps> {
    pub(crate) generator: G,
    pub(crate) assigner: A,
    pub(crate) idle_after: Option<Duration>,
}

/// Takes the timestamp of a record, in milliseconds since 1970, from it and from the timestamp that it came with.
pub trait TimestampAssigner<T>: Clone + Send + 'static {
    /// The timestamp.
    fn extract_timestamp(&self, record: &T, timestamp: EventTime) -> EventTime;
}

/// Leaves records the timestamps that they come with.
#[derive(Debug, Clone, Copy)]
pub struct KeepTimestamps;

impl<T> TimestampAssigner<T> for KeepTimestamps {
    #[inline]
    fn extract_timestamp(&self, _record: &T, timestamp: EventTime) -> EventTime {
        timestamp
    }
}

impl<T, F> TimestampAssigner<T> for F
where
    F: Fn(&T, EventTime) -> i64 + Clone + Send + 'static,
{
    #[inline]
    fn extract_timestamp(&self, record: &T, timestamp: EventTime) -> EventTime {
        EventTime(self(record, timestamp))
    }
}

impl WatermarkStrategy<BoundedOutOfOrderness> {
    /// For streams whose timestamps never fall, within each subtask that assigns them.
    pub fn for_monotonous_timestamps() -> Self {
        Self::for_bounded_out_of_orderness(Duration::ZERO)
    }

    /// For streams in which a record comes at most so much later than records with a higher timestamp.
    pub fn for_bounded_out_of_orderness(bound: Duration) -> Self {
        let bound_ms = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
        WatermarkStrategy::for_generator(BoundedOutOfOrderness::new(bound_ms))
    }
}

impl WatermarkStrategy<NoWatermarks> {
    /// For streams whose time comes to something only at the end of the input.
    pub fn no_watermarks() -> Self {
        WatermarkStrategy::for_generator(NoWatermarks)
    }
}

impl<G> WatermarkStrategy<G> {
    /// For streams with a generator of their own. Every subtask gets a clone.
    pub fn for_generator(generator: G) -> Self {
        Self {
            generator,
            assigner: KeepTimestamps,
            idle_after: None,
        }
    }
}

impl<G, A> WatermarkStrategy<G, A> {
    /// Takes timestamps from the records: milliseconds since 1970. The second argument is the timestamp that the record came
    /// with, [`EventTime::MIN`] if none.
    pub fn with_timestamp_assigner<T, F>(self, assigner: F) -> WatermarkStrategy<G, F>
    where
        F: Fn(&T, EventTime) -> i64 + Clone + Send + 'static,
        G: WatermarkGenerator<T>,
    {
        WatermarkStrategy {
            generator: self.generator,
            assigner,
            idle_after: self.idle_after,
        }
    }

    /// A subtask without a record for this long holds nobody's time back, until it has one again.
    #[must_use]
    pub fn with_idleness(self, idle_after: Duration) -> Self {
        Self {
            idle_after: Some(idle_after),
            ..self
        }
    }
}
