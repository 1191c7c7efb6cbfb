use streamd_core::state::{Key, State};
use streamd_state::{KeyedStateBackend, StateError};

use super::Binding;
use super::context::KeyedContext;
use super::store::StateHandle;
use crate::keyed_scope::KeyedScope;

/// One value per key.
#[derive(Debug)]
pub struct ValueState<V: State> {
    binding: Binding<V>,
}

impl<V: State> Clone for ValueState<V> {
    fn clone(&self) -> Self {
        Self {
            binding: self.binding.clone(),
        }
    }
}

impl<V: State> StateHandle for ValueState<V> {
    fn name(&self) -> &'static str {
        self.binding.name
    }

    fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError> {
        self.binding.id = Some(backend.register(self.binding.name)?);
        Ok(())
    }
}

impl<V: State> ValueState<V> {
    /// A handle to the state of this name, to be registered in `open`.
    pub const fn new(name: &'static str) -> Self {
        Self {
            binding: Binding::new(name),
        }
    }

    /// Calls `visit` with every key that has a value.
    pub(crate) fn for_each<K: Key>(
        &self,
        scope: &mut KeyedScope<K>,
        mut visit: impl FnMut(&K, &V),
    ) -> Result<(), StateError> {
        scope.backend.table_mut(self.binding.id()).for_each(&mut visit)
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
        context
            .scope
            .backend
            .table(self.binding.id())
            .get(context.hash, context.key)
    }

    /// The value of the key, to be changed in place, if it has one.
    #[inline]
    pub fn get_mut<'c, K: Key>(&self, context: &'c mut KeyedContext<'_, K>) -> Option<&'c mut V> {
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .get_mut(context.hash, context.key)
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
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .get_or_insert_with(context.hash, context.key, initial)
    }

    /// Sets the value of the key.
    pub fn update<K: Key>(&self, context: &mut KeyedContext<'_, K>, value: V) {
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .insert(context.hash, context.key, value);
    }

    /// Removes the value of the key, and returns it.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) -> Option<V> {
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .remove(context.hash, context.key)
    }
}
