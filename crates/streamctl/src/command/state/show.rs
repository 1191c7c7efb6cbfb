//! `streamctl state show`: the first rows of a state.

use std::ops::ControlFlow;

use clap::Args;
use streamd_core::snapshot::ListState;
use streamd_snapshot::inspect::{KeyedContents, StateContents, find_operator, find_state};
use streamd_snapshot::json::Renderer;
use streamd_snapshot::{SnapshotError, read_snapshot};

use super::rows::{RowPrinter, Stash};
use crate::arguments::OutputFormat;
use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::Offline;
use crate::output::Output;

/// Print the first rows of a state
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl state show /data/savepoints/savepoint-fd7201-0123456789ab counts count --limit 5

Rows come by rising key group, which is no order that means anything.")]
pub struct ShowStateCommand {
    /// The snapshot: its folder or its `_metadata` file
    #[arg(value_name = "PATH")]
    path: String,
    /// The operator: its uid, its id of 32 digits, or its name
    #[arg(value_name = "UID")]
    operator: String,
    /// The state [default: the only one of the operator]
    #[arg(value_name = "STATE")]
    state: Option<String>,
    /// How many rows are printed
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 20)]
    limit: u64,
}

impl ShowStateCommand {
    /// Reads until enough rows are printed.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let stored = offline.wait(read_snapshot(&absolute(&self.path)?))?;
        let operator = find_operator(&stored, &self.operator)?;
        let rows = match find_state(&stored, operator, self.state.as_deref())? {
            StateContents::Keyed(state) => {
                self.print_rows(&state, offline, output)?;
                state.rows()
            }
            StateContents::List { list, .. } => {
                self.print_elements(list, output)?;
                list.items.len() as u64
            }
        };
        if rows > self.limit {
            output.note(&format!("{} of {rows} rows; give --limit for more", self.limit));
        }
        Ok(())
    }

    fn print_rows(&self, state: &KeyedContents<'_>, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let printer = RowPrinter::new(state);
        let (mut left, mut stash) = (self.limit, Stash::default());
        if left == 0 {
            return Ok(());
        }
        let read = state.visit(offline.handle(), |row| {
            left -= 1;
            match stash.keep(printer.print(row, output)) && left > 0 {
                true => Ok(ControlFlow::Continue(())),
                false => Ok(ControlFlow::Break(())),
            }
        });
        stash.outcome(read)
    }

    fn print_elements(&self, list: &ListState, output: &mut Output) -> Result<(), Failure> {
        let renderer = Renderer::new(&list.data_type);
        for (position, item) in (0..self.limit).zip(&list.items) {
            let element = renderer.render(item).map_err(|source| SnapshotError::Row {
                state: list.name.clone(),
                source,
            })?;
            match output.format() {
                OutputFormat::Text => output.line(&element)?,
                OutputFormat::Json => output.raw(&format!("{{\"position\":{position},\"value\":{element}}}\n"))?,
            }
        }
        Ok(())
    }
}
