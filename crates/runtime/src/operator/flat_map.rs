use streamd_core::time::EventTime;
use streamd_exchange::Batch;

use crate::chain::Operator;
use crate::error::TaskError;
use crate::record::{BATCH_RECORDS, Collector, Steps};

/// Any number of records out for each record in.
pub struct FlatMap<F>(pub F);

impl<In, Out, F> Operator<In, Out> for FlatMap<F>
where
    F: FnMut(In, &mut Collector<'_, Out>) + Send + 'static,
{
    fn process(&mut self, input: &mut Batch<In>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        let mut steps = Steps::new();
        while output.len() < BATCH_RECORDS && !input.is_empty() {
            let (some, before) = (steps.next(input.len()), output.len());
            if input.timestamps().is_empty() {
                let mut collector = Collector::new(output, EventTime::MIN);
                let records = input.untimed().drain(..some);
                records.for_each(|record| (self.0)(record, &mut collector));
            } else {
                for (record, timestamp) in input.drain(some) {
                    (self.0)(record, &mut Collector::new(output, timestamp));
                }
            }
            steps.taken(some, output.len() - before);
        }
        Ok(())
    }
}
