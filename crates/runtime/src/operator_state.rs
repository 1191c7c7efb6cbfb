//! Operator state as user functions see it: lists that belong to no key, and broadcast state.
//!
//! Handles are registered once in `open`, and read through the context of a record, as those of [keyed state](crate::keyed).

use std::collections::BTreeMap;

use streamd_core::state::State;
use streamd_state::{OperatorStateBackend, OperatorStateId, Redistribution, StateError};

use crate::error::BoxError;
use crate::keyed::OrderedState;

/// Where a function registers its operator state. Flink's noun.
pub struct OperatorStateStore<'a> {
    states: &'a mut OperatorStateBackend,
    /// The names of other states of the same operator.
    taken: Vec<String>,
}

impl<'a> OperatorStateStore<'a> {
    /// The store of an operator that has no state of another kind.
    pub fn new(states: &'a mut OperatorStateBackend) -> Self {
        Self::beside(states, Vec::new())
    }

    /// The store of an operator that has other states, of these names.
    pub(crate) fn beside(states: &'a mut OperatorStateBackend, taken: Vec<String>) -> Self {
        Self { states, taken }
    }

    /// Registers a list. At a restore its elements, those of all subtasks together, are dealt out: each to one subtask, and
    /// about as many to each. Errors if the name is taken.
    pub fn get_list_state<V: State>(&mut self, state: &mut OperatorListState<V>) -> Result<(), BoxError> {
        state.id = Some(self.register(state.name, Redistribution::Split)?);
        Ok(())
    }

    /// Registers a list of which, at a restore, every subtask gets the elements of all. Errors if the name is taken.
    pub fn get_union_list_state<V: State>(&mut self, state: &mut OperatorListState<V>) -> Result<(), BoxError> {
        state.id = Some(self.register(state.name, Redistribution::Union)?);
        Ok(())
    }

    /// Registers broadcast state: a map that is the same in every subtask. Errors if the name is taken.
    pub fn get_broadcast_state<M: OrderedState, V: State>(
        &mut self,
        state: &mut BroadcastState<M, V>,
    ) -> Result<(), BoxError> {
        state.id = Some(self.register(state.name, Redistribution::Broadcast)?);
        Ok(())
    }

    fn register<C: streamd_state::OperatorContents>(
        &mut self,
        name: &str,
        redistribution: Redistribution,
    ) -> Result<OperatorStateId<C>, StateError> {
        if self.taken.iter().any(|taken| taken == name) {
            return Err(StateError::DuplicateState { state: name.to_owned() });
        }
        self.states.register(name, redistribution)
    }
}

/// The context of a call, through which operator state is reached.
pub trait OperatorStateContext {
    /// The states of the operator.
    #[doc(hidden)]
    fn states(&self) -> &OperatorStateBackend;

    /// The states of the operator, to change.
    #[doc(hidden)]
    fn states_mut(&mut self) -> &mut OperatorStateBackend;
}

/// The context of an element of a broadcast stream: the only place where broadcast state changes, since every subtask sees
/// these elements, in the same order.
#[diagnostic::on_unimplemented(
    message = "broadcast state is changed in `process_broadcast_element` only",
    label = "here it can be read, and not changed"
)]
pub trait BroadcastSide: OperatorStateContext {}

/// A list of elements that belong to the subtask, and to no key. Flink's `ListState` of operator state.
#[derive(Debug)]
pub struct OperatorListState<V> {
    name: &'static str,
    id: Option<OperatorStateId<Vec<V>>>,
}

/// A map that a broadcast stream fills, and that is the same in every subtask. Flink's noun; `new` is its `MapStateDescriptor`.
#[derive(Debug)]
pub struct BroadcastState<M, V> {
    name: &'static str,
    id: Option<OperatorStateId<BTreeMap<M, V>>>,
}

// By hand: a derive would ask the types to be `Clone`.
impl<V> Clone for OperatorListState<V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            id: self.id,
        }
    }
}

impl<M, V> Clone for BroadcastState<M, V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            id: self.id,
        }
    }
}

impl<V> OperatorListState<V> {
    /// A handle to the list of this name, to be registered in `open`.
    pub const fn new(name: &'static str) -> Self
    where
        V: State,
    {
        Self { name, id: None }
    }
}

impl<V: State> OperatorListState<V> {
    fn id(&self) -> OperatorStateId<Vec<V>> {
        self.id.unwrap_or_else(|| {
            panic!(
                "operator state `{0}` is used but was not registered: call `state.get_list_state(&mut self.{0})` in `open`",
                self.name
            )
        })
    }

    /// The elements of the subtask, in the order in which they were added.
    pub fn get<'c, C: OperatorStateContext>(&self, context: &'c C) -> &'c [V] {
        let elements: &Vec<V> = context.states().get(self.id());
        elements
    }

    /// The elements of the subtask, to be changed in place.
    pub fn get_mut<'c, C: OperatorStateContext>(&self, context: &'c mut C) -> &'c mut Vec<V> {
        context.states_mut().get_mut(self.id())
    }

    /// Adds an element.
    pub fn add<C: OperatorStateContext>(&self, context: &mut C, value: V) {
        self.get_mut(context).push(value);
    }

    /// Replaces all elements.
    pub fn update<C: OperatorStateContext>(&self, context: &mut C, values: Vec<V>) {
        *self.get_mut(context) = values;
    }

    /// Removes all elements, and returns them.
    pub fn clear<C: OperatorStateContext>(&self, context: &mut C) -> Vec<V> {
        std::mem::take(self.get_mut(context))
    }
}

impl<M, V> BroadcastState<M, V> {
    /// A handle to the map of this name, to be registered in `open`.
    pub const fn new(name: &'static str) -> Self
    where
        M: OrderedState,
        V: State,
    {
        Self { name, id: None }
    }
}

impl<M: OrderedState, V: State> BroadcastState<M, V> {
    fn id(&self) -> OperatorStateId<BTreeMap<M, V>> {
        self.id.unwrap_or_else(|| {
            panic!(
                "broadcast state `{0}` is used but was not registered: call `state.get_broadcast_state(&mut self.{0})` in `open`",
                self.name
            )
        })
    }

    /// The value of a key, if it has one.
    pub fn get<'c, C: OperatorStateContext>(&self, context: &'c C, key: &M) -> Option<&'c V> {
        self.entries(context).get(key)
    }

    /// Whether the key has a value.
    pub fn contains<C: OperatorStateContext>(&self, context: &C, key: &M) -> bool {
        self.entries(context).contains_key(key)
    }

    /// All entries, by key.
    pub fn entries<'c, C: OperatorStateContext>(&self, context: &'c C) -> &'c BTreeMap<M, V> {
        context.states().get(self.id())
    }

    /// Sets the value of a key, and returns the one it had.
    pub fn put<C: BroadcastSide>(&self, context: &mut C, key: M, value: V) -> Option<V> {
        self.entries_mut(context).insert(key, value)
    }

    /// Removes the value of a key, and returns it.
    pub fn remove<C: BroadcastSide>(&self, context: &mut C, key: &M) -> Option<V> {
        self.entries_mut(context).remove(key)
    }

    /// Removes all entries.
    pub fn clear<C: BroadcastSide>(&self, context: &mut C) {
        self.entries_mut(context).clear();
    }

    /// All entries, to be changed in place.
    pub fn entries_mut<'c, C: BroadcastSide>(&self, context: &'c mut C) -> &'c mut BTreeMap<M, V> {
        context.states_mut().get_mut(self.id())
    }
}
