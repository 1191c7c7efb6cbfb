//! The loop: lets everything run that can, gives slots and writers their turns, delivers what has arrived, and lets time pass.

mod leader;
mod machines;
mod messages;
mod mischief;
mod settings;
mod turns;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;

use streamd_coordinator::event::{JobOptions, SlotId};
use streamd_coordinator::lifecycle::JobState;
use streamd_coordinator::slots::{SlotAllocation, SlotGrant, SlotManager};
use streamd_core::graph::JobGraph;
use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::protocol::{Failure, FaultDomain};
use streamd_jobmanager::job_master::{JobMasterHandle, LaunchRequest};
use tokio::runtime::Runtime;

use crate::channels::Network;
use crate::clock::SimulatedClock;
use crate::dice::Dice;
use crate::job_manager::{self, JobManager};
use crate::outcome::Outcome;
use crate::outside::Outside;
use crate::process::Process;
use crate::profile::FaultProfile;
use crate::simulation::{Application, SimulationError};
use crate::store::SimulatedStore;
use crate::trace::Trace;
use crate::watch::SnapshotWatch;

/// Slots of each task manager.
const SLOTS: u32 = 2;

/// How long trouble lasts, in milliseconds.
const TROUBLE_MS: (u64, u64) = (1_500, 6_000);

/// After the last trouble a job must end within this many milliseconds.
const PATIENCE_MS: u64 = 120_000;

/// After its end nothing of it may be left after this many milliseconds.
const GRACE_MS: u64 = 20_000;

/// How long a worker that is to stop may take before it is killed.
const STOP_GRACE_MS: u64 = 3_000;

/// The longest step of time while nothing is known to happen: a deadline of the job master may lie in it.
const LONGEST_STEP_MS: u64 = 10;

/// Something at its time.
#[derive(Debug, Clone)]
enum Happening {
    Mischief,
    Heal,
    Slots(u64, Vec<SlotId>),
    StartWorker(u64, WorkerId, TaskManagerId),
    StopWorker(WorkerId),
    KillWorker(WorkerId),
    WorkerLost(u64, WorkerId, String),
    TaskManagerLost(u64, TaskManagerId),
    TaskManagerJoins,
    Reunite(WorkerId),
    ManagerStarts,
}

/// A cluster with one job.
pub(crate) struct Cluster<'a> {
    dice: Dice,
    profile: FaultProfile,
    seed: u64,
    clock: Arc<SimulatedClock>,
    trace: Arc<Trace>,
    store: Arc<SimulatedStore>,
    outside: Outside,
    network: Network,
    application: Application<'a>,
    graph: JobGraph,
    options: JobOptions,
    job_id: JobId,
    machines: Runtime,
    io: Runtime,
    manager: Option<JobManager>,
    epoch: u64,
    next_worker: u64,
    slots: SlotManager,
    task_managers: BTreeMap<TaskManagerId, u32>,
    born: u32,
    processes: BTreeMap<WorkerId, Process>,
    /// Workers that were stopped before they began.
    stillborn: BTreeSet<WorkerId>,
    parted: BTreeSet<WorkerId>,
    agenda: BTreeMap<(u64, u64), Happening>,
    appointments: u64,
    healed: bool,
    cut_next_writer: bool,
    watch: SnapshotWatch,
    state: JobState,
    savepoints: u64,
}

impl<'a> Cluster<'a> {
    /// A cluster in which nothing has happened.
    pub(crate) fn new(
        (seed, profile): (u64, FaultProfile),
        trace: Option<Box<dyn Write + Send>>,
        clock: Arc<SimulatedClock>,
        outside: Outside,
        application: Application<'a>,
    ) -> Result<Self, SimulationError> {
        let mut dice = Dice::new(seed);
        let trace = Arc::new(Trace::new(trace));
        let store = SimulatedStore::new(dice.fork(), Arc::clone(&clock), Arc::clone(&trace));
        let mut pipeline = application(&outside).map_err(SimulationError::Application)?;
        let graph = pipeline.describe().map_err(SimulationError::Application)?;
        let options = settings::options(&graph, &mut dice, &store).map_err(SimulationError::Application)?;
        let rates = profile.rates();
        store.trouble(rates.refused, rates.applied_then_failed);
        outside.trouble((rates.commits > 0).then(|| (dice.fork(), rates.commits)));
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("simulated-io")
            .enable_time()
            .build()?;
        let job_id = JobId::from_bytes(dice.id());
        Ok(Self {
            watch: SnapshotWatch::new(options.checkpointing.timeout_ms, Arc::clone(&trace)),
            dice,
            profile,
            seed,
            clock,
            trace,
            store,
            outside,
            network: Network::default(),
            application,
            graph,
            options,
            job_id,
            machines: job_manager::still_runtime()?,
            io,
            manager: None,
            epoch: 0,
            next_worker: 1,
            slots: SlotManager::new(SlotAllocation::Spread),
            task_managers: BTreeMap::new(),
            born: 0,
            processes: BTreeMap::new(),
            stillborn: BTreeSet::new(),
            parted: BTreeSet::new(),
            agenda: BTreeMap::new(),
            appointments: 0,
            healed: false,
            cut_next_writer: false,
            state: JobState::Created,
            savepoints: 0,
        })
    }

    /// Runs the job to its end.
    pub(crate) fn run(mut self, expected: Option<&BTreeMap<String, Vec<String>>>) -> Outcome {
        for _ in 0..=self
            .graph
            .vertices
            .iter()
            .map(|vertex| vertex.parallelism)
            .max()
            .unwrap_or(1)
            .div_ceil(SLOTS)
        {
            self.task_manager_joins();
        }
        let trouble = self.dice.between(TROUBLE_MS.0, TROUBLE_MS.1);
        self.later(trouble, Happening::Heal);
        self.later(100, Happening::Mischief);
        self.manager_starts();
        while !self.state.is_terminal() && self.holds() {
            self.step();
            if self.now() > trouble + PATIENCE_MS {
                self.violated(format_args!(
                    "I20: the job is {} long after the last trouble",
                    self.state.name()
                ));
            }
        }
        let ended = self.now();
        while !self.processes.is_empty() && self.holds() {
            self.step();
            if self.now() > ended + GRACE_MS {
                self.violated(format_args!("I21: {:?} outlive their job", self.processes.keys()));
            }
        }
        self.check_end(expected);
        self.outcome()
    }

    fn check_end(&self, expected: Option<&BTreeMap<String, Vec<String>>>) {
        if self.state != JobState::Finished {
            return self.violated(format_args!("I15: the job is {}", self.state.name()));
        }
        if let Some(expected) = expected
            && *expected != self.outside.outputs()
        {
            self.violated("I1: what came out is not what comes out without faults");
        }
    }

    fn outcome(self) -> Outcome {
        let (refused, repeated) = self.outside.commits();
        for (count, what) in [(refused, "a commit failed"), (repeated, "a commit came twice")] {
            (0..count).for_each(|_| self.trace.saw(what));
        }
        Outcome {
            seed: self.seed,
            violation: self.trace.violation(),
            outputs: self.outside.outputs(),
            sightings: self.trace.sightings(),
            digest: self.trace.digest(),
            simulated_ms: self.clock.now(),
        }
    }

    // ---- the loop

    fn step(&mut self) {
        self.store.set_control(true);
        if let Some(manager) = &self.manager {
            manager.drive();
        }
        self.store.set_control(false);
        job_manager::drive(&self.machines);
        let mut busy = self.take_requests();
        busy |= self.move_messages();
        busy |= self.give_turns();
        let now = self.now();
        busy |= self.network.pump(now, &mut self.dice, &self.parted);
        busy |= self.keep_appointments();
        self.look_at_the_job();
        if let Some(violation) = self.outside.violation() {
            self.violated(violation);
        }
        // Several things happen in one moment, but not for ever.
        if !busy || self.dice.happens(400) {
            self.pass_time(busy);
        }
    }

    fn pass_time(&mut self, busy: bool) {
        let now = self.now();
        let next = match busy {
            true => now + 1,
            false => self.next_event().unwrap_or(u64::MAX),
        };
        let millis = next.saturating_sub(now).clamp(1, LONGEST_STEP_MS);
        self.clock.advance(millis);
        self.store.set_control(true);
        if let Some(manager) = &self.manager {
            manager.advance(millis);
        }
        self.store.set_control(false);
        job_manager::advance(&self.machines, millis);
    }

    fn next_event(&self) -> Option<u64> {
        let agenda = self.agenda.keys().next().map(|(at, _)| *at);
        let processes = self.processes.values().flat_map(|process| {
            let slots = process.slots.iter().filter_map(|slot| slot.wakes_at());
            let writers = process.writers.iter().map(|(at, _)| *at);
            let lanes = [process.up.next_arrival(), process.down.next_arrival()];
            slots.chain(writers).chain(lanes.into_iter().flatten())
        });
        agenda
            .into_iter()
            .chain(self.network.next_arrival())
            .chain(processes)
            .min()
    }

    fn look_at_the_job(&mut self) {
        let Some(manager) = &self.manager else { return };
        let (state, restarts) = manager.state();
        if state != self.state {
            self.line(format_args!(
                "job {} -> {}, {restarts} restarts",
                self.state.name(),
                state.name()
            ));
            self.state = state;
            if restarts > 0 {
                self.saw("the job was restarted");
            }
        }
    }

    // ---- what the job asks for

    fn take_requests(&mut self) -> bool {
        let mut any = false;
        while let Some(request) = self.manager.as_mut().and_then(JobManager::next_request) {
            any = true;
            let pause = self.dice.between(1, 10);
            match request {
                LaunchRequest::RequestSlots { count } => {
                    let granted = self.slots.request(self.job_id, count);
                    self.granted(granted);
                }
                LaunchRequest::ReleaseSlots | LaunchRequest::Forget => {
                    self.slots.release(self.job_id);
                }
                LaunchRequest::StartWorker { worker, task_manager } => {
                    self.next_worker = self.next_worker.max(worker.0 + 1);
                    let birth = pause + self.dice.between(5, 60);
                    self.later(birth, Happening::StartWorker(self.epoch, worker, task_manager));
                }
                LaunchRequest::StopWorker { worker } => self.later(pause, Happening::StopWorker(worker)),
                // Workers of an earlier job manager end with it here: nothing of theirs is taken over.
                _of_earlier_workers => {}
            }
        }
        any
    }

    fn granted(&mut self, grants: Vec<SlotGrant>) {
        for grant in grants {
            let pause = self.dice.between(1, 10);
            self.later(pause, Happening::Slots(self.epoch, grant.slots));
        }
    }

    // ---- the agenda

    fn later(&mut self, millis: u64, what: Happening) {
        self.appointments += 1;
        self.agenda.insert((self.now() + millis, self.appointments), what);
    }

    fn keep_appointments(&mut self) -> bool {
        let mut any = false;
        while let Some(next) = self.agenda.first_entry()
            && next.key().0 <= self.clock.now()
        {
            any = true;
            let what = next.remove();
            self.happen(what);
        }
        any
    }

    fn happen(&mut self, what: Happening) {
        self.line(format_args!("{what:?}"));
        match what {
            Happening::Mischief => self.mischief(),
            Happening::Heal => self.heal(),
            Happening::Slots(epoch, slots) => self.tell(epoch, async |job| job.slots_allocated(slots).await),
            Happening::StartWorker(epoch, worker, task_manager) => self.start_worker(epoch, worker, task_manager),
            Happening::StopWorker(worker) => match self.processes.contains_key(&worker) {
                true => self.later(STOP_GRACE_MS, Happening::KillWorker(worker)),
                false => {
                    self.stillborn.insert(worker);
                    let epoch = self.epoch;
                    self.later(5, Happening::WorkerLost(epoch, worker, "never started".to_owned()));
                }
            },
            Happening::KillWorker(worker) => self.kill(worker, "killed because it did not stop"),
            Happening::WorkerLost(epoch, worker, why) => {
                let failure = Failure {
                    message: format!("`{worker}` {why}"),
                    ..lost()
                };
                self.tell(epoch, async |job| job.worker_lost(worker, failure).await);
            }
            Happening::TaskManagerLost(epoch, name) => {
                self.tell(epoch, async |job| job.task_manager_lost(name).await);
            }
            Happening::TaskManagerJoins => self.task_manager_joins(),
            Happening::Reunite(worker) => {
                self.parted.remove(&worker);
            }
            Happening::ManagerStarts => self.manager_starts(),
        }
    }

    fn tell(&mut self, epoch: u64, say: impl AsyncFnOnce(&JobMasterHandle)) {
        if let Some(manager) = self.manager.as_ref().filter(|manager| manager.epoch == epoch) {
            self.store.set_control(true);
            manager.with(say);
            self.store.set_control(false);
        }
    }

    // ---- the end of trouble

    fn heal(&mut self) {
        self.healed = true;
        self.store.trouble(0, 0);
        self.outside.trouble(None);
        self.parted.clear();
        if self.manager.is_none() {
            self.later(10, Happening::ManagerStarts);
        }
    }

    fn is_healed(&self) -> bool {
        self.healed
    }

    // ---- the trace

    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn line(&self, text: impl Display) {
        self.trace.line(self.now(), text);
    }

    fn saw(&self, what: &'static str) {
        self.trace.saw(what);
    }

    fn violated(&self, what: impl Display) {
        self.trace.violated(self.now(), what);
    }

    fn holds(&self) -> bool {
        self.trace.violation().is_none()
    }
}

fn lost() -> Failure {
    Failure {
        domain: FaultDomain::External,
        message: String::new(),
    }
}
