//! A second step with state in the chain of the first: counts what goes by, over all subtasks and restores.

use streamd::prelude::*;

use crate::output::{Output, attempt};

/// The key of the outputs that say how many others there were. No record has it.
const TOTAL: u64 = u64::MAX;

#[derive(Clone)]
struct Total {
    /// How many went by: one number for each subtask, and after a restore perhaps several, or none.
    gone_by: OperatorListState<u64>,
}

impl ProcessFunction<Output, Output> for Total {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
        state.get_list_state(&mut self.gone_by)
    }

    fn process_element(
        &mut self,
        output: Output,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        match self.gone_by.get_mut(context).first_mut() {
            Some(count) => *count += 1,
            None => self.gone_by.add(context, 1),
        }
        out.collect(output);
        Ok(())
    }

    fn end_of_input(
        &mut self,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        out.collect(Output {
            key: TOTAL,
            ordinal: self.gone_by.clear(context).iter().sum(),
            digest: 0,
            split: 0,
            seq: 0,
            watermark: None,
            attempt: attempt(context.runtime_context()),
        });
        Ok(())
    }
}

/// The outputs, and at the end of each subtask how many there were.
pub fn chain(outputs: &DataStream<Output>) -> DataStream<Output> {
    let total = Total {
        gone_by: OperatorListState::new("gone by"),
    };
    outputs.process(total).uid("total")
}
