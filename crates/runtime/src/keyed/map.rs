use std::collections::BTreeMap;

use streamd_core::state::{Key, State};
use streamd_state::{Expire, Expiring, KeyedStateBackend, Left, StateError};

use super::binding::{Binding, Place, tidy};
use super::context::KeyedContext;
use super::store::StateHandle;
use super::time_to_live::StateTtlConfig;

/// A map per key.
#[derive(Debug, Clone)]
pub struct MapState<M: OrderedState, V: State> {
    binding: Binding<BTreeMap<M, V>, BTreeMap<M, Expiring<V>>>,
}

/// What the keys of a [`MapState`] are.
pub trait OrderedState: State + Ord {}

impl<T: State + Ord> OrderedState for T {}

impl<M: OrderedState, V: State> StateHandle for MapState<M, V> {
    fn name(&self) -> &'static str {
        self.binding.name
    }

    fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError> {
        self.binding.bind(backend)
    }
}

impl<M: OrderedState, V: State> MapState<M, V> {
    /// A handle to the state of this name, to be registered in `open`.
    pub const fn new(name: &'static str) -> Self {
        Self {
            binding: Binding::new(name),
        }
    }

    /// Lets each entry live only so long.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.binding.ttl = Some(ttl);
        self
    }

    /// The entry of the key's map.
    pub fn get<'c, K: Key>(&self, context: &'c KeyedContext<'_, K>, entry: &M) -> Option<&'c V> {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => scope.backend.table(id).get(*hash, key)?.get(entry),
            Place::Expiring(id, ttl) => {
                let found = scope.backend.table(id).get(*hash, key)?.get(entry)?;
                let now = scope.backend.now();
                let deadline = ttl.deadline(now);
                if ttl.renews_on_read() || found.is_over(deadline) {
                    let entry = entry.clone();
                    scope.afterwards(move |backend, hash, key| {
                        let table = backend.table_mut(id);
                        let Some(map) = table.get_mut(hash, key) else { return };
                        match map.get_mut(&entry) {
                            // It may have been written meanwhile.
                            Some(found) if found.is_over(deadline) => drop(map.remove(&entry)),
                            Some(found) if ttl.renews_on_read() => found.last_update = now,
                            Some(_) | None => {}
                        }
                        if map.is_empty() {
                            table.remove(hash, key);
                        }
                    });
                }
                (!found.is_over(ttl.horizon(now))).then_some(&found.value)
            }
        }
    }

    /// The entry of the key's map, to be changed in place; the type's default where there is none.
    pub fn get_or_default<'c, K: Key>(&self, context: &'c mut KeyedContext<'_, K>, entry: M) -> &'c mut V
    where
        V: Default,
    {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => {
                let table = scope.backend.table_mut(id);
                let map = table.get_or_insert_with(*hash, key, BTreeMap::new);
                map.entry(entry).or_default()
            }
            Place::Expiring(id, ttl) => {
                let now = scope.backend.now();
                let table = scope.backend.table_mut(id);
                let map = table.get_or_insert_with(*hash, key, BTreeMap::new);
                let known = map.entry(entry).or_insert_with(|| Expiring::new(now, V::default()));
                if known.is_over(ttl.horizon(now)) {
                    known.value = V::default();
                }
                known.last_update = now;
                &mut known.value
            }
        }
    }

    /// Sets an entry.
    pub fn put<K: Key>(&self, context: &mut KeyedContext<'_, K>, entry: M, value: V) {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => {
                let table = scope.backend.table_mut(id);
                table.get_or_insert_with(*hash, key, BTreeMap::new).insert(entry, value);
            }
            Place::Expiring(id, _) => {
                let value = Expiring::new(scope.backend.now(), value);
                let table = scope.backend.table_mut(id);
                table.get_or_insert_with(*hash, key, BTreeMap::new).insert(entry, value);
            }
        }
    }

    /// Removes an entry, and returns it. The last entry takes the map with it.
    pub fn remove<K: Key>(&self, context: &mut KeyedContext<'_, K>, entry: &M) -> Option<V> {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => {
                let table = scope.backend.table_mut(id);
                let map = table.get_mut(*hash, key)?;
                let value = map.remove(entry);
                if map.is_empty() {
                    table.remove(*hash, key);
                }
                value
            }
            Place::Expiring(id, ttl) => {
                let horizon = ttl.horizon(scope.backend.now());
                let table = scope.backend.table_mut(id);
                let map = table.get_mut(*hash, key)?;
                let removed = map.remove(entry);
                if map.is_empty() {
                    table.remove(*hash, key);
                }
                removed.filter(|value| !value.is_over(horizon)).map(|value| value.value)
            }
        }
    }

    /// The entries of the key's map, in order.
    pub fn entries<'c, K: Key>(
        &self,
        context: &'c KeyedContext<'_, K>,
    ) -> impl Iterator<Item = (&'c M, &'c V)> + use<'c, K, M, V> {
        let KeyedContext { scope, key, hash, .. } = context;
        let (lasting, expiring, horizon) = match self.binding.place() {
            Place::Lasting(id) => (scope.backend.table(id).get(*hash, key), None, None),
            Place::Expiring(id, ttl) => {
                let now = scope.backend.now();
                let map = scope.backend.table(id).get(*hash, key);
                let is_over = |map: &BTreeMap<M, Expiring<V>>| map.left(ttl.deadline(now)) != Left::All;
                if map.is_some_and(|map| ttl.renews_on_read() || is_over(map)) {
                    scope.afterwards(move |backend, hash, key| tidy((backend, id), (hash, key), ttl, now));
                }
                (None, map, Some(ttl.horizon(now)))
            }
        };
        let living = move |(entry, value): (&'c M, &'c Expiring<V>)| {
            let is_over = horizon.is_none_or(|horizon| value.is_over(horizon));
            (!is_over).then_some((entry, &value.value))
        };
        let lasting = lasting.into_iter().flatten();
        lasting.chain(expiring.into_iter().flatten().filter_map(living))
    }

    /// Removes the key's map.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) {
        self.binding.clear(context);
    }
}
