use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use streamd_core::graph::JobGraph;
use streamd_core::protocol::{Failure, FaultDomain};
use streamd_core::time::{Clock, MonotonicTime, SystemClock, WallTime};
use streamd_snapshot::{JobRecord, LeaderRecords, Location, StoredJob, random_nonce};
use tokio::time::Instant;

use super::*;

const JOB: JobId = JobId::from_bytes([7; 16]);

/// The records of a job that was accepted, as the leader of epoch 1 writes them.
struct Led {
    base: Location,
    store: JobStore,
    leaders: LeaderRecords,
    journal: Journal,
}

impl Led {
    async fn at(base: Location) -> Self {
        let (store, leaders) = (JobStore::new(base.clone()), LeaderRecords::new(base.clone()));
        leaders.claim(1, "a:1", WallTime(0)).await.unwrap().unwrap();
        let fence = Fence::new(leaders.clone(), 1, Arc::new(SystemClock::default()));
        let journal = Journal::new(store.clone(), JOB, 1, fence);
        Self {
            base,
            store,
            leaders,
            journal,
        }
    }

    async fn in_memory() -> Self {
        let base = Location::open(&format!("memory://{}/ha", random_nonce())).unwrap();
        let led = Self::at(base).await;
        led.accept().await;
        led
    }

    async fn accept(&self) {
        let record = JobRecord {
            version: JobRecord::VERSION,
            job_id: JOB,
            leader_epoch: 1,
            submitted_at: WallTime(0),
            submission: serde_json::Value::Null,
            graph: JobGraph::new("flights"),
            max_parallelism: Vec::new(),
            restore: None,
            options: serde_json::Value::Null,
            warnings: Vec::new(),
            nonce: random_nonce(),
        };
        self.store.create(&record).await.unwrap();
    }

    async fn stored(&self) -> StoredJob {
        self.store.find(JOB).await.unwrap().unwrap()
    }
}

fn ended(state: &str) -> JobResultRecord {
    JobResultRecord {
        version: JobResultRecord::VERSION,
        job_id: JOB,
        state: state.to_owned(),
        ended_at: WallTime(1),
        attempt: Attempt(1),
        failures: Vec::new(),
        leader_epoch: 1,
    }
}

#[tokio::test]
async fn the_next_leader_finds_what_was_recorded() {
    let led = Led::in_memory().await;
    let failure = RecordedFailure {
        failure: Failure::new(FaultDomain::User, "record 7 is poison"),
        attempt: Attempt(2),
        at: WallTime(1),
        restart_delay_ms: Some(50),
    };
    led.journal
        .begin_attempt(Attempt(3), vec![failure.clone()])
        .await
        .unwrap();
    assert_eq!(led.stored().await.failures, [failure]);
    led.journal.commit(CheckpointId(9), "file:///sp").await.unwrap();
    assert!(!led.stored().await.is_suspended);
    led.journal.cancel(Some("file:///sp".to_owned())).await.unwrap();
    led.journal.suspend().await.unwrap();
    let stored = led.stored().await;
    assert_eq!((stored.attempt, stored.is_suspended), (Attempt(3), true));
    assert_eq!(stored.cancellation.unwrap().savepoint.as_deref(), Some("file:///sp"));
    let committed = stored.committed.unwrap();
    assert_eq!(
        (committed.checkpoint_id, committed.uri.as_str(), committed.leader_epoch),
        (CheckpointId(9), "file:///sp", 1)
    );
    assert_eq!(stored.result, None);
    led.journal.end(ended("FINISHED")).await.unwrap();
    assert_eq!(led.stored().await.result, Some(ended("FINISHED")));
}

/// I6.
#[tokio::test]
async fn whoever_leads_no_more_records_nothing() {
    let led = Led::in_memory().await;
    led.leaders.claim(2, "b:1", WallTime(0)).await.unwrap().unwrap();
    let refused = [
        led.journal.begin_attempt(Attempt(1), Vec::new()).await,
        led.journal.commit(CheckpointId(9), "file:///sp").await,
        led.journal.cancel(None).await,
        led.journal.suspend().await,
        led.journal.end(ended("FINISHED")).await,
    ];
    for outcome in refused {
        assert_eq!(outcome.unwrap_err().code, ErrorCode::LeadershipLost);
    }
    let stored = led.stored().await;
    assert_eq!((stored.attempt, stored.is_suspended), (Attempt::NONE, false));
    assert_eq!(
        (stored.committed, stored.cancellation, stored.result),
        (None, None, None)
    );
}

#[tokio::test]
async fn an_attempt_that_another_leader_has_begun_ends_the_leadership() {
    let led = Led::in_memory().await;
    led.store.begin_attempt(JOB, Attempt(1), &[], 2).await.unwrap();
    let refused = led.journal.begin_attempt(Attempt(1), Vec::new()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::LeadershipLost);
    assert!(led.journal.fence.is_revoked());
}

/// A second goes by with each look at it.
#[derive(Default)]
struct SteppingClock(AtomicU64);

impl Clock for SteppingClock {
    fn monotonic(&self) -> MonotonicTime {
        MonotonicTime(self.0.fetch_add(1_000, Ordering::Relaxed))
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }
}

/// I6: the next leader looks before it records that it takes the job over, and may not have seen the cancellation.
#[tokio::test]
async fn a_cancellation_during_whose_writing_the_leadership_was_lost_is_not_acknowledged() {
    let led = Led::in_memory().await;
    let fence = Fence::new(led.leaders.clone(), 1, Arc::new(SteppingClock::default()));
    fence.hold_until(MonotonicTime(500));
    let journal = Journal::new(led.store.clone(), JOB, 1, fence);
    let refused = journal.cancel(None).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::LeadershipLost);
}

/// I6.
#[tokio::test]
async fn an_end_during_whose_writing_the_leadership_was_lost_is_no_end_of_this_leader() {
    let led = Led::in_memory().await;
    let fence = Fence::new(led.leaders.clone(), 1, Arc::new(SteppingClock::default()));
    fence.hold_until(MonotonicTime(500));
    let journal = Journal::new(led.store.clone(), JOB, 1, fence);
    let refused = journal.end(ended("FINISHED")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::LeadershipLost);
}

#[tokio::test(start_paused = true)]
async fn the_first_end_of_a_job_is_the_one_that_counts() {
    let led = Led::in_memory().await;
    led.journal.end(ended("FINISHED")).await.unwrap();
    // The same again, as after an answer that was lost.
    led.journal.end(ended("FINISHED")).await.unwrap();
    let refused = led.journal.end(ended("FAILED")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Internal);
    assert_eq!(led.stored().await.result, Some(ended("FINISHED")));
}

/// A folder in which the records of the job cannot be written: a file is where their folder belongs.
async fn obstructed(folder: &tempfile::TempDir) -> (Led, std::path::PathBuf) {
    let led = Led::at(Location::open(folder.path().to_str().unwrap()).unwrap()).await;
    let obstacle = led.base.child("jobs").unwrap().local_path().unwrap();
    std::fs::write(&obstacle, "").unwrap();
    (led, obstacle)
}

#[tokio::test(start_paused = true)]
async fn a_record_is_written_again_until_the_store_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let (led, obstacle) = obstructed(&folder).await;
    let relief = async {
        tokio::time::sleep(PAUSES[0] + PAUSES[1] / 2).await;
        std::fs::remove_file(&obstacle).unwrap();
    };
    let (begun, ()) = tokio::join!(led.journal.begin_attempt(Attempt(1), Vec::new()), relief);
    begun.unwrap();
    led.accept().await;
    assert_eq!(led.stored().await.attempt, Attempt(1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_nothing_is_given_up_after_all_pauses_and_at_once_by_whoever_leads_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (led, _obstacle) = obstructed(&folder).await;
    let begun = Instant::now();
    let refused = led.journal.begin_attempt(Attempt(1), Vec::new()).await.unwrap_err();
    assert_ne!(refused.code, ErrorCode::LeadershipLost);
    assert_eq!(begun.elapsed().as_secs(), PAUSES.iter().sum::<Duration>().as_secs());
    led.journal.fence.revoke("in this test");
    let begun = Instant::now();
    led.journal.begin_attempt(Attempt(1), Vec::new()).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 0);
}
