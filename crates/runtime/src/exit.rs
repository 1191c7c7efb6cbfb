//! Where records leave a subtask.

use streamd_exchange::Batch;
use streamd_exchange::element::Element;
use streamd_exchange::partition::{ResultPartition, SendError};

use crate::at_hand::AtHand;
use crate::chain::{ControlEvent, Link};
use crate::completions::Calls;
use crate::error::TaskError;
use crate::record::Record;

/// The end of a chain: an edge of the graph, to the subtasks of another vertex.
pub struct Exit<T> {
    partition: ResultPartition<T>,
    at_hand: AtHand,
}

impl<T: Record> Exit<T> {
    /// The exit into this partition.
    pub fn new(partition: ResultPartition<T>) -> Self {
        Self {
            partition,
            at_hand: AtHand::default(),
        }
    }
}

impl<T: Record> Link<T> for Exit<T> {
    fn process(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let sent = self.partition.emit(batch, &self.at_hand.origin());
        sent.map_err(|error| {
            // Records of earlier batches are sent as well.
            self.at_hand.take();
            send_failed(error)
        })
    }

    fn resume(&mut self) -> Result<bool, TaskError> {
        Ok(false)
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        let sent = match event {
            ControlEvent::Open(context) => {
                self.at_hand = context.at_hand.clone();
                Ok(())
            }
            ControlEvent::Flush => self.partition.flush(),
            ControlEvent::Barrier(barrier, _) => self.partition.control(Element::Barrier(barrier.clone())),
            ControlEvent::Watermark(watermark, _) => self.partition.control(Element::Watermark(*watermark)),
            ControlEvent::EndOfData => self.partition.control(Element::EndOfData),
            ControlEvent::ProcessingTime(_)
            | ControlEvent::Restore(_)
            | ControlEvent::Completed
            | ControlEvent::CheckpointComplete(_)
            | ControlEvent::Finish => Ok(()),
        };
        sent.map_err(send_failed)
    }

    fn has_room(&self) -> bool {
        self.partition.has_room()
    }

    fn calls(&self) -> Calls {
        Calls::None
    }
}

fn send_failed(error: SendError) -> TaskError {
    match &error {
        SendError::Lost { .. } => TaskError::neighbour_lost(format!(
            "records cannot be sent on: {}",
            streamd_core::error::chain(&error)
        )),
        SendError::Encode(_) => TaskError::user("records cannot be sent on", &error),
    }
}
