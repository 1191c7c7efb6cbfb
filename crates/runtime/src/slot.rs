//! The thread of a slot: runs the subtasks that share it, one turn after the other, and sleeps when none can work.
//!
//! ```text
//!   commands ──▶ ┌───────────────────────────────┐
//!                │ handle commands               │
//!                │ one turn of each subtask      │──▶ events
//!                │ all waiting? park             │◀── wake: records, room, commands
//!                └───────────────────────────────┘
//! ```
//!
//! User code is called here and nowhere else: it may block or panic without harm to the process's I/O.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use streamd_core::barrier::Barrier;
use streamd_core::id::{CheckpointId, SubtaskId};
use streamd_core::protocol::ExecutionState;
use streamd_core::time::{Clock, MonotonicTime};
use streamd_exchange::wake::Parker;

use crate::chain::OpenContext;
use crate::error::TaskError;
use crate::subtask::{Subtask, Turn};

/// How long a subtask that has lost a neighbour waits to be told why. Longer than a job master takes to hear of a dead process
/// and to answer; short beside the time that a restart takes for what really is a lost connection.
const VERDICT_TIMEOUT_MS: u64 = 1_000;

/// What a slot is told.
#[derive(Debug, Clone)]
pub enum SlotCommand {
    /// Sources: emit this barrier.
    Trigger(Barrier),
    /// The checkpoint is complete.
    Complete(CheckpointId),
    /// The checkpoint is given up.
    Aborted(CheckpointId),
    /// Sources: end the input.
    Drain,
    /// Commit what is left, and end well.
    Finish,
    /// Drop everything at once.
    Cancel,
}

/// What a slot reports of its subtasks.
pub trait SlotReporter: Send {
    /// A subtask has a new state; the error says why where it is FAILED.
    fn on_state(&self, subtask: SubtaskId, state: ExecutionState, error: Option<TaskError>);
}

/// A slot that is ready to run.
pub struct Slot {
    subtasks: Vec<(Subtask, OpenContext)>,
    commands: Receiver<SlotCommand>,
    parker: Parker,
    reporter: Box<dyn SlotReporter>,
    clock: Arc<dyn Clock>,
}

/// How the loop of a slot ends.
enum End {
    Finished,
    Canceled,
    /// A subtask failed; by position.
    Failed(usize, TaskError),
}

/// What came of a turn of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotTurn {
    /// A subtask has worked: there may be more to do at once.
    Worked,
    /// Nothing can work before a wake, or before this time is over.
    Waits(Duration),
    /// The slot has ended, and has said so.
    Ended,
}

impl Slot {
    /// A slot with these subtasks, in order of vertex. Commands must be followed by a wake of the parker's waker.
    pub fn new(
        subtasks: Vec<(Subtask, OpenContext)>,
        commands: Receiver<SlotCommand>,
        parker: Parker,
        reporter: Box<dyn SlotReporter>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            subtasks,
            commands,
            parker,
            reporter,
            clock,
        }
    }

    /// Runs until the subtasks are finished, cancelled, or one of them fails. Blocks the calling thread.
    pub fn run(self) {
        let mut slot = self.open();
        loop {
            match slot.turn() {
                SlotTurn::Worked => {}
                SlotTurn::Waits(wait) => slot.sleep(wait),
                SlotTurn::Ended => return,
            }
        }
    }

    /// Opens the subtasks. What follows is a turn after the other, for whoever gives them: a thread, or a simulation.
    pub fn open(self) -> OpenSlot {
        let Self {
            subtasks,
            commands,
            parker,
            reporter,
            clock,
        } = self;
        let ids: Vec<SubtaskId> = subtasks.iter().map(|(subtask, _)| subtask.id()).collect();
        let mut running = Running {
            subtasks: Vec::new(),
            commands,
            parker,
            reporter,
            clock,
        };
        let course = match running.open(subtasks) {
            Ok(()) => Course::Working,
            Err(end) => Course::Ending(end),
        };
        OpenSlot { ids, running, course }
    }
}

/// A slot whose subtasks are open.
pub struct OpenSlot {
    ids: Vec<SubtaskId>,
    running: Running,
    course: Course,
}

enum Course {
    Working,
    /// A subtask has lost a neighbour, and waits until this time to be told why.
    AwaitingVerdict {
        position: usize,
        error: TaskError,
        deadline: MonotonicTime,
    },
    Ending(End),
    Ended,
}

impl OpenSlot {
    /// Takes all commands, then gives each subtask a turn.
    pub fn turn(&mut self) -> SlotTurn {
        let course = std::mem::replace(&mut self.course, Course::Ended);
        let told_to_end = match course {
            Course::Working | Course::AwaitingVerdict { .. } => self.running.take_commands(),
            Course::Ending(_) | Course::Ended => None,
        };
        let (course, turn) = match (course, told_to_end) {
            (_, Some(end)) | (Course::Ending(end), None) => self.end(end),
            (Course::Working, None) => self.work(),
            (
                Course::AwaitingVerdict {
                    position,
                    error,
                    deadline,
                },
                None,
            ) => self.await_verdict(position, error, deadline),
            (Course::Ended, None) => (Course::Ended, SlotTurn::Ended),
        };
        self.course = course;
        turn
    }

    /// Whether it was woken since it was last asked; for whoever gives turns without [sleeping](Self::sleep) between them.
    pub fn take_wake(&self) -> bool {
        self.running.parker.take_wake()
    }

    /// Sleeps until woken, or for as long.
    fn sleep(&self, wait: Duration) {
        self.running.sleep(wait);
    }

    fn work(&mut self) -> (Course, SlotTurn) {
        match self.running.round() {
            Ok(None) => (Course::Working, SlotTurn::Worked),
            Ok(Some(wait)) => (Course::Working, SlotTurn::Waits(wait)),
            Err(End::Failed(position, error)) if error.is_consequence() => {
                let deadline = self.running.clock.monotonic().plus(VERDICT_TIMEOUT_MS);
                self.await_verdict(position, error, deadline)
            }
            Err(end) => self.end(end),
        }
    }

    /// A neighbour is gone. If that is because the job ends, the command that says so is on its way; if it is because of a
    /// failure, whoever failed should be heard first. Either way, wait a moment before reporting it.
    fn await_verdict(&mut self, position: usize, error: TaskError, deadline: MonotonicTime) -> (Course, SlotTurn) {
        let left = deadline.since(self.running.clock.monotonic());
        if left == 0 {
            return self.end(End::Failed(position, error));
        }
        let course = Course::AwaitingVerdict {
            position,
            error,
            deadline,
        };
        (course, SlotTurn::Waits(Duration::from_millis(left)))
    }

    fn end(&mut self, end: End) -> (Course, SlotTurn) {
        // Drop operators before the end is told: files are closed and channels gone when the next attempt begins.
        let subtasks = std::mem::take(&mut self.running.subtasks);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(subtasks)));
        let reporter = &self.running.reporter;
        let (state, failed) = match end {
            End::Finished => (ExecutionState::Finished, None),
            End::Canceled => (ExecutionState::Canceled, None),
            End::Failed(position, error) => {
                reporter.on_state(self.ids[position], ExecutionState::Failed, Some(error));
                (ExecutionState::Canceled, Some(position))
            }
        };
        if let Err(panic) = dropped {
            tracing::warn!(error = %TaskError::panicked("dropping an operator", &*panic), "user code panicked while it was cleaned up");
        }
        for (_, id) in self
            .ids
            .iter()
            .enumerate()
            .filter(|(position, _)| Some(*position) != failed)
        {
            reporter.on_state(*id, state, None);
        }
        (Course::Ended, SlotTurn::Ended)
    }
}

struct Running {
    subtasks: Vec<Subtask>,
    commands: Receiver<SlotCommand>,
    parker: Parker,
    reporter: Box<dyn SlotReporter>,
    clock: Arc<dyn Clock>,
}

impl Running {
    fn open(&mut self, subtasks: Vec<(Subtask, OpenContext)>) -> Result<(), End> {
        for (subtask, _) in &subtasks {
            self.reporter.on_state(subtask.id(), ExecutionState::Initializing, None);
        }
        for (position, (mut subtask, mut context)) in subtasks.into_iter().enumerate() {
            let opened = guarded(&mut subtask, |subtask| subtask.open(&mut context));
            self.subtasks.push(subtask);
            opened.map_err(|error| End::Failed(position, error))?;
        }
        for subtask in &self.subtasks {
            self.reporter.on_state(subtask.id(), ExecutionState::Running, None);
        }
        Ok(())
    }

    /// Carries out all commands that are there.
    fn take_commands(&mut self) -> Option<End> {
        loop {
            match self.commands.try_recv() {
                Ok(command) => {
                    if let Some(end) = self.on_command(command) {
                        return Some(end);
                    }
                }
                Err(TryRecvError::Empty) => return None,
                // The worker dropped the attempt.
                Err(TryRecvError::Disconnected) => return Some(End::Canceled),
            }
        }
    }

    /// Sleeps until woken, or for as long. The time counts as back-pressure for the subtasks that wait for room.
    fn sleep(&self, wait: Duration) {
        let before = self.clock.monotonic_nanos();
        match wait {
            Duration::MAX => self.parker.park(),
            wait => self.parker.park_timeout(wait),
        }
        let slept = self.clock.monotonic_nanos() - before;
        for subtask in &self.subtasks {
            subtask.count_sleep(slept);
        }
    }

    /// One turn of every subtask. `Some` if none can work, for as long.
    fn round(&mut self) -> Result<Option<Duration>, End> {
        let mut wait = Some(Duration::MAX);
        let mut before = self.clock.monotonic_nanos();
        for (position, subtask) in self.subtasks.iter_mut().enumerate() {
            let turn = guarded(subtask, Subtask::turn).map_err(|error| End::Failed(position, error))?;
            let after = self.clock.monotonic_nanos();
            subtask.count_turn(turn, after - before);
            before = after;
            wait = match (turn, wait) {
                (Turn::Worked, _) => None,
                (Turn::Waits(for_this), Some(shortest)) => Some(shortest.min(for_this)),
                (Turn::NoRoom | Turn::Waits(_), wait) => wait,
            };
        }
        Ok(wait)
    }

    fn on_command(&mut self, command: SlotCommand) -> Option<End> {
        let done = match &command {
            SlotCommand::Cancel => return Some(End::Canceled),
            SlotCommand::Trigger(barrier) => self.each(|subtask| subtask.trigger(barrier)),
            SlotCommand::Complete(checkpoint) => self.each(|subtask| subtask.checkpoint_complete(*checkpoint)),
            SlotCommand::Aborted(checkpoint) => self.each(|subtask| {
                subtask.checkpoint_aborted(*checkpoint);
                Ok(())
            }),
            SlotCommand::Drain => self.each(Subtask::drain),
            SlotCommand::Finish => self.each(Subtask::finish),
        };
        match done {
            Err((position, error)) => Some(End::Failed(position, error)),
            Ok(()) if matches!(command, SlotCommand::Finish) => Some(End::Finished),
            Ok(()) => None,
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut Subtask) -> Result<(), TaskError>) -> Result<(), (usize, TaskError)> {
        for (position, subtask) in self.subtasks.iter_mut().enumerate() {
            guarded(subtask, &mut act).map_err(|error| (position, error))?;
        }
        Ok(())
    }
}

/// Calls into a subtask; a panic of user code becomes an error. The subtask is dropped after an error, never used again.
fn guarded<R>(subtask: &mut Subtask, act: impl FnOnce(&mut Subtask) -> Result<R, TaskError>) -> Result<R, TaskError> {
    let failed = match catch_unwind(AssertUnwindSafe(|| act(subtask))) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error,
        Err(panic) => TaskError::panicked(format_args!("subtask `{}`", subtask.label()), &*panic),
    };
    // The subtask may be in any state: whatever goes wrong here is not what is to be told.
    let position = catch_unwind(AssertUnwindSafe(|| subtask.position()));
    Err(match position {
        Ok(Some(position)) => failed.at(&position),
        Ok(None) | Err(_) => failed,
    })
}
