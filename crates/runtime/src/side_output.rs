//! Side outputs: streams beside the main one, of types of their own.

use std::any::Any;

use streamd_core::time::EventTime;
use streamd_exchange::Batch;

use crate::chain::{AnyLink, ControlEvent};
use crate::completions::Calls;
use crate::error::TaskError;
use crate::fan::Fan;
use crate::record::Record;

/// Names a side output of records of type `T`. Flink's noun.
#[derive(Debug)]
pub struct OutputTag<T> {
    id: &'static str,
    record: std::marker::PhantomData<fn() -> T>,
}

// By hand: a derive would ask `T: Clone`.
impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OutputTag<T> {}

impl<T> OutputTag<T> {
    /// The side output of this name. Two tags of one name are the same output, and must have the same type.
    pub const fn new(id: &'static str) -> Self {
        Self {
            id,
            record: std::marker::PhantomData,
        }
    }

    /// Its name.
    pub fn id(&self) -> &'static str {
        self.id
    }
}

/// What an operator has emitted on the side, until it is handed on. A record for a side output that nobody consumes is dropped
/// at once.
#[derive(Default)]
pub struct SideOutputs {
    batches: Vec<(&'static str, Box<dyn AnyBatch>)>,
}

/// A batch of records of some type.
trait AnyBatch: Send {
    fn clear(&mut self);
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: Record> AnyBatch for Batch<T> {
    fn clear(&mut self) {
        Self::clear(self);
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl SideOutputs {
    /// Emits a record. Errors if the same name was used with another type.
    pub fn emit<T: Record>(&mut self, tag: &OutputTag<T>, record: T, timestamp: EventTime) -> Result<(), TaskError> {
        let position = self.batches.iter().position(|(id, _)| *id == tag.id);
        let position = position.unwrap_or_else(|| {
            self.batches.push((tag.id, Box::new(Batch::<T>::new())));
            self.batches.len() - 1
        });
        match self.batches[position].1.as_any().downcast_mut::<Batch<T>>() {
            Some(batch) => {
                batch.push(record, timestamp);
                Ok(())
            }
            None => Err(wrong_type::<T>(tag.id)),
        }
    }

    /// What was emitted to a side output.
    pub(crate) fn take<T: Record>(&mut self, tag: &OutputTag<T>) -> Vec<T> {
        let batch = self.batch::<T>(tag.id).ok().flatten();
        batch.map(std::mem::take).unwrap_or_default().into_records()
    }

    /// Forgets what nobody has taken.
    pub(crate) fn clear(&mut self) {
        self.batches.iter_mut().for_each(|(_, batch)| batch.clear());
    }

    fn batch<T: Record>(&mut self, id: &str) -> Result<Option<&mut Batch<T>>, TaskError> {
        let Some((_, batch)) = self.batches.iter_mut().find(|(known, _)| *known == id) else {
            return Ok(None);
        };
        batch
            .as_any()
            .downcast_mut()
            .map(Some)
            .ok_or_else(|| wrong_type::<T>(id))
    }
}

fn wrong_type<T>(id: &str) -> TaskError {
    TaskError::internal(format!(
        "side output `{id}` carries other records than `{}`: give outputs of two types two names",
        std::any::type_name::<T>()
    ))
}

/// The consumers of one side output, without their type.
pub trait SideLink: Send {
    /// Hands on what the operator has emitted for them.
    fn take_from(&mut self, outputs: &mut SideOutputs) -> Result<(), TaskError>;

    /// As for [`Link::control`](crate::chain::Link::control).
    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError>;

    /// As for [`Link::resume`](crate::chain::Link::resume).
    fn resume(&mut self) -> Result<bool, TaskError>;

    /// As for [`Link::has_room`](crate::chain::Link::has_room).
    fn has_room(&self) -> bool;

    /// As for [`Link::calls`](crate::chain::Link::calls).
    fn calls(&self) -> Calls;
}

struct SideFan<T> {
    id: String,
    next: Fan<T>,
}

/// The consumers of a side output of records of type `T`.
pub fn side_link<T: Record>(id: &str, consumers: Vec<AnyLink>) -> Result<Box<dyn SideLink>, TaskError> {
    Ok(Box::new(SideFan::<T> {
        id: id.to_owned(),
        next: Fan::new(consumers)?,
    }))
}

impl<T: Record> SideLink for SideFan<T> {
    fn take_from(&mut self, outputs: &mut SideOutputs) -> Result<(), TaskError> {
        match outputs.batch::<T>(&self.id)? {
            Some(batch) => self.next.process(batch),
            None => Ok(()),
        }
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        self.next.control(event)
    }

    fn resume(&mut self) -> Result<bool, TaskError> {
        self.next.resume()
    }

    fn has_room(&self) -> bool {
        self.next.has_room()
    }

    fn calls(&self) -> Calls {
        self.next.calls()
    }
}
