//! `streamctl run`: submit an application, and stay with the job until it ends.

use clap::Args;
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::JobId;
use streamd_rpc::client::DispatcherClient;
use streamd_rpc::convert::{failure_class, job_state_name};
use streamd_rpc::proto::{
    ClaimMode, ExecutionState, GetJobRequest, JobState, JobSummary, SnapshotReference, SubmitJobRequest,
    SubmitJobResponse, WatchJobRequest,
};

use super::program::ProgramArguments;
use crate::arguments::{OutputFormat, job_id};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::location::absolute;
use crate::operation::Calls;
use crate::output::Output;
use crate::progress::{Progress, REFRESH};
use crate::session::Session;

/// Run an application on the cluster
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl run -d -p 4 -s /data/savepoints/savepoint-fd7201-0123456789ab target/release/flights --input flights.csv

  streamctl run -d --resume flights target/release/flights --input flights.csv

Options before APP are streamctl's, everything after it is the application's. Ctrl-C detaches: the job goes on.")]
pub struct RunCommand {
    /// Return once the job is accepted
    #[arg(short, long)]
    detached: bool,
    /// Start from a savepoint or retained checkpoint: its folder or its _metadata file
    #[arg(
        short = 's',
        long = "fromSavepoint",
        visible_alias = "from-savepoint",
        value_name = "PATH"
    )]
    from_savepoint: Option<String>,
    /// Drop state of the savepoint that the application no longer has
    #[arg(
        short = 'n',
        long = "allowNonRestoredState",
        visible_alias = "allow-non-restored-state"
    )]
    allow_non_restored_state: bool,
    /// Drop state of this operator of the savepoint, by its uid; may be given again
    #[arg(long, value_name = "UID", conflicts_with = "allow_non_restored_state")]
    drop_state: Vec<String>,
    /// Go on from the latest snapshot of the job with this name or id: a retained checkpoint or savepoint
    #[arg(long, value_name = "JOB", conflicts_with = "from_savepoint")]
    resume: Option<String>,
    /// Whose the snapshot is from now on: NO_CLAIM leaves it to you, CLAIM has streamd delete it once it is not needed
    #[arg(
        long = "claimMode",
        visible_alias = "claim-mode",
        alias = "restoreMode",
        value_name = "MODE",
        value_parser = claim_mode,
        ignore_case = true
    )]
    claim_mode: Option<ClaimMode>,
    /// The id that the job gets, 32 hexadecimal digits: repeating the call does not run it twice
    #[arg(long, value_name = "ID", value_parser = job_id)]
    job_id: Option<JobId>,
    #[command(flatten)]
    program: ProgramArguments,
}

#[derive(Serialize)]
struct Submitted<'a> {
    job_id: &'a str,
    job_name: &'a str,
    warnings: &'a [String],
    restored_from: Option<&'a str>,
}

#[derive(Serialize)]
struct Ended<'a> {
    job_id: &'a str,
    state: &'static str,
    runtime_ms: i64,
    restarts: u32,
    failure: Option<&'a str>,
    failure_class: Option<&'static str>,
    failure_code: Option<&'a str>,
}

impl RunCommand {
    /// Submits; unless detached, waits for the end of the job.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        self.check()?;
        let savepoint_path = self
            .from_savepoint
            .as_deref()
            .map(absolute)
            .transpose()?
            .unwrap_or_default();
        let resumes = self.resume.is_some();
        let program = self.program.check(session, output).await?;
        let client = session.connect().await?;
        let mut interrupt = Interrupt::listen()?;

        let uploading = session.within("the application is not uploaded", program.upload(&client));
        let application = tokio::select! {
            uploaded = uploading => uploaded?,
            () = interrupt.pressed() => {
                output.note("Interrupted: nothing was submitted.");
                return Err(Failure::Interrupted);
            }
        };
        let id = self
            .job_id
            .unwrap_or_else(|| JobId::from_bytes(*uuid::Uuid::new_v4().as_bytes()));
        let request = SubmitJobRequest {
            application: Some(application),
            job_id: id.to_string(),
            savepoint_path,
            allow_non_restored_state: self.allow_non_restored_state,
            drop_states: self.drop_state,
            claim_mode: self.claim_mode.unwrap_or(ClaimMode::Unspecified).into(),
            resume_job: self.resume.unwrap_or_default(),
        };
        let (submitted, interrupted) = submit(&client, session, request, &mut interrupt, output).await?;
        for warning in &submitted.warnings {
            output.note(&format!("warning: {warning}"));
        }
        let restored = submitted.restored_from.as_ref();
        if let Some(snapshot) = restored.filter(|_| resumes) {
            output.note(&resumed(snapshot));
        }
        output.line(&format!("Job has been submitted with JobID {}", submitted.job_id))?;
        output.object(&Submitted {
            job_id: &submitted.job_id,
            job_name: &submitted.job_name,
            warnings: &submitted.warnings,
            restored_from: restored.map(|snapshot| snapshot.uri.as_str()),
        })?;
        match (self.detached, interrupted) {
            (true, _) => Ok(()),
            (false, true) => Err(detach(&submitted.job_id, output)),
            (false, false) => {
                if restored.is_some() {
                    tokio::select! {
                        () = show_restore(&client, &submitted.job_id, output.format()) => {}
                        () = interrupt.pressed() => return Err(detach(&submitted.job_id, output)),
                    }
                }
                attach(&client, session, &submitted.job_id, &mut interrupt, output).await
            }
        }
    }

    /// What only makes sense with a snapshot is refused without one.
    fn check(&self) -> Result<(), Failure> {
        if self.from_savepoint.is_some() || self.resume.is_some() {
            return Ok(());
        }
        let hint = "name the snapshot with -s PATH, or the job with --resume NAME";
        if self.claim_mode == Some(ClaimMode::Claim) {
            let message = "there is no snapshot to claim: the job starts afresh";
            return Err(CodedError::new(ErrorCode::ClaimRefused, message).with_hint(hint).into());
        }
        match self.drop_state.first() {
            Some(uid) => Err(Failure::usage(
                format!("there is no snapshot whose state of `{uid}` could be dropped"),
                hint,
            )),
            None => Ok(()),
        }
    }
}

/// Flink's words, and why one of them is not possible.
fn claim_mode(text: &str) -> Result<ClaimMode, String> {
    match text.to_ascii_uppercase().replace('-', "_").as_str() {
        "NO_CLAIM" => Ok(ClaimMode::NoClaim),
        "CLAIM" => Ok(ClaimMode::Claim),
        "LEGACY" => Err(
            "in LEGACY nobody owns the snapshot, so nobody knows when it may be deleted: \
                         NO_CLAIM leaves it to you, CLAIM to streamd"
                .to_owned(),
        ),
        _other => Err("expected NO_CLAIM or CLAIM".to_owned()),
    }
}

fn resumed(snapshot: &SnapshotReference) -> String {
    let kind = if snapshot.savepoint { "savepoint" } else { "checkpoint" };
    format!("Resuming from {kind} {} at {}", snapshot.id, snapshot.uri)
}

/// Shows how many subtasks have their state, until all run or something else becomes of the job. Only on a terminal.
async fn show_restore(client: &DispatcherClient, job_id: &str, format: OutputFormat) {
    let mut progress = Progress::new(format);
    while progress.is_shown() {
        let request = GetJobRequest {
            job_id: job_id.to_owned(),
        };
        // Whatever is wrong is told by whoever follows the job after this.
        let Ok(Some(job)) = client.get_job(request).await.map(|answer| answer.job) else {
            return;
        };
        let state = job.summary.as_ref().map(JobSummary::state);
        let subtasks: Vec<_> = job.vertices.iter().flat_map(|vertex| &vertex.subtasks).collect();
        let running = subtasks
            .iter()
            .filter(|subtask| subtask.state() == ExecutionState::Running)
            .count();
        if state != Some(JobState::Running) || running == subtasks.len() {
            return;
        }
        progress.restore(running, subtasks.len());
        tokio::time::sleep(REFRESH).await;
    }
}

/// Submits the job. A Ctrl-C waits for the answer, so that the user knows what happened; a second one does not.
async fn submit(
    client: &DispatcherClient,
    session: &Session,
    request: SubmitJobRequest,
    interrupt: &mut Interrupt,
    output: &mut Output,
) -> Result<(SubmitJobResponse, bool), Failure> {
    let job_id = request.job_id.clone();
    let answer = session.within("the job is not accepted", async {
        client.submit_job(request).await.map_err(Failure::from)
    });
    let mut answer = std::pin::pin!(answer);
    let mut interrupted = false;
    loop {
        tokio::select! {
            answer = &mut answer => return answer.map(|answer| (answer, interrupted)).map_err(|failure| unknown(failure, &job_id)),
            () = interrupt.pressed() => {
                if interrupted {
                    return Err(lost(&job_id, "interrupted").into());
                }
                output.note("Waiting for the job manager's answer; press Ctrl-C again to leave without it.");
                interrupted = true;
            }
        }
    }
}

/// After a submission without answer, the job may run or not.
fn unknown(failure: Failure, job_id: &str) -> Failure {
    match failure {
        Failure::Error(error) if error.code == ErrorCode::DeadlineExceeded => lost(job_id, &error.message).into(),
        Failure::Error(error) if error.code == ErrorCode::JobManagerUnreachable => lost(job_id, &error.message).into(),
        other @ (Failure::Error(_) | Failure::Interrupted | Failure::ReaderGone) => other,
    }
}

fn lost(job_id: &str, reason: &str) -> CodedError {
    CodedError::new(
        ErrorCode::OutcomeUnknown,
        format!("it is not known whether job `{job_id}` was submitted: {reason}"),
    )
    .with_hint(format!(
        "look with `streamctl list -a`, or submit again with --job-id {job_id}"
    ))
}

fn detach(job_id: &str, output: &mut Output) -> Failure {
    output.note(&format!(
        "Detached from job {job_id}, which goes on. To end it: streamctl cancel {job_id}"
    ));
    Failure::Interrupted
}

async fn attach(
    client: &DispatcherClient,
    session: &Session,
    job_id: &str,
    interrupt: &mut Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let ended = {
        let calls = Calls::new(session, client);
        let watching = session.within("the job does not end", watch(calls, job_id, output));
        tokio::select! {
            ended = watching => Some(ended?),
            () = interrupt.pressed() => None,
        }
    };
    match ended {
        Some(job) => report_end(&job, output),
        None => Err(detach(job_id, output)),
    }
}

/// Follows the job to its end, whoever is its job manager, and tells each change of its state on the way.
async fn watch(mut calls: Calls<'_>, job_id: &str, output: &mut Output) -> Result<JobSummary, Failure> {
    let mut last = JobState::Unspecified;
    loop {
        let mut tell = |job: &JobSummary| {
            if job.state() != last && output.format() == OutputFormat::Text {
                output.note(&progress(job));
            }
            last = job.state();
        };
        match watch_at(&mut calls, job_id, &mut tell).await {
            Ok(job) => return Ok(job),
            Err(error) => calls.again(error).await?,
        }
    }
}

/// Follows the job for as long as one job manager tells of it.
async fn watch_at(
    calls: &mut Calls<'_>,
    job_id: &str,
    tell: &mut impl FnMut(&JobSummary),
) -> Result<JobSummary, CodedError> {
    let request = WatchJobRequest {
        job_id: job_id.to_owned(),
    };
    let mut changes = calls.client().watch_job(request).await?;
    while let Some(change) = changes.next().await? {
        calls.heard();
        let Some(job) = change.job.and_then(|job| job.summary) else {
            continue;
        };
        tell(&job);
        if is_terminal(job.state()) {
            return Ok(job);
        }
    }
    let request = GetJobRequest {
        job_id: job_id.to_owned(),
    };
    let job = calls.client().get_job(request).await?;
    match job.job.and_then(|job| job.summary) {
        Some(job) if is_terminal(job.state()) => Ok(job),
        Some(_) | None => {
            let message = format!("the job manager no longer tells what becomes of job `{job_id}`");
            Err(CodedError::new(ErrorCode::JobManagerUnreachable, message).with_hint("look with `streamctl list -a`"))
        }
    }
}

fn progress(job: &JobSummary) -> String {
    let state = job_state_name(job.state());
    let is_setback = matches!(job.state(), JobState::Restarting | JobState::Failing);
    match is_setback && !job.last_failure.is_empty() {
        true => format!("Job execution switched to status {state}: {}", job.last_failure),
        false => format!("Job execution switched to status {state}."),
    }
}

/// Whether nothing follows a state.
fn is_terminal(state: JobState) -> bool {
    match state {
        JobState::Failed | JobState::Canceled | JobState::Finished => true,
        JobState::Unspecified
        | JobState::Initializing
        | JobState::Created
        | JobState::Reconciling
        | JobState::Running
        | JobState::Failing
        | JobState::Cancelling
        | JobState::Restarting
        | JobState::Suspended => false,
    }
}

fn report_end(job: &JobSummary, output: &mut Output) -> Result<(), Failure> {
    let runtime_ms = job.end_time_ms.saturating_sub(job.start_time_ms).max(0);
    let record = job.last_failure_record.as_ref();
    output.object(&Ended {
        job_id: &job.job_id,
        state: job_state_name(job.state()),
        runtime_ms,
        restarts: job.restarts,
        failure: (!job.last_failure.is_empty()).then_some(job.last_failure.as_str()),
        failure_class: record.map(|record| failure_class(record.failure.as_ref())),
        failure_code: record.map(|record| record.code.as_str()),
    })?;
    if job.state() == JobState::Finished {
        output.line("Program execution finished")?;
        output.line(&format!("Job with JobID {} has finished.", job.job_id))?;
        return output.line(&format!("Job Runtime: {runtime_ms} ms"));
    }
    if job.state() == JobState::Canceled {
        let message = format!("job `{}` was cancelled", job.job_id);
        return Err(CodedError::new(ErrorCode::JobCanceled, message)
            .with_hint("somebody else ended it, with `streamctl cancel`")
            .into());
    }
    let cause = if job.last_failure.is_empty() {
        "no cause was reported"
    } else {
        &job.last_failure
    };
    let logs = format!("see what its workers wrote with `streamctl logs {}`", job.job_id);
    let hint = match record.filter(|record| !record.hint.is_empty()) {
        Some(record) => format!("{logs}; {}", record.hint),
        None => logs,
    };
    Err(
        CodedError::new(ErrorCode::JobFailed, format!("job `{}` failed: {cause}", job.job_id))
            .with_hint(hint)
            .into(),
    )
}
