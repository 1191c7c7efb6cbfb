//! What can be written on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use streamd_core::id::{JobId, OperationId};
use streamd_core::options::parse_duration;

use crate::failure::Failure;

use crate::command::{
    CancelCommand, CheckpointCommand, ClusterCommand, CompletionsCommand, FsckCommand, InfoCommand, ListCommand,
    LogsCommand, ManCommand, ProfileCommand, RunCommand, SavepointCommand, StateCommand, StatusCommand, StopCommand,
    TaskManagerCommand,
};

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   the job or operation failed
  2   the call is malformed
  3   there is no such job, file or snapshot
  4   the object is in a state that does not allow it
  5   not allowed
  6   the cluster cannot be reached, or did not answer in time
  7   the snapshot is corrupt or does not fit the application
  8   it is not known whether it happened: look before trying again
  70  a bug in streamd
  130 interrupted; whatever was started goes on

Example:
  streamctl -m localhost:6123 list --output json";

/// The command line of a streamd cluster: submit applications, list and stop jobs, take savepoints.
#[derive(Debug, Parser)]
#[command(name = "streamctl", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    /// What every command understands.
    #[command(flatten)]
    pub global: GlobalArguments,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub struct GlobalArguments {
    /// The job manager [default: the configuration's jobmanager.rpc.address and jobmanager.rpc.port]
    #[arg(
        short = 'm',
        long = "jobmanager",
        value_name = "HOST:PORT",
        env = "STREAMD_JOBMANAGER",
        global = true,
        hide_env_values = true
    )]
    pub job_manager: Option<String>,
    /// The directory of streamd.yaml
    #[arg(
        long = "conf",
        value_name = "DIR",
        env = "STREAMD_CONF_DIR",
        global = true,
        hide_env_values = true
    )]
    pub configuration_directory: Option<PathBuf>,
    /// How results are printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", global = true)]
    pub output: OutputFormat,
    /// Give up after this time, like `10s`. A savepoint is then given up too, everything else that was started goes on
    #[arg(long, value_name = "DURATION", value_parser = duration, global = true)]
    pub timeout: Option<Duration>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people, in Flink's words
    Text,
    /// For programs: one JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(RunCommand),
    Info(InfoCommand),
    List(ListCommand),
    Status(StatusCommand),
    Savepoint(SavepointCommand),
    Cancel(CancelCommand),
    Stop(StopCommand),
    Checkpoint(CheckpointCommand),
    State(StateCommand),
    Fsck(FsckCommand),
    Logs(LogsCommand),
    Profile(ProfileCommand),
    Cluster(ClusterCommand),
    #[command(name = "taskmanager")]
    TaskManager(TaskManagerCommand),
    Completions(CompletionsCommand),
    Man(ManCommand),
}

/// A command that starts an operation of a job.
#[derive(Debug, Clone, Args)]
pub struct OperationArguments {
    /// An id for this request, 32 hexadecimal digits: repeating it does not do it twice
    #[arg(long, value_name = "ID", value_parser = operation_id)]
    pub request_id: Option<OperationId>,
    /// Return once it has begun; `streamctl savepoint status` tells what becomes of it
    #[arg(long)]
    pub detached: bool,
}

/// Parses a job id; for clap.
pub fn job_id(text: &str) -> Result<JobId, String> {
    text.parse()
        .map_err(|error: streamd_core::id::ParseIdError| error.to_string())
}

/// A job id where one may stand in the place of another argument, as `cancel -s` has it.
pub fn parsed_job_id(text: &str) -> Result<JobId, Failure> {
    job_id(text).map_err(|message| Failure::usage(message, LIST_THEM))
}

/// The error for a verb without a job.
pub fn no_job(verb: &str) -> Failure {
    Failure::usage(format!("a job id is missing: specify the job to {verb}"), LIST_THEM)
}

const LIST_THEM: &str = "list the jobs with `streamctl list -a`";

/// Parses the id of an operation; for clap.
pub fn operation_id(text: &str) -> Result<OperationId, String> {
    text.parse()
        .map_err(|error: streamd_core::id::ParseIdError| error.to_string())
}

/// Parses a duration that is not zero; for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a duration with its unit, like `10s` or `5 min`, of at least 1ms".to_owned())
}
