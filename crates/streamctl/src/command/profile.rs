//! `streamctl profile`: a flame graph of a job that runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode, chain};
use streamd_core::id::JobId;
use streamd_rpc::proto::{ProfileJobRequest, ProfileJobResponse};

use crate::arguments::{duration, job_id};
use crate::command::cluster::counted;
use crate::failure::Failure;
use crate::flame_graph::{Frame, draw};
use crate::output::Output;
use crate::progress::{Progress, REFRESH};
use crate::session::{Session, shown};

/// The file name for standard output.
const STDOUT: &str = "-";

/// Draw where the processor time of a running job goes
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl profile fd72014d4c864993a2e5a9287b4a9c5d --duration 30s

Writes a flame graph that a browser shows. The kernel of each task manager's host looks at the
worker there from outside, with `perf`: the job goes on, and nothing more runs in its processes.")]
pub struct ProfileCommand {
    /// For how long
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How often a second each thread is looked at
    #[arg(long, value_name = "HZ", default_value_t = 99)]
    frequency: u32,
    /// Only the worker on this task manager
    #[arg(long, value_name = "ID")]
    taskmanager: Option<String>,
    /// Write the stacks and how often each was seen, one a line, for other tools
    #[arg(long)]
    folded: bool,
    /// The file, or `-` for standard output [default: JOBID.svg, or JOBID.folded]
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// The job
    #[arg(value_name = "JOBID", value_parser = job_id)]
    job_id: JobId,
}

#[derive(Serialize)]
struct Profiled<'a> {
    job_id: String,
    file: &'a str,
    format: &'static str,
    duration_ms: u64,
    frequency: u32,
    samples: u64,
    workers: Vec<WorkerProfile<'a>>,
}

#[derive(Serialize)]
struct WorkerProfile<'a> {
    worker: &'a str,
    task_manager: &'a str,
    samples: u64,
    left_out: u64,
    cut_short: bool,
}

impl ProfileCommand {
    /// Has the job looked at, and writes the file.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let mut progress = Progress::new(output.format());
        let taken = session.within("the job is not profiled", self.take(session, &mut progress));
        let profiles = taken.await?;
        progress.clear();
        let all = merged(&profiles);
        if all.samples == 0 {
            let message = format!(
                "no thread of job `{}` was at work in {}",
                self.job_id,
                shown(self.duration)
            );
            return Err(CodedError::new(ErrorCode::NothingSampled, message)
                .with_hint("look for longer with --duration, or more often with --frequency; `streamctl status` shows what is busy")
                .into());
        }
        notes(&profiles, output);
        let content = match self.folded {
            true => all.folded(),
            false => draw(&all, &self.title(&all, &profiles)),
        };
        let file = self.file();
        if file.as_os_str() == STDOUT {
            return output.raw(&content);
        }
        std::fs::write(&file, content).map_err(|error| not_written(&file, &error))?;
        let file = file.to_string_lossy();
        output.line(&format!("{}: {file}", self.summary(&all, &profiles)))?;
        output.object(&self.object(&file, &all, &profiles))
    }

    /// What the workers were seen to do, telling how far it is.
    async fn take(&self, session: &Session, progress: &mut Progress) -> Result<Vec<ProfileJobResponse>, Failure> {
        let client = session.connect().await?;
        let request = ProfileJobRequest {
            job_id: self.job_id.to_string(),
            task_manager_id: self.taskmanager.clone().unwrap_or_default(),
            duration_ms: self.duration_ms(),
            frequency: self.frequency,
        };
        let mut answers = client.profile_job(request).await?;
        let mut profiles = Vec::new();
        loop {
            tokio::select! {
                answer = answers.next() => match answer? {
                    Some(profile) => profiles.push(profile),
                    None => break,
                },
                () = tokio::time::sleep(REFRESH) => progress.profile(self.duration),
            }
        }
        profiles.sort_by(|one, other| one.worker.cmp(&other.worker));
        Ok(profiles)
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX)
    }

    fn file(&self) -> PathBuf {
        let extension = if self.folded { "folded" } else { "svg" };
        let default = || PathBuf::from(format!("{}.{extension}", self.job_id));
        self.file.clone().unwrap_or_else(default)
    }

    fn title(&self, all: &Frame, profiles: &[ProfileJobResponse]) -> String {
        format!("Job {}: {}", self.job_id, self.summary(all, profiles))
    }

    fn summary(&self, all: &Frame, profiles: &[ProfileJobResponse]) -> String {
        let (samples, workers) = (all.samples, counted(profiles.len(), "worker"));
        format!("{samples} samples of {workers} in {}", shown(self.duration))
    }

    fn object<'a>(&self, file: &'a str, all: &Frame, profiles: &'a [ProfileJobResponse]) -> Profiled<'a> {
        Profiled {
            job_id: self.job_id.to_string(),
            file,
            format: if self.folded { "folded" } else { "svg" },
            duration_ms: self.duration_ms(),
            frequency: self.frequency,
            samples: all.samples,
            workers: profiles.iter().map(worker).collect(),
        }
    }
}

/// The stacks of all workers; with more than one, each stands on its own name.
fn merged(profiles: &[ProfileJobResponse]) -> Frame {
    let mut all = Frame::default();
    for ProfileJobResponse {
        worker,
        task_manager,
        profile,
    } in profiles
    {
        let name = format!("{worker} on {task_manager}");
        let base = (profiles.len() > 1).then_some(name.as_str());
        let stacks = profile
            .as_ref()
            .map(|profile| profile.stacks.as_ref())
            .unwrap_or_default();
        all.add(&String::from_utf8_lossy(stacks), base);
    }
    all
}

/// What is missing from the picture.
fn notes(profiles: &[ProfileJobResponse], output: &mut Output) {
    for (name, profile) in profiles
        .iter()
        .filter_map(|it| Some((&it.worker, it.profile.as_ref()?)))
    {
        if profile.cut_short {
            output.note(&format!(
                "note: {name} was looked at for less time: what was seen filled 512 MB"
            ));
        }
        if profile.left_out > 0 {
            output.note(&format!(
                "note: of {name}, {} of {} samples are left out: their stacks are rare, and too many",
                profile.left_out, profile.samples
            ));
        }
    }
}

fn worker(profiled: &ProfileJobResponse) -> WorkerProfile<'_> {
    let profile = profiled.profile.as_ref();
    WorkerProfile {
        worker: &profiled.worker,
        task_manager: &profiled.task_manager,
        samples: profile.map_or(0, |profile| profile.samples),
        left_out: profile.map_or(0, |profile| profile.left_out),
        cut_short: profile.is_some_and(|profile| profile.cut_short),
    }
}

fn not_written(file: &std::path::Path, error: &std::io::Error) -> CodedError {
    let message = format!("file `{}` cannot be written: {}", file.display(), chain(error));
    CodedError::new(ErrorCode::OutputFailed, message).with_hint("name another one with --file")
}
