use std::collections::BTreeMap;

use streamd_core::state::{Key, State};
use streamd_state::{KeyedStateBackend, StateError};

use super::Binding;
use super::context::KeyedContext;
use super::store::StateHandle;

/// A map per key.
#[derive(Debug)]
pub struct MapState<M: OrderedState, V: State> {
    binding: Binding<BTreeMap<M, V>>,
}

/// What the keys of a [`MapState`] are.
pub trait OrderedState: State + Ord {}

impl<T: State + Ord> OrderedState for T {}

impl<M: OrderedState, V: State> Clone for MapState<M, V> {
    fn clone(&self) -> Self {
        Self {
            binding: self.binding.clone(),
        }
    }
}

impl<M: OrderedState, V: State> StateHandle for MapState<M, V> {
    fn name(&self) -> &'static str {
        self.binding.name
    }

    fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError> {
        self.binding.id = Some(backend.register(self.binding.name)?);
        Ok(())
    }
}

impl<M: OrderedState, V: State> MapState<M, V> {
    /// A handle to the state of this name, to be registered in `open`.
    pub const fn new(name: &'static str) -> Self {
        Self {
            binding: Binding::new(name),
        }
    }

    /// The entry of the key's map.
    pub fn get<'c, K: Key>(&self, context: &'c KeyedContext<'_, K>, entry: &M) -> Option<&'c V> {
        context
            .scope
            .backend
            .table(self.binding.id())
            .get(context.hash, context.key)?
            .get(entry)
    }

    /// The entry of the key's map, to be changed in place; the type's default where there is none.
    pub fn get_or_default<'c, K: Key>(&self, context: &'c mut KeyedContext<'_, K>, entry: M) -> &'c mut V
    where
        V: Default,
    {
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .get_or_insert_with(context.hash, context.key, BTreeMap::new)
            .entry(entry)
            .or_default()
    }

    /// Sets an entry.
    pub fn put<K: Key>(&self, context: &mut KeyedContext<'_, K>, entry: M, value: V) {
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .get_or_insert_with(context.hash, context.key, BTreeMap::new)
            .insert(entry, value);
    }

    /// Removes an entry, and returns it. The last entry takes the map with it.
    pub fn remove<K: Key>(&self, context: &mut KeyedContext<'_, K>, entry: &M) -> Option<V> {
        let map = context
            .scope
            .backend
            .table_mut(self.binding.id())
            .get_mut(context.hash, context.key)?;
        let value = map.remove(entry);
        if map.is_empty() {
            self.clear(context);
        }
        value
    }

    /// The entries of the key's map, in order.
    pub fn entries<'c, K: Key>(
        &self,
        context: &'c KeyedContext<'_, K>,
    ) -> impl Iterator<Item = (&'c M, &'c V)> + use<'c, K, M, V> {
        context
            .scope
            .backend
            .table(self.binding.id())
            .get(context.hash, context.key)
            .into_iter()
            .flatten()
    }

    /// Removes the key's map.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) {
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .remove(context.hash, context.key);
    }
}
