//! A task manager and its workers, as scripts that speak real gRPC.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, JobId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::protocol::{
    Deployment, ExecutionState, Failure, FaultDomain, SubtaskMetrics, WorkerCommand, WorkerEvent, WorkerRegistration,
};
use streamd_core::snapshot::SubtaskSnapshot;
use streamd_rpc::proto::task_manager_command::Command;
use streamd_rpc::proto::task_manager_event::Event;
use streamd_rpc::{limits, proto};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// What the application does when it is described, and its workers when they run.
#[derive(Clone)]
pub struct Script {
    /// What describing the application yields.
    pub described: Result<JobGraph, CodedError>,
    /// Whether subtasks acknowledge savepoints and checkpoints.
    pub acknowledges: bool,
    pub manners: Manners,
}

/// How workers behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    Good,
    /// User code blocks: they end when they are killed, not when they are told.
    Blocked,
    /// Their processes run, and never report for work.
    Silent,
}

impl Script {
    pub fn running(graph: JobGraph) -> Self {
        Self {
            described: Ok(graph),
            acknowledges: true,
            manners: Manners::Good,
        }
    }

    pub fn failing(message: &str) -> Self {
        Self {
            described: Err(CodedError::new(ErrorCode::DescribeFailed, message)),
            acknowledges: true,
            manners: Manners::Good,
        }
    }
}

/// A task manager with a link to the job manager.
pub struct FakeTaskManager {
    /// Drops its link, and its workers', without a word.
    pub dead: CancellationToken,
    /// The workers that run, each with what ends it without a word.
    pub workers: Arc<Mutex<BTreeMap<WorkerId, CancellationToken>>>,
    /// How often it was asked to describe an application.
    pub descriptions: watch::Receiver<u32>,
    /// Whether the job manager has closed the link.
    pub closed: watch::Receiver<bool>,
}

impl FakeTaskManager {
    /// Connects, and returns once the registration is accepted.
    pub async fn start(address: SocketAddr, name: &str, slots: u32, script: Script) -> Self {
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let (events, outgoing) = mpsc::channel(64);
        events.send(registration(name, slots)).await.unwrap();
        let mut client = limits::task_manager_link_client(channel.clone());
        let response = client.connect(ReceiverStream::new(outgoing)).await.unwrap();
        let mut commands = response.into_inner();
        let accepted = commands.message().await.unwrap().unwrap().command;
        assert!(matches!(accepted, Some(Command::Accepted(_))), "{accepted:?}");
        let (descriptions, described) = watch::channel(0);
        let (closing, closed) = watch::channel(false);
        let link = Link {
            name: TaskManagerId(name.to_owned()),
            channel,
            events,
            script,
            workers: Arc::default(),
            descriptions,
        };
        let task_manager = Self {
            dead: CancellationToken::new(),
            workers: link.workers.clone(),
            descriptions: described,
            closed,
        };
        let dead = task_manager.dead.clone();
        tokio::spawn(async move {
            let workers = link.workers.clone();
            tokio::select! {
                () = link.obey(commands) => {}
                () = dead.cancelled() => {}
            }
            workers.lock().unwrap().values().for_each(CancellationToken::cancel);
            closing.send_replace(true);
        });
        task_manager
    }

    /// The first worker, once its process runs.
    pub async fn worker(&self) -> WorkerId {
        loop {
            if let Some(worker) = self.workers.lock().unwrap().keys().next() {
                return *worker;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends one worker without a word, as `kill -9` would.
    pub fn kill_a_worker(&self) -> WorkerId {
        let workers = self.workers.lock().unwrap();
        let (worker, life) = workers.iter().next().expect("a worker runs");
        life.cancel();
        *worker
    }
}

fn registration(name: &str, slots: u32) -> proto::TaskManagerEvent {
    event(Event::Registration(proto::TaskManagerRegistration {
        task_manager_id: name.to_owned(),
        host: "localhost".to_owned(),
        slots,
        process_id: 1,
        version: "test".to_owned(),
        ..proto::TaskManagerRegistration::default()
    }))
}

fn event(event: Event) -> proto::TaskManagerEvent {
    proto::TaskManagerEvent { event: Some(event) }
}

struct Link {
    name: TaskManagerId,
    channel: Channel,
    events: mpsc::Sender<proto::TaskManagerEvent>,
    script: Script,
    workers: Arc<Mutex<BTreeMap<WorkerId, CancellationToken>>>,
    descriptions: watch::Sender<u32>,
}

impl Link {
    async fn obey(self, mut commands: tonic::Streaming<proto::TaskManagerCommand>) {
        while let Ok(Some(command)) = commands.message().await {
            match command.command.unwrap() {
                Command::Accepted(_) => panic!("accepted twice"),
                Command::Describe(describe) => {
                    self.descriptions.send_modify(|count| *count += 1);
                    self.say(Event::Described(proto::ApplicationDescribed {
                        request_id: describe.request_id,
                        outcome: Some(self.plan()),
                    }))
                    .await;
                }
                Command::StartWorker(start) => self.start_worker(&start),
                Command::StopWorker(stop) => {
                    if let Some(life) = self.workers.lock().unwrap().get(&WorkerId(stop.worker_id)) {
                        life.cancel();
                    }
                }
                Command::ReadLog(read) => self.send_log(&read).await,
                Command::ForgetJob(_) | Command::Heartbeat(_) | Command::FetchProgram(_) => {}
                Command::SetUse(_) | Command::LeaveNow(_) => {}
                Command::ProfileWorker(_) | Command::StopProfile(_) => {}
            }
        }
    }

    fn plan(&self) -> proto::application_described::Outcome {
        match &self.script.described {
            Ok(graph) => proto::application_described::Outcome::Plan(serde_json::to_vec(graph).unwrap().into()),
            Err(error) => proto::application_described::Outcome::Error(streamd_rpc::status::to_proto(error)),
        }
    }

    async fn send_log(&self, read: &proto::ReadLog) {
        for (chunk, last) in [("hello ", false), ("log\n", false), ("", true)] {
            self.say(Event::LogChunk(proto::LogChunk {
                request_id: read.request_id,
                worker_id: 7,
                chunk: Bytes::from_static(chunk.as_bytes()),
                last,
            }))
            .await;
        }
    }

    fn start_worker(&self, start: &proto::StartWorker) {
        let id = WorkerId(start.worker_id);
        let life = CancellationToken::new();
        self.workers.lock().unwrap().insert(id, life.clone());
        let graph = self.script.described.clone().unwrap();
        let worker = FakeWorker {
            registration: WorkerRegistration {
                job_id: start.job_id.parse::<JobId>().unwrap(),
                worker: id,
                task_manager: self.name.clone(),
                data_address: "127.0.0.1:1".to_owned(),
                fingerprint: graph.fingerprint(),
                graph_outline: String::new(),
                process_id: 4711,
            },
            acknowledges: self.script.acknowledges,
            manners: self.script.manners,
            running: BTreeSet::new(),
        };
        let (channel, workers, events) = (self.channel.clone(), self.workers.clone(), self.events.clone());
        tokio::spawn(async move {
            let started = proto::WorkerStarted {
                worker_id: id.0,
                process_id: 4711,
            };
            // The link may be gone.
            let _ = events.send(event(Event::WorkerStarted(started))).await;
            let killed = tokio::select! {
                () = worker.run_over(channel) => false,
                () = life.cancelled() => true,
            };
            workers.lock().unwrap().remove(&id);
            let how = if killed { "was killed by signal 9" } else { "exited" };
            let reason = Failure::new(FaultDomain::External, format!("worker {how}"));
            let exited = proto::WorkerExited {
                worker_id: id.0,
                reason: Some(reason.into()),
            };
            // The link may be gone.
            let _ = events.send(event(Event::WorkerExited(exited))).await;
        });
    }

    async fn say(&self, said: Event) {
        self.events.send(event(said)).await.unwrap();
    }
}

/// A worker whose subtasks run and acknowledge at once.
pub struct FakeWorker {
    pub registration: WorkerRegistration,
    pub acknowledges: bool,
    pub manners: Manners,
    pub running: BTreeSet<SubtaskId>,
}

impl FakeWorker {
    async fn run_over(mut self, channel: Channel) {
        if self.manners == Manners::Silent {
            return std::future::pending().await;
        }
        let (events, outgoing) = mpsc::channel(64);
        events
            .send(WorkerEvent::Registered(self.registration.clone()))
            .await
            .unwrap();
        let outgoing = ReceiverStream::new(outgoing).map(proto::WorkerEvent::from);
        let Ok(response) = limits::worker_link_client(channel).connect(outgoing).await else {
            return;
        };
        let mut commands = response.into_inner();
        while let Ok(Some(command)) = commands.message().await {
            if !self.obey(WorkerCommand::try_from(command).unwrap(), &events).await {
                return;
            }
        }
    }

    /// Does as it is told. `false` once it is to exit.
    pub async fn obey(&mut self, command: WorkerCommand, events: &mpsc::Sender<WorkerEvent>) -> bool {
        match command {
            WorkerCommand::Deploy(deployment) => {
                self.running = subtasks(&deployment);
                self.report(deployment.attempt, ExecutionState::Initializing, events)
                    .await;
                self.report(deployment.attempt, ExecutionState::Running, events).await;
                let subtasks = self.running.iter().map(metrics).collect();
                let heartbeat = WorkerEvent::Heartbeat {
                    attempt: deployment.attempt,
                    subtasks,
                };
                events.send(heartbeat).await.unwrap();
            }
            WorkerCommand::TriggerCheckpoint { attempt, barrier } if self.acknowledges => {
                for subtask in self.running.clone() {
                    let acknowledgement = WorkerEvent::Acknowledge {
                        attempt,
                        checkpoint: barrier.checkpoint,
                        subtask,
                        snapshot: SubtaskSnapshot::default(),
                    };
                    events.send(acknowledgement).await.unwrap();
                }
            }
            WorkerCommand::TriggerCheckpoint { .. }
            | WorkerCommand::NotifyCheckpointComplete { .. }
            | WorkerCommand::NotifyCheckpointAborted { .. }
            | WorkerCommand::AlignWatermarks { .. } => {}
            WorkerCommand::Drain { attempt } => {
                for subtask in self.running.clone() {
                    events.send(WorkerEvent::EndOfData { attempt, subtask }).await.unwrap();
                }
            }
            WorkerCommand::Finish { attempt } => self.report(attempt, ExecutionState::Finished, events).await,
            WorkerCommand::Cancel { .. } | WorkerCommand::Shutdown if self.manners == Manners::Blocked => {}
            WorkerCommand::Cancel { attempt, .. } => {
                self.report(attempt, ExecutionState::Canceled, events).await;
                self.running.clear();
            }
            WorkerCommand::Shutdown => return false,
        }
        true
    }

    async fn report(&self, attempt: Attempt, state: ExecutionState, events: &mpsc::Sender<WorkerEvent>) {
        for subtask in self.running.clone() {
            let changed = WorkerEvent::SubtaskState {
                attempt,
                subtask,
                state,
                failure: None,
            };
            events.send(changed).await.unwrap();
        }
    }
}

fn subtasks(deployment: &Deployment) -> BTreeSet<SubtaskId> {
    deployment
        .slots
        .iter()
        .flat_map(|slot| &slot.subtasks)
        .map(|subtask| subtask.subtask)
        .collect()
}

fn metrics(subtask: &SubtaskId) -> SubtaskMetrics {
    SubtaskMetrics {
        vertex: subtask.vertex,
        index: subtask.index,
        records_in: 42,
        ..SubtaskMetrics::default()
    }
}
