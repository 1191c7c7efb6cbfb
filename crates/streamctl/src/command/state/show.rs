//! `streamctl state show`: the first rows of a state.

use std::ops::ControlFlow;

use clap::Args;
use streamd_core::snapshot::ListState;
use streamd_snapshot::SnapshotError;
use streamd_snapshot::inspect::{KeyedContents, StateContents};
use streamd_snapshot::json::Renderer;

use super::rows::{RowPrinter, Stash};
use super::wanted::WantedState;
use crate::arguments::OutputFormat;
use crate::failure::Failure;
use crate::offline::Offline;
use crate::output::Output;

/// Print the first rows of a state
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl state show /data/savepoints/savepoint-fd7201-0123456789ab counts count --limit 5

Rows come by rising key group, which is no order that means anything.")]
pub struct ShowStateCommand {
    #[command(flatten)]
    wanted: WantedState,
    /// How many rows are printed
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 20)]
    limit: u64,
}

impl ShowStateCommand {
    /// Reads until enough rows are printed.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let stored = self.wanted.read(offline)?;
        let rows = match self.wanted.find(&stored)? {
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
