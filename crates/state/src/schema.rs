//! How rows of a stored state become rows of a registered one: compared once a state, applied once a row.

use streamd_core::evolution::Evolution;
use streamd_core::migration::{Migration, Mismatch, MismatchKind, check_key};
use streamd_core::row::RowError;
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::State;
use streamd_core::time::WallTime;

use crate::backend::StateDescriptor;
use crate::error::StateError;

/// What becomes of the rows of one handle. Keys never change; values may, as their types say.
#[derive(Debug, Clone)]
pub struct RowPlan {
    /// `None` if values stay as they are: nothing is looked at then.
    values: Option<Migration>,
}

impl RowPlan {
    /// Compares what a handle holds with what the application registers. Errors if nothing makes the one of the other. A time to
    /// live that is new counts from `now`.
    pub fn resolve(handle: &KeyedStateHandle, descriptor: &StateDescriptor, now: WallTime) -> Result<Self, StateError> {
        let refused = |mismatch| StateError::IncompatibleSchema {
            state: handle.state.clone(),
            mismatch: Box::new(mismatch),
        };
        check_key(&handle.key, &descriptor.key).map_err(refused)?;
        if let Some(namespace) = &handle.namespace {
            return Err(refused(Mismatch {
                path: "namespace".to_owned(),
                kind: MismatchKind::Type {
                    stored: namespace.clone(),
                    declared: <()>::data_type(),
                },
            }));
        }
        let evolution: &Evolution = &descriptor.evolution;
        let values = Migration::resolve_at(&handle.value, &descriptor.value, evolution, now).map_err(refused)?;
        Ok(Self {
            values: (!values.is_identity()).then_some(values),
        })
    }

    /// Whether rows stay as they are, so that bytes may be taken over without being read.
    pub fn is_identity(&self) -> bool {
        self.values.is_none()
    }

    /// The value as it must be now. `scratch` is overwritten, and holds it if it is another than the stored one.
    #[inline]
    pub fn value<'a>(&self, stored: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], RowError> {
        match &self.values {
            None => Ok(stored),
            Some(migration) => {
                scratch.clear();
                migration.apply(stored, scratch)?;
                Ok(scratch)
            }
        }
    }

    /// What changes, for people: `adds `flights``, and so on.
    pub fn changes(&self) -> Vec<String> {
        let changes = self.values.as_ref().map_or(&[][..], Migration::changes);
        changes.iter().map(ToString::to_string).collect()
    }
}
