use streamd_core::state::Key;
use streamd_state::{KeyedStateBackend, OperatorStateBackend, StateError, check_name};

use crate::error::BoxError;
use crate::operator_state::OperatorStateStore;
use crate::timer::Timers;

/// The union list that is not empty once the function was told of the end of the input. What it emitted then is in front of
/// the barrier, so that a job restored behind it must not emit it again.
pub(crate) const ENDED: &str = "end-of-input";

/// Where a function registers its state.
pub struct KeyedStateStore<'a, K: Key> {
    backend: &'a mut KeyedStateBackend<K>,
    states: &'a mut OperatorStateBackend,
    timers: Option<Timers<K>>,
}

impl<'a, K: Key> KeyedStateStore<'a, K> {
    /// The store of these backends: of keyed state, and of operator state.
    pub fn new(backend: &'a mut KeyedStateBackend<K>, states: &'a mut OperatorStateBackend) -> Self {
        Self {
            backend,
            states,
            timers: None,
        }
    }

    /// Says that the function registers timers: they are state, and need a place. Calling it again changes nothing.
    pub fn use_timers(&mut self) -> Result<(), BoxError> {
        if self.timers.is_none() {
            self.timers = Some(Timers::register(self.backend)?);
        }
        Ok(())
    }

    /// The timers, if the function uses any.
    pub(crate) fn into_timers(self) -> Option<Timers<K>> {
        self.timers
    }

    /// Registers a state under the name that its handle carries. Errors if the function has one of that name already, or if
    /// the name is empty or begins with `~`, as those of streamd's own states do.
    pub fn register(&mut self, state: &mut impl StateHandle) -> Result<(), BoxError> {
        let name = state.name();
        check_name(name)?;
        if self.states.contains(name) || name == ENDED {
            return Err(StateError::DuplicateState { state: name.to_owned() }.into());
        }
        Ok(state.bind(self.backend)?)
    }

    /// Where the function registers state that belongs to no key.
    pub fn operator_state(&mut self) -> OperatorStateStore<'_> {
        let keyed = self.backend.descriptors().into_iter().map(|state| state.name);
        let taken = keyed.chain([ENDED.to_owned()]).collect();
        OperatorStateStore::beside(self.states, taken)
    }
}

/// A handle that [`KeyedStateStore::register`] binds to its state.
pub trait StateHandle {
    /// The name of the state.
    fn name(&self) -> &'static str;

    /// Registers the state, and remembers where it is.
    #[doc(hidden)]
    fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError>;
}
