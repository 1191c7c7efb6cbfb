//! A model of everything around the machine: task managers, workers that count records, an object store that may lie, users.
//!
//! Each source split is a counter. A barrier notes the counters; a commit makes what was noted visible outside. So the
//! model knows, without looking into the machine, whether anything was lost or seen twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use streamd_coordinator::action::Action;
use streamd_coordinator::event::{Event, OperationKind, OperationRequest, PublishError, PublishedSnapshot};
use streamd_coordinator::lifecycle::JobState;
use streamd_coordinator::slots::{SlotGrant, SlotManager};
use streamd_core::barrier::AfterBarrier;
use streamd_core::error::ErrorCode;
use streamd_core::graph::ClaimMode;
use streamd_core::id::{Attempt, CheckpointId, OperationId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::protocol::{Deployment, ExecutionState, Failure, FaultDomain, WorkerCommand, WorkerEvent};
use streamd_core::snapshot::{OperatorSubtaskState, SubtaskSnapshot};

use crate::bench::{Bench, JOB, SPLITS, read_split, restore_point, source_id, spec, splits, without_exchange};

/// How many records each split has.
const RECORDS: u32 = 8;

/// What runs, and from what it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// A job with an exchange, afresh.
    Fresh,
    /// The same from a snapshot that is its own from then on.
    Claiming,
    /// A job without an exchange. Its source has three splits, and none that is read to the end is in a snapshot.
    InRegions,
}

/// How often something happened, by name: a run in which it never does has not tested it.
pub type Sometimes = BTreeMap<&'static str, u64>;

#[derive(Debug, Default)]
struct Subtask {
    slot: u32,
    running: bool,
    gone: bool,
    /// How it has ended.
    left: Option<ExecutionState>,
    /// The barrier behind which a source stands still.
    halted: Option<CheckpointId>,
    drained: bool,
    ended: bool,
    /// Of a source: how far each split is read.
    offsets: BTreeMap<u32, u32>,
    /// What each barrier noted.
    noted: BTreeMap<CheckpointId, BTreeMap<u32, u32>>,
    /// Snapshots that are not acknowledged yet.
    writing: BTreeSet<CheckpointId>,
}

#[derive(Debug)]
struct Worker {
    task_manager: TaskManagerId,
    inbox: VecDeque<WorkerCommand>,
    outbox: VecDeque<WorkerEvent>,
    attempt: Attempt,
    subtasks: BTreeMap<SubtaskId, Subtask>,
}

pub struct Model {
    pub bench: Bench,
    pub sometimes: Sometimes,
    slots: SlotManager,
    task_managers: BTreeSet<TaskManagerId>,
    births: u32,
    workers: BTreeMap<WorkerId, Worker>,
    /// What the resource manager and the task managers' links have to say, in order.
    mailbox: VecDeque<Event>,
    publishing: Vec<(CheckpointId, String)>,
    /// Savepoints that are made of complete snapshots.
    promoting: Vec<(OperationId, String)>,
    life: Life,
    /// The splits that a snapshot has left out.
    read_to_the_end: BTreeMap<CheckpointId, BTreeSet<u32>>,
    /// Whether a part of the job is being restarted.
    is_partial: bool,
    /// What the outside world has seen of each split.
    committed: BTreeMap<u32, u32>,
    operations: u8,
    cancelled: bool,
    restores: Vec<Option<CheckpointId>>,
}

impl Model {
    pub fn new(life: Life) -> Self {
        let mut spec = spec();
        match life {
            Life::Fresh => {}
            Life::Claiming => {
                spec.restore = Some(restore_point(5, [1, 2]));
                spec.options.claim_mode = ClaimMode::Claim;
            }
            Life::InRegions => without_exchange(&mut spec, 3),
        }
        spec.options.checkpointing.max_concurrent = 2;
        spec.options.checkpointing.tolerable_failed = 1;
        spec.options.restart_strategy = streamd_core::graph::RestartStrategy::FixedDelay {
            attempts: 10_000,
            delay_ms: 100,
        };
        let mut model = Self {
            bench: Bench::new(spec),
            life,
            read_to_the_end: BTreeMap::new(),
            is_partial: false,
            sometimes: Sometimes::new(),
            slots: SlotManager::default(),
            task_managers: BTreeSet::new(),
            births: 0,
            workers: BTreeMap::new(),
            mailbox: VecDeque::from([Event::Start]),
            publishing: Vec::new(),
            promoting: Vec::new(),
            committed: BTreeMap::new(),
            operations: 0,
            cancelled: false,
            restores: Vec::new(),
        };
        model.join();
        model.join();
        model
    }

    pub fn is_over(&self) -> bool {
        self.bench.machine.state().is_terminal()
    }

    fn count(&mut self, what: &'static str) {
        *self.sometimes.entry(what).or_default() += 1;
    }

    // ---- the machine and its shell

    fn tell(&mut self, event: Event) {
        let tick = matches!(event, Event::Tick);
        let published = matches!(event, Event::Published(..));
        let actions = self.bench.event(event);
        let aborts = actions.iter().any(|action| {
            matches!(
                action,
                Action::Send {
                    command: WorkerCommand::NotifyCheckpointAborted { .. },
                    ..
                }
            )
        });
        if aborts && tick {
            self.count("a snapshot expired");
        }
        if aborts && published {
            self.count("a snapshot was subsumed or not published");
        }
        if tick && self.bench.machine.state() == JobState::Restarting && self.bench.machine.next_deadline().is_none() {
            self.count("a restart waited for a publication");
        }
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::RequestSlots { count } => {
                let grants = self.slots.request(JOB, count);
                self.granted(grants);
            }
            Action::AdoptSlots { .. } => unreachable!("no other job manager ran the job"),
            Action::ReleaseSlots => {
                self.slots.release(JOB);
            }
            Action::StartWorker { worker, task_manager } => self.start_worker(worker, task_manager),
            Action::StopWorker { worker } => {
                self.workers.remove(&worker);
                self.mailbox.push_back(Event::WorkerLost(worker, gone()));
            }
            Action::Send { worker, command } => {
                self.watch_regions(&command);
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.inbox.push_back(command);
                }
            }
            Action::Publish {
                checkpoint, location, ..
            } => self.publishing.push((checkpoint, location)),
            Action::Discard { .. } | Action::Unpublish { .. } => {}
            Action::DiscardClaimed { .. } => self.count("a claimed snapshot was deleted"),
            Action::Promote {
                operation, location, ..
            } => {
                self.count("a checkpoint was to become a savepoint");
                self.promoting.push((operation, location));
            }
            Action::CompleteOperation { result, .. } => match result {
                Ok(_) => self.count("an operation succeeded"),
                Err(error) if error.code == ErrorCode::StopFailed => self.count("a stop was left half way"),
                Err(error) if error.code == ErrorCode::JobNotRunning => self.count("an operation was refused"),
                Err(error) if error.code == ErrorCode::OperationTimedOut => self.count("an operation's time was up"),
                Err(_) => self.count("an operation failed"),
            },
            Action::StateChanged { to, .. } => self.count(to.name()),
        }
    }

    fn watch_regions(&mut self, command: &WorkerCommand) {
        match command {
            WorkerCommand::Cancel { kept, .. } if !kept.is_empty() => self.is_partial = true,
            WorkerCommand::Deploy(deployment) if !deployment.kept.is_empty() && self.is_partial => {
                self.is_partial = false;
                self.count("a region restarted");
            }
            WorkerCommand::Cancel { .. } if std::mem::take(&mut self.is_partial) => {
                self.count("a region's restart became the job's");
            }
            _other => {}
        }
    }

    fn granted(&mut self, grants: Vec<SlotGrant>) {
        for grant in grants {
            self.mailbox.push_back(Event::SlotsAllocated(grant.slots));
        }
    }

    fn start_worker(&mut self, id: WorkerId, task_manager: TaskManagerId) {
        if !self.task_managers.contains(&task_manager) {
            self.mailbox.push_back(Event::WorkerLost(id, gone()));
            return;
        }
        let registration = self.bench.registration(id);
        self.workers.insert(
            id,
            Worker {
                task_manager,
                inbox: VecDeque::new(),
                outbox: VecDeque::from([WorkerEvent::Registered(registration)]),
                attempt: Attempt::NONE,
                subtasks: BTreeMap::new(),
            },
        );
    }

    // ---- what may happen next

    /// Everything that can happen now without a fault.
    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        if !self.mailbox.is_empty() {
            moves.push(Move::Mailbox);
        }
        moves.extend((0..self.publishing.len()).map(Move::Publish));
        moves.extend((0..self.promoting.len()).map(Move::Promote));
        for (id, worker) in &self.workers {
            if !worker.inbox.is_empty() {
                moves.push(Move::Obey(*id));
            }
            if !worker.outbox.is_empty() {
                moves.push(Move::Report(*id));
            }
            for (subtask, state) in &worker.subtasks {
                moves.extend(
                    state
                        .writing
                        .iter()
                        .map(|checkpoint| Move::Acknowledge(*id, *subtask, *checkpoint)),
                );
                if !state.gone && self.can_work(*subtask, state) {
                    moves.push(Move::Work(*id, *subtask));
                }
            }
        }
        moves
    }

    fn can_work(&self, subtask: SubtaskId, state: &Subtask) -> bool {
        let is_source = subtask.vertex == 0;
        !state.running || (!state.ended && state.halted.is_none() && (is_source || self.all_sources_ended()))
    }

    fn all_sources_ended(&self) -> bool {
        let attempt = self.bench.attempt;
        let sources = self
            .workers
            .values()
            .filter(|worker| worker.attempt == attempt)
            .flat_map(|worker| &worker.subtasks);
        let ended = sources
            .filter(|(subtask, state)| subtask.vertex == 0 && state.ended)
            .count();
        ended == 2
    }

    /// One move that the number picks. Without `faults`, only what a healthy cluster does.
    pub fn step(&mut self, pick: u32, faults: bool) {
        let die = pick % 64;
        if faults && die < 8 && self.fault(die, pick / 64) {
            return;
        }
        if faults && die < 14 {
            return self.advance(u64::from(pick / 64 % 700));
        }
        let moves = self.moves();
        if moves.is_empty() {
            return self.advance_to_deadline();
        }
        let next = moves[(pick / 64) as usize % moves.len()].clone();
        self.perform(next, faults.then_some(pick));
    }

    fn advance(&mut self, millis: u64) {
        self.bench.now += millis;
        self.tell(Event::Tick);
    }

    fn advance_to_deadline(&mut self) {
        if let Some(deadline) = self.bench.machine.next_deadline() {
            self.bench.now = deadline.0;
            self.tell(Event::Tick);
        } else {
            assert!(
                self.is_over(),
                "nothing can happen any more, and the job is {}",
                self.bench.machine.state().name()
            );
        }
    }

    fn perform(&mut self, next: Move, lies: Option<u32>) {
        match next {
            Move::Mailbox => {
                let event = self
                    .mailbox
                    .pop_front()
                    .expect("a move is offered only if it can be made");
                self.tell(event);
            }
            Move::Publish(index) => self.publish(index, lies),
            Move::Promote(index) => self.promote(index, lies),
            Move::Obey(id) => self.obey(id, lies),
            Move::Report(id) => {
                let worker = self.workers.get_mut(&id).expect("a live worker");
                let event = worker.outbox.pop_front().expect("a report");
                if lies.is_some_and(|pick| pick.is_multiple_of(5)) {
                    self.count("a report came twice");
                    self.tell(Event::Worker(id, event.clone()));
                }
                self.tell(Event::Worker(id, event));
            }
            Move::Acknowledge(id, subtask, checkpoint) => self.acknowledge(id, subtask, checkpoint),
            Move::Work(id, subtask) => self.work(id, subtask),
        }
    }

    fn publish(&mut self, index: usize, lies: Option<u32>) {
        let (checkpoint, uri) = self.publishing.swap_remove(index);
        let result = self.written(uri, lies);
        self.tell(Event::Published(checkpoint, result));
    }

    fn promote(&mut self, index: usize, lies: Option<u32>) {
        let (operation, uri) = self.promoting.swap_remove(index);
        let result = self.written(uri, lies);
        if result.is_ok() {
            self.count("a checkpoint became a savepoint");
        }
        self.tell(Event::Promoted(operation, result));
    }

    fn written(&mut self, uri: String, lies: Option<u32>) -> Result<PublishedSnapshot, PublishError> {
        match lies.map(|pick| pick / 7 % 8) {
            Some(0) => {
                self.count("a publication failed");
                Err(PublishError {
                    message: "no".to_owned(),
                    outcome_unknown: false,
                })
            }
            Some(1) => {
                self.count("a publication's outcome was unknown");
                Err(PublishError {
                    message: "?".to_owned(),
                    outcome_unknown: true,
                })
            }
            Some(_) | None => Ok(PublishedSnapshot { uri, bytes: 1 }),
        }
    }

    // ---- faults and users

    fn fault(&mut self, die: u32, pick: u32) -> bool {
        match die {
            0 => match self.workers.keys().copied().nth(pick as usize % 3) {
                Some(worker) => self.kill(worker, pick.is_multiple_of(2)),
                None => return false,
            },
            1 if pick.is_multiple_of(2) => match self.task_managers.iter().nth(pick as usize % 3).cloned() {
                Some(task_manager) => self.lose(&task_manager),
                None => return false,
            },
            1 => self.join(),
            2 => return self.decline(pick),
            3 => return self.fail_subtask(pick),
            4 => self.request(OperationKind::Savepoint),
            5 if pick.is_multiple_of(8) => self.request(OperationKind::Stop),
            5 if pick % 8 == 1 => self.request(OperationKind::Drain),
            5 if pick % 8 == 2 => self.request(OperationKind::CancelWithSavepoint),
            6 if pick.is_multiple_of(64) => {
                self.cancelled = true;
                self.tell(Event::Cancel);
            }
            7 => match self.task_managers.iter().nth(pick as usize % 3).cloned() {
                Some(task_manager) => self.drain(&task_manager, pick.is_multiple_of(3)),
                None => return false,
            },
            _ => return false,
        }
        true
    }

    /// A task manager is to be empty, or that is called off.
    fn drain(&mut self, task_manager: &TaskManagerId, undo: bool) {
        if undo {
            let grants = self.slots.undrain(task_manager);
            return self.granted(grants);
        }
        if self.slots.drain(task_manager).is_ok_and(|jobs| !jobs.is_empty()) {
            self.count("a task manager was drained");
            self.mailbox.push_back(Event::Evacuate(task_manager.clone()));
        }
    }

    /// A worker's link closes. Its process may live on long enough to do what it was told last.
    fn kill(&mut self, id: WorkerId, zombie: bool) {
        if zombie {
            while self.workers.get(&id).is_some_and(|worker| !worker.inbox.is_empty()) {
                self.obey(id, None);
            }
            self.count("a zombie did its last work");
        }
        self.workers.remove(&id);
        self.count("a worker died");
        self.mailbox.push_back(Event::WorkerLost(id, gone()));
    }

    fn lose(&mut self, task_manager: &TaskManagerId) {
        self.count("a task manager was lost");
        self.task_managers.remove(task_manager);
        self.slots.remove(task_manager);
        self.workers.retain(|_, worker| worker.task_manager != *task_manager);
        self.mailbox.push_back(Event::TaskManagerLost(task_manager.clone()));
    }

    /// The last fault is over: there are machines enough.
    pub fn heal(&mut self) {
        for task_manager in self.task_managers.clone() {
            self.drain(&task_manager, true);
        }
        while self.task_managers.len() < 3 {
            self.join();
        }
    }

    fn join(&mut self) {
        if self.task_managers.len() < 3 {
            self.births += 1;
            let name = TaskManagerId(format!("tm-{}", self.births));
            self.task_managers.insert(name.clone());
            let grants = self.slots.register(name, 1 + self.births % 2);
            self.granted(grants);
        }
    }

    fn decline(&mut self, pick: u32) -> bool {
        let writing: Vec<(WorkerId, SubtaskId, CheckpointId)> = self
            .moves()
            .into_iter()
            .filter_map(|next| match next {
                Move::Acknowledge(worker, subtask, checkpoint) => Some((worker, subtask, checkpoint)),
                Move::Mailbox
                | Move::Publish(_)
                | Move::Promote(_)
                | Move::Obey(_)
                | Move::Report(_)
                | Move::Work(..) => None,
            })
            .collect();
        if writing.is_empty() {
            return false;
        }
        let (id, subtask, checkpoint) = writing[pick as usize % writing.len()];
        self.count("a subtask declined");
        let worker = self.workers.get_mut(&id).expect("a live worker");
        worker
            .subtasks
            .get_mut(&subtask)
            .expect("its subtask")
            .writing
            .remove(&checkpoint);
        worker.outbox.push_back(WorkerEvent::Decline {
            attempt: worker.attempt,
            checkpoint,
            subtask,
            reason: "disk full".to_owned(),
        });
        true
    }

    fn fail_subtask(&mut self, pick: u32) -> bool {
        let live: Vec<(WorkerId, SubtaskId)> = self
            .workers
            .iter()
            .flat_map(|(id, worker)| {
                worker
                    .subtasks
                    .iter()
                    .map(move |(subtask, state)| (*id, *subtask, state.gone))
            })
            .filter(|(_, _, gone)| !gone)
            .map(|(id, subtask, _)| (id, subtask))
            .collect();
        if live.is_empty() {
            return false;
        }
        let (id, subtask) = live[pick as usize % live.len()];
        self.count("a subtask failed");
        self.leave(id, subtask, ExecutionState::Failed);
        true
    }

    fn request(&mut self, kind: OperationKind) {
        self.operations += 1;
        self.count(match kind {
            OperationKind::Savepoint => "a savepoint was asked for",
            OperationKind::CancelWithSavepoint => "a cancellation with savepoint was asked for",
            OperationKind::Stop => "a stop was asked for",
            OperationKind::Drain => "a drain was asked for",
        });
        let number = self.operations;
        self.tell(Event::Operation(OperationRequest {
            id: OperationId::from_bytes([number; 16]),
            kind,
            target: None,
            folder: format!("sp-{number}-"),
            timeout_ms: number.is_multiple_of(3).then_some(150),
        }));
    }

    // ---- workers

    fn obey(&mut self, id: WorkerId, lies: Option<u32>) {
        let worker = self.workers.get_mut(&id).expect("a live worker");
        let again = worker.inbox.front().filter(|command| {
            matches!(
                command,
                WorkerCommand::NotifyCheckpointComplete { .. } | WorkerCommand::NotifyCheckpointAborted { .. }
            )
        });
        // What is told of a snapshot that is over may come twice, and after what is told later.
        if let Some(command) = again
            .filter(|_| lies.is_some_and(|pick| pick.is_multiple_of(3)))
            .cloned()
        {
            worker.inbox.push_back(command);
            self.count("a notification came twice");
        }
        let worker = self.workers.get_mut(&id).expect("a live worker");
        let attempt = worker.attempt;
        match worker.inbox.pop_front().expect("a command") {
            WorkerCommand::Deploy(deployment) => self.deploy(id, *deployment),
            WorkerCommand::TriggerCheckpoint { attempt: of, barrier } if of == attempt => {
                for state in worker.subtasks.values_mut().filter(|state| !state.gone) {
                    state.noted.insert(barrier.checkpoint, state.offsets.clone());
                    state.writing.insert(barrier.checkpoint);
                    if barrier.options.sources == AfterBarrier::Halt {
                        state.halted = Some(barrier.checkpoint);
                    }
                }
            }
            WorkerCommand::NotifyCheckpointComplete {
                attempt: of,
                checkpoint,
            } if of == attempt => {
                let noted: Vec<BTreeMap<u32, u32>> = worker
                    .subtasks
                    .values()
                    .filter(|state| !state.gone)
                    .filter_map(|state| state.noted.get(&checkpoint).cloned())
                    .collect();
                for (split, offset) in noted.into_iter().flatten() {
                    let visible = self.committed.entry(split).or_default();
                    *visible = (*visible).max(offset);
                }
            }
            WorkerCommand::NotifyCheckpointAborted {
                attempt: of,
                checkpoint,
            } if of == attempt => {
                for state in worker.subtasks.values_mut() {
                    state.halted = state.halted.filter(|behind| *behind != checkpoint);
                    // Half of the subtasks notice too late, and acknowledge what nobody wants any more.
                    if checkpoint.0 % 2 == 0 {
                        state.writing.remove(&checkpoint);
                    }
                }
            }
            WorkerCommand::Drain { attempt: of } if of == attempt => {
                worker.subtasks.values_mut().for_each(|state| state.drained = true);
            }
            WorkerCommand::Finish { attempt: of } if of == attempt => self.finish(id),
            WorkerCommand::Cancel { attempt: of, kept } if of == attempt => {
                for subtask in self.subtasks_of(id) {
                    if !kept.contains(&self.workers[&id].subtasks[&subtask].slot) {
                        self.leave(id, subtask, ExecutionState::Canceled);
                    }
                }
            }
            // Said twice, and the second time after a deployment that keeps the worker's slots.
            WorkerCommand::NotifyCheckpointComplete { attempt: of, .. }
            | WorkerCommand::NotifyCheckpointAborted { attempt: of, .. }
                if of < attempt => {}
            WorkerCommand::AlignWatermarks { .. } | WorkerCommand::Shutdown => {}
            WorkerCommand::TriggerCheckpoint { .. }
            | WorkerCommand::NotifyCheckpointComplete { .. }
            | WorkerCommand::NotifyCheckpointAborted { .. }
            | WorkerCommand::Drain { .. }
            | WorkerCommand::Finish { .. }
            | WorkerCommand::Cancel { .. } => panic!("I7: a worker is told something about another attempt"),
        }
    }

    fn subtasks_of(&self, id: WorkerId) -> Vec<SubtaskId> {
        let subtasks = &self.workers[&id].subtasks;
        subtasks
            .iter()
            .filter(|(_, state)| !state.gone)
            .map(|(subtask, _)| *subtask)
            .collect()
    }

    fn deploy(&mut self, id: WorkerId, deployment: Deployment) {
        if self.restores.len() < deployment.attempt.0 as usize {
            if deployment.restored.is_some() && self.restores.last() == Some(&deployment.restored) {
                self.count("two attempts restored the same snapshot");
            }
            self.restores.resize(deployment.attempt.0 as usize, deployment.restored);
        }
        let left_out = deployment.restored.and_then(|id| self.read_to_the_end.get(&id));
        for split in left_out.into_iter().flatten() {
            self.committed.insert(*split, RECORDS);
        }
        let mut subtasks = self.keep(id, &deployment);
        let begun = deployment.slots.into_iter();
        for (slot, it) in begun.flat_map(|slot| slot.subtasks.into_iter().map(move |it| (slot.slot, it))) {
            let lists = it
                .state
                .get(&source_id())
                .map(|state| state.lists.clone())
                .unwrap_or_default();
            let offsets: BTreeMap<u32, u32> = lists
                .iter()
                .filter(|list| list.name == SPLITS)
                .flat_map(|list| list.items.iter().map(|item| read_split(item)))
                .collect();
            for (split, offset) in &offsets {
                let visible = self.committed.entry(*split).or_default();
                assert!(
                    offset >= visible,
                    "I2: attempt {} reads split {split} from {offset}, and {visible} records are visible",
                    deployment.attempt
                );
                // What the restored snapshot holds prepared is committed now.
                *visible = *offset;
            }
            if self.life != Life::InRegions {
                assert!(it.subtask.vertex != 0 || offsets.len() == 1, "I19: a split is lost");
            }
            let others = self.workers.values().flat_map(|worker| worker.subtasks.values());
            let theirs = others
                .filter(|other| !other.gone)
                .flat_map(|other| other.offsets.keys());
            let twice: Vec<_> = theirs.filter(|split| offsets.contains_key(split)).collect();
            assert!(
                twice.is_empty(),
                "RS32: {} reads {twice:?}, as another does",
                it.subtask
            );
            let state = Subtask {
                slot,
                offsets,
                ..Subtask::default()
            };
            subtasks.insert(it.subtask, state);
        }
        let worker = self.workers.get_mut(&id).expect("a live worker");
        worker.attempt = deployment.attempt;
        worker.subtasks = subtasks;
    }

    /// The subtasks that go on. What was said of them for the attempt before is said again.
    fn keep(&mut self, id: WorkerId, deployment: &Deployment) -> BTreeMap<SubtaskId, Subtask> {
        let attempt = deployment.attempt;
        let worker = self.workers.get_mut(&id).expect("a live worker");
        let mut before = std::mem::take(&mut worker.subtasks);
        let kept = deployment.kept.iter().flat_map(|slot| &slot.subtasks);
        kept.map(|subtask| {
            let state = before.remove(subtask).expect("who is kept was there");
            assert!(state.running, "{subtask} is kept, and never ran");
            if let Some(left) = state.left {
                worker.outbox.push_back(WorkerEvent::SubtaskState {
                    attempt,
                    subtask: *subtask,
                    state: left,
                    failure: (left == ExecutionState::Failed).then(gone),
                });
            }
            if state.ended {
                let subtask = *subtask;
                worker.outbox.push_back(WorkerEvent::EndOfData { attempt, subtask });
            }
            (*subtask, state)
        })
        .collect()
    }

    fn finish(&mut self, id: WorkerId) {
        for subtask in self.subtasks_of(id) {
            for (split, offset) in self.workers[&id].subtasks[&subtask].offsets.clone() {
                let visible = self.committed.get(&split).copied().unwrap_or(0);
                assert_eq!(
                    visible, offset,
                    "I1: split {split} is read to {offset}, and {visible} records are committed"
                );
            }
            self.leave(id, subtask, ExecutionState::Finished);
        }
    }

    fn leave(&mut self, id: WorkerId, subtask: SubtaskId, to: ExecutionState) {
        let worker = self.workers.get_mut(&id).expect("a live worker");
        let state = worker.subtasks.get_mut(&subtask).expect("its subtask");
        state.gone = true;
        state.left = Some(to);
        state.writing.clear();
        worker.outbox.push_back(WorkerEvent::SubtaskState {
            attempt: worker.attempt,
            subtask,
            state: to,
            failure: (to == ExecutionState::Failed).then(gone),
        });
    }

    fn work(&mut self, id: WorkerId, subtask: SubtaskId) {
        let worker = self.workers.get_mut(&id).expect("a live worker");
        let attempt = worker.attempt;
        let state = worker.subtasks.get_mut(&subtask).expect("its subtask");
        if !state.running {
            state.running = true;
            for to in [ExecutionState::Initializing, ExecutionState::Running] {
                worker.outbox.push_back(WorkerEvent::SubtaskState {
                    attempt,
                    subtask,
                    state: to,
                    failure: None,
                });
            }
            return;
        }
        let unread = state.offsets.values_mut().find(|offset| **offset < RECORDS);
        match unread {
            Some(offset) if !state.drained => *offset += 1,
            Some(_) | None => {
                state.ended = true;
                worker.outbox.push_back(WorkerEvent::EndOfData { attempt, subtask });
            }
        }
    }

    fn acknowledge(&mut self, id: WorkerId, subtask: SubtaskId, checkpoint: CheckpointId) {
        let worker = self.workers.get_mut(&id).expect("a live worker");
        let state = worker.subtasks.get_mut(&subtask).expect("its subtask");
        state.writing.remove(&checkpoint);
        let mut snapshot = SubtaskSnapshot::default();
        if subtask.vertex == 0 {
            let noted = state.noted[&checkpoint].iter().map(|(split, offset)| (*split, *offset));
            let leaves_out = self.life == Life::InRegions;
            let (read, unread): (Vec<_>, Vec<_>) = noted.partition(|(_, offset)| leaves_out && *offset == RECORDS);
            let left_out = self.read_to_the_end.entry(checkpoint).or_default();
            left_out.extend(read.into_iter().map(|(split, _)| split));
            let lists = vec![splits(unread.into_iter())];
            let keyed = Vec::new();
            snapshot
                .operators
                .insert(source_id(), OperatorSubtaskState { keyed, lists });
        }
        worker.outbox.push_back(WorkerEvent::Acknowledge {
            attempt: worker.attempt,
            checkpoint,
            subtask,
            snapshot,
        });
        if self.bench.machine.checkpoints().in_progress == 0 {
            self.count("an acknowledgement came late");
        }
    }

    // ---- the end

    /// What must be true once the job is over.
    pub fn check_end(&mut self) {
        let state = self.bench.machine.state();
        assert!(state.is_terminal(), "I20: the job does not end; it is {}", state.name());
        let finished = state.name() == "FINISHED";
        let asked_to_end = self.sometimes.keys().any(|what| {
            [
                "a stop was asked for",
                "a drain was asked for",
                "a cancellation with savepoint was asked for",
            ]
            .contains(what)
        });
        assert!(
            finished || self.cancelled || asked_to_end,
            "I20: the job is {}",
            state.name()
        );
        if finished && !asked_to_end {
            let splits = if self.life == Life::InRegions { 3 } else { 2 };
            assert_eq!(
                self.committed.values().copied().collect::<Vec<_>>(),
                vec![RECORDS; splits],
                "I1: records are lost"
            );
        }
        self.mailbox.clear();
        assert!(self.workers.is_empty(), "I21: workers outlive their job");
        if self.bench.machine.restarts() > 0 {
            self.count("the job was restarted");
        }
    }
}

/// Something that a healthy cluster does.
#[derive(Debug, Clone)]
enum Move {
    Mailbox,
    Publish(usize),
    Promote(usize),
    Obey(WorkerId),
    Report(WorkerId),
    Acknowledge(WorkerId, SubtaskId, CheckpointId),
    Work(WorkerId, SubtaskId),
}

fn gone() -> Failure {
    Failure::new(FaultDomain::External, "gone")
}
