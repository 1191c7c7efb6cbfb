//! Which folder below the output folder a record goes to.

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::source::ConnectorError;
use streamd_core::time::WallTime;

use super::time_pattern::TimePattern;

/// The function that names the bucket of a record.
type NameBucket<T> = dyn Fn(&T) -> String + Send + Sync;

/// The longest name of a folder in common file systems.
const MAX_NAME_BYTES: usize = 255;

/// How records are spread over folders.
pub(super) enum Bucketing<T> {
    /// All into the output folder itself.
    None,
    /// By what the record says.
    ByRecord(Arc<NameBucket<T>>),
    /// By the time of day at which it is written.
    ByTime(TimePattern),
}

impl<T> Clone for Bucketing<T> {
    fn clone(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::ByRecord(name) => Self::ByRecord(name.clone()),
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
            Self::ByRecord(_) => None,
        }
    }

    /// The batch by bucket, in the order in which buckets are first named; each bucket's records in their order.
    pub(super) fn spread(&self, batch: &mut Vec<T>) -> Vec<(String, Vec<T>)> {
        let mut spread: Vec<(String, Vec<T>)> = Vec::new();
        let mut places = BTreeMap::new();
        for record in batch.drain(..) {
            let name = match self {
                Self::ByRecord(name_of) => name_of(&record),
                Self::None | Self::ByTime(_) => String::new(),
            };
            let place = *places.entry(name).or_insert_with_key(|name| {
                spread.push((name.clone(), Vec::new()));
                spread.len() - 1
            });
            spread[place].1.push(record);
        }
        spread
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
        let bucketing = Bucketing::ByRecord(Arc::new(|number: &u32| format!("r{}", number % 2)));
        let mut batch = vec![3, 2, 5, 4, 7];
        let spread = bucketing.spread(&mut batch);
        assert_eq!(
            spread,
            [("r1".to_owned(), vec![3, 5, 7]), ("r0".to_owned(), vec![2, 4])]
        );
        assert!(batch.is_empty());
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
