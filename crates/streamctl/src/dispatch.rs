//! From arguments to a command to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use streamd_core::error::{CodedError, ErrorCode};

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;
use crate::offline;
use crate::output::Output;
use crate::session::Session;
use crate::spelling::normalized;
use crate::usage;

/// Parses the arguments and runs the command.
pub fn run() -> ExitCode {
    let words = normalized(std::env::args_os());
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error, &words),
    };
    let mut output = Output::new(arguments.global.output);
    match execute(arguments, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(output.format()),
    }
}

/// Prints help and versions as the parser does; what is malformed is told as every error is.
fn refuse(error: &clap::Error, words: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Printing fails if the reader is gone; the exit code is all that is left to say.
            drop(error.print());
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        // The parser's own enum grows with its versions.
        _malformed => usage::failure(error).report(usage::format(words)),
    }
}

fn execute(arguments: Arguments, output: &mut Output) -> Result<(), Failure> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Completions(command) => command.execute(Arguments::command(), output),
        Command::Man(command) => command.execute(Arguments::command()),
        Command::Run(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::Info(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::List(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::Status(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::Savepoint(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::Cancel(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::Stop(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::Checkpoint(command) => {
            let effect = command.effect();
            offline::run(Session::open(global)?, output, effect, |offline, output| {
                command.execute(offline, output)
            })
        }
        Command::State(command) => {
            let effect = command.effect();
            offline::run(Session::open(global)?, output, effect, |offline, output| {
                command.execute(offline, output)
            })
        }
        Command::Fsck(command) => {
            let effect = command.effect();
            offline::run(Session::open(global)?, output, effect, |offline, output| {
                command.execute(offline, output)
            })
        }
        Command::Logs(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::Profile(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::Cluster(command) => with_session(global, async |session| command.execute(&session, output).await),
        Command::TaskManager(command) => with_session(global, async |session| command.execute(&session, output).await),
    }
}

/// Runs a command that talks to the cluster, on this thread: it has one connection to serve, and starts fastest.
fn with_session(
    global: crate::arguments::GlobalArguments,
    command: impl AsyncFnOnce(Session) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CodedError::caused(ErrorCode::Internal, "the asynchronous runtime does not start", &error))?;
    let session = Session::open(global)?;
    let outcome = runtime.block_on(command(session));
    // A file that is still being read in the background must not delay the exit.
    runtime.shutdown_background();
    outcome
}
