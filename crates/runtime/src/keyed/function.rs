use streamd_core::state::Key;

use super::context::{AllKeys, KeyedContext};
use super::store::KeyedStateStore;
use crate::error::BoxError;
use crate::record::Collector;
use crate::timer::Timer;

/// A function over a keyed stream, with state per key. Flink's noun.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `KeyedProcessFunction<{K}, {In}, {Out}>`, as this keyed stream needs",
    label = "this is no function over records of `{In}` with keys of `{K}`"
)]
pub trait KeyedProcessFunction<K: Key, In, Out>: Clone + Send + 'static {
    /// Registers the state that the function keeps. Called where the application is described, and in every subtask before
    /// the first record: no other effects belong here.
    fn open(&mut self, state: &mut KeyedStateStore<'_, K>) -> Result<(), BoxError>;

    /// Handles a record. `context` gives the record's key and its state. An error fails the job's attempt.
    fn process_element(
        &mut self,
        value: In,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError>;

    /// A timer of a key has come due: see [`TimerService`]. `context` gives that key and its state.
    fn on_timer(
        &mut self,
        _timer: Timer,
        _context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<'_, Out>,
    ) -> Result<(), BoxError> {
        Ok(())
    }

    /// The input has ended: emits what the function still owes, for whatever key.
    fn end_of_input(&mut self, _state: &mut AllKeys<'_, K>, _out: &mut Collector<'_, Out>) -> Result<(), BoxError> {
        Ok(())
    }
}
