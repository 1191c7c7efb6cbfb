//! Which folder below the output folder a record goes to.

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::sink::WriteContext;
use streamd_core::source::ConnectorError;
use streamd_core::time::{EventTime, WallTime};

use super::time_pattern::TimePattern;

/// The function that names the bucket of a record.
type NameBucket<T> = dyn Fn(&T, &BucketContext) -> String + Send + Sync;

/// What is known of the time of a record whose bucket is to be named. Flink's `BucketAssigner.Context`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketContext {
    /// The timestamp of the record; `None` where the stream has no event time.
    pub timestamp: Option<EventTime>,
    /// How far the event time has come; [`EventTime::MIN`] before the first watermark.
    pub current_watermark: EventTime,
    /// The time of day.
    pub current_processing_time: WallTime,
}

/// The longest name of a folder in common file systems.
const MAX_NAME_BYTES: usize = 255;

/// How records are spread over folders.
pub(super) enum Bucketing<T> {
    /// All into the output folder itself.
    None,
    /// By what the record says.
    ByRecord(Arc<NameBucket<T>>),
    /// By its timestamp.
    ByEventTime(TimePattern),
    /// By the time of day at which it is written.
    ByTime(TimePattern),
}

impl<T> Clone for Bucketing<T> {
    fn clone(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::ByRecord(name) => Self::ByRecord(name.clone()),
            Self::ByEventTime(pattern) => Self::ByEventTime(pattern.clone()),
            Self::ByTime(pattern) => Self::ByTime(pattern.clone()),
        }
    }
}

impl<T> Bucketing<T> {
    /// The bucket that all records go to that are written now; `None` if each has its own.
    pub(super) fn of_all(&self, now: WallTime) -> Option<String> {
        match self {
            Self::None => Some(String::new()),
            Self::ByTime(pattern) => Some(pattern.format(now)),
            Self::ByRecord(_) | Self::ByEventTime(_) => None,
        }
    }

    /// The batch by bucket, in the order in which buckets are first named; each bucket's records in their order.
    ///
    /// Errors for a record without a timestamp where that names the bucket.
    pub(super) fn spread(
        &self,
        batch: &mut Vec<T>,
        times: &WriteContext<'_>,
        now: WallTime,
    ) -> Result<Vec<(String, Vec<T>)>, ConnectorError> {
        let mut spread: Vec<(String, Vec<T>)> = Vec::new();
        let mut places = BTreeMap::new();
        for (position, record) in batch.drain(..).enumerate() {
            let timestamp = times.timestamp(position);
            let name = match self {
                Self::ByRecord(name_of) => {
                    let context = BucketContext {
                        timestamp,
                        current_watermark: times.current_watermark(),
                        current_processing_time: now,
                    };
                    name_of(&record, &context)
                }
                Self::ByEventTime(pattern) => {
                    let Some(EventTime(time)) = timestamp else {
                        return Err(ConnectorError::new(
                            "a record without a timestamp has no bucket of event time: call \
                             `assign_timestamps_and_watermarks` on the stream before it; `i64::MIN` stands for no timestamp",
                        ));
                    };
                    pattern.format(WallTime(time))
                }
                Self::None | Self::ByTime(_) => String::new(),
            };
            let place = *places.entry(name).or_insert_with_key(|name| {
                spread.push((name.clone(), Vec::new()));
                spread.len() - 1
            });
            spread[place].1.push(record);
        }
        Ok(spread)
    }
}

/// Errors unless the name leads to a folder below the output folder that readers do not pass over.
pub(super) fn check_name(bucket: &str) -> Result<(), ConnectorError> {
    let is_bad = |part: &str| {
        part.is_empty()
            || part.starts_with(['.', '_'])
            || part.len() > MAX_NAME_BYTES
            || part.contains(|c: char| c.is_control() || c == '\\')
    };
    if bucket.is_empty() || !bucket.split('/').any(is_bad) {
        return Ok(());
    }
    Err(ConnectorError::new(format!(
        "the bucket `{}` is no name of a folder below the output folder: each part between `/` must have 1 to \
         {MAX_NAME_BYTES} bytes, begin with neither `.` nor `_`, and hold no control character or `\\`",
        bucket.escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_spread_without_changing_the_order_within_a_bucket() {
        let bucketing = Bucketing::ByRecord(Arc::new(|number: &u32, _: &BucketContext| format!("r{}", number % 2)));
        let mut batch = vec![3, 2, 5, 4, 7];
        let times = WriteContext::new(&[], EventTime::MIN);
        let spread = bucketing.spread(&mut batch, &times, WallTime(0)).unwrap();
        assert_eq!(
            spread,
            [("r1".to_owned(), vec![3, 5, 7]), ("r0".to_owned(), vec![2, 4])]
        );
        assert!(batch.is_empty());
    }

    #[test]
    fn a_bucket_may_be_named_by_everything_that_is_known_of_a_records_time() {
        let named = |number: &u32, context: &BucketContext| format!("{number} {context:?}");
        let bucketing = Bucketing::ByRecord(Arc::new(named));
        let timestamps = [EventTime(-5), EventTime::MIN];
        let times = WriteContext::new(&timestamps, EventTime(7));
        let spread = bucketing.spread(&mut vec![1, 2], &times, WallTime(9)).unwrap();
        let context = |timestamp| BucketContext {
            timestamp,
            current_watermark: EventTime(7),
            current_processing_time: WallTime(9),
        };
        let expected = [named(&1, &context(Some(EventTime(-5)))), named(&2, &context(None))];
        assert_eq!(
            spread.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_record_without_a_timestamp_has_no_bucket_of_event_time() {
        let bucketing = Bucketing::ByEventTime(TimePattern::parse("yyyy-MM-dd").unwrap());
        let timestamps = [
            EventTime(0),
            EventTime(i64::MAX),
            EventTime(i64::MIN + 1),
            EventTime::MIN,
        ];
        let times = WriteContext::new(&timestamps, EventTime::MIN);
        let spread = bucketing.spread(&mut vec![0, 1, 2], &times, WallTime(0)).unwrap();
        assert_eq!((spread.len(), &*spread[0].0), (3, "1970-01-01"));
        let error = bucketing
            .spread(&mut vec![0, 1, 2, 3], &times, WallTime(0))
            .unwrap_err();
        assert!(error.to_string().starts_with("a record without a timestamp"), "{error}");
    }

    #[test]
    fn names_that_lead_elsewhere_or_are_hidden_are_refused() {
        for good in ["", "a", "country=DE/day=2026-11-21", "ü b", "a.b_c"] {
            check_name(good).unwrap();
        }
        let long = "x".repeat(256);
        for bad in [
            "/a", "a/", "a//b", "..", "a/../b", ".a", "_a", "a/.b", "a\nb", "a\\b", "\0", &long,
        ] {
            let error = check_name(bad).unwrap_err().to_string();
            assert!(error.starts_with("the bucket `"), "{error}");
        }
    }
}
