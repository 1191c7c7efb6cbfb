//! `streamctl man`: the manual pages, for packagers.

use std::path::PathBuf;

use clap::{Args, Command};
use streamd_core::error::{CodedError, ErrorCode};

use crate::failure::Failure;

/// Write the manual pages into a directory
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct ManCommand {
    /// An existing directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl ManCommand {
    /// Writes them.
    pub fn execute(self, program: Command) -> Result<(), Failure> {
        clap_mangen::generate_to(program, &self.directory).map_err(|error| {
            let what = format!("the manual pages cannot be written to `{}`", self.directory.display());
            let error = CodedError::caused(ErrorCode::DirectoryNotWritable, what, &error);
            Failure::from(error.with_hint("name a directory that exists and that you may write to"))
        })
    }
}
