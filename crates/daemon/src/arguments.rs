//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The daemons of a streamd cluster. Each runs in the foreground until SIGTERM or Ctrl-C.
#[derive(Debug, Parser)]
#[command(
    name = "streamd",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Example, a cluster on this machine:
  streamd local -D taskmanager.numberOfTaskSlots=4

Logs go to stderr; STREAMD_LOG (or RUST_LOG) sets what is logged, like `info` or `warn,streamd_jobmanager=debug`."
)]
pub struct Arguments {
    /// Which.
    #[command(subcommand)]
    pub daemon: Daemon,
}

/// The daemons.
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Run a job manager
    #[command(
        name = "jobmanager",
        after_help = "\
Example:
  streamd jobmanager --conf conf -D jobmanager.rpc.port=0

Prints `jobmanager HOST:PORT` on stdout once it accepts jobs, and writes HOST:PORT to `jobmanager.address` in its pid
directory."
    )]
    JobManager(DaemonArguments),
    /// Run a task manager
    #[command(
        name = "taskmanager",
        after_help = "\
Example:
  streamd taskmanager -m localhost:6123 -D taskmanager.numberOfTaskSlots=4

Prints `taskmanager ID` on stdout once the job manager has accepted it."
    )]
    TaskManager(TaskManagerArguments),
    /// Run a job manager and a task manager in one process: a cluster for one machine
    #[command(after_help = "\
Example:
  streamd local -D taskmanager.numberOfTaskSlots=4

Prints `jobmanager HOST:PORT` and `taskmanager ID` on stdout once jobs can run.")]
    Local(DaemonArguments),
    /// Print the configuration
    #[command(after_help = "\
Examples:
  streamd config
  streamd config env.log.dir

Prints every key with its value as `key: value`, and where the value comes from; with a KEY, its value alone.")]
    Config(ConfigArguments),
}

/// What `streamd config` understands.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// Only this key
    #[arg(value_name = "KEY")]
    pub key: Option<String>,
    /// What every daemon understands.
    #[command(flatten)]
    pub daemon: DaemonArguments,
}

/// What every daemon understands.
#[derive(Debug, Args)]
pub struct DaemonArguments {
    /// The directory of streamd.yaml
    #[arg(long = "conf", value_name = "DIR", env = "STREAMD_CONF_DIR", hide_env_values = true)]
    pub configuration_directory: Option<PathBuf>,
    /// A setting that goes before the file's; may be given more than once
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// How log lines are written
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        env = "STREAMD_LOG_FORMAT",
        hide_env_values = true
    )]
    pub log_format: LogFormat,
}

/// What a task manager understands.
#[derive(Debug, Args)]
pub struct TaskManagerArguments {
    /// The job manager [default: the configuration's jobmanager.rpc.address and jobmanager.rpc.port]
    #[arg(
        short = 'm',
        long = "jobmanager",
        value_name = "HOST:PORT",
        env = "STREAMD_JOBMANAGER",
        hide_env_values = true
    )]
    pub job_manager: Option<String>,
    /// What every daemon understands.
    #[command(flatten)]
    pub daemon: DaemonArguments,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For programs: one JSON object a line
    Json,
}
