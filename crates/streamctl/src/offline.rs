//! What a command works with that reads snapshots itself: a runtime for the store, and the ways to tell what was found.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{Directories, StorageSettings};
use streamd_snapshot::fsck::SweepError;
use streamd_snapshot::inspect::InspectError;
use streamd_snapshot::store::configure;
use streamd_snapshot::{Location, SnapshotError, StoreError};
use tokio::runtime::{Handle, Runtime};

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Session, shown};

/// The surroundings of a command that needs no cluster. It runs on a thread that is none of the runtime's: reading state blocks.
pub struct Offline {
    session: Session,
    runtime: Runtime,
}

/// What a command leaves behind where it is given up midway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it only reads.
    None,
    /// Something half done, perhaps.
    Perhaps,
}

/// Runs a command that reads snapshots itself, for no longer than the user wants.
pub fn run(
    session: Session,
    output: &Output,
    effect: Effect,
    command: impl FnOnce(&Offline, &mut Output) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    configure(StorageSettings::of(session.configuration(), variables));
    #[cfg(feature = "rocksdb")]
    streamd_state::install_readers();
    // Two threads carry the traffic with the store, and a third waits for the rows.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CodedError::caused(ErrorCode::Internal, "the asynchronous runtime does not start", &error))?;
    let (timeout, mut output) = (session.timeout(), Output::new(output.format()));
    let offline = Offline { session, runtime };
    // A thread of its own, since `savepoint` is inside of a runtime already. Its one answer is waited for until the time is over: then
    // the process ends, and the command with it.
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new().name("command".to_owned()).spawn(move || {
        // Nobody waits any longer where the time is over.
        drop(answer.send(command(&offline, &mut output)));
    });
    spawned.map_err(|error| CodedError::caused(ErrorCode::Internal, "the command does not start", &error))?;
    let answer = match timeout {
        Some(timeout) => answered.recv_timeout(timeout),
        None => answered.recv().map_err(|_ended| RecvTimeoutError::Disconnected),
    };
    match (answer, timeout) {
        (Ok(outcome), _) => outcome,
        (Err(RecvTimeoutError::Timeout), Some(timeout)) => Err(given_up(timeout, effect)),
        (Err(_ended), _) => Err(CodedError::new(ErrorCode::Internal, "the command ended without an answer").into()),
    }
}

fn given_up(timeout: Duration, effect: Effect) -> Failure {
    let message = format!("the command is not done within {}", shown(timeout));
    let error = match effect {
        Effect::None => CodedError::new(ErrorCode::DeadlineExceeded, message)
            .with_hint("give more time with --timeout, or leave it out"),
        Effect::Perhaps => CodedError::new(ErrorCode::OutcomeUnknown, message)
            .with_hint("look at what it was to change before you repeat it, with more time or without --timeout"),
    };
    error.into()
}

impl Offline {
    /// The configuration, and the job manager for those that ask it after all.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// For reading state.
    pub fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Waits for something that does not block the store.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The folder that checkpoints go to, by the configuration.
    pub fn checkpoints(&self) -> Result<Location, Failure> {
        let directories = Directories::of(self.session.configuration(), |name| std::env::var(name).ok())?;
        Ok(Location::open(&directories.checkpoints)?)
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        Self::Error(error.to_coded())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Error(error.to_coded())
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        Self::Error(error.to_coded())
    }
}

impl From<SweepError> for Failure {
    fn from(error: SweepError) -> Self {
        Self::Error(error.to_coded())
    }
}

/// Asks before something is lost. Without a terminal there is nobody to ask: then only `--yes` will do.
pub fn confirm(question: &str, is_agreed: bool) -> Result<(), Failure> {
    if is_agreed {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "this deletes data and needs a confirmation",
            "give --yes",
        ));
    }
    let mut stderr = std::io::stderr().lock();
    // Where stderr is closed the question is not seen, and the answer is not `yes`.
    drop(write!(stderr, "{} [y/N] ", crate::text::printable(question)).and_then(|()| stderr.flush()));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _another_answer => Err(CodedError::new(
            ErrorCode::InvalidArgument,
            "nothing was deleted: it was not confirmed",
        )
        .with_hint("answer `y`, or give --yes")
        .into()),
    }
}

/// A number with the right word.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
