use streamd_core::time::SystemClock;
use streamd_snapshot::Location;

use super::*;

/// RS28: the records that go would be those of the new job.
#[tokio::test]
async fn an_id_whose_records_are_on_their_way_out_is_not_given_to_another_job() {
    let (_mailbox, inbox) = mpsc::channel(1);
    let place = Location::open(&format!("memory://{}/ha", streamd_snapshot::random_nonce())).unwrap();
    let mut registry = Registry {
        options: RegistryOptions {
            ended_jobs_kept: 0,
            ended_jobs_kept_ms: 0,
            first_worker: 0,
        },
        records: JobStore::new(place),
        tasks: TaskTracker::new(),
        clock: Arc::new(SystemClock::new()),
        inbox,
        jobs: BTreeMap::new(),
        forgetting: BTreeMap::new(),
        claims: 0,
        closed: false,
    };
    let id = JobId::from_bytes([1; 16]);
    registry.forget_records(id);
    let refused = registry.on_claim(SubmitJobRequest::default(), id).err().unwrap();
    assert_eq!(refused.code, ErrorCode::DuplicateJob);
    registry.tasks.close();
    registry.tasks.wait().await;
    let granted = registry.on_claim(SubmitJobRequest::default(), id);
    assert!(matches!(granted, Ok(Claim::Granted { .. })));
}
