use super::*;

/// Every record of version 1, as it was first written.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/jobs-v1");

fn store() -> JobStore {
    JobStore::new(Location::open(&format!("memory://{}/ha", random_nonce())).unwrap())
}

fn job(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn record(n: u8) -> JobRecord {
    JobRecord {
        version: JobRecord::VERSION,
        job_id: job(n),
        leader_epoch: 1,
        submitted_at: WallTime(10),
        submission: serde_json::json!({"sha256": "ab"}),
        graph: JobGraph::new("flights"),
        max_parallelism: Vec::new(),
        restore: None,
        options: serde_json::json!({}),
        warnings: Vec::new(),
        nonce: random_nonce(),
    }
}

fn result(n: u8, state: &str) -> JobResultRecord {
    JobResultRecord {
        version: JobResultRecord::VERSION,
        job_id: job(n),
        state: state.to_owned(),
        ended_at: WallTime(20),
        attempt: Attempt(2),
        failures: Vec::new(),
        leader_epoch: 1,
    }
}

/// What was put in the place of another job's record, or of another epoch's, is neither.
#[tokio::test]
async fn a_record_that_speaks_of_another_job_or_epoch_is_refused() {
    let store = store();
    let place = |name: &str| store.child(job(1), name).unwrap();
    place(layout::JOB)
        .put_create(crate::record::encoded(&record(2)))
        .await
        .unwrap();
    let refused = store.find(job(1)).await;
    assert!(matches!(refused, Err(SnapshotError::Malformed { .. })), "{refused:?}");
    place(layout::JOB).delete().await.unwrap();
    store.create(&record(1)).await.unwrap();
    assert!(store.find(job(1)).await.unwrap().is_some());
    let other = crate::record::encoded(&TakeoverRecord::new(7, None, None));
    place(&layout::takeover(2)).put_create(other).await.unwrap();
    let refused = store.find(job(1)).await;
    assert!(matches!(refused, Err(SnapshotError::Malformed { .. })), "{refused:?}");
}

/// RS29.
#[tokio::test]
async fn of_submissions_with_one_id_one_is_the_job() {
    let store = store();
    let claims = (0..8).map(|_| {
        let store = store.clone();
        async move { store.create(&record(1)).await.unwrap() }
    });
    let claims = futures::future::join_all(claims).await;
    assert_eq!(claims.iter().filter(|it| **it == Creation::Created).count(), 1);
}

#[tokio::test]
async fn the_next_leader_finds_how_far_a_job_has_come() {
    let store = store();
    store.create(&record(1)).await.unwrap();
    let fresh = store.find(job(1)).await.unwrap().unwrap();
    assert_eq!((fresh.attempt, fresh.is_suspended), (Attempt::NONE, false));
    for attempt in 1..=4 {
        assert_eq!(
            store.begin_attempt(job(1), Attempt(attempt), &[], 1).await.unwrap(),
            Creation::Created
        );
    }
    // I10: of the attempts, the last two are kept.
    for (attempt, is_kept) in [(1, false), (2, false), (3, true), (4, true)] {
        let place = store.child(job(1), &layout::attempt(Attempt(attempt))).unwrap();
        assert_eq!(place.exists().await.unwrap(), is_kept, "attempt {attempt}");
    }
    // RS31: another leader that has begun an attempt has begun it.
    assert_eq!(
        store.begin_attempt(job(1), Attempt(4), &[], 2).await.unwrap(),
        Creation::Taken
    );
    store.suspend(job(1), 1).await.unwrap();
    assert!(store.find(job(1)).await.unwrap().unwrap().is_suspended);
    let takeover = TakeoverRecord::new(2, Some(CheckpointId(7)), None);
    store.take_over(job(1), &takeover).await.unwrap();
    store
        .commit(
            job(1),
            &CommittedSavepoint::new(CheckpointId(9), "file:///sp".to_owned(), 2),
        )
        .await
        .unwrap();
    let found = store.list().await.unwrap().pop().unwrap();
    assert_eq!((found.attempt, found.is_suspended), (Attempt(4), false));
    assert_eq!(
        (found.takeovers.as_slice(), found.result),
        ([takeover].as_slice(), None)
    );
    assert_eq!(found.committed.unwrap().checkpoint_id, CheckpointId(9));
}

#[tokio::test]
async fn a_cancellation_goes_from_leader_to_leader_until_the_job_has_ended() {
    let store = store();
    let wanted = Cancellation {
        savepoint: Some("file:///sp".to_owned()),
    };
    let found = async || store.find(job(1)).await.unwrap().unwrap().cancellation;
    store.create(&record(1)).await.unwrap();
    assert_eq!(found().await, None);
    assert_eq!(store.cancel(job(1), &wanted, 1).await.unwrap(), Creation::Created);
    assert_eq!(found().await, Some(wanted.clone()));
    let takeover = TakeoverRecord::new(2, None, found().await);
    store.take_over(job(1), &takeover).await.unwrap();
    assert_eq!(found().await, Some(wanted));
    // I6: the next leader looked before this one wrote, and the user was not told that it is heard.
    let next = TakeoverRecord::new(3, None, None);
    store.take_over(job(1), &next).await.unwrap();
    store
        .cancel(job(1), &Cancellation { savepoint: None }, 2)
        .await
        .unwrap();
    assert_eq!(found().await, None);
}

/// I6: a leader that was stopped while it recorded the end, and goes on when another has taken the job over.
#[tokio::test]
async fn an_end_that_comes_after_a_takeover_is_none_and_keeps_the_next_leader_from_nothing() {
    let store = store();
    store.create(&record(1)).await.unwrap();
    store
        .take_over(job(1), &TakeoverRecord::new(2, None, None))
        .await
        .unwrap();
    store.end(&result(1, "CANCELED")).await.unwrap();
    assert_eq!(store.find(job(1)).await.unwrap().unwrap().result, None);
    let of_the_next = JobResultRecord {
        leader_epoch: 2,
        ..result(1, "FINISHED")
    };
    assert_eq!(store.end(&of_the_next).await.unwrap(), of_the_next);
    assert_eq!(store.find(job(1)).await.unwrap().unwrap().result, Some(of_the_next));
}

/// I15: it ends before its leader could read its checkpoints, and take it over.
#[tokio::test]
async fn a_job_that_is_cancelled_by_a_leader_that_has_not_taken_it_over_is_cancelled_for_the_next() {
    let store = store();
    store.create(&record(1)).await.unwrap();
    let wanted = Cancellation { savepoint: None };
    store.cancel(job(1), &wanted, 2).await.unwrap();
    let found = store.find(job(1)).await.unwrap().unwrap();
    assert_eq!((found.cancellation, found.result), (Some(wanted), None));
    let ended = JobResultRecord {
        leader_epoch: 2,
        ..result(1, "CANCELED")
    };
    store.end(&ended).await.unwrap();
    assert_eq!(store.find(job(1)).await.unwrap().unwrap().result, Some(ended));
}

/// I6: one that led before the job was submitted, was stopped, and takes it over when it goes on.
#[tokio::test]
async fn a_leader_of_the_past_that_takes_a_job_over_hides_nothing_of_the_one_that_has_it() {
    let store = store();
    let submitted = JobRecord {
        leader_epoch: 2,
        ..record(1)
    };
    store.create(&submitted).await.unwrap();
    let wanted = Cancellation { savepoint: None };
    store.cancel(job(1), &wanted, 2).await.unwrap();
    let stale = TakeoverRecord::new(1, None, None);
    store.take_over(job(1), &stale).await.unwrap();
    let found = store.find(job(1)).await.unwrap().unwrap();
    assert_eq!(found.cancellation, Some(wanted));
}

/// RS27: the first result of a leader stays.
#[tokio::test]
async fn a_job_ends_once_and_is_forgotten_whole() {
    let store = store();
    store.create(&record(1)).await.unwrap();
    assert_eq!(store.end(&result(1, "FINISHED")).await.unwrap().state, "FINISHED");
    assert_eq!(store.end(&result(1, "FAILED")).await.unwrap().state, "FINISHED");
    store.forget(job(1)).await.unwrap();
    assert_eq!(store.list().await.unwrap(), []);
    assert!(store.base.list().await.unwrap().is_empty());
}

/// A job manager that died while it forgot a job must not begin it again.
#[tokio::test]
async fn a_result_without_a_submission_is_no_job() {
    let store = store();
    store.end(&result(1, "FINISHED")).await.unwrap();
    assert_eq!(store.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_told_and_never_skipped() {
    let store = store();
    store.create(&record(1)).await.unwrap();
    let location = store.child(job(2), layout::JOB).unwrap();
    for bad in ["", "{", "{\"version\": 2}", "{\"version\": 1}"] {
        location.put_create(bad.to_owned()).await.unwrap();
        assert!(store.list().await.is_err(), "{bad}");
        location.delete().await.unwrap();
    }
}

#[test]
fn what_a_stale_leader_completes_after_a_takeover_does_not_count() {
    let completed = |id, epoch| {
        let json = format!(
            r#"{{"version":1,"job_id":"{}","checkpoint_id":{id},"folder":"chk-{id}","metadata_bytes":1,
               "leader_epoch":{epoch},"attempt":1,"nonce":"n","triggered_at":0}}"#,
            job(1)
        );
        serde_json::from_str::<CompletionRecord>(&json).unwrap()
    };
    let takeover = TakeoverRecord::new(2, Some(CheckpointId(7)), None);
    assert!(takeover.accepts(&completed(7, 1)));
    assert!(!takeover.accepts(&completed(8, 1)));
    assert!(takeover.accepts(&completed(8, 2)) && takeover.accepts(&completed(9, 3)));
    assert!(!TakeoverRecord::new(2, None, None).accepts(&completed(1, 1)));
}

#[tokio::test]
async fn records_of_version_1_are_read_for_ever() {
    let store = JobStore::new(Location::open(FIXTURES).unwrap());
    let found = store.list().await.unwrap();
    let [running, ended @ ..] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((running.attempt, running.is_suspended), (Attempt(3), true));
    assert_eq!(running.record.graph.name, "flights");
    assert_eq!(
        running.committed.as_ref().unwrap().uri,
        "file:///savepoints/savepoint-1"
    );
    assert_eq!(running.takeovers[0].latest, Some(CheckpointId(7)));
    assert_eq!(running.takeovers[0].cancellation, None);
    let cancellation = running.cancellation.as_ref().unwrap();
    assert_eq!(
        cancellation.savepoint.as_deref(),
        Some("file:///savepoints/savepoint-2")
    );
    // The end of the first is named as earlier builds did.
    let results = ended.iter().map(|job| job.result.as_ref().unwrap());
    let results: Vec<_> = results
        .map(|result| (result.state.as_str(), result.failures.len(), result.leader_epoch))
        .collect();
    assert_eq!(results, [("FAILED", 1, 1), ("FAILED", 1, 2), ("CANCELED", 1, 2)]);
    assert_eq!(ended[2].cancellation, Some(Cancellation { savepoint: None }));
}
