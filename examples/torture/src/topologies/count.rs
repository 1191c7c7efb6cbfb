//! Numbers the records of each key: a lost record leaves a gap in its key's ordinals, a doubled one a digest that nobody else gets.

use streamd::prelude::*;

use crate::output::{Output, attempt, watermark};
use crate::record::{Record, digest};

#[derive(Debug, Clone, Default, State)]
struct Counted {
    ordinal: u64,
    digest: u64,
    /// Dead weight, which is looked at.
    ballast: Vec<u8>,
}

#[derive(Clone)]
struct Count {
    counted: ValueState<Counted>,
    state_bytes: usize,
}

impl KeyedProcessFunction<u64, Record, Output> for Count {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        state.register(&mut self.counted)
    }

    fn process_element(
        &mut self,
        record: Record,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        let time = context.timer_service().current_watermark();
        let attempt = attempt(context.runtime_context());
        let weight = record.key as u8;
        let counted = self.counted.get_or_default(context);
        if counted.ordinal == 0 {
            counted.ballast = vec![weight; self.state_bytes];
        }
        let whole = counted.ballast.iter().all(|byte| *byte == weight);
        assert!(whole, "the ballast of key {} is not what it was", record.key);
        counted.ordinal += 1;
        counted.digest = digest(counted.digest, record.canary);
        out.collect(Output {
            key: record.key,
            ordinal: counted.ordinal,
            digest: counted.digest,
            split: record.split,
            seq: record.seq as i64,
            watermark: watermark(time),
            attempt,
        });
        Ok(())
    }
}

/// An output for each record.
pub fn count(records: &DataStream<Record>, state_bytes: usize) -> DataStream<Output> {
    records
        .key_by(|record| record.key)
        .process(Count {
            counted: ValueState::new("counted"),
            state_bytes,
        })
        .uid("count")
}
