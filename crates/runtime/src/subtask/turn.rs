//! What a subtask does in a turn: calls that have come back, the alarm, and some of its input.

use std::sync::atomic::Ordering;
use std::time::Duration;

use streamd_core::time::Watermark;
use streamd_exchange::element::Element;
use streamd_state::Restoring;

use super::{Subtask, Turn};
use crate::chain::ControlEvent;
use crate::completions::Calls;
use crate::counters::add;
use crate::error::TaskError;
use crate::head::Head;
use crate::valve::WatermarkValve;

/// Batches that a subtask takes in one turn: enough to make the loop's own cost vanish, few enough that the other subtasks
/// of the slot, which mostly wait for these very records, find them still in the cache.
const BATCHES_PER_TURN: usize = 4;

/// Turns after which held-back records are handed on although there is more to read: bounds the latency of rare output.
const TURNS_PER_FLUSH: u32 = 64;

/// Turns in which channels are passed over that are [ahead](crate::valve::WatermarkValve::is_ahead), before one in which they are
/// read as well. Their producers are held back by that, if the slot has other work that may bring the rest forward, and the slot goes
/// round in no time if it has none.
const TURNS_PASSED_OVER: u32 = 16;

/// How long a subtask that has nothing to do sleeps at most while the next rows of its state are on their way.
const RESTORE_WAIT: Duration = Duration::from_millis(1);

/// When the alarm goes off.
enum Rung {
    /// It is not set.
    Never,
    /// After this long.
    In(Duration),
    /// It has, and the operators have been told.
    Now,
}

impl Subtask {
    /// Does a bounded amount of work.
    pub fn turn(&mut self) -> Result<Turn, TaskError> {
        let completed = self.complete_calls()?;
        let rung = self.ring()?;
        let turn = match &mut self.head {
            Head::Source(_) => self.source_turn()?,
            Head::Input(..) => self.input_turn()?,
        };
        let turn = match (turn, rung) {
            (Turn::Waits(_) | Turn::NoRoom, Rung::Now) => Turn::Worked,
            (Turn::Waits(_) | Turn::NoRoom, _) if completed => Turn::Worked,
            (Turn::Waits(wait), Rung::In(left)) => Turn::Waits(wait.min(left)),
            (turn, _) => turn,
        };
        match turn {
            Turn::Worked if self.turns_since_flush < TURNS_PER_FLUSH => self.turns_since_flush += 1,
            Turn::Worked | Turn::Waits(_) if self.turns_since_flush > 0 => self.flush()?,
            Turn::Worked | Turn::Waits(_) | Turn::NoRoom => {}
        }
        match turn {
            Turn::Waits(wait) if self.restoring => self.restore_more(wait),
            Turn::Worked | Turn::Waits(_) | Turn::NoRoom => Ok(turn),
        }
    }

    /// Restores more of the state instead of waiting.
    fn restore_more(&mut self, wait: Duration) -> Result<Turn, TaskError> {
        let mut restoring = Restoring::Done;
        self.control(&mut ControlEvent::Restore(&mut restoring))?;
        self.restoring = restoring != Restoring::Done;
        Ok(match restoring {
            Restoring::Done => Turn::Waits(wait),
            Restoring::Waits => Turn::Waits(wait.min(RESTORE_WAIT)),
            Restoring::GoesOn => Turn::Worked,
        })
    }

    /// Tells the operators the time of day if they have asked for it.
    fn ring(&mut self) -> Result<Rung, TaskError> {
        let (Some(due), Some(clock)) = (self.alarm.due(), &self.clock) else {
            return Ok(Rung::Never);
        };
        if self.halted_at.is_some() {
            return Ok(Rung::Never);
        }
        let now = clock.wall();
        if !self.has_room() {
            // What is due may be much: it waits for room like everything else.
            return Ok(Rung::Never);
        }
        if now < due {
            let left = due.0.saturating_sub(now.0);
            return Ok(Rung::In(Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))));
        }
        self.alarm.clear();
        self.turns_since_flush += 1;
        self.control(&mut ControlEvent::ProcessingTime(now))?;
        Ok(Rung::Now)
    }

    /// Tells the operators that calls have come back. Answers whether any has.
    pub(super) fn complete_calls(&mut self) -> Result<bool, TaskError> {
        if self.halted_at.is_some() || !self.exits_have_room() || !self.completions.take() {
            return Ok(false);
        }
        self.turns_since_flush += 1;
        self.control(&mut ControlEvent::Completed)?;
        self.report_end();
        Ok(true)
    }

    /// Tells the operators what waits to be told of the event time, as far as there is room. Answers whether all is told.
    fn tell_watermarks(&mut self) -> Result<bool, TaskError> {
        if self.halted_at.is_some() {
            return Ok(true);
        }
        for _ in 0..BATCHES_PER_TURN {
            if self.busy {
                if !self.has_room() {
                    return Ok(false);
                }
                self.busy = match &mut self.head {
                    Head::Source(source) => source.resume()?,
                    Head::Input(_, first) => first.resume()?,
                };
                continue;
            }
            let Some(watermark) = self.watermarks.pop_front() else {
                return Ok(true);
            };
            if let Watermark::Time(time) = watermark {
                self.counters.watermark.store(time.0, Ordering::Relaxed);
            }
            let mut busy = false;
            self.control(&mut ControlEvent::Watermark(watermark, &mut busy))?;
            self.busy = busy;
        }
        Ok(!self.busy && self.watermarks.is_empty())
    }

    /// Whether there is room for what records and timers may become.
    fn has_room(&self) -> bool {
        self.exits_have_room() && self.calls() != Calls::Full
    }

    /// What a turn is that could do nothing for want of room. What is held back is handed on where it is calls that are waited for.
    fn without_room(&self) -> Turn {
        if self.exits_have_room() {
            Turn::Waits(Duration::MAX)
        } else {
            Turn::NoRoom
        }
    }

    fn exits_have_room(&self) -> bool {
        match &self.head {
            Head::Source(source) => source.has_room(),
            Head::Input(_, first) => first.has_room(),
        }
    }

    pub(super) fn calls(&self) -> Calls {
        match &self.head {
            Head::Source(source) => source.calls(),
            Head::Input(_, first) => first.calls(),
        }
    }

    fn source_turn(&mut self) -> Result<Turn, TaskError> {
        let Head::Source(source) = &mut self.head else {
            return Ok(Turn::Waits(Duration::MAX));
        };
        if self.input_ended || self.halted_at.is_some() {
            return Ok(Turn::Waits(Duration::MAX));
        }
        let mut records = 0;
        for _ in 0..BATCHES_PER_TURN {
            if !source.has_room() {
                return Ok(Turn::NoRoom);
            }
            if source.calls() == Calls::Full {
                return Ok(Turn::Waits(Duration::MAX));
            }
            if source.is_held() {
                // Who holds it has set the alarm. What it has read goes on.
                self.turns_since_flush += u32::from(records > 0);
                return Ok(Turn::Waits(Duration::MAX));
            }
            let done = source.poll()?;
            records += done.records;
            add(&self.counters.records_in, done.records);
            if done.ended {
                self.end_of_data()?;
                return Ok(Turn::Worked);
            }
            if !done.wait.is_zero() {
                // A reader may say that it has nothing more one poll after its records: these must not wait for it.
                self.turns_since_flush += u32::from(records > 0);
                return Ok(Turn::Waits(done.wait));
            }
        }
        Ok(Turn::Worked)
    }

    fn input_turn(&mut self) -> Result<Turn, TaskError> {
        // A barrier behind a channel's records is waited for by the others.
        let in_step = self.turns_passed_over < TURNS_PASSED_OVER && !self.aligner.is_aligning();
        let mut passed_over = false;
        let turn = self.read_input(|valve, channel| {
            let is_ahead = in_step && valve.is_ahead(channel);
            passed_over |= is_ahead;
            is_ahead
        })?;
        self.turns_passed_over = if passed_over { self.turns_passed_over + 1 } else { 0 };
        Ok(match turn {
            Turn::Waits(_) if passed_over => Turn::Worked,
            turn => turn,
        })
    }

    /// Reads some elements, but not of those channels for which the predicate holds.
    fn read_input(
        &mut self,
        mut is_passed_over: impl FnMut(&mut WatermarkValve, usize) -> bool,
    ) -> Result<Turn, TaskError> {
        for taken in 0..BATCHES_PER_TURN {
            if (self.busy || !self.watermarks.is_empty()) && !self.tell_watermarks()? {
                return Ok(if self.has_room() {
                    Turn::Worked
                } else {
                    self.without_room()
                });
            }
            let Head::Input(gate, first) = &mut self.head else {
                break;
            };
            if !first.has_room() || first.calls() == Calls::Full {
                return Ok(if taken == 0 { self.without_room() } else { Turn::Worked });
            }
            let valve = &mut self.valve;
            let Some((channel, element)) = gate.poll_unless(|channel| is_passed_over(valve, channel)) else {
                return match gate.failed() {
                    Some(_) => Err(TaskError::neighbour_lost(
                        "the connection to an upstream subtask was lost",
                    )),
                    None if taken == 0 => Ok(Turn::Waits(Duration::MAX)),
                    None => Ok(Turn::Worked),
                };
            };
            match element {
                Element::Records { payload, count, origin } => {
                    self.at_hand.put(origin);
                    let spare = first.receive(payload)?;
                    self.at_hand.take();
                    if let Some(buffer) = spare {
                        gate.recycle(channel, buffer);
                    }
                    self.valve.on_records(channel, count);
                    add(&self.counters.records_in, u64::from(count));
                }
                Element::Watermark(watermark) => {
                    self.watermarks.extend(self.valve.on_watermark(channel, watermark));
                    self.turns_since_flush += u32::from(!self.watermarks.is_empty());
                    self.tell_watermarks()?;
                }
                Element::Barrier(barrier) => self.on_barrier(channel, barrier)?,
                Element::EndOfData => self.on_channel_ended()?,
            }
        }
        Ok(Turn::Worked)
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        if self.halted_at.is_some() {
            // The records were flushed in front of the barrier, and what is said of the time behind it would fire timers.
            return Ok(());
        }
        self.turns_since_flush = 0;
        self.control(&mut ControlEvent::Flush)
    }
}
