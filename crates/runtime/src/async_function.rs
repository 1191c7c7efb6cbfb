//! Functions that call the outside world and do not wait for the answer.
//!
//! ```
//! # use streamd_runtime::async_function::AsyncFunction;
//! # use streamd_runtime::error::BoxError;
//! # async fn look_up(_id: u64) -> Result<String, BoxError> { Ok(String::new()) }
//! #[derive(Clone)]
//! struct Names;
//!
//! impl AsyncFunction<u64, (u64, String)> for Names {
//!     async fn async_invoke(&self, id: u64) -> Result<Vec<(u64, String)>, BoxError> {
//!         Ok(vec![(id, look_up(id).await?)])
//!     }
//!
//!     fn timeout(&self, id: u64) -> Result<Vec<(u64, String)>, BoxError> {
//!         Ok(vec![(id, "unknown".to_owned())])
//!     }
//! }
//! ```

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BoxError;

/// A function whose results come later. Flink's noun.
///
/// The futures run on the threads for I/O, many at a time, and never on those that work on records. A future must not block its
/// thread: work that does belongs into `tokio::task::spawn_blocking`. It is dropped where it is when the time is up or the job ends.
///
/// A call may be made again: after a failure, those whose results were not in the last checkpoint are.
pub trait AsyncFunction<In, Out>: Clone + Send + Sync + 'static {
    /// Makes the call for a record, and says what becomes of the record. An error fails the job's attempt, unless it is tried
    /// again.
    fn async_invoke(&self, input: In) -> impl Future<Output = Result<Vec<Out>, BoxError>> + Send;

    /// What becomes of a record whose call has not come back in time: an error, which fails the attempt, unless said otherwise.
    /// Called on the thread that works on records.
    fn timeout(&self, _input: In) -> Result<Vec<Out>, BoxError> {
        Err("an asynchronous call has not come back in time".into())
    }
}

impl<In, Out, F, Fut> AsyncFunction<In, Out> for F
where
    F: Fn(In) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<Out>, BoxError>> + Send,
{
    fn async_invoke(&self, input: In) -> impl Future<Output = Result<Vec<Out>, BoxError>> + Send {
        self(input)
    }
}

/// In which order results are emitted. Flink's noun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    /// That of the records.
    Ordered,
    /// As calls come back, but never across a watermark.
    Unordered,
}

/// How calls are made.
#[derive(Debug, Clone)]
pub struct AsyncWaitOptions<Out> {
    /// In which order results are emitted.
    pub mode: OutputMode,
    /// How many calls may be under way, or wait to be emitted, in each subtask.
    pub capacity: usize,
    /// How long a call may take, all attempts together.
    pub timeout: Duration,
    /// When a call is made again.
    pub retry: AsyncRetryStrategy<Out>,
}

/// When a call is made again, and after how long. Flink's noun.
///
/// ```
/// # use std::time::Duration;
/// # use streamd_runtime::async_function::AsyncRetryStrategy;
/// let retry = AsyncRetryStrategy::<String>::exponential_backoff(5, Duration::from_millis(100), Duration::from_secs(10), 2.0)
///     .if_exception(|error| !error.to_string().contains("not found"))
///     .if_result(|names| names.is_empty());
/// # let _ = retry;
/// ```
pub struct AsyncRetryStrategy<Out> {
    attempts: u32,
    first: Duration,
    longest: Duration,
    multiplier: f64,
    on_error: Arc<dyn Fn(&BoxError) -> bool + Send + Sync>,
    on_result: Option<ResultPredicate<Out>>,
}

type ResultPredicate<Out> = Arc<dyn Fn(&[Out]) -> bool + Send + Sync>;

// By hand: a derive would ask `Out: Clone`.
impl<Out> Clone for AsyncRetryStrategy<Out> {
    fn clone(&self) -> Self {
        Self {
            on_error: Arc::clone(&self.on_error),
            on_result: self.on_result.clone(),
            ..*self
        }
    }
}

impl<Out> fmt::Debug for AsyncRetryStrategy<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncRetryStrategy")
            .field("attempts", &self.attempts)
            .field("first", &self.first)
            .field("longest", &self.longest)
            .field("multiplier", &self.multiplier)
            .finish_non_exhaustive()
    }
}

impl<Out> AsyncRetryStrategy<Out> {
    /// A call that fails is not made again.
    pub fn none() -> Self {
        Self::fixed_delay(0, Duration::ZERO)
    }

    /// A call that fails is made again, up to so many times, after this long.
    pub fn fixed_delay(max_attempts: u32, backoff: Duration) -> Self {
        Self::exponential_backoff(max_attempts, backoff, backoff, 1.0)
    }

    /// A call that fails is made again, up to so many times: the first time after `initial`, then after `multiplier` times as long as
    /// before, and never after more than `longest`.
    pub fn exponential_backoff(max_attempts: u32, initial: Duration, longest: Duration, multiplier: f64) -> Self {
        Self {
            attempts: max_attempts,
            first: initial.min(longest),
            longest,
            multiplier,
            on_error: Arc::new(|_| true),
            on_result: None,
        }
    }

    /// Only for these errors; for all unless said otherwise.
    #[must_use]
    pub fn if_exception(mut self, predicate: impl Fn(&BoxError) -> bool + Send + Sync + 'static) -> Self {
        self.on_error = Arc::new(predicate);
        self
    }

    /// For these results as well; for none unless said otherwise. When all attempts are used up, the last result counts.
    #[must_use]
    pub fn if_result(mut self, predicate: impl Fn(&[Out]) -> bool + Send + Sync + 'static) -> Self {
        self.on_result = Some(Arc::new(predicate));
        self
    }

    /// After how long a call is made again that was made again `retries` times and had this outcome.
    pub(crate) fn delay(&self, retries: u32, outcome: &Result<Vec<Out>, BoxError>) -> Option<Duration> {
        let again = match outcome {
            Ok(results) => self.on_result.as_ref().is_some_and(|wanted| wanted(results)),
            Err(error) => (self.on_error)(error),
        };
        if !again || retries >= self.attempts {
            return None;
        }
        let factor = self.multiplier.powi(i32::try_from(retries).unwrap_or(i32::MAX));
        let delay = self.first.as_secs_f64() * factor;
        // Infinite and undefined products are the longest delay.
        let longest = self.longest.as_secs_f64();
        Some(if delay < longest {
            Duration::from_secs_f64(delay.max(0.0))
        } else {
            self.longest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(strategy: &AsyncRetryStrategy<u8>, outcome: &Result<Vec<u8>, BoxError>) -> Vec<u128> {
        (0..)
            .map_while(|retries| strategy.delay(retries, outcome))
            .map(|delay| delay.as_millis())
            .collect()
    }

    #[test]
    fn delays_grow_up_to_the_longest_and_attempts_are_counted() {
        let millis = Duration::from_millis;
        let failed = || Err("gone".into());
        assert_eq!(delays(&AsyncRetryStrategy::none(), &failed()), [0u128; 0]);
        assert_eq!(
            delays(&AsyncRetryStrategy::fixed_delay(3, millis(7)), &failed()),
            [7, 7, 7]
        );
        let growing = AsyncRetryStrategy::exponential_backoff(5, millis(10), millis(50), 2.0);
        assert_eq!(delays(&growing, &failed()), [10, 20, 40, 50, 50]);
        let absurd = AsyncRetryStrategy::exponential_backoff(2, millis(10), millis(50), f64::NAN);
        assert_eq!(delays(&absurd, &failed()).len(), 2);
        assert_eq!(delays(&growing, &Ok(vec![])), [0u128; 0]);
        let unless_empty = growing
            .if_result(<[u8]>::is_empty)
            .if_exception(|error| error.to_string() != "gone");
        assert_eq!(delays(&unless_empty, &Ok(vec![])).len(), 5);
        assert_eq!(delays(&unless_empty, &failed()), [0u128; 0]);
    }
}
