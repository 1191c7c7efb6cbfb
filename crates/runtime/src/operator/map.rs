use streamd_exchange::Batch;

use crate::chain::Operator;
use crate::error::TaskError;

/// One record out for each record in.
pub struct Map<F>(pub F);

impl<In, Out, F> Operator<In, Out> for Map<F>
where
    F: FnMut(In) -> Out + Send + 'static,
{
    fn process(&mut self, input: &mut Batch<In>, output: &mut Batch<Out>) -> Result<(), TaskError> {
        input.map_into(output, &mut self.0);
        Ok(())
    }
}
