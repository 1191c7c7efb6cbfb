use streamd_core::state::{Key, State};
use streamd_state::{KeyedStateBackend, StateError};

use super::Binding;
use super::context::KeyedContext;
use super::store::StateHandle;

/// A list of values per key.
#[derive(Debug)]
pub struct ListState<V: State> {
    binding: Binding<Vec<V>>,
}

impl<V: State> Clone for ListState<V> {
    fn clone(&self) -> Self {
        Self {
            binding: self.binding.clone(),
        }
    }
}

impl<V: State> StateHandle for ListState<V> {
    fn name(&self) -> &'static str {
        self.binding.name
    }

    fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError> {
        self.binding.id = Some(backend.register(self.binding.name)?);
        Ok(())
    }
}

impl<V: State> ListState<V> {
    /// A handle to the state of this name, to be registered in `open`.
    pub const fn new(name: &'static str) -> Self {
        Self {
            binding: Binding::new(name),
        }
    }

    /// The elements of the key, in the order in which they were added.
    pub fn get<'c, K: Key>(&self, context: &'c KeyedContext<'_, K>) -> &'c [V] {
        context
            .scope
            .backend
            .table(self.binding.id())
            .get(context.hash, context.key)
            .map_or(&[], Vec::as_slice)
    }

    /// Adds an element.
    pub fn add<K: Key>(&self, context: &mut KeyedContext<'_, K>, value: V) {
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .get_or_insert_with(context.hash, context.key, Vec::new)
            .push(value);
    }

    /// Replaces all elements.
    pub fn update<K: Key>(&self, context: &mut KeyedContext<'_, K>, values: Vec<V>) {
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .insert(context.hash, context.key, values);
    }

    /// Removes all elements.
    pub fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) {
        context
            .scope
            .backend
            .table_mut(self.binding.id())
            .remove(context.hash, context.key);
    }
}
