use streamd_core::state::{Key, State};
use streamd_state::{Expire, ExpiringList, KeyedStateBackend, Left, StateError};

use super::binding::{Binding, Place, tidy};
use super::context::KeyedContext;
use super::store::StateHandle;
use super::time_to_live::StateTtlConfig;

/// A list of values per key.
#[derive(Debug, Clone)]
pub struct ListState<V: State> {
    binding: Binding<Vec<V>, ExpiringList<V>>,
}

impl<V: State> StateHandle for ListState<V> {
    fn name(&self) -> &'static str {
        self.binding.name
    }

    fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError> {
        self.binding.bind(backend)
    }
}

impl<V: State> ListState<V> {
    /// A handle to the state of this name, to be registered in `open`.
    pub const fn new(name: &'static str) -> Self {
        Self {
            binding: Binding::new(name),
        }
    }

    /// Lets each element live only so long.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.binding.ttl = Some(ttl);
        self
    }

    /// The elements of the key, in the order in which they were added.
    pub fn get<'c, K: Key>(&self, context: &'c KeyedContext<'_, K>) -> &'c [V] {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => scope.backend.table(id).get(*hash, key).map_or(&[], Vec::as_slice),
            Place::Expiring(id, ttl) => {
                let Some(found) = scope.backend.table(id).get(*hash, key) else {
                    return &[];
                };
                let now = scope.backend.now();
                if ttl.renews_on_read() || found.left(ttl.deadline(now)) != Left::All {
                    scope.afterwards(move |backend, hash, key| tidy((backend, id), (hash, key), ttl, now));
                }
                found.live(ttl.horizon(now))
            }
        }
    }

    /// Adds an element.
    pub fn add<K: Key>(&self, context: &mut KeyedContext<'_, K>, value: V) {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => {
                let table = scope.backend.table_mut(id);
                table.get_or_insert_with(*hash, key, Vec::new).push(value);
            }
            Place::Expiring(id, ttl) => {
                let now = scope.backend.now();
                let table = scope.backend.table_mut(id);
                let list = table.get_or_insert_with(*hash, key, ExpiringList::default);
                list.retain(ttl.horizon(now));
                list.push(now, value);
            }
        }
    }

    /// Replaces all elements.
    pub fn update<K: Key>(&self, context: &mut KeyedContext<'_, K>, values: Vec<V>) {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => {
                scope.backend.table_mut(id).insert(*hash, key, values);
            }
            Place::Expiring(id, _) => {
                let list = ExpiringList::new(scope.backend.now(), values);
                scope.backend.table_mut(id).insert(*hash, key, list);
            }
        }
    }

    /// Removes all elements.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) {
        self.binding.clear(context);
    }
}
