//! The link over gRPC: a stream of commands down, a stream of events up; found again when it is lost.
//!
//! ```text
//!   worker ◀──queues──▶ link ◀──gRPC──▶ job manager
//!                         │                  ╳ lost, or another one leads
//!                         └── the worker works on; the link asks for the job manager until it is back, and says what runs
//! ```

use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::protocol::{WorkerCommand, WorkerEvent};
use streamd_core::time::{Clock, MonotonicTime};
use streamd_exchange::network::{DataPlane, DataPlaneOptions};
use streamd_rpc::client::{connect_to_leader, job_manager_peer};
use streamd_rpc::proto;
use streamd_rpc::status::from_status;
use streamd_runtime::pipeline::Pipeline;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{info, warn};

use crate::course::Course;
use crate::options::WorkerOptions;
use crate::worker::{LINK_MESSAGES, Worker, WorkerIdentity, WorkerLink};

/// The pause after the first failed attempt to come back; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: a job manager that comes back is found this soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often the task manager's word is read on who the job manager is: a leader that hangs is left this soon after its task manager
/// has left it.
const LOOK: Duration = Duration::from_millis(500);

/// Runs a worker of a cluster until its job master sends it home, no job manager is found for too long, or none is found and the task
/// manager is gone too.
pub async fn run(pipeline: Pipeline, options: WorkerOptions, clock: Arc<dyn Clock>) -> Result<(), CodedError> {
    if let Some(storage) = options.storage.clone() {
        streamd_snapshot::store::configure(storage);
    }
    let data_plane = bind(&options)?;
    let (events, outgoing) = mpsc::channel::<WorkerEvent>(LINK_MESSAGES);
    let (commands_in, commands) = mpsc::channel::<WorkerCommand>(LINK_MESSAGES);
    let link = Link {
        address: options.job_manager.clone(),
        address_file: options.job_manager_file.clone(),
        told: options.job_manager.clone(),
        patience: options.job_manager_patience,
        task_manager_process: parent_id(),
        leader_epoch: 0,
        clock: Arc::clone(&clock),
        commands: commands_in,
        events: outgoing,
    };
    let identity = WorkerIdentity {
        job_id: options.job_id,
        worker: options.worker,
        task_manager: options.task_manager,
        local_directory: options.local_directory,
        recovery_directory: options.recovery_directory,
    };
    let worker = Worker::new(identity, pipeline, clock).with_peers(Arc::new(data_plane));
    let worker = match options.heartbeat {
        Some(interval) => worker.beating_every(interval),
        None => worker,
    };
    let (linked, ()) = tokio::join!(link.run(), worker.run(WorkerLink { commands, events }));
    linked
}

/// Both ends of the worker's queues, and where the job manager was last.
struct Link {
    address: String,
    address_file: Option<PathBuf>,
    /// What the task manager said last.
    told: String,
    patience: Duration,
    /// The process that started this one.
    task_manager_process: u32,
    /// The greatest epoch of a job manager that was followed.
    leader_epoch: u64,
    clock: Arc<dyn Clock>,
    commands: mpsc::Sender<WorkerCommand>,
    events: mpsc::Receiver<WorkerEvent>,
}

/// Why a link ended.
enum End {
    /// The worker has ended.
    Worker,
    /// The job manager is gone, or hangs, or does not lead any more.
    Lost(CodedError),
}

impl Link {
    /// Keeps the worker linked. Its commands close when this ends, and with them the worker.
    async fn run(mut self) -> Result<(), CodedError> {
        let Some(WorkerEvent::Registered(registration)) = self.events.recv().await else {
            return Ok(());
        };
        let mut course = Course::new(registration);
        let mut deadline = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let (error, was_linked) = match self.open(&course).await {
                Ok((commands, outgoing)) => match self.serve(&mut course, commands, outgoing).await {
                    End::Worker => return Ok(()),
                    End::Lost(error) => (error, true),
                },
                Err(error) => (error, false),
            };
            if is_final(&error) {
                return Err(error);
            }
            if parent_id() != self.task_manager_process {
                // No job manager takes a worker back without its task manager, and nobody else would ever end it.
                warn!(%error, "the task manager is gone, and the link to the job manager as well: the worker ends");
                return Err(error);
            }
            let now = self.clock.monotonic();
            if was_linked {
                info!(reason = %error, "the link is lost: looking for the job manager");
                (deadline, pause) = (None, FIRST_PAUSE);
            }
            let deadline: MonotonicTime = *deadline.get_or_insert_with(|| now.plus(millis(self.patience)));
            if now >= deadline {
                warn!(%error, "no job manager is found: the worker ends");
                return Err(error);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.commands.closed() => return Ok(()),
            }
            self.look_up();
        }
    }

    /// Opens a link, and says who comes.
    async fn open(
        &mut self,
        course: &Course,
    ) -> Result<(Streaming<proto::WorkerCommand>, mpsc::Sender<proto::WorkerEvent>), CodedError> {
        let (channel, address) = connect_to_leader(&self.address).await?;
        let (queue, outgoing) = mpsc::channel(LINK_MESSAGES);
        // The queue is new, and has room.
        let _sent = queue.try_send(course.first_word().into());
        let mut client = streamd_rpc::limits::worker_link_client(channel);
        let peer = job_manager_peer(&address);
        let response = client.connect(ReceiverStream::new(outgoing)).await;
        let response = response.map_err(|status| from_status(&status, &peer))?;
        let epoch = response.metadata().get(streamd_rpc::LEADER_EPOCH);
        let epoch = epoch.and_then(|epoch| epoch.to_str().ok()?.parse().ok()).unwrap_or(0);
        if epoch < self.leader_epoch {
            let followed = self.leader_epoch;
            return Err(CodedError::new(
                ErrorCode::LeadershipLost,
                format!("{peer} led in epoch {epoch}, and another one leads since epoch {followed}"),
            ));
        }
        self.leader_epoch = epoch;
        self.address = address;
        Ok((response.into_inner(), queue))
    }

    /// Carries words in both directions until one side ends.
    async fn serve(
        &mut self,
        course: &mut Course,
        mut commands: Streaming<proto::WorkerCommand>,
        outgoing: mpsc::Sender<proto::WorkerEvent>,
    ) -> End {
        let peer = job_manager_peer(&self.address);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Room first, so that no event is taken that then cannot be sent.
            let room = async {
                let permit = outgoing.reserve().await.ok()?;
                Some((permit, self.events.recv().await))
            };
            tokio::select! {
                message = commands.message() => {
                    let command = match message {
                        Ok(Some(message)) => WorkerCommand::try_from(message),
                        Ok(None) => return End::Lost(unreachable(format!("{peer} closed the link"))),
                        Err(status) => return End::Lost(from_status(&status, &peer)),
                    };
                    let command = match command {
                        Ok(command) => command,
                        Err(error) => return End::Lost(malformed(&error)),
                    };
                    course.on_command(&command);
                    if self.commands.send(command).await.is_err() {
                        return End::Worker;
                    }
                }
                said = room => match said {
                    Some((permit, Some(event))) => {
                        course.on_event(&event);
                        permit.send(event.into());
                    }
                    Some((_permit, None)) => return End::Worker,
                    None => return End::Lost(unreachable(format!("{peer} takes no more events"))),
                },
                _now = looks.tick() => {
                    if self.look_up() {
                        return End::Lost(unreachable("another job manager leads".to_owned()));
                    }
                }
            }
        }
    }

    /// Reads what the task manager says about who the job manager is. Whether that is another one.
    fn look_up(&mut self) -> bool {
        let written = self.address_file.as_ref().map(std::fs::read_to_string);
        let Some(Ok(told)) = written else { return false };
        let told = told.trim();
        // Only news counts: the worker may have found the leader before its task manager has.
        if told.is_empty() || told == self.told {
            return false;
        }
        told.clone_into(&mut self.told);
        let is_another = told != self.address;
        told.clone_into(&mut self.address);
        is_another
    }
}

/// Whether the job manager knows the worker, and does not want it.
fn is_final(error: &CodedError) -> bool {
    matches!(
        error.code,
        ErrorCode::JobNotFound | ErrorCode::JobNotRunning | ErrorCode::ProtocolMismatch
    )
}

fn unreachable(message: String) -> CodedError {
    CodedError::new(ErrorCode::JobManagerUnreachable, message)
}

fn malformed(error: &(dyn std::error::Error + 'static)) -> CodedError {
    CodedError::caused(
        ErrorCode::ProtocolMismatch,
        "the job manager sent a malformed command",
        error,
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn bind(options: &WorkerOptions) -> Result<DataPlane, CodedError> {
    let host: IpAddr = options.data_host.parse().map_err(|error| {
        CodedError::new(
            ErrorCode::InvalidConfiguration,
            format!("variable `STREAMD_DATA_HOST`: `{}`: {error}", options.data_host),
        )
    })?;
    // Peers prove that they work for the same job. Who may reach the port at all is the network's business until the data
    // plane speaks TLS.
    let data_plane = DataPlaneOptions::new(options.job_id.to_string());
    let bound = DataPlane::bind(SocketAddr::new(host, 0), data_plane, Handle::current());
    bound.map_err(|error| {
        CodedError::caused(
            ErrorCode::AddressInUse,
            format_args!("the data plane cannot bind `{host}`"),
            &error,
        )
    })
}
