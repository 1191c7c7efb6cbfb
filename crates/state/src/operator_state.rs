//! The operator state of one operator in one subtask: lists that belong to no key, by name.
//!
//! ```text
//!               snapshot of 2 subtasks        restored into 3
//!   split       [a b c] [d e]                 [a b] [c d] [e]
//!   union       [a b c] [d e]                 [a b c d e] each
//!   broadcast   [a b]   (the same)            [a b] each
//! ```
//!
//! It lives on the heap, whatever the backend of keyed state, is encoded at the barrier, and travels inside the metadata of
//! checkpoints: it is for thousands of elements, not for millions.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use streamd_core::evolution::Evolution;
use streamd_core::graph::{StateDescriptor, StateKind};
use streamd_core::migration::{ItemsError, read_items};
use streamd_core::row::{DataType, MAX_TYPE_DEPTH, RowError, RowReader};
use streamd_core::snapshot::ListState;
use streamd_core::state::{State, to_row};

use crate::error::StateError;

/// Names of states that begin so belong to streamd.
const RESERVED: char = '~';

/// How the elements of all subtasks are dealt out when a job is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redistribution {
    /// Each element goes to one subtask; all get about as many.
    Split,
    /// Every subtask gets the elements of all.
    Union,
    /// Every subtask has the same elements; subtask 0 writes them, and every subtask gets them.
    Broadcast,
}

/// What a state of an operator holds in memory: a list, or the map of broadcast state.
pub trait OperatorContents: Default + Send + 'static {
    /// What a snapshot sees: the elements one by one.
    type Element: State;

    /// Each element, encoded.
    fn rows(&self) -> Vec<Vec<u8>>;

    /// Takes restored elements in.
    fn restore(&mut self, elements: Vec<Self::Element>);
}

impl<T: State> OperatorContents for Vec<T> {
    type Element = T;

    fn rows(&self) -> Vec<Vec<u8>> {
        self.iter().map(to_row).collect()
    }

    fn restore(&mut self, elements: Vec<T>) {
        self.extend(elements);
    }
}

impl<K: State + Ord, V: State> OperatorContents for BTreeMap<K, V> {
    type Element = Entry<K, V>;

    fn rows(&self) -> Vec<Vec<u8>> {
        let row = |(key, value): (&K, &V)| {
            let mut row = Vec::new();
            key.encode(&mut row);
            value.encode(&mut row);
            row
        };
        self.iter().map(row).collect()
    }

    fn restore(&mut self, elements: Vec<Entry<K, V>>) {
        self.extend(elements.into_iter().map(|Entry { key, value }| (key, value)));
    }
}

/// An entry of broadcast state, as an element of its list: a struct of `key` and `value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
}

impl<K: State, V: State> State for Entry<K, V> {
    fn data_type() -> DataType {
        DataType::structure("Entry", [("key", K::data_type()), ("value", V::data_type())])
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.key.encode(row);
        self.value.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            key: K::decode(row)?,
            value: V::decode(row)?,
        })
    }

    fn describe_evolution(evolution: &mut Evolution) {
        K::describe_evolution(evolution);
        V::describe_evolution(evolution);
    }
}

/// Names a state of an [`OperatorStateBackend`], with the type of its contents. Valid only with the backend that gave it out.
pub struct OperatorStateId<C> {
    index: usize,
    contents: PhantomData<fn() -> C>,
}

// By hand: a derive would ask `C: Copy`.
impl<C> Clone for OperatorStateId<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for OperatorStateId<C> {}

impl<C> fmt::Debug for OperatorStateId<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorStateId({})", self.index)
    }
}

/// The operator states of one operator in one subtask.
#[derive(Default)]
pub struct OperatorStateBackend {
    states: Vec<Registered>,
}

struct Registered {
    name: String,
    redistribution: Redistribution,
    contents: Box<dyn AnyContents>,
}

/// Contents of some type.
trait AnyContents: Any + Send {
    fn data_type(&self) -> DataType;
    fn evolution(&self) -> Evolution;
    fn rows(&self) -> Vec<Vec<u8>>;
    fn restore(&mut self, list: &ListState) -> Result<(), ItemsError>;
}

impl<C: OperatorContents> AnyContents for C {
    fn data_type(&self) -> DataType {
        C::Element::data_type()
    }

    fn evolution(&self) -> Evolution {
        Evolution::of::<C::Element>()
    }

    fn rows(&self) -> Vec<Vec<u8>> {
        OperatorContents::rows(self)
    }

    fn restore(&mut self, list: &ListState) -> Result<(), ItemsError> {
        OperatorContents::restore(self, read_items(list)?);
        Ok(())
    }
}

impl OperatorStateBackend {
    /// A backend without states.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an empty state. Errors if the name is taken, empty or streamd's own, or a type nests too deep for a snapshot.
    pub fn register<C: OperatorContents>(
        &mut self,
        name: &str,
        redistribution: Redistribution,
    ) -> Result<OperatorStateId<C>, StateError> {
        check_name(name)?;
        if self.contains(name) {
            return Err(StateError::DuplicateState { state: name.to_owned() });
        }
        let depth = C::Element::data_type().depth();
        if depth > MAX_TYPE_DEPTH {
            return Err(StateError::TypeTooDeep {
                state: name.to_owned(),
                depth,
            });
        }
        self.states.push(Registered {
            name: name.to_owned(),
            redistribution,
            contents: Box::new(C::default()),
        });
        Ok(OperatorStateId {
            index: self.states.len() - 1,
            contents: PhantomData,
        })
    }

    /// Whether there is a state of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.states.iter().any(|state| state.name == name)
    }

    /// What a state holds.
    ///
    /// # Panics
    /// If the id is another backend's.
    pub fn get<C: OperatorContents>(&self, id: OperatorStateId<C>) -> &C {
        let contents: &dyn Any = &*self.states[id.index].contents;
        contents
            .downcast_ref()
            .expect("an id of operator state is used with the backend that gave it out")
    }

    /// What a state holds, to change.
    ///
    /// # Panics
    /// If the id is another backend's.
    pub fn get_mut<C: OperatorContents>(&mut self, id: OperatorStateId<C>) -> &mut C {
        let contents: &mut dyn Any = &mut *self.states[id.index].contents;
        contents
            .downcast_mut()
            .expect("an id of operator state is used with the backend that gave it out")
    }

    /// Takes over what was restored. Lists of other names are left alone: they are the operator's own.
    pub fn restore(&mut self, lists: &[ListState]) -> Result<(), ItemsError> {
        for state in &mut self.states {
            let mut of_name = lists.iter().filter(|list| list.name == state.name);
            of_name.try_for_each(|list| state.contents.restore(list))?;
        }
        Ok(())
    }

    /// What subtask `subtask` writes into a snapshot. A state without elements is left out.
    pub fn snapshot(&self, subtask: u32) -> Vec<ListState> {
        let is_written = |state: &&Registered| match state.redistribution {
            Redistribution::Split | Redistribution::Union => true,
            Redistribution::Broadcast => subtask == 0,
        };
        let list = |state: &Registered| ListState {
            name: state.name.clone(),
            data_type: state.contents.data_type(),
            items: state.contents.rows(),
        };
        let lists = self.states.iter().filter(is_written).map(list);
        lists.filter(|list| !list.items.is_empty()).collect()
    }

    /// The registered states, as the plan describes them.
    pub fn descriptors(&self) -> Vec<StateDescriptor> {
        let describe = |state: &Registered| StateDescriptor {
            name: state.name.clone(),
            kind: match state.redistribution {
                Redistribution::Split => StateKind::List,
                Redistribution::Union => StateKind::Union,
                Redistribution::Broadcast => StateKind::Broadcast,
            },
            value: state.contents.data_type(),
            evolution: state.contents.evolution(),
        };
        self.states.iter().map(describe).collect()
    }
}

/// Whether an application may call a state so.
pub fn check_name(name: &str) -> Result<(), StateError> {
    if name.is_empty() {
        return Err(StateError::EmptyName);
    }
    if name.starts_with(RESERVED) {
        return Err(StateError::ReservedName { state: name.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_survive_their_snapshot_and_broadcast_state_is_written_once() {
        let mut backend = OperatorStateBackend::new();
        let list = backend.register::<Vec<String>>("list", Redistribution::Split).unwrap();
        let rules = backend
            .register::<BTreeMap<u32, String>>("rules", Redistribution::Broadcast)
            .unwrap();
        let empty = backend.register::<Vec<u8>>("empty", Redistribution::Union).unwrap();
        backend.get_mut(list).extend(["a".to_owned(), "b".to_owned()]);
        backend.get_mut(rules).insert(7, "seven".to_owned());
        let (first, second) = (backend.snapshot(0), backend.snapshot(1));
        let names = |lists: &[ListState]| lists.iter().map(|list| list.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&first), names(&second)),
            (vec!["list".into(), "rules".into()], vec!["list".into()])
        );

        let mut restored = OperatorStateBackend::new();
        let list = restored.register::<Vec<String>>("list", Redistribution::Split).unwrap();
        let rules = restored
            .register::<BTreeMap<u64, String>>("rules", Redistribution::Broadcast)
            .unwrap();
        restored.restore(&first).unwrap();
        restored.restore(&second).unwrap();
        assert_eq!(restored.get(list), &["a", "b", "a", "b"]);
        assert_eq!(
            restored.get(rules),
            &BTreeMap::from([(7u64, "seven".to_owned())]),
            "its key was widened"
        );
        assert!(backend.get(empty).is_empty());
    }

    #[test]
    fn a_name_is_given_once_and_neither_empty_nor_one_of_streamd() {
        let mut backend = OperatorStateBackend::new();
        backend.register::<Vec<u8>>("list", Redistribution::Split).unwrap();
        let twice = backend.register::<Vec<u8>>("list", Redistribution::Union).unwrap_err();
        assert_eq!(
            twice,
            StateError::DuplicateState {
                state: "list".to_owned()
            }
        );
        let own = backend.register::<Vec<u8>>("~list", Redistribution::Split).unwrap_err();
        assert_eq!(
            own,
            StateError::ReservedName {
                state: "~list".to_owned()
            }
        );
        let empty = backend.register::<Vec<u8>>("", Redistribution::Split).unwrap_err();
        assert_eq!(empty, StateError::EmptyName);
        assert_eq!(empty.code(), streamd_core::error::ErrorCode::InvalidJobGraph);
    }
}
