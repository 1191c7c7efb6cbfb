//! One life of a job: how it keeps its state, how it is started, and what it leaves for the next.

use std::path::Path;
use std::sync::LazyLock;

use streamd::prelude::*;
use streamd::{JobClient, StateBackendKind, StateBackendSettings};
use streamd_snapshot::{CompletionRecord, Location, layout, list_completed};
use tokio::runtime::Runtime;

use crate::events::{Event, Events};

/// How often a job may fail: on a machine that is busy it may do so by itself now and then, and is exact all the same.
const ATTEMPTS: u32 = 20;
/// By how much records are out of order at the most, in milliseconds.
pub const JITTER: i64 = 20;
/// Where jobs in this process have their checkpoints.
const CHECKPOINTS: &str = "memory:///embedded/checkpoints";

/// How often a job takes checkpoints that has to leave one, or may have to go back to one.
pub const OFTEN: Duration = Duration::from_millis(10);
/// How often a list may be looked at that changes meanwhile.
const LOOKS: usize = 1_000;

/// For looking at what jobs have left.
pub static IO: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// What a job leaves when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Savepoint,
    /// A checkpoint that refers to no other one.
    Checkpoint,
    /// A checkpoint that builds upon those before it.
    Increments,
}

/// Where a job keeps its state, and in which form it leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    pub backend: StateBackendKind,
    pub left: Left,
}

/// Every backend that this build has, with every form of snapshot that it has.
pub fn keepings() -> Vec<Keeping> {
    backends()
        .into_iter()
        .flat_map(|backend| forms(backend).iter().map(move |left| Keeping { backend, left: *left }))
        .collect()
}

/// Every backend that this build has.
pub fn backends() -> Vec<StateBackendKind> {
    let mut all = vec![StateBackendKind::Memory, StateBackendKind::HashMap];
    all.extend(cfg!(feature = "rocksdb").then_some(StateBackendKind::RocksDb));
    all
}

/// The forms of snapshot that a backend has. The checkpoints of `memory` are no files: none could build upon another.
pub fn forms(backend: StateBackendKind) -> &'static [Left] {
    match backend {
        StateBackendKind::Memory => &[Left::Savepoint, Left::Checkpoint],
        StateBackendKind::HashMap | StateBackendKind::RocksDb => &[Left::Savepoint, Left::Checkpoint, Left::Increments],
    }
}

/// A job in one of its lives.
pub struct Life {
    pub keeping: Keeping,
    pub parallelism: u32,
    pub checkpoint_every: Duration,
    pub events: Events,
}

impl Life {
    /// Starts it, from a snapshot if one is given, and returns when all of it runs.
    pub fn start(
        &self,
        output: &Path,
        restored: Option<&str>,
        build: impl Fn(&DataStream<Event>) -> DataStream<String>,
    ) -> JobClient {
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(self.parallelism);
        env.set_max_parallelism(32);
        env.set_restart_strategy(RestartStrategy::FixedDelay {
            attempts: ATTEMPTS,
            delay_ms: 0,
        });
        env.set_state_backend(StateBackendSettings {
            kind: Some(self.keeping.backend),
            // Checkpoints of `hashmap` are files, however little there is in them: otherwise they would be those of `memory`.
            inline_threshold: Some(0),
            ..StateBackendSettings::default()
        });
        let checkpoints = env.enable_checkpointing(self.checkpoint_every);
        checkpoints.enable_externalized_checkpoints(ExternalizedCheckpointRetention::RetainOnCancellation);
        if self.keeping.left == Left::Increments {
            checkpoints.enable_incremental_checkpoints();
        }
        let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(JITTER.unsigned_abs()))
            .with_timestamp_assigner(|event: &Event, _| event.2);
        let events = env
            .from_source(self.events.clone(), "events")
            .uid("events")
            .assign_timestamps_and_watermarks(strategy)
            .uid("times");
        build(&events).sink_to(FileSink::text(output)).uid("output");
        if let Some(path) = restored {
            env.restore_from(path);
        }
        env.execute_async("any cut").unwrap()
    }

    /// Waits until so many events have been read.
    pub fn wait_for_events(&self, client: &JobClient, count: u64) {
        wait(client, || self.events.read() >= count);
    }

    /// Ends it. Returns where its state is.
    pub fn leave(&self, client: JobClient, folder: &Path) -> String {
        if self.keeping.left == Left::Savepoint {
            return client.stop_with_savepoint(folder.display().to_string(), false).unwrap();
        }
        wait_for_checkpoint(&client);
        let job = checkpoints(&client);
        client.cancel().unwrap();
        let latest = latest(&job).unwrap();
        job.child(&latest.folder).unwrap().uri()
    }
}

/// Waits for a checkpoint that was begun after this call.
pub fn wait_for_checkpoint(client: &JobClient) {
    let job = checkpoints(client);
    // The first one that is complete after this call may have been under way.
    for _ in 0..2 {
        let before = latest(&job).map(|record| record.checkpoint_id);
        wait(client, || latest(&job).map(|record| record.checkpoint_id) > before);
    }
}

fn wait(client: &JobClient, reached: impl Fn() -> bool) {
    while !reached() {
        assert!(client.restarts() < ATTEMPTS, "the job fails by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn checkpoints(client: &JobClient) -> Location {
    layout::job_folder(&Location::open(CHECKPOINTS).unwrap(), client.job_id()).unwrap()
}

fn latest(job: &Location) -> Option<CompletionRecord> {
    // One that is being deleted can be listed, and then be gone.
    let mut looks = std::iter::repeat_with(|| IO.block_on(list_completed(job))).take(LOOKS);
    let records = looks.find_map(std::result::Result::ok);
    records.expect("records of checkpoints can be read").pop()
}
