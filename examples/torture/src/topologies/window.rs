//! Counts records in windows: one that is counted late or twice is in the wrong window, or in a window that comes again.

use streamd::prelude::*;

use crate::output::Output;
use crate::record::Record;

/// How many records, and the sum of their canaries: whatever order they came in.
#[derive(Debug, Clone, Default, State)]
struct Tally {
    records: u64,
    sum: u64,
}

#[derive(Clone)]
struct Tallies;

impl AggregateFunction<Record> for Tallies {
    type Accumulator = Tally;
    type Output = Tally;

    fn create_accumulator(&self) -> Tally {
        Tally::default()
    }

    fn add(&self, record: Record, tally: &mut Tally) {
        tally.records += 1;
        tally.sum = tally.sum.wrapping_add(record.canary);
    }

    fn get_result(&self, tally: &Tally) -> Tally {
        tally.clone()
    }

    fn merge(&self, tally: &mut Tally, other: Tally) {
        tally.records += other.records;
        tally.sum = tally.sum.wrapping_add(other.sum);
    }
}

/// An output for each key and second.
pub fn window(records: &DataStream<Record>) -> DataStream<Output> {
    records
        .key_by(|record| record.key)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
        .aggregate_with(
            Tallies,
            |context: &mut WindowContext<'_, u64>, tallies: &[Tally], out: &mut Collector<'_, Output>| {
                out.collect(Output {
                    key: *context.key(),
                    ordinal: tallies[0].records,
                    digest: tallies[0].sum,
                    split: 0,
                    seq: context.window().start,
                    watermark: None,
                    attempt: None,
                });
                Ok(())
            },
        )
        .uid("window")
}
