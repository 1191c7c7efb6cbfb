//! Links of task managers and workers.

use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::protocol::{WorkerEvent, WorkerRegistration};
use streamd_rpc::proto::task_manager_command::Command;
use streamd_rpc::proto::task_manager_event::Event;
use streamd_rpc::{limits, proto};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::fake::{Manners, Script};
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

/// What a worker of task manager `tm-1` says first.
fn registration(job: &str, worker: WorkerId) -> WorkerEvent {
    WorkerEvent::Registered(WorkerRegistration {
        job_id: job.parse::<JobId>().unwrap(),
        worker,
        task_manager: TaskManagerId("tm-1".to_owned()),
        data_address: "127.0.0.1:1".to_owned(),
        fingerprint: graph(1, None).fingerprint(),
        graph_outline: String::new(),
        process_id: 1,
    })
}

async fn channel_to(cluster: &Cluster) -> Channel {
    let address = format!("http://{}", cluster.job_manager.address());
    Channel::from_shared(address).unwrap().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_nobody_expects_is_refused() {
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, None))).await;
    let job = "00000000000000000000000000000001";
    cluster.client.submit_job(cluster.submission(job)).await.unwrap();
    let stranger = registration(job, WorkerId(1));
    let channel = channel_to(&cluster).await;
    let first = tokio_stream::once(proto::WorkerEvent::from(stranger));
    let refused = limits::worker_link_client(channel).connect(first).await.unwrap_err();
    assert!(refused.message().contains("does not expect"), "{refused:?}");
    cluster.job_runs(job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_worker_says_what_nobody_understands_tells_that_as_its_failure() {
    let silent = Script {
        manners: Manners::Silent,
        ..Script::running(graph(1, None))
    };
    let (cluster, task_manager) = Cluster::with_task_manager(1, silent).await;
    let job = "00000000000000000000000000000001";
    cluster.client.submit_job(cluster.submission(job)).await.unwrap();
    let worker = task_manager.worker().await;
    let registration = registration(job, worker);
    let channel = channel_to(&cluster).await;
    let events = tokio_stream::iter([registration.into(), proto::WorkerEvent::default()]);
    let _commands = limits::worker_link_client(channel)
        .connect(events.chain(tokio_stream::pending()))
        .await
        .unwrap();
    let told = format!("`{worker}` sent a malformed message: message lacks field");
    let has_told = |job: &proto::JobDetails| job.summary.as_ref().unwrap().last_failure.contains(&told);
    cluster.job_when(job, has_told).await;
}

/// I21: the job ended while the task manager was away.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_manager_that_comes_back_with_a_job_that_nobody_knows_is_to_forget_it() {
    let cluster = Cluster::start_with(|_| {}).await;
    let channel = channel_to(&cluster).await;
    let job_id = "00000000000000000000000000000001".to_owned();
    let returned = proto::TaskManagerRegistration {
        task_manager_id: "tm-1".to_owned(),
        host: "localhost".to_owned(),
        slots: 2,
        workers: vec![proto::RunningWorker {
            worker_id: 7,
            job_id: job_id.clone(),
        }],
        ..proto::TaskManagerRegistration::default()
    };
    let event = proto::TaskManagerEvent {
        event: Some(Event::Registration(returned)),
    };
    let events = tokio_stream::once(event).chain(tokio_stream::pending());
    let mut link = limits::task_manager_link_client(channel);
    let mut commands = link.connect(events).await.unwrap().into_inner();
    let mut stopped = None;
    loop {
        let next = tokio::time::timeout(DEADLINE, commands.message()).await;
        match next
            .expect("a command comes in time")
            .unwrap()
            .unwrap()
            .command
            .unwrap()
        {
            Command::StopWorker(stop) => stopped = Some(stop.worker_id),
            Command::ForgetJob(forget) => {
                assert_eq!((stopped, forget.job_id), (Some(7), job_id));
                break;
            }
            _other => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_manager_that_another_job_manager_drained_still_is_and_may_leave_when_it_likes() {
    let cluster = Cluster::start_with(|_| {}).await;
    let channel = channel_to(&cluster).await;
    let (events, outgoing) = mpsc::channel(4);
    let say = async |event| {
        let event = proto::TaskManagerEvent { event: Some(event) };
        events.send(event).await.unwrap();
    };
    say(Event::Registration(proto::TaskManagerRegistration {
        task_manager_id: "tm-1".to_owned(),
        host: "localhost".to_owned(),
        slots: 2,
        drained: true,
        ..proto::TaskManagerRegistration::default()
    }))
    .await;
    let mut link = limits::task_manager_link_client(channel);
    let mut commands = link.connect(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let mut next = async || {
        let next = tokio::time::timeout(DEADLINE, commands.message()).await;
        next.expect("a command comes in time")
            .unwrap()
            .unwrap()
            .command
            .unwrap()
    };
    assert!(matches!(next().await, Command::Accepted(_)));
    let view = cluster.client.get_cluster(proto::GetClusterRequest {}).await.unwrap();
    assert_eq!((view.slots_total, view.slots_free), (2, 0));
    assert!(view.task_managers[0].drained && !view.task_managers[0].stopping);
    say(Event::Leaving(proto::TaskManagerLeaving {})).await;
    let command = loop {
        match next().await {
            Command::SetUse(proto::SetUse { drained }) => assert!(drained),
            other => break other,
        }
    };
    assert_eq!(command, Command::LeaveNow(proto::LeaveNow::default()));
}
