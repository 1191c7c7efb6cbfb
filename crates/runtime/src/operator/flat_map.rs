use crate::chain::Operator;
use crate::error::TaskError;
use crate::record::Collector;

/// Any number of records out for each record in.
pub struct FlatMap<F>(pub F);

impl<In, Out, F> Operator<In, Out> for FlatMap<F>
where
    F: FnMut(In, &mut Collector<'_, Out>) + Send + 'static,
{
    fn process(&mut self, input: &mut Vec<In>, output: &mut Vec<Out>) -> Result<(), TaskError> {
        let mut collector = Collector::new(output);
        input.drain(..).for_each(|record| (self.0)(record, &mut collector));
        Ok(())
    }
}
