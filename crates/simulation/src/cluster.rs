//! The loop: lets everything run that can, gives slots and writers their turns, delivers what has arrived, and lets time pass.

mod cancel;
mod crashes;
mod machines;
mod managers;
mod messages;
mod mischief;
mod settings;
mod start;
mod turns;
mod words;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use streamd_coordinator::lifecycle::JobState;
use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::time::{Clock, ManualClock};
use streamd_jobmanager::job_master::JobMasterHandle;
use streamd_jobmanager::unlinked::TaskManagerLink;
use streamd_jobmanager::unlinked::proto::SubmitJobRequest;
use tokio::runtime::Runtime;

use crate::channels::Network;
use crate::crash::CrashPoint;
use crate::dice::Dice;
use crate::job_manager::{self, JobManager};
use crate::outcome::Outcome;
use crate::outside::Outside;
use crate::process::Process;
use crate::profile::FaultProfile;
use crate::sabotage::Sabotage;
use crate::simulation::Application;
use crate::store::{Actor, SimulatedStore};
use crate::task_manager::TaskManager;
use crate::trace::Trace;
use crate::watch::SnapshotWatch;

use self::settings::Settings;

/// How long trouble lasts, in milliseconds.
const TROUBLE_MS: (u64, u64) = (1_500, 6_000);

/// No client wants a job cancelled before so many milliseconds.
const EARLIEST_CANCEL_MS: u64 = 300;

/// After the last trouble a job must end within this many milliseconds.
const PATIENCE_MS: u64 = 120_000;

/// After its end, and the end of trouble, nothing of it may be left after this many milliseconds.
const GRACE_MS: u64 = 30_000;

/// The longest step of time while nothing is known to happen: a deadline of a job manager may lie in it.
const LONGEST_STEP_MS: u64 = 10;

/// Something at its time.
#[derive(Debug, Clone)]
enum Happening {
    Mischief,
    Heal,
    Submit,
    Cancel,
    ManagerStarts(u32),
    ManagerGoesOn(u32),
    TaskManagerJoins,
    TaskManagerSeeks(TaskManagerId),
    TaskManagerBeats(TaskManagerId),
    TaskManagerLeaves(TaskManagerId, u32),
    TaskManagerSuspects(TaskManagerId, u32),
    StartWorker(TaskManagerId, WorkerId),
    StopWorker(TaskManagerId, WorkerId),
    KillWorker(WorkerId),
    WorkerExited(TaskManagerId, WorkerId, String),
    WorkerSeeks(WorkerId),
    WorkerLeaves(WorkerId, u32),
    WorkerIsTold(WorkerId, u32),
    Reunite(WorkerId),
}

/// Whoever's link a job manager sees closed.
enum Farewell {
    Worker(JobMasterHandle, WorkerId),
    TaskManager(TaskManagerLink),
}

/// A cluster with one job.
pub(crate) struct Cluster<'a> {
    dice: Dice,
    profile: FaultProfile,
    seed: u64,
    crash: Option<CrashPoint>,
    sabotage: Option<Sabotage>,
    clock: Arc<ManualClock>,
    trace: Arc<Trace>,
    store: Arc<SimulatedStore>,
    outside: Outside,
    network: Network,
    application: Application<'a>,
    settings: Settings,
    job_id: JobId,
    /// What the client submits, until it is accepted.
    request: SubmitJobRequest,
    accepted: bool,
    /// Whether a client wants the job cancelled, some time.
    cancels: bool,
    /// Whether he was told that it is heard.
    cancelled: bool,
    /// What task managers are told by the application.
    plan: Bytes,
    machines: Runtime,
    io: Runtime,
    managers: BTreeMap<u32, JobManager>,
    next_manager: u32,
    /// The latest epoch whose leader has said how the job is.
    last_epoch: u64,
    task_managers: BTreeMap<TaskManagerId, TaskManager>,
    born: u32,
    processes: BTreeMap<WorkerId, Process>,
    /// Workers that are not to be started any more.
    stillborn: BTreeSet<WorkerId>,
    parted: BTreeSet<WorkerId>,
    /// When, and by which job manager, a closed link is seen.
    farewells: Vec<(u64, u32, Farewell)>,
    agenda: BTreeMap<(u64, u64), Happening>,
    appointments: u64,
    messages: u64,
    healed: bool,
    cut_next_writer: bool,
    watch: SnapshotWatch,
    /// The state of the job, as the last leader says.
    state: JobState,
    /// How it ended, as the first says who says so.
    ended: Option<JobState>,
    savepoints: u64,
}

impl Cluster<'_> {
    /// Runs the job to its end.
    pub(crate) fn run(mut self, task_managers: u32, expected: Option<&BTreeMap<String, Vec<String>>>) -> Outcome {
        for _ in 0..task_managers {
            self.task_manager_joins();
        }
        for place in 1..=self.settings.places {
            self.manager_starts(place);
        }
        let trouble = self.dice.between(TROUBLE_MS.0, TROUBLE_MS.1);
        self.later(trouble, Happening::Heal);
        self.later(100, Happening::Mischief);
        self.later(50, Happening::Submit);
        if self.cancels {
            let pause = self.dice.between(EARLIEST_CANCEL_MS, trouble);
            self.later(pause, Happening::Cancel);
        }
        while self.ended.is_none() && self.holds() {
            self.step();
            if self.now() > trouble + PATIENCE_MS {
                self.violated(format_args!(
                    "I20: the job is {} long after the last trouble",
                    self.state.name()
                ));
            }
        }
        let ended = self.now().max(trouble);
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
        match self.ended {
            // He may not have been told.
            Some(JobState::Canceled) if self.cancels => return,
            Some(JobState::Finished) if !self.cancelled => {}
            _otherwise => return self.violated(format_args!("I15: the job is {}", self.state.name())),
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
            simulated_ms: self.clock.monotonic().0,
            store_operations: self.store.operations(),
            messages: self.messages,
        }
    }

    // ---- the loop

    fn step(&mut self) {
        self.drive_managers();
        job_manager::drive(&self.machines);
        let mut busy = self.move_words_of_task_managers();
        busy |= self.move_words_of_workers();
        busy |= self.deliver_farewells();
        busy |= self.give_turns();
        let now = self.now();
        busy |= self.network.pump(now, &mut self.dice, &self.parted);
        busy |= self.keep_appointments();
        self.look_at_the_job();
        if let Some(violation) = self.outside.violation() {
            self.violated(violation);
        }
        // Several things happen in one moment, but not for ever.
        if !busy || self.dice.happens(600) {
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
        self.advance_managers(millis);
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
        let task_managers = self.task_managers.values();
        let lanes = task_managers.flat_map(|it| [it.up.next_arrival(), it.down.next_arrival()]);
        agenda
            .into_iter()
            .chain(self.network.next_arrival())
            .chain(self.next_farewell())
            .chain(lanes.flatten())
            .chain(processes)
            .min()
    }

    /// Whoever was elected last says how the job is; that it has ended, nobody takes back. One of the past that goes on once its
    /// successor is gone says what it knew, and knows no better.
    fn look_at_the_job(&mut self) {
        let job = self.job_id;
        let mut said = Vec::new();
        for (number, manager) in &mut self.managers {
            self.store.acts(Actor::Manager(*number));
            said.extend(manager.epoch().zip(manager.job_state(job)));
        }
        self.store.acts(Actor::Nobody);
        self.bury_whoever_crashed();
        said.sort_unstable_by_key(|(epoch, _)| *epoch);
        if let Some((epoch, (state, restarts))) = said.last()
            && *epoch >= self.last_epoch
        {
            self.last_epoch = *epoch;
            self.note_state(*state, *restarts);
        }
        for (epoch, (state, _)) in said {
            if state.is_terminal() && *self.ended.get_or_insert(state) != state {
                self.violated(format_args!("I15: the job is {} in epoch {epoch}", state.name()));
            }
        }
    }

    fn note_state(&mut self, state: JobState, restarts: u32) {
        if state == self.state {
            return;
        }
        let from = std::mem::replace(&mut self.state, state);
        self.line(format_args!(
            "job {} -> {}, {restarts} restarts",
            from.name(),
            state.name()
        ));
        if restarts > 0 {
            self.saw("the job was restarted");
        }
        if from == JobState::Reconciling {
            self.saw(match state {
                JobState::Running => "an attempt went on with another job manager",
                _gone_on_without => "workers did not all come back in time",
            });
        }
        if let Some(ended) = self.ended.filter(|ended| *ended != state) {
            self.violated(format_args!(
                "I15: the job was {}, and is {}",
                ended.name(),
                state.name()
            ));
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
            && next.key().0 <= self.clock.monotonic().0
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
            Happening::Submit => self.submit(),
            Happening::Cancel => self.cancel(),
            Happening::ManagerStarts(place) => self.manager_starts(place),
            Happening::ManagerGoesOn(number) => self.manager_goes_on(number),
            Happening::TaskManagerJoins => self.task_manager_joins(),
            Happening::TaskManagerSeeks(name) => self.task_manager_seeks(&name),
            Happening::TaskManagerBeats(name) => self.task_manager_beats(&name),
            Happening::TaskManagerLeaves(name, manager) => {
                if self.is_at(&name, manager) {
                    self.task_manager_leaves(&name, "the link is closed");
                }
            }
            Happening::TaskManagerSuspects(name, manager) => self.task_manager_suspects(&name, manager),
            Happening::StartWorker(name, worker) => self.start_worker(&name, worker),
            Happening::StopWorker(name, worker) => self.stop_worker(&name, worker),
            Happening::KillWorker(worker) => self.kill_lingering(worker),
            Happening::WorkerExited(name, worker, why) => self.worker_exited(&name, worker, &why),
            Happening::WorkerSeeks(worker) => self.worker_seeks(worker),
            Happening::WorkerLeaves(worker, manager) => {
                if self.workers_of(manager).contains(&worker) {
                    self.worker_leaves(worker, "the link is closed");
                }
            }
            Happening::WorkerIsTold(worker, manager) => self.worker_is_told(worker, manager),
            Happening::Reunite(worker) => {
                self.parted.remove(&worker);
            }
        }
    }

    // ---- the end of trouble

    fn heal(&mut self) {
        self.healed = true;
        self.store.trouble(0, 0);
        self.outside.trouble(None);
        self.parted.clear();
    }

    fn is_healed(&self) -> bool {
        self.healed
    }

    // ---- the trace

    fn now(&self) -> u64 {
        self.clock.monotonic().0
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
