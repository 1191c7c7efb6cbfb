//! `streamctl status`: all there is to know about one job.

use clap::Args;
use serde::Serialize;
use streamd_rpc::convert::{failure_class, job_state_name};
use streamd_rpc::proto::{
    ExecutionState, FailureRecord, GetJobRequest, JobDetails, JobState, SnapshotReference, VertexDetails,
};

use crate::arguments::job_id;
use crate::command::list::local_time;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// Show a job: its subtasks, checkpoints, workers and failures
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl status fd72014d4c864993a2e5a9287b4a9c5d --output json")]
pub struct StatusCommand {
    /// The job
    #[arg(value_name = "JOBID", value_parser = job_id)]
    job_id: streamd_core::id::JobId,
}

#[derive(Serialize)]
struct Job<'a> {
    job_id: &'a str,
    name: &'a str,
    state: &'static str,
    start_time_ms: i64,
    end_time_ms: Option<i64>,
    attempt: u32,
    leader_epoch: u64,
    restarts: u32,
    guarantee: &'a str,
    restored_from: Option<Snapshot<'a>>,
    last_checkpoint: Option<Snapshot<'a>>,
    checkpoints: Checkpoints,
    last_failed_checkpoint: Option<FailedCheckpoint<'a>>,
    vertices: Vec<Vertex<'a>>,
    workers: Vec<WorkerProcess<'a>>,
    /// What `failure_history` says in more detail.
    failures: Vec<&'a str>,
    failure_history: Vec<FailureEntry<'a>>,
}

#[derive(Serialize)]
struct FailureEntry<'a> {
    class: &'static str,
    code: &'a str,
    message: &'a str,
    hint: &'a str,
    attempt: u32,
    time_ms: i64,
    /// Null where no attempt followed.
    restart_delay_ms: Option<u64>,
}

#[derive(Serialize)]
struct Snapshot<'a> {
    id: u64,
    uri: &'a str,
    savepoint: bool,
    /// Null where it is not known, as of a snapshot that the job did not take in this attempt.
    bytes: Option<u64>,
    duration_ms: Option<u64>,
}

#[derive(Serialize)]
struct FailedCheckpoint<'a> {
    id: u64,
    cause: &'a str,
    time_ms: i64,
}

#[derive(Serialize, Default)]
struct Checkpoints {
    completed: u64,
    failed: u64,
    in_progress: u64,
}

#[derive(Serialize)]
struct Vertex<'a> {
    id: &'a str,
    name: &'a str,
    parallelism: u32,
    max_parallelism: u32,
    subtasks: Vec<Subtask>,
}

#[derive(Serialize)]
struct Subtask {
    index: u32,
    state: String,
    records_in: u64,
    busy_ns: u64,
    backpressured_ns: u64,
    late_dropped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    watermark: Option<i64>,
}

#[derive(Serialize)]
struct WorkerProcess<'a> {
    worker: &'a str,
    task_manager: &'a str,
    process_id: u32,
}

impl StatusCommand {
    /// Asks for the job and prints it.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let client = session.connect().await?;
        let request = GetJobRequest {
            job_id: self.job_id.to_string(),
        };
        let asked = session.within("the job is not shown", async { Ok(client.get_job(request).await?) });
        let job = asked.await?.job.unwrap_or_default();
        print(&job, output)?;
        output.object(&object(&job))
    }
}

fn print(job: &JobDetails, output: &mut Output) -> Result<(), Failure> {
    let summary = job.summary.clone().unwrap_or_default();
    let state = job_state_name(summary.state());
    output.line(&format!(
        "{} : {} ({state}), attempt {}, {}",
        summary.job_id, summary.name, job.attempt, job.guarantee
    ))?;
    for vertex in &job.vertices {
        print_vertex(vertex, output)?;
    }
    print_snapshots(job, output)?;
    for worker in &job.workers {
        let process = match worker.process_id {
            0 => "starting".to_owned(),
            id => format!("process {id}"),
        };
        output.line(&format!("  {} : {} ({process})", worker.worker, worker.task_manager))?;
    }
    if summary.restarts > 0 {
        output.line(&format!("  Restarts: {}", summary.restarts))?;
    }
    for record in &job.failures {
        output.line(&format!("  Failure: {}", message(record)))?;
        output.line(&format!("    {}", what_followed(record)))?;
    }
    match job.failures.last() {
        Some(last) if summary.state() == JobState::Failed => output.line(&format!("  Hint: {}", last.hint))?,
        Some(_) | None => {}
    }
    Ok(())
}

fn print_vertex(vertex: &VertexDetails, output: &mut Output) -> Result<(), Failure> {
    let records: u64 = vertex.subtasks.iter().map(|subtask| subtask.records_in).sum();
    let late = match vertex.subtasks.iter().map(|subtask| subtask.late_dropped).sum::<u64>() {
        0 => String::new(),
        late => format!(", {late} of them too late and dropped"),
    };
    let (name, parallelism, states) = (&vertex.name, vertex.parallelism, states(vertex));
    output.line(&format!(
        "  {name} : {parallelism} subtasks {states}, {records} records in{late}"
    ))
}

fn print_snapshots(job: &JobDetails, output: &mut Output) -> Result<(), Failure> {
    let checkpoints = job.checkpoints.unwrap_or_default();
    output.line(&format!(
        "  Checkpoints: {} completed, {} failed, {} in progress",
        checkpoints.completed, checkpoints.failed, checkpoints.in_progress
    ))?;
    for (what, snapshot) in [
        ("Restored from", &job.restored_from),
        ("Last checkpoint", &job.last_checkpoint),
    ] {
        let Some(snapshot) = snapshot else { continue };
        // How large a snapshot is that the job did not take, it does not know.
        let size = match snapshot.bytes {
            0 => String::new(),
            bytes => format!(" ({bytes} bytes, {} ms)", snapshot.duration_ms),
        };
        output.line(&format!("  {what}: {}{size}", snapshot.uri))?;
    }
    if let Some(failed) = &job.last_failed_checkpoint {
        let when = local_time(failed.time_ms);
        output.line(&format!("  Last failed checkpoint: {when}: {}", failed.cause))?;
    }
    Ok(())
}

fn message(record: &FailureRecord) -> &str {
    record.failure.as_ref().map_or("", |failure| &failure.message)
}

/// Whose fault it was, when, and what the job did.
fn what_followed(record: &FailureRecord) -> String {
    let followed = match record.restart_delay_ms {
        Some(delay_ms) => format!("restarted after {delay_ms} ms"),
        None => "the job failed for good".to_owned(),
    };
    format!(
        "{}, {} [{}], attempt {}: {followed}",
        local_time(record.time_ms),
        failure_class(record.failure.as_ref()),
        record.code,
        record.attempt
    )
}

/// How many subtasks are in which state, as in `2 RUNNING`.
fn states(vertex: &VertexDetails) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for subtask in &vertex.subtasks {
        let state = state_name(subtask.state());
        match counts.iter_mut().find(|(name, _)| *name == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    counts
        .into_iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Flink's name of the state.
fn state_name(state: ExecutionState) -> String {
    state.as_str_name().trim_start_matches("EXECUTION_STATE_").to_owned()
}

fn object(job: &JobDetails) -> Job<'_> {
    let summary = job.summary.as_ref();
    let checkpoints = job.checkpoints.unwrap_or_default();
    Job {
        job_id: summary.map_or("", |summary| &summary.job_id),
        name: summary.map_or("", |summary| &summary.name),
        state: summary.map_or("UNKNOWN", |summary| job_state_name(summary.state())),
        start_time_ms: summary.map_or(0, |summary| summary.start_time_ms),
        end_time_ms: summary.map(|summary| summary.end_time_ms).filter(|end| *end != 0),
        attempt: job.attempt,
        leader_epoch: job.leader_epoch,
        restarts: summary.map_or(0, |summary| summary.restarts),
        guarantee: &job.guarantee,
        restored_from: job.restored_from.as_ref().map(snapshot),
        last_checkpoint: job.last_checkpoint.as_ref().map(snapshot),
        checkpoints: Checkpoints {
            completed: checkpoints.completed,
            failed: checkpoints.failed,
            in_progress: checkpoints.in_progress,
        },
        last_failed_checkpoint: job.last_failed_checkpoint.as_ref().map(|failed| FailedCheckpoint {
            id: failed.id,
            cause: &failed.cause,
            time_ms: failed.time_ms,
        }),
        vertices: job.vertices.iter().map(vertex).collect(),
        workers: job
            .workers
            .iter()
            .map(|worker| WorkerProcess {
                worker: &worker.worker,
                task_manager: &worker.task_manager,
                process_id: worker.process_id,
            })
            .collect(),
        failures: job.failures.iter().map(message).collect(),
        failure_history: job.failures.iter().map(failure_entry).collect(),
    }
}

fn failure_entry(record: &FailureRecord) -> FailureEntry<'_> {
    FailureEntry {
        class: failure_class(record.failure.as_ref()),
        code: &record.code,
        message: message(record),
        hint: &record.hint,
        attempt: record.attempt,
        time_ms: record.time_ms,
        restart_delay_ms: record.restart_delay_ms,
    }
}

fn snapshot(reference: &SnapshotReference) -> Snapshot<'_> {
    Snapshot {
        id: reference.id,
        uri: &reference.uri,
        savepoint: reference.savepoint,
        bytes: (reference.bytes != 0).then_some(reference.bytes),
        duration_ms: (reference.bytes != 0).then_some(reference.duration_ms),
    }
}

fn vertex(vertex: &VertexDetails) -> Vertex<'_> {
    let subtask = |subtask: &streamd_rpc::proto::SubtaskDetails| Subtask {
        index: subtask.index,
        state: state_name(subtask.state()),
        records_in: subtask.records_in,
        busy_ns: subtask.busy_ns,
        backpressured_ns: subtask.backpressured_ns,
        late_dropped: subtask.late_dropped,
        watermark: subtask.watermark,
    };
    Vertex {
        id: &vertex.id,
        name: &vertex.name,
        parallelism: vertex.parallelism,
        max_parallelism: vertex.max_parallelism,
        subtasks: vertex.subtasks.iter().map(subtask).collect(),
    }
}
