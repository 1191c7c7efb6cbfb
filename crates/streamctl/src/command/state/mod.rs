//! `streamctl state`: looking into the state of savepoints and checkpoints, and repairing it.

mod diff;
mod edit;
mod export;
mod list;
mod query;
mod rows;
mod show;
mod wanted;

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::offline::{Effect, Offline};
use crate::output::Output;

/// List, print, compare, export or repair the state in a snapshot
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl state list /data/savepoints/savepoint-fd7201-0123456789ab
  streamctl state query /data/savepoints/savepoint-fd7201-0123456789ab counts count --key ATL

Keys and values are JSON. 64-bit numbers are written out in full, bytes as \"0x0a1b\", enums as \"Variant\" or {\"Variant\": …}.")]
pub struct StateCommand {
    #[command(subcommand)]
    command: StateSubcommand,
}

#[derive(Debug, Subcommand)]
enum StateSubcommand {
    List(list::ListStatesCommand),
    Show(show::ShowStateCommand),
    Query(query::QueryStateCommand),
    Diff(diff::DiffStatesCommand),
    Export(export::ExportStateCommand),
    Edit(edit::EditStateCommand),
}

impl StateCommand {
    /// What is left where it is given up.
    pub fn effect(&self) -> Effect {
        match self.command {
            StateSubcommand::Export(_) | StateSubcommand::Edit(_) => Effect::Perhaps,
            StateSubcommand::List(_)
            | StateSubcommand::Show(_)
            | StateSubcommand::Query(_)
            | StateSubcommand::Diff(_) => Effect::None,
        }
    }

    /// Runs the command after the verb.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        match self.command {
            StateSubcommand::List(command) => command.execute(offline, output),
            StateSubcommand::Show(command) => command.execute(offline, output),
            StateSubcommand::Query(command) => command.execute(offline, output),
            StateSubcommand::Diff(command) => command.execute(offline, output),
            StateSubcommand::Export(command) => command.execute(offline, output),
            StateSubcommand::Edit(command) => command.execute(offline, output),
        }
    }
}
