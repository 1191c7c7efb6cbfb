use streamd_core::state::{Key, State};
use streamd_state::{Expiring, KeyedStateBackend, StateError};

use super::binding::{Binding, Place, tidy};
use super::context::KeyedContext;
use super::store::StateHandle;
use super::time_to_live::StateTtlConfig;
use crate::keyed_scope::KeyedScope;

/// One value per key.
#[derive(Debug, Clone)]
pub struct ValueState<V: State> {
    binding: Binding<V, Expiring<V>>,
}

impl<V: State> StateHandle for ValueState<V> {
    fn name(&self) -> &'static str {
        self.binding.name
    }

    fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError> {
        self.binding.bind(backend)
    }
}

impl<V: State> ValueState<V> {
    /// A handle to the state of this name, to be registered in `open`.
    pub const fn new(name: &'static str) -> Self {
        Self {
            binding: Binding::new(name),
        }
    }

    /// Lets values live only so long.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.binding.ttl = Some(ttl);
        self
    }

    /// Calls `visit` with every key that has a value.
    pub(crate) fn for_each<K: Key>(
        &self,
        scope: &mut KeyedScope<K>,
        mut visit: impl FnMut(&K, &V),
    ) -> Result<(), StateError> {
        match self.binding.place() {
            Place::Lasting(id) => scope.backend.for_each(id, &mut visit),
            Place::Expiring(id, ttl) => {
                let horizon = ttl.horizon(scope.backend.now());
                scope.backend.for_each(id, &mut |key, value| {
                    if !value.is_over(horizon) {
                        visit(key, &value.value);
                    }
                })
            }
        }
    }

    /// Calls `visit` with every key that has a value.
    pub(crate) fn for_each_key<K: Key>(
        &self,
        scope: &mut KeyedScope<K>,
        mut visit: impl FnMut(&K),
    ) -> Result<(), StateError> {
        self.for_each(scope, |key, _| visit(key))
    }

    /// The value of the key, if it has one.
    #[inline]
    pub fn get<'c, K: Key>(&self, context: &'c KeyedContext<'_, K>) -> Option<&'c V> {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => scope.backend.table(id).get(*hash, key),
            Place::Expiring(id, ttl) => {
                let now = scope.backend.now();
                let found = scope.backend.table(id).get(*hash, key)?;
                if ttl.renews_on_read() || found.is_over(ttl.deadline(now)) {
                    scope.afterwards(move |backend, hash, key| tidy((backend, id), (hash, key), ttl, now));
                }
                (!found.is_over(ttl.horizon(now))).then_some(&found.value)
            }
        }
    }

    /// The value of the key, to be changed in place, if it has one.
    #[inline]
    pub fn get_mut<'c, K: Key>(&self, context: &'c mut KeyedContext<'_, K>) -> Option<&'c mut V> {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => scope.backend.table_mut(id).get_mut(*hash, key),
            Place::Expiring(id, ttl) => {
                let now = scope.backend.now();
                let table = scope.backend.table_mut(id);
                if table.get(*hash, key)?.is_over(ttl.horizon(now)) {
                    table.remove(*hash, key);
                    return None;
                }
                let found = table.get_mut(*hash, key)?;
                found.last_update = now;
                Some(&mut found.value)
            }
        }
    }

    /// The value of the key, to be changed in place; the type's default where it has none.
    #[inline]
    pub fn get_or_default<'c, K: Key>(&self, context: &'c mut KeyedContext<'_, K>) -> &'c mut V
    where
        V: Default,
    {
        self.get_or_insert_with(context, V::default)
    }

    /// The value of the key, to be changed in place; what `initial` returns where it has none.
    #[inline]
    pub fn get_or_insert_with<'c, K: Key>(
        &self,
        context: &'c mut KeyedContext<'_, K>,
        initial: impl FnOnce() -> V,
    ) -> &'c mut V {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => scope.backend.table_mut(id).get_or_insert_with(*hash, key, initial),
            Place::Expiring(id, ttl) => {
                let now = scope.backend.now();
                let mut initial = Some(initial);
                let mut make = || initial.take().map(|initial| initial());
                let known = scope
                    .backend
                    .table_mut(id)
                    .get_or_insert_with(*hash, key, || Expiring::new(now, make().expect("it is made once")));
                if known.is_over(ttl.horizon(now))
                    && let Some(fresh) = make()
                {
                    known.value = fresh;
                }
                known.last_update = now;
                &mut known.value
            }
        }
    }

    /// Sets the value of the key.
    pub fn update<K: Key>(&self, context: &mut KeyedContext<'_, K>, value: V) {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => {
                scope.backend.table_mut(id).insert(*hash, key, value);
            }
            Place::Expiring(id, _) => {
                let value = Expiring::new(scope.backend.now(), value);
                scope.backend.table_mut(id).insert(*hash, key, value);
            }
        }
    }

    /// Removes the value of the key, and returns it.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) -> Option<V> {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.binding.place() {
            Place::Lasting(id) => scope.backend.table_mut(id).remove(*hash, key),
            Place::Expiring(id, ttl) => {
                let horizon = ttl.horizon(scope.backend.now());
                let removed = scope.backend.table_mut(id).remove(*hash, key)?;
                (!removed.is_over(horizon)).then_some(removed.value)
            }
        }
    }
}
