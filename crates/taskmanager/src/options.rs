//! What a task manager is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use streamd_core::options::StorageSettings;

/// Says where the leading job manager is: `host:port`.
pub type LeaderLookup = Arc<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// The settings of one task manager.
#[derive(Clone)]
pub struct TaskManagerOptions {
    /// `host:port` of the job manager.
    pub job_manager: String,
    /// A file with the `host:port` of the job manager, read again before each attempt to register: a job manager that picks
    /// its port has another one when it is started again. `None` (the default): it stays where it is.
    pub address_file: Option<PathBuf>,
    /// Asks who leads, before each attempt to register; where nobody can say, the job manager is looked for where it was. `None` (the
    /// default): there is one job manager.
    pub leader_lookup: Option<LeaderLookup>,
    /// The name of this host, as people and the cluster's overview call it. Default `localhost`.
    pub host: String,
    /// The address that workers bind for records from their peers, and are reached at. Default `127.0.0.1`.
    pub data_host: String,
    /// How many slots are offered. Default 1.
    pub slots: u32,
    /// Applications and the working directories of jobs. One task manager at a time may use it; created if missing.
    pub work_dir: PathBuf,
    /// Where local copies of state go, in a folder of this task manager's own. `None` (the default): into `work_dir`.
    pub local_state_dir: Option<PathBuf>,
    /// Logs of workers go to `jobs/<job id>/worker-<n>.log` in it; created if missing.
    pub log_dir: PathBuf,
    /// How long the job manager may be out of reach, at the start and after a lost link, before the task manager gives
    /// up and ends. Default 5 minutes.
    pub registration_timeout: Duration,
    /// How long workers may take to end when the task manager ends or has lost its link. Default 3 seconds.
    pub worker_grace: Duration,
    /// How long jobs may take to move elsewhere before the task manager ends; zero: they are not asked to. Default 20 seconds.
    pub drain_timeout: Duration,
    /// What a program may use while it describes its job.
    pub describe: DescribeLimits,
    /// Bytes of memory that all workers together may take; the largest is killed beyond. `None` (the default): 80 % of the machine's.
    pub worker_memory_bytes: Option<u64>,
    /// Bytes of one worker's log that are kept: the newest, in two files of at most half as many. Default 64 MiB.
    pub worker_log_bytes: u64,
    /// How long the logs of workers stay after their last line. Default 7 days.
    pub log_retention: Duration,
    /// Names of the variables that programs inherit from the task manager's environment; all others are hidden.
    pub inherit_environment: Vec<String>,
    /// How workers reach object stores. Each gets it in a file of its own that only its user can read; programs that describe
    /// their job do not. Default: nothing.
    pub storage: StorageSettings,
    /// Where the gRPC health service listens; `None` (the default): nowhere.
    pub health_address: Option<SocketAddr>,
}

/// What a program may use while it describes its job.
#[derive(Debug, Clone)]
pub struct DescribeLimits {
    /// Bytes of the plan. Default 16 MiB: what the link carries.
    pub plan_bytes: u64,
    /// Bytes of memory that it may write to (`RLIMIT_DATA`); `None`: not limited. Default 4 GiB.
    pub memory_bytes: Option<u64>,
    /// Bytes of the longest file that it may write (`RLIMIT_FSIZE`). Default 64 MiB.
    pub file_bytes: u64,
}

impl Default for DescribeLimits {
    fn default() -> Self {
        Self {
            plan_bytes: streamd_rpc::limits::PLAN_BYTES as u64,
            memory_bytes: Some(4 << 30),
            file_bytes: 64 << 20,
        }
    }
}

/// Variables that describe the host rather than the daemon, the switches of logging, and paths of other systems' settings. No
/// secrets: user code sees these.
const INHERITED: [&str; 16] = [
    "HADOOP_CONF_DIR",
    "HADOOP_HOME",
    "HADOOP_USER_NAME",
    "HOME",
    "KRB5CCNAME",
    "KRB5_CONFIG",
    "LANG",
    "LC_ALL",
    "PATH",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "STREAMD_LOG",
    "TZ",
    "USER",
];

impl TaskManagerOptions {
    /// The defaults, with the three things that have none.
    pub fn new(job_manager: impl Into<String>, work_dir: impl Into<PathBuf>, log_dir: impl Into<PathBuf>) -> Self {
        Self {
            job_manager: job_manager.into(),
            address_file: None,
            leader_lookup: None,
            host: "localhost".to_owned(),
            data_host: "127.0.0.1".to_owned(),
            slots: 1,
            work_dir: work_dir.into(),
            local_state_dir: None,
            log_dir: log_dir.into(),
            registration_timeout: Duration::from_secs(300),
            worker_grace: Duration::from_secs(3),
            drain_timeout: Duration::from_secs(20),
            describe: DescribeLimits::default(),
            worker_memory_bytes: None,
            worker_log_bytes: 64 << 20,
            log_retention: Duration::from_secs(7 * 24 * 3600),
            inherit_environment: INHERITED.map(str::to_owned).to_vec(),
            storage: StorageSettings::default(),
            health_address: None,
        }
    }
}
