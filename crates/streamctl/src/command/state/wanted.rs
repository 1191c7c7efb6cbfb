//! Which state of which snapshot a command is about.

use clap::Args;
use streamd_snapshot::inspect::{InspectError, StateContents, find_operator, find_state};
use streamd_snapshot::{StoredSnapshot, read_snapshot};

use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::Offline;

/// One state of a snapshot, as a person names it.
#[derive(Debug, Args)]
pub struct WantedState {
    /// The snapshot: its folder or its `_metadata` file
    #[arg(value_name = "PATH")]
    path: String,
    /// The operator: its uid, its id of 32 digits, or its name
    #[arg(value_name = "UID")]
    operator: String,
    /// The state [default: the only one of the operator]
    #[arg(value_name = "STATE")]
    state: Option<String>,
}

impl WantedState {
    /// Reads the snapshot.
    pub fn read(&self, offline: &Offline) -> Result<StoredSnapshot, Failure> {
        Ok(offline.wait(read_snapshot(&absolute(&self.path)?))?)
    }

    /// Finds the state in it.
    pub fn find<'a>(&self, stored: &'a StoredSnapshot) -> Result<StateContents<'a>, InspectError> {
        find_state(stored, find_operator(stored, &self.operator)?, self.state.as_deref())
    }
}
