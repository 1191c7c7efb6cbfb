//! `streamctl checkpoint`: which checkpoints there are, what is in them, whether they are whole, getting rid of them, and whose their
//! folder is.

mod dispose;
mod list;
mod release;
mod show;
mod verify;

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::offline::{Effect, Offline};
use crate::output::Output;

pub use dispose::DisposeCommand;
pub use list::ListCheckpointsCommand;
pub use release::ReleaseCommand;
pub use show::{ShowCommand, summary};
pub use verify::VerifyCommand;

/// What `savepoint` has in common with `checkpoint`.
#[derive(Debug, Subcommand)]
pub enum SnapshotQuery {
    #[command(visible_alias = "inspect")]
    Show(ShowCommand),
    Verify(VerifyCommand),
}

impl SnapshotQuery {
    /// Runs the command.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Show(command) => command.execute(offline, output),
            Self::Verify(command) => command.execute(offline, output),
        }
    }
}

/// List, inspect, verify or dispose of checkpoints; release their folder
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl checkpoint list
  streamctl checkpoint verify /data/checkpoints/fd72014d4c864993a2e5a9287b4a9c5d/chk-17")]
pub struct CheckpointCommand {
    #[command(subcommand)]
    command: CheckpointSubcommand,
}

#[derive(Debug, Subcommand)]
enum CheckpointSubcommand {
    List(ListCheckpointsCommand),
    #[command(visible_alias = "inspect")]
    Show(ShowCommand),
    Verify(VerifyCommand),
    Dispose(DisposeCommand),
    Release(ReleaseCommand),
}

impl CheckpointCommand {
    /// What is left where it is given up.
    pub fn effect(&self) -> Effect {
        match self.command {
            CheckpointSubcommand::Dispose(_) | CheckpointSubcommand::Release(_) => Effect::Perhaps,
            CheckpointSubcommand::List(_) | CheckpointSubcommand::Show(_) | CheckpointSubcommand::Verify(_) => {
                Effect::None
            }
        }
    }

    /// Runs the command after the verb.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        match self.command {
            CheckpointSubcommand::List(command) => command.execute(offline, output),
            CheckpointSubcommand::Show(command) => command.execute(offline, output),
            CheckpointSubcommand::Verify(command) => command.execute(offline, output),
            CheckpointSubcommand::Dispose(command) => command.execute(offline, output),
            CheckpointSubcommand::Release(command) => command.execute(offline, output),
        }
    }
}
