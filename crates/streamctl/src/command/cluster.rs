//! `streamctl cluster`: is it there, and how much room does it have.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode, Remedy};
use streamd_rpc::proto::{GetClusterRequest, GetClusterResponse};

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Session, shown};

/// How long `cluster wait` waits where the user does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// The pause between two looks: short beside the time that a person notices.
const PAUSE: Duration = Duration::from_millis(15);

/// Look at the cluster
#[derive(Debug, Args)]
pub struct ClusterCommand {
    #[command(subcommand)]
    action: ClusterAction,
}

#[derive(Debug, Subcommand)]
enum ClusterAction {
    Wait(WaitArguments),
    Status(StatusArguments),
}

/// Wait until the cluster is ready for jobs
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl cluster wait --task-managers 2 --slots 4 --timeout 10s

Waits for 30 seconds where no --timeout is given.")]
struct WaitArguments {
    /// How many task managers must be there
    #[arg(long, value_name = "N", default_value_t = 1)]
    task_managers: u32,
    /// How many slots there must be, free or not
    #[arg(long, value_name = "N", default_value_t = 0)]
    slots: u32,
}

/// Show the task managers and slots of the cluster
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl cluster status --output json")]
struct StatusArguments {}

#[derive(Serialize)]
struct Status<'a> {
    address: &'a str,
    version: &'a str,
    incarnation: &'a str,
    slots_total: u32,
    slots_free: u32,
    task_managers: Vec<StatusTaskManager<'a>>,
}

#[derive(Serialize)]
struct StatusTaskManager<'a> {
    id: &'a str,
    host: &'a str,
    process_id: u32,
    slots: u32,
    free_slots: u32,
    drained: bool,
}

impl ClusterCommand {
    /// Waits, or looks once.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let (address, cluster) = match self.action {
            ClusterAction::Wait(wanted) => wanted.wait(session).await?,
            ClusterAction::Status(StatusArguments {}) => {
                session.within("the cluster does not answer", look(session)).await?
            }
        };
        print(&address, &cluster, output)
    }
}

impl WaitArguments {
    async fn wait(&self, session: &Session) -> Result<(String, GetClusterResponse), Failure> {
        let timeout = session.timeout().unwrap_or(DEFAULT_WAIT);
        let mut seen = "it has not answered".to_owned();
        let ready = async {
            loop {
                match look(session).await {
                    Ok(looked) if self.is_met_by(&looked.1) => return Ok(looked),
                    Ok((_, cluster)) => seen = format!("it has {}", size(&cluster)),
                    Err(Failure::Error(error)) if error.code.remedy() == Remedy::Unavailable => seen = error.message,
                    Err(failure) => return Err(failure),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match tokio::time::timeout(timeout, ready).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CodedError::new(
                ErrorCode::NotReady,
                format!("the cluster is not ready after {}: {seen}", shown(timeout)),
            )
            .with_hint("look into the logs of the job manager and task managers")
            .into()),
        }
    }

    fn is_met_by(&self, cluster: &GetClusterResponse) -> bool {
        cluster.task_managers.len() >= self.task_managers as usize && cluster.slots_total >= self.slots
    }
}

/// The address of the job manager that leads, and what it says of its cluster.
pub(super) async fn look(session: &Session) -> Result<(String, GetClusterResponse), Failure> {
    let client = session.connect().await?;
    let cluster = client.get_cluster(GetClusterRequest {}).await?;
    Ok((client.address().to_owned(), cluster))
}

fn size(cluster: &GetClusterResponse) -> String {
    format!(
        "{} with {}, {} of them free",
        counted(cluster.task_managers.len(), "task manager"),
        counted(cluster.slots_total as usize, "slot"),
        cluster.slots_free
    )
}

/// A number and its noun.
pub(super) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn print(address: &str, cluster: &GetClusterResponse, output: &mut Output) -> Result<(), Failure> {
    output.line(&format!(
        "Job manager {address}, version {}: {}",
        cluster.version,
        size(cluster)
    ))?;
    for task_manager in &cluster.task_managers {
        output.line(&format!(
            "{} : {} : {}, {} free{} (process {})",
            task_manager.id,
            task_manager.host,
            counted(task_manager.slots as usize, "slot"),
            task_manager.free_slots,
            if task_manager.drained { ", drained" } else { "" },
            task_manager.process_id
        ))?;
    }
    output.object(&Status {
        address,
        version: &cluster.version,
        incarnation: &cluster.incarnation,
        slots_total: cluster.slots_total,
        slots_free: cluster.slots_free,
        task_managers: cluster
            .task_managers
            .iter()
            .map(|task_manager| StatusTaskManager {
                id: &task_manager.id,
                host: &task_manager.host,
                process_id: task_manager.process_id,
                slots: task_manager.slots,
                free_slots: task_manager.free_slots,
                drained: task_manager.drained,
            })
            .collect(),
    })
}
