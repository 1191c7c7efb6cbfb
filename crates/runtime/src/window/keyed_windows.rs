//! What every window operator has: the windows of its keys in state, and a place for what comes late.

use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::state::Key;
use streamd_core::time::EventTime;
use streamd_exchange::Batch;
use streamd_state::{KeyedStateBackend, StateId, Timed};

use super::Lateness;
use crate::chain::{OpenContext, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;
use crate::keyed_scope::KeyedScope;
use crate::late::LateCounter;
use crate::operator::KeyBatch;
use crate::record::Record;
use crate::snapshot::{descriptors, open_backend};
use crate::timer::TimeService;

/// The name of the state that holds the windows of a key.
const WINDOWS: &str = "~windows";

/// The windows of each key, a value of type `V`, for records of type `T` whose key `S` takes.
pub(super) struct KeyedWindows<K: Key, T, V, S> {
    pub(super) label: String,
    pub(super) lateness: Lateness<T>,
    pub(super) scope: KeyedScope<K>,
    pub(super) state: StateId<V>,
    key_of: S,
    keys: KeyBatch<K>,
    late: LateCounter,
}

impl<K: Key, T: Record, V: Timed, S> KeyedWindows<K, T, V, S> {
    pub(super) fn new(lateness: Lateness<T>, key_of: S) -> Self {
        let (backend, state) = registered_in(KeyedStateBackend::new(KeyGroupRange::all(1), 1));
        Self {
            label: String::new(),
            lateness,
            scope: KeyedScope::new(backend),
            state,
            key_of,
            keys: KeyBatch::new(),
            late: LateCounter::default(),
        }
    }

    /// The state that is kept, as the plan describes it.
    pub(super) fn states() -> Vec<StateDescriptor> {
        let (backend, _) = registered_in::<K, V>(KeyedStateBackend::new(KeyGroupRange::all(1), 1));
        let windows = descriptors(&backend).into_iter();
        windows.chain([TimeService::descriptor()]).collect()
    }

    /// Takes over what was restored.
    pub(super) fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.label = identity.label.to_string();
        self.late = context.late_dropped.clone();
        let (backend, state) = registered_in(open_backend(identity, context)?);
        self.state = state;
        let restored = context.take_state(identity.id);
        self.scope = KeyedScope::restored(identity, context, &restored, backend)?;
        Ok(())
    }

    /// The keys of a batch, to be given back by [`done`](Self::done).
    pub(super) fn keys_of(&mut self, batch: &Batch<T>) -> KeyBatch<K>
    where
        S: FnMut(&T) -> K,
    {
        let mut keys = std::mem::replace(&mut self.keys, KeyBatch::new());
        keys.fill(batch, &mut self.key_of);
        keys
    }

    /// Takes the memory of a batch's keys back.
    pub(super) fn done(&mut self, keys: KeyBatch<K>) {
        self.keys = keys;
    }

    /// Prepares the next accesses to these keys.
    pub(super) fn touch(&mut self, keys: &[(u64, K)]) -> Result<(), TaskError> {
        self.scope.touch(keys, &self.label)
    }

    /// A record has come too late.
    pub(super) fn on_late(&mut self, record: T, timestamp: EventTime) -> Result<(), TaskError> {
        match &self.lateness.output {
            Some(tag) => self.scope.sides.emit(tag, record, timestamp),
            None => {
                self.late.count();
                Ok(())
            }
        }
    }

    /// The windows, and how far the time has come.
    pub(super) fn snapshot(&mut self, identity: &OperatorIdentity, barrier: &Barrier) -> OperatorSnapshot {
        let mut snapshot = self.scope.snapshot(identity, barrier);
        snapshot.lists.push(self.scope.time().to_list());
        snapshot
    }
}

fn registered_in<K: Key, V: Timed>(mut backend: KeyedStateBackend<K>) -> (KeyedStateBackend<K>, StateId<V>) {
    let state = backend
        .register_timed(WINDOWS)
        .expect("the backend is new and holds no state of that name");
    (backend, state)
}
