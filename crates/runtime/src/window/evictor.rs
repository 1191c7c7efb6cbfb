//! What a window drops of its records around its result.

use std::time::Duration;

use streamd_core::time::EventTime;

/// Drops records of a window before and after its function sees them. Flink's noun. Each record comes with its timestamp.
pub trait Evictor<T>: Clone + Send + 'static {
    /// Drops records before the function is called: it does not see them, and they are gone for good.
    fn evict_before(&mut self, records: &mut Vec<(T, EventTime)>);

    /// Drops records after the function was called.
    fn evict_after(&mut self, _records: &mut Vec<(T, EventTime)>) {}

    /// What is wrong with it, if anything: a job with such an evictor is refused.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Keeps the last so many records.
#[derive(Debug, Clone, Copy)]
pub struct CountEvictor {
    count: usize,
}

impl CountEvictor {
    /// Keeps the last `count` records, at least 1.
    pub fn of(count: usize) -> Self {
        Self { count }
    }
}

impl<T> Evictor<T> for CountEvictor {
    fn evict_before(&mut self, records: &mut Vec<(T, EventTime)>) {
        records.drain(..records.len().saturating_sub(self.count));
    }

    fn check(&self) -> Result<(), String> {
        match self.count {
            0 => Err("an evictor that keeps 0 records: at least 1 is needed".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Keeps the records that are less than a stretch of time older than the latest of them.
#[derive(Debug, Clone, Copy)]
pub struct TimeEvictor {
    span: i64,
}

impl TimeEvictor {
    /// Keeps what is less than this much older than the latest record; at least a millisecond.
    pub fn of(span: Duration) -> Self {
        Self {
            span: i64::try_from(span.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

impl<T> Evictor<T> for TimeEvictor {
    fn evict_before(&mut self, records: &mut Vec<(T, EventTime)>) {
        if let Some(latest) = records.iter().map(|(_, timestamp)| timestamp.0).max() {
            let oldest = latest.saturating_sub(self.span);
            records.retain(|(_, timestamp)| timestamp.0 > oldest);
        }
    }

    fn check(&self) -> Result<(), String> {
        match self.span {
            0 => Err("an evictor that keeps the records of 0 ms: at least 1 ms is needed".to_owned()),
            _ => Ok(()),
        }
    }
}
