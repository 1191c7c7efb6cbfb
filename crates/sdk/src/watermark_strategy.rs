//! Where the event time of a stream comes from.

use std::time::Duration;

use streamd_core::time::EventTime;
use streamd_runtime::watermark::{
    BoundedOutOfOrderness, NoWatermarks, WatermarkAlignment, WatermarkGenerator, WatermarkPolicy,
};

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
    pub(crate) policy: WatermarkPolicy,
}

/// Takes the timestamp of a record, in milliseconds since 1970, from it and from the timestamp that it came with.
pub trait TimestampAssigner<T>: Clone + Send + 'static {
    /// The timestamp. The least of all, `i64::MIN`, stands for none.
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
    /// For streams whose timestamps never fall, within each split of the source; where they are not assigned in the source's chain,
    /// within each subtask.
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
            policy: WatermarkPolicy::default(),
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
            policy: self.policy,
        }
    }

    /// A split without a record for this long holds nobody's time back, until it has one again; nor does a subtask whose splits are
    /// all so. Only time in which records could have come counts: not a source that is held back by those behind it.
    #[must_use]
    pub fn with_idleness(mut self, idle_after: Duration) -> Self {
        self.policy.idle_after = Some(idle_after);
        self
    }

    /// Sources of the same group wait for each other: one reads nothing more while its watermark is more than `max_drift` ahead of
    /// the group's least, in the whole job. It keeps state small where one source could run far ahead of another, and changes no
    /// result. How far everybody is goes round once a second: `max_drift` wants to be more than what the slowest source covers in that
    /// time, or it waits for the others to hear of it. A source that may have nothing to say needs
    /// [`with_idleness`](Self::with_idleness) as well, or all the others wait for it.
    ///
    /// Only in the chain of a source: the job fails at its start where the stream was redistributed before.
    #[must_use]
    pub fn with_watermark_alignment(mut self, group: impl Into<String>, max_drift: Duration) -> Self {
        self.policy.alignment = Some(WatermarkAlignment::new(group, max_drift));
        self
    }
}
