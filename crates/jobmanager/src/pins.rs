//! Which snapshots jobs may still read, so that no other job's cleaning up takes them away (invariant I9 across jobs).
//!
//! ```text
//!   job B starts from job A's chk-5 ─▶ pin: all of A's folder ─▶ read ─▶ pin: chk-5, and what it refers into
//!                                                                            │
//!   job A subsumes chk-5 ─▶ its deletion waits ◀─────────────────────────────┘
//!                               └──▶ goes on once B has a checkpoint of its own, or has ended
//! ```
//!
//! A pin lives in the memory of the job manager, as the job does that it protects: when the job manager ends, it suspends
//! both jobs, and nobody is left to delete anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use streamd_core::id::JobId;
use streamd_snapshot::Location;
use tokio::sync::Notify;
use tracing::info;

/// The pins and the deletions of all jobs. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Pins {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told whenever a pin or a deletion ends.
    changed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    pins: BTreeMap<u64, Pinned>,
    deletions: BTreeMap<u64, Place>,
    is_closed: bool,
}

/// What one job holds.
struct Pinned {
    job: JobId,
    /// The snapshot that it starts from.
    snapshot: Place,
    /// The folders that stay, with all that is below them.
    folders: Vec<Place>,
}

/// A folder, by one name however it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place(String);

impl Place {
    async fn of(location: &Location) -> Self {
        Self(location.resolved_uri().await)
    }

    /// Whether one is the other or lies below it.
    fn overlaps(&self, other: &Self) -> bool {
        let holds = |outer: &str, inner: &str| {
            let below = inner.strip_prefix(outer);
            below.is_some_and(|below| below.is_empty() || below.starts_with('/') || outer.ends_with('/'))
        };
        holds(&self.0, &other.0) || holds(&other.0, &self.0)
    }
}

impl Pins {
    /// Holds the snapshot in `folder` for a job that starts from it, and until [`Pin::narrow`] everything beside it: what it
    /// refers to is not known yet. Returns once no deletion is under way there any more, so that what is read now stays.
    pub(crate) async fn hold(&self, job: JobId, folder: &Location) -> Pin {
        let snapshot = Place::of(folder).await;
        let beside = Place::of(&folder.parent().unwrap_or_else(|| folder.clone())).await;
        let pinned = Pinned {
            job,
            snapshot,
            folders: vec![beside.clone()],
        };
        let pin = self.insert(pinned);
        self.until(|state| {
            let is_deleting = state.deletions.values().any(|place| place.overlaps(&beside));
            (!is_deleting).then_some(())
        })
        .await;
        pin
    }

    /// The job that holds the snapshot and began to before the one with this pin did.
    pub(crate) async fn holder_before(&self, pin: &Pin, folder: &Location) -> Option<JobId> {
        let place = Place::of(folder).await;
        let state = self.shared.lock();
        let mut earlier = state.pins.range(..pin.id);
        earlier
            .find(|(_, pinned)| pinned.holds(&place))
            .map(|(_, pinned)| pinned.job)
    }

    /// Begins to delete a folder, which no job comes to hold before the result is dropped. Waits for as long as one holds it.
    /// `None` once [`close`](Self::close)d: then it stays.
    pub(crate) async fn begin_deletion(&self, folder: &str) -> Option<Deletion> {
        let place = match Location::open(folder) {
            Ok(location) => Place::of(&location).await,
            // Its deletion is going to say what is wrong with it.
            Err(_malformed) => Place(folder.to_owned()),
        };
        let mut is_told = false;
        self.until(|state| {
            let holder = state.pins.values().find(|pinned| pinned.covers(&place));
            match holder {
                _any if state.is_closed => Some(None),
                None => Some(Some(self.delete(state, place.clone()))),
                Some(pinned) => {
                    if !is_told {
                        info!(snapshot = folder, holder = %pinned.job, "deletion waits: another job starts from the snapshot");
                        is_told = true;
                    }
                    None
                }
            }
        })
        .await
    }

    /// Begins to delete a snapshot because its owner says so, or names the job that holds it.
    pub(crate) async fn begin_disposal(&self, folder: &Location) -> Result<Deletion, JobId> {
        let place = Place::of(folder).await;
        self.until(|state| {
            if let Some(pinned) = state.pins.values().find(|pinned| pinned.holds(&place)) {
                return Some(Err(pinned.job));
            }
            // A job that starts from what is beside it is about to say what it needs.
            let is_covered = state.pins.values().any(|pinned| pinned.covers(&place));
            (!is_covered).then(|| Ok(self.delete(state, place.clone())))
        })
        .await
    }

    /// Ends waiting for good: the job manager shuts down, and what is held stays.
    pub(crate) fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_waiters();
    }

    fn insert(&self, pinned: Pinned) -> Pin {
        let mut state = self.shared.lock();
        let id = state.next_id();
        state.pins.insert(id, pinned);
        Pin {
            id,
            shared: self.shared.clone(),
        }
    }

    fn delete(&self, state: &mut State, place: Place) -> Deletion {
        let id = state.next_id();
        state.deletions.insert(id, place);
        Deletion {
            id,
            shared: self.shared.clone(),
        }
    }

    /// Looks now and after every change, until `look` finds something.
    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // Before the look, so that no change is missed after it.
            let changed = self.shared.changed.notified();
            if let Some(found) = look(&mut self.shared.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // No code that holds the lock can leave a half-made change behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Pinned {
    fn covers(&self, place: &Place) -> bool {
        self.folders.iter().any(|folder| folder.overlaps(place))
    }

    /// Whether the job is known to need this very snapshot. What is beside the one that it reads is not meant.
    fn holds(&self, place: &Place) -> bool {
        self.snapshot == *place || self.folders.contains(place)
    }
}

/// What a job holds, until this is dropped.
pub(crate) struct Pin {
    id: u64,
    shared: Arc<Shared>,
}

impl Pin {
    /// Holds these folders from now on, and nothing else.
    pub(crate) async fn narrow(&self, folders: &[Location]) {
        let mut places = Vec::new();
        for folder in folders {
            places.push(Place::of(folder).await);
        }
        if let Some(pinned) = self.shared.lock().pins.get_mut(&self.id) {
            pinned.folders = places;
        }
        self.shared.changed.notify_waiters();
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.lock().pins.remove(&self.id);
        self.shared.changed.notify_waiters();
    }
}

/// A deletion under way, until this is dropped.
pub(crate) struct Deletion {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Deletion {
    fn drop(&mut self) {
        self.shared.lock().deletions.remove(&self.id);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const CHECKPOINT: &str = "memory://jobs/a/chk-5";

    fn location(uri: &str) -> Location {
        Location::open(uri).unwrap()
    }

    fn job(id: u8) -> JobId {
        JobId::from_bytes([id; 16])
    }

    /// Whether a deletion may begin now.
    fn goes(pins: &Pins, folder: &str) -> bool {
        pins.begin_deletion(folder).now_or_never().is_some()
    }

    #[tokio::test]
    async fn what_a_job_starts_from_stays_and_its_neighbours_until_it_is_read() {
        let pins = Pins::default();
        let pin = pins.hold(job(1), &location(CHECKPOINT)).await;
        assert!(!goes(&pins, CHECKPOINT) && !goes(&pins, "memory://jobs/a/chk-3"));
        assert!(goes(&pins, "memory://jobs/ab/chk-5"), "another job's folder");
        pin.narrow(&[location(CHECKPOINT), location("memory://jobs/a/chk-3")])
            .await;
        assert!(!goes(&pins, CHECKPOINT) && !goes(&pins, "memory://jobs/a/chk-3"));
        assert!(goes(&pins, "memory://jobs/a/chk-4") && goes(&pins, "memory://jobs/a/chk-51"));
        drop(pin);
        assert!(goes(&pins, CHECKPOINT));
    }

    #[tokio::test]
    async fn a_deletion_that_waits_goes_on_when_the_last_job_lets_go() {
        let pins = Pins::default();
        let first = pins.hold(job(1), &location(CHECKPOINT)).await;
        let second = pins.hold(job(2), &location(CHECKPOINT)).await;
        let mut deletion = Box::pin(pins.begin_deletion(CHECKPOINT));
        assert!((&mut deletion).now_or_never().is_none());
        drop(first);
        assert!((&mut deletion).now_or_never().is_none());
        drop(second);
        assert!((&mut deletion).now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn a_job_waits_for_deletions_that_have_begun() {
        let pins = Pins::default();
        let deletion = pins.begin_deletion(CHECKPOINT).await;
        let neighbour = location("memory://jobs/a/chk-6");
        let mut hold = Box::pin(pins.hold(job(1), &neighbour));
        assert!((&mut hold).now_or_never().is_none());
        // It comes first all the same: nothing else is deleted meanwhile.
        assert!(!goes(&pins, "memory://jobs/a/chk-6"));
        drop(deletion);
        assert!((&mut hold).now_or_never().is_some());
    }

    #[tokio::test]
    async fn nothing_waits_for_ever_when_the_job_manager_ends() {
        let pins = Pins::default();
        let _pin = pins.hold(job(1), &location(CHECKPOINT)).await;
        let mut deletion = Box::pin(pins.begin_deletion(CHECKPOINT));
        assert!((&mut deletion).now_or_never().is_none());
        pins.close();
        assert!(deletion.await.is_none(), "it was deleted");
    }

    #[tokio::test]
    async fn the_holder_of_a_snapshot_is_who_came_first() {
        let pins = Pins::default();
        let place = location(CHECKPOINT);
        let first = pins.hold(job(1), &place).await;
        let second = pins.hold(job(2), &place).await;
        assert_eq!(pins.holder_before(&first, &place).await, None);
        assert_eq!(pins.holder_before(&second, &place).await, Some(job(1)));
        let neighbour = location("memory://jobs/a/chk-4");
        assert_eq!(
            pins.holder_before(&second, &neighbour).await,
            None,
            "only read beside it"
        );
    }

    #[tokio::test]
    async fn what_a_job_holds_is_not_disposed_of_and_its_neighbours_are_once_it_is_read() {
        let pins = Pins::default();
        let (place, neighbour) = (location(CHECKPOINT), location("memory://jobs/a/chk-4"));
        let pin = pins.hold(job(1), &place).await;
        assert_eq!(pins.begin_disposal(&place).await.err(), Some(job(1)));
        let mut disposal = Box::pin(pins.begin_disposal(&neighbour));
        assert!((&mut disposal).now_or_never().is_none());
        pin.narrow(std::slice::from_ref(&place)).await;
        assert!(disposal.await.is_ok());
        drop(pin);
        assert!(pins.begin_disposal(&place).await.is_ok());
    }

    #[tokio::test]
    async fn a_place_is_one_place_by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        std::fs::create_dir_all(real.join("chk-5")).unwrap();
        std::os::unix::fs::symlink(&real, folder.path().join("link")).unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let pins = Pins::default();
        let _pin = pins.hold(job(1), &location(&at("link/chk-5"))).await;
        assert!(!goes_in_time(&pins, &at("real/chk-5")).await);
        assert!(goes_in_time(&pins, &at("elsewhere/chk-5")).await);
    }

    /// Whether a deletion of a folder on the disk may begin: the disk is asked for its name first.
    async fn goes_in_time(pins: &Pins, folder: &str) -> bool {
        let place = Place::of(&location(folder)).await;
        let state = pins.shared.lock();
        !state.pins.values().any(|pinned| pinned.covers(&place))
    }
}
