//! State that writers of sinks keep beside their committables.

use std::sync::{Arc, Mutex};

use streamd_core::graph::{Guarantee, StateDescriptor};
use streamd_core::sink::{NoCommit, Sink, SinkContext, SinkWriter};
use streamd_core::snapshot::ListState;
use streamd_core::source::ConnectorError;
use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::operator::SinkOperator;

const WAITING: &str = "waiting";

/// Sends numbers off in parcels of four; what is in no parcel yet waits in state.
#[derive(Clone)]
struct Parcels(Arc<Mutex<Vec<Vec<u64>>>>);

struct Packer {
    sent: Arc<Mutex<Vec<Vec<u64>>>>,
    waiting: Vec<u64>,
}

impl Sink for Parcels {
    type In = u64;
    type Committable = NoCommit;
    type Writer = Packer;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer_states(&self) -> Vec<StateDescriptor> {
        vec![StateDescriptor::list::<u64>(WAITING)]
    }

    fn writer(&self, _: &SinkContext) -> Result<Packer, ConnectorError> {
        Ok(Packer {
            sent: Arc::clone(&self.0),
            waiting: Vec::new(),
        })
    }

    fn commit(&self, _: &[NoCommit]) -> Result<(), ConnectorError> {
        Ok(())
    }
}

impl SinkWriter for Packer {
    type In = u64;
    type Committable = NoCommit;

    fn restore_state(&mut self, lists: &[ListState]) -> Result<(), ConnectorError> {
        for list in lists.iter().filter(|list| list.name == WAITING) {
            let waiting = list
                .read()
                .map_err(|error| ConnectorError::caused("what waits cannot be read", error))?;
            self.waiting.extend::<Vec<u64>>(waiting);
        }
        Ok(())
    }

    fn snapshot_state(&mut self) -> Vec<ListState> {
        vec![ListState::of(WAITING, &self.waiting)]
    }

    fn write(&mut self, batch: &mut Vec<u64>) -> Result<(), ConnectorError> {
        for number in batch.drain(..) {
            self.waiting.push(number);
            if self.waiting.len() == 4 {
                self.sent.lock().unwrap().push(std::mem::take(&mut self.waiting));
            }
        }
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<NoCommit>, ConnectorError> {
        Ok(Vec::new())
    }
}

#[test]
fn what_waits_in_a_writer_is_dealt_out_to_the_writers_after_a_restore() {
    for savepoint in [true, false] {
        let sink = Parcels(Arc::default());
        let states = sink.writer_states();
        let make = |index, of| {
            let harness = OperatorTestHarness::<_, u64, ()>::new(SinkOperator::new(sink.clone()));
            harness.subtask(index, of).declare(&states)
        };
        let mut first = make(0, 1);
        (0..7).for_each(|number| first.process_element(number, None).unwrap());
        let snapshot = match savepoint {
            true => first.savepoint(1).unwrap(),
            false => first.snapshot(1).unwrap(),
        };
        // 4, 5 and 6 wait: one goes to the first writer, two to the second.
        for index in 0..2 {
            let mut second = make(index, 2).restore(std::slice::from_ref(&snapshot));
            (10..13).for_each(|number| second.process_element(number, None).unwrap());
        }
        let sent = std::mem::take(&mut *sink.0.lock().unwrap());
        assert_eq!(sent, [[0, 1, 2, 3], [4, 10, 11, 12], [5, 6, 10, 11]]);
    }
}
