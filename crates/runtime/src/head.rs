//! What brings records into a chain: a source, or the channels from other subtasks.

use std::any::Any;
use std::time::Duration;

use streamd_core::source::Source;
use streamd_exchange::Batch;
use streamd_exchange::element::Payload;
use streamd_exchange::gate::InputGate;
use streamd_exchange::receive_into;

use crate::chain::{ControlEvent, Link};
use crate::completions::Calls;
use crate::error::TaskError;
use crate::operator::SourceHead;
use crate::record::Record;

/// What brings records into a chain.
pub enum Head {
    /// A source.
    Source(Box<dyn SourceTask>),
    /// The channels from other subtasks.
    Input(InputGate, Box<dyn InputTask>),
}

/// A source without its types.
pub trait SourceTask: Send {
    /// Reads one batch and pushes it down the chain.
    fn poll(&mut self) -> Result<SourceTurn, TaskError>;

    /// Handles a control event, and passes it on.
    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError>;

    /// Goes on with a watermark; see [`Link::resume`].
    fn resume(&mut self) -> Result<bool, TaskError>;

    /// Whether every exit has room.
    fn has_room(&self) -> bool;

    /// How many calls of its operators have not come back.
    fn calls(&self) -> Calls;

    /// Whether an operator of the chain wants it to wait.
    fn is_held(&self) -> bool;

    /// Where the records come from that are on their way down the chain, if there are any.
    fn position(&self) -> Option<String>;
}

/// What one poll of a source did.
#[derive(Debug, Clone, Copy)]
pub struct SourceTurn {
    /// Records read.
    pub records: u64,
    /// How long nothing more will come: zero if there may be more at once.
    pub wait: Duration,
    /// Whether the source is read to its end.
    pub ended: bool,
}

impl<S: Source> SourceTask for SourceHead<S>
where
    S::Out: Record,
{
    fn poll(&mut self) -> Result<SourceTurn, TaskError> {
        Self::poll(self)
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        Self::control(self, event)
    }

    fn resume(&mut self) -> Result<bool, TaskError> {
        Self::resume(self)
    }

    fn has_room(&self) -> bool {
        Self::has_room(self)
    }

    fn calls(&self) -> Calls {
        Self::calls(self)
    }

    fn is_held(&self) -> bool {
        Self::is_held(self)
    }

    fn position(&self) -> Option<String> {
        Self::position(self)
    }
}

/// The first operator of a chain fed by channels, without its type.
pub trait InputTask: Send {
    /// Processes a batch. Returns the emptied buffer where it is one that the producer can use again.
    fn receive(&mut self, payload: Payload) -> Result<Option<Box<dyn Any + Send>>, TaskError>;

    /// Handles a control event, and passes it on.
    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError>;

    /// Goes on with a watermark; see [`Link::resume`].
    fn resume(&mut self) -> Result<bool, TaskError>;

    /// Whether every exit has room.
    fn has_room(&self) -> bool;

    /// How many calls of its operators have not come back.
    fn calls(&self) -> Calls;
}

/// The head of a chain whose first operator takes `T`.
pub struct InputHead<T> {
    first: Box<dyn Link<T>>,
    batch: Batch<T>,
}

impl<T: Record> InputHead<T> {
    /// The head before this operator.
    pub fn new(first: Box<dyn Link<T>>) -> Self {
        Self {
            first,
            batch: Batch::new(),
        }
    }
}

impl<T: Record> InputTask for InputHead<T> {
    fn receive(&mut self, payload: Payload) -> Result<Option<Box<dyn Any + Send>>, TaskError> {
        let spare = receive_into(payload, &mut self.batch);
        let spare = spare.map_err(|error| TaskError::external("a batch of records cannot be read", &error))?;
        self.first.process(&mut self.batch)?;
        self.batch.clear();
        Ok(spare)
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        self.first.control(event)
    }

    fn resume(&mut self) -> Result<bool, TaskError> {
        self.first.resume()
    }

    fn has_room(&self) -> bool {
        self.first.has_room()
    }

    fn calls(&self) -> Calls {
        self.first.calls()
    }
}
