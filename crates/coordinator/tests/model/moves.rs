//! What may happen next, and what follows from it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use stateright::{Model, Property};
use streamd_coordinator::action::Action;
use streamd_coordinator::event::{
    Event, OperationKind, OperationRequest, PublishError, PublishedSnapshot, RestorePoint, SlotId,
};
use streamd_coordinator::lifecycle::JobState;
use streamd_core::barrier::SnapshotKind;
use streamd_core::id::{CheckpointId, OperationId, TaskManagerId, WorkerId};
use streamd_core::protocol::{
    Deployment, ExecutionState, Failure, FaultDomain, WorkerCommand, WorkerEvent, WorkerRegistration,
};
use streamd_core::row::DataType;
use streamd_core::snapshot::{ListState, OperatorSubtaskState, SubtaskSnapshot};
use streamd_core::time::{MonotonicTime, WallTime};

use crate::bench::{SPLITS, source_id};
use crate::outside::{Cut, Prepared, Written, cuts_of};
use crate::world::{Budget, Leader, Publishing, Task, Worker, World};

/// The one property: that none is broken.
pub const HOLDS: &str = "every invariant holds";

/// A promise of the surroundings that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    Nothing,
    /// The store lets a leader of the past overwrite what is there.
    StoreTakesStaleEpochs,
    /// The job is told of a publication before it has happened.
    AnswersBeforeWriting,
    /// The acknowledgement of one subtask counts for the other as well.
    CountsAcknowledgementsTwice,
    /// Sinks commit what they prepare at once.
    CommitsAtTheBarrier,
    /// The store loses what it says is written.
    ForgetsWhatItAcknowledged,
}

/// Something that can happen. Leaders by position, the others by what they are called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    Tick(usize),
    Work(usize, WorkerId),
    /// The worker takes its next command.
    Obey(usize, WorkerId),
    /// The next command is lost.
    Lose(usize, WorkerId),
    Report(usize, usize),
    ReportTwice(usize, usize),
    LoseReport(usize, usize),
    /// The publication reaches the store.
    Write(usize, usize),
    /// The store answers.
    Answer(usize, usize),
    /// The publication fails for sure.
    Fail(usize, usize),
    /// The answer says that nobody knows.
    Doubt(usize, usize),
    Crash(usize, WorkerId),
    Savepoint(usize),
    Elect,
}

/// The job and its surroundings, as the checker asks for them.
pub struct JobModel {
    budget: Budget,
    sabotage: Sabotage,
    seen: Mutex<BTreeSet<&'static str>>,
}

impl JobModel {
    pub fn new(budget: Budget, sabotage: Sabotage) -> Self {
        Self {
            budget,
            sabotage,
            seen: Mutex::default(),
        }
    }

    /// What was met so far.
    pub fn seen(&self) -> BTreeSet<&'static str> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Model for JobModel {
    type State = World;
    type Action = Move;

    fn init_states(&self) -> Vec<World> {
        let mut world = World {
            leaders: vec![Leader::new(1, None)],
            store: Default::default(),
            output: Default::default(),
            noted: Default::default(),
            budget: self.budget,
            violation: None,
        };
        world.store.epoch = 1;
        let mut step = Step { model: self, world };
        let done = step.settle(0);
        step.end(done).into_iter().collect()
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        if world.violation.is_some() {
            return;
        }
        let budget = world.budget;
        for (l, leader) in world.leaders.iter().enumerate() {
            let state = leader.machine.state();
            let waits = leader.machine.next_deadline().is_some();
            // The end of a restart delay is no choice: it comes.
            if waits && (budget.ticks > 0 || state == JobState::Restarting) {
                moves.push(Move::Tick(l));
            }
            for (id, worker) in &leader.workers {
                if let Some(next) = worker.inbox.front() {
                    moves.push(Move::Obey(l, *id));
                    if budget.losses > 0 && may_be_lost(next) {
                        moves.push(Move::Lose(l, *id));
                    }
                }
                if worker.tasks.iter().any(|task| task.cut.offset < budget.records) {
                    moves.push(Move::Work(l, *id));
                }
                if budget.crashes > 0 {
                    moves.push(Move::Crash(l, *id));
                }
            }
            for index in 0..leader.reports.len() {
                moves.push(Move::Report(l, index));
                if budget.doubles > 0 {
                    moves.push(Move::ReportTwice(l, index));
                }
                if budget.losses > 0 {
                    moves.push(Move::LoseReport(l, index));
                }
            }
            for (index, publishing) in leader.publishing.iter().enumerate() {
                if publishing.written.is_none() {
                    moves.push(Move::Write(l, index));
                    if budget.lies > 0 && !publishing.answered {
                        moves.push(Move::Fail(l, index));
                    }
                } else {
                    moves.push(Move::Answer(l, index));
                }
                if budget.lies > 0 && !publishing.answered {
                    moves.push(Move::Doubt(l, index));
                }
            }
            if budget.savepoints > 0 && state == JobState::Running {
                moves.push(Move::Savepoint(l));
            }
        }
        if budget.elections > 0 {
            moves.push(Move::Elect);
        }
    }

    fn next_state(&self, world: &World, next: Move) -> Option<World> {
        let mut step = Step {
            model: self,
            world: world.clone(),
        };
        let done = step.perform(next);
        step.end(done)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(HOLDS, |_, world: &World| world.violation.is_none())]
    }
}

fn may_be_lost(command: &WorkerCommand) -> bool {
    matches!(
        command,
        WorkerCommand::NotifyCheckpointComplete { .. } | WorkerCommand::NotifyCheckpointAborted { .. }
    )
}

/// One step of the world, until nothing follows by itself.
struct Step<'a> {
    model: &'a JobModel,
    world: World,
}

type Done = Result<(), String>;

impl Step<'_> {
    fn end(mut self, done: Done) -> Option<World> {
        self.world.violation = done.err();
        Some(self.world)
    }

    fn saw(&self, what: &'static str) {
        self.model
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(what);
    }

    fn breaks(&self, sabotage: Sabotage) -> bool {
        self.model.sabotage == sabotage
    }

    fn perform(&mut self, next: Move) -> Done {
        let budget = &mut self.world.budget;
        match next {
            Move::Tick(l) => {
                let leader = &mut self.world.leaders[l];
                if leader.machine.state() != JobState::Restarting {
                    budget.ticks -= 1;
                }
                leader.now = leader.machine.next_deadline().map_or(leader.now, |deadline| deadline.0);
                self.tell(l, Event::Tick)
            }
            Move::Work(l, id) => {
                let limit = budget.records;
                let worker = self.world.leaders[l].workers.get_mut(&id).expect("a live worker");
                let task = worker.tasks.iter_mut().find(|task| task.cut.offset < limit);
                task.expect("there is work").cut.offset += 1;
                Ok(())
            }
            Move::Obey(l, id) => self.obey(l, id),
            Move::Lose(l, id) => {
                budget.losses -= 1;
                let worker = self.world.leaders[l].workers.get_mut(&id).expect("a live worker");
                worker.inbox.pop_front();
                Ok(())
            }
            Move::Report(l, index) => {
                let (id, event) = self.world.leaders[l].reports.remove(index);
                self.report(l, id, event)
            }
            Move::ReportTwice(l, index) => {
                budget.doubles -= 1;
                let (id, event) = self.world.leaders[l].reports[index].clone();
                self.saw("an acknowledgement comes twice");
                self.report(l, id, event)
            }
            Move::LoseReport(l, index) => {
                budget.losses -= 1;
                self.saw("an acknowledgement is lost");
                self.world.leaders[l].reports.remove(index);
                Ok(())
            }
            Move::Write(l, index) => self.write(l, index),
            Move::Answer(l, index) => self.answer(l, index),
            Move::Fail(l, index) => {
                budget.lies -= 1;
                let publishing = self.world.leaders[l].publishing.remove(index);
                self.published(l, publishing.id, Err(not_written(false)))
            }
            Move::Doubt(l, index) => {
                budget.lies -= 1;
                self.saw("an outcome is unknown");
                let publishing = &mut self.world.leaders[l].publishing[index];
                publishing.answered = true;
                let id = publishing.id;
                self.published(l, id, Err(not_written(true)))
            }
            Move::Crash(l, id) => {
                budget.crashes -= 1;
                let leader = &mut self.world.leaders[l];
                leader.workers.remove(&id);
                leader.mailbox.push_back(Event::WorkerLost(id, gone()));
                self.settle(l)
            }
            Move::Savepoint(l) => {
                budget.savepoints -= 1;
                self.tell(
                    l,
                    Event::Operation(OperationRequest {
                        id: OperationId::from_bytes([1; 16]),
                        kind: OperationKind::Savepoint,
                        target: None,
                        folder: "sp-1".to_owned(),
                        timeout_ms: None,
                    }),
                )
            }
            Move::Elect => {
                budget.elections -= 1;
                self.elect()
            }
        }
    }

    /// A second leader: first it claims its epoch, then it looks at what is published.
    fn elect(&mut self) -> Done {
        let epoch = self.world.store.epoch + 1;
        self.world.store.epoch = epoch;
        let restore = self.world.store.latest().cloned();
        if restore.is_some() {
            self.saw("a second leader restores a checkpoint");
        }
        self.world.leaders.push(Leader::new(epoch, restore));
        self.settle(self.world.leaders.len() - 1)
    }

    // ---- the machine and its shell

    fn tell(&mut self, l: usize, event: Event) -> Done {
        self.world.leaders[l].mailbox.push_back(event);
        self.settle(l)
    }

    /// Tells the machine what there is to tell, until there is nothing.
    fn settle(&mut self, l: usize) -> Done {
        while let Some(event) = self.world.leaders[l].mailbox.pop_front() {
            let leader = &mut self.world.leaders[l];
            let now = MonotonicTime(leader.now);
            let actions = leader.machine.on_event(now, WallTime(0), event.clone());
            leader
                .audit
                .observe(&leader.machine, now, &event, &actions)
                .map_err(|violation| format!("{}: {violation}", violation.invariant))?;
            for action in actions {
                self.carry_out(l, action)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, l: usize, action: Action) -> Done {
        let leader = &mut self.world.leaders[l];
        match action {
            Action::RequestSlots { count } => {
                let slots = (0..count).map(|slot| SlotId {
                    task_manager: TaskManagerId(format!("tm-{slot}")),
                    slot: 0,
                });
                leader.mailbox.push_back(Event::SlotsAllocated(slots.collect()));
            }
            Action::StartWorker { worker, task_manager } => {
                leader.workers.insert(worker, Worker::default());
                let spec = leader.machine.spec();
                let registration = WorkerRegistration {
                    job_id: spec.job_id,
                    worker,
                    task_manager,
                    data_address: String::new(),
                    fingerprint: spec.fingerprint.clone(),
                    graph_outline: String::new(),
                    process_id: 1,
                };
                let registered = WorkerEvent::Registered(registration);
                leader.mailbox.push_back(Event::Worker(worker, registered));
            }
            Action::StopWorker { worker } => {
                leader.workers.remove(&worker);
                leader.mailbox.push_back(Event::WorkerLost(worker, gone()));
            }
            Action::Send { worker, command } => return self.send(l, worker, command),
            Action::Publish {
                checkpoint,
                metadata,
                location,
            } => {
                let point = RestorePoint {
                    metadata: (*metadata).into(),
                    uri: location,
                };
                leader.publishing.push(Publishing {
                    id: checkpoint,
                    point,
                    written: None,
                    answered: false,
                });
                if self.breaks(Sabotage::AnswersBeforeWriting) {
                    let index = self.world.leaders[l].publishing.len() - 1;
                    self.world.leaders[l].publishing[index].answered = true;
                    let published = published_at(&self.world.leaders[l].publishing[index]);
                    let event = Event::Published(checkpoint, Ok(published));
                    self.world.leaders[l].mailbox.push_back(event);
                }
            }
            Action::Discard { checkpoint, location }
            | Action::Unpublish {
                checkpoint, location, ..
            }
            | Action::DiscardClaimed { checkpoint, location } => {
                let epoch = leader.epoch;
                self.saw("a snapshot is given up");
                self.world.store.delete(epoch, checkpoint, &location);
            }
            Action::Promote {
                operation, location, ..
            } => {
                let made = PublishedSnapshot {
                    uri: location,
                    bytes: 1,
                };
                leader.mailbox.push_back(Event::Promoted(operation, Ok(made)));
            }
            Action::CompleteOperation { result: Ok(_), .. } => self.saw("a savepoint is complete"),
            // Slots, and what is told to people, are nothing that anything here waits for.
            _ => {}
        }
        Ok(())
    }

    /// What builds up and tears down an attempt takes effect at once, after all that was said before; the rest takes its time.
    fn send(&mut self, l: usize, id: WorkerId, command: WorkerCommand) -> Done {
        let leader = &mut self.world.leaders[l];
        let Some(worker) = leader.workers.get_mut(&id) else {
            return Ok(());
        };
        let at_once = match &command {
            WorkerCommand::Deploy(_)
            | WorkerCommand::Cancel { .. }
            | WorkerCommand::Finish { .. }
            | WorkerCommand::Drain { .. }
            | WorkerCommand::Shutdown
            | WorkerCommand::AlignWatermarks { .. } => true,
            WorkerCommand::TriggerCheckpoint { .. }
            | WorkerCommand::NotifyCheckpointComplete { .. }
            | WorkerCommand::NotifyCheckpointAborted { .. } => false,
        };
        worker.inbox.push_back(command);
        while at_once
            && self.world.leaders[l]
                .workers
                .get(&id)
                .is_some_and(|it| !it.inbox.is_empty())
        {
            self.obey(l, id)?;
        }
        Ok(())
    }

    fn report(&mut self, l: usize, id: WorkerId, event: WorkerEvent) -> Done {
        if self.breaks(Sabotage::CountsAcknowledgementsTwice)
            && let WorkerEvent::Acknowledge {
                attempt,
                checkpoint,
                subtask,
                ..
            } = &event
        {
            let mut other = *subtask;
            other.index = 1 - subtask.index;
            let again = WorkerEvent::Acknowledge {
                attempt: *attempt,
                checkpoint: *checkpoint,
                subtask: other,
                snapshot: SubtaskSnapshot::default(),
            };
            let sibling = self.world.leaders[l]
                .workers
                .iter()
                .find(|(_, it)| it.tasks.iter().any(|it| it.subtask == other));
            let sibling = sibling.map_or(id, |(id, _)| *id);
            self.tell(l, Event::Worker(sibling, again))?;
        }
        // What is left of a worker that is gone still comes in; so does what a doubled message brings.
        self.tell(l, Event::Worker(id, event))
    }

    // ---- the store

    fn write(&mut self, l: usize, index: usize) -> Done {
        let epoch = self.world.leaders[l].epoch;
        let publishing = &self.world.leaders[l].publishing[index];
        let point = publishing.point.clone();
        self.check_cut(epoch, &point)?;
        let stale = epoch < self.world.store.epoch;
        let takes_stale = self.breaks(Sabotage::StoreTakesStaleEpochs);
        let written = self.world.store.publish(epoch, point, takes_stale)?;
        if stale && written == Written::Refused {
            self.saw("a stale leader is refused");
        }
        if epoch > 1 && written == Written::Created {
            self.saw("a second leader completes a checkpoint");
        }
        let publishing = &mut self.world.leaders[l].publishing[index];
        publishing.written = Some(written == Written::Created);
        if publishing.answered {
            self.world.leaders[l].publishing.remove(index);
        }
        Ok(())
    }

    /// What is published is what the subtasks noted at this barrier, of every split.
    fn check_cut(&self, epoch: u64, point: &RestorePoint) -> Done {
        let metadata = &point.metadata;
        let published = cuts_of(metadata);
        for split in 0..2 {
            let noted = self
                .world
                .noted
                .get(&(epoch, metadata.attempt, metadata.checkpoint_id, split));
            let found = published.iter().find(|cut| cut.split == split);
            if noted.is_none() || noted != found {
                return Err(format!(
                    "I3: snapshot {} holds {found:?} of split {split}, and {noted:?} was noted",
                    metadata.checkpoint_id
                ));
            }
        }
        Ok(())
    }

    fn answer(&mut self, l: usize, index: usize) -> Done {
        let publishing = self.world.leaders[l].publishing.remove(index);
        if publishing.answered {
            return Ok(());
        }
        if self.breaks(Sabotage::ForgetsWhatItAcknowledged) {
            self.world.store.records.remove(&publishing.id);
        }
        let result = match publishing.written {
            Some(true) => Ok(published_at(&publishing)),
            // Somebody else was there: what lies there may be his.
            Some(false) | None => Err(not_written(true)),
        };
        if result.is_ok() && publishing.point.metadata.kind == SnapshotKind::Checkpoint {
            self.saw("a checkpoint is complete");
        }
        self.published(l, publishing.id, result)
    }

    fn published(&mut self, l: usize, id: CheckpointId, result: Result<PublishedSnapshot, PublishError>) -> Done {
        self.tell(l, Event::Published(id, result))
    }

    // ---- workers

    fn obey(&mut self, l: usize, id: WorkerId) -> Done {
        let leader = &mut self.world.leaders[l];
        let epoch = leader.epoch;
        let worker = leader.workers.get_mut(&id).expect("a live worker");
        match worker.inbox.pop_front().expect("a command") {
            WorkerCommand::Deploy(deployment) => self.deploy(l, id, *deployment),
            WorkerCommand::TriggerCheckpoint { attempt, barrier } if attempt == worker.attempt => {
                let checkpoint = barrier.checkpoint;
                let savepoint = barrier.options.kind == SnapshotKind::Savepoint;
                let mut commits = Vec::new();
                for task in &mut worker.tasks {
                    task.prepare(epoch, attempt.0 as u8, checkpoint);
                    self.world
                        .noted
                        .insert((epoch, attempt, checkpoint, task.cut.split), task.cut.clone());
                    leader.reports.push((id, acknowledgement(attempt, checkpoint, task)));
                    commits.extend(task.cut.prepared.iter().copied().filter(|_| !savepoint));
                }
                match self.breaks(Sabotage::CommitsAtTheBarrier) {
                    true => self.commit(commits),
                    false => Ok(()),
                }
            }
            WorkerCommand::NotifyCheckpointComplete { attempt, checkpoint } if attempt == worker.attempt => {
                let due = World::take_prepared(&mut worker.tasks, checkpoint);
                self.commit(due)
            }
            WorkerCommand::Cancel { attempt, .. } if attempt == worker.attempt => {
                for task in std::mem::take(&mut worker.tasks) {
                    let canceled = state(attempt, task.subtask, ExecutionState::Canceled);
                    leader.mailbox.push_back(Event::Worker(id, canceled));
                }
                Ok(())
            }
            WorkerCommand::Shutdown
            | WorkerCommand::TriggerCheckpoint { .. }
            | WorkerCommand::NotifyCheckpointComplete { .. }
            | WorkerCommand::NotifyCheckpointAborted { .. }
            | WorkerCommand::Drain { .. }
            | WorkerCommand::AlignWatermarks { .. }
            | WorkerCommand::Finish { .. }
            | WorkerCommand::Cancel { .. } => Ok(()),
        }
    }

    fn commit(&mut self, prepared: Vec<Prepared>) -> Done {
        prepared.into_iter().try_for_each(|what| self.world.output.commit(what))
    }

    fn deploy(&mut self, l: usize, id: WorkerId, deployment: Deployment) -> Done {
        let mut tasks = Vec::new();
        for it in deployment.slots.iter().flat_map(|slot| &slot.subtasks) {
            let lists = it.state.get(&source_id()).into_iter().flat_map(|state| &state.lists);
            let items = lists.filter(|list| list.name == SPLITS).flat_map(|list| &list.items);
            for item in items {
                let mut cut = Cut::decode(item);
                if !cut.prepared.is_empty() {
                    self.saw("an attempt restores what another had prepared");
                }
                self.commit(std::mem::take(&mut cut.prepared))?;
                // Whoever leads no more has no slots: what becomes of its attempts is seen by nobody.
                if self.world.leaders[l].epoch == self.world.store.epoch {
                    self.world.output.check_restored(cut.split, cut.offset)?;
                }
                let open_from = cut.offset;
                tasks.push(Task {
                    subtask: it.subtask,
                    cut,
                    open_from,
                });
            }
        }
        let leader = &mut self.world.leaders[l];
        for task in &tasks {
            for to in [ExecutionState::Initializing, ExecutionState::Running] {
                let event = Event::Worker(id, state(deployment.attempt, task.subtask, to));
                leader.mailbox.push_back(event);
            }
        }
        let worker = leader.workers.get_mut(&id).expect("a live worker");
        worker.attempt = deployment.attempt;
        worker.tasks = tasks;
        Ok(())
    }
}

impl Task {
    /// The barrier passes: what was written since the last one is prepared.
    fn prepare(&mut self, epoch: u64, attempt: u8, checkpoint: CheckpointId) {
        if self.open_from < self.cut.offset {
            self.cut.prepared.push(Prepared {
                epoch: epoch as u8,
                attempt,
                checkpoint: checkpoint.0 as u8,
                split: self.cut.split,
                from: self.open_from,
                to: self.cut.offset,
            });
            self.open_from = self.cut.offset;
        }
    }
}

fn acknowledgement(attempt: streamd_core::id::Attempt, checkpoint: CheckpointId, task: &Task) -> WorkerEvent {
    let list = ListState {
        name: SPLITS.to_owned(),
        data_type: DataType::UInt64,
        items: vec![task.cut.encode()],
    };
    let mut snapshot = SubtaskSnapshot::default();
    let (keyed, lists) = (Vec::new(), vec![list]);
    snapshot
        .operators
        .insert(source_id(), OperatorSubtaskState { keyed, lists });
    WorkerEvent::Acknowledge {
        attempt,
        checkpoint,
        subtask: task.subtask,
        snapshot,
    }
}

fn state(
    attempt: streamd_core::id::Attempt,
    subtask: streamd_core::id::SubtaskId,
    state: ExecutionState,
) -> WorkerEvent {
    WorkerEvent::SubtaskState {
        attempt,
        subtask,
        state,
        failure: None,
    }
}

fn published_at(publishing: &Publishing) -> PublishedSnapshot {
    PublishedSnapshot {
        uri: publishing.point.uri.clone(),
        bytes: 1,
    }
}

fn not_written(outcome_unknown: bool) -> PublishError {
    PublishError {
        message: "the store said no".to_owned(),
        outcome_unknown,
    }
}

fn gone() -> Failure {
    Failure::new(FaultDomain::External, "gone")
}
