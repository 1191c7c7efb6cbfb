//! `streamctl state query`: the value of one key.

use clap::Args;
use streamd_snapshot::inspect::{InspectError, StateContents};

use super::rows::{RowPrinter, Stash};
use super::wanted::WantedState;
use crate::failure::Failure;
use crate::offline::Offline;
use crate::output::Output;

/// Print the value of one key; only its key group is read
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl state query /data/savepoints/savepoint-fd7201-0123456789ab counts count --key '\"ATL\"'

Ends with exit code 3 where there is no such key.")]
pub struct QueryStateCommand {
    #[command(flatten)]
    wanted: WantedState,
    /// The key, as JSON; a text may do without quotes
    #[arg(short, long, value_name = "KEY", allow_hyphen_values = true)]
    key: String,
}

impl QueryStateCommand {
    /// Finds the key and prints its rows.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let stored = self.wanted.read(offline)?;
        let state = match self.wanted.find(&stored)? {
            StateContents::Keyed(state) => state,
            StateContents::List { operator, list } => {
                let (operator, state) = (operator.label(), list.name.clone());
                return Err(InspectError::NotKeyed { operator, state }.into());
            }
        };
        let key = state.parse_key(&self.key)?;
        let printer = RowPrinter::new(&state);
        let (mut found, mut stash) = (0u64, Stash::default());
        let read = state.visit_key(&key, offline.handle(), |row| {
            found += 1;
            // A failure of printing is kept; the few rows of one key may as well be read to their end.
            stash.keep(printer.print(row, output));
            Ok(())
        });
        stash.outcome(read)?;
        match found {
            0 => Err(state.no_such_key(&key).into()),
            _rows => Ok(()),
        }
    }
}
