use streamd_exchange::Batch;

use crate::chain::Operator;
use crate::error::TaskError;
use crate::record::{BATCH_RECORDS, Collector};

/// Any number of records out for each record in.
pub struct FlatMap<F>(pub F);

impl<In, Out, F> Operator<In, Out> for FlatMap<F>
where
    F: FnMut(In, &mut Collector<'_, Out>) + Send + 'static,
{
    fn process(&mut self, input: &mut Batch<In>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        input.take_until(|record, timestamp| {
            (self.0)(record, &mut Collector::new(output, timestamp));
            Ok(output.len() >= BATCH_RECORDS)
        })
    }
}
