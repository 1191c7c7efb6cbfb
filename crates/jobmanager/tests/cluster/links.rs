//! Links of task managers and workers.

use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::protocol::{WorkerEvent, WorkerRegistration};
use streamd_rpc::{limits, proto};
use tonic::transport::Channel;

use crate::fake::Script;
use crate::fixture::{Cluster, DEADLINE, graph};

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_of_two_task_managers_of_one_name_wins() {
    let (cluster, mut first) = Cluster::with_task_manager(1, Script::running(graph(1, None))).await;
    let _second = cluster.task_manager("tm-1", 3, Script::running(graph(1, None))).await;
    tokio::time::timeout(DEADLINE, first.closed.wait_for(|closed| *closed))
        .await
        .expect("the first is fenced")
        .unwrap();
    let view = cluster.client.get_cluster(proto::GetClusterRequest {}).await.unwrap();
    assert_eq!((view.task_managers.len(), view.slots_total, view.slots_free), (1, 3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_task_manager_is_given_up() {
    let cluster = Cluster::start_with(|options| {
        options.heartbeat_interval_ms = 20;
        options.heartbeat_timeout_ms = 100;
    })
    .await;
    let mut silent = cluster.task_manager("tm-1", 1, Script::running(graph(1, None))).await;
    tokio::time::timeout(DEADLINE, silent.closed.wait_for(|closed| *closed))
        .await
        .expect("its link is closed")
        .unwrap();
    cluster.task_managers_are(0).await;
    let view = cluster.client.get_cluster(proto::GetClusterRequest {}).await.unwrap();
    assert_eq!(view.slots_total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_nobody_expects_is_refused() {
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, None))).await;
    let job = "00000000000000000000000000000001";
    cluster.client.submit_job(cluster.submission(job)).await.unwrap();
    let stranger = WorkerEvent::Registered(WorkerRegistration {
        job_id: job.parse::<JobId>().unwrap(),
        worker: WorkerId(1),
        task_manager: TaskManagerId("tm-1".to_owned()),
        data_address: "127.0.0.1:1".to_owned(),
        fingerprint: graph(1, None).fingerprint(),
        graph_outline: String::new(),
        process_id: 1,
    });
    let address = format!("http://{}", cluster.job_manager.address());
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let first = tokio_stream::once(proto::WorkerEvent::from(stranger));
    let refused = limits::worker_link_client(channel).connect(first).await.unwrap_err();
    assert!(refused.message().contains("does not expect"), "{refused:?}");
    cluster.job_runs(job).await;
}
