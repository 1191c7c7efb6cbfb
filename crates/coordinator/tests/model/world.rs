//! Where everything is at one moment: leaders with their machines, workers, messages on their way, the store, the output.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use streamd_coordinator::event::{Event, JobSpec, RestorePoint};
use streamd_coordinator::invariant::Audit;
use streamd_coordinator::job::JobMachine;
use streamd_core::graph::{ClaimMode, JobGraph, RestartStrategy};
use streamd_core::id::{Attempt, CheckpointId, SubtaskId, WorkerId};
use streamd_core::protocol::{WorkerCommand, WorkerEvent};

use crate::bench;
use crate::outside::{Cut, Output, Prepared, Store};

/// How often each thing may still happen. What is not bounded here ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Deadlines that pass while the job runs: each triggers a checkpoint, or ends one.
    pub ticks: u8,
    /// Records that each split has.
    pub records: u8,
    pub savepoints: u8,
    pub elections: u8,
    pub crashes: u8,
    /// Messages that do not arrive.
    pub losses: u8,
    /// Messages that arrive twice.
    pub doubles: u8,
    /// Publications that fail, or whose outcome nobody knows.
    pub lies: u8,
}

/// A subtask at work.
#[derive(Debug, Clone)]
pub struct Task {
    pub subtask: SubtaskId,
    pub cut: Cut,
    /// From here on nothing is prepared yet.
    pub open_from: u8,
}

#[derive(Debug, Clone)]
pub struct Worker {
    pub attempt: Attempt,
    pub inbox: VecDeque<WorkerCommand>,
    pub tasks: Vec<Task>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            attempt: Attempt::NONE,
            inbox: VecDeque::new(),
            tasks: Vec::new(),
        }
    }
}

/// A snapshot on its way into the store.
#[derive(Debug, Clone)]
pub struct Publishing {
    pub id: CheckpointId,
    pub point: RestorePoint,
    /// Whether it is there, once that is decided.
    pub written: Option<bool>,
    /// Whether the machine has been told.
    pub answered: bool,
}

/// A leader, or one who takes himself for it.
#[derive(Debug, Clone)]
pub struct Leader {
    pub epoch: u64,
    pub now: u64,
    pub machine: JobMachine,
    pub audit: Audit,
    pub workers: BTreeMap<WorkerId, Worker>,
    pub publishing: Vec<Publishing>,
    /// Acknowledgements on their way, in no order.
    pub reports: Vec<(WorkerId, WorkerEvent)>,
    /// What follows at once.
    pub mailbox: VecDeque<Event>,
}

impl Leader {
    pub fn new(epoch: u64, restore: Option<RestorePoint>) -> Self {
        let spec = spec(epoch, restore);
        Self {
            epoch,
            now: 0,
            audit: Audit::new(&spec),
            machine: JobMachine::new(spec),
            workers: BTreeMap::new(),
            publishing: Vec::new(),
            reports: Vec::new(),
            mailbox: VecDeque::from([Event::Start]),
        }
    }
}

/// Everything.
#[derive(Debug, Clone)]
pub struct World {
    pub leaders: Vec<Leader>,
    pub store: Store,
    pub output: Output,
    /// What each subtask noted at each barrier: by epoch, attempt, snapshot, split.
    pub noted: BTreeMap<(u64, Attempt, CheckpointId, u8), Cut>,
    pub budget: Budget,
    /// What does not hold, if anything does not: nothing follows then.
    pub violation: Option<String>,
}

/// Two subtasks of one vertex, on two workers.
fn graph() -> JobGraph {
    let mut graph = bench::graph(2);
    graph.vertices.truncate(1);
    graph.edges.clear();
    graph
}

fn spec(epoch: u64, restore: Option<RestorePoint>) -> JobSpec {
    let mut spec = bench::spec();
    spec.graph = Arc::new(graph());
    spec.max_parallelism.truncate(1);
    spec.restore = restore;
    spec.first_worker = WorkerId(100 * epoch);
    spec.options.claim_mode = ClaimMode::Claim;
    spec.options.leader_epoch = epoch;
    spec.options.restart_strategy = RestartStrategy::FixedDelay {
        attempts: 10,
        delay_ms: 1,
    };
    let checkpointing = &mut spec.options.checkpointing;
    checkpointing.max_concurrent = 2;
    checkpointing.tolerable_failed = 10;
    // The second is triggered at 2 s, and the first expires after that.
    checkpointing.timeout_ms = 1_500;
    spec
}

/// Hashes what is written to it, without keeping it.
struct Digest<'a, H>(&'a mut H);

impl<H: Hasher> Write for Digest<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Hash for World {
    /// By what it shows: so that nothing of the machine is overlooked, whatever is added to it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        write!(Digest(state), "{self:?}").expect("hashing does not fail");
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl World {
    /// Takes back what the sinks of an attempt have prepared up to a snapshot, to commit it.
    pub fn take_prepared(tasks: &mut [Task], up_to: CheckpointId) -> Vec<Prepared> {
        let mut taken = Vec::new();
        for task in tasks {
            let due = |it: &Prepared| u64::from(it.checkpoint) <= up_to.0;
            taken.extend(task.cut.prepared.iter().copied().filter(due));
            task.cut.prepared.retain(|it| !due(it));
        }
        taken
    }
}
