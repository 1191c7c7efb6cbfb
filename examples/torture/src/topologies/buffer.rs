//! Keeps records in a list of the subtask until there are enough: at every restore they are dealt out anew.

use streamd::prelude::*;

use crate::output::{Output, attempt};
use crate::record::Record;

/// How many records are kept at most.
const KEPT: usize = 64;

#[derive(Clone)]
struct Buffer {
    kept: OperatorListState<Record>,
}

impl Buffer {
    fn emit(&self, context: &mut ProcessContext<'_>, out: &mut Collector<'_, Output>) {
        let attempt = attempt(context.runtime_context());
        for record in self.kept.clear(context) {
            out.collect(Output {
                key: record.key,
                ordinal: 0,
                digest: record.canary,
                split: record.split,
                seq: record.seq as i64,
                watermark: None,
                attempt: attempt.clone(),
            });
        }
    }
}

impl ProcessFunction<Record, Output> for Buffer {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
        state.get_list_state(&mut self.kept)
    }

    fn process_element(
        &mut self,
        record: Record,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        self.kept.add(context, record);
        if self.kept.get(context).len() >= KEPT {
            self.emit(context, out);
        }
        Ok(())
    }

    fn end_of_input(
        &mut self,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        self.emit(context, out);
        Ok(())
    }
}

/// An output for each record.
pub fn buffer(records: &DataStream<Record>) -> DataStream<Output> {
    let buffer = Buffer {
        kept: OperatorListState::new("kept"),
    };
    records.rebalance().process(buffer).uid("buffer")
}
