//! From the rows of an older version of a type to those of its present one.
//!
//! ```text
//!   stored schema ─┐                                     ┌─▶ changes, for people
//!   present schema ┼─▶ Migration::resolve, once a state ─┼─▶ mismatch: a refusal that names place, types and remedy
//!   evolution ─────┘                                     └─▶ apply, once a row
//! ```
//!
//! Fields and variants are known by name. What changes by itself: fields that are added (with a default, or as an option),
//! removed, renamed (with an alias) or reordered; variants that are added, renamed or reordered; numbers that become wider
//! without loss; a value that becomes an option; a value that gets, or loses, a time to live. Everything else takes a function of
//! the application. Keys never change.

mod apply;
mod change;
mod expiring;
mod resolve;

pub use change::{Change, ChangeKind, Mismatch, MismatchKind};
pub use expiring::expiring_type;
pub use resolve::Migration;

use crate::evolution::Evolution;
use crate::row::{DataType, RowError};
use crate::snapshot::ListState;
use crate::state::{State, from_row};

/// Why the elements of a list cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemsError {
    /// They were written with a type that nothing makes the present one of.
    #[error("list `{list}` does not fit the application: {mismatch}")]
    Mismatch {
        /// The name of the list.
        list: String,
        /// What does not fit.
        mismatch: Mismatch,
    },
    /// An element is no value of the type that it was written with.
    #[error("an element of list `{list}` cannot be decoded")]
    Malformed {
        /// The name of the list.
        list: String,
        /// What is wrong with its bytes.
        #[source]
        source: RowError,
    },
}

/// The elements of operator state, whatever version of their type wrote them.
pub fn read_items<T: State>(list: &ListState) -> Result<Vec<T>, ItemsError> {
    let migration = Migration::resolve(&list.data_type, &T::data_type(), &Evolution::of::<T>());
    let migration = migration.map_err(|mismatch| ItemsError::Mismatch {
        list: list.name.clone(),
        mismatch,
    })?;
    let mut migrated = Vec::new();
    let mut read = |item: &Vec<u8>| {
        if migration.is_identity() {
            return from_row(item);
        }
        migrated.clear();
        migration.apply(item, &mut migrated)?;
        from_row(&migrated)
    };
    let items = list.items.iter().map(&mut read).collect::<Result<_, _>>();
    items.map_err(|source| ItemsError::Malformed {
        list: list.name.clone(),
        source,
    })
}

/// Whether a key may be read as a key of another type: only as the same. Where a key lives follows from its bytes, so a
/// change of them would have to move every row.
pub fn check_key(stored: &DataType, declared: &DataType) -> Result<(), Mismatch> {
    if stored.is_same_schema(declared) {
        return Ok(());
    }
    Err(Mismatch {
        path: String::new(),
        kind: MismatchKind::Key {
            stored: stored.clone(),
            declared: declared.clone(),
        },
    })
}

#[cfg(test)]
mod tests;
