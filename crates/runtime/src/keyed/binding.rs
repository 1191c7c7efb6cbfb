use streamd_core::state::{Key, State};
use streamd_core::time::WallTime;
use streamd_state::{Expire, KeyedStateBackend, Left, StateError, StateId};

use super::context::KeyedContext;
use super::time_to_live::StateTtlConfig;

/// Where a handle's state is, once it is registered: a table of `P`, or of `E` where values have a time to live.
#[derive(Debug)]
pub(super) struct Binding<P, E> {
    pub(super) name: &'static str,
    pub(super) ttl: Option<StateTtlConfig>,
    place: Option<Place<P, E>>,
}

/// A table of either kind.
#[derive(Debug)]
pub(super) enum Place<P, E> {
    /// Values live until they are removed.
    Lasting(StateId<P>),
    /// Values have a time to live.
    Expiring(StateId<E>, StateTtlConfig),
}

// By hand: a derive would ask the types to be `Clone`.
impl<P, E> Clone for Place<P, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, E> Copy for Place<P, E> {}

impl<P, E> Clone for Binding<P, E> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            ttl: self.ttl,
            place: self.place,
        }
    }
}

impl<P, E> Binding<P, E> {
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            ttl: None,
            place: None,
        }
    }

    /// Where the state is.
    #[inline]
    pub(super) fn place(&self) -> Place<P, E> {
        self.place.unwrap_or_else(|| {
            panic!(
                "state `{0}` is used but was not registered: call `state.register(&mut self.{0})` in `open`",
                self.name
            )
        })
    }
}

impl<P: State, E: Expire> Binding<P, E> {
    /// Registers the state.
    pub(super) fn bind<K: Key>(&mut self, backend: &mut KeyedStateBackend<K>) -> Result<(), StateError> {
        self.place = Some(match self.ttl {
            None => Place::Lasting(backend.register(self.name)?),
            Some(ttl) => Place::Expiring(backend.register_expiring(self.name, ttl.lifetime())?, ttl),
        });
        Ok(())
    }

    /// Removes what the key has.
    pub(super) fn clear<K: Key>(&self, context: &mut KeyedContext<'_, K>) {
        let KeyedContext { scope, key, hash, .. } = context;
        match self.place() {
            Place::Lasting(id) => drop(scope.backend.table_mut(id).remove(*hash, key)),
            Place::Expiring(id, _) => drop(scope.backend.table_mut(id).remove(*hash, key)),
        }
    }
}

/// What is to be done with the value of a key that was read, once the call is over. It may have been written meanwhile.
pub(super) fn tidy<K: Key, E: Expire>(
    (backend, id): (&mut KeyedStateBackend<K>, StateId<E>),
    (hash, key): (u64, &K),
    ttl: StateTtlConfig,
    now: WallTime,
) {
    let deadline = ttl.deadline(now);
    let table = backend.table_mut(id);
    // Looked at first: what is not changed is not to be written again.
    match table.get(hash, key).map(|value| value.left(deadline)) {
        None => {}
        Some(Left::All) if !ttl.renews_on_read() => {}
        Some(Left::Nothing) => {
            table.remove(hash, key);
        }
        Some(Left::All | Left::Some) => {
            if let Some(value) = table.get_mut(hash, key) {
                value.retain(deadline);
                if ttl.renews_on_read() {
                    value.refresh(now);
                }
            }
        }
    }
}
