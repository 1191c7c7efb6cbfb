//! `streamctl taskmanager`: who is there, and emptying one before it is stopped.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode, Remedy};
use streamd_rpc::proto::{DrainTaskManagerRequest, GetClusterResponse, TaskManager};

use crate::command::cluster::{counted, look};
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Session, shown};

/// How long `drain` waits where the user does not say: a checkpoint of large state, and a restart.
const DEFAULT_WAIT: Duration = Duration::from_secs(600);

/// The pause between two looks: short beside what a checkpoint takes.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a job manager may be out of reach before the command gives up: longer than a standby takes to take its place.
const TAKEOVER: Duration = Duration::from_secs(30);

/// How long task managers and workers may take to come back to another job manager: as long as it waits for them itself.
const RETURN: Duration = Duration::from_secs(10);

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
    let (_, cluster) = session.within("the cluster does not answer", look(session)).await?;
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
        let (_, before) = look(session).await?;
        let mut moving = request(id, false, session).await?;
        output.line(&format!(
            "Draining task manager {id}: {} to move.",
            counted(moving.len(), "job")
        ))?;
        let mut draining = Draining::of(&before);
        let mut unreached = Duration::ZERO;
        loop {
            match look(session).await {
                Ok((_, cluster)) => {
                    unreached = Duration::ZERO;
                    match draining.next(id, &cluster) {
                        Next::Done => return Ok::<_, Failure>(moving),
                        Next::Ask => moving.extend(request(id, false, session).await?),
                        Next::Wait(jobs) => left = jobs,
                    }
                }
                // Another one may be on its way, and the task manager tells it what it is to do.
                Err(Failure::Error(error)) if error.code.remedy() == Remedy::Unavailable && unreached < TAKEOVER => {
                    unreached += PAUSE;
                }
                Err(failure) => return Err(failure),
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

/// A drain that was asked for, whatever becomes of the job manager that was asked.
struct Draining {
    /// The job manager that was asked.
    incarnation: String,
    /// For how long another one does not know the task manager.
    missed: Duration,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Done,
    /// The job manager that was asked had no time to tell the task manager.
    Ask,
    /// These jobs are still there.
    Wait(String),
}

impl Draining {
    fn of(cluster: &GetClusterResponse) -> Self {
        Self {
            incarnation: cluster.incarnation.clone(),
            missed: Duration::ZERO,
        }
    }

    fn next(&mut self, id: &str, cluster: &GetClusterResponse) -> Next {
        let is_another = cluster.incarnation != self.incarnation;
        match cluster.task_managers.iter().find(|it| it.id == id) {
            Some(task_manager) if is_another && !task_manager.drained => Next::Ask,
            Some(task_manager) if task_manager.job_ids.is_empty() && !(is_another && self.is_early()) => Next::Done,
            Some(task_manager) => {
                self.missed += PAUSE;
                Next::Wait(task_manager.job_ids.join(", "))
            }
            // It may not have found the other job manager yet.
            None if is_another && self.is_early() => {
                self.missed += PAUSE;
                Next::Wait("the task manager itself, which the next job manager waits for".to_owned())
            }
            // One that has left has no jobs either.
            None => Next::Done,
        }
    }

    /// Whether the workers of jobs may still be on their way to another job manager.
    fn is_early(&self) -> bool {
        self.missed < RETURN
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(incarnation: &str, drained: bool, jobs: &[&str]) -> GetClusterResponse {
        GetClusterResponse {
            incarnation: incarnation.to_owned(),
            task_managers: vec![TaskManager {
                id: "tm-1".to_owned(),
                drained,
                job_ids: jobs.iter().map(|job| (*job).to_owned()).collect(),
                ..TaskManager::default()
            }],
            ..GetClusterResponse::default()
        }
    }

    fn draining() -> Draining {
        Draining::of(&cluster("one", false, &["a"]))
    }

    #[test]
    fn a_task_manager_is_drained_once_it_has_no_job_or_has_left() {
        let mut draining = draining();
        assert_eq!(
            draining.next("tm-1", &cluster("one", true, &["a", "b"])),
            Next::Wait("a, b".to_owned())
        );
        assert_eq!(draining.next("tm-1", &cluster("one", true, &[])), Next::Done);
        assert_eq!(draining.next("tm-2", &cluster("one", true, &["a"])), Next::Done);
    }

    #[test]
    fn a_task_manager_that_the_next_job_manager_does_not_know_yet_is_not_taken_for_drained() {
        let mut draining = draining();
        for _ in 0..RETURN.as_millis() / PAUSE.as_millis() {
            assert!(matches!(
                draining.next("tm-2", &cluster("two", true, &[])),
                Next::Wait(_)
            ));
        }
        assert_eq!(draining.next("tm-2", &cluster("two", true, &[])), Next::Done);
    }

    #[test]
    fn a_task_manager_whose_jobs_are_not_back_at_the_next_job_manager_is_not_taken_for_drained() {
        let mut draining = draining();
        assert!(matches!(
            draining.next("tm-1", &cluster("two", true, &[])),
            Next::Wait(_)
        ));
    }

    #[test]
    fn what_the_job_manager_had_no_time_to_tell_the_task_manager_is_asked_for_again() {
        assert_eq!(draining().next("tm-1", &cluster("two", false, &["a"])), Next::Ask);
    }
}
