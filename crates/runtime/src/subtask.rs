//! One subtask: a head that brings records in, the chain behind it, and the barriers in between.
//!
//! Driven by the loop of its slot, never blocking: a turn does a bounded amount of work and says what it waits for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use streamd_core::barrier::{AfterBarrier, Barrier};
use streamd_core::id::{CheckpointId, SubtaskId};
use streamd_core::time::{Clock, EventTime, Watermark};

use crate::alarm::Alarm;
use crate::at_hand::AtHand;
use crate::barrier::{Alignment, BarrierAligner};
use crate::chain::{ControlEvent, OpenContext, OperatorSnapshot};
use crate::completions::{Calls, Completions};
use crate::counters::{SubtaskCounters, add};
use crate::error::TaskError;
use crate::head::Head;
use crate::valve::WatermarkValve;

mod turn;

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Some work; there may be more.
    Worked,
    /// There was nothing to do; ask again after this long, or when woken.
    Waits(Duration),
    /// There may be input but an exit has no room: ask again when woken.
    NoRoom,
}

/// What a subtask tells the world while it works.
pub trait SubtaskReporter: Send {
    /// The subtask's part of a snapshot is cut; it is to be written and acknowledged.
    fn on_cut(&self, subtask: SubtaskId, barrier: &Barrier, operators: Vec<OperatorSnapshot>);

    /// The subtask has emitted everything.
    fn on_end_of_data(&self, subtask: SubtaskId);
}

/// A subtask that is built.
pub struct Subtask {
    id: SubtaskId,
    name: Arc<str>,
    head: Head,
    aligner: BarrierAligner,
    valve: WatermarkValve,
    /// What the operators are still to be told of the event time, before anything else.
    watermarks: VecDeque<Watermark>,
    /// Whether what a watermark has set free is not all handed on.
    busy: bool,
    at_hand: AtHand,
    alarm: Alarm,
    completions: Completions,
    clock: Option<Arc<dyn Clock>>,
    channels_ended: usize,
    counters: Arc<SubtaskCounters>,
    reporter: Box<dyn SubtaskReporter>,
    /// The barrier behind which the subtask emits nothing.
    halted_at: Option<CheckpointId>,
    input_ended: bool,
    /// Whether the end was told to the operators, and is still to be reported: calls have not come back.
    ending: bool,
    turns_since_flush: u32,
    /// Turns in a row in which a channel was passed over that is ahead of the others.
    turns_passed_over: u32,
    /// Whether some of the state may still be in the snapshot.
    restoring: bool,
    last_turn: Turn,
}

impl Subtask {
    /// A subtask with this head. `name` is its vertex's, for messages.
    pub fn new(id: SubtaskId, name: Arc<str>, head: Head, reporter: Box<dyn SubtaskReporter>) -> Self {
        let channels = match &head {
            Head::Source(_) => 0,
            Head::Input(gate, _) => gate.channels(),
        };
        Self {
            id,
            name,
            head,
            aligner: BarrierAligner::new(channels),
            valve: WatermarkValve::new(channels),
            watermarks: VecDeque::new(),
            busy: false,
            at_hand: AtHand::default(),
            alarm: Alarm::default(),
            completions: Completions::default(),
            clock: None,
            channels_ended: 0,
            counters: Arc::default(),
            reporter,
            halted_at: None,
            input_ended: false,
            ending: false,
            turns_since_flush: 0,
            turns_passed_over: 0,
            restoring: false,
            last_turn: Turn::Waits(Duration::ZERO),
        }
    }

    /// Which subtask it is.
    pub fn id(&self) -> SubtaskId {
        self.id
    }

    /// How messages call it: the vertex's name and the subtask's number, from 1.
    pub fn label(&self) -> String {
        format!("{} ({})", self.name, self.id.index + 1)
    }

    /// What it was at when it failed: where the records come from that it was working on, if that is known.
    pub(crate) fn position(&self) -> Option<String> {
        let origin = self.at_hand.origin();
        if !origin.is_known() {
            return None;
        }
        let found = match &self.head {
            Head::Source(source) if !origin.is_exact() => source.position(),
            Head::Source(_) | Head::Input(..) => None,
        };
        Some(found.unwrap_or_else(|| format!("while processing a record of {origin}")))
    }

    /// Adds what a turn took to its counters.
    pub(crate) fn count_turn(&mut self, turn: Turn, nanos: u64) {
        self.last_turn = turn;
        match turn {
            Turn::Worked => add(&self.counters.busy_ns, nanos),
            Turn::NoRoom => add(&self.counters.backpressured_ns, nanos),
            Turn::Waits(_) => {}
        }
    }

    /// Adds the time that its slot slept after its last turn.
    pub(crate) fn count_sleep(&self, nanos: u64) {
        if self.last_turn == Turn::NoRoom {
            add(&self.counters.backpressured_ns, nanos);
        }
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<SubtaskCounters> {
        Arc::clone(&self.counters)
    }

    /// Restores state and gets every operator ready.
    pub fn open(&mut self, context: &mut OpenContext) -> Result<(), TaskError> {
        self.at_hand = context.at_hand.clone();
        self.alarm = context.alarm.clone();
        self.completions = context.completions.clone();
        self.clock = Some(Arc::clone(&context.clock));
        self.restoring = !context.state.is_empty();
        context.late_dropped = self.counters.late_dropped.clone();
        self.control(&mut ControlEvent::Open(context))?;
        match context.state.first_key_value() {
            None => Ok(()),
            Some((operator, _)) => Err(TaskError::internal(format!(
                "state of operator {operator} was sent to a subtask that does not run it"
            ))),
        }
    }

    /// Sources: emits the barrier of a snapshot.
    pub fn trigger(&mut self, barrier: &Barrier) -> Result<(), TaskError> {
        match self.head {
            Head::Source(_) => self.cut(barrier),
            Head::Input(..) => Ok(()),
        }
    }

    /// The checkpoint is complete: sinks commit.
    pub fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<(), TaskError> {
        self.control(&mut ControlEvent::CheckpointComplete(checkpoint))
    }

    /// The checkpoint is given up: whatever waits for it goes on.
    pub fn checkpoint_aborted(&mut self, checkpoint: CheckpointId) {
        if self.halted_at == Some(checkpoint) {
            self.halted_at = None;
        }
        if let Head::Input(gate, _) = &mut self.head
            && self.aligner.on_aborted(checkpoint)
        {
            gate.unblock_all();
        }
    }

    /// Sources: ends the input here.
    pub fn drain(&mut self) -> Result<(), TaskError> {
        match self.head {
            Head::Source(_) if !self.input_ended => self.end_of_data(),
            Head::Source(_) | Head::Input(..) => Ok(()),
        }
    }

    /// Everything is over and well: commits what needs no checkpoint.
    pub fn finish(&mut self) -> Result<(), TaskError> {
        self.control(&mut ControlEvent::Finish)
    }

    fn on_barrier(&mut self, channel: usize, barrier: Barrier) -> Result<(), TaskError> {
        match self.aligner.on_barrier(channel, barrier) {
            Alignment::Ignore | Alignment::Wait => {}
            Alignment::Block => {
                if let Head::Input(gate, _) = &mut self.head {
                    gate.block(channel);
                }
            }
            Alignment::Cut(barrier) => {
                self.cut(&barrier)?;
                if let Head::Input(gate, _) = &mut self.head {
                    gate.unblock_all();
                }
            }
        }
        Ok(())
    }

    fn on_channel_ended(&mut self) -> Result<(), TaskError> {
        self.channels_ended += 1;
        let Head::Input(gate, _) = &self.head else {
            return Ok(());
        };
        if self.channels_ended == gate.channels() {
            self.end_of_data()?;
        }
        Ok(())
    }

    fn cut(&mut self, barrier: &Barrier) -> Result<(), TaskError> {
        if barrier.options.sources == AfterBarrier::Halt {
            // Neither sources emit anything, nor timers, nor calls that come back: it would be committed with the snapshot, and
            // again by whoever starts from it.
            self.halted_at = Some(barrier.checkpoint);
        }
        let mut operators = Vec::new();
        self.control(&mut ControlEvent::Barrier(barrier, &mut operators))?;
        self.reporter.on_cut(self.id, barrier, operators);
        Ok(())
    }

    fn end_of_data(&mut self) -> Result<(), TaskError> {
        self.input_ended = true;
        if let Head::Source(source) = &mut self.head {
            // Time has come to its end as well: whatever waited for it is set free, here and downstream.
            let mut busy = false;
            source.control(&mut ControlEvent::Watermark(Watermark::Time(EventTime::MAX), &mut busy))?;
            while busy {
                busy = source.resume()?;
            }
        }
        self.control(&mut ControlEvent::EndOfData)?;
        self.ending = true;
        self.report_end();
        Ok(())
    }

    /// Says that everything is emitted, once it is.
    fn report_end(&mut self) {
        if self.ending && self.calls() == Calls::None {
            self.ending = false;
            self.reporter.on_end_of_data(self.id);
        }
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        match &mut self.head {
            Head::Source(source) => source.control(event),
            Head::Input(_, first) => first.control(event),
        }
    }
}

#[cfg(test)]
#[path = "subtask_tests.rs"]
mod tests;
