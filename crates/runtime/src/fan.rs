//! Where the output of an operator goes within its subtask.

use streamd_exchange::Batch;

use crate::chain::{AnyLink, ControlEvent, Link};
use crate::completions::Calls;
use crate::error::TaskError;
use crate::record::Record;

/// The consumers of one operator's output within the subtask: none for a sink, one as a rule, several where the stream forks.
pub struct Fan<T> {
    links: Vec<Box<dyn Link<T>>>,
    copy: Batch<T>,
}

impl<T: Record> Fan<T> {
    /// The consumers, given without their type.
    pub fn new(links: Vec<AnyLink>) -> Result<Self, TaskError> {
        let links = links.into_iter().map(AnyLink::downcast).collect::<Result<_, _>>()?;
        Ok(Self {
            links,
            copy: Batch::new(),
        })
    }

    /// Hands the batch to every consumer; it is empty afterwards.
    #[inline]
    pub fn process(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        if batch.is_empty() {
            return Ok(());
        }
        if let Some((last, others)) = self.links.split_last_mut() {
            for link in others {
                self.copy.copy_from(batch);
                link.process(&mut self.copy)?;
            }
            last.process(batch)?;
        }
        batch.clear();
        Ok(())
    }

    /// Passes a control event to every consumer.
    pub fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        self.links.iter_mut().try_for_each(|link| link.control(event))
    }

    /// Goes on with a watermark; see [`Link::resume`].
    pub fn resume(&mut self) -> Result<bool, TaskError> {
        let mut busy = false;
        for link in &mut self.links {
            busy |= link.resume()?;
        }
        Ok(busy)
    }

    /// Whether every consumer has room.
    pub fn has_room(&self) -> bool {
        self.links.iter().all(|link| link.has_room())
    }

    /// How many calls of the consumers have not come back.
    pub fn calls(&self) -> Calls {
        self.links.iter().map(|link| link.calls()).fold(Calls::None, Calls::max)
    }
}
