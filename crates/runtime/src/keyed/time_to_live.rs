use std::time::Duration;

use streamd_core::time::WallTime;
use streamd_state::TimeToLive;

/// How many entries of a table are looked at for each key that is worked on, unless the application says otherwise: Flink's
/// number.
const CLEANUP_SIZE: usize = 5;

/// How long values of a state live. Flink's noun, and its rules:
///
/// * A value, an element of a list, or an entry of a map is over when its time to live has passed since its last update, by the
///   clock of the machine.
/// * What is over is not seen any more, unless [`StateVisibility`] says otherwise.
/// * It is removed when it is read; in the background, a few entries for each record; and, where wanted, on the way into snapshots.
///
/// ```
/// # use std::time::Duration;
/// # use streamd_runtime::keyed::{StateTtlConfig, UpdateType, ValueState};
/// let an_hour = StateTtlConfig::new(Duration::from_secs(3600))
///     .update_type(UpdateType::OnReadAndWrite)
///     .cleanup_full_snapshot();
/// let last_login: ValueState<i64> = ValueState::new("last login").enable_time_to_live(an_hour);
/// # let _ = last_login;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTtlConfig {
    ttl: Duration,
    update_type: UpdateType,
    visibility: StateVisibility,
    cleanup_size: usize,
    cleanup_in_full_snapshots: bool,
}

/// What begins the time to live of a value anew. Flink's noun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UpdateType {
    /// Making it, and writing it. A reference that can be written through counts as a write.
    #[default]
    OnCreateAndWrite,
    /// Reading it as well.
    OnReadAndWrite,
}

/// Whether a value that is over can still be seen. Flink's noun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StateVisibility {
    /// It cannot, whether it was removed or not.
    #[default]
    NeverReturnExpired,
    /// It can, for as long as nobody has removed it.
    ReturnExpiredIfNotCleanedUp,
}

impl StateTtlConfig {
    /// Values live so long, at least a millisecond; writes renew them, and nobody sees what is over.
    pub const fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            update_type: UpdateType::OnCreateAndWrite,
            visibility: StateVisibility::NeverReturnExpired,
            cleanup_size: CLEANUP_SIZE,
            cleanup_in_full_snapshots: false,
        }
    }

    /// What begins the time to live anew.
    #[must_use]
    pub const fn update_type(mut self, update_type: UpdateType) -> Self {
        self.update_type = update_type;
        self
    }

    /// Whether what is over can still be seen.
    #[must_use]
    pub const fn state_visibility(mut self, visibility: StateVisibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// Leaves what is over out of savepoints, and of checkpoints that are not incremental.
    #[must_use]
    pub const fn cleanup_full_snapshot(mut self) -> Self {
        self.cleanup_in_full_snapshots = true;
        self
    }

    /// Looks at so many entries on the heap for each record, and at two rows on disk at the most; 5 unless said otherwise.
    #[must_use]
    pub const fn cleanup_incrementally(mut self, cleanup_size: usize) -> Self {
        self.cleanup_size = cleanup_size;
        self
    }

    /// Removes what is over only when it is read, and where snapshots leave it out.
    #[must_use]
    pub const fn disable_cleanup_in_background(self) -> Self {
        self.cleanup_incrementally(0)
    }

    /// As the state backend wants it.
    pub(crate) fn lifetime(&self) -> TimeToLive {
        TimeToLive {
            millis: i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX),
            cleanup_size: self.cleanup_size,
            cleanup_in_full_snapshots: self.cleanup_in_full_snapshots,
        }
    }

    /// What was updated at or before this time is over now.
    pub(crate) fn deadline(&self, now: WallTime) -> WallTime {
        WallTime(now.0.saturating_sub(self.lifetime().millis))
    }

    /// What nobody is to see any more was updated at or before this time.
    pub(crate) fn horizon(&self, now: WallTime) -> WallTime {
        match self.visibility {
            StateVisibility::NeverReturnExpired => self.deadline(now),
            StateVisibility::ReturnExpiredIfNotCleanedUp => WallTime(i64::MIN),
        }
    }

    /// Whether reading renews.
    pub(crate) fn renews_on_read(&self) -> bool {
        self.update_type == UpdateType::OnReadAndWrite
    }
}
