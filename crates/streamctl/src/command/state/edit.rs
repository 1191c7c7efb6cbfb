//! `streamctl state edit`: a new savepoint with some keys changed.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde::Serialize;
use streamd_snapshot::edit::{Changes, edit_snapshot};
use streamd_snapshot::inspect::{InspectError, KeyedContents, StateContents, find_operator, find_state};
use streamd_snapshot::read_snapshot;

use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::Offline;
use crate::output::Output;

/// Write a new savepoint with some keys of a state changed
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("changes").required(true).multiple(true).args(["set", "remove", "from"])))]
#[command(after_help = "\
Examples:
  streamctl state edit /data/savepoints/savepoint-fd7201-0123456789ab counts count --set ATL=7 --remove JFK --to /data/savepoints/repaired
  streamctl state edit /data/checkpoints/fd72014d4c864993a2e5a9287b4a9c5d/chk-17 counts count --from changes.jsonl --to /data/sp/repaired

The snapshot itself is never changed; everything else in it is carried over, and jobs start from the new savepoint as from any. A file of \
changes holds one JSON object a line: {\"key\": …, \"value\": …} or {\"key\": …, \"remove\": true}. Setting a key that is not there adds it, \
removing one that is not there is an error. It is all or nothing.")]
pub struct EditStateCommand {
    /// The snapshot: its folder or its `_metadata` file
    #[arg(value_name = "PATH")]
    path: String,
    /// The operator: its uid, its id of 32 digits, or its name
    #[arg(value_name = "UID")]
    operator: String,
    /// The state
    #[arg(value_name = "STATE")]
    state: String,
    /// A key and its new value, both as JSON; may be repeated
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// A key to remove, as JSON; may be repeated
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    remove: Vec<String>,
    /// A file of changes
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The folder of the new savepoint; it must not exist yet
    #[arg(long, value_name = "NEW_SAVEPOINT")]
    to: String,
}

#[derive(Serialize)]
struct Edited<'a> {
    savepoint_path: &'a str,
    bytes: u64,
    replaced: u64,
    added: u64,
    removed: u64,
}

impl EditStateCommand {
    /// Reads the changes and writes the savepoint.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let target = absolute(&self.to)?;
        let stored = offline.wait(read_snapshot(&absolute(&self.path)?))?;
        let operator = find_operator(&stored, &self.operator)?;
        let state = match find_state(&stored, operator, Some(&self.state))? {
            StateContents::Keyed(state) => state,
            StateContents::List { operator, list } => {
                let (operator, state) = (operator.label(), list.name.clone());
                return Err(InspectError::NotKeyed { operator, state }.into());
            }
        };
        let changes = self.changes(&state)?;
        let edited = edit_snapshot(&stored, &state, changes, &target, offline.handle())?;
        output.line(&format!("Savepoint written. Path: {}", edited.uri))?;
        output.line(&format!(
            "Of state `{}` of {}: {} replaced, {} added, {} removed.",
            self.state,
            operator.label(),
            edited.replaced,
            edited.added,
            edited.removed
        ))?;
        output.object(&Edited {
            savepoint_path: &edited.uri,
            bytes: edited.bytes,
            replaced: edited.replaced,
            added: edited.added,
            removed: edited.removed,
        })
    }

    fn changes(&self, state: &KeyedContents<'_>) -> Result<Changes, Failure> {
        let mut changes = Changes::default();
        if let Some(path) = &self.from {
            let file = File::open(path).map_err(|source| InspectError::File {
                operation: "read",
                path: path.clone(),
                source,
            })?;
            changes.read_lines(state, BufReader::new(file), path)?;
        }
        for assignment in &self.set {
            changes.set(state, assignment)?;
        }
        for key in &self.remove {
            changes.remove(state, key)?;
        }
        Ok(changes)
    }
}
