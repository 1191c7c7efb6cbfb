//! How long a store may take, and how much is asked of it at once. One place, since the numbers bear on each other.
//!
//! ```text
//!   RETRY_WINDOW (10 s) < OPERATION_TIMEOUT (30 s) < SILENCE_TIMEOUT (60 s) < checkpoint time-out (10 min by default)
//! ```
//!
//! Whoever holds a lease on something must lose it only after he has learned that his write failed: every lease that streamd
//! takes through a store has to be longer than [`OPERATION_TIMEOUT`].

use std::time::Duration;

/// The time in which a client may begin a request once more. Long enough for a store that sheds load, far shorter than any time
/// in which somebody else might act in our place.
pub(super) const RETRY_WINDOW: Duration = Duration::from_secs(10);

/// How often a client repeats a request. With pauses that double from 100 ms to 2 s, four fill a third of the window.
#[cfg(feature = "https")]
pub(super) const RETRIES: usize = 4;

/// The first pause before a repetition; jitter is added.
#[cfg(feature = "https")]
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause before a repetition.
#[cfg(feature = "https")]
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The time for a connection, with its handshake: machines that answer at all do so in a second.
#[cfg(feature = "https")]
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time in which an operation on one small object is done, repetitions included. Then its outcome is unknown.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The time without a single byte after which a transfer counts as hanging. Longer than the rest, because it also covers the
/// sending of a part of many megabytes.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The rate below which a transfer of known length counts as hanging: slower than any store that a job could live with.
pub(super) const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;

/// Requests under way at once in one process, to all stores that speak HTTP. Enough to fill a fast network with parts of 8 MiB;
/// few enough that a cluster of a hundred workers stays below what one prefix of S3 takes.
#[cfg(feature = "https")]
pub(super) const REQUESTS_AT_ONCE: usize = 64;

/// The time for an operation that moves this many bytes.
pub(super) fn deadline(bytes: u64) -> Duration {
    OPERATION_TIMEOUT + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

const _: () = assert!(RETRY_WINDOW.as_secs() < OPERATION_TIMEOUT.as_secs());
const _: () = assert!(OPERATION_TIMEOUT.as_secs() < SILENCE_TIMEOUT.as_secs());
