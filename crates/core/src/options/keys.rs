//! The table of configuration keys. A key is here if and only if something honours it.

use std::path::PathBuf;
use std::time::Duration;

use super::definition::{ConfigOption, Definition, Fallback, Kind, Scope};
use super::value::{ByteSize, Secret};
use crate::backend::{CheckpointStorageKind, MAX_INLINE_BYTES, StateBackendKind};
use crate::barrier::Compression;
use crate::graph::{CheckpointingMode, ClaimMode, ExternalizedCheckpointRetention};
use crate::key_group::UPPER_BOUND_MAX_PARALLELISM;

use Fallback::{Unset, Value};

/// The directory that the processes of a cluster keep their files under; the default depends on the machine.
const WORKING_DIRECTORY_DEFAULT: &str = "`$XDG_STATE_HOME/streamd`, or `~/.local/state/streamd`";

macro_rules! options {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident: $value:ty = $key:literal {
            kind: $kind:expr,
            fallback: $fallback:expr,
            scope: $scope:ident
            $(, aliases: $aliases:expr)?
            $(, deprecated: $deprecated:expr)?
            $(, environment: $environment:literal)?
            $(,)?
        }
    )*) => {
        $(
            $(#[doc = $doc])*
            pub const $name: ConfigOption<$value> = {
                const DEFINITION: &Definition = &{
                    #[allow(unused_mut, reason = "not every key has other spellings")]
                    let mut definition = Definition {
                        key: $key,
                        kind: $kind,
                        fallback: $fallback,
                        scope: Scope::$scope,
                        aliases: &[],
                        deprecated: &[],
                        environment: None,
                        doc: concat!($($doc, "\n"),*),
                    };
                    $(definition.aliases = $aliases;)?
                    $(definition.deprecated = $deprecated;)?
                    $(definition.environment = Some($environment);)?
                    definition
                };
                ConfigOption::new(DEFINITION)
            };
        )*

        /// Every row of the table, in the order of the documents.
        pub const ALL: &[&Definition] = &[$($name.definition),*];

        #[cfg(test)]
        pub(super) fn read_all(configuration: &super::Configuration) {
            $(let _: $value = configuration.get($name);)*
        }
    };
}

/// Any duration from zero.
const ANY_DURATION: Kind = Kind::Duration {
    min_ms: 0,
    max_ms: u64::MAX,
};
/// Any port; 0 picks a free one.
const PORT: Kind = Kind::Integer { min: 0, max: 65535 };

options! {
    /// The host at which task managers and `streamctl` reach the job manager.
    JOB_MANAGER_ADDRESS: String = "jobmanager.rpc.address" {
        kind: Kind::Host, fallback: Value("localhost"), scope: Cluster
    }
    /// The port of the job manager. `0` picks a free one; the job manager prints its address and writes it to the file
    /// `jobmanager.address` in its pid directory.
    JOB_MANAGER_PORT: u16 = "jobmanager.rpc.port" {
        kind: PORT, fallback: Value("6123"), scope: Cluster
    }
    /// The address that the job manager listens on. One that other machines reach, like `0.0.0.0`, is refused unless
    /// `security.allow-insecure-bind` is set.
    JOB_MANAGER_BIND_HOST: String = "jobmanager.bind-host" {
        kind: Kind::Host, fallback: Value("127.0.0.1"), scope: Cluster
    }
    /// The name of a task manager's host, as `streamctl cluster status` shows it.
    TASK_MANAGER_HOST: String = "taskmanager.host" {
        kind: Kind::Host, fallback: Value("localhost"), scope: Cluster, deprecated: &["taskmanager.hostname"]
    }
    /// The IP address that the workers of a task manager listen on for records, and are reached at by other workers. One
    /// that other machines reach is refused unless `security.allow-insecure-bind` is set.
    TASK_MANAGER_BIND_HOST: String = "taskmanager.bind-host" {
        kind: Kind::Address, fallback: Value("127.0.0.1"), scope: Cluster
    }
    /// How many slots a task manager offers. A slot is one thread that runs one parallel slice of a job.
    TASK_MANAGER_SLOTS: Option<u32> = "taskmanager.numberOfTaskSlots" {
        kind: Kind::Integer { min: 1, max: 1024 }, fallback: Unset("the number of processors"), scope: Cluster
    }
    /// How much memory all workers of a task manager together may take. Beyond it the largest is killed, and its job fails with
    /// SD-0209: what one job takes ends neither another job's worker nor a daemon.
    TASK_MANAGER_MEMORY: Option<ByteSize> = "taskmanager.memory.process.size" {
        kind: Kind::Size { min: 64 << 20, max: 1 << 50 }, fallback: Unset("80 % of the machine's memory"), scope: Cluster
    }
    /// How long a task manager looks for its job manager, at the start and after it has lost it, before it ends.
    TASK_MANAGER_REGISTRATION_TIMEOUT: Duration = "taskmanager.registration.timeout" {
        kind: Kind::Duration { min_ms: 1, max_ms: u64::MAX }, fallback: Value("5 min"), scope: Cluster,
        deprecated: &["taskmanager.maxRegistrationDuration"],
    }
    /// How long a task manager that is asked to end (SIGTERM) waits for its jobs to move to other task managers, where there is room for
    /// them; 0 to end at once. A second SIGTERM ends the wait.
    TASK_MANAGER_DRAIN_TIMEOUT: Duration = "taskmanager.shutdown.drain-timeout" {
        kind: Kind::Duration { min_ms: 0, max_ms: u64::MAX }, fallback: Value("20 s"), scope: Cluster
    }
    /// Where a task manager keeps what jobs read from the local disk when they restart (`execution.state-recovery.from-local`), in a folder
    /// of its own. For the backend `rocksdb` on the file system of `io.tmp.dirs`: its files are linked, not copied.
    LOCAL_STATE_DIRECTORY: Option<PathBuf> = "taskmanager.state.local.root-dirs" {
        kind: Kind::Directory, fallback: Unset("the working directories in `io.tmp.dirs`"), scope: Cluster,
        aliases: &["execution.checkpointing.local-backup.dirs"],
    }
    /// How much of the log of one worker is kept: the newest part.
    WORKER_LOG_MAX_SIZE: ByteSize = "taskmanager.worker-log.max-size" {
        kind: Kind::Size { min: 64 << 10, max: 1 << 40 }, fallback: Value("64 mb"), scope: Cluster
    }
    /// For how long the log of a worker is kept after its last line.
    WORKER_LOG_RETENTION: Duration = "taskmanager.worker-log.retention" {
        kind: ANY_DURATION, fallback: Value("7 d"), scope: Cluster
    }
    /// The parallelism of a job that sets none, in code or with `run -p`.
    PARALLELISM: u32 = "parallelism.default" {
        kind: Kind::Integer { min: 1, max: UPPER_BOUND_MAX_PARALLELISM as u64 }, fallback: Value("1"), scope: Job
    }
    /// The time from the start of one periodic checkpoint to the start of the next.
    CHECKPOINTING_INTERVAL: Option<Duration> = "execution.checkpointing.interval" {
        kind: Kind::Duration { min_ms: 10, max_ms: u64::MAX }, fallback: Unset("no periodic checkpoints"), scope: Job
    }
    /// Whether a record counts exactly once in the state after a failure, or at least once.
    CHECKPOINTING_MODE: CheckpointingMode = "execution.checkpointing.mode" {
        kind: Kind::Choice(&["EXACTLY_ONCE", "AT_LEAST_ONCE"]), fallback: Value("EXACTLY_ONCE"), scope: Job
    }
    /// The time after which a checkpoint or savepoint that is not complete is given up.
    CHECKPOINTING_TIMEOUT: Duration = "execution.checkpointing.timeout" {
        kind: Kind::Duration { min_ms: 10, max_ms: u64::MAX }, fallback: Value("10 min"), scope: Job
    }
    /// The least time from the end of one periodic checkpoint to the start of the next.
    CHECKPOINTING_MIN_PAUSE: Duration = "execution.checkpointing.min-pause" {
        kind: ANY_DURATION, fallback: Value("0 ms"), scope: Job
    }
    /// How many checkpoints may be under way at once. Savepoints do not count.
    MAX_CONCURRENT_CHECKPOINTS: u32 = "execution.checkpointing.max-concurrent-checkpoints" {
        kind: Kind::Integer { min: 1, max: 100 }, fallback: Value("1"), scope: Job
    }
    /// How many checkpoints in a row may fail before the job does.
    TOLERABLE_FAILED_CHECKPOINTS: u32 = "execution.checkpointing.tolerable-failed-checkpoints" {
        kind: Kind::Integer { min: 0, max: u32::MAX as u64 }, fallback: Value("0"), scope: Job
    }
    /// What becomes of the last checkpoints when the job is cancelled or fails. `RETAIN_ON_CANCELLATION` keeps them,
    /// `DELETE_ON_CANCELLATION` keeps them if the job fails, `NO_EXTERNALIZED_CHECKPOINTS` always deletes them.
    EXTERNALIZED_RETENTION: ExternalizedCheckpointRetention = "execution.checkpointing.externalized-checkpoint-retention" {
        kind: Kind::Choice(&["NO_EXTERNALIZED_CHECKPOINTS", "DELETE_ON_CANCELLATION", "RETAIN_ON_CANCELLATION"]),
        fallback: Value("NO_EXTERNALIZED_CHECKPOINTS"), scope: Job
    }
    /// How many completed checkpoints of a job are kept. Savepoints do not count.
    NUM_RETAINED_CHECKPOINTS: u32 = "execution.checkpointing.num-retained" {
        kind: Kind::Integer { min: 1, max: 10_000 }, fallback: Value("1"), scope: Job,
        aliases: &["state.checkpoints.num-retained"],
    }
    /// Whether a checkpoint refers to the one before for what has not changed since, and writes only the rest. Such a checkpoint needs
    /// the folders of those before it: move or copy the folder of the job as a whole. Savepoints always hold everything.
    INCREMENTAL_CHECKPOINTS: bool = "execution.checkpointing.incremental" {
        kind: Kind::Choice(&["false", "true"]), fallback: Value("false"), scope: Job,
        aliases: &["state.backend.incremental"],
    }
    /// How keyed state is compressed in checkpoints: `none`, `lz4` (cheap) or `zstd` (smaller). Flink's `true` means `lz4`, its
    /// `false` `none`. Savepoints are tables that are always compressed: with `zstd` if it is chosen, else with `lz4`.
    SNAPSHOT_COMPRESSION: Compression = "execution.checkpointing.snapshot-compression" {
        kind: Kind::Choice(&["none", "lz4", "zstd", "false", "true"]), fallback: Value("none"), scope: Job
    }
    /// Where the state of checkpoints goes: into files of their own, or with the job manager into their metadata. With `jobmanager`, the
    /// backend `hashmap` becomes `memory`.
    CHECKPOINT_STORAGE: Option<CheckpointStorageKind> = "execution.checkpointing.storage" {
        kind: Kind::Choice(&["filesystem", "jobmanager"]),
        fallback: Unset("`jobmanager` with the backend `memory`, else `filesystem`"), scope: Job,
        aliases: &["state.checkpoint-storage"],
    }
    /// Backend `hashmap`: the state of a subtask travels in the metadata of a checkpoint instead of in a file of its own, if it takes no
    /// more than this. An incremental checkpoint that refers to earlier ones always has files.
    DATA_INLINE_THRESHOLD: ByteSize = "execution.checkpointing.data-inline-threshold" {
        kind: Kind::Size { min: 0, max: 1 << 20 }, fallback: Value("20 kb"), scope: Job,
        aliases: &["state.storage.fs.memory-threshold"],
        deprecated: &["state.backend.fs.memory-threshold"],
    }
    /// The folder that checkpoints go to; a job's own are in `<dir>/<job id>`. All processes of the cluster need access.
    CHECKPOINTS_DIRECTORY: Option<String> = "execution.checkpointing.dir" {
        kind: Kind::Location, fallback: Unset("`checkpoints` in `process.working-dir`"), scope: Job,
        aliases: &["state.checkpoints.dir"],
        deprecated: &["state.backend.fs.checkpointdir"],
    }
    /// The folder that savepoints go to where the command names no other.
    SAVEPOINTS_DIRECTORY: Option<String> = "execution.checkpointing.savepoint-dir" {
        kind: Kind::Location, fallback: Unset("the command must name one"), scope: Job,
        aliases: &["state.savepoints.dir"],
        deprecated: &["savepoints.state.backend.fs.dir", "savepoints.state.backend.fs.checkpointdir"],
    }
    /// The URL of an S3 server that is not Amazon's. Plain HTTP is for servers on this machine.
    S3_ENDPOINT: Option<String> = "s3.endpoint" {
        kind: Kind::Endpoint, fallback: Unset("Amazon's of the region"), scope: Cluster,
        aliases: &["s3a.endpoint", "fs.s3a.endpoint"],
    }
    /// The region of the buckets.
    S3_REGION: Option<String> = "s3.region" {
        kind: Kind::Text, fallback: Unset("`AWS_REGION`, else `us-east-1`"), scope: Cluster,
        aliases: &["s3a.region"],
    }
    /// The id of the access key.
    S3_ACCESS_KEY: Option<String> = "s3.access-key" {
        kind: Kind::Text, fallback: Unset("the provider's chain: environment, web identity, container, machine"),
        scope: Cluster,
        aliases: &["s3.access.key", "s3a.access-key", "s3a.access.key", "fs.s3a.access-key", "fs.s3a.access.key"],
    }
    /// The secret of the access key. Needs `s3.access-key`.
    S3_SECRET_KEY: Option<Secret> = "s3.secret-key" {
        kind: Kind::Secret, fallback: Unset("the provider's chain"), scope: Cluster,
        aliases: &["s3.secret.key", "s3a.secret-key", "s3a.secret.key", "fs.s3a.secret-key", "fs.s3a.secret.key"],
    }
    /// Whether the bucket stands in the path of a request rather than in the name of its host.
    S3_PATH_STYLE_ACCESS: Option<bool> = "s3.path.style.access" {
        kind: Kind::Choice(&["false", "true"]), fallback: Unset("`true` with `s3.endpoint`, else `false`"),
        scope: Cluster,
        aliases: &[
            "s3.path-style-access", "s3a.path.style.access", "s3a.path-style-access", "fs.s3a.path.style.access",
            "fs.s3a.path-style-access",
        ],
    }
    /// The file with the key of the service account for Google Cloud Storage.
    GS_KEY_FILE: Option<PathBuf> = "gs.auth.service.account.json.keyfile" {
        kind: Kind::Directory, fallback: Unset("the provider's chain: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's file, machine"),
        scope: Cluster,
        aliases: &["fs.gs.auth.service.account.json.keyfile", "google.cloud.auth.service.account.json.keyfile"],
    }
    /// The URL of a server for `gs://` that is not Google's. Plain HTTP is for servers on this machine.
    GS_ROOT_URL: Option<String> = "gs.storage.root.url" {
        kind: Kind::Endpoint, fallback: Unset("Google's"), scope: Cluster, aliases: &["fs.gs.storage.root.url"],
    }
    /// The storage account of locations that name none, as `az://container/path`.
    AZURE_ACCOUNT: Option<String> = "azure.account-name" {
        kind: Kind::Text, fallback: Unset("`AZURE_STORAGE_ACCOUNT_NAME`"), scope: Cluster
    }
    /// The access key of the storage account.
    AZURE_ACCOUNT_KEY: Option<Secret> = "azure.account-key" {
        kind: Kind::Secret, fallback: Unset("the provider's chain: environment, workload identity, machine"),
        scope: Cluster
    }
    /// The URL of the blob service of the account, where it is not Microsoft's public one. Plain HTTP is for servers on this
    /// machine.
    AZURE_ENDPOINT: Option<String> = "azure.endpoint" {
        kind: Kind::Endpoint, fallback: Unset("`https://ACCOUNT.blob.core.windows.net`"), scope: Cluster
    }
    /// Whose the snapshot is that a job starts from. `NO_CLAIM`: yours, streamd never touches it. `CLAIM`: the job's, which
    /// deletes it once it is subsumed. `LEGACY` is refused: nobody would know when it may be deleted.
    CLAIM_MODE: ClaimMode = "execution.state-recovery.claim-mode" {
        kind: Kind::Choice(&["NO_CLAIM", "CLAIM"]), fallback: Value("NO_CLAIM"), scope: Job,
        deprecated: &["execution.savepoint-restore-mode"],
    }
    /// Whether objects of the last checkpoint that are on the disk of a task manager are read when the job restarts after a failure, instead
    /// of being fetched from the store. Each is checked against the digest that the checkpoint records. They take room until later
    /// checkpoints no longer have them. The files of backend `rocksdb` are there anyway; on the heap, a copy is written of what is uploaded.
    LOCAL_RECOVERY: Option<bool> = "execution.state-recovery.from-local" {
        kind: Kind::Choice(&["true", "false"]), fallback: Unset("`true` with backend `rocksdb`, else `false`"), scope: Job,
        aliases: &["execution.checkpointing.local-backup.enabled"],
        deprecated: &["state.backend.local-recovery"],
    }
    /// The number of key groups of operators whose code sets none: the parallelism that the job can never exceed. A
    /// snapshot restores with the number that it was taken with only.
    MAX_PARALLELISM: Option<u32> = "pipeline.max-parallelism" {
        kind: Kind::Integer { min: 1, max: UPPER_BOUND_MAX_PARALLELISM as u64 },
        fallback: Unset("128 times the parallelism, rounded up to a power of two"), scope: Job
    }
    /// Where the keyed state of a job lives. `hashmap`: on the heap; Flink's old name `filesystem` means the same. `rocksdb`: on the
    /// local disk, for more than memory holds; the application must be built with streamd's feature `rocksdb`. `memory`: on the heap,
    /// with checkpoints that are one file, `_metadata`, which the job manager writes: for small state; Flink's old name `jobmanager`
    /// means the same.
    STATE_BACKEND: StateBackendKind = "state.backend.type" {
        kind: Kind::Choice(&["hashmap", "rocksdb", "memory", "filesystem", "jobmanager"]), fallback: Value("hashmap"),
        scope: Job, aliases: &["state.backend"],
    }
    /// Backend `memory`: how large one state of one subtask may be in a checkpoint, which is declined otherwise.
    MEMORY_MAX_STATE_SIZE: ByteSize = "state.backend.memory.max-state-size" {
        kind: Kind::Size { min: 1, max: MAX_INLINE_BYTES }, fallback: Value("5 mb"), scope: Job
    }
    /// Backend `rocksdb`: the memory of one slot for state: half of it for decoded values, a quarter for write buffers, a quarter for
    /// the block cache. Write buffers and cache are shared by all slots of a worker.
    ROCKSDB_MEMORY_PER_SLOT: ByteSize = "state.backend.rocksdb.memory.fixed-per-slot" {
        kind: Kind::Size { min: 1 << 20, max: 1 << 40 }, fallback: Value("256 mb"), scope: Job
    }
    /// What to do when a job that sets nothing in code fails. Flink's other spellings `off` and `disable` (`none`), `fixeddelay`,
    /// `failurerate` and `exponentialdelay` mean the same.
    RESTART_STRATEGY: Option<String> = "restart-strategy.type" {
        kind: Kind::Choice(&[
            "none", "fixed-delay", "failure-rate", "exponential-delay",
            "off", "disable", "fixeddelay", "failurerate", "exponentialdelay",
        ]),
        fallback: Unset("`exponential-delay` with periodic checkpoints, else `none`"), scope: Job,
        aliases: &["restart-strategy"],
    }
    /// Strategy `fixed-delay`: how many restarts before the job fails for good.
    FIXED_DELAY_ATTEMPTS: u32 = "restart-strategy.fixed-delay.attempts" {
        kind: Kind::Integer { min: 0, max: u32::MAX as u64 }, fallback: Value("1"), scope: Job
    }
    /// Strategy `fixed-delay`: the time before each restart.
    FIXED_DELAY_DELAY: Duration = "restart-strategy.fixed-delay.delay" {
        kind: ANY_DURATION, fallback: Value("1 s"), scope: Job
    }
    /// Strategy `failure-rate`: how many failures within the interval are still followed by a restart.
    FAILURE_RATE_MAX: u32 = "restart-strategy.failure-rate.max-failures-per-interval" {
        kind: Kind::Integer { min: 1, max: u32::MAX as u64 }, fallback: Value("1"), scope: Job
    }
    /// Strategy `failure-rate`: the time over which failures are counted.
    FAILURE_RATE_INTERVAL: Duration = "restart-strategy.failure-rate.failure-rate-interval" {
        kind: Kind::Duration { min_ms: 1, max_ms: u64::MAX }, fallback: Value("1 min"), scope: Job
    }
    /// Strategy `failure-rate`: the time before each restart.
    FAILURE_RATE_DELAY: Duration = "restart-strategy.failure-rate.delay" {
        kind: ANY_DURATION, fallback: Value("1 s"), scope: Job
    }
    /// Strategy `exponential-delay`: the time before the first restart. There is none where the job has lost but a worker process or a
    /// task manager, and has completed a checkpoint since it last began or has not failed for the time of `reset-backoff-threshold`.
    EXPONENTIAL_DELAY_INITIAL: Duration = "restart-strategy.exponential-delay.initial-backoff" {
        kind: Kind::Duration { min_ms: 1, max_ms: u64::MAX }, fallback: Value("1 s"), scope: Job
    }
    /// Strategy `exponential-delay`: the most time before a restart.
    EXPONENTIAL_DELAY_MAX: Duration = "restart-strategy.exponential-delay.max-backoff" {
        kind: Kind::Duration { min_ms: 1, max_ms: u64::MAX }, fallback: Value("1 min"), scope: Job
    }
    /// Strategy `exponential-delay`: by how much the time grows from one restart to the next.
    EXPONENTIAL_DELAY_MULTIPLIER: f64 = "restart-strategy.exponential-delay.backoff-multiplier" {
        kind: Kind::Float { min: 1.0, max: 1000.0 }, fallback: Value("1.5"), scope: Job
    }
    /// Strategy `exponential-delay`: the time without failure after which the next restart is a first one again.
    EXPONENTIAL_DELAY_RESET: Duration = "restart-strategy.exponential-delay.reset-backoff-threshold" {
        kind: ANY_DURATION, fallback: Value("1 h"), scope: Job
    }
    /// Strategy `exponential-delay`: by which part the time before a restart is longer or shorter, so that jobs that failed together do
    /// not all come back together. The same job draws the same numbers.
    EXPONENTIAL_DELAY_JITTER: f64 = "restart-strategy.exponential-delay.jitter-factor" {
        kind: Kind::Float { min: 0.0, max: 1.0 }, fallback: Value("0.1"), scope: Job
    }
    /// Strategy `exponential-delay`: how many restarts, without the time of `reset-backoff-threshold` between two of them, before the
    /// job fails for good.
    EXPONENTIAL_DELAY_ATTEMPTS: Option<u32> = "restart-strategy.exponential-delay.attempts-before-reset-backoff" {
        kind: Kind::Integer { min: 1, max: u32::MAX as u64 }, fallback: Unset("any number"), scope: Job
    }
    /// How long a job waits for free slots before its attempt fails.
    SLOT_REQUEST_TIMEOUT: Duration = "slot.request.timeout" {
        kind: Kind::Duration { min_ms: 1, max_ms: u64::MAX }, fallback: Value("5 min"), scope: Job
    }
    /// The time between two signs of life from a task manager or worker.
    HEARTBEAT_INTERVAL: Duration = "heartbeat.interval" {
        kind: Kind::Duration { min_ms: 10, max_ms: 3_600_000 }, fallback: Value("2 s"), scope: Cluster
    }
    /// The time without a sign of life after which a task manager or worker counts as lost. A process that dies is noticed
    /// at once; this is for machines that vanish.
    HEARTBEAT_TIMEOUT: Duration = "heartbeat.timeout" {
        kind: Kind::Duration { min_ms: 20, max_ms: 3_600_000 }, fallback: Value("10 s"), scope: Cluster
    }
    /// How long the subtasks of a job that is cancelled may take to stop before their worker processes are ended.
    TASK_CANCELLATION_TIMEOUT: Duration = "task.cancellation.timeout" {
        kind: Kind::Duration { min_ms: 1, max_ms: u64::MAX }, fallback: Value("10 s"), scope: Cluster
    }
    /// The largest application that can be submitted.
    APPLICATION_MAX_SIZE: ByteSize = "application.max-size" {
        kind: Kind::Size { min: 1, max: 2 << 30 }, fallback: Value("256 mb"), scope: Cluster
    }
    /// How long an application may take to describe its job before its submission is refused.
    APPLICATION_DESCRIBE_TIMEOUT: Duration = "application.describe-timeout" {
        kind: Kind::Duration { min_ms: 100, max_ms: 240_000 }, fallback: Value("30 s"), scope: Cluster
    }
    /// For how long a job that has ended is listed.
    JOB_STORE_EXPIRATION_TIME: Duration = "jobstore.expiration-time" {
        kind: ANY_DURATION, fallback: Value("1 h"), scope: Cluster
    }
    /// How many jobs that have ended are listed at most.
    JOB_STORE_MAX_CAPACITY: u32 = "jobstore.max-capacity" {
        kind: Kind::Integer { min: 0, max: 100_000 }, fallback: Value("1000"), scope: Cluster
    }
    /// Whether the daemons may listen on addresses that other machines reach. This version has neither encryption nor
    /// passwords: whoever reaches such an address runs programs as the user of the task managers. Set it only where
    /// nobody else can, as in the network of a container.
    ALLOW_INSECURE_BIND: bool = "security.allow-insecure-bind" {
        kind: Kind::Choice(&["false", "true"]), fallback: Value("false"), scope: Cluster
    }
    /// The directory that the processes of a cluster keep their files under. Clusters on one machine need one each.
    WORKING_DIRECTORY: Option<PathBuf> = "process.working-dir" {
        kind: Kind::Directory, fallback: Unset(WORKING_DIRECTORY_DEFAULT), scope: Cluster,
        environment: "STREAMD_DATA_DIR",
    }
    /// Where the job manager keeps applications and the records of jobs: whatever must outlive it.
    HA_STORAGE_DIRECTORY: Option<String> = "high-availability.storageDir" {
        kind: Kind::Location, fallback: Unset("`ha` in `process.working-dir`"), scope: Cluster
    }
    /// Whether a cluster has several job managers, of which one leads by a record in `high-availability.storageDir`, which all of
    /// them must reach. Who may write it: with `object-store`, whoever sees no sign of life of the leader there; with `kubernetes`,
    /// whoever holds a Lease of the API server.
    HA_TYPE: String = "high-availability.type" {
        kind: Kind::Choice(&["none", "object-store", "kubernetes"]), fallback: Value("none"), scope: Cluster,
        aliases: &["high-availability"],
    }
    /// Type `object-store`: how long a standby sees no sign of life of the leader before it takes its place.
    HA_LEASE_DURATION: Duration = "high-availability.object-store.leader-election.lease-duration" {
        kind: Kind::Duration { min_ms: 100, max_ms: 3_600_000 }, fallback: Value("5 s"), scope: Cluster
    }
    /// Type `object-store`: how long a leader goes on that cannot give a sign of life. Shorter than the lease.
    HA_RENEW_DEADLINE: Duration = "high-availability.object-store.leader-election.renew-deadline" {
        kind: Kind::Duration { min_ms: 50, max_ms: 3_600_000 }, fallback: Value("4 s"), scope: Cluster
    }
    /// Type `object-store`: the time between two signs of life, and between two looks of a standby.
    HA_RETRY_PERIOD: Duration = "high-availability.object-store.leader-election.retry-period" {
        kind: Kind::Duration { min_ms: 10, max_ms: 3_600_000 }, fallback: Value("1 s"), scope: Cluster
    }
    /// Type `kubernetes`: how long a standby sees the Lease unchanged before it takes it.
    HA_KUBERNETES_LEASE_DURATION: Duration = "high-availability.kubernetes.leader-election.lease-duration" {
        kind: Kind::Duration { min_ms: 100, max_ms: 3_600_000 }, fallback: Value("15 s"), scope: Cluster
    }
    /// Type `kubernetes`: how long a leader goes on without learning that it still leads: from the Lease, or, while the API server
    /// does not answer, from `high-availability.storageDir`. Shorter than the lease.
    HA_KUBERNETES_RENEW_DEADLINE: Duration = "high-availability.kubernetes.leader-election.renew-deadline" {
        kind: Kind::Duration { min_ms: 50, max_ms: 3_600_000 }, fallback: Value("12 s"), scope: Cluster
    }
    /// Type `kubernetes`: the time between two renewals of the Lease, and between two looks of a standby.
    HA_KUBERNETES_RETRY_PERIOD: Duration = "high-availability.kubernetes.leader-election.retry-period" {
        kind: Kind::Duration { min_ms: 10, max_ms: 3_600_000 }, fallback: Value("5 s"), scope: Cluster
    }
    /// Type `kubernetes`: the name of the cluster. Its Lease is `<cluster-id>-leader`. Small letters, digits and `-`, at most 45.
    KUBERNETES_CLUSTER_ID: Option<String> = "kubernetes.cluster-id" {
        kind: Kind::Text, fallback: Unset("none: type `kubernetes` needs one"), scope: Cluster
    }
    /// The namespace of the Lease.
    KUBERNETES_NAMESPACE: Option<String> = "kubernetes.namespace" {
        kind: Kind::Text, fallback: Unset("the pod's; outside of a pod `default`"), scope: Cluster
    }
    /// The URL of the API server. Plain HTTP is for servers on this machine.
    KUBERNETES_API_SERVER: Option<String> = "kubernetes.api-server.url" {
        kind: Kind::Endpoint, fallback: Unset("the one of the pod"), scope: Cluster
    }
    /// The file with the token that the API server asks for, read anew for each request.
    KUBERNETES_TOKEN_FILE: Option<PathBuf> = "kubernetes.api-server.token-file" {
        kind: Kind::Directory, fallback: Unset("with the pod's API server, that of its service account; else none"), scope: Cluster
    }
    /// The file with the certificates that the API server's must be signed by.
    KUBERNETES_CA_FILE: Option<PathBuf> = "kubernetes.api-server.ca-file" {
        kind: Kind::Directory,
        fallback: Unset("with the pod's API server, that of its service account; else those of the machine"), scope: Cluster
    }
    /// How long the workers of a job manager that died may take to come back to the next one. A job of which one is missing then goes on
    /// from its last checkpoint.
    HA_RECONCILIATION_TIMEOUT: Duration = "high-availability.reconciliation-timeout" {
        kind: Kind::Duration { min_ms: 1, max_ms: 3_600_000 }, fallback: Value("10 s"), scope: Cluster
    }
    /// Where a task manager keeps the applications it runs and the working directories of their workers.
    TEMPORARY_DIRECTORY: Option<PathBuf> = "io.tmp.dirs" {
        kind: Kind::Directory, fallback: Unset("`tmp` in `process.working-dir`"), scope: Cluster,
        deprecated: &["taskmanager.tmp.dirs"],
    }
    /// Where the logs of workers go; the launch scripts put those of the daemons there too.
    LOG_DIRECTORY: Option<PathBuf> = "env.log.dir" {
        kind: Kind::Directory, fallback: Unset("`log` in `process.working-dir`"), scope: Cluster,
        environment: "STREAMD_LOG_DIR",
    }
    /// Where the job manager writes its address and the launch scripts keep process ids.
    PID_DIRECTORY: Option<PathBuf> = "env.pid.dir" {
        kind: Kind::Directory, fallback: Unset("`pid` in `process.working-dir`"), scope: Cluster,
        environment: "STREAMD_PID_DIR",
    }
}
