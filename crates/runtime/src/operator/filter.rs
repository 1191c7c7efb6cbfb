use streamd_exchange::Batch;

use crate::chain::Operator;
use crate::error::TaskError;

/// Passes the records on for which the predicate holds.
pub struct Filter<F>(pub F);

impl<T, F> Operator<T, T> for Filter<F>
where
    T: Send + 'static,
    F: FnMut(&T) -> bool + Send + 'static,
{
    fn process(&mut self, input: &mut Batch<T>, output: &mut Batch<T>) -> Result<(), TaskError> {
        // In place, then hand the whole batch over: the records that stay are moved at most once.
        input.retain(&mut self.0);
        std::mem::swap(input, output);
        Ok(())
    }
}
