use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::state::{Key, State};
use streamd_exchange::Batch;
use streamd_state::{KeyedStateBackend, Restoring, StateId};

use super::state_batch::KeyBatch;
use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;
use crate::snapshot::{descriptors, open_backend, restore_keyed, state_failed};

/// The name of the state that a reduction keeps, as in Flink.
const STATE_NAME: &str = "_op_state";

/// A running reduction per key: each record is folded into the key's value, and the new value is emitted.
pub struct Reduce<K: Key, T: State, F, S> {
    label: String,
    function: F,
    key_of: S,
    backend: KeyedStateBackend<K>,
    state: StateId<T>,
    keys: KeyBatch<K>,
}

impl<K: Key, T: State, F, S> Reduce<K, T, F, S> {
    /// The reduction by `function`, over records whose key `key_of` takes.
    pub fn new(function: F, key_of: S) -> Self {
        let (backend, state) = Self::registered(KeyedStateBackend::new(KeyGroupRange::all(1), 1));
        Self {
            label: String::new(),
            function,
            key_of,
            backend,
            state,
            keys: KeyBatch::new(),
        }
    }

    /// The state that a reduction keeps.
    pub fn states() -> Vec<StateDescriptor> {
        descriptors(&Self::registered(KeyedStateBackend::new(KeyGroupRange::all(1), 1)).0)
    }

    fn registered(mut backend: KeyedStateBackend<K>) -> (KeyedStateBackend<K>, StateId<T>) {
        let state = backend
            .register::<T>(STATE_NAME)
            .expect("the backend is new and holds no state of that name");
        (backend, state)
    }
}

impl<K, T, F, S> Operator<T, T> for Reduce<K, T, F, S>
where
    K: Key,
    T: State,
    F: FnMut(&mut T, T) + Send + 'static,
    S: FnMut(&T) -> K + Send + 'static,
{
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.label = identity.label.to_string();
        (self.backend, self.state) = Self::registered(open_backend(identity, context)?);
        let restored = context.take_state(identity.id);
        restore_keyed(&mut self.backend, &restored.keyed, identity, context)
    }

    fn restore_more(&mut self) -> Result<Restoring, TaskError> {
        self.backend
            .restore_more()
            .map_err(|error| state_failed(&self.label, &error))
    }

    fn process(&mut self, input: &mut Batch<T>, output: &mut Batch<T>) -> Result<(), TaskError> {
        self.keys.fill(input, &mut self.key_of);
        output.reserve(input.len());
        let mut records = input.drain(input.len());
        for keys in self.keys.groups() {
            self.backend
                .touch(keys)
                .map_err(|error| state_failed(&self.label, &error))?;
            let table = self.backend.table_mut(self.state);
            for ((hash, key), (record, timestamp)) in keys.iter().zip(records.by_ref()) {
                let mut record = Some(record);
                let value = table.get_or_insert_with(*hash, key, || record.take().expect("the record is taken once"));
                if let Some(record) = record {
                    (self.function)(value, record);
                }
                output.push(value.clone(), timestamp);
            }
        }
        Ok(())
    }

    fn snapshot(
        &mut self,
        identity: &OperatorIdentity,
        barrier: &Barrier,
    ) -> Result<Option<OperatorSnapshot>, TaskError> {
        Ok(Some(OperatorSnapshot::keyed(identity, &mut self.backend, barrier)))
    }
}
