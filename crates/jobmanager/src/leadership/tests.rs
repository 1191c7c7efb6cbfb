//! Elections by records, with a clock that passes as fast as everybody waits.

use std::sync::Arc;
use std::time::Duration;

use streamd_core::time::{Clock, MonotonicTime, WallTime};
use streamd_snapshot::{LeaderRecords, Location};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::*;

const TIMES: ElectionTimes = ElectionTimes {
    lease_duration_ms: 15_000,
    renew_deadline_ms: 12_000,
    retry_period_ms: 5_000,
};
const LEASE: Duration = Duration::from_millis(TIMES.lease_duration_ms);
const RETRY: Duration = Duration::from_millis(TIMES.retry_period_ms);
const LONG: Duration = Duration::from_secs(3_600);

/// The clock of the test's runtime, which is paused.
struct Paused(Instant);

impl Clock for Paused {
    fn monotonic(&self) -> MonotonicTime {
        let passed = Instant::now().duration_since(self.0);
        MonotonicTime(u64::try_from(passed.as_millis()).unwrap())
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }
}

fn records() -> LeaderRecords {
    LeaderRecords::new(Location::open(&format!("memory://{}/ha", crate::random::nonce())).unwrap())
}

fn candidate(records: &LeaderRecords, address: &str) -> (Candidate, ByRecords) {
    let clock: Arc<dyn Clock> = Arc::new(Paused(Instant::now()));
    let election = ByRecords::new(records.clone(), address.to_owned(), clock.clone(), TIMES);
    let candidate = Candidate {
        records: records.clone(),
        address: address.to_owned(),
        clock,
    };
    (candidate, election)
}

/// Waits until the job manager at this address leads, and says how long that took.
async fn win(records: &LeaderRecords, address: &str) -> (Leadership, Duration) {
    let begun = Instant::now();
    let (candidate, election) = candidate(records, address);
    let leader = watch::Sender::new(None);
    let leadership = candidate.win(election, TIMES, &leader).await;
    (leadership, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_gives_signs_of_life_has_no_successor() {
    let records = records();
    let (first, waited) = win(&records, "a:1").await;
    assert_eq!((first.epoch, waited), (1, Duration::ZERO));
    assert!(timeout(LONG, win(&records, "b:1")).await.is_err());
    assert!(timeout(LONG, first.fence.revoked()).await.is_err());
    first.fence.check().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_silent_for_a_lease_has_a_successor_and_no_sooner() {
    let records = records();
    records.claim(1, "a:1", WallTime(0)).await.unwrap();
    records.give_sign(1, 1).await.unwrap();
    let (second, waited) = win(&records, "b:1").await;
    assert_eq!(second.epoch, 2);
    assert!((LEASE..=LEASE + RETRY).contains(&waited), "{waited:?}");
    // It is followed in its turn.
    let latest = records.latest().await.unwrap().unwrap();
    assert_eq!((latest.epoch, latest.address.as_str()), (2, "b:1"));
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_life_begins_the_lease_anew() {
    let records = records();
    records.claim(1, "a:1", WallTime(0)).await.unwrap();
    let signs = async {
        for number in 1..=5 {
            tokio::time::sleep(LEASE - RETRY).await;
            records.give_sign(1, number).await.unwrap();
        }
        Instant::now()
    };
    let successor = async {
        win(&records, "b:1").await;
        Instant::now()
    };
    let (last_sign, succeeded) = tokio::join!(signs, successor);
    let waited = succeeded - last_sign;
    assert!((LEASE..=LEASE + 2 * RETRY).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_lets_go_is_followed_at_once() {
    let records = records();
    let (first, _) = win(&records, "a:1").await;
    tokio::time::sleep(LONG).await;
    first.fence.revoke("in this test");
    first.signs.unwrap().resign().await;
    let (second, waited) = win(&records, "b:1").await;
    assert_eq!((second.epoch, waited), (2, Duration::ZERO));
}

/// It keeps its sign to itself: the place is another's.
#[tokio::test(start_paused = true)]
async fn a_leader_that_finds_another_in_its_place_ends_within_a_retry_period() {
    let records = records();
    let (first, _) = win(&records, "a:1").await;
    let leader = records.latest().await.unwrap().unwrap();
    records.claim(2, "b:1", WallTime(0)).await.unwrap();
    timeout(RETRY + Duration::from_millis(1), first.fence.revoked())
        .await
        .unwrap();
    assert!(first.fence.check().await.is_err());
    let last = records.sight(leader.clone()).await.unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(records.sight(leader).await.unwrap(), last);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_started_again_at_its_address_waits_for_no_lease() {
    let records = records();
    records.claim(1, "a:1", WallTime(0)).await.unwrap();
    records.give_sign(1, 1).await.unwrap();
    let (again, waited) = win(&records, "a:1").await;
    assert_eq!((again.epoch, waited), (2, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_standby_tells_who_leads_whenever_that_changes() {
    let records = records();
    records.claim(1, "a:1", WallTime(0)).await.unwrap();
    let told = watch::Sender::new(None);
    let mut leader = told.subscribe();
    let (candidate, election) = candidate(&records, "c:1");
    let observer = async {
        for (epoch, address) in [(1, "a:1"), (2, "b:1")] {
            if epoch > 1 {
                records.claim(epoch, address, WallTime(0)).await.unwrap();
            }
            leader.changed().await.unwrap();
            assert_eq!(leader.borrow_and_update().as_deref(), Some(address));
            tokio::time::sleep(2 * RETRY).await;
            assert!(!leader.has_changed().unwrap(), "nothing has changed");
        }
    };
    tokio::select! {
        _won = candidate.win(election, TIMES, &told) => panic!("the second leader has a lease"),
        () = observer => {}
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_is_one_job_manager_at_a_time_whoever_starts_leads() {
    let records = records();
    let (candidate_first, _) = candidate(&records, "a:1");
    let first = candidate_first.take().await.unwrap();
    assert_eq!(first.epoch, 1);
    assert!(first.signs.is_none());
    // Others have come and gone.
    records.claim(5, "b:1", WallTime(0)).await.unwrap();
    let (candidate_next, _) = candidate(&records, "c:1");
    let next = candidate_next.take().await.unwrap();
    assert_eq!(next.epoch, 6);
    assert_eq!(records.latest().await.unwrap().unwrap().address, "c:1");
    next.fence.check().await.unwrap();
    // With one at a time there is no lease to hold.
    tokio::time::sleep(LONG).await;
    assert!(!next.fence.is_revoked());
}

/// Each sees that nobody leads: all but one find the record of the first epoch taken.
#[tokio::test]
async fn of_several_that_start_at_once_each_leads_in_an_epoch_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let records = LeaderRecords::new(Location::open(directory.path().to_str().unwrap()).unwrap());
    let takes = ["a:1", "b:1", "c:1", "d:1"].map(|address| candidate(&records, address).0.take());
    let taken = futures::future::join_all(takes).await;
    let mut epochs: Vec<u64> = taken.into_iter().map(|it| it.unwrap().epoch).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2, 3, 4]);
}

#[tokio::test]
async fn the_storage_of_a_cluster_says_who_leads_it() {
    let directory = tempfile::tempdir().unwrap();
    let storage = directory.path().to_str().unwrap();
    assert_eq!(leader_address(storage).await, None);
    let records = LeaderRecords::new(Location::open(storage).unwrap());
    records.claim(1, "a:1", WallTime(0)).await.unwrap();
    records.claim(2, "b:1", WallTime(0)).await.unwrap();
    assert_eq!(leader_address(storage).await.as_deref(), Some("b:1"));
    assert_eq!(leader_address("no-scheme-of-ours://x").await, None);
}
