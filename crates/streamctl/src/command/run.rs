//! `streamctl run`: submit an application, and stay with the job until it ends.

use clap::Args;
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::JobId;
use streamd_rpc::client::DispatcherClient;
use streamd_rpc::convert::job_state_name;
use streamd_rpc::proto::{GetJobRequest, JobState, JobSummary, SubmitJobRequest, SubmitJobResponse, WatchJobRequest};

use super::program::ProgramArguments;
use crate::arguments::{OutputFormat, job_id};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::location::absolute;
use crate::output::Output;
use crate::session::Session;

/// Run an application on the cluster
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl run -d -p 4 -s /data/savepoints/savepoint-fd7201-0123456789ab target/release/flights --input flights.csv

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
}

#[derive(Serialize)]
struct Ended<'a> {
    job_id: &'a str,
    state: &'static str,
    runtime_ms: i64,
    restarts: u32,
    failure: Option<&'a str>,
}

impl RunCommand {
    /// Submits; unless detached, waits for the end of the job.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let savepoint_path = self
            .from_savepoint
            .as_deref()
            .map(absolute)
            .transpose()?
            .unwrap_or_default();
        let program = self.program.check(session).await?;
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
        };
        let (submitted, interrupted) = submit(&client, session, request, &mut interrupt, output).await?;
        for warning in &submitted.warnings {
            output.note(&format!("warning: {warning}"));
        }
        output.line(&format!("Job has been submitted with JobID {}", submitted.job_id))?;
        output.object(&Submitted {
            job_id: &submitted.job_id,
            job_name: &submitted.job_name,
            warnings: &submitted.warnings,
        })?;
        match (self.detached, interrupted) {
            (true, _) => Ok(()),
            (false, true) => Err(detach(&submitted.job_id, output)),
            (false, false) => attach(&client, session, &submitted.job_id, &mut interrupt, output).await,
        }
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
        let watching = session.within("the job does not end", watch(client, job_id, output));
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

/// Follows the job to its end, and tells each change of its state on the way.
async fn watch(client: &DispatcherClient, job_id: &str, output: &mut Output) -> Result<JobSummary, Failure> {
    let mut changes = client
        .watch_job(WatchJobRequest {
            job_id: job_id.to_owned(),
        })
        .await?;
    let mut last = JobState::Unspecified;
    while let Some(change) = changes.next().await? {
        let Some(job) = change.job.and_then(|job| job.summary) else {
            continue;
        };
        if job.state() != last && output.format() == OutputFormat::Text {
            output.note(&progress(&job));
        }
        last = job.state();
        if is_terminal(last) {
            return Ok(job);
        }
    }
    let job = client
        .get_job(GetJobRequest {
            job_id: job_id.to_owned(),
        })
        .await?;
    match job.job.and_then(|job| job.summary) {
        Some(job) if is_terminal(job.state()) => Ok(job),
        Some(_) | None => {
            let message = format!("the job manager no longer tells what becomes of job `{job_id}`");
            Err(CodedError::new(ErrorCode::JobManagerUnreachable, message)
                .with_hint("look with `streamctl list -a`")
                .into())
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
        | JobState::Running
        | JobState::Failing
        | JobState::Cancelling
        | JobState::Restarting
        | JobState::Suspended => false,
    }
}

fn report_end(job: &JobSummary, output: &mut Output) -> Result<(), Failure> {
    let runtime_ms = job.end_time_ms.saturating_sub(job.start_time_ms).max(0);
    output.object(&Ended {
        job_id: &job.job_id,
        state: job_state_name(job.state()),
        runtime_ms,
        restarts: job.restarts,
        failure: (!job.last_failure.is_empty()).then_some(job.last_failure.as_str()),
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
    Err(
        CodedError::new(ErrorCode::JobFailed, format!("job `{}` failed: {cause}", job.job_id))
            .with_hint(format!(
                "see what its workers wrote with `streamctl logs {}`",
                job.job_id
            ))
            .into(),
    )
}
