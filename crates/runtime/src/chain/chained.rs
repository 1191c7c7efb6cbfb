//! An operator as a step of a chain: what it is told, and where its output goes.

use streamd_core::time::{EventTime, Watermark};
use streamd_exchange::Batch;

use super::{ControlEvent, Link, Operator, OperatorIdentity, Outputs};
use crate::at_hand::AtHand;
use crate::completions::Calls;
use crate::error::TaskError;
use crate::fan::Fan;
use crate::record::Record;
use crate::side_output::SideLink;

/// An operator with what follows it.
pub struct Chained<O, Out> {
    identity: OperatorIdentity,
    operator: O,
    output: Batch<Out>,
    next: Fan<Out>,
    sides: Vec<Box<dyn SideLink>>,
    at_hand: AtHand,
    /// A watermark of which the operator has not emitted everything yet.
    pending: Option<EventTime>,
    /// Whether the input has ended and the operator, which waits for calls, was not told yet.
    ending: bool,
}

impl<O, Out> Chained<O, Out> {
    /// Links an operator to the consumers of its output and of its side outputs.
    pub fn new(identity: OperatorIdentity, operator: O, outputs: Outputs) -> Result<Self, TaskError>
    where
        Out: Record,
    {
        Ok(Self {
            identity,
            operator,
            output: Batch::new(),
            next: Fan::new(outputs.main)?,
            sides: outputs.sides,
            at_hand: AtHand::default(),
            pending: None,
            ending: false,
        })
    }

    /// Hands on what the operator has emitted of the batch at hand.
    #[inline]
    fn hand_on_processed<In>(&mut self) -> Result<(), TaskError>
    where
        In: 'static,
        Out: Record,
        O: Operator<In, Out>,
    {
        if !self.operator.holds_back() {
            return self.hand_on::<In>();
        }
        let origin = self.at_hand.take();
        self.hand_on::<In>()?;
        self.at_hand.put(origin);
        Ok(())
    }

    /// Hands on what the operator has emitted.
    #[inline]
    fn hand_on<In>(&mut self) -> Result<(), TaskError>
    where
        In: 'static,
        Out: Record,
        O: Operator<In, Out>,
    {
        self.next.process(&mut self.output)?;
        if let Some(outputs) = self.operator.side_outputs() {
            self.sides.iter_mut().try_for_each(|side| side.take_from(outputs))?;
            outputs.clear();
        }
        Ok(())
    }

    /// Tells the consumers what the operator has to say of its own output.
    fn tell_own_watermarks<In>(&mut self) -> Result<(), TaskError>
    where
        In: 'static,
        Out: Record,
        O: Operator<In, Out>,
    {
        while let Some(watermark) = self.operator.own_watermark() {
            self.tell(watermark)?;
        }
        Ok(())
    }

    /// Passes a watermark on, and waits for the consumers to be done with it. What it sets free is not of the records at hand.
    fn tell(&mut self, watermark: Watermark) -> Result<(), TaskError>
    where
        Out: Record,
    {
        let origin = self.at_hand.take();
        let mut busy = false;
        self.control_next(&mut ControlEvent::Watermark(watermark, &mut busy))?;
        while busy {
            busy = self.next.resume()?;
            for side in &mut self.sides {
                busy |= side.resume()?;
            }
        }
        self.at_hand.put(origin);
        Ok(())
    }

    fn control_next(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError>
    where
        Out: Record,
    {
        self.next.control(event)?;
        self.sides.iter_mut().try_for_each(|side| side.control(event))
    }

    /// Tells the operator that its input has ended.
    fn end<In>(&mut self) -> Result<(), TaskError>
    where
        In: 'static,
        Out: Record,
        O: Operator<In, Out>,
    {
        self.operator.end_of_data(&mut self.output)?;
        self.hand_on::<In>()
    }

    /// Emits some of what a time has set free. Answers whether more is left.
    fn advance<In>(&mut self, time: EventTime) -> Result<bool, TaskError>
    where
        In: 'static,
        Out: Record,
        O: Operator<In, Out>,
    {
        let done = self.operator.event_time(time, &mut self.output)?;
        self.hand_on::<In>()?;
        self.pending = (!done).then_some(time);
        if done && let Some(watermark) = self.operator.forward(Watermark::Time(time)) {
            self.tell(watermark)?;
        }
        Ok(!done)
    }
}

impl<In, Out, O> Link<In> for Chained<O, Out>
where
    In: Send + 'static,
    Out: Record,
    O: Operator<In, Out>,
{
    fn process(&mut self, batch: &mut Batch<In>) -> Result<(), TaskError> {
        loop {
            self.operator.process(batch, &mut self.output)?;
            self.hand_on_processed::<In>()?;
            self.tell_own_watermarks::<In>()?;
            if batch.is_empty() {
                return Ok(());
            }
        }
    }

    fn resume(&mut self) -> Result<bool, TaskError> {
        match self.pending {
            Some(time) => self.advance::<In>(time),
            None => Ok(false),
        }
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        match event {
            ControlEvent::Open(context) => {
                // What an operator takes out is missing behind it, and not in the other branches of the chain.
                let source = context.source.clone();
                self.at_hand = context.at_hand.clone();
                self.operator.open(&self.identity, context)?;
                self.control_next(&mut ControlEvent::Open(context))?;
                context.source = source;
                return Ok(());
            }
            ControlEvent::Flush => {
                self.operator.flush()?;
                self.tell_own_watermarks::<In>()?;
            }
            ControlEvent::Watermark(Watermark::Time(time), busy) => {
                **busy |= self.advance::<In>(*time)?;
                return Ok(());
            }
            ControlEvent::Watermark(watermark, _) => {
                return match self.operator.forward(*watermark) {
                    Some(watermark) => self.tell(watermark),
                    None => Ok(()),
                };
            }
            ControlEvent::ProcessingTime(now) => {
                self.operator.processing_time(*now, &mut self.output)?;
                self.hand_on::<In>()?;
                self.tell_own_watermarks::<In>()?;
            }
            ControlEvent::Restore(restoring) => **restoring = self.operator.restore_more()?.max(**restoring),
            ControlEvent::Barrier(barrier, snapshots) => {
                snapshots.extend(self.operator.snapshot(&self.identity, barrier)?);
            }
            ControlEvent::Completed => {
                self.operator.completed(&mut self.output)?;
                self.hand_on::<In>()?;
                self.tell_own_watermarks::<In>()?;
                if self.ending && self.operator.calls() == Calls::None {
                    self.ending = false;
                    self.end::<In>()?;
                    self.control_next(&mut ControlEvent::EndOfData)?;
                }
            }
            ControlEvent::EndOfData if self.operator.calls() != Calls::None => {
                self.ending = true;
                return Ok(());
            }
            ControlEvent::EndOfData => self.end::<In>()?,
            ControlEvent::CheckpointComplete(checkpoint) => self.operator.checkpoint_complete(*checkpoint)?,
            ControlEvent::Finish => self.operator.finish()?,
        }
        self.control_next(event)
    }

    fn has_room(&self) -> bool {
        self.next.has_room() && self.sides.iter().all(|side| side.has_room())
    }

    fn calls(&self) -> Calls {
        let own = self.operator.calls();
        let behind = self
            .sides
            .iter()
            .map(|side| side.calls())
            .fold(self.next.calls(), Calls::max);
        let ending = if self.ending { Calls::Some } else { Calls::None };
        own.max(behind).max(ending)
    }
}
