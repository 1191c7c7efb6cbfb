//! `streamctl list`: the jobs, by what they are doing.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use streamd_rpc::convert::{failure_class, job_state_name};
use streamd_rpc::proto::{JobState, JobSummary, ListJobsRequest};

use crate::arguments::OutputFormat;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// List jobs
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl list -a --output json

Without options, running and scheduled jobs are listed.")]
pub struct ListCommand {
    /// Only running jobs
    #[arg(short, long)]
    running: bool,
    /// Only scheduled jobs
    #[arg(short, long)]
    scheduled: bool,
    /// Jobs that have ended too
    #[arg(short, long)]
    all: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    job_id: &'a str,
    name: &'a str,
    state: &'static str,
    start_time_ms: i64,
    end_time_ms: Option<i64>,
    restarts: u32,
    last_failure: Option<&'a str>,
    last_failure_class: Option<&'static str>,
    last_failure_code: Option<&'a str>,
}

/// The sections of the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Running,
    Scheduled,
    Terminated,
}

impl Section {
    fn of(state: JobState) -> Self {
        match state {
            JobState::Initializing | JobState::Created => Self::Scheduled,
            JobState::Finished | JobState::Canceled | JobState::Failed => Self::Terminated,
            JobState::Unspecified
            | JobState::Reconciling
            | JobState::Running
            | JobState::Failing
            | JobState::Cancelling
            | JobState::Restarting
            | JobState::Suspended => Self::Running,
        }
    }

    /// The line above its jobs; 62 characters wide, as Flink's.
    fn heading(self) -> &'static str {
        match self {
            Self::Running => "------------------ Running/Restarting Jobs -------------------",
            Self::Scheduled => "----------------------- Scheduled Jobs -----------------------",
            Self::Terminated => "---------------------- Terminated Jobs -----------------------",
        }
    }

    /// The line for no jobs. Flink leaves out an empty section of jobs that have ended.
    fn nothing(self) -> Option<&'static str> {
        match self {
            Self::Running => Some("No running jobs."),
            Self::Scheduled => Some("No scheduled jobs."),
            Self::Terminated => None,
        }
    }
}

impl ListCommand {
    /// Asks for all jobs and prints those of the wanted sections.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        output.line("Waiting for response...")?;
        let client = session.connect().await?;
        let listed = session.within("the jobs are not listed", async {
            Ok(client.list_jobs(ListJobsRequest {}).await?)
        });
        let mut jobs = listed.await?.jobs;
        jobs.sort_by_cached_key(|job| (job_state_name(job.state()), job.start_time_ms, job.job_id.clone()));
        for section in self.sections() {
            let jobs: Vec<&JobSummary> = jobs.iter().filter(|job| Section::of(job.state()) == section).collect();
            match output.format() {
                OutputFormat::Text => print(section, &jobs, output)?,
                OutputFormat::Json => jobs.iter().try_for_each(|job| output.object(&row(job)))?,
            }
        }
        Ok(())
    }

    fn sections(&self) -> Vec<Section> {
        let neither = !self.running && !self.scheduled;
        let mut sections = Vec::with_capacity(3);
        if self.running || neither || self.all {
            sections.push(Section::Running);
        }
        if self.scheduled || neither || self.all {
            sections.push(Section::Scheduled);
        }
        if self.all {
            sections.push(Section::Terminated);
        }
        sections
    }
}

fn print(section: Section, jobs: &[&JobSummary], output: &mut Output) -> Result<(), Failure> {
    if jobs.is_empty() {
        return section.nothing().map_or(Ok(()), |line| output.line(line));
    }
    output.line(section.heading())?;
    for job in jobs {
        let (started, state) = (local_time(job.start_time_ms), job_state_name(job.state()));
        output.line(&format!("{started} : {} : {} ({state})", job.job_id, job.name))?;
    }
    output.line(&"-".repeat(62))
}

/// `dd.MM.yyyy HH:mm:ss` in the time zone of this machine.
pub fn local_time(millis: i64) -> String {
    let moment = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    moment
        .to_zoned(TimeZone::system())
        .strftime("%d.%m.%Y %H:%M:%S")
        .to_string()
}

fn row(job: &JobSummary) -> Row<'_> {
    let record = job.last_failure_record.as_ref();
    Row {
        job_id: &job.job_id,
        name: &job.name,
        state: job_state_name(job.state()),
        start_time_ms: job.start_time_ms,
        end_time_ms: (job.end_time_ms != 0).then_some(job.end_time_ms),
        restarts: job.restarts,
        last_failure: (!job.last_failure.is_empty()).then_some(job.last_failure.as_str()),
        last_failure_class: record.map(|record| failure_class(record.failure.as_ref())),
        last_failure_code: record.map(|record| record.code.as_str()),
    }
}
