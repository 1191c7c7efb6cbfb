//! Values that their operator looks for by time: what of a state is due when, known without reading it.

use std::fmt;

use streamd_core::state::State;

/// A value with moments at which its operator has to find it.
///
/// A snapshot on the heap says of each segment when the earliest moments of its rows are. So a restore need not read all rows to know
/// which is due first: it [brings](crate::KeyedStateBackend::restore_due) those that are, in time.
pub trait Timed: State {
    /// How many kinds of moments there are: what goes by another clock, or by another rule, is of another kind. A snapshot has the
    /// moments as they are, and so the rules may change.
    const KINDS: usize;

    /// Calls `visit` with the kind and the time of each moment.
    fn moments(&self, visit: &mut dyn FnMut(usize, i64));
}

/// Timers.
impl Timed for Vec<i64> {
    const KINDS: usize = 1;

    fn moments(&self, visit: &mut dyn FnMut(usize, i64)) {
        self.iter().for_each(|time| visit(0, *time));
    }
}

/// A moment of a row that has come out of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment<K> {
    /// Of which kind: below [`Timed::KINDS`].
    pub kind: usize,
    /// When it is.
    pub time: i64,
    /// The hash of the key.
    pub hash: u64,
    /// Whose row it is.
    pub key: K,
}

/// How the moments of values of a type are found.
pub(crate) struct Moments<V> {
    kinds: usize,
    visit: fn(&V, &mut dyn FnMut(usize, i64)),
}

// By hand: a derive would ask `V: Copy`.
impl<V> Clone for Moments<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Moments<V> {}

impl<V> fmt::Debug for Moments<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Moments({})", self.kinds)
    }
}

impl<V> Moments<V> {
    /// Those of the type.
    pub(crate) fn of_type() -> Self
    where
        V: Timed,
    {
        Self {
            kinds: V::KINDS,
            visit: V::moments,
        }
    }

    /// Calls `visit` with the kind and the time of each moment of a value.
    pub(crate) fn of(self, value: &V, visit: &mut dyn FnMut(usize, i64)) {
        (self.visit)(value, visit);
    }

    /// By kind, the earliest of these values; `i64::MAX` where there is none.
    pub(crate) fn earliest<'a>(self, values: impl Iterator<Item = &'a V>) -> Vec<i64>
    where
        V: 'a,
    {
        let mut earliest = vec![i64::MAX; self.kinds];
        values.for_each(|value| {
            self.of(value, &mut |kind, time| earliest[kind] = earliest[kind].min(time));
        });
        earliest
    }
}
