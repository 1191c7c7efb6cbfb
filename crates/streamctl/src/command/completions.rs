//! `streamctl completions`: what makes a shell complete streamctl's commands and options.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::output::Output;

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl completions bash > ~/.local/share/bash-completion/completions/streamctl")]
pub struct CompletionsCommand {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsCommand {
    /// Prints them.
    pub fn execute(self, mut program: Command, output: &mut Output) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "streamctl", &mut script);
        output.raw(&String::from_utf8_lossy(&script))
    }
}
