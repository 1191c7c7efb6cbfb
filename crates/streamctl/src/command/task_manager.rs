//! `streamctl taskmanager`: who is there, and emptying one before it is stopped.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::proto::{DrainTaskManagerRequest, TaskManager};

use crate::command::cluster::{counted, look};
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Session, shown};

/// How long `drain` waits where the user does not say: a checkpoint of large state, and a restart.
const DEFAULT_WAIT: Duration = Duration::from_secs(600);

/// The pause between two looks: short beside what a checkpoint takes.
const PAUSE: Duration = Duration::from_millis(50);

/// List task managers, and empty one before it is stopped
#[derive(Debug, Args)]
pub struct TaskManagerCommand {
    #[command(subcommand)]
    action: TaskManagerAction,
}

#[derive(Debug, Subcommand)]
enum TaskManagerAction {
    List(ListArguments),
    Drain(DrainArguments),
    Undrain(UndrainArguments),
}

/// Show the task managers and the jobs on each
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl taskmanager list --output json")]
struct ListArguments {}

/// Move all jobs off a task manager, and give it no others
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl taskmanager drain host-7-3e4841099b0c --timeout 5min

Each job takes a checkpoint and goes on from it elsewhere. Refused, with nothing changed, where the other
task managers have too few free slots. Waits until no job is left, 10 minutes where no --timeout is given;
the task manager can be stopped then.")]
struct DrainArguments {
    /// The task manager
    #[arg(value_name = "ID")]
    id: String,
}

/// Give jobs to a task manager again
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl taskmanager undrain host-7-3e4841099b0c")]
struct UndrainArguments {
    /// The task manager
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    host: &'a str,
    process_id: u32,
    slots: u32,
    free_slots: u32,
    drained: bool,
    stopping: bool,
    jobs: &'a [String],
}

#[derive(Serialize)]
struct Drained<'a> {
    task_manager: &'a str,
    drained: bool,
    moved_jobs: &'a [String],
}

impl TaskManagerCommand {
    /// Lists, or changes what one is used for.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        match self.action {
            TaskManagerAction::List(ListArguments {}) => list(session, output).await,
            TaskManagerAction::Drain(DrainArguments { id }) => drain(&id, session, output).await,
            TaskManagerAction::Undrain(UndrainArguments { id }) => undrain(&id, session, output).await,
        }
    }
}

async fn list(session: &Session, output: &mut Output) -> Result<(), Failure> {
    let cluster = session.within("the cluster does not answer", look(session)).await?;
    for task_manager in &cluster.task_managers {
        output.line(&line(task_manager))?;
        for job in &task_manager.job_ids {
            output.line(&format!("  {job}"))?;
        }
        output.object(&Row {
            id: &task_manager.id,
            host: &task_manager.host,
            process_id: task_manager.process_id,
            slots: task_manager.slots,
            free_slots: task_manager.free_slots,
            drained: task_manager.drained,
            stopping: task_manager.stopping,
            jobs: &task_manager.job_ids,
        })?;
    }
    match cluster.task_managers.is_empty() {
        true => output.line("No task managers."),
        false => Ok(()),
    }
}

fn line(task_manager: &TaskManager) -> String {
    let state = match (task_manager.drained, task_manager.job_ids.is_empty()) {
        _stops if task_manager.stopping => ", stopping once its jobs have moved",
        (false, _) => "",
        (true, false) => ", being drained",
        (true, true) => ", drained",
    };
    format!(
        "{} : {} : {}, {} free{state} (process {})",
        task_manager.id,
        task_manager.host,
        counted(task_manager.slots as usize, "slot"),
        task_manager.free_slots,
        task_manager.process_id
    )
}

async fn drain(id: &str, session: &Session, output: &mut Output) -> Result<(), Failure> {
    let timeout = session.timeout().unwrap_or(DEFAULT_WAIT);
    let mut left = String::new();
    let drained = async {
        let moving = request(id, false, session).await?;
        output.line(&format!(
            "Draining task manager {id}: {} to move.",
            counted(moving.len(), "job")
        ))?;
        loop {
            let cluster = look(session).await?;
            // One that has left has no jobs either.
            let staying = cluster.task_managers.iter().find(|it| it.id == id);
            match staying.filter(|it| !it.job_ids.is_empty()) {
                Some(task_manager) => left = task_manager.job_ids.join(", "),
                None => return Ok::<_, Failure>(moving),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let moved = match tokio::time::timeout(timeout, drained).await {
        Ok(moved) => moved?,
        Err(_) => {
            let message = format!(
                "task manager `{id}` is not drained after {}: still there is {left}",
                shown(timeout)
            );
            return Err(CodedError::new(ErrorCode::DrainTimedOut, message)
                .with_hint("the jobs go on moving: wait with the same command again")
                .into());
        }
    };
    output.line(&format!("Drained task manager {id}."))?;
    output.object(&Drained {
        task_manager: id,
        drained: true,
        moved_jobs: &moved,
    })
}

async fn undrain(id: &str, session: &Session, output: &mut Output) -> Result<(), Failure> {
    session
        .within("the task manager stays as it is", request(id, true, session))
        .await?;
    output.line(&format!("Task manager {id} takes jobs again."))?;
    output.object(&Drained {
        task_manager: id,
        drained: false,
        moved_jobs: &[],
    })
}

/// The jobs that are to move.
async fn request(id: &str, undo: bool, session: &Session) -> Result<Vec<String>, Failure> {
    let client = session.connect().await?;
    let request = DrainTaskManagerRequest {
        task_manager_id: id.to_owned(),
        undo,
    };
    Ok(client.drain_task_manager(request).await?.job_ids)
}
