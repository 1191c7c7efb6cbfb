//! Scripts: lines that begin with `>` are events, the lines below them the actions that must follow, no more and no fewer.
//!
//! ```text
//! > start
//! CREATED -> RUNNING
//! request 2 slots
//! ```
//!
//! `>>` is an event whose actions are of no interest here. `#` begins a comment. `assert` lines ask the machine.

use streamd_coordinator::action::Action;
use streamd_coordinator::event::{
    Event, JobSpec, OperationKind, OperationRequest, PublishError, PublishedSnapshot, SlotId,
};
use streamd_coordinator::job::OperationStatus;
use streamd_core::barrier::{AfterBarrier, SnapshotKind};
use streamd_core::id::{Attempt, CheckpointId, OperationId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::protocol::{ExecutionState, Failure, FailureKind, FaultDomain, WorkerCommand, WorkerEvent};
use streamd_core::snapshot::{OperatorSubtaskState, SubtaskSnapshot};

use crate::bench::{Bench, source_id, spec, splits};

/// Plays a script to a fresh job.
pub fn play(script: &str) {
    play_with(|_| {}, script);
}

/// Plays a script to a fresh job whose specification is changed first.
pub fn play_with(change: impl FnOnce(&mut JobSpec), script: &str) {
    let mut spec = spec();
    change(&mut spec);
    Player(Bench::new(spec)).play(script);
}

/// A job that the events of a script have led somewhere.
pub fn reach(change: impl FnOnce(&mut JobSpec), events: &str) -> Bench {
    let mut spec = spec();
    change(&mut spec);
    let mut player = Player(Bench::new(spec));
    player.run(events);
    player.0
}

/// The actions that follow from events.
pub fn follow(bench: &mut Bench, events: &str) -> Vec<Action> {
    let mut player = Player(std::mem::replace(bench, Bench::new(spec())));
    let actions = player.run(events);
    *bench = player.0;
    actions
}

/// What follows from each of the events, under a clock on the wall that shows what it likes.
pub fn follows(wall: fn(u64) -> i64, events: &str) -> Vec<String> {
    let mut player = Player(Bench::new(spec()));
    player.0.wall = wall;
    let events = events.split(';');
    events.flat_map(|event| render(&player.run(event))).collect()
}

struct Player(Bench);

impl Player {
    fn play(&mut self, script: &str) {
        let mut expected: Option<(String, Vec<String>)> = None;
        let mut actual: Vec<String> = Vec::new();
        for line in script
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            if let Some(question) = line.strip_prefix("assert ") {
                compare(expected.take(), &actual);
                self.ask(question);
            } else if let Some(command) = line.strip_prefix(">>") {
                compare(expected.take(), &actual);
                self.run(command.trim());
            } else if let Some(command) = line.strip_prefix('>') {
                compare(expected.take(), &actual);
                actual = render(&self.run(command.trim()));
                expected = Some((command.trim().to_owned(), Vec::new()));
            } else {
                let (_, lines) = expected.as_mut().expect("an action follows an event");
                lines.push(line.to_owned());
            }
        }
        compare(expected, &actual);
    }

    fn run(&mut self, commands: &str) -> Vec<Action> {
        commands
            .split(';')
            .flat_map(|command| self.run_one(command.trim()))
            .collect()
    }

    fn run_one(&mut self, command: &str) -> Vec<Action> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            // Everything up to the moment at which all subtasks run, one worker on each of two task managers.
            ["up"] => self.run("start; slots a:0 b:0; registered 1; registered 2; running"),
            ["start"] => self.event(Event::Start),
            ["cancel"] => self.event(Event::Cancel),
            ["tick"] => self.event(Event::Tick),
            ["wait", millis] => {
                self.0.now += number(millis);
                self.event(Event::Tick)
            }
            ["slots", slots @ ..] => self.event(Event::SlotsAllocated(
                slots.iter().map(|slot| parse_slot(slot)).collect(),
            )),
            ["registered", id] => self.registered(id, None),
            ["registered", id, outline @ ..] => self.registered(id, Some(outline.join(" "))),
            ["running"] => self.all(|attempt, subtask| state(attempt, subtask, ExecutionState::Running)),
            ["finished"] => self.all(|attempt, subtask| state(attempt, subtask, ExecutionState::Finished)),
            ["canceled"] => self.all(|attempt, subtask| state(attempt, subtask, ExecutionState::Canceled)),
            ["end"] => self.all(|attempt, subtask| WorkerEvent::EndOfData { attempt, subtask }),
            ["end", subtask] => self.one(subtask, |attempt, subtask| WorkerEvent::EndOfData { attempt, subtask }),
            ["canceled", worker] => {
                let worker = WorkerId(number(worker));
                self.all_of(worker, |attempt, subtask| {
                    state(attempt, subtask, ExecutionState::Canceled)
                })
            }
            ["state", subtask, "FAILED", why @ ..] => {
                self.failed(subtask, Failure::new(FaultDomain::User, why.join(" ")))
            }
            ["damaged", subtask, "FAILED", why @ ..] => self.failed(
                subtask,
                Failure {
                    kind: FailureKind::DamagedSnapshot,
                    ..Failure::new(FaultDomain::External, why.join(" "))
                },
            ),
            ["lost", subtask, "FAILED", why @ ..] => self.failed(
                subtask,
                Failure {
                    kind: FailureKind::OutputLost,
                    ..Failure::new(FaultDomain::External, why.join(" "))
                },
            ),
            ["state", subtask, name] => {
                self.one(subtask, |attempt, subtask| state(attempt, subtask, state_named(name)))
            }
            ["old-ack", id, subtask] => self.one(subtask, |attempt, subtask| ack(Attempt(attempt.0 - 1), id, subtask)),
            ["ack", id] => self.all(|attempt, subtask| ack(attempt, id, subtask)),
            ["ack", id, subtask] => self.one(subtask, |attempt, subtask| ack(attempt, id, subtask)),
            // A source that has these splits, all read as far.
            ["ack", id, subtask, splits @ ..] => {
                let items = splits.iter().filter_map(|split| split.parse().ok());
                let items = items.map(|split| (split, number(id) as u32)).collect();
                self.one(subtask, |attempt, subtask| ack_of(attempt, id, subtask, items))
            }
            ["done", id] => self.run(&format!("ack {id}; published {id}")),
            ["decline", id, subtask] => self.one(subtask, |attempt, subtask| WorkerEvent::Decline {
                attempt,
                checkpoint: CheckpointId(number(id)),
                subtask,
                reason: "disk full".to_owned(),
            }),
            ["published", id] => {
                let published = PublishedSnapshot {
                    uri: self.location(id),
                    bytes: 7,
                };
                self.event(Event::Published(CheckpointId(number(id)), Ok(published)))
            }
            ["unpublished", id, rest @ ..] => {
                let message = match rest {
                    ["missing"] => "an object does not exist [SD-0502]",
                    _ => "store says no",
                };
                let error = PublishError {
                    message: message.to_owned(),
                    outcome_unknown: rest == ["unknown"],
                };
                self.event(Event::Published(CheckpointId(number(id)), Err(error)))
            }
            ["promoted", id] => {
                let published = PublishedSnapshot {
                    uri: format!("s3://promoted/{id}"),
                    bytes: 7,
                };
                self.event(Event::Promoted(operation_id(id), Ok(published)))
            }
            ["unpromoted", id, rest @ ..] => {
                let error = PublishError {
                    message: "store says no".to_owned(),
                    outcome_unknown: rest == ["unknown"],
                };
                self.event(Event::Promoted(operation_id(id), Err(error)))
            }
            // A savepoint that may take this many milliseconds.
            [
                kind @ ("savepoint" | "stop" | "drain" | "cancel-savepoint"),
                id,
                "within",
                millis,
            ] => self.operation(kind, id, None, Some(number(millis))),
            ["lost", worker] => {
                let failure = Failure::new(FaultDomain::External, "killed");
                self.event(Event::WorkerLost(WorkerId(number(worker)), failure))
            }
            ["evacuate", name] => self.event(Event::Evacuate(TaskManagerId((*name).to_owned()))),
            ["lost-tm", name] => self.event(Event::TaskManagerLost(TaskManagerId((*name).to_owned()))),
            [
                kind @ ("savepoint" | "stop" | "drain" | "cancel-savepoint"),
                id,
                target @ ..,
            ] => self.operation(kind, id, target.first(), None),
            other => panic!("no such event: {other:?}"),
        }
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        self.0.event(event)
    }

    fn registered(&mut self, id: &str, outline: Option<String>) -> Vec<Action> {
        let worker = WorkerId(number(id));
        let mut registration = self.0.registration(worker);
        if let Some(outline) = outline {
            registration.fingerprint = "other".to_owned();
            registration.graph_outline = outline;
        }
        self.event(Event::Worker(worker, WorkerEvent::Registered(registration)))
    }

    fn all(&mut self, make: impl Fn(Attempt, SubtaskId) -> WorkerEvent) -> Vec<Action> {
        let attempt = self.0.attempt;
        let deployed = self.0.deployed();
        deployed
            .into_iter()
            .flat_map(|(worker, subtask)| self.event(Event::Worker(worker, make(attempt, subtask))))
            .collect()
    }

    fn all_of(&mut self, of: WorkerId, make: impl Fn(Attempt, SubtaskId) -> WorkerEvent) -> Vec<Action> {
        let attempt = self.0.attempt;
        let deployed = self.0.deployed();
        let its = deployed.into_iter().filter(|(worker, _)| *worker == of);
        its.flat_map(|(worker, subtask)| self.event(Event::Worker(worker, make(attempt, subtask))))
            .collect()
    }

    fn failed(&mut self, subtask: &str, failure: Failure) -> Vec<Action> {
        self.one(subtask, |attempt, subtask| WorkerEvent::SubtaskState {
            attempt,
            subtask,
            state: ExecutionState::Failed,
            failure: Some(failure),
        })
    }

    fn one(&mut self, subtask: &str, make: impl FnOnce(Attempt, SubtaskId) -> WorkerEvent) -> Vec<Action> {
        let subtask = parse_subtask(subtask);
        let deployed = self.0.deployed();
        let found = deployed.iter().find(|(_, it)| *it == subtask);
        let (worker, _) = *found.unwrap_or_else(|| panic!("{subtask} is deployed nowhere"));
        let attempt = self.0.attempt;
        self.event(Event::Worker(worker, make(attempt, subtask)))
    }

    fn operation(&mut self, kind: &str, id: &str, target: Option<&&str>, timeout_ms: Option<u64>) -> Vec<Action> {
        let kind = match kind {
            "savepoint" => OperationKind::Savepoint,
            "stop" => OperationKind::Stop,
            "drain" => OperationKind::Drain,
            _ => OperationKind::CancelWithSavepoint,
        };
        self.event(Event::Operation(OperationRequest {
            id: operation_id(id),
            kind,
            target: target.map(|target| (*target).to_owned()),
            folder: format!("sp-{id}"),
            timeout_ms,
        }))
    }

    /// Savepoints are published where they were to be; the test only needs a name.
    fn location(&self, id: &str) -> String {
        format!("s3://published/{id}")
    }

    fn ask(&self, question: &str) {
        let machine = &self.0.machine;
        let (what, expected) = question
            .split_once(" =")
            .map(|(what, value)| (what, value.trim()))
            .expect("assert <what> = <value>");
        let checkpoints = machine.checkpoints();
        let actual = match what {
            "state" => machine.state().name().to_owned(),
            "attempt" => machine.attempt().to_string(),
            "restarts" => machine.restarts().to_string(),
            "failures" => machine
                .failures()
                .map(|it| it.failure.message.clone())
                .collect::<Vec<_>>()
                .join(" | "),
            "checkpoints" => {
                format!(
                    "{} completed, {} failed, {} in progress",
                    checkpoints.completed, checkpoints.failed, checkpoints.in_progress
                )
            }
            "last checkpoint" => checkpoints
                .last_completed
                .map_or("none".to_owned(), |it| it.id.to_string()),
            "last failed checkpoint" => checkpoints.last_failed.map_or("none".to_owned(), |it| it.cause),
            "restored" => machine
                .restored_from()
                .map_or("none".to_owned(), |it| it.id.to_string()),
            "deadline" => machine
                .next_deadline()
                .map_or("none".to_owned(), |it| format!("+{}", it.0 - self.0.now)),
            "workers" => machine
                .workers()
                .iter()
                .map(|it| it.worker.0.to_string())
                .collect::<Vec<_>>()
                .join(" "),
            other => match other.split_once(' ') {
                Some(("execution", subtask)) => machine.execution(parse_subtask(subtask)).name().to_owned(),
                Some(("operation", id)) => match machine.operation(operation_id(id)) {
                    None => "unknown".to_owned(),
                    Some(OperationStatus::InProgress(progress)) => {
                        format!("{} of {}", progress.acknowledged, progress.subtasks)
                    }
                    Some(OperationStatus::Ended(Ok(completed))) => completed.savepoint_path,
                    Some(OperationStatus::Ended(Err(error))) => error.code.to_string(),
                },
                _ => panic!("no such question: {what}"),
            },
        };
        assert_eq!(actual, expected, "{what}");
    }
}

fn compare(expected: Option<(String, Vec<String>)>, actual: &[String]) {
    if let Some((command, expected)) = expected {
        assert!(
            expected == actual,
            "\n> {command}\n{}\n---- expected instead:\n{}\n",
            actual.join("\n"),
            expected.join("\n")
        );
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

fn operation_id(text: &str) -> OperationId {
    OperationId::from_bytes([number(text) as u8; 16])
}

fn parse_slot(text: &str) -> SlotId {
    let (task_manager, slot) = text.split_once(':').expect("task manager:slot");
    SlotId {
        task_manager: TaskManagerId(task_manager.to_owned()),
        slot: number(slot) as u32,
    }
}

fn parse_subtask(text: &str) -> SubtaskId {
    let (vertex, index) = text.split_once('/').expect("vertex/index");
    SubtaskId {
        vertex: number(vertex) as u32,
        index: number(index) as u32,
    }
}

fn state_named(name: &str) -> ExecutionState {
    let all = [
        ExecutionState::Initializing,
        ExecutionState::Running,
        ExecutionState::Finished,
        ExecutionState::Canceled,
        ExecutionState::Failed,
    ];
    all.into_iter()
        .find(|state| state.name() == name)
        .unwrap_or_else(|| panic!("no such state: {name}"))
}

fn state(attempt: Attempt, subtask: SubtaskId, state: ExecutionState) -> WorkerEvent {
    WorkerEvent::SubtaskState {
        attempt,
        subtask,
        state,
        failure: None,
    }
}

fn ack(attempt: Attempt, id: &str, subtask: SubtaskId) -> WorkerEvent {
    ack_of(attempt, id, subtask, vec![(subtask.index, number(id) as u32)])
}

fn ack_of(attempt: Attempt, id: &str, subtask: SubtaskId, items: Vec<(u32, u32)>) -> WorkerEvent {
    let mut snapshot = SubtaskSnapshot::default();
    if subtask.vertex == 0 {
        let lists = vec![splits(items.into_iter())];
        snapshot.operators.insert(
            source_id(),
            OperatorSubtaskState {
                keyed: Vec::new(),
                lists,
            },
        );
    }
    WorkerEvent::Acknowledge {
        attempt,
        checkpoint: CheckpointId(number(id)),
        subtask,
        snapshot,
    }
}

/// One line per action; the same words to several workers in a row are one line.
fn render(actions: &[Action]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut last: Option<(Vec<u64>, String)> = None;
    for action in actions {
        if let Action::Send { worker, command } = action {
            let words = render_command(command);
            match &mut last {
                Some((workers, said)) if *said == words && !workers.contains(&worker.0) => workers.push(worker.0),
                _ => {
                    flush(&mut last, &mut lines);
                    last = Some((vec![worker.0], words));
                }
            }
        } else {
            flush(&mut last, &mut lines);
            lines.push(render_action(action));
        }
    }
    flush(&mut last, &mut lines);
    lines
}

fn flush(last: &mut Option<(Vec<u64>, String)>, lines: &mut Vec<String>) {
    if let Some((workers, words)) = last.take() {
        let workers: Vec<String> = workers.iter().map(u64::to_string).collect();
        lines.push(format!("to {}: {words}", workers.join(" ")));
    }
}

fn render_command(command: &WorkerCommand) -> String {
    match command {
        WorkerCommand::Deploy(deployment) => {
            let restored = deployment.restored.map_or(String::new(), |id| format!(" from {id}"));
            let slots: Vec<String> = deployment
                .slots
                .iter()
                .map(|slot| {
                    let subtasks: Vec<String> = slot.subtasks.iter().map(|it| it.subtask.to_string()).collect();
                    format!("[{}]", subtasks.join(" "))
                })
                .collect();
            let kept = deployment.kept.iter().map(|slot| {
                let subtasks: Vec<String> = slot.subtasks.iter().map(SubtaskId::to_string).collect();
                format!("kept [{}]", subtasks.join(" "))
            });
            let slots: Vec<String> = slots.into_iter().chain(kept).collect();
            format!("deploy attempt {}{restored} {}", deployment.attempt, slots.join(" "))
        }
        WorkerCommand::TriggerCheckpoint { barrier, .. } => {
            let kind = match (barrier.options.kind, barrier.options.sources) {
                (SnapshotKind::Checkpoint, AfterBarrier::Continue) => "checkpoint",
                (SnapshotKind::Checkpoint, AfterBarrier::Halt) => "halting checkpoint",
                (SnapshotKind::Savepoint, AfterBarrier::Continue) => "savepoint",
                (SnapshotKind::Savepoint, AfterBarrier::Halt) => "halting savepoint",
            };
            format!("{kind} {} at {}", barrier.checkpoint, barrier.options.location)
        }
        WorkerCommand::NotifyCheckpointComplete { checkpoint, .. } => format!("complete {checkpoint}"),
        WorkerCommand::NotifyCheckpointAborted { checkpoint, .. } => format!("aborted {checkpoint}"),
        WorkerCommand::Drain { .. } => "drain".to_owned(),
        WorkerCommand::AlignWatermarks { .. } => "align watermarks".to_owned(),
        WorkerCommand::Finish { .. } => "finish".to_owned(),
        WorkerCommand::Cancel { attempt, kept } => match kept.as_slice() {
            [] => format!("cancel attempt {attempt}"),
            kept => format!("cancel attempt {attempt} but slots {kept:?}"),
        },
        WorkerCommand::Shutdown => "shutdown".to_owned(),
    }
}

fn render_action(action: &Action) -> String {
    match action {
        Action::RequestSlots { count } => format!("request {count} slots"),
        Action::AdoptSlots { slots } => {
            let slots: Vec<String> = slots
                .iter()
                .map(|slot| format!("{}:{}", slot.task_manager, slot.slot))
                .collect();
            format!("adopt slots {}", slots.join(" "))
        }
        Action::ReleaseSlots => "release slots".to_owned(),
        Action::StartWorker { worker, task_manager } => format!("start {} on {task_manager}", worker.0),
        Action::StopWorker { worker } => format!("stop {}", worker.0),
        Action::Send { .. } => unreachable!("sends are grouped"),
        Action::Publish {
            checkpoint, location, ..
        } => format!("publish {checkpoint} at {location}"),
        Action::Discard { location, .. } => format!("discard {location}"),
        Action::Unpublish { location, .. } => format!("unpublish {location}"),
        Action::DiscardClaimed { location, .. } => format!("discard claimed {location}"),
        Action::Promote {
            source,
            location,
            timeout_ms,
            ..
        } => {
            let id = source.metadata.checkpoint_id;
            format!("promote {id} to {location} within {timeout_ms}")
        }
        Action::CompleteOperation { id, result } => match result {
            Ok(completed) => format!("operation {} has {}", id.as_bytes()[0], completed.savepoint_path),
            Err(error) => format!("operation {} failed: {error}", id.as_bytes()[0]),
        },
        Action::StateChanged { from, to, failure } => {
            let why = failure
                .as_ref()
                .map_or(String::new(), |failure| format!(": {}", failure.message));
            format!("{} -> {}{why}", from.name(), to.name())
        }
    }
}
